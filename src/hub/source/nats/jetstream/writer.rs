//! The writer's thread: publications of this hub, many under way at once.
//!
//! Each goes out under a message id: the publication's idempotency key in its topic, or one of its own. So it is sent again under the
//! same id until the server has acknowledged it or `nats.publish_timeout` has passed, and the stream keeps one.

use std::{collections::BTreeMap, pin::pin, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    api::{Api, ApiError, PublishAck, Refused, StreamInfo, read},
    config::StreamSpec,
    link::{JetLink, Received},
    stream::identity,
};
use crate::{
    bus::{PublishFailed, Refusal},
    clock::{Clock, Moment},
    event::EventId,
    source::{
        Backoff, LogRateLimiter, SourceStatus,
        nats::{
            Connections, Connector, Fault, NatsConfig, NatsLogin, ThreadWaker,
            link::{Message, PublishError},
            message::{EventHeaders, GAP_PAYLOAD},
            publication_queue::{PublicationQueue, QueuedPublication},
            unless_before,
        },
    },
};

/// The most publications that await their acknowledgement.
const UNACKNOWLEDGED_MAX: usize = 4096;

/// How long to wait before a publication is sent again that nobody took.
const RETRY: Duration = Duration::from_millis(50);

/// Owns the thread.
#[derive(Debug)]
pub(super) struct WriterHandle {
    waker: Arc<ThreadWaker>,
    thread: JoinHandle<()>,
}

impl WriterHandle {
    /// Sends what is queued, if the server takes it, and waits for the thread to end.
    pub(super) fn stop(self) {
        self.waker.stop();
        if self.thread.join().is_err() {
            warn!("the JetStream writer had panicked");
        }
    }
}

/// Starts the thread.
pub(super) fn start_writer(
    nats: &NatsConfig,
    api: Api,
    specs: &[StreamSpec],
    connector: Connector,
    queue: PublicationQueue,
    clock: Clock,
    status: Arc<SourceStatus>,
    waker: Arc<ThreadWaker>,
) -> std::io::Result<WriterHandle> {
    let mut writer = Writer {
        api,
        streams: specs.iter().map(|spec| (spec.clone(), None)).collect(),
        login: connector.login(),
        connector,
        queue,
        sent: BTreeMap::new(),
        unsent: BTreeMap::new(),
        unnamed: Vec::new(),
        resend: None,
        next: 0,
        clock,
        status,
        waker: Arc::clone(&waker),
        backoff: Backoff::new(nats.backoff_min, nats.backoff_max),
        retry: clock.now(),
        refusal: None,
        failures: LogRateLimiter::default(),
        refusals: LogRateLimiter::default(),
        stop_deadline: None,
        nats: nats.clone(),
    };
    let thread = std::thread::Builder::new().name("jetstream-writer".to_owned()).spawn(move || writer.run())?;
    Ok(WriterHandle { waker, thread })
}

struct Writer {
    nats: NatsConfig,
    api: Api,
    /// The streams, each with its identity if that is known.
    streams: Vec<(StreamSpec, Option<u64>)>,
    connector: Connector,
    login: Arc<NatsLogin>,
    queue: PublicationQueue,
    /// What awaits its acknowledgement, by the number in the subject where that comes.
    sent: BTreeMap<u64, Outgoing>,
    /// What is to be sent again, by the same number, so that the oldest goes first.
    unsent: BTreeMap<u64, Outgoing>,
    /// What was acknowledged by a stream whose identity is not known yet, with the sequence.
    unnamed: Vec<(Outgoing, u64)>,
    /// When that is done.
    resend: Option<Moment>,
    next: u64,
    clock: Clock,
    status: Arc<SourceStatus>,
    waker: Arc<ThreadWaker>,
    backoff: Backoff,
    retry: Moment,
    /// Why publications are not worth waiting, while there is no connection.
    refusal: Option<PublishFailed>,
    failures: LogRateLimiter,
    refusals: LogRateLimiter,
    stop_deadline: Option<Moment>,
}

/// A publication on its way.
struct Outgoing {
    queued: QueuedPublication,
    /// The stream that keeps its topic.
    stream: usize,
    message_id: String,
    /// Whether a server may have kept it: it was sent, and that nobody took it is not known.
    is_unclear: bool,
}

impl Writer {
    fn run(&mut self) {
        self.live_on();
        std::mem::take(&mut self.unnamed).into_iter().for_each(|(outgoing, _)| outgoing.queued.answer(Ok(None)));
        let left = [&mut self.sent, &mut self.unsent].into_iter().flat_map(std::mem::take).map(|(_, left)| left);
        left.for_each(Outgoing::give_up);
    }

    /// The outcome of `task`. While it is awaited, publications that wait for too long are answered. `None`: the hub ends, unless the
    /// task `outlives` that.
    async fn answering_during<T>(&mut self, task: impl Future<Output = T>, outlives: bool) -> Option<T> {
        let mut task = pin!(task);
        while outlives || !self.waker.is_stopped() {
            let far = self.clock.now() + self.nats.ping_interval;
            let outcome = unless_before(task.as_mut(), self.wait(far)).await;
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    /// Answers what waited for too long, then waits for the next occasion, `deadline` at the latest.
    async fn wait(&mut self, deadline: Moment) {
        let now = self.clock.now();
        self.expire(now);
        let deadline = self.queue.deadline().into_iter().chain(self.oldest_deadline()).fold(deadline, Moment::min);
        // Whether something came or not, the caller looks.
        let _ = tokio::time::timeout(deadline.since(now), self.waker.notify().notified()).await;
    }

    async fn serve(&mut self, mut link: JetLink) -> Result<(), Fault> {
        let (mut ping, mut asked) = (self.clock.now(), self.clock.now());
        loop {
            let now = self.clock.now();
            if ping <= now {
                self.learn_identities(&mut link).await?;
                asked = self.clock.now();
                ping = asked + self.nats.ping_interval;
                self.answer_unnamed(asked);
            }
            self.expire(now);
            if self.is_done(now) {
                return Ok(());
            }
            self.send(&mut link, now);
            let own = [self.queue.deadline(), self.resend, self.stop_deadline];
            let deadlines = own.into_iter().flatten().chain(self.oldest_deadline());
            let now = self.clock.now();
            let is_full = UNACKNOWLEDGED_MAX <= self.sent.len();
            let timeout = if self.queue.is_empty() || is_full || self.resend.is_some() {
                deadlines.fold(ping, Moment::min).since(now)
            } else {
                Duration::ZERO
            };
            let Received { messages, denied } = link.next(self.waker.notify(), timeout).await?;
            let now = self.clock.now();
            messages.into_iter().for_each(|message| self.take_answer(&message, now));
            self.answer_unnamed(now);
            if !self.unnamed.is_empty() {
                ping = ping.min(asked + RETRY);
            }
            denied.iter().for_each(|(subject, text)| self.take_denial(subject, text, now));
        }
    }

    /// Asks for the streams, which is a sign of life as well: acknowledgements tell an event's sequence only.
    async fn learn_identities(&mut self, link: &mut JetLink) -> Result<(), Fault> {
        let asked = self.streams.iter().map(|(spec, _)| (self.api.stream_info(&spec.name), Bytes::new())).collect();
        let Some(answers) = self.answering_during(link.request_all(asked), true).await else { return Ok(()) };
        let answers = answers?;
        for ((_, known), answer) in self.streams.iter_mut().zip(answers) {
            match answer.and_then(|payload| read::<StreamInfo>(&payload)) {
                Ok(info) => *known = Some(identity(&info)),
                // Nobody can be asked at present, so nothing has changed either.
                Err(Refused::NoResponders) => {}
                Err(_) => *known = None,
            }
        }
        let now = self.clock.now();
        self.status.writer().on_answer(now);
        self.backoff.reset();
        self.refusal = None;
        if self.status.writer().on_connected(now) {
            info!("publishing to streams of {}", self.nats.login);
        }
        Ok(())
    }

    /// Sends what is to be sent again, then what is new.
    fn send(&mut self, link: &mut JetLink, now: Moment) {
        if self.resend.is_some_and(|due| now < due) {
            // What is new stays behind what is not, so that a publisher's events keep their order.
            return;
        }
        self.resend = None;
        while let Some((number, outgoing)) = self.unsent.pop_first() {
            self.send_one(link, number, outgoing);
        }
        if self.sent.len() < UNACKNOWLEDGED_MAX {
            for queued in self.queue.take_batch() {
                let stream = self.streams.iter().position(|(spec, _)| spec.keeps(&queued.topic));
                let Some(stream) = stream else { continue };
                let message_id = match &queued.key {
                    // No topic contains a blank, so no two of them meet.
                    Some(key) => format!("{} {key}", queued.topic),
                    None => format!("{:032x}", rand::random::<u128>()),
                };
                let number = self.next;
                self.next += 1;
                self.send_one(link, number, Outgoing { queued, stream, message_id, is_unclear: false });
            }
        }
    }

    fn send_one(&mut self, link: &mut JetLink, number: u64, mut outgoing: Outgoing) {
        if outgoing.queued.bridged.as_ref().is_some_and(|bridged| bridged.is_broken()) {
            return outgoing.give_up();
        }
        let kind = outgoing.queued.kind.as_deref().map(Into::into);
        let stream = &self.streams[outgoing.stream].0.name;
        let headers = EventHeaders { kind, key: Some(outgoing.message_id.as_str().into()) };
        let bridged = outgoing.queued.bridged.as_deref();
        let is_gap = bridged.is_some_and(|bridged| bridged.gap.is_some());
        let headers = headers.write_kept(stream, bridged);
        let reply = link.subject(&format!("a.{number}"));
        let data = if is_gap { Bytes::from_static(GAP_PAYLOAD) } else { outgoing.queued.data.clone() };
        let subject = outgoing.queued.topic.as_str();
        match link.publish(subject, Some(&reply), Some(&headers), data) {
            Ok(()) => {
                outgoing.is_unclear = true;
                self.sent.insert(number, outgoing);
            }
            Err(PublishError::TooBig) => outgoing.queued.answer(Err(PublishFailed::Refused(Refusal::TooBig))),
            Err(PublishError::NoHeaders | PublishError::BadSubject) => {
                outgoing.queued.answer(Err(PublishFailed::Refused(Refusal::Other)));
            }
        }
    }

    fn take_answer(&mut self, message: &Message, now: Moment) {
        let number = message.subject.rsplit_once(".a.").and_then(|(_, number)| number.parse::<u64>().ok());
        let Some((number, mut outgoing)) = number.and_then(|number| self.sent.remove_entry(&number)) else { return };
        self.status.writer().on_answer(now);
        let answer =
            if message.status == Some(503) { Err(Refused::NoResponders) } else { read::<PublishAck>(&message.payload) };
        match answer {
            Ok(ack) => {
                self.status.on_publish_taken(Some(&outgoing.queued.topic));
                self.unnamed.push((outgoing, ack.seq));
            }
            Err(Refused::NoResponders) => {
                outgoing.is_unclear = false;
                self.unsent.insert(number, outgoing);
                self.resend = Some(now + RETRY);
            }
            Err(refused) => {
                let refusal = match &refused {
                    Refused::Api(error) => match error.err_code {
                        ApiError::MESSAGE_TOO_BIG => Refusal::TooBig,
                        ApiError::STORE_FAILED | ApiError::NO_RESOURCES => Refusal::OutOfMemory,
                        _ => Refusal::Other,
                    },
                    _ => Refusal::Other,
                };
                self.refuse(outgoing, refusal, &refused.to_string(), now);
            }
        }
    }

    /// Answers what was acknowledged with its id, or without it where the stream cannot be asked for too long.
    fn answer_unnamed(&mut self, now: Moment) {
        for (outgoing, minor) in std::mem::take(&mut self.unnamed) {
            match self.streams[outgoing.stream].1 {
                None if now < outgoing.queued.deadline => self.unnamed.push((outgoing, minor)),
                identity => outgoing.queued.answer(Ok(identity.map(|major| EventId::new(major, minor)))),
            }
        }
    }

    /// The server does not let the hub publish to `subject`.
    fn take_denial(&mut self, subject: &str, text: &str, now: Moment) {
        let denied: Vec<u64> = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.queued.topic.as_str() == subject)
            .map(|(number, _)| *number)
            .collect();
        for outgoing in denied.into_iter().filter_map(|number| self.sent.remove(&number)).collect::<Vec<_>>() {
            self.refuse(outgoing, Refusal::Forbidden, text, now);
        }
    }

    fn refuse(&mut self, outgoing: Outgoing, refusal: Refusal, text: &str, now: Moment) {
        let topic = outgoing.queued.topic.clone();
        if let Some(suppressed) = self.refusals.admit(now) {
            warn!(suppressed, topic = topic.as_str(), "the server refuses a publication: {text}");
        }
        self.status.on_publish_refused(Some(&topic), text, false, now);
        outgoing.queued.answer(Err(PublishFailed::Refused(refusal)));
    }

    /// When the next publication gives up that is on its way, or was taken and has no id yet. The queue's own order is the order of
    /// their deadlines.
    fn oldest_deadline(&self) -> Option<Moment> {
        let on_its_way = [&self.sent, &self.unsent].into_iter().filter_map(|all| all.values().next());
        let all = on_its_way.chain(self.unnamed.iter().map(|(outgoing, _)| outgoing));
        all.map(|outgoing| outgoing.queued.deadline).min()
    }

    /// Answers what has waited for too long, or, while the server refuses the hub, all that waits.
    fn expire(&mut self, now: Moment) {
        self.queue.expire(self.refusal, now);
        self.answer_unnamed(now);
        for all in [&mut self.sent, &mut self.unsent] {
            while let Some(oldest) = all.first_entry().filter(|oldest| oldest.get().queued.deadline <= now) {
                oldest.remove().give_up();
            }
        }
    }

    /// Whether the thread is to end now: it was asked to, and nothing waits. Or it waited long enough.
    fn is_done(&mut self, now: Moment) -> bool {
        if !self.waker.is_stopped() {
            return false;
        }
        let deadline = *self.stop_deadline.get_or_insert(now + self.nats.publish_timeout);
        let is_empty = self.sent.is_empty() && self.unsent.is_empty() && self.unnamed.is_empty();
        deadline <= now || (self.queue.is_empty() && is_empty)
    }
}

impl Connections for Writer {
    const NAME: &str = "JetStream's writer";

    fn waker(&self) -> &ThreadWaker {
        &self.waker
    }

    fn backoff_max(&self) -> Duration {
        self.nats.backoff_max
    }

    async fn live(&mut self) -> Result<(), Fault> {
        while self.clock.now() < self.retry {
            if self.waker.is_stopped() {
                return Ok(());
            }
            self.wait(self.retry).await;
        }
        self.login = self.connector.login();
        let (connector, login) = (self.connector.clone(), Arc::clone(&self.login));
        match self.answering_during(JetLink::open(&connector, &login), false).await {
            Some(link) => self.serve(link?).await,
            None => Ok(()),
        }
    }

    // What was sent and not acknowledged is sent again, before anything else.
    fn fail(&mut self, fault: &Fault) {
        let now = self.clock.now();
        let is_renewed = fault.is_refused_login() && self.connector.logins().renew(&self.login).is_some();
        let delay = if is_renewed { Duration::ZERO } else { self.backoff.next_delay(rand::random()) };
        self.retry = now + delay;
        self.refusal = (fault.is_lasting() && !is_renewed).then_some(PublishFailed::Refused(Refusal::Forbidden));
        self.unsent.append(&mut self.sent);
        self.resend = None;
        self.status.writer().on_failure(&fault.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "cannot publish to streams of {}: {fault}", self.nats.login);
        }
    }
}

impl Outgoing {
    fn give_up(self) {
        let why = if self.is_unclear { PublishFailed::Unknown } else { PublishFailed::Unavailable };
        self.queued.answer(Err(why));
    }
}
