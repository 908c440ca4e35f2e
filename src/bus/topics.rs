//! Topics: their histories, who is interested, and publishing.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Class, Config, Feed, Inbox, Note, Outlet, Publication, PublishRefused, ReactorSet, Wake,
    sync::{Mutex, MutexGuard, Sender},
};
use crate::{
    clock::Moment,
    event::{Event, EventId, Position},
    log::{Ring, Start},
    topic::Topic,
};

/// The number reactors know a topic by. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey(pub u64);

/// A topic, as all reactors share it.
#[derive(Debug)]
pub struct TopicState {
    /// Its name.
    pub topic: Topic,
    /// Its number.
    pub key: TopicKey,
    /// What it retains, and its policy.
    pub class: Class,
    /// How many subscriptions it has, over all reactors.
    pub listeners: AtomicUsize,
    pub(super) core: Mutex<Core>,
}

/// What the topic's lock guards.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) history: Ring,
    pub(super) interest: ReactorSet,
    /// Reactors whose inbox was full: they get no mail of this topic until they have copied the history.
    pub(super) resync: ReactorSet,
    /// Whether events published at the source arrive here.
    live: bool,
    /// Taken out of the table: whoever still holds it must look the topic up anew.
    pub(super) retired: bool,
}

/// What a reactor gets when it begins to listen to a topic.
#[derive(Debug)]
pub struct Attachment {
    /// The topic.
    pub state: Arc<TopicState>,
    /// All that is retained, oldest first.
    pub events: Vec<Arc<Event>>,
    /// The position of the next event: mail begins there.
    pub next: Position,
    /// Whether the source already delivers it; if not, [`Note::Live`] follows.
    pub live: bool,
}

/// What a source is told about topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// It has its first listener.
    Wanted(Topic),
    /// Its last listener left.
    Unwanted(Topic),
}

/// A topic's figures, for whoever asks from outside.
#[derive(Clone, Debug)]
pub struct TopicSummary {
    /// Its name.
    pub topic: Topic,
    /// Subscriptions over all reactors.
    pub listeners: usize,
    /// Events a newcomer may ask for.
    pub retained: usize,
    /// What the log weighs, in bytes, with what is kept for those who are behind.
    pub retained_bytes: usize,
    /// The id of the oldest event a newcomer may ask for.
    pub oldest: Option<EventId>,
    /// The newest retained event's id.
    pub newest: Option<EventId>,
    /// Its class.
    pub class: Class,
}

#[derive(Debug)]
struct InterestWatch {
    changes: Sender<Interest>,
    waker: Arc<dyn Wake>,
}

/// How many parts the table of topics has.
const SHARDS: usize = 64;

type Shard = HashMap<Topic, Arc<TopicState>, foldhash::fast::RandomState>;

/// All topics and all inboxes.
#[derive(Debug)]
pub struct Bus {
    pub(super) config: Config,
    /// In shards, so that a look at all topics never keeps others from theirs for long.
    shards: [RwLock<Shard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    pub(super) inboxes: Vec<Inbox>,
    watch: Mutex<Option<InterestWatch>>,
    outlet: Option<Box<dyn Outlet>>,
    next_key: AtomicU64,
    /// No topic that was retired had a minor id above this: a topic that comes back continues from here, so that an id
    /// never names two events.
    minor_floor: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) losses: AtomicU64,
    pub(super) resyncs: AtomicU64,
    pub(super) wakeups: AtomicU64,
}

/// Locks; a thread that panicked while it held the lock brings the process down by itself (`panic = "abort"`).
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// A bus over the reactors' `inboxes`. With an `outlet`, events published here travel through it and come back from
    /// its source; without, they are appended at once.
    pub fn new(config: Config, inboxes: Vec<Inbox>, outlet: Option<Box<dyn Outlet>>) -> Self {
        assert!(inboxes.len() <= super::REACTORS_MAX, "at most {} reactors", super::REACTORS_MAX);
        Self {
            config,
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: foldhash::fast::RandomState::default(),
            inboxes,
            watch: Mutex::new(None),
            outlet,
            next_key: AtomicU64::new(1),
            minor_floor: AtomicU64::new(0),
            received: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            resyncs: AtomicU64::new(0),
            wakeups: AtomicU64::new(0),
        }
    }

    /// The inbox of `reactor`.
    pub fn inbox(&self, reactor: usize) -> &Inbox {
        &self.inboxes[reactor]
    }

    /// Events accepted from all sources.
    pub fn received_total(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Times a source said that events of a topic may be missing.
    pub fn losses_total(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Times an inbox was full and a topic was resynchronised.
    pub fn resyncs_total(&self) -> u64 {
        self.resyncs.load(Ordering::Relaxed)
    }

    /// Times a sleeping reactor was woken for events.
    pub fn wakeups_total(&self) -> u64 {
        self.wakeups.load(Ordering::Relaxed)
    }

    /// Whether publications go through a shared source instead of straight into the history.
    pub fn has_outlet(&self) -> bool {
        self.outlet.is_some()
    }

    /// Begins a batch of events from a source; when it is dropped each reactor they concern is woken, at most once.
    pub fn feed(&self) -> Feed<'_> {
        Feed::new(self)
    }

    /// Hands `publication` to the shared source. Without one, appends it at once.
    pub fn publish(&self, publication: Publication) {
        if let Some(outlet) = &self.outlet {
            outlet.publish(publication);
        }
    }

    /// Checks what every door must check before it publishes.
    pub fn check(&self, kind: Option<&str>, data: &[u8]) -> Result<(), PublishRefused> {
        if self.config.payload_bytes_max < data.len() {
            return Err(PublishRefused::TooBig);
        }
        if kind.is_some_and(|kind| kind.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
            return Err(PublishRefused::BadKind);
        }
        simdutf8::basic::from_utf8(data).map(drop).map_err(|_| PublishRefused::NotUtf8)
    }

    /// `reactor` begins to listen to `topic`: registers its interest and copies the history in one step, so that there
    /// is neither gap nor duplicate between the two.
    pub fn attach(&self, topic: &Topic, reactor: usize) -> Attachment {
        loop {
            let state = self.state(topic);
            let mut core = lock(&state.core);
            if core.retired {
                continue;
            }
            if core.interest.is_empty() {
                self.tell_interest(Interest::Wanted(topic.clone()));
            }
            core.interest.insert(reactor);
            core.resync.remove(reactor);
            let attachment = Attachment {
                events: core.history.events_from(0).cloned().collect(),
                next: core.history.next(),
                live: core.live,
                state: Arc::clone(&state),
            };
            drop(core);
            return attachment;
        }
    }

    /// `reactor` stops listening to `state`.
    pub fn detach(&self, state: &TopicState, reactor: usize) {
        let mut core = lock(&state.core);
        core.resync.remove(reactor);
        if core.interest.remove(reactor) && core.interest.is_empty() {
            self.tell_interest(Interest::Unwanted(state.topic.clone()));
        }
    }

    /// What `reactor`, which has all events before `next`, lacks of `state`, after its inbox was full.
    pub fn resync(&self, state: &TopicState, reactor: usize, next: Position) -> Vec<Arc<Event>> {
        let mut core = lock(&state.core);
        core.resync.remove(reactor);
        core.history.events_from(next).cloned().collect()
    }

    /// Tells `changes` of every topic that gains its first or loses its last listener, beginning with those that have
    /// one already. From now on a new topic is live only when the source says so.
    pub fn watch_interest(&self, changes: Sender<Interest>, waker: Arc<dyn Wake>) {
        *lock(&self.watch) = Some(InterestWatch { changes, waker });
        for state in self.states() {
            let mut core = lock(&state.core);
            core.live = false;
            if !core.interest.is_empty() {
                self.tell_interest(Interest::Wanted(state.topic.clone()));
            }
        }
    }

    /// The source confirmed that it delivers `topic` from now on.
    pub fn mark_live(&self, topic: &Topic) {
        let state = self.state(topic);
        let mut core = lock(&state.core);
        core.live = true;
        for reactor in core.interest.iter() {
            self.inboxes[reactor].leave_note(Note::Live(state.key));
        }
    }

    /// The source does not deliver `topic` at the moment.
    pub fn mark_stale(&self, topic: &Topic) {
        lock(&self.state(topic).core).live = false;
    }

    /// Drops what has grown too old, and topics that nobody uses. Takes its time: not for a reactor's thread.
    pub fn sweep(&self, now: Moment) {
        for state in self.states() {
            let mut core = lock(&state.core);
            core.history.trim(&state.class.retention, now);
            if core.history.is_empty() && core.interest.is_empty() {
                core.retired = true;
                self.minor_floor.fetch_max(core.history.next() - 1, Ordering::Relaxed);
                drop(core);
                self.write_shard(&state.topic).remove(&state.topic);
            }
        }
    }

    /// The id of the event that this hub puts at `position`, in whatever topic.
    pub fn id_at(&self, position: Position) -> EventId {
        EventId { major: self.config.epoch_ms, minor: position }
    }

    /// The figures of every topic.
    pub fn summaries(&self, now: Moment) -> Vec<TopicSummary> {
        self.states().iter().map(|state| state.summary(now)).collect()
    }

    /// The figures of `topic`, if it exists.
    pub fn summary(&self, topic: &Topic, now: Moment) -> Option<TopicSummary> {
        Some(self.existing(topic)?.summary(now))
    }

    /// The events of `topic` from `start` on, at most `limit`, oldest first.
    pub fn history(&self, topic: &Topic, start: Start, limit: usize, now: Moment) -> Option<Vec<Arc<Event>>> {
        let state = self.existing(topic)?;
        let core = lock(&state.core);
        let from = core.history.place(start, &state.class.retention.history, now);
        Some(core.history.events_from(from).take(limit).cloned().collect())
    }

    fn tell_interest(&self, interest: Interest) {
        if let Some(watch) = &*lock(&self.watch) {
            // A source that has stopped no longer cares.
            let _ = watch.changes.send(interest);
            watch.waker.wake();
        }
    }

    fn existing(&self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.shard(topic).read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn states(&self) -> Vec<Arc<TopicState>> {
        let copy = |shard: &RwLock<Shard>| {
            shard.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(copy).collect()
    }

    fn shard(&self, topic: &Topic) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one(topic) as usize % SHARDS]
    }

    fn write_shard(&self, topic: &Topic) -> RwLockWriteGuard<'_, Shard> {
        self.shard(topic).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic, made if need be.
    pub(super) fn state(&self, topic: &Topic) -> Arc<TopicState> {
        if let Some(state) = self.existing(topic) {
            return state;
        }
        let live = lock(&self.watch).is_none();
        let mut topics = self.write_shard(topic);
        Arc::clone(topics.entry(topic.clone()).or_insert_with(|| Arc::new(self.new_state(topic, live))))
    }

    fn new_state(&self, topic: &Topic, live: bool) -> TopicState {
        let classes = &self.config.classes;
        let class = classes.iter().find(|(pattern, _)| pattern.matches(topic)).map(|(_, class)| *class);
        TopicState {
            topic: topic.clone(),
            key: TopicKey(self.next_key.fetch_add(1, Ordering::Relaxed)),
            class: class.unwrap_or(self.config.default_class),
            listeners: AtomicUsize::new(0),
            core: Mutex::new(Core {
                history: Ring::new(self.minor_floor.load(Ordering::Relaxed) + 1),
                interest: ReactorSet::default(),
                resync: ReactorSet::default(),
                live,
                retired: false,
            }),
        }
    }
}

impl TopicState {
    fn summary(&self, now: Moment) -> TopicSummary {
        let core = lock(&self.core);
        let oldest = core.history.history_from(&self.class.retention.history, now);
        TopicSummary {
            topic: self.topic.clone(),
            listeners: self.listeners.load(Ordering::Relaxed),
            retained: (core.history.next() - oldest) as usize,
            retained_bytes: core.history.bytes(),
            oldest: core.history.event(oldest).map(|event| event.id),
            newest: core.history.event(core.history.next() - 1).map(|event| event.id),
            class: self.class,
        }
    }
}
