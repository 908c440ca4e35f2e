//! A network of the test's own, to be cut without a word: packets vanish, and nobody is told by a reset.

use std::{
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    scene::{self, HASTY, Outcome, Scene},
    support::{Folder, hub::Hub, swarm::Route, wait_until},
};

use std::time::Duration;

/// How long the network is away.
const OUTAGE: Duration = Duration::from_secs(3);
const OUTAGE_IN_FULL: Duration = Duration::from_secs(10);

#[test]
fn a_server_behind_a_cut_network_leaves_a_gap() {
    let outcome = cut_and_mend(&[], Route::Redis);
    assert!(0 < outcome.account.announced, "the publisher went on beside the network");
    outcome.all_are_told_once("source_lost");
}

#[test]
fn streams_behind_a_cut_network_are_read_to_the_end() {
    let outcome = cut_and_mend(&[("topics.log", "redis-stream"), ("topics.history.count", "5000")], Route::Stream);
    assert_eq!(outcome.account.owed, outcome.account.delivered, "{}", outcome.account);
    assert_eq!((outcome.account.gaps.len(), outcome.account.reconnects), (0, 0), "{}", outcome.account);
}

/// The network between the hub and Redis is away for a while; the publisher is at Redis' side of it.
fn cut_and_mend(settings: &[(&str, &str)], route: impl Fn(String) -> Route) -> Outcome {
    let _machine = scene::share_the_machine();
    let network = Network::new();
    let server = network.start_redis();
    let url = format!("redis://{}:{REDIS_PORT}", network.far_address);
    let times = [("redis.ping_interval", "500ms"), ("redis.ping_timeout", "500ms"), ("redis.connect_timeout", "500ms")];
    let hub = Hub::start_with(&["--redis", &url], &[&HASTY[..], &times, settings].concat());
    let scene = Scene::begin("cut", &hub, route(server.socket_path.clone()));
    network.cut();
    scene::wait_until_not_ready(&hub);
    assert_eq!(hub.get("/health").status, 200, "the hub itself is well");
    scene::let_pass(scene::length(OUTAGE, OUTAGE_IN_FULL));
    network.restore();
    scene::wait_until_ready(&hub);
    scene.end()
}

/// The port of the one server in a network of its own.
const REDIS_PORT: u16 = 6379;

/// A namespace, joined to the machine's own network by a cable. Both are removed when dropped.
#[derive(Debug)]
struct Network {
    namespace: String,
    near_link: String,
    far_link: String,
    far_address: String,
}

impl Network {
    #[track_caller]
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Links have names of 15 bytes at most.
        let tag = format!("{:x}-{number}", process::id());
        // RFC 2544 sets 198.18.0.0/15 aside for tests. Four addresses for each process and network.
        let block = (process::id() * 4 + number) % (1 << 15) * 4;
        let address = |host: u32| {
            let bits = 0xc612_0000 + block + host;
            std::net::Ipv4Addr::from_bits(bits).to_string()
        };
        let network = Self {
            namespace: format!("fanfare-{tag}"),
            near_link: format!("ffn{tag}"),
            far_link: format!("fff{tag}"),
            far_address: address(2),
        };
        let Self { namespace, near_link, far_link, far_address } = &network;
        ip(&["netns", "add", namespace]);
        ip(&["link", "add", near_link, "type", "veth", "peer", "name", far_link, "netns", namespace]);
        ip(&["address", "add", &format!("{}/30", address(1)), "dev", near_link]);
        ip(&["link", "set", near_link, "up"]);
        network.ip_inside(&["address", "add", &format!("{far_address}/30"), "dev", far_link]);
        network.restore();
        network
    }

    /// From now on packets vanish.
    fn cut(&self) {
        self.ip_inside(&["link", "set", &self.far_link, "down"]);
    }

    /// Packets pass again.
    fn restore(&self) {
        self.ip_inside(&["link", "set", &self.far_link, "up"]);
    }

    fn ip_inside(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.namespace], arguments].concat());
    }

    /// A Redis server inside; from outside it is also reached by its unix socket, which no network can cut.
    #[track_caller]
    fn start_redis(&self) -> InnerRedis {
        let folder = Folder::new();
        let socket_path = folder.path("redis.sock");
        let port = REDIS_PORT.to_string();
        let inner = ["netns", "exec", &self.namespace, "redis-server", "--bind", &self.far_address, "--port", &port];
        let rest = ["--unixsocket", &socket_path, "--save", "", "--appendonly", "no", "--protected-mode", "no"];
        let mut command = Command::new("ip");
        command.args(inner).args(rest).args(["--dir", &folder.path("")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let server = InnerRedis { child: child.expect("ip was just used"), socket_path, _folder: folder };
        wait_until("Redis listens inside of the network", || {
            std::os::unix::net::UnixStream::connect(&server.socket_path).ok()
        });
        server
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The cable goes with the namespace that holds one of its ends; that one lives for as long as a socket in it.
        let _ = Command::new("ip").args(["link", "del", &self.near_link]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// `ip netns exec` becomes the server it starts, so this child is the server itself.
#[derive(Debug)]
struct InnerRedis {
    child: Child,
    socket_path: String,
    _folder: Folder,
}

impl Drop for InnerRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one command of iproute2. Says what to do if that is not possible.
#[track_caller]
fn ip(arguments: &[&str]) {
    let output = crate::support::run_program("ip", "iproute2", arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {said}networks are made by root (CAP_NET_ADMIN and CAP_SYS_ADMIN): run the tests as root, or with \
         `sudo -E cargo test --test faults`",
        arguments.join(" ")
    );
}
