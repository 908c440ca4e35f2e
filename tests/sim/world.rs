//! A whole hub in one thread: reactors that take turns at random, clients, a source, and the truth they are held against.

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use fanfare::{
    bus::{self, Bus, Class, Doorbell, Inbox, Outlet, Outlets, Wake},
    clock::{Clock, Moment},
    endpoint::{self, Cors, Hub, Phase},
    log::{Bounds, Retention},
    metrics::{Metrics, ReactorMetrics},
    protocol::{Limits, RateLimit},
    reactor::{Config, Flow, Placement, Reactor},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    client::{Client, Fate, Speech},
    net::{ASLEEP, Port, SharedWire, SimClock, SimNet, SimStream, Weather},
    source::{Confirmer, SimOutlet},
    truth::Truth,
};

/// What differs from seed to seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) reactors: usize,
    pub(crate) topics: usize,
    /// Clients at once.
    pub(crate) clients_max: usize,
    pub(crate) inbox_events_max: usize,
    /// Events retained for newcomers; as many are never denied to a reader that is behind.
    pub(crate) history_events: usize,
    pub(crate) lag_events: usize,
    /// Events grow too old within the simulated time.
    pub(crate) ages: bool,
    /// Publications travel through a source.
    pub(crate) outlet: bool,
    /// Topics are confirmed by a source.
    pub(crate) confirms: bool,
    /// How long a closing connection may take to take its last bytes.
    pub(crate) linger: Duration,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_ip_max: usize,
    pub(crate) weather: Weather,
}

impl Plan {
    pub(crate) fn choose(random: &mut SmallRng) -> Self {
        let pick = |random: &mut SmallRng, from: &[usize]| from[random.random_range(0..from.len())];
        // Now and then so many at one place that a lap takes several slices.
        let is_crowded = random.random_range(0..12) == 0;
        Self {
            reactors: if is_crowded { 1 } else { random.random_range(1..=3) },
            topics: if is_crowded { 1 } else { random.random_range(1..=4) },
            clients_max: if is_crowded { 100 } else { 24 },
            inbox_events_max: pick(random, &[1, 2, 8, 64, 10_000]),
            history_events: pick(random, &[20, 50, 200]),
            lag_events: pick(random, &[0, 40, 1000]),
            ages: random.random_range(0..8) == 0,
            outlet: random.random_range(0..3) == 0,
            confirms: random.random_range(0..3) == 0,
            linger: Duration::from_secs(pick(random, &[2, 10_000]) as u64),
            connections_max: pick(random, &[3, 1000, 1000, 1000]),
            connections_per_ip_max: pick(random, &[0, 0, 0, 4]),
            weather: Weather {
                short_write_odds: pick(random, &[0, 3, 20]) as u32,
                drift: Duration::from_micros(pick(random, &[0, 20, 400]) as u64),
            },
        }
    }

    /// How many of the newest events are certainly retained.
    pub(crate) fn retained(&self) -> usize {
        if self.ages { 0 } else { self.history_events }
    }

    /// Whether last bytes may be lost to a reader that takes its time.
    fn cuts_off(&self) -> bool {
        self.linger < Duration::from_secs(10)
    }

    /// Whether newcomers may be refused.
    fn refuses(&self) -> bool {
        self.connections_max < 1000 || 0 < self.connections_per_ip_max
    }

    fn class(&self) -> Class {
        let age = Duration::from_secs(if self.ages { 4 } else { 1_000_000 });
        let bounds = |count| Bounds { count, bytes: 1 << 30, age };
        Class {
            retention: Retention { history: bounds(self.history_events), lag: bounds(self.lag_events) },
            ..Class::default()
        }
    }

    fn reactor_config(&self, seed: u64) -> Config {
        let rate = RateLimit { messages_per_second: 1_000_000, ..RateLimit::default() };
        Config {
            limits: Limits { rate, ..Limits::default() },
            linger: self.linger,
            connections_max: self.connections_max,
            connections_per_ip_max: self.connections_per_ip_max,
            heartbeat_interval: HEARTBEAT,
            ping_interval: Duration::from_secs(2),
            // Clients here stand still for as long as they like.
            pong_timeout: Duration::MAX,
            admin_listeners_from: 1,
            seed,
            ..Config::default()
        }
    }
}

/// The longest silence on a stream.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Listeners of each reactor.
const LISTENERS: usize = 2;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: SmallRng,
    pub(crate) clock: SimClock,
    pub(crate) hub: Arc<Hub>,
    pub(crate) ports: Vec<Rc<RefCell<Port>>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) truth: Truth,
    pub(crate) outlet: Option<SimOutlet>,
    pub(crate) confirmer: Option<Confirmer>,
    pub(crate) next_tag: u64,
    reactors: Vec<Option<Reactor<SimNet>>>,
    placement: Arc<Placement<SimStream>>,
}

impl World {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let clock = SimClock::default();
        clock.advance(Duration::from_secs(1));
        let ports: Vec<_> = (0..plan.reactors).map(|_| Port::new(LISTENERS)).collect();
        let doorbells: Vec<_> = ports
            .iter()
            .map(|port| Arc::new(Doorbell::new(Arc::clone(&port.borrow().bell) as Arc<dyn Wake>)))
            .collect();
        let outlet = plan.outlet.then(SimOutlet::default);
        let hub = build_hub(&plan, &doorbells, outlet.clone());
        let placement = Arc::new(Placement::new(doorbells.iter().cloned()));
        let reactors = ports.iter().enumerate().map(|(index, port)| {
            let own = SmallRng::seed_from_u64(random.random());
            let net = SimNet::new(Rc::clone(port), clock.clone(), own, plan.weather);
            Some(Reactor::new(net, index, Arc::clone(&hub), Arc::clone(&placement), plan.reactor_config(seed)))
        });
        Self {
            reactors: reactors.collect(),
            truth: Truth::new(plan.topics),
            confirmer: plan.confirms.then(|| Confirmer::watch(&hub.bus)),
            clients: Vec::new(),
            next_tag: 1,
            plan,
            random,
            clock,
            hub,
            ports,
            outlet,
            placement,
        }
    }

    /// A client connects to any of the listeners.
    pub(crate) fn connect(&mut self, client: Client) {
        let reactor = self.random.random_range(0..self.ports.len());
        let listener = self.random.random_range(0..LISTENERS);
        let peer = IpAddr::from([10, 0, 0, self.random.random_range(1..4)]);
        let mut port = self.ports[reactor].borrow_mut();
        if listener < port.listeners.len() {
            port.connect(listener, client.wire.clone(), peer);
            drop(port);
            self.clients.push(client);
        }
    }

    /// A wire with a window of any size.
    pub(crate) fn new_wire(&mut self) -> SharedWire {
        let windows = [64, 500, 4_000, 20_000, 200_000];
        SharedWire::new(windows[self.random.random_range(0..windows.len())])
    }

    /// One reactor that has cause to takes a turn; false if none has.
    pub(crate) fn turn_any(&mut self) -> bool {
        let now = self.clock.now();
        let is_due = |index: &usize| self.reactors[*index].is_some() && self.ports[*index].borrow().is_due(now);
        let due: Vec<usize> = (0..self.reactors.len()).filter(is_due).collect();
        if due.is_empty() {
            return false;
        }
        let index = due[self.random.random_range(0..due.len())];
        self.turn(index);
        true
    }

    fn turn(&mut self, index: usize) {
        let Some(reactor) = &mut self.reactors[index] else { return };
        match reactor.turn() {
            Ok(Flow::Continue) => {}
            Ok(Flow::Finished) => self.reactors[index] = None,
            // In production it would not have returned, nor got up.
            Err(error) if error.kind() == ASLEEP => self.hub.bus.inbox(index).doorbell().lie_down(),
            Err(error) => panic!("the poll failed: {error}"),
        }
        if let Some(reactor) = &mut self.reactors[index] {
            reactor.check_invariants();
        }
        self.truth.copy_from(&self.hub.bus);
        self.note_taken();
        self.notice_openings();
    }

    pub(crate) fn note_taken(&mut self) {
        if (0..self.ports.len()).all(|index| self.hub.bus.inbox(index).is_empty()) {
            self.truth.note_taken();
        }
    }

    /// Whoever has been written to by now has its stream open: what is published from here on is owed to it.
    fn notice_openings(&mut self) {
        for client in &mut self.clients {
            let is_stream = !matches!(client.dialog.speech, Speech::Http | Speech::Garbage);
            if is_stream && !client.dialog.opened_at_hub && 0 < client.wire.lock().written_bytes {
                client.dialog.opened_at_hub = true;
                client.dialog.tracks.iter_mut().for_each(|track| track.open(self.truth.len(track.topic)));
            }
        }
    }

    /// A client sends and reads a little, or much; what has ended is judged.
    pub(crate) fn client_turn(&mut self, index: usize, send_most: usize, receive_most: usize) {
        let client = &mut self.clients[index];
        client.send(send_most);
        if !client.stalled {
            client.receive(receive_most, &self.truth);
            if client.receive_end(&self.truth) {
                self.judge_end(index);
            }
        }
    }

    /// The hub has ended a connection: it must have had a reason.
    fn judge_end(&self, index: usize) {
        let client = &self.clients[index];
        let dialog = &client.dialog;
        let is_polite = matches!(dialog.speech, Speech::Raw | Speech::V1) && dialog.leaving;
        if dialog.speech == Speech::Garbage || is_polite {
            return;
        }
        let lag = dialog.all_tracks().map(|track| track.lag(self.truth.len(track.topic))).max().unwrap_or(0);
        let was_slow = if self.plan.ages { 0 < lag } else { self.plan.retained() < lag };
        let was_shed = client.wire.lock().written_bytes == 0;
        let excused = match (dialog.refused, dialog.close_code) {
            _ if self.hub.phase() != Phase::Serving => true,
            (Some(429 | 503), _) => self.plan.refuses(),
            (Some(408), _) => true,
            (Some(_), _) => false,
            (None, Some(4408)) => was_slow || dialog.all_tracks().any(|track| track.is_before_hole(&self.truth)),
            (None, Some(1013)) => self.plan.refuses(),
            (None, Some(_)) => false,
            (None, None) if was_shed => true,
            // Cut off in the middle of a refusal.
            (None, None) if self.plan.refuses() && (!dialog.opened || self.plan.cuts_off()) => true,
            (None, None) if dialog.speech == Speech::Http => {
                dialog.is_answered() || self.plan.refuses() || self.plan.cuts_off()
            }
            (None, None) => was_slow,
        };
        assert!(excused, "ended without a reason: {dialog:?}, lag {lag}");
    }

    /// Everyone reads and sends all they have, and all turns are taken, until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        self.clients.iter_mut().for_each(|client| client.stalled = false);
        self.let_read_fast(true);
        self.ports.iter().for_each(|port| port.borrow_mut().exhausted = 0);
        while self.turn_any() {}
        self.clock.advance(EXHAUSTED_RETRY);
        for _ in 0..ROUNDS_MAX {
            self.clock.advance(REST_MAX);
            let mut turns = 0;
            while self.turn_any() {
                turns += 1;
                assert!(turns < TURNS_MAX, "the reactors spin");
            }
            let mut is_quiet = turns == 0;
            for index in 0..self.clients.len() {
                is_quiet &= self.clients[index].is_quiet();
                self.client_turn(index, usize::MAX, usize::MAX);
            }
            is_quiet &= self.source_turn(usize::MAX);
            if is_quiet {
                return self.let_read_fast(false);
            }
        }
        let restless: Vec<&Client> = self.clients.iter().filter(|client| !client.is_quiet()).collect();
        panic!("it does not come to rest: {restless:?}");
    }

    fn let_read_fast(&self, fast: bool) {
        self.clients.iter().for_each(|client| client.wire.lock().reads_fast = fast);
    }

    /// The source works; true if it had nothing to do.
    pub(crate) fn source_turn(&mut self, most: usize) -> bool {
        let mut is_quiet = true;
        if let Some(outlet) = &self.outlet {
            is_quiet &= outlet.is_idle();
            outlet.work(&self.hub.bus, most.min(OUTLET_BATCH), self.clock.now(), &mut self.random);
        }
        if let Some(confirmer) = &mut self.confirmer {
            is_quiet &= !confirmer.work(&self.hub.bus, &mut self.random, self.clock.now());
        }
        self.truth.copy_from(&self.hub.bus);
        is_quiet
    }

    /// After [`World::settle`]: nobody who is still there lacks anything.
    pub(crate) fn check_complete(&self) {
        for client in self.clients.iter().filter(|client| client.fate == Fate::Open) {
            let dialog = &client.dialog;
            if dialog.speech == Speech::Garbage {
                continue;
            }
            assert!(!dialog.leaving, "it was not let go: {dialog:?}");
            assert!(dialog.is_answered(), "unanswered: {dialog:?}");
            assert!(dialog.opened || dialog.speech == Speech::Http, "never opened: {dialog:?}");
            for track in dialog.tracks.iter().filter(|track| !track.over) {
                track.check_complete(self.truth.len(track.topic));
            }
        }
        for client in &self.clients {
            let wire = client.wire.lock();
            assert!(client.fate != Fate::Left || wire.server_gone, "kept, though its client has gone: {wire:?}");
            client.dialog.confirmed.iter().for_each(|tag| assert!(self.truth.has_tag(*tag), "{tag} was lost"));
        }
    }

    /// Lets as much time pass in silence as no stream may be silent for: everyone must have heard something.
    pub(crate) fn check_heartbeats(&mut self) {
        let heard: Vec<u64> = self.clients.iter().map(|client| client.wire.lock().written_bytes).collect();
        for _ in 0..HEARTBEAT.as_secs() + 1 {
            self.clock.advance(Duration::from_secs(1));
            self.settle();
        }
        for (client, heard) in self.clients.iter().zip(heard) {
            let is_silent = client.wire.lock().written_bytes == heard;
            assert!(!client.dialog.opened || client.fate != Fate::Open || !is_silent, "no heartbeat");
        }
    }

    /// The hub shuts down: every reactor comes to its end, and no count is left over.
    pub(crate) fn drain(&mut self) {
        self.hub.enter(Phase::Draining);
        for index in 0..self.ports.len() {
            self.hub.bus.inbox(index).doorbell().ring();
        }
        for _ in 0..DRAIN_ROUNDS_MAX {
            self.settle();
            if self.reactors.iter().all(Option::is_none) {
                return self.check_nothing_left();
            }
            self.clock.advance(Duration::from_millis(500));
        }
        panic!("a reactor does not finish");
    }

    fn check_nothing_left(&self) {
        for metrics in &self.hub.metrics.reactors {
            assert_eq!(metrics.open(), 0, "connections still counted");
        }
        assert_eq!(self.placement.total(), 0, "connections still placed");
        for summary in self.hub.bus.summaries(Moment::default()) {
            assert_eq!(summary.listeners, 0, "listeners of {} still counted", summary.topic);
        }
    }
}

/// A topic rests no longer between two rounds.
const REST_MAX: Duration = Duration::from_millis(2);
/// Turns in a row, all with cause, after which reactors are taken to spin.
const TURNS_MAX: usize = 100_000;
/// When descriptors have run out, a reactor tries again after so long, or a little less.
const EXHAUSTED_RETRY: Duration = Duration::from_millis(150);
const ROUNDS_MAX: usize = 1_000;
const DRAIN_ROUNDS_MAX: usize = 100;
/// Publications the source takes at once: few enough for every history to hold them until the truth has copied them.
const OUTLET_BATCH: usize = 10;

fn build_hub(plan: &Plan, doorbells: &[Arc<Doorbell>], outlet: Option<SimOutlet>) -> Arc<Hub> {
    let inboxes = doorbells.iter().map(|doorbell| Inbox::new(plan.inbox_events_max, Arc::clone(doorbell))).collect();
    let config = bus::Config {
        reactors: plan.reactors,
        epoch_ms: 1000,
        payload_bytes_max: 1 << 20,
        default_class: plan.class(),
        ..bus::Config::default()
    };
    let shared = outlet.map(|outlet| Box::new(outlet) as Box<dyn Outlet>);
    let outlets = Outlets { shared, ..Outlets::default() };
    let reactors = (0..plan.reactors).map(|_| Arc::new(ReactorMetrics::default())).collect();
    let metrics = Metrics { reactors, sources: Vec::new(), clock: Clock::start() };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 16,
        cors: Cors::default(),
        admin_apart: false,
        stuck_after: Duration::from_secs(5),
    };
    Arc::new(Hub::new(Arc::new(Bus::new(config, inboxes, outlets)), Arc::new(metrics), endpoints))
}
