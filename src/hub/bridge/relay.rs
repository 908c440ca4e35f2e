//! What the bridge does with each event: a machine without threads, sockets or clock.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::TopicMap;
use crate::{
    bus::{EventMessage, EventSink, LogSnapshot, Publication, Receipt, TopicKey, losses_payload, losses_topic},
    event::{Event, Position},
    topic::Topic,
};

/// The most topics whose losses are told one by one; if there are more, all topics of the bridge are told of one.
const LOSSY_TOPICS_MAX: usize = 64;

/// The part of a bridge between the follower's inbox and the sink.
#[derive(Debug)]
pub(super) struct Relay {
    maps: Vec<TopicMap>,
    topics: HashMap<TopicKey, RelayedTopic>,
    /// Copied from a log after the inbox was full: they go out before what the inbox has next.
    copied: VecDeque<EventMessage>,
    losses: PendingLosses,
    in_flight: usize,
    in_flight_max: usize,
}

/// A topic that the relay has had events of.
#[derive(Debug)]
struct RelayedTopic {
    /// What it is called here, to find out whether it is still there.
    topic: Topic,
    /// What it is called on the other side; `None`: that would be no topic's name.
    target: Option<Topic>,
    /// The position that is due.
    next: Position,
}

/// What the other side has yet to be told.
#[derive(Debug, PartialEq, Eq)]
enum PendingLosses {
    /// Of these topics something may be missing.
    Topics(BTreeSet<Topic>),
    /// Of all topics of the bridge.
    All,
}

/// The outcome of a publication: what it was about, and whether the broker took it.
#[derive(Debug)]
pub(super) struct Outcome {
    subject: Subject,
    is_taken: bool,
}

#[derive(Clone, Debug)]
enum Subject {
    Event(Topic),
    /// The command that told of losses of these topics; empty: of all.
    Losses(Vec<Topic>),
}

/// How an outcome comes back to the relay, from whichever thread has it.
pub(super) type Report = Arc<dyn Fn(Outcome) + Send + Sync>;

/// What became of what was given to the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Events that the broker has taken.
    pub(super) relayed: u64,
    /// Publications that it has not, or perhaps not.
    pub(super) failed: u64,
    /// Times something may have been missed.
    pub(super) losses: u64,
}

impl Relay {
    /// It begins with a loss: nobody knows what was published before.
    pub(super) fn new(maps: Vec<TopicMap>, in_flight_max: usize) -> Self {
        Self {
            maps,
            topics: HashMap::new(),
            copied: VecDeque::new(),
            losses: PendingLosses::All,
            in_flight: 0,
            in_flight_max,
        }
    }

    /// Whether another publication may be on its way.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.in_flight_max
    }

    /// Whether nothing is on its way, and nothing is left to be told.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.copied.is_empty() && self.losses == PendingLosses::Topics(BTreeSet::new())
    }

    /// What was copied from a log and is to go out next.
    pub(super) fn next_copied(&mut self) -> Option<EventMessage> {
        self.copied.pop_front()
    }

    /// Takes what the follower's inbox had no room for.
    pub(super) fn take_copied(&mut self, snapshot: LogSnapshot) {
        let key = snapshot.state.key;
        self.copied.extend(snapshot.events.into_iter().map(|event| EventMessage { key, event }));
    }

    /// From which position on the relay lacks the events of this topic.
    pub(super) fn next_of(&self, key: TopicKey) -> Position {
        self.topics.get(&key).map_or(0, |topic| topic.next)
    }

    /// Passes over an event: another bridge carries it.
    pub(super) fn skip(&mut self, message: &EventMessage) {
        let event = &message.event;
        let topic = self.topics.entry(message.key).or_insert_with(|| RelayedTopic::new(&self.maps, event));
        topic.next = topic.next.max(event.position + 1);
    }

    /// Of all topics something may have been missed.
    pub(super) fn lose_all(&mut self, tally: &mut Tally) {
        tally.losses += 1;
        self.losses = PendingLosses::All;
    }

    /// Publishes an event of the follower's. What is missing before it is told first.
    pub(super) fn relay(&mut self, message: EventMessage, sink: &dyn EventSink, report: &Report, tally: &mut Tally) {
        let EventMessage { key, event } = message;
        let topic = self.topics.entry(key).or_insert_with(|| RelayedTopic::new(&self.maps, &event));
        let is_hole = topic.next < event.position || event.gap.is_some();
        topic.next = event.position + 1;
        let Some(target) = topic.target.clone() else {
            tally.failed += 1;
            return;
        };
        if is_hole {
            tally.losses += 1;
            self.losses.add(target.clone());
        }
        if event.gap.is_some() {
            return;
        }
        self.tell_losses(sink, report);
        let data = match &event.tail {
            None => event.data.clone(),
            Some(tail) => [&event.data, tail.as_bytes()].concat().into(),
        };
        self.publish(Subject::Event(target.clone()), target, event.kind.clone(), data, sink, report);
    }

    /// Tells the other side what may be missing there.
    pub(super) fn tell_losses(&mut self, sink: &dyn EventSink, report: &Report) {
        let (topics, payload) = match std::mem::take(&mut self.losses) {
            PendingLosses::Topics(topics) if topics.is_empty() => return,
            PendingLosses::Topics(topics) => {
                let payload = losses_payload(topics.iter().map(Topic::as_str));
                (topics.into_iter().collect(), payload)
            }
            PendingLosses::All => (Vec::new(), losses_payload(self.maps.iter().map(|map| map.to().as_str()))),
        };
        self.publish(Subject::Losses(topics), losses_topic(), None, payload, sink, report);
    }

    fn publish(
        &mut self,
        subject: Subject,
        topic: Topic,
        kind: Option<Box<str>>,
        data: Bytes,
        sink: &dyn EventSink,
        report: &Report,
    ) {
        self.in_flight += 1;
        let report = Arc::clone(report);
        let reply = Box::new(move |receipt: Receipt| report(Outcome { subject, is_taken: receipt.is_ok() }));
        sink.publish(Publication { topic, kind, data, idempotency_key: None, bridged: None, reply });
    }

    /// Takes the outcome of a publication.
    pub(super) fn settle(&mut self, outcome: Outcome, tally: &mut Tally) {
        self.in_flight -= 1;
        match (outcome.is_taken, outcome.subject) {
            (true, Subject::Event(_)) => tally.relayed += 1,
            (true, Subject::Losses(_)) => {}
            (false, Subject::Event(topic)) => {
                tally.failed += 1;
                tally.losses += 1;
                self.losses.add(topic);
            }
            // It is told again.
            (false, Subject::Losses(topics)) if topics.is_empty() => self.losses = PendingLosses::All,
            (false, Subject::Losses(topics)) => topics.into_iter().for_each(|topic| self.losses.add(topic)),
        }
    }

    /// Forgets topics that are no longer there.
    pub(super) fn forget(&mut self, is_there: impl Fn(TopicKey, &Topic) -> bool) {
        self.topics.retain(|key, topic| is_there(*key, &topic.topic));
    }
}

impl RelayedTopic {
    /// As it is when `event` is the first that the relay gets of it.
    fn new(maps: &[TopicMap], event: &Event) -> Self {
        let target =
            maps.iter().find(|map| map.from().matches(&event.topic)).and_then(|map| map.translate(&event.topic));
        Self { topic: event.topic.clone(), target, next: event.position }
    }
}

impl PendingLosses {
    fn add(&mut self, topic: Topic) {
        if let Self::Topics(topics) = self {
            topics.insert(topic);
            if LOSSY_TOPICS_MAX < topics.len() {
                *self = Self::All;
            }
        }
    }
}

impl Default for PendingLosses {
    fn default() -> Self {
        Self::Topics(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests;
