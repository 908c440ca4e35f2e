//! One thread: a reactor owns its connections and shares nothing with other reactors but the bus.
//!
//! # The turn
//! Always in this order, once per [`Reactor::turn`]:
//! 1. poll, and read the clock;
//! 2. accept, and what connections have become ready for, each with a budget (a connection that stops early goes on the *again* list);
//! 3. the inbox: events, connections handed over, control messages, resyncs; a slice of the streams whose rights may have changed;
//! 4. timers that are due;
//! 5. lap slices, and a slice of the work of requests that takes more than one turn;
//! 6. flush what has been put into outboxes;
//! 7. free what was closed;
//! 8. counters.

mod accept;
mod beginning;
mod checks;
mod connection;
mod descriptors;
mod ending;
mod engine;
mod fan_out;
mod gaps;
mod inbound;
mod invariants;
mod journal;
mod listen;
mod messages;
mod mio_net;
mod net;
mod opening;
mod origin;
mod pass;
mod placement;
mod readiness;
mod replay;
mod rights;
mod senders;
mod shutdown;
mod signing;
mod slab;
mod state;
mod subscribe;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod wheel;
mod works;

use std::{io, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

pub use descriptors::{DescriptorShares, share_descriptors};
pub use listen::{SocketFile, adopt_tcp, adopt_unix, bind_tcp, bind_unix};
pub use mio_net::{Listener, MioNet, Stream};
pub use net::{Net, Ready, Token};
pub use placement::{Accepted, Arrival, Passed, Placement};

use crate::{
    auth::{ConnectionId, Identity},
    bus::Notifier,
    clock::Moment,
    endpoint::{self, Context, Hub},
    index::Slot,
    metrics::ReactorMetrics,
    protocol::{SessionLimits, proxy::Trusted},
    reload::{LocalCopy, Reloadable},
};
use accept::Acceptor;
use checks::Checks;
use connection::{Admission, Connection};
use ending::Endings;
use engine::Engines;
use fan_out::{FanOut, VisitOutcomes};
use inbound::Intake;
use journal::Journal;
use messages::Resyncs;
use readiness::TurnLists;
use replay::Replays;
use rights::RightsReview;
use senders::Senders;
use shutdown::Shutdown;
use signing::StreamReservations;
use slab::Slab;
use subscribe::GapsOwed;
use table::TopicTable;
use timers::Timers;
use works::Works;

/// Configuration of a reactor.
#[derive(Clone, Debug)]
pub struct Config {
    /// Limits of sessions.
    pub limits: SessionLimits,
    /// Connections the whole hub serves; beyond it requests are refused.
    pub connections_max: usize,
    /// Connections of the admin listeners, which are counted apart.
    pub admin_connections_max: usize,
    /// Connections beyond these that are held at a time until their peers have read why they are refused.
    pub refusals_max: usize,
    /// Connections from one address; zero: no limit.
    pub connections_per_ip_max: usize,
    /// Engine.IO sessions of the whole hub whose clients have entered no namespace; beyond it the oldest goes.
    pub pending_max: usize,
    /// The same for one address; zero: no limit.
    pub pending_per_ip_max: usize,
    /// Proxies whose `X-Forwarded-For` or PROXY header is trusted. They are not counted by address themselves.
    pub trusted: Trusted,
    /// Whether connections from these peers begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Private bytes a peer may leave unread before it is too slow.
    pub outbox_bytes_max: usize,
    /// The longest silence on a Server-Sent Events stream.
    pub heartbeat_interval: Duration,
    /// The longest silence on a WebSocket.
    pub ping_interval: Duration,
    /// How long a WebSocket peer may leave a ping unanswered.
    pub pong_timeout: Duration,
    /// How long the host of a stream's peer may leave sent bytes unacknowledged.
    pub unsent_timeout: Duration,
    /// When a client of a stream that broke may come back; for each a time up to half as long again is chosen.
    pub retry: Duration,
    /// How long a stream's opening waits for the source to confirm its topics.
    pub live_timeout: Duration,
    /// Over how long connections are let go when the hub shuts down.
    pub drain_window: Duration,
    /// How long a connection that ends may stand still before it has taken its last bytes and closed; ten times as long in
    /// all.
    pub linger: Duration,
    /// Listeners from this index on are for administration.
    pub admin_listeners_from: usize,
    /// Whether each answered request is logged.
    pub log_access: bool,
    /// Whether each connection that ends is logged.
    pub log_connections: bool,
    /// Seeds the jitter.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: SessionLimits::default(),
            connections_max: 100_000,
            admin_connections_max: 64,
            refusals_max: 256,
            connections_per_ip_max: 0,
            pending_max: 10_000,
            pending_per_ip_max: 1000,
            trusted: Trusted::default(),
            proxy_protocol: false,
            outbox_bytes_max: 256 * 1024,
            heartbeat_interval: Duration::from_secs(25),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(60),
            unsent_timeout: Duration::from_secs(30),
            retry: Duration::from_secs(2),
            live_timeout: Duration::from_secs(2),
            drain_window: Duration::from_secs(20),
            linger: Duration::from_secs(2),
            admin_listeners_from: usize::MAX,
            log_access: false,
            log_connections: false,
            seed: 0,
        }
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// There may be more.
    Continue,
    /// The hub shuts down and the last connection is gone.
    Finished,
}

/// The longest sleep: `/health` takes a reactor that has not turned for much longer as stuck.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// A thread's worth of connections.
#[derive(Debug)]
pub struct Reactor<N: Net> {
    net: N,
    index: usize,
    hub: Arc<Hub>,
    config: Config,
    /// The configuration that may change while the reactor runs, and this reactor's copy of it.
    live: Option<(Arc<Reloadable<Config>>, LocalCopy<Config>)>,
    /// This reactor's copy of the endpoints' configuration.
    endpoints: LocalCopy<endpoint::Config>,
    metrics: Arc<ReactorMetrics>,
    notifier: Arc<Notifier>,
    placement: Arc<Placement<N::Stream>>,
    random: SmallRng,
    now: Moment,
    connections: Slab<Connection<N::Stream>>,
    /// How many connections came by the listeners for administration.
    admins: usize,
    turn: TurnLists,
    acceptor: Acceptor,
    intake: Intake,
    timers: Timers,
    endings: Endings,
    shutdown: Shutdown,
    topics: TopicTable,
    resyncs: Resyncs,
    fan_out: FanOut,
    outcomes: VisitOutcomes,
    gaps_owed: GapsOwed,
    replays: Replays,
    engines: Engines,
    works: Works,
    checks: Checks,
    review: RightsReview,
    stream_reservations: StreamReservations,
    senders: Senders,
    journal: Journal,
}

/// What requests are answered with: the hub, and the endpoints' configuration as it is now.
struct Shared {
    hub: Arc<Hub>,
    config: LocalCopy<endpoint::Config>,
}

impl<N: Net> Reactor<N> {
    /// A reactor of `hub`, the one of this `index`.
    pub fn new(net: N, index: usize, hub: Arc<Hub>, placement: Arc<Placement<N::Stream>>, config: Config) -> Self {
        let now = net.now();
        Self {
            index,
            metrics: Arc::clone(&hub.metrics.reactors[index]),
            endpoints: hub.config.copy(),
            live: None,
            notifier: Arc::clone(hub.bus.inbox(index).notifier()),
            placement,
            random: SmallRng::seed_from_u64(config.seed.wrapping_add(index as u64)),
            now,
            connections: Slab::with_capacity(config.connections_max.min(65_536) / hub.metrics.reactors.len() + 64),
            admins: 0,
            turn: TurnLists::default(),
            acceptor: Acceptor::default(),
            intake: Intake::default(),
            timers: Timers::new(now),
            endings: Endings::default(),
            shutdown: Shutdown::new(now),
            topics: TopicTable::default(),
            resyncs: Resyncs::default(),
            fan_out: FanOut::default(),
            outcomes: VisitOutcomes::default(),
            gaps_owed: GapsOwed::default(),
            replays: Replays::default(),
            engines: Engines::default(),
            works: Works::default(),
            checks: Checks::default(),
            review: RightsReview::default(),
            stream_reservations: StreamReservations::new(hub.quotas.generation()),
            senders: Senders::default(),
            journal: Journal::default(),
            net,
            hub,
            config,
        }
    }

    /// Follows the configuration in `live` from now on: its versions come into force between two turns. What concerns listeners
    /// and descriptors stays as it was at the start.
    pub fn follow(&mut self, live: Arc<Reloadable<Config>>) {
        let copied = live.copy();
        self.live = Some((live, copied));
    }

    fn take_config(&mut self) {
        self.hub.config.refresh(&mut self.endpoints);
        if let Some((live, copied)) = &mut self.live
            && live.refresh(copied)
        {
            let Config { admin_listeners_from, seed, .. } = self.config;
            self.config = Config { admin_listeners_from, seed, ..Config::clone(&copied.value) };
        }
    }

    /// Turns until the hub has shut down.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? == Flow::Continue {}
        Ok(())
    }

    /// One turn.
    pub fn turn(&mut self) -> io::Result<Flow> {
        self.poll()?;
        self.take_config();
        let began = self.now;
        self.accept_waiting();
        self.take_readiness();
        self.take_inbox();
        self.review_some();
        self.drain_some();
        self.claim_some();
        self.run_timers();
        self.run_sessions();
        self.run_laps();
        self.run_works();
        self.serve_polled();
        self.flush_dirty();
        self.end_broken();
        self.free_closed();
        self.metrics.set_lagging(self.outcomes.blocked());
        self.now = self.net.now();
        self.metrics.on_turn(began, self.now);
        self.cut_off();
        Ok(if self.has_finished() { Flow::Finished } else { Flow::Continue })
    }

    /// Sleeps until there is something to do. Between the announcement of sleep and the sleep every queue is looked at
    /// once more, so no notification is missed.
    fn poll(&mut self) -> io::Result<()> {
        let mut timeout = self.sleep_time();
        if timeout != Duration::ZERO {
            self.notifier.prepare_park();
            let has_events = !self.hub.bus.inbox(self.index).is_empty() || !self.placement.is_empty(self.index);
            if has_events || self.must_stop() || self.must_review() {
                timeout = Duration::ZERO;
            }
        }
        let outcome = self.net.poll(Some(timeout), self.turn.begin());
        self.notifier.unpark();
        self.now = self.net.now();
        outcome
    }

    /// How long until some part of the reactor goes on by itself.
    fn sleep_time(&self) -> Duration {
        let is_busy = self.turn.has_more()
            || self.outcomes.has_more()
            || self.works.has_ready()
            || self.checks.has_ready()
            || self.stream_reservations.is_under_way()
            || self.review.is_under_way()
            || self.resyncs.is_under_way();
        if is_busy {
            return Duration::ZERO;
        }
        let waits = [
            self.timers.next_wait(self.now),
            self.acceptor.next_wait(self.now),
            self.shutdown.next_wait(self.now),
            self.fan_out.next_wait(self.now),
            self.engines.next_wait(self.now),
        ];
        waits.into_iter().flatten().fold(SLEEP_MAX, Duration::min)
    }

    fn must_stop(&self) -> bool {
        self.shutdown.phase() < self.hub.phase()
    }

    /// What the connection at `slot` is called among all that the hub has had.
    fn connection_id(&self, slot: Slot) -> ConnectionId {
        ConnectionId { reactor: self.index, token: self.connections.token(slot).pack() }
    }

    /// What requests are answered with, held apart from the reactor, which may change meanwhile.
    fn shared(&self) -> Shared {
        Shared { hub: Arc::clone(&self.hub), config: self.endpoints.clone() }
    }

    fn context<'hub>(
        &self,
        shared: &'hub Shared,
        slot: Slot,
        Admission { admin, overload }: Admission,
        identity: Option<&'hub Identity>,
    ) -> Context<'hub> {
        let (hub, config) = (&*shared.hub, &*shared.config.value);
        let token = self.connections.token(slot).pack();
        let peer = self.connections.peek(slot).and_then(|connection| connection.peer);
        let peer = peer.filter(|peer| !self.config.trusted.contains(Some(*peer)));
        Context {
            hub,
            config,
            reactor: self.index,
            token,
            now: self.now,
            admin,
            overload,
            identity,
            peer,
            audited: None,
        }
    }

    fn retry_ms(&mut self) -> u64 {
        let spread = self.config.retry.mul_f64(self.random.random_range(0.0..0.5));
        u64::try_from((self.config.retry + spread).as_millis()).unwrap_or(u64::MAX)
    }
}
