//! The thread that asks the nodes which slots they have: from time to time, and at once when something is not where it should be.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use redis::{RedisError, Value};
use tracing::{info, warn};

use super::{
    router::Router,
    slots::{SlotAnswer, SlotMap},
    status::ClusterStatus,
    view::{ClusterPlace, ClusterView},
};
use crate::{
    clock::{Clock, Moment},
    protocol::resp,
    source::{
        LogRateLimiter,
        redis::{ClusterPubSub, Directory, NodeAddress, RedisConfig, RedisConnection},
    },
};

/// What the servers list the connections as.
const CLIENT_NAME: &str = "fanfare-cluster";

/// Owns the thread.
#[derive(Debug)]
pub(super) struct ClusterWatch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

struct Watcher {
    config: RedisConfig,
    directory: Directory,
    clock: Clock,
    view: Arc<ClusterView>,
    status: Arc<ClusterStatus>,
    router: Arc<Router>,
    connections: BTreeMap<NodeAddress, RedisConnection>,
    /// What the names of masters lead to.
    addresses: HashMap<NodeAddress, Vec<SocketAddr>>,
    failures: LogRateLimiter,
    was_complete: bool,
    /// Since when two masters say that they have the same slot.
    disputed: Option<Moment>,
    /// The map that the status and the writers follow.
    applied: Arc<SlotMap>,
}

impl ClusterWatch {
    /// Starts the thread; `requests` asks it to look at once. Fails if `config` names files that cannot be used.
    pub(super) fn start(
        config: RedisConfig,
        clock: Clock,
        view: Arc<ClusterView>,
        status: Arc<ClusterStatus>,
        router: Arc<Router>,
        requests: Receiver<()>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let mut watcher = Watcher {
            // A replica knows it, too.
            directory: RedisConfig { allow_replica: true, ..config.clone() }.directory()?,
            config,
            clock,
            view,
            status,
            router,
            connections: BTreeMap::new(),
            addresses: HashMap::new(),
            failures: LogRateLimiter::default(),
            was_complete: true,
            disputed: None,
            applied: Arc::default(),
        };
        let thread = std::thread::Builder::new()
            .name("redis-cluster".to_owned())
            .spawn(move || watcher.run(&requests, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Tells the thread to end.
    pub(super) fn signal_stop(&self) {
        // A second word to the same effect is not needed.
        let _ = self.stop.try_send(());
    }

    /// Waits for the thread to end, which takes as long as a question under way.
    pub(super) fn stop(self) {
        self.signal_stop();
        if self.thread.join().is_err() {
            warn!("the thread that watches the Redis Cluster had panicked");
        }
    }
}

impl Watcher {
    fn run(&mut self, requests: &Receiver<()>, stopped: &Receiver<()>) {
        let mut last_look = None;
        let mut is_due = true;
        loop {
            let now = self.clock.now();
            // What a node said is put to use at once; the cluster is not asked more often than connections are tried.
            self.apply();
            let wait = last_look.map_or(Duration::ZERO, |last: Moment| (last + self.wait_min(is_due)).since(now));
            if wait.is_zero() {
                self.look();
                (last_look, is_due) = (Some(self.clock.now()), false);
                continue;
            }
            let tick = if self.router.holds_any() { wait.min(self.config.backoff_min) } else { wait };
            select! {
                recv(stopped) -> _ => return,
                recv(requests) -> request => is_due |= request.is_ok(),
                default(tick) => {}
            }
        }
    }

    /// How long after a look the next one is due.
    fn wait_min(&self, is_asked_for: bool) -> Duration {
        match (is_asked_for, self.view.is_unsettled() || self.disputed.is_some()) {
            (true, _) => self.config.backoff_min,
            (false, true) => self.config.cluster_refresh,
            (false, false) => self.config.ping_interval.max(self.config.cluster_refresh),
        }
    }

    /// Brings the status and the writers in line with the map, and sends what was held back.
    fn apply(&mut self) {
        let map = self.view.map();
        if !Arc::ptr_eq(&map, &self.applied) {
            self.status.set_map(&map);
            self.router.apply(&map);
            self.applied = map;
        }
        self.router.tick(self.clock.now());
    }

    /// Asks the nodes that are known; if none of them answers, those that the configuration names.
    fn look(&mut self) {
        self.view.begin_look();
        let map = self.view.map();
        let masters: Vec<NodeAddress> = map.masters().into_iter().cloned().collect();
        let others = map.nodes().iter().filter(|node| !masters.contains(node));
        let mut failures = Vec::new();
        let mut answers = self.ask_all(&masters, &mut failures);
        // During a failover replicas know more than what is left of the masters.
        if answers.len() <= masters.len() / 2 {
            answers.extend(self.ask_all(&others.cloned().collect::<Vec<_>>(), &mut failures));
        }
        if answers.is_empty() {
            let named = self.config.url.nodes().to_vec();
            answers = self.ask_all(&named, &mut failures);
        }
        self.connections.retain(|node, _| map.nodes().contains(node) || map.nodes().is_empty());
        if answers.iter().all(SlotAnswer::is_empty) {
            return self.report_problem(&failures);
        }
        let former = self.view.map();
        let now = self.clock.now();
        let is_old = self.disputed.is_some_and(|since| self.config.ping_timeout <= now.since(since));
        let (map, is_disputed) = SlotMap::agree(&answers, Some(&*former).filter(|_| !is_old));
        self.disputed = is_disputed.then(|| self.disputed.unwrap_or(now));
        if self.config.cluster_pubsub == ClusterPubSub::Classic {
            // Where topics are sharded, the reader knows more.
            self.view.set_unsettled(!map.is_complete());
        }
        self.report_completeness(map.is_complete());
        self.look_up_names(&map);
        self.view.set_map(map);
    }

    /// Looks up the names of masters, for the thread that reads and must not wait.
    fn look_up_names(&mut self, map: &SlotMap) {
        let names = map.masters().into_iter().filter(|node| node.host.parse::<IpAddr>().is_err());
        let mut addresses: HashMap<NodeAddress, Vec<SocketAddr>> = names
            .filter_map(|node| {
                let found = (node.host.as_str(), node.port).to_socket_addrs().ok();
                let known = || self.addresses.remove(node);
                Some((node.clone(), found.map(Iterator::collect).or_else(known)?))
            })
            .collect();
        if !addresses.is_empty() {
            self.view.set_addresses(addresses.clone());
        }
        std::mem::swap(&mut self.addresses, &mut addresses);
    }

    /// All answers. Who does not answer is added to `failures`.
    fn ask_all(&mut self, nodes: &[NodeAddress], failures: &mut Vec<String>) -> Vec<SlotAnswer> {
        let mut answers = Vec::new();
        for node in nodes {
            match self.ask(node) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.connections.remove(node);
                    failures.push(format!("{node}: {error}"));
                }
            }
        }
        answers
    }

    fn ask(&mut self, node: &NodeAddress) -> Result<SlotAnswer, RedisError> {
        let timeout = self.config.sentinel_timeout;
        let known = self.connections.remove(node).and_then(|mut open| open.is_usable().then_some(open));
        let mut connection = match known {
            Some(connection) => connection,
            None => self.directory.in_cluster(ClusterPlace::Node(node.clone())).connect(CLIENT_NAME, timeout)?,
        };
        let mut command = Vec::new();
        resp::write_command(&mut command, &[b"CLUSTER", b"SLOTS"]);
        connection.send(&command)?;
        let answer = match connection.receive()? {
            Value::ServerError(error) => return Err(error.into()),
            answer => SlotAnswer::parse(&answer, node),
        };
        self.connections.insert(node.clone(), connection);
        answer.ok_or_else(|| (redis::ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS is answered by a list").into())
    }

    fn report_problem(&mut self, failures: &[String]) {
        let why = if failures.is_empty() { "no node has any slots".to_owned() } else { failures.join("; ") };
        let problem = format!("no node of the cluster says who has which slots: {why}");
        let now = self.clock.now();
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "{}: {problem}", self.config.url);
        }
        self.status.set_problem(&problem, now);
        self.view.set_problem(problem);
    }

    fn report_completeness(&mut self, is_complete: bool) {
        match (self.was_complete, is_complete) {
            (true, false) => warn!("{}: some slots have no master: topics in them are not delivered", self.config.url),
            (false, true) => info!("{}: every slot has a master again", self.config.url),
            _ => {}
        }
        self.was_complete = is_complete;
    }
}
