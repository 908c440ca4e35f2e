//! What really happened: every topic's events in the order in which the bus, or the broker that keeps the topic, took
//! them, what of it was lost on the way, and what a listener may therefore see.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use fanfare::bus::Bus;
use fanfare_core::{
    clock::Moment,
    event::{Event, EventId},
    gap::Gap,
    log::{Policy, Start},
    topic::Topic,
};

use crate::{plan::SocketDialect, track::Track};

/// One event, or one hole, of a topic's log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: EventId,
    /// Greater than those of all entries before it.
    order: (u64, EventId),
    pub(crate) kind: Option<Box<str>>,
    pub(crate) data: Bytes,
    /// What it stands for where readers that are behind get the newest event of each key.
    pub(crate) key: Option<Box<str>>,
    /// Set if it is a hole that the source reported.
    pub(crate) gap: Option<Gap>,
    /// The source lost something right before it, and nobody was told.
    pub(crate) follows_loss: bool,
    /// The broker has it no more.
    pub(crate) trimmed: bool,
    weight_bytes: usize,
}

/// What the truth must know of a topic's class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    /// A broker keeps its log.
    pub(crate) is_stream: bool,
    /// So many of the newest events are never denied to a reader …
    pub(crate) kept_events: usize,
    /// … unless they weigh more than this.
    pub(crate) kept_bytes: usize,
    /// So many of them the hub loads when somebody begins to listen to a stream.
    pub(crate) history_events: usize,
}

/// All events of all topics. Each carries a tag of its own in its payload, by which it is known again.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) topics: Vec<Topic>,
    pub(crate) rules: Vec<Rules>,
    /// How Socket.IO clients speak.
    pub(crate) dialect: SocketDialect,
    logs: Vec<Vec<Entry>>,
    /// The streams that the broker has had under each topic's key, the first of them at 0: the index of its first entry, and the
    /// id that it has before that.
    lives: Vec<Vec<(usize, EventId)>>,
    /// How many events of each topic every reactor is known to have taken from its inbox.
    taken: Vec<usize>,
    /// How many of a broker's events the hub has read.
    pub(crate) read: Vec<usize>,
    /// Topics of which something was lost since the last event.
    is_lossy: Vec<bool>,
    /// What the ids that the hub gave begin with, by its starts.
    epochs: Vec<u64>,
    by_tag: HashMap<u64, (usize, usize)>,
}

impl Truth {
    pub(crate) fn new(rules: Vec<Rules>, dialect: SocketDialect, epoch: u64) -> Self {
        let count = rules.len();
        Self {
            topics: (0..count).map(topic_name).collect(),
            rules,
            dialect,
            logs: vec![Vec::new(); count],
            lives: vec![vec![(0, FIRST_PLACE)]; count],
            taken: vec![0; count],
            read: vec![0; count],
            is_lossy: vec![false; count],
            epochs: vec![epoch],
            by_tag: HashMap::new(),
        }
    }

    /// All inboxes are empty.
    pub(crate) fn note_taken(&mut self) {
        for (topic, rules) in self.rules.iter().enumerate() {
            self.taken[topic] = if rules.is_stream { self.read[topic] } else { self.logs[topic].len() };
        }
    }

    /// The hub was started anew, or another one took its place.
    pub(crate) fn note_restart(&mut self, epoch: u64) {
        self.epochs.push(epoch);
        self.is_lossy.fill(false);
    }

    /// A subscription that asks now for what comes next. It may get what still lies in its reactor's inbox.
    pub(crate) fn live_track(&self, topic: usize) -> Track {
        Track::live(topic, self.taken[topic])
    }

    /// Copies what the bus has taken since the last call. To be called before its histories can have forgotten it.
    pub(crate) fn copy_from(&mut self, bus: &Bus) {
        for topic in (0..self.topics.len()).filter(|topic| !self.rules[*topic].is_stream).collect::<Vec<_>>() {
            // Of this start: another hub may have given the same ids.
            let last = self.logs[topic].last().filter(|entry| entry.order.0 == self.epochs.len() as u64);
            let start = Start::After(last.map_or_else(EventId::default, |entry| entry.id));
            let page = bus.history(&self.topics[topic], start, usize::MAX, Moment::default());
            for event in page.map_or_else(Vec::new, |page| page.events) {
                self.take_logged(topic, &event);
            }
        }
    }

    fn take_logged(&mut self, topic: usize, event: &Arc<Event>) {
        let follows_loss = std::mem::take(&mut self.is_lossy[topic]) && event.gap.is_none();
        let (kind, data) = (event.kind.clone(), event.data.clone());
        let entry = Entry { follows_loss, gap: event.gap, ..Entry::new(self.rules[topic], event.id, kind, data) };
        self.push(topic, entry);
    }

    /// The broker takes an event of a topic whose log it keeps.
    pub(crate) fn append(&mut self, topic: usize, id: EventId, kind: Option<Box<str>>, data: Bytes) {
        self.push(topic, Entry::new(self.rules[topic], id, kind, data));
    }

    fn push(&mut self, topic: usize, entry: Entry) {
        let entry = Entry { order: self.order_of(topic, entry.id), ..entry };
        let log = &mut self.logs[topic];
        assert!(log.last().is_none_or(|last| last.order < entry.order), "ids go back");
        if entry.gap.is_none() {
            let known = self.by_tag.insert(tag_of(&entry.data), (topic, log.len()));
            assert_eq!(known, None, "published twice");
        }
        log.push(entry);
    }

    /// The broker drops the events of `topic` before `index`.
    pub(crate) fn trim(&mut self, topic: usize, index: usize) {
        self.logs[topic][..index].iter_mut().for_each(|entry| entry.trimmed = true);
    }

    /// The broker's stream of `topic` is replaced by another one, which is empty and has ids after `place`.
    pub(crate) fn replace(&mut self, topic: usize, place: EventId) {
        let len = self.logs[topic].len();
        self.trim(topic, len);
        self.lives[topic].push((len, place));
    }

    /// How often the stream of `topic` was replaced before it had the event of `index`.
    pub(crate) fn life_at(&self, topic: usize, index: usize) -> usize {
        self.lives[topic].partition_point(|(begins, _)| *begins <= index) - 1
    }

    /// Where the stream begins that has, or would have, the event of `index`.
    pub(crate) fn begin_of_life(&self, topic: usize, index: usize) -> usize {
        self.begin_of(topic, self.life_at(topic, index))
    }

    /// Where the stream of `topic` begins before which there were so many others.
    pub(crate) fn begin_of(&self, topic: usize, life: usize) -> usize {
        self.lives[topic][life].0
    }

    /// The id that the stream of `topic` before which there were so many others had while it was empty.
    pub(crate) fn place_of_life(&self, topic: usize, life: usize) -> EventId {
        self.lives[topic][life].1
    }

    /// The greatest id that the streams of `topic` had reached before that one.
    pub(crate) fn newest_before_life(&self, topic: usize, life: usize) -> EventId {
        let entries = self.logs[topic][..self.begin_of(topic, life)].iter().map(|entry| entry.id);
        let places = self.lives[topic][..life].iter().map(|(_, place)| *place);
        entries.chain(places).max().unwrap_or_default()
    }

    /// Where the stream begins that `topic` has now, and how often it was replaced.
    pub(crate) fn life(&self, topic: usize) -> (usize, usize) {
        let lives = &self.lives[topic];
        (lives[lives.len() - 1].0, lives.len() - 1)
    }

    /// The source lost an event of `topic`: whoever listens must be told before the next one comes.
    pub(crate) fn lose(&mut self, topic: usize) {
        self.is_lossy[topic] = true;
    }

    /// How many events of `topic` there have been.
    pub(crate) fn len(&self, topic: usize) -> usize {
        self.logs[topic].len()
    }

    pub(crate) fn log(&self, topic: usize) -> &[Entry] {
        &self.logs[topic]
    }

    pub(crate) fn entry(&self, topic: usize, index: usize) -> &Entry {
        &self.logs[topic][index]
    }

    /// The index behind the event `id`: where a listener begins that has seen it.
    pub(crate) fn index_after(&self, topic: usize, id: EventId) -> usize {
        let order = self.order_of(topic, id);
        self.logs[topic].partition_point(|entry| entry.order <= order)
    }

    /// Where the events of `topic` begin that the hub had which had the one of `index`, if the hub keeps the log. Others may have come
    /// before it.
    fn begin_of_start(&self, topic: usize, index: usize) -> usize {
        let (start, _) = self.logs[topic][index].order;
        self.logs[topic].partition_point(|entry| entry.order.0 < start)
    }

    /// Where all there is began when the event of `index` came: with the first one of its stream, or of its hub.
    pub(crate) fn begin_of_all(&self, topic: usize, index: usize) -> usize {
        if self.rules[topic].is_stream { self.begin_of_life(topic, index) } else { self.begin_of_start(topic, index) }
    }

    /// What orders the entries of a topic: which of the broker's streams had them, or which start of the hub gave the ids.
    fn order_of(&self, topic: usize, id: EventId) -> (u64, EventId) {
        let start = || self.epochs.iter().rposition(|epoch| *epoch == id.major).map_or(0, |start| start as u64 + 1);
        let life = || life_of(id).min(self.lives[topic].len() - 1) as u64;
        (if self.rules[topic].is_stream { life() } else { start() }, id)
    }

    /// The first event that no reader may be denied, however slow it is.
    pub(crate) fn kept_from(&self, topic: usize) -> usize {
        let (Rules { kept_events, kept_bytes, .. }, log) = (self.rules[topic], &self.logs[topic]);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.weight_bytes;
            bytes <= kept_bytes
        };
        log.len() - log.iter().rev().take(kept_events).take_while(fits).count()
    }

    /// Whether `id` is one that the hub, as it was started last, has not given.
    pub(crate) fn is_foreign(&self, topic: usize, id: EventId) -> bool {
        !self.rules[topic].is_stream && self.epochs.last() != Some(&id.major)
    }

    /// Which event has this payload: its topic and index.
    pub(crate) fn find(&self, data: &[u8]) -> (usize, usize) {
        let found = self.by_tag.get(&tag_of(data));
        let (topic, index) = *found.unwrap_or_else(|| panic!("nobody published {:?}", String::from_utf8_lossy(data)));
        assert_eq!(self.logs[topic][index].data, data, "a payload was changed");
        (topic, index)
    }

    /// The topic of this name.
    pub(crate) fn place_of(&self, name: &str) -> usize {
        self.topics.iter().position(|topic| topic.as_str() == name).expect("a topic of ours")
    }

    pub(crate) fn has_tag(&self, tag: u64) -> bool {
        self.by_tag.contains_key(&tag)
    }
}

impl Entry {
    fn new(rules: Rules, id: EventId, kind: Option<Box<str>>, data: Bytes) -> Self {
        let key = (rules.policy == Policy::Latest).then(|| key_of(&data));
        let weight_bytes = size_of::<Event>() + data.len() + kind.as_deref().map_or(0, str::len) + KEY_BYTES;
        Self {
            id,
            order: (0, EventId::default()),
            kind,
            data,
            key: key.flatten(),
            gap: None,
            follows_loss: false,
            trimmed: false,
            weight_bytes,
        }
    }
}

/// More than a key here has.
const KEY_BYTES: usize = 8;

/// The topic of this number.
pub(crate) fn topic_name(index: usize) -> Topic {
    Topic::parse(&format!("topic.{index}")).expect("a good name")
}

/// The ids of a topic's streams overlap, but none is of two of them.
pub(crate) const LIVES_MAX: u64 = 100;
/// The minor parts of a stream's ids are this far apart, and so there is room for those of the others, and before each.
pub(crate) const MINOR_STEP: u64 = 10 * LIVES_MAX;

/// The id that each topic's first stream has before its first entry.
pub(crate) const FIRST_PLACE: EventId = EventId::new(5_000_000, first_minor(0) - 1);

/// The minor part of the first id of a millisecond in the stream that was there after so many others.
pub(crate) const fn first_minor(life: usize) -> u64 {
    10 * life as u64 + 5
}

/// How many streams were there before the one whose id, or place between ids, this is.
pub(crate) fn life_of(id: EventId) -> usize {
    (id.minor % MINOR_STEP / 10) as usize
}

/// Keys that events stand for.
const KEYS: u64 = 4;

/// A payload that is known again by `tag`.
pub(crate) fn payload(tag: u64, padding_bytes: usize) -> String {
    format!("{{\"tag\":{tag},\"key\":{},\"padding\":\"{}\"}}", tag % KEYS, "x".repeat(padding_bytes))
}

fn number_after(data: &[u8], name: &str) -> Option<u64> {
    let rest = std::str::from_utf8(data).ok()?.split_once(name)?.1;
    rest.split([',', '}']).next()?.parse().ok()
}

fn key_of(data: &[u8]) -> Option<Box<str>> {
    number_after(data, "\"key\":").map(|key| key.to_string().into())
}

fn tag_of(data: &[u8]) -> u64 {
    number_after(data, "{\"tag\":")
        .unwrap_or_else(|| panic!("not a payload of ours: {:?}", String::from_utf8_lossy(data)))
}
