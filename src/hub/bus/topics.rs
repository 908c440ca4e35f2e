//! The bus itself: all topics, all inboxes, and the checks that every publication passes.

use std::{
    convert::Infallible,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{
    Class, Config, Feed, HubCommands, Inbox, LogKind, PublishRefused, ReactorSet, SourcePort,
    idempotency::IdempotencyKeys,
    retired::RetiredPositions,
    sources::AttachedSource,
    sync::{Mutex, MutexGuard},
    table::TopicTable,
    topic::{Core, TopicKey, TopicState},
};
use crate::{
    budget::{Budget, Charge, ChargeRefused},
    clock::Moment,
    event::{EventId, Position},
    log::Ring,
    share::{Hold, Owner},
    topic::{Pattern, Topic},
};

/// What a topic without events is taken to weigh besides its name, in bytes: its state, its places in both tables, and the
/// allocator's part. 469 were counted, with a name of 13 (`tests/allocations`).
const TOPIC_BYTES: usize = 512;

/// The default class, and the others with the topics that they are for.
type Classes = (Class, Vec<(Pattern, Class)>);

/// All topics and all inboxes.
#[derive(Debug)]
pub struct Bus {
    pub(super) config: Config,
    pub(super) topics: TopicTable,
    pub(super) inboxes: Vec<Inbox>,
    pub(super) sources: Vec<AttachedSource>,
    orders: Mutex<Option<Arc<dyn HubCommands>>>,
    /// The default class and the listed ones, as they are by now.
    classes: Mutex<Arc<Classes>>,
    pub(super) idempotency_keys: IdempotencyKeys,
    next_key: AtomicU64,
    pub(super) retired_positions: Mutex<RetiredPositions>,
    pub(super) received: AtomicU64,
    pub(super) log_bytes: AtomicUsize,
    pub(super) losses: AtomicU64,
    pub(super) reserved_kinds: AtomicU64,
    pub(super) resyncs: AtomicU64,
    pub(super) wakeups: AtomicU64,
}

/// The first of `classes` whose pattern matches `topic`, or `default`.
fn class_in<'c>(default: &'c Class, classes: &'c [(Pattern, Class)], topic: &Topic) -> &'c Class {
    classes.iter().find(|(pattern, _)| pattern.matches(topic)).map_or(default, |(_, class)| class)
}

/// Locks; a thread that panicked while it held the lock brings the process down by itself (`panic = "abort"`).
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// A bus over the reactors' `inboxes`, with these sources. Events published here to a topic whose source has an event sink
    /// travel through it and come back from the source; others are appended at once.
    pub fn new(config: Config, inboxes: Vec<Inbox>, sources: Vec<SourcePort>) -> Self {
        assert!(inboxes.len() <= super::REACTORS_MAX, "at most {} reactors", super::REACTORS_MAX);
        Self {
            classes: Mutex::new(Arc::new((config.default_class.clone(), config.classes.clone()))),
            idempotency_keys: IdempotencyKeys::new(config.idempotency_window, Arc::clone(&config.budget)),
            config,
            topics: TopicTable::default(),
            inboxes,
            sources: sources.into_iter().map(AttachedSource::new).collect(),
            orders: Mutex::new(None),
            next_key: AtomicU64::new(1),
            retired_positions: Mutex::default(),
            received: AtomicU64::new(0),
            log_bytes: AtomicUsize::new(0),
            losses: AtomicU64::new(0),
            reserved_kinds: AtomicU64::new(0),
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

    /// What all topics retain together, in bytes.
    pub fn log_bytes(&self) -> usize {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Events whose type is a word of some transport's own, and which are shown as `message` there.
    pub fn reserved_kinds_total(&self) -> u64 {
        self.reserved_kinds.load(Ordering::Relaxed)
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

    /// Sets what executes hub commands. Until then they are dropped.
    pub(crate) fn set_hub_commands(&self, orders: Arc<dyn HubCommands>) {
        *lock(&self.orders) = Some(orders);
    }

    pub(super) fn take_hub_command(&self, topic: &Topic, kind: Option<&str>, data: Bytes, now: Moment) {
        let orders = lock(&self.orders).clone();
        if let Some(orders) = orders {
            orders.take(topic, kind, data, self, now);
        }
    }

    /// `data` as the shared part of many events' payloads: the memory budget is charged for it once, until the last of them
    /// is let go, and so is the share of `owner`.
    pub fn share(&self, data: Bytes, owner: Option<&Arc<Owner>>) -> Result<Bytes, PublishRefused> {
        let charge = self.budget().try_charge_for(owner, data.len())?;
        Ok(Bytes::from_owner(SharedPayload { data, _charge: charge }))
    }

    /// Who keeps the log of `topic`. Constant while the hub runs.
    pub fn log_kind(&self, topic: &Topic) -> LogKind {
        self.first_class(topic).log
    }

    /// The class that `topic` had when the hub started: a reload changes neither its source nor who keeps its log.
    pub(super) fn first_class(&self, topic: &Topic) -> &Class {
        class_in(&self.config.default_class, &self.config.classes, topic)
    }

    /// The class that `topic` has, or would have if it came into being now.
    pub fn class(&self, topic: &Topic) -> Class {
        let classes = Arc::clone(&lock(&self.classes));
        class_in(&classes.0, &classes.1, topic).clone()
    }

    /// From now on topics that come into being have the first of `classes` whose pattern matches, or `default`. Those that there
    /// are keep theirs until they retire. All of them, before and after, must keep their logs in memory.
    pub fn replace_classes(&self, default: Class, classes: Vec<(Pattern, Class)>) {
        debug_assert!(classes.iter().all(|(_, class)| class.log == LogKind::Memory), "a broker's logs cannot move");
        *lock(&self.classes) = Arc::new((default, classes));
    }

    /// Begins a batch of events from a source; when it is dropped each reactor they concern is woken, at most once.
    pub fn feed(&self) -> Feed<'_> {
        Feed::new(self)
    }

    /// Checks what every door must check before it publishes. Types that are the hub's own words are the native doors' to refuse
    /// ([`crate::event::RESERVED_KINDS`]): in a log they do no harm.
    pub fn check(&self, kind: Option<&str>, data: &[u8]) -> Result<(), PublishRefused> {
        if self.config.payload_bytes_max < data.len() {
            return Err(PublishRefused::TooBig);
        }
        if kind.is_some_and(|kind| kind.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
            return Err(PublishRefused::BadKind);
        }
        simdutf8::basic::from_utf8(data).map(drop).map_err(|_| PublishRefused::NotUtf8)
    }

    /// The id of the event that this hub puts at `position`, in whatever topic.
    pub fn id_at(&self, position: Position) -> EventId {
        EventId { major: self.config.epoch, minor: position }
    }

    /// Whether there is such a topic.
    pub(super) fn has_topic(&self, topic: &Topic) -> bool {
        self.topics.find(topic).is_some()
    }

    /// The topic, made if need be.
    pub(super) fn state(&self, topic: &Topic) -> Arc<TopicState> {
        match self.find_or_make(topic, |bytes| Ok::<_, Infallible>((self.budget().charge(bytes), None))) {
            Ok(state) => state,
            Err(never) => match never {},
        }
    }

    /// The topic, made for `owner` if need be and if there is room for it.
    pub(super) fn try_state(
        &self,
        topic: &Topic,
        owner: Option<&Arc<Owner>>,
    ) -> Result<Arc<TopicState>, ChargeRefused> {
        self.find_or_make(topic, |bytes| {
            if self.budget().is_spent() {
                return Err(ChargeRefused::NoRoom);
            }
            let hold = owner.map(Hold::topic).transpose().map_err(ChargeRefused::Quota)?;
            Ok((self.budget().try_charge_for(owner, bytes)?, hold))
        })
    }

    fn find_or_make<E>(
        &self,
        topic: &Topic,
        charge: impl FnOnce(usize) -> Result<(Charge, Option<Hold>), E>,
    ) -> Result<Arc<TopicState>, E> {
        if let Some(state) = self.topics.find(topic) {
            return Ok(state);
        }
        let class = &self.class(topic);
        let live = !self.has_interest_watch(class);
        self.topics.find_or_insert(topic, || {
            let (charge, hold) = charge(TOPIC_BYTES + topic.as_str().len())?;
            Ok(TopicState { _charge: charge, _hold: hold, ..self.new_state(topic, class, live) })
        })
    }

    fn new_state(&self, topic: &Topic, class: &Class, live: bool) -> TopicState {
        let before = lock(&self.retired_positions).last_position(self.topics.hash(topic));
        let history = match class.log {
            LogKind::Memory => Ring::new(before + 1, self.id_at(before)),
            // Where it begins is known once it is loaded.
            LogKind::Broker => Ring::sparse(before + 1, EventId::default()),
        };
        TopicState {
            topic: topic.clone(),
            key: TopicKey(self.next_key.fetch_add(1, Ordering::Relaxed)),
            class: class.clone(),
            subscriber_count: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            core: Mutex::new(Core {
                history,
                interest: ReactorSet::default(),
                resync: ReactorSet::default(),
                live,
                has_pending_loss: false,
                has_unconfirmed: false,
                retired: false,
                counted_bytes: 0,
            }),
            _charge: Charge::default(),
            _hold: None,
        }
    }
}

/// The owner of a payload that events share.
struct SharedPayload {
    data: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for SharedPayload {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
