//! A whole hub in one thread: reactors that take turns at random, clients, a source, and the truth they are held against.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use fanfare::{
    auth::Auth,
    bus::{self, BrokerLog, Bus, EventSink, Inbox, Notifier, SourcePort, Wake},
    endpoint::{self, Cors, HUB, Hub, ShutdownPhase},
    metrics::{Metrics, ReactorMetrics},
    reactor::{Flow, Placement, Reactor},
};
use fanfare_core::{
    clock::{Clock, Moment},
    event::new_epoch,
    log::Policy,
    protocol::SessionId,
    topic::Topic,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    broken::Fault,
    broker::SimBroker,
    client::{Client, ClientProtocol, ConnectionState},
    net::{ASLEEP, Port, SharedWire, SimClock, SimNet, SimStream},
    plan::{HEARTBEAT, Plan},
    source::{Confirmer, DEFAULT_SOURCE, STREAM_SOURCE, SimSink},
    truth::Truth,
};

/// When hubs start, by the clock on the wall.
const STARTED_AT: Duration = Duration::from_secs(1_795_233_070);
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
    pub(crate) sink: Option<SimSink>,
    pub(crate) confirmer: Option<Confirmer>,
    pub(crate) broker: SimBroker,
    /// The source of the topics in memory is away: what is published there is lost.
    pub(crate) source_away: bool,
    /// Topics in memory of which the source has forgotten that the hub wants them, and the hub does not know it yet.
    pub(crate) unheard: BTreeSet<Topic>,
    pub(crate) next_tag: u64,
    /// Publications by tag, as they may be repeated: the topic and the payload.
    pub(crate) requested: Vec<(u64, usize, String)>,
    reactors: Vec<Option<Reactor<SimNet>>>,
    placement: Arc<Placement<SimStream>>,
}

/// All that a start of the hub makes.
struct Started {
    hub: Arc<Hub>,
    ports: Vec<Rc<RefCell<Port>>>,
    sink: Option<SimSink>,
    confirmer: Option<Confirmer>,
    reactors: Vec<Option<Reactor<SimNet>>>,
    placement: Arc<Placement<SimStream>>,
    epoch: u64,
}

/// Starts a hub; each start is an epoch of its own.
fn start(plan: &Plan, clock: &SimClock, broker: &mut SimBroker, random: &mut SmallRng) -> Started {
    let ports: Vec<_> = (0..plan.reactors).map(|_| Port::new(LISTENERS)).collect();
    let notifiers: Vec<_> =
        ports.iter().map(|port| Arc::new(Notifier::new(Arc::clone(&port.borrow().bell) as Arc<dyn Wake>))).collect();
    let sink = plan.sink.then(SimSink::default);
    broker.forget();
    let epoch = choose_epoch(plan, random);
    let hub = build_hub(plan, epoch, &notifiers, sink.clone(), broker);
    if plan.has_streams() {
        broker.serve(&hub.bus);
    }
    let placement = Arc::new(Placement::new(notifiers.iter().cloned()));
    let reactors = ports.iter().enumerate().map(|(index, port)| {
        let own = SmallRng::seed_from_u64(random.random());
        let net = SimNet::new(Rc::clone(port), clock.clone(), own, plan.weather, plan.fault);
        let config = plan.reactor_config(random.random());
        Some(Reactor::new(net, index, Arc::clone(&hub), Arc::clone(&placement), config))
    });
    Started {
        reactors: reactors.collect(),
        confirmer: plan.confirms.then(|| Confirmer::watch(&hub.bus)),
        hub,
        ports,
        sink,
        placement,
        epoch,
    }
}

/// Most hubs start in the same second; now and then the clock was set back before the start.
fn choose_epoch(plan: &Plan, random: &mut SmallRng) -> u64 {
    let start = STARTED_AT - Duration::from_secs(u64::from(random.random_range(0..4) == 0));
    let bits = random.random();
    new_epoch(start, if plan.fault == Some(Fault::HubsCollide) { 0 } else { bits })
}

impl World {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let clock = SimClock::default();
        clock.advance(Duration::from_secs(1));
        let mut broker = SimBroker::new(plan.fault);
        let started = start(&plan, &clock, &mut broker, &mut random);
        let Started { hub, ports, sink, confirmer, reactors, placement, epoch } = started;
        Self {
            truth: Truth::new(plan.rules(), plan.dialect, epoch),
            clients: Vec::new(),
            source_away: false,
            unheard: BTreeSet::new(),
            next_tag: 1,
            requested: Vec::new(),
            plan,
            random,
            clock,
            hub,
            ports,
            sink,
            confirmer,
            broker,
            reactors,
            placement,
        }
    }

    /// The hub dies, and another takes its place, which may have been started in the same moment: all connections are broken,
    /// and what was on its way is lost.
    pub(crate) fn restart(&mut self) {
        self.truth.copy_from(&self.hub.bus);
        let started = start(&self.plan, &self.clock, &mut self.broker, &mut self.random);
        let Started { hub, ports, sink, confirmer, reactors, placement, epoch } = started;
        (self.hub, self.ports, self.sink, self.confirmer) = (hub, ports, sink, confirmer);
        (self.reactors, self.placement) = (reactors, placement);
        self.requested.clear();
        self.source_away = false;
        self.unheard.clear();
        self.truth.note_restart(epoch);
        self.note_taken();
        for client in &mut self.clients {
            // Also of those that it had not accepted.
            client.wire.lock().server_gone = true;
            if client.state == ConnectionState::Open {
                client.state = ConnectionState::Ended;
                client.wire.lock().break_off();
            }
        }
    }

    /// A client connects to any of the listeners.
    pub(crate) fn connect(&mut self, client: Client) {
        let reactor = self.random.random_range(0..self.ports.len());
        let listener = self.random.random_range(0..LISTENERS);
        let peer = IpAddr::from([10, 0, 0, self.random.random_range(1..4)]);
        let mut port = self.ports[reactor].borrow_mut();
        if !port.listeners[listener].stopped {
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
            Err(error) if error.kind() == ASLEEP => self.hub.bus.inbox(index).notifier().prepare_park(),
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
            let is_stream = !matches!(client.dialog.protocol, ClientProtocol::Http | ClientProtocol::Garbage);
            if is_stream && !client.dialog.opened_at_hub && client.wire.lock().has_written() {
                client.dialog.opened_at_hub = true;
                client.dialog.tracks.iter_mut().for_each(|track| track.open(&self.truth));
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
        let is_polite = matches!(dialog.protocol, ClientProtocol::Raw | ClientProtocol::V1 | ClientProtocol::Socket)
            && dialog.leaving;
        if dialog.protocol == ClientProtocol::Garbage || is_polite {
            return;
        }
        let (truth, is_raw) = (&self.truth, dialog.protocol == ClientProtocol::Raw);
        let is_left_behind = |topic: usize| {
            is_raw || dialog.protocol != ClientProtocol::Socket && truth.rules[topic].policy == Policy::Close
        };
        let was_slow = dialog.all_tracks().any(|track| is_left_behind(track.topic) && track.may_be_passed(truth));
        let may_wait_in_vain = dialog.all_tracks().any(|track| truth.rules[track.topic].is_stream);
        let (was_shed, heard_nothing) = {
            let wire = client.wire.lock();
            (wire.shed, wire.written_bytes == 0)
        };
        let excused = match (dialog.refused, dialog.close_code) {
            _ if self.hub.phase() != ShutdownPhase::Serving => true,
            (None | Some(503), None) if was_shed => true,
            (Some(429 | 503), _) => self.plan.refuses() || may_wait_in_vain,
            (Some(408), _) => true,
            (Some(_), _) => false,
            (None, Some(4408)) => was_slow || is_raw && dialog.all_tracks().any(|track| track.is_before_gap(truth)),
            (None, Some(1013)) => self.plan.refuses() || may_wait_in_vain,
            (None, Some(_)) => false,
            (None, None) if dialog.try_later => self.plan.refuses() || may_wait_in_vain,
            (None, None) if heard_nothing => true,
            // Cut off in the middle of a refusal.
            (None, None) if self.plan.refuses() && (!dialog.opened || self.plan.cuts_off()) => true,
            // Too late with its request, and cut off in the middle of being told.
            (None, None) if self.plan.cuts_off() && !dialog.opened && client.is_late() => true,
            (None, None) if may_wait_in_vain && self.plan.cuts_off() => true,
            (None, None) if dialog.protocol == ClientProtocol::Http => {
                dialog.is_answered() || self.plan.refuses() || self.plan.cuts_off()
            }
            (None, None) => was_slow || is_raw && dialog.all_tracks().any(|track| track.is_before_gap(truth)),
        };
        assert!(excused, "ended without a reason: {dialog:?}");
        if let Some(gap) = dialog.close_gap {
            let is_told = dialog.all_tracks().any(|track| track.may_end_for(gap, truth));
            assert!(is_told, "{gap:?} begins nowhere: {dialog:?}");
        }
    }

    /// Everyone reads and sends all they have, and all turns are taken, until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        self.clients.iter_mut().for_each(|client| client.stalled = false);
        self.let_read_fast(true);
        self.ports.iter().for_each(|port| port.borrow_mut().exhausted = 0);
        self.source_returns();
        self.find_out_unheard();
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
            if 0 < self.plan.budget_bytes {
                self.hub.bus.sweep(self.clock.now());
            }
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
        if let Some(sink) = self.sink.as_ref().filter(|_| !self.source_away) {
            is_quiet &= sink.is_idle();
            let (now, fault) = (self.clock.now(), self.plan.fault);
            sink.work(&self.hub.bus, most.min(SINK_BATCH), &self.unheard, now, &mut self.random, fault);
        }
        if self.plan.has_streams() {
            let (bus, now) = (Arc::clone(&self.hub.bus), self.clock.now());
            is_quiet &= !self.broker.work(&bus, most, now, &mut self.truth, &mut self.random) && self.broker.is_idle();
        }
        if let Some(confirmer) = &mut self.confirmer {
            is_quiet &= !confirmer.work(&self.hub.bus, &mut self.random, self.clock.now());
        }
        self.truth.copy_from(&self.hub.bus);
        is_quiet
    }

    /// After [`World::settle`]: nobody who is still there lacks anything.
    pub(crate) fn check_complete(&self) {
        for client in self.clients.iter().filter(|client| client.state == ConnectionState::Open) {
            let dialog = &client.dialog;
            if dialog.protocol == ClientProtocol::Garbage {
                continue;
            }
            assert!(!dialog.leaving, "it was not let go: {dialog:?}");
            assert!(dialog.is_answered(), "unanswered: {dialog:?}");
            assert!(dialog.opened || dialog.protocol == ClientProtocol::Http, "never opened: {dialog:?}");
            for track in dialog.tracks.iter().filter(|track| !track.over) {
                track.check_complete(&self.truth);
            }
        }
        for client in &self.clients {
            let wire = client.wire.lock();
            assert!(
                client.state != ConnectionState::Left || wire.server_gone,
                "kept, though its client has gone: {wire:?}"
            );
            client.dialog.confirmed.iter().for_each(|(tag, _)| assert!(self.truth.has_tag(*tag), "{tag} was lost"));
        }
        self.check_receipts();
    }

    /// Whoever publishes the same again under the same key gets the same answer.
    fn check_receipts(&self) {
        let mut first: HashMap<u64, &[u8]> = HashMap::new();
        let receipts = self.clients.iter().flat_map(|client| &client.dialog.confirmed);
        for (tag, receipt) in receipts.filter(|(_, receipt)| !receipt.is_empty()) {
            assert_eq!(*first.entry(*tag).or_insert(receipt), receipt.as_slice(), "{tag} was published twice");
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
            assert!(!client.dialog.opened || client.state != ConnectionState::Open || !is_silent, "no heartbeat");
        }
    }

    /// The hub shuts down: every reactor comes to its end, and no count is left over.
    pub(crate) fn drain(&mut self) {
        self.hub.enter(ShutdownPhase::Draining);
        for _ in 0..DRAIN_ROUNDS_MAX {
            for index in 0..self.ports.len() {
                self.hub.bus.inbox(index).notifier().notify();
            }
            self.settle();
            if self.reactors.iter().all(Option::is_none) {
                return self.check_nothing_left();
            }
            if self.placement.has_drained() {
                self.hub.enter(ShutdownPhase::Leaving);
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
            assert_eq!(summary.subscriber_count, 0, "listeners of {} still counted", summary.topic);
        }
        // When all is forgotten, nothing is held.
        self.clients.iter().for_each(|client| client.wire.lock().close());
        self.clock.advance(FORGOTTEN_AFTER);
        self.hub.bus.sweep(self.clock.now());
        self.forget_the_lost();
        assert_eq!(self.hub.bus.summaries(self.clock.now()).len(), 0, "topics that nobody uses");
        assert_eq!(self.hub.bus.budget().used(), 0, "bytes held of nothing");
    }

    /// Clients of Socket.IO that might come back are forgotten when the next one is lost.
    fn forget_the_lost(&self) {
        let nobody = SessionId::new(0, [0; 15]);
        self.hub.recovery.mark_disconnected("nobody", nobody, Duration::ZERO, self.clock.now());
    }
}

/// A topic rests no longer between two rounds.
const REST_MAX: Duration = Duration::from_millis(2);
/// No log and no key is kept for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2_000_000);
/// Turns in a row, all with cause, after which reactors are taken to spin.
const TURNS_MAX: usize = 100_000;
/// When descriptors have run out, a reactor tries again after so long, or a little less.
const EXHAUSTED_RETRY: Duration = Duration::from_millis(150);
const ROUNDS_MAX: usize = 1_000;
const DRAIN_ROUNDS_MAX: usize = 100;
/// Publications the source takes at once: few enough for every history to hold them until the truth has copied them.
const SINK_BATCH: usize = 10;

fn build_hub(
    plan: &Plan,
    epoch: u64,
    notifiers: &[Arc<Notifier>],
    sink: Option<SimSink>,
    broker: &SimBroker,
) -> Arc<Hub> {
    let inboxes = notifiers.iter().map(|notifier| Inbox::new(plan.inbox_events_max, Arc::clone(notifier))).collect();
    let config = bus::Config {
        reactors: plan.reactors,
        epoch,
        payload_bytes_max: 1 << 20,
        classes: plan.classes(),
        budget: plan.budget(),
        idempotency_window: Duration::from_secs(1_000_000),
        ..bus::Config::default()
    };
    let stream = SourcePort {
        name: STREAM_SOURCE,
        is_default: false,
        sink: Some(Box::new(broker.sink.clone())),
        log: Some(BrokerLog { word: "stream", archive: Box::new(broker.archive.clone()) }),
    };
    let default = SourcePort {
        name: DEFAULT_SOURCE,
        is_default: true,
        sink: sink.map(|sink| Box::new(sink) as Box<dyn EventSink>),
        log: None,
    };
    let sources = [default].into_iter().chain(plan.has_streams().then_some(stream)).collect();
    let reactors = (0..plan.reactors).map(|_| Arc::new(ReactorMetrics::default())).collect();
    let metrics = Metrics { reactors, sources: Vec::new(), clock: Clock::start() };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 16,
        cors: Cors::open(),
        admin_apart: false,
        stuck_after: Duration::from_secs(5),
        esp: endpoint::Esp { namespaces: vec![plan.dialect.namespace.into()], ..Default::default() },
        ..endpoint::Config::default()
    };
    let hub = Hub::new(&HUB, Arc::new(Bus::new(config, inboxes, sources)), Arc::new(metrics), endpoints);
    match &plan.auth {
        Some(rules) => Arc::new(hub.with_auth(Auth::new(Arc::clone(rules), Moment(0), STARTED_AT))),
        None => Arc::new(hub),
    }
}
