//! What the bridge does with each event: a machine without threads, sockets or clock.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{BridgeConfig, TopicMap};
use crate::{
    bus::{
        Bridged, EventMessage, EventSink, LogSnapshot, Publication, Receipt, ReceiptCallback, TopicKey, losses_payload,
        losses_topic,
    },
    event::{Event, Position},
    gap::GapReason,
    topic::{Pattern, Topic},
};

/// The most topics whose losses are told one by one; if there are more, all topics of the bridge are told of one.
const LOSSY_TOPICS_MAX: usize = 64;

/// How the other side learns what may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossReport {
    /// By a command to its hubs, each of which makes the gaps.
    Command,
    /// By a gap in the log of each topic, which its broker keeps. A loss of all topics concerns those that have a log there.
    InLogs,
}

/// The part of a bridge between the follower's inbox and the sink.
#[derive(Debug)]
pub(super) struct Relay {
    maps: Vec<TopicMap>,
    topics: HashMap<TopicKey, RelayedTopic>,
    /// Copied from a log after the inbox was full: they go out before what the inbox has next.
    copied: VecDeque<EventMessage>,
    losses: PendingLosses,
    report: LossReport,
    /// The source's name.
    source: Arc<str>,
    /// Whether what another bridge has brought is carried on.
    chains: bool,
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
    /// Where its events come from, as the other side is told.
    origin: Arc<str>,
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
    /// Events that stay where they are, because another bridge has brought them there.
    pub(super) returned: u64,
}

impl Relay {
    /// It begins with a loss: nobody knows what was published before.
    pub(super) fn new(config: &BridgeConfig, report: LossReport) -> Self {
        Self {
            maps: config.maps.clone(),
            source: config.from.as_str().into(),
            chains: config.chain,
            topics: HashMap::new(),
            copied: VecDeque::new(),
            losses: PendingLosses::All,
            report,
            in_flight: 0,
            in_flight_max: config.in_flight_max,
        }
    }

    /// Whether another publication may be on its way.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.in_flight_max
    }

    /// The patterns of the topics on the other side, if it has to be known which of them have a log there. Until then nothing can be
    /// carried: what is missing is told first.
    pub(super) fn wanted_topics(&self) -> Option<Vec<Pattern>> {
        let is_unknown = self.report == LossReport::InLogs && self.losses == PendingLosses::All;
        is_unknown.then(|| self.maps.iter().map(|map| map.to().clone()).collect())
    }

    /// These topics have a log on the other side.
    pub(super) fn take_topics(&mut self, topics: Vec<Topic>) {
        if self.wanted_topics().is_some() {
            self.losses = PendingLosses::Topics(topics.into_iter().collect());
        }
    }

    /// Whether the other side has been told of all that is missing, or is being told.
    pub(super) fn has_told(&self) -> bool {
        self.losses == PendingLosses::Topics(BTreeSet::new())
    }

    /// Whether nothing is on its way, and nothing is left to be told.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.copied.is_empty() && self.has_told()
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
        let topic =
            self.topics.entry(message.key).or_insert_with(|| RelayedTopic::new(&self.maps, &self.source, event));
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
        let topic = self.topics.entry(key).or_insert_with(|| RelayedTopic::new(&self.maps, &self.source, &event));
        let is_hole = topic.next < event.position || event.gap.is_some();
        topic.next = event.position + 1;
        let Some(target) = topic.target.clone() else {
            tally.failed += 1;
            return;
        };
        let origin = Arc::clone(&topic.origin);
        if is_hole {
            tally.losses += 1;
            self.losses.add(target.clone(), self.report);
        }
        if event.gap.is_some() {
            return;
        }
        if event.is_carried && !self.chains {
            tally.returned += 1;
            return;
        }
        self.tell_losses(sink, report);
        let data = match &event.tail {
            None => event.data.clone(),
            Some(tail) => [&event.data, tail.as_bytes()].concat().into(),
        };
        let publication = Publication {
            topic: target.clone(),
            kind: event.kind.clone(),
            data,
            idempotency_key: None,
            bridged: Some(Box::new(Bridged { origin, gap: None, carried: None })),
            reply: self.reply(Subject::Event(target), report),
        };
        sink.publish(publication);
    }

    /// Tells the other side what may be missing there.
    pub(super) fn tell_losses(&mut self, sink: &dyn EventSink, report: &Report) {
        if self.report == LossReport::InLogs {
            return self.tell_in_logs(sink, report);
        }
        let (topics, payload) = match std::mem::take(&mut self.losses) {
            PendingLosses::Topics(topics) if topics.is_empty() => return,
            PendingLosses::Topics(topics) => {
                let payload = losses_payload(topics.iter().map(Topic::as_str));
                (topics.into_iter().collect(), payload)
            }
            PendingLosses::All => (Vec::new(), losses_payload(self.maps.iter().map(|map| map.to().as_str()))),
        };
        let publication = Publication {
            topic: losses_topic(),
            kind: None,
            data: payload,
            idempotency_key: None,
            bridged: None,
            reply: self.reply(Subject::Losses(topics), report),
        };
        sink.publish(publication);
    }

    /// As many gaps as there is room for, and one at least: whoever relays an event has asked for room for one.
    fn tell_in_logs(&mut self, sink: &dyn EventSink, report: &Report) {
        let room = self.in_flight_max.saturating_sub(self.in_flight).max(1);
        let PendingLosses::Topics(topics) = &mut self.losses else { return };
        let told: Vec<Topic> = std::iter::from_fn(|| topics.pop_first()).take(room).collect();
        for topic in told {
            let origin = Arc::clone(&self.source);
            let gap = Bridged { origin, gap: Some(GapReason::SourceLost), carried: None };
            let publication = Publication {
                topic: topic.clone(),
                kind: None,
                data: Bytes::new(),
                idempotency_key: None,
                bridged: Some(Box::new(gap)),
                reply: self.reply(Subject::Losses(vec![topic]), report),
            };
            sink.publish(publication);
        }
    }

    /// Counts a publication that is about to go out, whose outcome is about `subject`.
    fn reply(&mut self, subject: Subject, report: &Report) -> ReceiptCallback {
        self.in_flight += 1;
        let report = Arc::clone(report);
        Box::new(move |receipt: Receipt| report(Outcome { subject, is_taken: receipt.is_ok() }))
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
                self.losses.add(topic, self.report);
            }
            // It is told again.
            (false, Subject::Losses(topics)) if topics.is_empty() => self.losses = PendingLosses::All,
            (false, Subject::Losses(topics)) => {
                topics.into_iter().for_each(|topic| self.losses.add(topic, self.report))
            }
        }
    }

    /// Forgets topics that are no longer there.
    pub(super) fn forget(&mut self, is_there: impl Fn(TopicKey, &Topic) -> bool) {
        self.topics.retain(|key, topic| is_there(*key, &topic.topic));
    }
}

impl RelayedTopic {
    /// As it is when `event` is the first that the relay gets of it.
    fn new(maps: &[TopicMap], source: &str, event: &Event) -> Self {
        let target =
            maps.iter().find(|map| map.from().matches(&event.topic)).and_then(|map| map.translate(&event.topic));
        let origin = format!("{source}:{}", event.topic).into();
        Self { topic: event.topic.clone(), target, origin, next: event.position }
    }
}

impl PendingLosses {
    fn add(&mut self, topic: Topic, report: LossReport) {
        if let Self::Topics(topics) = self {
            topics.insert(topic);
            if report == LossReport::Command && LOSSY_TOPICS_MAX < topics.len() {
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
