//! The only file that knows all parts: builds bus, sources and reactors, waits for signals, and takes it all down again.

mod bridge;
mod cores;
mod descriptors;
mod heartbeat;
mod inherited;
mod listeners;
mod reload;
mod service_manager;
mod signals;
mod stop;

use std::{
    io,
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bridge::{source_classes, start_bridge, topic_classes};
use core_affinity::CoreId;
use cores::Cores;
use descriptors::divide_descriptors;
use heartbeat::{HeartbeatHandle, host_name};
use listeners::{ReactorListeners, bind_all};
use reload::ConfigReader;
use service_manager::ServiceManager;
use signal_hook::consts::SIGTERM;
use signals::SignalPoll;
use tracing::{info, warn};

use crate::{
    audit::{Audit, AuditLine},
    auth::{Auth, Quotas},
    bridge::{BridgeHandle, BridgePlan},
    budget::Budget,
    bus::{self, Bus, HubCommands, Inbox, Notifier, REACTORS_MAX, Wake, losses_topic},
    clock::{Clock, Moment},
    config::{Address, Config, LogGuard},
    endpoint::{self, BroadcastQueue, CompatApi, DemoGenerators, HUB, Hosts, Hub, ShutdownPhase, Telemetry},
    event::new_epoch,
    fleet::{Fleet, heartbeat_topic},
    jwks::{self, KeySetStatus},
    metrics::{Maxima, Metrics, ReactorMetrics, SourceHealth},
    os, protocol,
    reactor::{self, DescriptorShares, MioNet, Placement, Reactor, Stream},
    reload::Reloadable,
    source::{SourceSetup, Sources},
    stdio,
    store::{StoreHandle, StoreStatus, start_store},
    topic::Topic,
    version::VERSION,
};

/// Smaller blocks are many and of like sizes, so that the holes they leave are filled again.
const LARGE_BLOCK_BYTES: u32 = 64 * 1024;

/// Serves until SIGTERM or SIGINT. `read` gives the configuration as it is by now, at SIGHUP, on a thread of its own; `log` is the
/// log whose level may change then.
pub fn run(
    mut config: Config,
    log: &LogGuard,
    read: impl Fn() -> Result<Config, String> + Send + Sync + 'static,
) -> Result<(), String> {
    let clock = Clock::start();
    // A bridge may have an inbox beside those of the reactors.
    let most = REACTORS_MAX - usize::from(!config.bridge.maps.is_empty());
    if most < config.server.reactors {
        return Err(format!("server.reactors is {}; at most {most} are possible", config.server.reactors));
    }
    if let Err(error) = os::raise_descriptor_limit() {
        warn!(%error, "the descriptor limit stays as it is");
    }
    os::return_blocks_from(LARGE_BLOCK_BYTES);
    // Taken before the first thread is pinned: it reads the calling thread's own mask.
    let cores = Cores::choose(&config)?;
    let bound = bind_all(&config)?;
    let mut signals = SignalPoll::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut reader = ConfigReader::new(Arc::new(read), signals.waker());
    let mut server = Server::start(&config, clock, bound.listeners, &cores)?;
    server.audit("start");
    announce(&bound.urls);
    let mut manager = ServiceManager::from_environment(clock.now());
    manager.ready();
    let interval = manager.interval().map_or(SWEEP_INTERVAL, |interval| interval.min(SWEEP_INTERVAL));
    let mut leaves = None;
    loop {
        let left = leaves.map_or(interval, |at: Moment| at.since(clock.now()).min(interval));
        match signals.wait(left)? {
            Some(SIGTERM) if leaves.is_none() && !config.drain.delay.is_zero() => {
                info!(delay = ?config.drain.delay, "not ready any more; another signal begins to close connections");
                server.hub.announce_end();
                server.audit("drain_announced");
                server.announce_state();
                manager.stopping(stop_time(&config));
                leaves = Some(clock.now() + config.drain.delay);
            }
            Some(_) => break,
            None if leaves.is_some_and(|at| at <= clock.now()) => break,
            None => {}
        }
        if std::mem::take(&mut signals.reload) {
            manager.reloading();
            reader.begin();
        }
        if let Some(read) = reader.take() {
            server.reload(read, &mut config, log, clock.now());
            if leaves.is_none() {
                manager.ready();
            }
        }
        server.sweep(clock.now());
        server.hub.wall.set(clock.now(), os::realtime_now());
        // A wall clock may be set while the hub runs.
        server.hub.auth.set_clock(clock.now(), os::realtime_now());
        let stuck = server.hub.metrics.stuck_reactors(clock.now(), config.server.stuck_after);
        manager.keep_alive(clock.now(), stuck.is_empty());
    }
    manager.stopping(stop_time(&config));
    server.audit("drain");
    info!(window = ?config.drain.window, "shutting down; another signal ends the hub at once");
    let audit = server.hub.audit.clone();
    let outcome = server.stop(&mut signals, &mut manager);
    end_audit(&audit, config.server.stuck_after);
    bound.socket_files.iter().for_each(|path| drop(std::fs::remove_file(path)));
    outcome
}

/// Writes the last lines of the audit, if that takes no longer than `timeout`.
fn end_audit(audit: &Audit, timeout: Duration) {
    audit.record(&AuditLine::admin("stop"));
    if !audit.flush(timeout) {
        warn!("the hub ends before its audit is written: its last lines may be missing");
    }
}

/// How long a hub takes to end at most, if nobody hurries it: twice over, for what a machine under load adds.
fn stop_time(config: &Config) -> Duration {
    (config.drain.delay + config.drain.window + config.server.stuck_after) * 2
}

/// Standard output, because it is the answer to the command; the log may be elsewhere. The hub serves also where nobody can
/// read that.
fn announce(urls: &[String]) {
    if let Err(error) = stdio::print(format_args!("Fanfare {} serves {}\n", VERSION, urls.join(" "))) {
        warn!(%error, addresses = urls.join(" "), "the hub serves, and standard output does not say where");
    }
}

/// The running parts.
struct Server {
    hub: Arc<Hub>,
    notifiers: Vec<Arc<Notifier>>,
    placement: Arc<Placement<Stream>>,
    reactors: Vec<JoinHandle<()>>,
    /// `None` once they are being stopped.
    sources: Option<Sources>,
    bridge: Option<BridgeHandle>,
    /// `None` if there are no other hubs to tell.
    heartbeat: Option<HeartbeatHandle>,
    store: Option<StoreHandle>,
    /// What the reactors follow of the configuration.
    live: Arc<Reloadable<reactor::Config>>,
    shares: DescriptorShares,
    /// The topic behind which the next sweep goes on.
    swept: Option<Topic>,
}

impl Server {
    fn start(config: &Config, clock: Clock, listeners: Vec<ReactorListeners>, cores: &Cores) -> Result<Self, String> {
        let (nets, notifiers) = start_polling(listeners, clock).map_err(|error| format!("cannot poll: {error}"))?;
        let mut sources = Sources::open(&config.sources, &source_setup(config, clock, cores.reader))?;
        let inbox = |notifier: &Arc<Notifier>| Inbox::new(config.limits.inbox_events_max, Arc::clone(notifier));
        let bridge = (!config.bridge.maps.is_empty()).then(|| BridgePlan::new(&config.bridge, notifiers.len()));
        let inboxes = notifiers.iter().map(inbox).chain(bridge.as_ref().and_then(BridgePlan::inbox)).collect();
        let bus = Bus::new(bus_config(config), inboxes, sources.ports());
        let bus = Arc::new(match bridge.as_ref().and_then(BridgePlan::follower) {
            Some(follower) => bus.with_follower(follower),
            None => bus,
        });
        let mut health = sources.health();
        health.extend(bridge.as_ref().map(BridgePlan::health));
        let store = start_keeping(config, &bus, clock, &mut health).map_err(|error| format!("store: {error}"))?;
        let key_set = config.auth.settings().key_set.is_used().then(Arc::<KeySetStatus>::default);
        health.extend(key_set.iter().map(|status| Arc::clone(status) as Arc<dyn SourceHealth>));
        let telemetry = Telemetry {
            store: store.as_ref().map(StoreHandle::store),
            objects_max: config.limits.objects_per_request_max,
        };
        let hub = build_hub(config, clock, Arc::clone(&bus), health)?;
        let hub = Arc::new(hub.with_extension(DemoGenerators(sources.generators())).with_extension(telemetry));
        let of_thread = |error: io::Error| format!("cannot start a thread: {error}");
        start_password_threads(&hub.auth, clock, &cores.background).map_err(of_thread)?;
        if let Some(status) = key_set {
            start_key_set(&hub.auth, clock, status, &notifiers)?;
        }
        if config.compat.has(CompatApi::EventStreams) {
            start_broadcasts(&hub, clock).map_err(of_thread)?;
        }
        bus.add_hub_commands(hub.extension::<Fleet>() as Arc<dyn HubCommands>);
        if let Some(demo) = config.sources.demo.as_ref().filter(|demo| !demo.lease.is_zero()) {
            sources.lease_generators(demo.lease)?;
        }
        sources.start(&bus)?;
        let heartbeat = start_heartbeat(&hub, config, clock).map_err(of_thread)?;
        let bridge = bridge.map(|plan| start_bridge(plan, config, &sources, &bus, clock)).transpose()?;
        let placement = Arc::new(Placement::new(notifiers.iter().cloned()));
        // Now that nearly all is open that the hub itself needs.
        let shares = divide_descriptors(config)?;
        *hub.maxima.lock().unwrap_or_else(PoisonError::into_inner) = maxima(config, shares);
        let live = Arc::new(Reloadable::new(reactor_config(config, shares, usize::MAX)));
        let reactors = nets.into_iter().enumerate().map(|(index, (net, admin_from))| {
            let config = (reactor_config(config, shares, admin_from), Arc::clone(&live));
            start_reactor(net, index, Arc::clone(&hub), Arc::clone(&placement), config, cores.reactors[index])
        });
        let reactors = reactors.collect::<io::Result<_>>().map_err(of_thread)?;
        Ok(Self {
            hub,
            notifiers,
            placement,
            reactors,
            sources: Some(sources),
            bridge,
            heartbeat,
            store,
            live,
            shares,
            swept: None,
        })
    }

    /// Looks over so many topics at most that a million of them take half a minute, and a hundredth of a core; with fewer, over
    /// all of them. While memory is tight, over all, whatever there are.
    fn sweep(&mut self, now: Moment) {
        let bus = &self.hub.bus;
        for count in 0.. {
            self.swept = bus.sweep_some(self.swept.as_ref(), now);
            if self.swept.is_none() || (SWEEP_SLICES_MAX <= count && !bus.budget().is_tight()) {
                return;
            }
        }
    }

    fn enter(&self, phase: ShutdownPhase) {
        self.hub.enter(phase);
        self.notify_reactors();
        self.announce_state();
    }

    /// Tells the other hubs that this one drains.
    fn announce_state(&self) {
        self.heartbeat.iter().for_each(HeartbeatHandle::announce);
    }

    /// Records an administrative act.
    fn audit(&self, action: &str) {
        self.hub.audit.record(&AuditLine::admin(action));
    }

    /// Wakes all reactors.
    fn notify_reactors(&self) {
        for notifier in &self.notifiers {
            notifier.notify();
        }
    }
}

/// What each reactor polls, with the first of its listeners for administration; and what wakes the reactor.
type Polled = (Vec<(MioNet, usize)>, Vec<Arc<Notifier>>);

fn start_polling(listeners: Vec<ReactorListeners>, clock: Clock) -> io::Result<Polled> {
    let polled = listeners.into_iter().map(|ReactorListeners { listeners, admin_from }| {
        let (net, waker) = MioNet::new(listeners, clock)?;
        Ok(((net, admin_from), Arc::new(Notifier::new(waker as Arc<dyn Wake>))))
    });
    polled.collect()
}

/// What the sources get of the rest of the hub.
fn source_setup(config: &Config, clock: Clock, core: Option<CoreId>) -> SourceSetup {
    let has_streams = config.compat.has(CompatApi::EventStreams);
    let orders = if has_streams { endpoint::command_topics() } else { Vec::new() };
    let topics = &config.topics;
    let is_bridge = !config.bridge.maps.is_empty();
    // A bridge serves no topics of its own, and what it listened to on the other side would go out there again.
    let always = if is_bridge {
        Vec::new()
    } else {
        let hubs = if config.fleet.heartbeat.is_zero() { Vec::new() } else { vec![heartbeat_topic()] };
        [config.server.default_topics.clone(), orders, vec![losses_topic()], hubs].concat()
    };
    SourceSetup {
        clock,
        classes: source_classes(config),
        always,
        core,
        default: if is_bridge {
            Some(config.bridge.from.clone())
        } else {
            topics.source.map(|source| source.0.to_owned())
        },
        generated: endpoint::demo_streams(),
    }
}

/// Begins to tell other hubs of this one, if it shares a broker with any. A bridge serves nobody, and is none of them.
fn start_heartbeat(hub: &Arc<Hub>, config: &Config, clock: Clock) -> io::Result<Option<HeartbeatHandle>> {
    let interval = config.fleet.heartbeat;
    let is_alone = interval.is_zero() || hub.bus.default_sink().is_none() || !config.bridge.maps.is_empty();
    if is_alone { Ok(None) } else { HeartbeatHandle::start(hub, clock, interval).map(Some) }
}

/// Starts the store, if there is one, and adds it to what has to be well.
fn start_keeping(
    config: &Config,
    bus: &Arc<Bus>,
    clock: Clock,
    health: &mut Vec<Arc<dyn SourceHealth>>,
) -> io::Result<Option<StoreHandle>> {
    let Some(store) = &config.store else { return Ok(None) };
    let status = Arc::new(StoreStatus::new(store.ping_interval));
    health.push(Arc::clone(&status) as Arc<dyn SourceHealth>);
    start_store(store, Arc::clone(bus), clock, status).map(Some)
}

fn start_reactor(
    net: MioNet,
    index: usize,
    hub: Arc<Hub>,
    placement: Arc<Placement<Stream>>,
    (config, live): (reactor::Config, Arc<Reloadable<reactor::Config>>),
    core: Option<CoreId>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("reactor-{index}")).spawn(move || {
        if let Some(core) = core
            && !core_affinity::set_for_current(core)
        {
            warn!(reactor = index, core = core.id, "cannot be pinned");
        }
        // Built here, so that its memory is local to the core it runs on.
        let mut reactor = Reactor::new(net, index, hub, placement, config);
        reactor.follow(live);
        if let Err(error) = reactor.run() {
            tracing::error!(reactor = index, %error, "the poll failed; without this reactor the hub is not whole");
            std::process::abort();
        }
    })
}

/// They end with the process: what they still check then is for nobody.
fn start_password_threads(auth: &Auth, clock: Clock, cores: &[CoreId]) -> io::Result<()> {
    let threads = if auth.is_required() { auth.settings().login_threads } else { 0 };
    for index in 0..threads {
        let work = auth.password_work();
        let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
        thread::Builder::new().name(format!("passwords-{index}")).spawn(move || {
            // Streams go first. A kernel that refuses makes them only slower while people sign in.
            let _ = os::run_in_background();
            // Apart from the reactors, if they are pinned: a hash goes through more memory than a core's caches hold.
            core.map(core_affinity::set_for_current);
            work.run(|| clock.now());
        })?;
    }
    Ok(())
}

/// Begins to fetch the identity provider's key set. With other keys, reactors check whose streams may go on.
fn start_key_set(
    auth: &Auth,
    clock: Clock,
    status: Arc<KeySetStatus>,
    notifiers: &[Arc<Notifier>],
) -> Result<(), String> {
    let notifiers = notifiers.to_vec();
    let on_new = move || {
        for notifier in &notifiers {
            notifier.notify();
        }
    };
    jwks::start(auth, clock, status, on_new).map_err(|error| format!("auth.jwks_ca_file: {error}"))
}

/// What carries out broadcasts to all streams. It ends with the process.
fn start_broadcasts(hub: &Arc<Hub>, clock: Clock) -> io::Result<()> {
    let broadcasts = hub.extension::<BroadcastQueue>();
    hub.bus.add_hub_commands(Arc::clone(&broadcasts) as Arc<dyn HubCommands>);
    let hub = Arc::clone(hub);
    thread::Builder::new().name("broadcasts".to_owned()).spawn(move || broadcasts.run(&hub, clock)).map(drop)
}

fn bus_config(config: &Config) -> bus::Config {
    let classes = topic_classes(config);
    bus::Config {
        reactors: config.server.reactors,
        epoch: new_epoch(os::realtime_now(), rand::random()),
        payload_bytes_max: config.limits.event_bytes_max,
        default_class: classes.default,
        classes: classes.listed,
        budget: Arc::new(Budget::new(config.server.memory_budget)),
        idempotency_window: config.limits.idempotency_window,
    }
}

fn build_hub(config: &Config, clock: Clock, bus: Arc<Bus>, health: Vec<Arc<dyn SourceHealth>>) -> Result<Hub, String> {
    let reactors = (0..config.server.reactors).map(|_| Arc::new(ReactorMetrics::default())).collect();
    let auth = Auth::new(Arc::clone(&config.auth), clock.now(), os::realtime_now());
    let quotas = Quotas::new(&config.quotas, config.server.memory_budget);
    let hub = Hub::new(&HUB, bus, Arc::new(Metrics { reactors, sources: health, clock }), endpoint_config(config))
        .with_auth(auth);
    let id = hub.bus.id_at(0).major.to_string();
    let audit = Audit::start(&config.audit, clock, (&id, &host_name()))?;
    let hub = hub.with_quotas(quotas).with_audit(audit);
    let hub = hub.with_extension(Fleet::new(config.fleet.clone(), id, host_name()));
    hub.wall.set(clock.now(), os::realtime_now());
    Ok(hub)
}

fn endpoint_config(config: &Config) -> endpoint::Config {
    endpoint::Config {
        default_topics: config.server.default_topics.clone(),
        topics_per_connection_max: config.limits.topics_per_connection_max,
        topics_per_page_max: config.limits.topics_per_page_max,
        cors: config.cors.clone(),
        hosts: known_hosts(config),
        admin_apart: !config.admin.listen.is_empty(),
        stuck_after: config.server.stuck_after,
        ready_require: config.ready.require.clone(),
        ready_delay: config.ready.delay,
        compat: config.compat.clone(),
        esp: config.esp.clone(),
    }
}

/// The names that are configured, and the addresses that the hub listens at.
fn known_hosts(config: &Config) -> Hosts {
    let address = |address: &Address| match address {
        Address::Tcp(address) => Some(address.ip()),
        Address::Unix(_) | Address::Inherited(_) => None,
    };
    Hosts { names: config.server.hosts.clone(), addresses: config.server.listen.iter().filter_map(address).collect() }
}

fn maxima(config: &Config, shares: DescriptorShares) -> Maxima {
    Maxima {
        connections: shares.connections,
        admin_connections: shares.admin,
        connections_per_address: config.server.max_connections_per_ip,
        refusals: shares.refusals,
        pending_sessions: config.server.max_pending,
        tenants: config.quotas.tenants_max,
    }
}

fn reactor_config(config: &Config, shares: DescriptorShares, admin_from: usize) -> reactor::Config {
    let limits = &config.limits;
    reactor::Config {
        limits: protocol::SessionLimits {
            proxy: config.proxy.limits,
            http: limits.http,
            websocket: limits.websocket,
            rate: limits.rate,
            engine: config.engine,
        },
        connections_max: shares.connections,
        admin_connections_max: shares.admin,
        refusals_max: shares.refusals,
        connections_per_ip_max: config.server.max_connections_per_ip,
        pending_max: config.server.max_pending,
        pending_per_ip_max: config.server.max_pending_per_ip,
        trusted: config.proxy.trusted.clone(),
        proxy_protocol: config.proxy.proxy_protocol,
        outbox_bytes_max: limits.outbox_bytes_max,
        heartbeat_interval: config.sse.heartbeat,
        ping_interval: config.websocket.ping_interval,
        pong_timeout: config.websocket.pong_timeout,
        unsent_timeout: limits.unsent_timeout,
        retry: config.sse.retry,
        live_timeout: config.server.live_timeout,
        drain_window: config.drain.window,
        linger: limits.closing_timeout,
        admin_listeners_from: admin_from,
        log_access: config.log.access,
        log_connections: config.log.connections,
        // Not the time: hubs that start together must not send their clients away at the same moments.
        seed: rand::random(),
    }
}

/// How often histories are looked over for what has grown too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Slices of topics that are looked over at a time, of 256 each.
const SWEEP_SLICES_MAX: usize = 128;
