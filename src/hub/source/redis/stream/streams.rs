//! Which streams are read, and up to which entry. No I/O.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::position::ReadPosition;
use crate::{clock::Moment, source::log_refusals::LogRefusals, topic::Topic};

/// The streams of one reader. In a cluster another task hands it streams and takes them away: a reader that has waited for an answer may
/// find that a stream is no longer its own.
#[derive(Clone, Debug)]
pub(super) struct StreamTable(Arc<Mutex<FollowedStreams>>);

impl StreamTable {
    pub(super) fn new(linger: Duration) -> Self {
        Self(Arc::new(Mutex::new(FollowedStreams::new(linger))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FollowedStreams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of all topics that somebody listens to, or did until lately.
#[derive(Debug)]
pub(super) struct FollowedStreams {
    by_topic: HashMap<Topic, FollowedStream, foldhash::fast::RandomState>,
    topics: HashMap<Box<str>, Topic, foldhash::fast::RandomState>,
    /// Those that the server refuses to read.
    pub(super) refused: LogRefusals,
    /// Came from another reader: whether they still are the streams that were read is to be checked.
    arrived: Vec<Topic>,
    /// Counts changes of what is read, and from where.
    version: u64,
    linger: Duration,
}

/// A stream that is read, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FollowedStream {
    pub(super) key: Box<str>,
    pub(super) stage: StreamStage,
    /// When it is no longer read, if nobody comes back.
    leaves: Option<Moment>,
}

/// How far it has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamStage {
    /// To be loaded, from the moment `due` on. There may be readers of its log if it was loaded `again`.
    New { due: Moment, again: bool },
    /// Read, up to this position.
    Reading(ReadPosition),
}

impl FollowedStream {
    /// The same, to be loaded at `now` if it is not read yet.
    pub(super) fn due_at(mut self, now: Moment) -> Self {
        if let StreamStage::New { due, .. } = &mut self.stage {
            *due = (*due).min(now);
        }
        self
    }
}

impl FollowedStreams {
    pub(super) fn new(linger: Duration) -> Self {
        let (by_topic, topics) = (HashMap::default(), HashMap::default());
        Self { by_topic, topics, refused: LogRefusals::default(), arrived: Vec::new(), version: 0, linger }
    }

    /// Somebody listens to `topic`. The position to which it was read, if it still is.
    pub(super) fn want(&mut self, topic: &Topic, key: String) -> Option<ReadPosition> {
        self.topics.entry(key.clone().into()).or_insert_with(|| topic.clone());
        let stream = self.by_topic.entry(topic.clone());
        let stream = stream.or_insert_with(|| FollowedStream {
            key: key.into(),
            stage: StreamStage::New { due: Moment(0), again: false },
            leaves: None,
        });
        stream.leaves = None;
        match stream.stage {
            StreamStage::New { .. } => None,
            StreamStage::Reading(position) => Some(position),
        }
    }

    /// Nobody listens to it any more.
    pub(super) fn unwant(&mut self, topic: &Topic, now: Moment) {
        if let Some(stream) = self.by_topic.get_mut(topic) {
            stream.leaves = Some(now + self.linger);
        }
    }

    /// Takes out those that nobody came back to in time.
    pub(super) fn take_expired(&mut self, now: Moment) -> Vec<(Topic, FollowedStream)> {
        let is_due = |stream: &FollowedStream| stream.leaves.is_some_and(|due| due <= now);
        let due: Vec<Topic> =
            self.by_topic.iter().filter(|(_, stream)| is_due(stream)).map(|(topic, _)| topic.clone()).collect();
        let taken = due.into_iter().filter_map(|topic| self.by_topic.remove_entry(&topic));
        let taken: Vec<(Topic, FollowedStream)> = taken.collect();
        taken.iter().for_each(|(_, stream)| drop(self.topics.remove(&stream.key)));
        self.version += u64::from(!taken.is_empty());
        taken
    }

    /// Takes out those that are another reader's.
    pub(super) fn release(&mut self, is_elsewhere: impl Fn(&Topic) -> bool) -> Vec<(Topic, FollowedStream)> {
        let taken: Vec<_> = self.by_topic.extract_if(|topic, _| is_elsewhere(topic)).collect();
        taken.iter().for_each(|(_, stream)| drop(self.topics.remove(&stream.key)));
        self.version += u64::from(!taken.is_empty());
        taken
    }

    /// Takes over what another reader had. It is read on from where that one was.
    pub(super) fn adopt(&mut self, topic: Topic, stream: FollowedStream) {
        self.topics.insert(stream.key.clone(), topic.clone());
        if matches!(stream.stage, StreamStage::Reading(_)) {
            self.arrived.push(topic.clone());
        }
        self.by_topic.insert(topic, stream);
        self.version += 1;
    }

    /// What [`Self::adopt`] took over since the last call.
    pub(super) fn take_arrived(&mut self) -> Vec<Topic> {
        std::mem::take(&mut self.arrived)
    }

    /// Changes with what is read, and from where.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// When the next one expires.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.by_topic.values().filter_map(|stream| stream.leaves).min()
    }

    /// At most `count` streams to be loaded now.
    pub(super) fn to_load(&self, count: usize, now: Moment) -> Vec<Topic> {
        let is_due = |stream: &FollowedStream| matches!(stream.stage, StreamStage::New { due, .. } if due <= now);
        let due = self.by_topic.iter().filter(|(_, stream)| is_due(stream));
        due.take(count).map(|(topic, _)| topic.clone()).collect()
    }

    /// The topic whose stream has this key.
    pub(super) fn topic_of(&self, key: &[u8]) -> Option<&Topic> {
        self.topics.get(std::str::from_utf8(key).ok()?)
    }

    pub(super) fn set_stage(&mut self, topic: &Topic, stage: StreamStage) {
        if let Some(stream) = self.by_topic.get_mut(topic) {
            stream.stage = stage;
            self.version += 1;
        }
    }

    /// Whether it is here, and to be loaded.
    pub(super) fn is_new(&self, topic: &Topic) -> bool {
        self.by_topic.get(topic).is_some_and(|stream| matches!(stream.stage, StreamStage::New { .. }))
    }

    /// Whether there may be readers of a log that is to be loaded.
    pub(super) fn is_again(&self, topic: &Topic) -> bool {
        self.by_topic.get(topic).is_some_and(|stream| matches!(stream.stage, StreamStage::New { again: true, .. }))
    }

    /// How far `topic` is read.
    pub(super) fn position(&self, topic: &Topic) -> Option<ReadPosition> {
        match self.by_topic.get(topic)?.stage {
            StreamStage::Reading(position) => Some(position),
            StreamStage::New { .. } => None,
        }
    }

    /// All that are read, with the position to go on from.
    pub(super) fn reading(&self) -> impl Iterator<Item = (&Topic, &str, ReadPosition)> {
        self.by_topic.iter().filter_map(|(topic, stream)| match stream.stage {
            StreamStage::Reading(position) => Some((topic, &*stream.key, position)),
            StreamStage::New { .. } => None,
        })
    }

    /// How many there are, and how many of them are read.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.by_topic.len(), self.reading().count())
    }
}
