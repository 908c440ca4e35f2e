//! The producer: publishes each token when it is due, whether or not the server keeps up, and reports the answers.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::Sender;
use socket2::Socket;

use super::{
    options::{Plan, PublishTarget},
    tally::Latency,
    token::{Content, Message},
};
use crate::{
    client::{HubAccess, MaybeTlsStream, Replies, Reply},
    protocol::{
        http::{Method, write_request},
        resp,
    },
};

/// The most unanswered publications: beyond that the server is not keeping up, and tokens are late.
const IN_FLIGHT_MAX: usize = 10_000;
/// The same without a pause between tokens: more would only wait at the server.
const FLOOD_IN_FLIGHT_MAX: usize = 256;
/// The most tokens that are sent together.
const BURST_MAX: usize = 64;
/// The longest sleep, so that answers are read and Ctrl+C is noticed soon.
const REST_MAX: Duration = Duration::from_millis(20);
/// The sleep when the connection takes no more bytes.
const BLOCKED_REST: Duration = Duration::from_millis(1);
/// Timeout of answers after the last publication.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A token that is sent this long after it was due is late.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(10);

/// An event of the producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProducerEvent {
    /// A token was accepted. Conversation and sequence are counted from 1.
    Published { conversation: u32, sequence: u32, is_unheard: bool },
    /// A token was refused.
    Refused(String),
    /// The connection failed.
    Failed(String),
}

/// The results of the producer.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Tokens that were sent.
    pub(super) sent: u64,
    /// Tokens that were sent more than [`LATE_AFTER`] behind their time.
    pub(super) late: u64,
    /// Lateness of tokens.
    pub(super) lateness: Latency,
    /// Publications that were never answered.
    pub(super) unanswered: u64,
}

/// One connection to publish on.
#[derive(Debug)]
pub(super) struct Producer {
    plan: Plan,
    run: u64,
    stream: MaybeTlsStream<Socket>,
    replies: Replies,
    outgoing: Vec<u8>,
    /// Unanswered publications in order: conversation and sequence of a token, or `None` for a probe or an end.
    awaiting: VecDeque<Option<(u32, u32)>>,
    events: Sender<ProducerEvent>,
    outcome: Outcome,
}

impl Producer {
    /// Connects to the plan's target; `events` gets the outcome of each token. The error names the target and the reason.
    pub(super) fn connect(plan: &Plan, run: u64, events: Sender<ProducerEvent>) -> Result<Self, String> {
        let mut plan = plan.clone();
        let (stream, replies) = match &mut plan.target {
            PublishTarget::Redis(redis) => (redis.connect()?, Replies::redis()),
            PublishTarget::Hub(hub) => (connect_hub(hub)?, Replies::http()),
        };
        let outcome = Outcome { sent: 0, late: 0, lateness: Latency::new(), unanswered: 0 };
        let (outgoing, awaiting) = (Vec::new(), VecDeque::new());
        Ok(Self { plan, run, stream, replies, outgoing, awaiting, events, outcome })
    }

    /// Publishes a probe in each of these conversations.
    pub(super) fn probe(&mut self, conversations: &[u32]) -> Result<(), String> {
        for &conversation in conversations {
            self.append(conversation, Content::Probe);
        }
        self.exchange().map(drop)
    }

    /// Publishes all tokens, as far as the plan's duration goes, or until `stop`.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Outcome {
        if let Err(reason) = self.publish_all(stop) {
            // The run may have been given up.
            let _ = self.events.send(ProducerEvent::Failed(reason));
        }
        self.outcome.unanswered = self.awaiting.iter().flatten().count() as u64;
        self.outcome
    }

    fn publish_all(&mut self, stop: &AtomicBool) -> Result<(), String> {
        let start = Instant::now();
        let start_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sum = self.plan.token_sum();
        let in_flight_max = if self.plan.delay.is_zero() { FLOOD_IN_FLIGHT_MAX } else { IN_FLIGHT_MAX };
        let mut index = 0;
        while !stop.load(Ordering::Relaxed) && index < sum && self.plan.scheduled(index).due < self.plan.duration {
            if self.awaiting.is_empty() {
                // A hub may have closed an idle connection: check before sending on it.
                self.take_answers()?;
            }
            let elapsed = start.elapsed();
            if self.plan.duration <= elapsed {
                break;
            }
            let room = in_flight_max.saturating_sub(self.awaiting.len()).min(BURST_MAX) as u64;
            let burst_end = sum.min(index + room);
            while index < burst_end && self.plan.scheduled(index).due <= elapsed {
                self.send_token(index, elapsed, start_unix);
                index += 1;
            }
            let is_blocked = self.exchange()?;
            if is_blocked || in_flight_max <= self.awaiting.len() {
                thread::sleep(BLOCKED_REST);
            } else if index < sum {
                thread::sleep(self.plan.scheduled(index).due.saturating_sub(start.elapsed()).min(REST_MAX));
            }
        }
        self.end(index)
    }

    /// Sends the token of this index, which is due, and notes how late that is.
    fn send_token(&mut self, index: u64, elapsed: Duration, start_unix: Duration) {
        let token = self.plan.scheduled(index);
        // Without a pause between tokens, a token is due when its turn comes.
        let due = if self.plan.delay.is_zero() { elapsed } else { token.due };
        let began = self.plan.scheduled(u64::from(token.conversation)).due;
        let content = Content::Token { sequence: token.sequence, due: start_unix + due, began: start_unix + began };
        self.append(token.conversation + 1, content);
        self.outcome.sent += 1;
        self.outcome.late += u64::from(due + LATE_AFTER < elapsed);
        self.outcome.lateness.record(elapsed.saturating_sub(due));
    }

    /// Publishes the number of tokens in each conversation (of the first `index` of all), and waits for the answers.
    fn end(&mut self, index: u64) -> Result<(), String> {
        let conversations = u64::from(self.plan.conversations);
        for conversation in 0..self.plan.conversations {
            let count = (index + conversations - 1 - u64::from(conversation)) / conversations;
            self.append(conversation + 1, Content::End(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while !self.awaiting.is_empty() && Instant::now() < deadline {
            self.exchange()?;
            thread::sleep(BLOCKED_REST);
        }
        match self.awaiting.len() {
            0 => Ok(()),
            count => Err(format!("{count} publications were not answered within {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }

    /// Appends a publication to the output. `conversation` is counted from 1.
    fn append(&mut self, conversation: u32, content: Content) {
        let payload = Message { run: self.run, conversation, content }.write();
        let topic = topic(conversation);
        match &self.plan.target {
            PublishTarget::Redis(_) => {
                resp::write_command(&mut self.outgoing, &[b"PUBLISH", topic.as_bytes(), &payload])
            }
            PublishTarget::Hub(hub) => {
                let (url, mut headers) = (hub.url(), vec![("Content-Type", "application/json")]);
                headers.extend(hub.headers());
                let target = url.target(&format!("/publish/{topic}"));
                write_request(Method::Post, &url.host(), &target, &headers, &payload, &mut self.outgoing);
            }
        }
        self.awaiting.push_back(match content {
            Content::Token { sequence, .. } => Some((conversation, sequence)),
            Content::Probe | Content::End(_) => None,
        });
    }

    /// Writes as far as the connection takes bytes and reads answers; true if output is left.
    fn exchange(&mut self) -> Result<bool, String> {
        let is_blocked = self.flush()?;
        self.take_answers()?;
        Ok(is_blocked)
    }

    fn flush(&mut self) -> Result<bool, String> {
        let mut sent_bytes = 0;
        let is_blocked = loop {
            if sent_bytes == self.outgoing.len() {
                break false;
            }
            match self.stream.write(&self.outgoing[sent_bytes..]) {
                Ok(count) => sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("what is published is not taken any more: {error}")),
            }
        };
        self.outgoing.drain(..sent_bytes);
        let flushed = self.stream.flush();
        flushed.map_err(|error| format!("what is published is not taken any more: {error}"))?;
        Ok(is_blocked || self.stream.wants_write())
    }

    /// The peer closed the connection. A hub may close an idle one (RFC 9112 section 9.5); otherwise it is a failure.
    fn reopen(&mut self) -> Result<(), String> {
        match &mut self.plan.target {
            PublishTarget::Hub(hub) if self.awaiting.is_empty() => {
                self.stream = connect_hub(hub)?;
                self.replies = Replies::http();
                Ok(())
            }
            _ => Err("the connection to publish on was closed by the other side".into()),
        }
    }

    fn take_answers(&mut self) -> Result<(), String> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return self.reopen(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("the connection to publish on broke: {error}")),
            };
            let (awaiting, events) = (&mut self.awaiting, &self.events);
            let mut is_unauthorized = false;
            // Neither Redis nor HTTP needs anything sent back.
            self.replies.receive(&buffer[..count], &mut Vec::new(), &mut |reply| {
                let what = match (awaiting.pop_front().flatten(), reply) {
                    (Some((conversation, sequence)), Reply::Taken { is_unheard }) => {
                        ProducerEvent::Published { conversation, sequence, is_unheard }
                    }
                    (_, Reply::Refused(reason)) => {
                        is_unauthorized |= reason.starts_with(UNAUTHORIZED);
                        ProducerEvent::Refused(reason)
                    }
                    (None, Reply::Taken { .. }) => return,
                };
                // The run may have been given up.
                let _ = events.send(what);
            })?;
            // A lasting connection outlives tokens: further requests use the token that the file has now.
            if let PublishTarget::Hub(hub) = &mut self.plan.target
                && is_unauthorized
            {
                hub.renew()?;
            }
        }
    }
}

/// The beginning of a hub's refusal of a token.
const UNAUTHORIZED: &str = "the server answered 401";

/// A non-blocking connection, with the current token.
fn connect_hub(hub: &mut HubAccess) -> Result<MaybeTlsStream<Socket>, String> {
    hub.renew()?;
    let stream = hub.connect()?;
    stream.socket().set_nonblocking(true).map_err(|error| format!("cannot use a connection to {hub}: {error}"))?;
    Ok(stream)
}

/// The topic of a conversation, counted from 1.
pub(super) fn topic(conversation: u32) -> String {
    format!("conversations.{conversation}")
}
