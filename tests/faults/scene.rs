//! What every test here begins and ends with.

use std::{
    env,
    sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    OnDrop,
    hub::Hub,
    swarm::{Account, Dialect, Mark, Plan, Publisher, Record, Route, Steady, Swarm, settle, shared_ids},
    wait_until,
};

/// How many subscribe, in all tests but those that say otherwise.
pub(crate) const SUBSCRIBERS: usize = 1000;

/// Over so many topics. Ten events a second and topic make 10,000 deliveries a second.
const TOPICS: usize = 10;

const EVENTS_PER_SECOND: u32 = 100;

/// Settings with which a hub finds out soon, and comes back soon.
pub(crate) const HASTY: [(&str, &str); 5] = [
    ("redis.backoff_min", "20ms"),
    ("redis.backoff_max", "200ms"),
    ("redis.publish_timeout", "1s"),
    ("server.reactors", "2"),
    ("sse.retry", "200ms"),
];

/// How long a server stands still: long enough to be noticed with the ping times of these tests.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(3);
pub(crate) const STANDSTILL_IN_FULL: Duration = Duration::from_secs(10);

/// Subscribers and a publisher at work.
pub(crate) struct Scene {
    pub(crate) swarm: Swarm,
    pub(crate) publisher: Publisher,
}

/// What is left of it.
pub(crate) struct Outcome {
    pub(crate) account: Account,
    pub(crate) records: Vec<Record>,
}

impl Scene {
    /// Many subscribers of the hub, and a publisher by `route` whose first events have come.
    #[track_caller]
    pub(crate) fn begin(prefix: &str, hub: &Hub, route: Route) -> Self {
        Self::with(Plan::mixed(prefix, SUBSCRIBERS, TOPICS), hub, route, 0)
    }

    /// With subscribers of the test's own choice.
    #[track_caller]
    pub(crate) fn with(plan: Plan, hub: &Hub, route: Route, padding_bytes: usize) -> Self {
        fanfare_platform::os::raise_descriptor_limit().expect("a process may use what it is given");
        let steady = Steady {
            topics: plan.topics.clone(),
            events_per_second: EVENTS_PER_SECOND,
            padding_bytes,
            origin: plan.origin,
        };
        let swarm = Swarm::open(plan, hub.address());
        let publisher = Publisher::start(steady, route);
        publisher.wait_for_more(EVENTS_PER_SECOND);
        Self { swarm, publisher }
    }

    /// Lets the publisher go on for a while, publishes the last events, waits for all to have seen them, and settles.
    #[track_caller]
    pub(crate) fn end(self) -> Outcome {
        self.publisher.wait_for_more(EVENTS_PER_SECOND / 2);
        let truth = self.publisher.finish();
        self.swarm.wait_until_seen(&truth);
        let records = self.swarm.finish();
        let account = settle(&truth, &records);
        eprintln!("{account}");
        account.must_add_up();
        assert_eq!(truth.unhelpful, 0, "each 503 says when to come back");
        Outcome { account, records }
    }
}

impl Outcome {
    /// No two events have the same id.
    #[track_caller]
    pub(crate) fn ids_must_differ(&self) {
        let shared = shared_ids(&self.records);
        assert!(shared.is_empty(), "ids of more than one event: {shared:?}");
    }

    /// Every subscriber was told of exactly one gap on each of its topics, for `reason`.
    #[track_caller]
    pub(crate) fn all_are_told_once(&self, reason: &str) {
        let account = &self.account;
        let subscriptions: usize = self.records.iter().map(|record| record.topics.len()).sum();
        assert_eq!(account.notified, account.subscribers as u64, "{account}");
        assert_eq!((account.gaps_of(reason), account.gaps.len()), (subscriptions as u64, 1), "{account}");
    }

    /// After all were away: each subscription that knows its place is told of one gap, for `reason`. Raw WebSockets know
    /// none, and begin anew.
    #[track_caller]
    pub(crate) fn all_who_know_their_place_are_told_once(&self, reason: &str) {
        let account = &self.account;
        let (raw, knowing): (Vec<_>, Vec<_>) = self.records.iter().partition(|record| record.dialect == Dialect::Raw);
        let subscriptions: usize = knowing.iter().map(|record| record.topics.len()).sum();
        assert_eq!(account.notified, knowing.len() as u64, "{account}");
        assert_eq!((account.gaps_of(reason), account.gaps.len()), (subscriptions as u64, 1), "{account}");
        let is_fresh = |record: &&Record| record.topics.iter().any(|(_, marks)| marks.contains(&Mark::Fresh));
        assert!(raw.iter().all(is_fresh) && !knowing.iter().any(is_fresh), "{account}");
    }
}

/// A fault's length: short in CI, in full with `FANFARE_FAULTS=long`.
pub(crate) fn length(short: Duration, full: Duration) -> Duration {
    if in_full() { full } else { short }
}

/// Whether faults have their full length.
pub(crate) fn in_full() -> bool {
    env::var("FANFARE_FAULTS").is_ok_and(|value| value == "long")
}

/// Lets a fault last: here, and only here, time itself is what is waited for.
pub(crate) fn let_pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Tests that measure have the machine to themselves; the others share it.
static MACHINE: RwLock<()> = RwLock::new(());

/// How many share it: no more than it has processors, however many tests run at once. A scene's readers must keep up.
static SHARERS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A part of the machine.
pub(crate) struct Shared {
    _machine: RwLockReadGuard<'static, ()>,
    _place: OnDrop<fn()>,
}

/// Held by a test that measures nothing.
pub(crate) fn share_the_machine() -> Shared {
    let (sharers, left) = &SHARERS;
    let most = thread::available_parallelism().map_or(1, usize::from);
    let lock = sharers.lock().unwrap_or_else(PoisonError::into_inner);
    *left.wait_while(lock, |sharers| most <= *sharers).unwrap_or_else(PoisonError::into_inner) += 1;
    let leave: fn() = || {
        *SHARERS.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        SHARERS.1.notify_one();
    };
    Shared { _place: OnDrop(leave), _machine: MACHINE.read().unwrap_or_else(PoisonError::into_inner) }
}

/// Held by a test that measures.
pub(crate) fn own_the_machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the hub proves that it delivers.
#[track_caller]
pub(crate) fn wait_until_ready(hub: &Hub) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

/// Waits until the hub says that it cannot deliver.
#[track_caller]
pub(crate) fn wait_until_not_ready(hub: &Hub) {
    wait_until("the hub is not ready", || (hub.get("/ready").status == 503).then_some(()));
}

/// No gap, and all events; only raw WebSockets, who know no ids, begin anew when they come back.
#[track_caller]
pub(crate) fn nothing_is_missing(outcome: &Outcome) {
    let account = &outcome.account;
    assert_eq!((account.gaps.len(), account.announced), (0, 0), "{account}");
    let begins_anew = |marks: &[Mark]| marks.contains(&Mark::Fresh);
    for record in outcome.records.iter().filter(|record| record.dialect != Dialect::Raw) {
        assert!(record.topics.iter().all(|(_, marks)| !begins_anew(marks)), "{record}");
    }
}
