//! The topics a reactor has listeners for: its own copy of each log, and who listens.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::value::RawValue;

use super::net::Token;
use crate::{
    bus::{Attachment, LogKind, TopicKey, TopicState},
    clock::Moment,
    event::{Event, Position},
    log::{Lap, Ring, Start},
    topic::Topic,
};

/// A topic on this reactor.
#[derive(Debug)]
pub(super) struct LocalTopic {
    pub(super) state: Arc<TopicState>,
    /// The same events at the same positions as in the shared history.
    pub(super) ring: Ring,
    pub(super) lap: Lap,
    /// Whether it stands in a run queue or rests.
    pub(super) queued: bool,
    /// Whether events have come that the round under way does not bring to everybody.
    pub(super) news: bool,
    /// The head when the round under way began: it brings everybody up to here, at least.
    pub(super) round_head: Position,
    /// What the round has taken so far.
    pub(super) spent: Duration,
    /// No round begins before.
    pub(super) rest_until: Moment,
    /// Whether the source has confirmed it.
    pub(super) live: bool,
    /// Every listener that could be served has been served up to here.
    pub(super) completed: Position,
    /// Who waits for it to become live.
    pub(super) waiting: Vec<Waiter>,
}

/// A connection that waits for a topic to become live.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) token: Token,
    pub(super) since: Moment,
    /// A `subscribe` command to be carried out then; without one, the whole connection is held back.
    pub(super) command: Option<(Start, Option<Box<RawValue>>)>,
}

impl LocalTopic {
    fn new(attachment: Attachment) -> Self {
        let Attachment { state, events, next, floor, live } = attachment;
        let from = next - events.len() as Position;
        let mut ring = match state.class.log {
            LogKind::Memory => Ring::new(from, floor),
            LogKind::RedisStream => Ring::sparse(from, floor),
        };
        events.into_iter().for_each(|event| ring.push(event));
        let head = ring.next();
        Self {
            state,
            ring,
            lap: Lap::new(),
            queued: false,
            news: false,
            round_head: head,
            spent: Duration::ZERO,
            rest_until: Moment::default(),
            live,
            completed: head,
            waiting: Vec::new(),
        }
    }

    /// Takes `event`, unless a resync has brought it already. True if it is news.
    pub(super) fn take(&mut self, event: Arc<Event>, now: Moment) -> bool {
        if event.position < self.ring.next() {
            return false;
        }
        self.ring.push(event);
        self.ring.trim(&self.state.class.retention, now);
        true
    }
}

/// All topics with listeners here. A topic keeps its place while it has any.
#[derive(Debug, Default)]
pub(super) struct TopicTable {
    places: Vec<Option<LocalTopic>>,
    free: Vec<u32>,
    by_name: HashMap<Topic, u32, foldhash::fast::RandomState>,
    by_key: HashMap<TopicKey, u32, foldhash::fast::RandomState>,
}

impl TopicTable {
    #[inline]
    pub(super) fn at(&mut self, place: u32) -> Option<&mut LocalTopic> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn place_of(&self, topic: &Topic) -> Option<u32> {
        self.by_name.get(topic).copied()
    }

    #[inline]
    pub(super) fn place_of_key(&self, key: TopicKey) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// Every topic, with its place.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &LocalTopic)> {
        self.places.iter().enumerate().filter_map(|(place, topic)| Some((place as u32, topic.as_ref()?)))
    }

    /// Takes in a topic that the bus has just attached.
    pub(super) fn insert(&mut self, attachment: Attachment) -> u32 {
        let (topic, key) = (attachment.state.topic.clone(), attachment.state.key);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        self.places[place as usize] = Some(LocalTopic::new(attachment));
        self.by_name.insert(topic, place);
        self.by_key.insert(key, place);
        place
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<LocalTopic> {
        let topic = self.places.get_mut(place as usize)?.take()?;
        self.by_name.remove(&topic.state.topic);
        self.by_key.remove(&topic.state.key);
        self.free.push(place);
        Some(topic)
    }

    /// Looks at the topics from place `from` on, [`SWEEP_SLICE`] of them: drops what has grown too old. Returns those that
    /// somebody has waited for longer than `patience` or that nobody wants any more, and where to go on, if anywhere.
    pub(super) fn sweep(&mut self, from: usize, now: Moment, patience: Duration) -> (Vec<u32>, Option<usize>) {
        let mut notable = Vec::new();
        let until = self.places.len().min(from + SWEEP_SLICE);
        for place in from..until {
            let Some(topic) = &mut self.places[place] else { continue };
            topic.ring.trim(&topic.state.class.retention, now);
            let waited = topic.waiting.first().map(|waiter| now.since(waiter.since));
            if waited.map_or(topic.lap.is_empty(), |waited| patience < waited) {
                notable.push(place as u32);
            }
        }
        (notable, (until < self.places.len()).then_some(until))
    }
}

/// Topics looked at in one turn.
const SWEEP_SLICE: usize = 1024;
