//! The bus itself: all topics, all inboxes, and the checks of publications.

use std::{
    convert::Infallible,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{
    Class, Config, Feed, Follower, HubCommands, Inbox, LogKind, PublishRefused, ReactorSet, SourcePort,
    follower::Followed,
    hub_commands::LOSSES,
    idempotency::IdempotencyKeys,
    retired::RetiredPositions,
    sources::AttachedSource,
    sync::{Mutex, MutexGuard},
    table::TopicMap,
    topic::{TopicKey, TopicLog, TopicState},
};
use crate::{
    budget::{Budget, Charge, ChargeRefused},
    clock::Moment,
    event::{EventId, Position},
    fingerprint::Sequence,
    log::Ring,
    share::{Owner, QuotaReservation},
    topic::{Pattern, Topic},
};

/// The weight of a topic without events, besides its name, in bytes: its state, its slots in both tables, and the allocator's
/// part. 597 were counted with a name of 13 bytes (`tests/allocations`).
const TOPIC_BYTES: usize = 608;

/// The default class, and the other classes with their patterns.
type Classes = (Class, Vec<(Pattern, Class)>);

/// All topics and all inboxes.
#[derive(Debug)]
pub struct Bus {
    pub(super) config: Config,
    pub(super) topics: TopicMap,
    pub(super) inboxes: Vec<Inbox>,
    pub(super) sources: Vec<AttachedSource>,
    pub(super) follower: Option<Follower>,
    hub_commands: Mutex<Vec<Arc<dyn HubCommands>>>,
    /// The classes in force, which a reload may change.
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

/// Locks `mutex`. Ignores poisoning, because a panic ends the process (`panic = "abort"`).
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// A bus with the reactors' `inboxes` and these sources. A publication to a topic whose source has an event sink goes out
    /// through the sink and comes back from the source; any other is appended at once.
    pub fn new(config: Config, inboxes: Vec<Inbox>, sources: Vec<SourcePort>) -> Self {
        assert!(inboxes.len() <= super::REACTORS_MAX, "at most {} reactors", super::REACTORS_MAX);
        Self {
            classes: Mutex::new(Arc::new((config.default_class.clone(), config.classes.clone()))),
            idempotency_keys: IdempotencyKeys::new(config.idempotency_window, Arc::clone(&config.budget)),
            config,
            topics: TopicMap::default(),
            inboxes,
            sources: sources.into_iter().map(AttachedSource::new).collect(),
            follower: None,
            hub_commands: Mutex::new(Vec::new()),
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

    /// Events accepted since the start, from all sources.
    pub fn received_total(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The size of all topics' logs, in bytes.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// The number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Events accepted since the start whose type some transport reserves. That transport shows them as `message`.
    pub(crate) fn reserved_kinds_total(&self) -> u64 {
        self.reserved_kinds.load(Ordering::Relaxed)
    }

    /// How often a source reported that events of a topic may be missing.
    pub(crate) fn losses_total(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// How often an inbox was full and a topic had to be copied.
    pub(crate) fn resyncs_total(&self) -> u64 {
        self.resyncs.load(Ordering::Relaxed)
    }

    /// How often a sleeping reactor was woken for events.
    pub(crate) fn wakeups_total(&self) -> u64 {
        self.wakeups.load(Ordering::Relaxed)
    }

    /// The memory budget.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.config.budget
    }

    /// Adds what executes some hub commands. Commands that nothing executes are dropped.
    pub(crate) fn add_hub_commands(&self, commands: Arc<dyn HubCommands>) {
        lock(&self.hub_commands).push(commands);
    }

    pub(super) fn take_hub_command(&self, topic: &Topic, kind: Option<&str>, data: Bytes, now: Moment) {
        if topic.as_str() == LOSSES {
            return self.take_losses(&data, now);
        }
        // Executed without the lock.
        let all = lock(&self.hub_commands).clone();
        for commands in all {
            commands.take(topic, kind, data.clone(), self, now);
        }
    }

    /// Makes `data` the shared part of the payloads of many events. The memory budget, and the share of `owner`, are charged
    /// once, until the last of these events is dropped.
    pub fn share(&self, data: Bytes, owner: Option<&Arc<Owner>>) -> Result<Bytes, PublishRefused> {
        let charge = self.budget().try_charge_for(owner, data.len())?;
        Ok(Bytes::from_owner(SharedPayload { data, _charge: charge }))
    }

    /// Who keeps the log of `topic`. Constant while the hub runs.
    pub(crate) fn log_kind(&self, topic: &Topic) -> LogKind {
        self.first_class(topic).log
    }

    /// The class that `topic` had when the hub started. A reload changes neither its source nor who keeps its log.
    pub(super) fn first_class(&self, topic: &Topic) -> &Class {
        class_in(&self.config.default_class, &self.config.classes, topic)
    }

    /// The class that `topic` has, or would get if it were made now.
    pub fn class(&self, topic: &Topic) -> Class {
        let classes = Arc::clone(&lock(&self.classes));
        class_in(&classes.0, &classes.1, topic).clone()
    }

    /// Replaces the classes of topics made from now on; existing topics keep theirs until they end. All logs, before and after,
    /// must be in memory.
    pub(crate) fn replace_classes(&self, default: Class, classes: Vec<(Pattern, Class)>) {
        debug_assert!(classes.iter().all(|(_, class)| class.log == LogKind::Memory), "a broker's logs cannot move");
        *lock(&self.classes) = Arc::new((default, classes));
    }

    /// Begins a batch of events. When it is dropped, each reactor that got events is woken, once at most.
    pub fn feed(&self) -> Feed<'_> {
        Feed::new(self)
    }

    /// The checks that every publication must pass. Types that the hub reserves ([`crate::event::RESERVED_KINDS`]) pass: the
    /// native API refuses them, but in a log they do no harm.
    pub fn check(&self, kind: Option<&str>, data: &[u8]) -> Result<(), PublishRefused> {
        if self.config.payload_bytes_max < data.len() {
            return Err(PublishRefused::TooBig);
        }
        if kind.is_some_and(|kind| kind.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
            return Err(PublishRefused::BadKind);
        }
        simdutf8::basic::from_utf8(data).map(drop).map_err(|_| PublishRefused::NotUtf8)
    }

    /// The id that this hub gives to the event at `position`, in any topic.
    pub(crate) fn id_at(&self, position: Position) -> EventId {
        EventId::new(self.config.epoch, position)
    }

    /// Whether the topic exists.
    pub(super) fn has_topic(&self, topic: &Topic) -> bool {
        self.topics.find(topic).is_some()
    }

    /// Whether the topic exists that was called `key`.
    pub(crate) fn has_topic_of(&self, key: TopicKey, topic: &Topic) -> bool {
        self.topics.find(topic).is_some_and(|state| state.key == key)
    }

    /// The topic, made if it does not exist.
    pub(super) fn state(&self, topic: &Topic) -> Arc<TopicState> {
        match self.find_or_make(topic, |bytes| Ok::<_, Infallible>((self.budget().charge(bytes), None))) {
            Ok(state) => state,
            Err(never) => match never {},
        }
    }

    /// The topic, made for `owner` if it does not exist and there is room.
    pub(super) fn try_state(
        &self,
        topic: &Topic,
        owner: Option<&Arc<Owner>>,
    ) -> Result<Arc<TopicState>, ChargeRefused> {
        self.find_or_make(topic, |bytes| {
            if self.budget().is_spent() {
                return Err(ChargeRefused::NoRoom);
            }
            let reservation = owner.map(QuotaReservation::topic).transpose().map_err(ChargeRefused::Quota)?;
            Ok((self.budget().try_charge_for(owner, bytes)?, reservation))
        })
    }

    fn find_or_make<E>(
        &self,
        topic: &Topic,
        charge: impl FnOnce(usize) -> Result<(Charge, Option<QuotaReservation>), E>,
    ) -> Result<Arc<TopicState>, E> {
        if let Some(state) = self.topics.find(topic) {
            return Ok(state);
        }
        let class = &self.class(topic);
        let live = !self.has_interest_watch(class);
        self.topics.find_or_insert(topic, || {
            let (charge, reservation) = charge(TOPIC_BYTES + topic.as_str().len())?;
            Ok(TopicState { _charge: charge, _reservation: reservation, ..self.new_state(topic, class, live) })
        })
    }

    fn new_state(&self, topic: &Topic, class: &Class, live: bool) -> TopicState {
        let before = lock(&self.retired_positions).last_position(self.topics.hash(topic));
        let history = match class.log {
            LogKind::Memory => Ring::new(before + 1, self.id_at(before)),
            // The source sets where the log begins, once it has loaded it.
            LogKind::Broker => Ring::sparse(before + 1, EventId::default()),
        };
        TopicState {
            topic: topic.clone(),
            key: TopicKey(self.next_key.fetch_add(1, Ordering::Relaxed)),
            class: class.clone(),
            subscriber_count: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            log: Mutex::new(TopicLog {
                history,
                interest: ReactorSet::default(),
                resync: ReactorSet::default(),
                followed: self.follower.as_ref().map_or_else(Followed::default, |follower| follower.begin(topic)),
                live,
                has_pending_loss: false,
                has_unconfirmed: false,
                sequence: Sequence::default(),
                retired: false,
                counted_bytes: 0,
            }),
            _charge: Charge::default(),
            _reservation: None,
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
