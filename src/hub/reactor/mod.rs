//! One thread: a reactor owns its connections and shares nothing with other reactors but the bus.
//!
//! # The turn
//! Always in this order, once per [`Reactor::turn`]:
//! 1. poll, and read the clock;
//! 2. accept, and what connections have become ready for, each with a budget (who stops early goes on the *again* list);
//! 3. the inbox: events, connections handed over, control messages, resyncs; a slice of the streams whose rights may have changed;
//! 4. timers that are due;
//! 5. lap slices, and a slice of the work of requests that takes more than one turn;
//! 6. flush what has been put into outboxes;
//! 7. free what was closed;
//! 8. counters.

mod accept;
mod checks;
mod connection;
mod deliver;
mod descriptors;
mod ending;
mod engine;
mod frame_batch;
mod gaps;
mod group;
mod inbound;
mod invariants;
mod journal;
mod listen;
mod merged_batch;
mod messages;
mod mio_net;
mod net;
mod opening;
mod origin;
mod pass;
mod placement;
mod replay;
mod rights;
mod rounds;
mod run_queue;
mod senders;
mod signing;
mod slab;
mod state;
mod subscribe;
mod table;
mod timers;
mod visit;
mod wheel;
mod works;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

pub use descriptors::{DescriptorShares, share_descriptors};
pub use listen::{SocketFile, bind_tcp, bind_unix};
pub use mio_net::{Listener, MioNet, Stream};
pub use net::{Net, Ready, Token};
pub use placement::{Accepted, Arrival, Passed, Placement};

use crate::{
    auth::{ConnectionId, Identity},
    bus::{Notifier, TopicState},
    clock::Moment,
    close::Close,
    endpoint::{self, Context, Hub, Phase},
    gap::Gap,
    index::{GroupIndex, Slot, TopicIndex},
    metrics::ReactorMetrics,
    protocol::{Ask, SessionLimits, proxy::Trusted},
    reload::{LocalCopy, Reloadable},
    share::{ByteHold, Hold},
};
use accept::LastAccepts;
use checks::Checks;
use connection::{Admission, Connection};
use ending::Linger;
use engine::Engines;
use frame_batch::FrameBatchCache;
use gaps::Lagged;
use group::Groups;
use journal::Journal;
use replay::Replays;
use rights::RightsReview;
use run_queue::RunQueue;
use slab::Slab;
use table::TopicTable;
use wheel::Wheel;
use works::Works;

/// What a reactor is told by the configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What sessions are bounded by.
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
    /// Peers that are believed when they say for whom they connect. They are not counted by address themselves.
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
    /// How long the machine of a stream's peer may leave unacknowledged what it is sent.
    pub unsent_timeout: Duration,
    /// When a client of a stream that broke may come back; each is told a time up to half as long again.
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
/// For how long, in each turn, connections are read that the poll has just told of. The rest goes on in the next.
const FRESH_TIME: Duration = Duration::from_millis(1);
/// For how long, in each turn, those go on that stopped early.
const AGAIN_TIME: Duration = Duration::from_micros(500);
/// Bytes taken per read. One buffer per reactor: an idle connection owns none.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A thread's worth of connections.
#[derive(Debug)]
pub struct Reactor<N: Net> {
    net: N,
    index: usize,
    hub: Arc<Hub>,
    config: Config,
    /// What is to be followed of the configuration, and this reactor's copy of it.
    live: Option<(Arc<Reloadable<Config>>, LocalCopy<Config>)>,
    /// This reactor's copy of what endpoints are told.
    endpoints: LocalCopy<endpoint::Config>,
    metrics: Arc<ReactorMetrics>,
    notifier: Arc<Notifier>,
    placement: Arc<Placement<N::Stream>>,
    random: SmallRng,
    now: Moment,
    connections: Slab<Connection<N::Stream>>,
    topics: TopicTable,
    wheel: Wheel,
    /// Topics whose lap has just become due, and those whose lap is under way.
    fresh: RunQueue,
    /// Topics with news whose last round was long, and until when they rest. Few at a time: such rounds take a part of the longest
    /// rest, and each carries a bounded number of topics.
    cooling_down: Vec<(Moment, TopicIndex)>,
    ongoing: RunQueue,
    frame_batches: FrameBatchCache,
    groups: Groups,
    /// Listeners that may have more to accept, and when to try one again that had no descriptors left.
    accept_again: Vec<usize>,
    accept_retry: Option<Moment>,
    /// Set while the hub shuts down and the listeners are not closed yet.
    last_accepts: Option<LastAccepts>,
    /// Connections beyond the limit, in the order in which they came. Some may be gone already.
    refused: VecDeque<Token>,
    /// Connections that stopped early, in the order in which they go on.
    read_again: VecDeque<Token>,
    write_again: Vec<Slot>,
    dirty: Vec<Slot>,
    /// Connections found broken or fallen while something else was borrowed: to be ended in the same turn.
    to_end: Vec<(Slot, Close)>,
    stranded: Vec<Lagged>,
    /// Gaps that connections are told of once they are open.
    gaps_owed: Vec<(Slot, TopicIndex, Gap)>,
    replays: Replays,
    review: RightsReview,
    engines: Engines,
    works: Works,
    checks: Checks,
    journal: Journal,
    /// What streams hold of their tenants' `connections`, where a quota bounds them.
    holds: HashMap<Slot, Hold, foldhash::fast::RandomState>,
    /// The request that brings what a session is about to take, while it does.
    post: Option<Slot>,
    /// What peers hold of their shares with what they have not finished, by slot. Few connections have any.
    senders: HashMap<Slot, ByteHold, foldhash::fast::RandomState>,
    to_free: Vec<Slot>,
    /// Connections that take long to take their last bytes.
    farewells: HashMap<Slot, Linger, foldhash::fast::RandomState>,
    /// How many connections wait for their peer to read.
    blocked: usize,
    /// When the last sweep over the topics began, and where the one under way goes on.
    swept: Moment,
    sweep_from: Option<usize>,
    /// Topics of which events did not fit, and that are yet to be copied.
    to_resync: Vec<Arc<TopicState>>,
    phase: Phase,
    /// Connections that are yet to be told of the phase.
    to_drain: Vec<Slot>,
    /// Which rules of quotas streams were claimed by last, and the connections yet to be looked at since.
    quota_generation: u64,
    to_claim: Vec<Slot>,
    /// How many connections came by the listeners for administration.
    admins: usize,
    /// When the last stream is to have ended, once the hub drains.
    drain_ends: Moment,
    /// When those who are still there in the last phases are cut off.
    cut_off_at: Option<Moment>,
    /// Whether some were, in this phase.
    has_cut_off: bool,
    // Used within one call each, kept to spare the allocation.
    ready: Vec<Ready>,
    several: Vec<(Slot, GroupIndex)>,
    asks: Vec<Ask>,
    due: Vec<Slot>,
    read_buffer: Vec<u8>,
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
            topics: TopicTable::default(),
            wheel: Wheel::new(now),
            fresh: RunQueue::default(),
            cooling_down: Vec::new(),
            ongoing: RunQueue::default(),
            frame_batches: FrameBatchCache::default(),
            groups: Groups::default(),
            accept_again: Vec::new(),
            accept_retry: None,
            last_accepts: None,
            refused: VecDeque::new(),
            read_again: VecDeque::new(),
            write_again: Vec::new(),
            dirty: Vec::new(),
            to_end: Vec::new(),
            stranded: Vec::new(),
            gaps_owed: Vec::new(),
            replays: Replays::default(),
            review: RightsReview::default(),
            engines: Engines::default(),
            works: Works::default(),
            checks: Checks::default(),
            journal: Journal::default(),
            holds: HashMap::default(),
            post: None,
            senders: HashMap::default(),
            to_free: Vec::new(),
            farewells: HashMap::default(),
            blocked: 0,
            swept: now,
            sweep_from: None,
            to_resync: Vec::new(),
            phase: Phase::Serving,
            to_drain: Vec::new(),
            quota_generation: hub.quotas.generation(),
            to_claim: Vec::new(),
            admins: 0,
            drain_ends: now,
            cut_off_at: None,
            has_cut_off: false,
            ready: Vec::new(),
            several: Vec::new(),
            asks: Vec::new(),
            due: Vec::new(),
            read_buffer: vec![0; READ_BUFFER_BYTES],
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
        self.metrics.set_lagging(self.blocked);
        self.now = self.net.now();
        self.metrics.on_turn(began, self.now);
        self.cut_off();
        Ok(if self.has_finished() { Flow::Finished } else { Flow::Continue })
    }

    /// Sleeps until there is something to do. Between the announcement of sleep and the sleep every queue is looked at
    /// once more, so no ring of the notifier is missed.
    fn poll(&mut self) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let mut timeout = self.sleep_time();
        if timeout != Duration::ZERO {
            self.notifier.prepare_park();
            let has_events = !self.hub.bus.inbox(self.index).is_empty() || !self.placement.is_empty(self.index);
            if has_events || self.must_stop() || self.must_review() {
                timeout = Duration::ZERO;
            }
        }
        let outcome = self.net.poll(Some(timeout), &mut ready);
        self.notifier.unpark();
        self.now = self.net.now();
        self.ready = ready;
        outcome
    }

    fn sleep_time(&self) -> Duration {
        let busy = !self.fresh.is_empty()
            || !self.ongoing.is_empty()
            || !self.accept_again.is_empty()
            || self.last_accepts.is_some()
            || !self.read_again.is_empty()
            || !self.write_again.is_empty()
            || self.works.has_ready()
            || self.checks.has_ready()
            || !self.to_drain.is_empty()
            || !self.to_claim.is_empty()
            || self.review.is_under_way()
            || !self.to_resync.is_empty()
            || self.sweep_from.is_some();
        if busy {
            return Duration::ZERO;
        }
        let timer = self.wheel.next_wait(self.now).unwrap_or(SLEEP_MAX);
        let accept = self.accept_retry.map_or(SLEEP_MAX, |retry| retry.since(self.now));
        let cut_off = self.cut_off_at.map_or(SLEEP_MAX, |at| at.since(self.now));
        let cooldown = self.next_cooldown().unwrap_or(SLEEP_MAX);
        let session = self.engines.next_wait(self.now).unwrap_or(SLEEP_MAX);
        timer.min(accept).min(cut_off).min(cooldown).min(session).min(SLEEP_MAX)
    }

    /// Connections become ready for more: first those the poll tells of, so that whoever asks little is served at once, then
    /// those that stopped early, in turn and for [`AGAIN_TIME`] together. Who has more than a turn's worth, or is over its quota,
    /// thus has a part of each turn and never the whole of it, through however many connections it comes.
    fn take_readiness(&mut self) {
        for slot in std::mem::take(&mut self.write_again) {
            self.flush(slot);
        }
        // Who stops early from here on has had its part of this turn.
        let waiting = self.read_again.len();
        let ready = std::mem::take(&mut self.ready);
        let deadline = self.net.now() + FRESH_TIME;
        for event in &ready {
            if let Ready::Connection { token, readable, writable, ending } = *event
                && self.connections.named(token).is_some()
            {
                if writable {
                    self.unblock(token.slot);
                }
                if readable || ending {
                    self.read_fresh(token, ending, deadline);
                }
            }
        }
        self.ready = ready;
        let deadline = self.net.now() + AGAIN_TIME;
        for _ in 0..waiting {
            let Some(token) = self.read_again.pop_front() else { return };
            if let Some(connection) = self.connections.named(token) {
                connection.state.clear(state::READ_AGAIN);
                self.continue_reading(token.slot);
            }
            if deadline <= self.net.now() {
                return;
            }
        }
    }

    /// The poll has told of something to read.
    fn read_fresh(&mut self, token: Token, ending: bool, deadline: Moment) {
        let Some(connection) = self.connections.named(token) else { return };
        let state = connection.state;
        if state.has(state::READ_AGAIN) {
            // It is on its way, and the end, if it waits, is found there.
        } else if state.has(state::OVER_QUOTA) || deadline <= self.net.now() {
            self.read_later(token.slot);
        } else {
            self.read(token.slot, ending);
        }
    }

    /// The connection goes on in its turn: no edge will tell of what it has left.
    fn read_later(&mut self, slot: Slot) {
        let token = self.connections.token(slot);
        if let Some(connection) = self.connections.at(slot)
            && !connection.state.has(state::READ_AGAIN)
        {
            connection.state.set(state::READ_AGAIN);
            self.read_again.push_back(token);
        }
    }

    /// The peer has made room.
    fn unblock(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.at(slot)
            && connection.state.has(state::BLOCKED)
        {
            connection.state.clear(state::BLOCKED);
            self.blocked -= 1;
            self.flush(slot);
        }
    }

    fn flush_dirty(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            if let Some(connection) = self.connections.at(slot) {
                connection.state.clear(state::DIRTY);
                self.flush(slot);
            }
        }
    }

    /// Puts the connection on the list of those to be flushed before the reactor sleeps.
    fn mark_dirty(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.at(slot)
            && !connection.state.has(state::DIRTY)
        {
            connection.state.set(state::DIRTY);
            self.dirty.push(slot);
        }
    }

    fn must_stop(&self) -> bool {
        self.phase < self.hub.phase()
    }

    /// What the connection at `slot` is called among all that the hub has had.
    fn connection_id(&self, slot: Slot) -> ConnectionId {
        ConnectionId { reactor: self.index, token: self.connections.token(slot).pack() }
    }

    fn context<'hub>(
        &self,
        (hub, config): (&'hub Hub, &'hub endpoint::Config),
        slot: Slot,
        Admission { admin, overload }: Admission,
        identity: Option<&'hub Identity>,
    ) -> Context<'hub> {
        let token = self.connections.token(slot).pack();
        let peer = self.connections.peek(slot).and_then(|connection| connection.peer);
        let peer = peer.filter(|peer| !self.config.trusted.contains(Some(*peer)));
        Context { hub, config, reactor: self.index, token, now: self.now, admin, overload, identity, peer }
    }

    fn retry_ms(&mut self) -> u64 {
        let spread = self.config.retry.mul_f64(self.random.random_range(0.0..0.5));
        u64::try_from((self.config.retry + spread).as_millis()).unwrap_or(u64::MAX)
    }
}
