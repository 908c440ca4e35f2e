//! One connection that asks JetStream's API and receives what its consumers deliver.
//!
//! All answers come through one subscription to an inbox of the connection's own; what each consumer delivers, through one of its own.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::api::Refused;
use crate::source::nats::{
    Connector, Fault, Link, NatsLogin, Violation,
    headers::Headers,
    link::{LinkEvent, Message, PublishError, SubscriptionHandle},
};

/// The token behind the inbox prefix in the subjects of all hubs' inboxes.
const INBOX_TOKEN: &str = "fanfare";

/// The most requests that are under way at once: each may be refused with an error of its own.
const REQUESTS_MAX: usize = 32;

/// A connection. Dropped, its consumers end after a while by themselves.
pub(super) struct JetLink {
    link: Link<()>,
    /// What the subjects begin with to which answers and deliveries come.
    inbox: String,
    next_request: u64,
    /// What came while something else was waited for, oldest first.
    aside: VecDeque<Message>,
    aside_bytes: usize,
    /// The most of them. With flow control a server sends less by itself. Without, the connection is given up, and the next one goes
    /// on behind what was taken.
    aside_bytes_max: usize,
    denied: Vec<(String, String)>,
    /// How long an answer may take.
    timeout: Duration,
    last_error: Option<String>,
}

/// What has come.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) messages: Vec<Message>,
    /// Subjects that the hub may not publish to, with the server's words.
    pub(super) denied: Vec<(String, String)>,
}

impl JetLink {
    pub(super) async fn open(connector: &Connector, login: &NatsLogin) -> Result<Self, Fault> {
        let mut link = connector.connect(login).await?;
        let config = connector.config();
        let inbox = format!("{}.{INBOX_TOKEN}.{:032x}", config.inbox_prefix, rand::random::<u128>());
        link.subscribe((), &format!("{inbox}.>"))?;
        Ok(Self {
            link,
            inbox,
            next_request: 0,
            aside: VecDeque::new(),
            aside_bytes: 0,
            aside_bytes_max: config.backlog_bytes_max,
            denied: Vec::new(),
            timeout: config.ping_timeout,
            last_error: None,
        })
    }

    /// A subject of the connection's own.
    pub(super) fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.inbox)
    }

    /// A subject where a consumer may deliver. NATS 2.9 begins to deliver only where somebody is subscribed to that very subject, so
    /// it is none of the inbox. Aborting the handle ends the subscription.
    pub(super) fn delivery_subject(&mut self) -> Result<(String, SubscriptionHandle), Fault> {
        let subject = format!("{}d.{:016x}", self.inbox, rand::random::<u64>());
        let handle = self.link.subscribe((), &subject)?;
        Ok((subject, handle))
    }

    /// Publishes. An answer, if there is one, comes to `reply`.
    pub(super) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Headers>,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        self.link.publish(subject, reply, headers, payload)
    }

    /// Publishes something to the server itself.
    pub(super) fn send(&mut self, subject: &str, reply: Option<&str>, payload: Bytes) -> Result<(), Fault> {
        let published = self.publish(subject, reply, None, payload);
        published.map_err(|error| Fault::Closed(Some(format!("a request cannot be published: {error:?}"))))
    }

    /// Asks one question.
    pub(super) async fn request(&mut self, subject: String, payload: Bytes) -> Result<Result<Bytes, Refused>, Fault> {
        let mut answers = self.request_all(vec![(subject, payload)]).await?;
        Ok(answers.pop().unwrap_or(Err(Refused::Unreadable)))
    }

    /// Asks many questions at once; the answers are in their order. Fails if the server leaves one without an answer.
    pub(super) async fn request_all(
        &mut self,
        requests: Vec<(String, Bytes)>,
    ) -> Result<Vec<Result<Bytes, Refused>>, Fault> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter();
        loop {
            let part: Vec<_> = requests.by_ref().take(REQUESTS_MAX).collect();
            if part.is_empty() {
                return Ok(answers);
            }
            answers.extend(self.request_some(part).await?);
        }
    }

    async fn request_some(&mut self, requests: Vec<(String, Bytes)>) -> Result<Vec<Result<Bytes, Refused>>, Fault> {
        let mut awaited = HashMap::new();
        let mut answers: Vec<Option<Result<Bytes, Refused>>> = vec![None; requests.len()];
        let mut subjects = Vec::with_capacity(requests.len());
        for (index, (subject, payload)) in requests.into_iter().enumerate() {
            let reply = self.subject(&format!("r.{}", self.next_request));
            self.next_request += 1;
            self.send(&subject, Some(&reply), payload)?;
            awaited.insert(reply, index);
            subjects.push(subject);
        }
        let deadline = Instant::now() + self.timeout;
        while answers.iter().any(Option::is_none) {
            let Received { messages, denied } = self.receive(&Notify::new(), deadline).await?;
            for message in messages {
                match awaited.remove(&*message.subject) {
                    Some(index) => answers[index] = Some(answer(message)),
                    None => self.put_aside(message),
                }
            }
            for (subject, text) in denied {
                let mut refused = subjects.iter().zip(&mut answers).filter(|(asked, _)| **asked == subject).peekable();
                if refused.peek().is_none() {
                    self.denied.push((subject.clone(), text.clone()));
                }
                refused.for_each(|(_, answer)| *answer = Some(Err(Refused::Denied(text.clone()))));
            }
            if deadline <= Instant::now() && answers.iter().any(Option::is_none) {
                return Err(Fault::Silent);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Takes what comes until `take` says that it was the last; what it does not take is put aside.
    pub(super) async fn collect(&mut self, mut take: impl FnMut(Message) -> Taken) -> Result<(), Fault> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let Received { messages, denied } = self.receive(&Notify::new(), deadline).await?;
            self.denied.extend(denied);
            let mut is_done = false;
            for message in messages {
                match take(message) {
                    Taken::More => {}
                    Taken::Last => is_done = true,
                    Taken::Not(message) => self.put_aside(*message),
                }
            }
            if is_done {
                return Ok(());
            }
            if deadline <= Instant::now() {
                return Err(Fault::Silent);
            }
        }
    }

    /// What came since the last time and answers no request, in order, and the subjects that the hub may not publish to, with the
    /// server's words. Waits until something comes, `wake` is notified, or `timeout` has passed.
    pub(super) async fn next(&mut self, wake: &Notify, timeout: Duration) -> Result<Received, Fault> {
        if self.aside.is_empty() && self.denied.is_empty() {
            let Received { messages, denied } = self.receive(wake, Instant::now() + timeout).await?;
            messages.into_iter().for_each(|message| self.put_aside(message));
            self.denied = denied;
        }
        Ok(Received { messages: self.take_aside(), denied: std::mem::take(&mut self.denied) })
    }

    /// What came while something else was waited for.
    pub(super) fn take_aside(&mut self) -> Vec<Message> {
        self.aside_bytes = 0;
        self.aside.drain(..).collect()
    }

    /// Keeps what a consumer delivered. An answer that nobody waits for any more is dropped.
    fn put_aside(&mut self, message: Message) {
        let is_late = message
            .subject
            .strip_prefix(self.inbox.as_str())
            .is_some_and(|rest| rest.starts_with(".r.") || rest.starts_with(".p."));
        if !is_late {
            self.aside_bytes += message.weight_bytes();
            self.aside.push_back(message);
        }
    }

    /// Fails before it takes anything that more waits than may; what waits may be a buffer full more than that.
    async fn receive(&mut self, wake: &Notify, deadline: Instant) -> Result<Received, Fault> {
        if self.aside_bytes_max < self.aside_bytes {
            let why = "more came while an answer was awaited than nats.backlog_bytes_max allows";
            return Err(Fault::Closed(Some(why.to_owned())));
        }
        let arrivals = self.link.next(wake, deadline.saturating_duration_since(Instant::now())).await;
        let mut received = Received::default();
        received.messages.extend(arrivals.messages.into_iter().flat_map(|((), messages)| messages));
        for event in arrivals.events {
            match event {
                LinkEvent::Closed(why) => return Err(Fault::Closed(self.last_error.take().or(why))),
                LinkEvent::Broken(why) => return Err(Fault::Broken(why)),
                LinkEvent::Error(text) => match Violation::parse(&text) {
                    Some(Violation::Publish(subject)) => received.denied.push((subject.to_owned(), text.clone())),
                    Some(Violation::Subscribe(_)) => return Err(Fault::ProbeDenied(text)),
                    None => self.last_error = Some(text),
                },
            }
        }
        Ok(received)
    }
}

/// What became of a message that was offered.
pub(super) enum Taken {
    More,
    /// It was taken, and is the last one.
    Last,
    Not(Box<Message>),
}

fn answer(message: Message) -> Result<Bytes, Refused> {
    match message.status {
        Some(503) => Err(Refused::NoResponders),
        _ => Ok(message.payload),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
    };

    use super::*;
    use crate::source::nats::{NatsConfig, NatsUrl};

    /// Asks a server that sends, in place of the answer, `message` again and again; the fault, and what waited then.
    fn ask_under(message: &'static str, backlog_bytes_max: usize) -> (Fault, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("the hub comes");
            socket.write_all(b"INFO {\"headers\":true}\r\n").expect("the hub reads");
            let mut lines = BufReader::new(socket.try_clone().expect("a descriptor")).lines().map_while(Result::ok);
            lines.find(|line| line == "PING").expect("the hub logs in");
            socket.write_all(b"PONG\r\n").expect("the hub reads");
            let asked = lines.find(|line| line.starts_with("PUB asked")).expect("the hub asks");
            let inbox = asked.split(".r.").next().and_then(|line| line.rsplit(' ').next()).expect("an inbox");
            let message = message.replace("INBOX", inbox);
            // Until the hub gives it up.
            while socket.write_all(message.as_bytes()).is_ok() {}
        });
        let url = NatsUrl::parse(&format!("nats://127.0.0.1:{port}")).expect("a URL");
        let login = NatsLogin { url, ..NatsLogin::default() };
        let config = NatsConfig { login, backlog_bytes_max, read_buffer_bytes: 4096, ..NatsConfig::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connector = Connector::new(&config).expect("no files");
        let outcome = runtime.block_on(async {
            let mut link = JetLink::open(&connector, &config.login).await.expect("the server lets it in");
            let fault = link.request("asked".to_owned(), Bytes::new()).await.expect_err("there is no answer");
            (fault, link.aside.len())
        });
        server.join().expect("the script runs through");
        outcome
    }

    /// Payload, headers and subjects count alike.
    #[test]
    fn what_waits_is_bounded() {
        let long = "HMSG INBOX.d 1 2012 2014\r\nNATS/1.0\r\n";
        let headers: &str = Box::leak(format!("{long}A: {}\r\n\r\nxx\r\n", "h".repeat(1995)).into_boxed_str());
        let payload: &str = Box::leak(format!("MSG INBOX.d 1 2000\r\n{}\r\n", "p".repeat(2000)).into_boxed_str());
        for message in [headers, payload] {
            for most in [10_000, 100_000] {
                let (fault, waited) = ask_under(message, most);
                let text = fault.to_string();
                assert!(text.contains("nats.backlog_bytes_max"), "{text}");
                // A buffer of 4096 bytes holds two of them, and the rest of a third one. What else a message has is as much as half.
                assert!((most / 3000..most / 2000 + 3).contains(&waited), "{waited} of {most} bytes");
            }
        }
    }
}
