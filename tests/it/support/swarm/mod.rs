//! A thousand subscribers on one thread, a steady publisher, and the account that must add up between them.
//!
//! Each subscriber keeps what it was sent, in order ([`Record`]); the publisher keeps what became of each event
//! ([`Truth`]). [`settle`] compares the two: whatever was published is either delivered, once and in order, or missing
//! where a gap was announced. Everything else is a fault.

mod account;
mod client;
mod fleet;
mod payload;
mod publisher;
mod record;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hdrhistogram::Histogram;
use mio::Waker;

pub(crate) use account::{Account, settle, shared_ids};
pub(crate) use payload::Origin;
pub(crate) use publisher::{Outcome, Publisher, Route, Steady, Truth};
pub(crate) use record::{Mark, Record};

use super::wait_until;

/// The protocol of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Server-Sent Events, resumed by `Last-Event-ID`.
    Sse,
    /// `fanfare.v1`, resumed by `since`.
    FanfareV1,
    /// WebSocket without a subprotocol: payloads carry no id, so only a 4408 says where to go on.
    Raw,
}

/// The subscribers and their topics.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The topics' names. Payloads name a topic by its index here.
    pub(crate) topics: Vec<String>,
    /// Each subscriber's protocol, and the indices of its topics.
    pub(crate) subscribers: Vec<(Dialect, Vec<usize>)>,
    /// How long a subscriber waits before it reconnects, unless the hub says otherwise; up to half as much again at random.
    pub(crate) retry: Duration,
    /// The longest wait, whatever the hub says: tests are short.
    pub(crate) retry_max: Duration,
    /// Those with a receive buffer so small that the hub soon notices when they stop reading.
    pub(crate) narrow: Vec<usize>,
    /// The origin of the times in payloads.
    pub(crate) origin: Origin,
}

impl Plan {
    /// `count` subscribers over `topics` topics named `{prefix}.0`, `{prefix}.1` …: of ten, six SSE (one of those to two
    /// topics), three `fanfare.v1`, one raw.
    pub(crate) fn mixed(prefix: &str, count: usize, topics: usize) -> Self {
        let subscribers = (0..count).map(|number| {
            let topic = number / 10 % topics;
            match number % 10 {
                0 => (Dialect::Sse, vec![topic, (topic + 1) % topics]),
                1..6 => (Dialect::Sse, vec![topic]),
                6..9 => (Dialect::FanfareV1, vec![topic]),
                _ => (Dialect::Raw, vec![topic]),
            }
        });
        Self::of(prefix, topics, subscribers.collect())
    }

    /// Subscribers of the caller's choice.
    pub(crate) fn of(prefix: &str, topics: usize, subscribers: Vec<(Dialect, Vec<usize>)>) -> Self {
        Self {
            topics: (0..topics).map(|topic| format!("{prefix}.{topic}")).collect(),
            subscribers,
            retry: Duration::from_millis(200),
            retry_max: Duration::from_secs(1),
            narrow: Vec::new(),
            origin: Origin::now(),
        }
    }
}

/// The subscribers, connected until [`Swarm::finish`].
#[derive(Debug)]
pub(crate) struct Swarm {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<Vec<Record>>>,
    size: usize,
}

/// State that the subscribers' thread shares with the test.
#[derive(Debug, Default)]
struct Shared {
    commands: Mutex<Vec<Command>>,
    /// The last event of each topic that is awaited: see [`Swarm::wait_until_seen`].
    goal: Mutex<HashMap<usize, u32>>,
    open: AtomicUsize,
    /// Subscribers that have not seen the goal.
    behind: AtomicUsize,
    /// Incremented with each check of the goal, so that a waiter knows that its own goal was checked.
    checks: AtomicUsize,
    ended: AtomicBool,
    latency: Mutex<Option<Histogram<u64>>>,
}

#[derive(Debug)]
enum Command {
    Stall(Range<usize>),
    Release,
    Redirect(SocketAddr),
    Cut,
    Finish,
}

impl Swarm {
    /// Connects all subscribers of `plan` to `target`, a `host:port`, and returns once all are open.
    #[track_caller]
    pub(crate) fn open(plan: Plan, target: &str) -> Self {
        let swarm = Self::start(plan, target);
        swarm.wait_until_open(swarm.size);
        swarm
    }

    /// Connects without waiting.
    pub(crate) fn start(plan: Plan, target: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let (size, target) = (plan.subscribers.len(), parse_target(target));
        let (fleet, waker) = fleet::Fleet::new(plan, target, Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("swarm".to_owned()).spawn(move || fleet.run());
        Self { shared, waker, thread: Some(thread.expect("threads are at hand")), size }
    }

    /// How many are open now.
    pub(crate) fn open_count(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Waits until `count` are open.
    #[track_caller]
    pub(crate) fn wait_until_open(&self, count: usize) {
        wait_until(&format!("{count} subscribers are open"), || (self.open_count() == count).then_some(()));
    }

    /// Waits until every subscriber has seen the last published event of each of its topics. Fails with the number of those that
    /// have not.
    #[track_caller]
    pub(crate) fn wait_until_seen(&self, truth: &Truth) {
        *lock(&self.shared.goal) = truth.last_acknowledged();
        let checks = self.shared.checks.load(Ordering::Acquire);
        let deadline = std::time::Instant::now() + super::TIMEOUT;
        // A check may have been in progress when the goal was set.
        while self.shared.checks.load(Ordering::Acquire) < checks + 2 || 0 < self.behind() {
            if deadline < std::time::Instant::now() {
                eprintln!("{} subscribers have not seen the last event of their topics", self.behind());
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn behind(&self) -> usize {
        self.shared.behind.load(Ordering::Acquire)
    }

    /// These stop reading, until [`Swarm::release`].
    pub(crate) fn stall(&self, who: Range<usize>) {
        self.send_command(Command::Stall(who));
    }

    /// All read again.
    pub(crate) fn release(&self) {
        self.send_command(Command::Release);
    }

    /// New connections go to `target`.
    pub(crate) fn redirect(&self, target: &str) {
        self.send_command(Command::Redirect(parse_target(target)));
    }

    /// Ends all connections from the clients' side, without a closing handshake. The subscribers reconnect by themselves.
    pub(crate) fn cut(&self) {
        self.send_command(Command::Cut);
    }

    /// The latencies in µs since the last call, of subscribers that were never stalled.
    pub(crate) fn take_latency(&self) -> Histogram<u64> {
        lock(&self.shared.latency).take().unwrap_or_else(payload::latency_histogram)
    }

    /// Ends all connections and hands over what was seen.
    pub(crate) fn finish(mut self) -> Vec<Record> {
        self.send_command(Command::Finish);
        let thread = self.thread.take().expect("it is taken here only");
        thread.join().expect("the subscribers' thread does not panic")
    }

    fn send_command(&self, send_command: Command) {
        lock(&self.shared.commands).push(send_command);
        self.waker.wake().expect("the poll is open");
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
    }
}

fn parse_target(target: &str) -> SocketAddr {
    target.parse().unwrap_or_else(|error| panic!("{target} should be an address and a port: {error}"))
}

/// No panic can leave the state under these locks inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
