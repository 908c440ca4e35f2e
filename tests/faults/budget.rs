//! The memory budget under attack: many topics, large payloads, readers that do not read, bodies and messages that do not
//! end, answers that nobody takes, idle connections. The hub refuses what it has no room for, says so, and stays within its bound.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fanfare_core::protocol::{
    http::Method,
    websocket::client::{encode_key, write_masked_text, write_upgrade},
};
use socket2::{Domain, Socket, Type};

use crate::{
    scene::{self, HASTY, Scene},
    support::{Folder, TIMEOUT, http::HttpConnection, hub::Hub, swarm::Route, wait_until},
};

const MIB: u64 = 1 << 20;

const BUDGET_BYTES: u64 = 48 * MIB;

/// What a connection may cost beside the budget, whatever its peer does: the slot in the slab, its session, one read's
/// worth of input, and what it takes of the allocator's tables.
const CONNECTION_BYTES: u64 = 4 * 1024;

/// What the hub may take beside that: what it has mapped before the first connection is measured; this is for the
/// buffers of its threads, and for what the allocator holds back between two sizes of block.
const SLACK_BYTES: u64 = 4 * MIB;

/// What the attackers publish fades within seconds once they are gone; the topics of the others are as by default.
const CLASSES: &str = r#"
[[topics.class]]
match = "flood.**"
history = { count = 100000, bytes = "1GiB", age = "3s" }
lag = { count = 100000, bytes = "1GiB", age = "3s" }
"#;

const FLOOD_TOPICS: usize = 300;
const FLOOD_PAYLOAD_BYTES: usize = 200 * 1024;
const SLOW_READERS: usize = 30;
/// Together less than half of the budget: the logs are to have their part.
const HALF_BODIES: usize = 20;
const HALF_MESSAGES: usize = 100;
const IDLE_CONNECTIONS: usize = 500;
/// Of the idle, those that wake up to ask for much.
const ASKERS: usize = 200;

/// How long it goes on once the budget is spent.
const ATTACK: Duration = Duration::from_secs(4);
const ATTACK_IN_FULL: Duration = Duration::from_secs(30);

#[test]
fn an_attack_on_memory_is_refused_and_nobody_loses_in_silence() {
    // How much the allocator holds back depends on how far the hub is behind.
    let _machine = scene::own_the_machine();
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, CLASSES).expect("the folder is ours");
    let budget = BUDGET_BYTES.to_string();
    let settings = [&HASTY[..], &[("server.memory_budget", &budget)]].concat();
    let hub = Hub::start_with(&["--config", &config], &settings);
    let base = memory_bytes(&hub, "VmRSS");
    let scene = Scene::begin("steady", &hub, Route::Http(hub.address().to_owned()));
    let attack = Attack::begin(&hub);
    newcomers_are_sent_away(&hub);
    scene::let_pass(scene::length(ATTACK, ATTACK_IN_FULL));
    let connections = attack.connections() + scene::SUBSCRIBERS as u64;
    let peak = memory_bytes(&hub, "VmHWM");
    let bound = base + BUDGET_BYTES + connections * CONNECTION_BYTES + SLACK_BYTES;
    let in_mib = [base, peak, bound].map(|bytes| bytes / MIB);
    eprintln!("{connections} connections; resident before, at most, and allowed: {in_mib:?} MiB; {:?}", attack.flood);
    attack.end();
    wait_until("there is room again", || (hub.post("/publish/after", "x").status == 200).then_some(()));
    scene.end();
    assert!(peak <= bound, "resident before, at most, and allowed: {in_mib:?} MiB");
}

/// While the budget is spent a client gets a 503, and a browser's `EventSource`, which would not survive one, a stream
/// that says when to come back, and ends.
fn newcomers_are_sent_away(hub: &Hub) {
    wait_until("a newcomer is refused", || {
        let answer = ask(hub, "");
        (answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: ")).then_some(())
    });
    wait_until("a browser is told when to come back", || {
        let answer = ask(hub, "Accept: text/event-stream\r\nOrigin: http://localhost\r\nSec-Fetch-Mode: cors\r\n");
        (answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nretry: ") && answer.contains("event: error"))
            .then_some(())
    });
}

/// Asks for a stream: the answer, as far as it comes within a moment.
fn ask(hub: &Hub, fields: &str) -> String {
    let mut socket = hub.connect();
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("the time is not zero");
    let request = format!("GET /sse?topic=steady.0 HTTP/1.1\r\nHost: hub\r\n{fields}\r\n");
    // A hub that refuses early may close before it has read all.
    let _ = socket.write_all(request.as_bytes());
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    // A stream that is let in does not end.
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
        if 16 * 1024 < answer.len() {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A field of `/proc/…/status` that is in kB.
fn memory_bytes(hub: &Hub, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", hub.pid())).expect("the hub runs");
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: Option<u64> = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("Linux tells it") * 1024
}

/// All of it at once.
#[derive(Debug)]
struct Attack {
    flood: Flood,
    /// Open until dropped.
    held: Vec<Socket>,
}

impl Attack {
    fn begin(hub: &Hub) -> Self {
        let mut held: Vec<Socket> = (0..IDLE_CONNECTIONS).map(|_| hub.connect()).collect();
        held.extend((0..SLOW_READERS).map(|number| slow_reader(hub, number)));
        held.extend((0..HALF_MESSAGES).map(|_| half_message(hub)));
        held.extend((0..HALF_BODIES).map(|number| half_body(hub, number)));
        let flood = Flood::begin(hub.address());
        wait_until("the flood is refused", || (0 < flood.refused()).then_some(()));
        // What they ask for is as long as there is, and they do not read it.
        for (number, mut socket) in held.iter().take(ASKERS).enumerate() {
            let request = format!("GET /topics/flood.{}/history HTTP/1.1\r\nHost: hub\r\n\r\n", number % SLOW_READERS);
            socket.write_all(request.as_bytes()).expect("the hub reads");
        }
        Self { flood, held }
    }

    fn connections(&self) -> u64 {
        self.held.len() as u64 + FLOODERS as u64
    }

    fn end(self) {
        self.flood.end();
    }
}

/// Asks for a topic of the flood, and reads nothing.
fn slow_reader(hub: &Hub, number: usize) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are at hand");
    socket.set_recv_buffer_size(4096).expect("any size will do");
    let address: SocketAddr = hub.address().parse().expect("the hub told it");
    socket.connect(&address.into()).expect("the hub accepts");
    let request = format!("GET /sse?topic=flood.{number} HTTP/1.1\r\nHost: hub\r\n\r\n");
    (&socket).write_all(request.as_bytes()).expect("the hub reads");
    socket
}

/// Sends most of a publication as large as one may be, as far as the hub takes it.
fn half_body(hub: &Hub, number: usize) -> Socket {
    let mut socket = hub.connect();
    let head = format!("POST /publish/half.{number} HTTP/1.1\r\nHost: hub\r\nContent-Length: {MIB}\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("the hub reads");
    socket.set_write_timeout(Some(Duration::from_millis(50))).expect("the time is not zero");
    let body = vec![b'x'; MIB as usize - 1];
    // What is not taken within a moment, or refused, is not sent.
    let _ = socket.write_all(&body);
    socket
}

/// Sends most of a WebSocket message as large as one may be.
fn half_message(hub: &Hub) -> Socket {
    let mut socket = hub.connect();
    let mut bytes = Vec::new();
    write_upgrade("hub", "/ws?topic=steady.0", &["fanfare.v1"], &[], &encode_key([1; 16]), &mut bytes);
    write_masked_text(&[b'x'; 64 * 1024], [1, 2, 3, 4], &mut bytes);
    bytes.pop();
    socket.set_write_timeout(Some(Duration::from_millis(50))).expect("the time is not zero");
    // As above.
    let _ = socket.write_all(&bytes);
    socket
}

const FLOODERS: usize = 2;

/// Publishers of large payloads to many topics, as fast as they are answered.
#[derive(Debug)]
struct Flood {
    told: Arc<FloodTold>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct FloodTold {
    is_ending: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
    /// Anything but a 200, or a 503 that says when to come back.
    odd: AtomicU64,
}

impl Flood {
    fn begin(address: &str) -> Self {
        let told = Arc::new(FloodTold::default());
        let threads = (0..FLOODERS).map(|number| {
            let (address, told) = (address.to_owned(), Arc::clone(&told));
            thread::spawn(move || told.flood(&address, number))
        });
        let threads = threads.collect();
        Self { told, threads }
    }

    fn refused(&self) -> u64 {
        self.told.refused.load(Ordering::Acquire)
    }

    fn end(self) {
        self.told.is_ending.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().expect("the flood does not panic"));
        assert_eq!(self.told.odd.load(Ordering::Acquire), 0, "answers but 200 and helpful 503");
    }
}

impl FloodTold {
    fn flood(&self, address: &str, number: usize) {
        let payload = vec![b'x'; FLOOD_PAYLOAD_BYTES];
        // What is left is filled with ever smaller ones.
        let mut payload_bytes = FLOOD_PAYLOAD_BYTES;
        let mut connection = None;
        for turn in (number..).step_by(FLOODERS) {
            if self.is_ending.load(Ordering::Acquire) {
                return;
            }
            let open = connection.get_or_insert_with(|| connect(address));
            let target = format!("/publish/flood.{}", turn % FLOOD_TOPICS);
            let response = open.request(Method::Post, &target, &[], &payload[..payload_bytes]);
            if response.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                connection = None;
            }
            payload_bytes = match response.status {
                200 => (payload_bytes * 2).min(FLOOD_PAYLOAD_BYTES),
                _ => (payload_bytes / 2).max(1),
            };
            let counter = match response.status {
                200 => &self.accepted,
                503 if response.header("Retry-After").is_some() => &self.refused,
                _ => &self.odd,
            };
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn connect(address: &str) -> HttpConnection {
    let socket = Socket::from(TcpStream::connect(address).expect("the hub accepts"));
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    HttpConnection::new(socket)
}
