//! What is under way on one connection: its subscriptions, the fence, and the proofs.

use std::collections::HashMap;

use super::{Target, fence::Fence};
use crate::{
    clock::Moment,
    source::{
        nats::{
            Fault, Link, NatsConfig, SubjectFilter, link::SubscriptionHandle, publication_queue::QueuedPublication,
        },
        subscriptions::{Batch, Subscriptions},
    },
    topic::Topic,
};

/// The token behind the inbox prefix in the subjects of all hubs' probes.
const PROBE_TOKEN: &str = "fanfare";

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Conversation {
    /// The subject of this connection's probes.
    probe: String,
    topics: HashMap<Topic, SubscriptionHandle>,
    patterns: HashMap<usize, SubscriptionHandle>,
    fence: Option<Fence>,
    /// The server has said what became of the nonce.
    answer: Option<NonceAnswer>,
    nonce: u64,
    next_ping: Moment,
    last_received: Moment,
    /// The last error of the server's that concerns none of the commands.
    last_error: Option<String>,
}

/// What became of a nonce. Either way the server has done everything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceAnswer {
    /// It came back, which proves delivery.
    Returned,
    /// The server does not let the hub publish it.
    Refused,
}

/// What the subjects of all probes begin with.
pub(super) fn probe_prefix(config: &NatsConfig) -> String {
    format!("{}.{PROBE_TOKEN}.", config.inbox_prefix)
}

impl Conversation {
    /// Begins, with the subscription to an inbox that no other connection has.
    pub(super) fn open(link: &mut Link<Target>, config: &NatsConfig, now: Moment) -> Result<Self, Fault> {
        let probe = format!("{}{:032x}", probe_prefix(config), rand::random::<u128>());
        link.subscribe(Target::Probe, &probe)?;
        Ok(Self {
            probe,
            topics: HashMap::new(),
            patterns: HashMap::new(),
            fence: None,
            answer: None,
            nonce: 0,
            next_ping: now,
            last_received: now,
            last_error: None,
        })
    }

    pub(super) fn is_own_probe(&self, subject: &str) -> bool {
        self.probe == subject
    }

    pub(super) fn fence(&mut self) -> Option<&mut Fence> {
        self.fence.as_mut()
    }

    /// When the next sign of life is due.
    pub(super) fn next_ping(&self) -> Moment {
        self.next_ping
    }

    /// When there is something to do without anything coming.
    pub(super) fn deadline(&self, config: &NatsConfig) -> Moment {
        let Some(fence) = &self.fence else { return self.next_ping };
        let silence = self.silence_deadline(fence, config);
        fence.deadline().map_or(silence, |deadline| deadline.min(silence))
    }

    /// Answers publications that have waited long enough. Fails if the server has said nothing for too long.
    pub(super) fn expire(&mut self, config: &NatsConfig, now: Moment) -> Result<(), Fault> {
        let Some(fence) = &mut self.fence else { return Ok(()) };
        fence.expire(now);
        let silence = self.fence.as_ref().map(|fence| self.silence_deadline(fence, config));
        if silence.is_some_and(|deadline| deadline <= now) { Err(Fault::Silent) } else { Ok(()) }
    }

    /// Sends the subscriptions of `batch`.
    pub(super) fn subscribe(
        &mut self,
        link: &mut Link<Target>,
        batch: &Batch,
        subscriptions: &Subscriptions<SubjectFilter>,
    ) -> Result<(), Fault> {
        match batch {
            Batch::Topics(topics) => {
                for topic in topics {
                    let handle = link.subscribe(Target::Topic(topic.clone()), topic.as_str())?;
                    self.topics.insert(topic.clone(), handle).iter().for_each(SubscriptionHandle::abort);
                }
            }
            Batch::Patterns(indices) => {
                for index in indices {
                    let subject = subscriptions.patterns().text(*index).to_owned();
                    let handle = link.subscribe(Target::Pattern(*index), &subject)?;
                    self.patterns.insert(*index, handle).iter().for_each(SubscriptionHandle::abort);
                }
            }
            Batch::Leave(topics) => topics.iter().for_each(|topic| self.leave_topic(topic)),
        }
        Ok(())
    }

    /// Ends the subscription of `topic`.
    pub(super) fn leave_topic(&mut self, topic: &Topic) {
        self.topics.remove(topic).iter().for_each(SubscriptionHandle::abort);
    }

    /// The same of the pattern at `index`.
    pub(super) fn leave_pattern(&mut self, index: usize) {
        self.patterns.remove(&index).iter().for_each(SubscriptionHandle::abort);
    }

    /// Publishes the next nonce behind what was sent. Whatever comes of it, `publications` are answered.
    pub(super) fn raise_fence(
        &mut self,
        link: &mut Link<Target>,
        batch: Option<Batch>,
        publications: Vec<QueuedPublication>,
        config: &NatsConfig,
        now: Moment,
    ) -> Result<(), Fault> {
        self.nonce += 1;
        self.fence = Some(Fence::new(self.nonce, now, batch, publications));
        self.answer = None;
        self.next_ping = now + config.ping_interval;
        let published = link.publish(&self.probe, None, None, self.nonce.to_string().as_bytes());
        published.map_err(|_| Fault::Closed(Some("it takes not even a nonce (max_payload)".to_owned())))
    }

    /// Something came.
    pub(super) fn on_received(&mut self, now: Moment) {
        self.last_received = now;
    }

    /// A message came to the inbox.
    pub(super) fn on_probe(&mut self, payload: &[u8]) {
        let is_awaited = |fence: &Fence| payload == fence.nonce.to_string().as_bytes();
        if self.fence.as_ref().is_some_and(is_awaited) {
            self.answer = Some(NonceAnswer::Returned);
        }
    }

    /// The server does not let the hub publish to its own inbox.
    pub(super) fn on_probe_refused(&mut self) {
        if self.fence.is_some() {
            self.answer.get_or_insert(NonceAnswer::Refused);
        }
    }

    /// The server sent an error that names nothing that it refuses.
    pub(super) fn on_error(&mut self, text: &str) {
        self.last_error = Some(text.to_owned());
        if let Some(fence) = &mut self.fence {
            fence.on_unclear(text);
        }
    }

    /// What the server said before it closed the connection.
    pub(super) fn last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Whether the server has passed the fence.
    pub(super) fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Takes the fence that the server has passed.
    pub(super) fn take_answered(&mut self) -> Option<(Fence, NonceAnswer)> {
        let answer = self.answer.take()?;
        Some((self.fence.take()?, answer))
    }

    /// The connection is given up.
    pub(super) fn abandon(&mut self) {
        self.fence.take().into_iter().for_each(Fence::abandon);
    }

    /// Anything that came counts as a sign of life, since the nonce may queue behind a burst of messages.
    fn silence_deadline(&self, fence: &Fence, config: &NatsConfig) -> Moment {
        fence.sent.max(self.last_received) + config.ping_timeout
    }
}
