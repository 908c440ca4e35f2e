//! Topics: their histories, who is interested, and publishing.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{
    Archive, Class, Config, Feed, Inbox, LogKind, Note, Outlet, Outlets, PublishRefused, ReactorSet, Wake,
    idempotency::SeenKeys,
    retired::Retired,
    sync::{Mutex, MutexGuard, RwLock, RwLockWriteGuard, Sender},
};
use crate::{
    budget::Budget,
    clock::Moment,
    event::{Event, EventId, Position, Start},
    gap::{Gap, GapReason},
    log::{Policy, Ring},
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
    /// Events were lost behind the hole that is the newest entry, and the next one to be appended must say so.
    pub(super) has_lost: bool,
    /// Somebody was let in before the source had confirmed the topic: what is published until it does is lost on them.
    has_blind: bool,
    /// Taken out of the table: whoever still holds it must look the topic up anew.
    pub(super) retired: bool,
}

/// What a reactor gets when it begins to listen to a topic, or to catch up with it.
#[derive(Debug)]
pub struct Attachment {
    /// The topic.
    pub state: Arc<TopicState>,
    /// All that is retained and the reactor lacks, oldest first.
    pub events: Vec<Arc<Event>>,
    /// The position of the next event: mail begins there.
    pub next: Position,
    /// The id before the oldest event retained: whoever has everything up to it lacks nothing.
    pub floor: EventId,
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
    /// Events a newcomer may ask for: all that the log holds, or none if it keeps no history.
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

/// A part of a topic's history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// What is missing ahead of them, after the id that was asked for.
    pub gap: Option<Gap>,
    /// The id behind which to ask for the rest, if these are not all there is.
    pub next: Option<EventId>,
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
    /// By [`LogKind`].
    watches: [Mutex<Option<InterestWatch>>; LogKind::ALL.len()],
    outlets: Outlets,
    pub(super) seen_keys: SeenKeys,
    next_key: AtomicU64,
    retired: Mutex<Retired>,
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
    /// A bus over the reactors' `inboxes`. Events published here to a topic that has an outlet travel through it and come
    /// back from its source; others are appended at once.
    pub fn new(config: Config, inboxes: Vec<Inbox>, outlets: Outlets) -> Self {
        assert!(inboxes.len() <= super::REACTORS_MAX, "at most {} reactors", super::REACTORS_MAX);
        Self {
            seen_keys: SeenKeys::new(config.idempotency_window, Arc::clone(&config.budget)),
            config,
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: foldhash::fast::RandomState::default(),
            inboxes,
            watches: Default::default(),
            outlets,
            next_key: AtomicU64::new(1),
            retired: Mutex::default(),
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

    /// What logs may hold together.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.config.budget
    }

    /// Who takes publications to `topic` in place of its log here.
    pub fn outlet(&self, topic: &Topic) -> Option<&dyn Outlet> {
        match self.class(topic).log {
            LogKind::Memory => self.outlets.shared.as_deref(),
            LogKind::RedisStream => self.outlets.stream.as_deref(),
        }
    }

    /// Who keeps more of `topic` than its log here.
    pub fn archive(&self, topic: &Topic) -> Option<&dyn Archive> {
        match self.class(topic).log {
            LogKind::Memory => None,
            LogKind::RedisStream => self.outlets.archive.as_deref(),
        }
    }

    /// Whether other hubs may deliver the same events of `topic` under ids of their own.
    pub fn is_told_elsewhere(&self, topic: &Topic) -> bool {
        self.outlet(topic).is_some() && self.archive(topic).is_none()
    }

    /// The class of `topic`.
    pub fn class(&self, topic: &Topic) -> &Class {
        let classes = &self.config.classes;
        let class = classes.iter().find(|(pattern, _)| pattern.matches(topic)).map(|(_, class)| class);
        class.unwrap_or(&self.config.default_class)
    }

    /// Begins a batch of events from a source; when it is dropped each reactor they concern is woken, at most once.
    pub fn feed(&self) -> Feed<'_> {
        Feed::new(self)
    }

    /// Checks what every door must check before it publishes.
    pub fn check(&self, kind: Option<&str>, data: &[u8]) -> Result<(), PublishRefused> {
        if self.config.payload_bytes_max < data.len() {
            return Err(PublishRefused::TooBig);
        }
        if kind.is_some_and(|kind| kind == "gap" || kind.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
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
                self.tell_interest(state.class.log, Interest::Wanted(topic.clone()));
            }
            core.interest.insert(reactor);
            core.resync.remove(reactor);
            let attachment = Attachment::of(&state, &core, 0);
            drop(core);
            return attachment;
        }
    }

    /// A copy of the log of `state` as it is now, for a reactor that is attached and has no readers of it yet.
    pub fn copy(&self, state: &Arc<TopicState>) -> Attachment {
        Attachment::of(state, &lock(&state.core), 0)
    }

    /// `reactor` stops listening to `state`.
    pub fn detach(&self, state: &TopicState, reactor: usize) {
        let mut core = lock(&state.core);
        core.resync.remove(reactor);
        if core.interest.remove(reactor) && core.interest.is_empty() {
            self.tell_interest(state.class.log, Interest::Unwanted(state.topic.clone()));
        }
    }

    /// What `reactor`, which has all events before `next`, lacks of `state`, after its inbox was full. If even that was
    /// too much for the history, the position to go on from is beyond the events.
    pub fn resync(&self, state: &Arc<TopicState>, reactor: usize, next: Position) -> Attachment {
        let mut core = lock(&state.core);
        core.resync.remove(reactor);
        Attachment::of(state, &core, next)
    }

    /// Tells `changes` of every topic of this kind that gains its first or loses its last listener, beginning with those
    /// that have one already. From now on a new topic of the kind is live only when the source says so.
    pub fn watch_interest(&self, kind: LogKind, changes: Sender<Interest>, waker: Arc<dyn Wake>) {
        *lock(&self.watches[kind as usize]) = Some(InterestWatch { changes, waker });
        for state in self.states().into_iter().filter(|state| state.class.log == kind) {
            let mut core = lock(&state.core);
            core.live = false;
            if !core.interest.is_empty() {
                self.tell_interest(kind, Interest::Wanted(state.topic.clone()));
            }
        }
    }

    /// The source begins to load what its broker keeps of `topic`, which nobody reads yet: the log begins anew, empty, as
    /// what follows `floor`.
    pub fn begin_log(&self, topic: &Topic, floor: EventId) {
        lock(&self.state(topic).core).history.restart(floor);
    }

    /// The newest id in the log of `topic`, or where its log begins if there is nothing in it.
    pub fn newest_id(&self, topic: &Topic) -> EventId {
        lock(&self.state(topic).core).history.newest_id()
    }

    /// The source confirmed that it delivers `topic` from now on. If somebody was let in before, what was published
    /// until now is lost on them.
    pub fn mark_live(&self, topic: &Topic, now: Moment) {
        let state = self.state(topic);
        let had_blind = std::mem::take(&mut lock(&state.core).has_blind);
        if had_blind {
            self.feed().report_loss(topic, GapReason::SourceLost, now);
        }
        let mut core = lock(&state.core);
        core.live = true;
        for reactor in core.interest.iter() {
            self.inboxes[reactor].leave_note(Note::Live(state.key));
        }
    }

    /// Whether somebody was let in to `topic` before the source had confirmed it; the caller tells them what they miss, in
    /// place of [`Bus::mark_live`].
    pub fn take_blind(&self, topic: &Topic) -> bool {
        std::mem::take(&mut lock(&self.state(topic).core).has_blind)
    }

    /// A reader is let in to `state` although the source has not confirmed it.
    pub fn let_in_blind(&self, state: &TopicState) {
        let mut core = lock(&state.core);
        core.has_blind = !core.live;
    }

    /// The source does not deliver `topic` at the moment.
    pub fn mark_stale(&self, topic: &Topic) {
        lock(&self.state(topic).core).live = false;
    }

    /// Drops what has grown too old, and topics that nobody uses. Takes its time: not for a reactor's thread.
    pub fn sweep(&self, now: Moment) {
        for state in self.states() {
            let mut core = lock(&state.core);
            core.history.trim(&state.class.retention.within(self.budget()), now);
            if core.has_lost {
                drop(core);
                self.feed().tell_lost(&state.topic, now);
                continue;
            }
            if core.history.is_empty() && core.interest.is_empty() {
                core.retired = true;
                lock(&self.retired).remember(self.hasher.hash_one(&state.topic), core.history.next() - 1);
                drop(core);
                self.write_shard(&state.topic).remove(&state.topic);
            }
        }
        self.seen_keys.sweep(now);
    }

    /// The id of the event that this hub puts at `position`, in whatever topic.
    pub fn id_at(&self, position: Position) -> EventId {
        EventId { major: self.config.epoch, minor: position }
    }

    /// The figures of every topic.
    pub fn summaries(&self, now: Moment) -> Vec<TopicSummary> {
        self.states().iter().map(|state| state.summary(self.budget(), now)).collect()
    }

    /// The topics there are whose names begin with `prefix`, and how many subscriptions each has here. Takes no topic's
    /// lock.
    pub fn topics_under(&self, prefix: &str) -> Vec<(Topic, usize)> {
        let under = self.states().into_iter().filter(|state| state.topic.as_str().starts_with(prefix));
        under.map(|state| (state.topic.clone(), state.listeners.load(Ordering::Relaxed))).collect()
    }

    /// The figures of `topic`, if it exists.
    pub fn summary(&self, topic: &Topic, now: Moment) -> Option<TopicSummary> {
        Some(self.existing(topic)?.summary(self.budget(), now))
    }

    /// The events of `topic` from `start` on, at most `limit`, oldest first; what is missing if the log does not join on to
    /// it: then from the oldest retained on. `None`: there is no such topic.
    pub fn history(&self, topic: &Topic, start: Start, limit: usize, now: Moment) -> Option<HistoryPage> {
        let state = self.existing(topic)?;
        let core = lock(&state.core);
        let history = &core.history;
        let placed = history.place(start, &state.class.retention.history, now);
        let (from, gap) = placed.map_or_else(|gap| (history.oldest(), Some(gap)), |from| (from, None));
        let events: Vec<_> = history.events_from(from).take(limit).cloned().collect();
        let behind = from + events.len() as Position;
        let next = (behind < history.next()).then(|| history.id_before(behind));
        Some(HistoryPage { events, gap, next })
    }

    fn tell_interest(&self, kind: LogKind, interest: Interest) {
        if let Some(watch) = &*lock(&self.watches[kind as usize]) {
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
        let class = self.class(topic);
        let live = lock(&self.watches[class.log as usize]).is_none();
        let mut topics = self.write_shard(topic);
        Arc::clone(topics.entry(topic.clone()).or_insert_with(|| Arc::new(self.new_state(topic, class, live))))
    }

    fn new_state(&self, topic: &Topic, class: &Class, live: bool) -> TopicState {
        let before = lock(&self.retired).last_position(self.hasher.hash_one(topic));
        let history = match class.log {
            LogKind::Memory => Ring::new(before + 1, self.id_at(before)),
            // Where it begins is known once it is loaded.
            LogKind::RedisStream => Ring::sparse(before + 1, EventId::default()),
        };
        TopicState {
            topic: topic.clone(),
            key: TopicKey(self.next_key.fetch_add(1, Ordering::Relaxed)),
            class: class.clone(),
            listeners: AtomicUsize::new(0),
            core: Mutex::new(Core {
                history,
                interest: ReactorSet::default(),
                resync: ReactorSet::default(),
                live,
                has_lost: false,
                has_blind: false,
                retired: false,
            }),
        }
    }
}

impl Core {
    /// A broker's log that is fed without having been loaded begins after `floor`: the topic was given up meanwhile, and
    /// what came before is the broker's to know.
    pub(super) fn begin_at(&mut self, floor: EventId, state: &TopicState) {
        if state.class.log != LogKind::Memory && self.history.newest_id() == EventId::default() {
            self.history.restart(floor);
        }
    }
}

impl Attachment {
    fn of(state: &Arc<TopicState>, core: &Core, from: Position) -> Self {
        Self {
            events: core.history.events_from(from).cloned().collect(),
            next: core.history.next(),
            floor: core.history.floor(),
            live: core.live,
            state: Arc::clone(state),
        }
    }
}

impl TopicState {
    /// The event as it is to stand in the log.
    pub(super) fn event(&self, id: EventId, position: Position, kind: Option<&str>, data: Bytes, now: Moment) -> Event {
        let key = (self.class.policy == Policy::Latest).then(|| event_key(self.class.key.as_deref(), kind, &data));
        Event { key, ..Event::new(self.topic.clone(), id, position, kind, data, now) }
    }

    fn summary(&self, budget: &Budget, now: Moment) -> TopicSummary {
        let mut core = lock(&self.core);
        core.history.trim(&self.class.retention.within(budget), now);
        let oldest = core.history.first_for_newcomers(&self.class.retention.history);
        TopicSummary {
            topic: self.topic.clone(),
            listeners: self.listeners.load(Ordering::Relaxed),
            retained: (core.history.next() - oldest) as usize,
            retained_bytes: core.history.bytes(),
            oldest: core.history.event(oldest).map(|event| event.id),
            newest: core.history.event(core.history.next() - 1).map(|event| event.id),
            class: self.class.clone(),
        }
    }
}

/// What an event stands for: the value at `pointer` in its payload, if it is JSON and has one; else its type.
fn event_key(pointer: Option<&str>, kind: Option<&str>, data: &[u8]) -> Box<str> {
    let value = pointer.and_then(|pointer| {
        let payload: serde_json::Value = serde_json::from_slice(data).ok()?;
        Some(payload.pointer(pointer)?.to_string())
    });
    value.map_or_else(|| kind.unwrap_or_default().into(), Into::into)
}
