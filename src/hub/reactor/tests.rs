//! A whole reactor for unit tests: its sockets are buffers, and its clock goes where a test puts it.

use std::{
    cell::Cell,
    io,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{Accepted, Config, Net, Placement, Reactor, Ready, Token, connection::Connection, table::LocalTopic};
use crate::{
    bus::{self, Bus, Class, Inbox, LogKind, Notifier, SourcePort, Wake},
    clock::{Clock, Moment},
    endpoint::{self, HUB, Hub},
    event::EventId,
    index::{Slot, TopicIndex},
    log::{Bounds, Policy, Retention},
    metrics::{Metrics, ReactorMetrics},
    protocol::{proxy::Trusted, websocket::client::write_masked_text},
    topic::{Pattern, Topic},
};

/// Events that a topic retains.
pub(super) const KEPT: usize = 8;

/// A socket, seen from both ends.
#[derive(Debug)]
pub(super) struct Wire {
    token: Option<Token>,
    to_server: Vec<u8>,
    /// What the reactor has written.
    pub(super) to_client: Vec<u8>,
    /// How much of it each write brought, in bytes.
    pub(super) writes: Vec<usize>,
    /// How many bytes more can be written.
    pub(super) room: usize,
    /// What each write fails with.
    pub(super) error: Option<io::ErrorKind>,
    /// Writes behind which the reactor has promised others.
    pub(super) writes_ahead: usize,
    /// What has not reached the peer.
    pub(super) unacknowledged_bytes: usize,
    /// What was said last of how to drop it.
    pub(super) resets_on_drop: Option<bool>,
    peer_ended: bool,
    readable: bool,
    writable: bool,
}

/// Either end of a socket.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Mutex<Wire>>);

impl Peer {
    /// A socket with unlimited room.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Wire {
            token: None,
            to_server: Vec::new(),
            to_client: Vec::new(),
            writes: Vec::new(),
            room: usize::MAX,
            error: None,
            writes_ahead: 0,
            unacknowledged_bytes: 0,
            resets_on_drop: None,
            peer_ended: false,
            readable: false,
            writable: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer sends `bytes`.
    pub(super) fn send(&self, bytes: impl AsRef<[u8]>) {
        let mut wire = self.lock();
        wire.to_server.extend(bytes.as_ref());
        wire.readable = true;
    }

    /// There is room for so many bytes more.
    pub(super) fn make_room(&self, bytes: usize) {
        let mut wire = self.lock();
        (wire.room, wire.writable) = (bytes, true);
    }

    /// Takes what was written since the last time.
    pub(super) fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.lock().to_client)).into_owned()
    }
}

/// The time, as the reactor's net and the test share it.
#[derive(Clone, Debug, Default)]
pub(super) struct TestClock {
    now_ns: Rc<Cell<u64>>,
    /// How long a write takes.
    pub(super) write_time: Rc<Cell<Duration>>,
    /// How long a look at the clock takes.
    pub(super) look_time: Rc<Cell<Duration>>,
}

impl TestClock {
    pub(super) fn now(&self) -> Moment {
        Moment(self.now_ns.get())
    }

    pub(super) fn advance(&self, span: Duration) {
        self.now_ns.set((self.now() + span).0);
    }
}

/// [`Net`] over [`Peer`].
#[derive(Debug, Default)]
pub(super) struct TestNet {
    clock: TestClock,
    peers: Vec<Peer>,
}

impl Net for TestNet {
    type Stream = Peer;

    fn now(&self) -> Moment {
        self.clock.advance(self.clock.look_time.get());
        self.clock.now()
    }

    fn date(&mut self) -> &str {
        "Thu, 01 Jan 1970 00:00:00 GMT"
    }

    fn poll(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        for peer in &self.peers {
            let mut wire = peer.lock();
            let (readable, writable) = (std::mem::take(&mut wire.readable), std::mem::take(&mut wire.writable));
            if let Some(token) = wire.token.filter(|_| readable || writable) {
                ready.push(Ready::Connection { token, readable, writable, ending: readable && wire.peer_ended });
            }
        }
        Ok(())
    }

    fn listener_count(&self) -> usize {
        0
    }

    fn accept(&mut self, _: usize) -> io::Result<(Peer, Option<IpAddr>)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shed(&mut self, _: usize, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn stop_listening(&mut self, _: usize) {}

    fn register(&mut self, stream: &mut Peer, token: Token) -> io::Result<()> {
        stream.lock().token = Some(token);
        self.peers.push(stream.clone());
        Ok(())
    }

    fn rename(&mut self, stream: &mut Peer, token: Token) -> io::Result<()> {
        let mut wire = stream.lock();
        (wire.token, wire.readable) = (Some(token), true);
        Ok(())
    }

    fn release(&mut self, stream: &mut Peer) -> io::Result<()> {
        stream.lock().token = None;
        Ok(())
    }

    fn nowhere(&mut self) -> Peer {
        Peer::new()
    }

    fn read(&mut self, stream: &mut Peer, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = stream.lock();
        if wire.to_server.is_empty() {
            return if wire.peer_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = buffer.len().min(wire.to_server.len());
        buffer[..count].copy_from_slice(&wire.to_server[..count]);
        wire.to_server.drain(..count);
        Ok(count)
    }

    fn write(&mut self, stream: &mut Peer, bytes: &[u8]) -> io::Result<usize> {
        self.clock.advance(self.clock.write_time.get());
        let mut wire = stream.lock();
        if let Some(error) = wire.error {
            return Err(error.into());
        }
        let count = bytes.len().min(wire.room);
        wire.room -= count;
        wire.to_client.extend(&bytes[..count]);
        wire.writes.push(count);
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_ahead(&mut self, stream: &mut Peer, bytes: &[u8]) -> io::Result<usize> {
        stream.lock().writes_ahead += 1;
        self.write(stream, bytes)
    }

    fn end(&mut self, _: &mut Peer) {}

    fn reset_on_drop(&mut self, stream: &Peer, reset: bool) {
        stream.lock().resets_on_drop = Some(reset);
    }

    fn unacknowledged_bytes(&mut self, stream: &Peer) -> usize {
        stream.lock().unacknowledged_bytes
    }
}

/// Nobody sleeps.
#[derive(Debug)]
pub(super) struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

/// The only reactor of a hub. Topics that begin with `close`, `skip` or `latest` have that policy, and those that begin with
/// `broker` a broker's log; each retains [`KEPT`] events.
pub(super) struct TestReactor {
    pub(super) reactor: Reactor<TestNet>,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: TestClock,
}

/// A peer at this address is a proxy.
const PROXY: [u8; 4] = [10, 0, 0, 9];

impl TestReactor {
    pub(super) fn new() -> Self {
        Self::with_sources(Vec::new())
    }

    pub(super) fn with_sources(sources: Vec<SourcePort>) -> Self {
        let clock = TestClock::default();
        clock.advance(Duration::from_secs(10));
        let notifier = Arc::new(Notifier::new(Arc::new(NoWaker)));
        let inbox = Inbox::new(10_000, Arc::clone(&notifier));
        let bounds = Bounds { count: KEPT, bytes: 1 << 30, age: Duration::from_secs(1_000_000) };
        let class = |name: &str, policy: Policy, log: LogKind| {
            let pattern = Pattern::parse(&format!("{name}.**")).expect("a good pattern");
            let retention = Retention { history: bounds, lag: bounds };
            (pattern, Class { retention, policy, key: Some("/key".into()), log, ..Class::default() })
        };
        let config = bus::Config {
            classes: vec![
                class("close", Policy::Close, LogKind::Memory),
                class("skip", Policy::Skip, LogKind::Memory),
                class("latest", Policy::Latest, LogKind::Memory),
                class("broker", Policy::Close, LogKind::Broker),
            ],
            ..bus::Config::default()
        };
        let reactors = vec![Arc::new(ReactorMetrics::default())];
        let metrics = Metrics { reactors, sources: Vec::new(), clock: Clock::start() };
        let bus = Bus::new(config, vec![inbox], sources);
        let endpoints = endpoint::Config { topics_per_connection_max: 32, ..endpoint::Config::default() };
        let hub = Arc::new(Hub::new(&HUB, Arc::new(bus), Arc::new(metrics), endpoints));
        let placement = Arc::new(Placement::new([notifier]));
        let net = TestNet { clock: clock.clone(), peers: Vec::new() };
        let trusted = Trusted(vec!["10.0.0.9".parse().expect("an address")]);
        let config = Config { trusted, ..Config::default() };
        let reactor = Reactor::new(net, 0, Arc::clone(&hub), placement, config);
        Self { reactor, hub, clock }
    }

    /// A connection that has sent `request`, and what became of it.
    pub(super) fn connect(&mut self, request: &str) -> (Slot, Peer) {
        self.connect_from([10, 0, 0, 1], false, request)
    }

    /// The same through a proxy that is trusted.
    pub(super) fn connect_by_proxy(&mut self, request: &str) -> (Slot, Peer) {
        self.connect_from(PROXY, false, request)
    }

    fn connect_from(&mut self, address: [u8; 4], admin: bool, request: &str) -> (Slot, Peer) {
        let peer = Peer::new();
        self.reactor.admit(Accepted { stream: peer.clone(), peer: Some(IpAddr::from(address)), admin });
        let token = peer.lock().token.expect("it was taken in");
        peer.send(request);
        self.work();
        (token.slot, peer)
    }

    /// A Server-Sent Events stream over `topics`, whose head its client has read.
    pub(super) fn open_sse(&mut self, topics: &[&str]) -> (Slot, Peer) {
        let (slot, peer) = self.connect(&sse(topics, ""));
        let head = peer.take();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        (slot, peer)
    }

    /// A WebSocket on `topic`, whose head its client has read. Without `protocol` it has payloads only.
    pub(super) fn open_websocket(&mut self, topic: &str, protocol: Option<&str>) -> (Slot, Peer) {
        let (slot, peer) = self.connect(&websocket(topic, protocol));
        let head = peer.take();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        (slot, peer)
    }

    /// A client of Socket.IO that listens to `topic`, by a WebSocket.
    pub(super) fn open_socket_io(&mut self, topic: &str) -> (Slot, Peer) {
        let (_, peer) = self.connect(&upgrade("/socket.io/?EIO=4&transport=websocket", None));
        for text in ["40".to_owned(), format!(r#"42["subscribe",{{"topic":"{topic}"}}]"#)] {
            let mut frame = Vec::new();
            write_masked_text(text.as_bytes(), [1, 2, 3, 4], &mut frame);
            peer.send(frame);
            self.work();
        }
        peer.take();
        let slot = peer.lock().token.expect("it is there").slot;
        assert_eq!(self.connection(slot).subscriptions.len(), 1);
        (slot, peer)
    }

    /// Publishes `data` to `topic`; the reactor sees it in its next turn.
    pub(super) fn publish(&self, topic: &str, data: &str) {
        let topic = Topic::parse(topic).expect("a good name");
        let data = Bytes::copy_from_slice(data.as_bytes());
        self.hub.bus.feed().publish(&topic, None, data, self.clock.now()).expect("there is room");
    }

    /// The broker of `topic` has an entry with this id.
    pub(super) fn append(&self, topic: &str, id: EventId, data: &str) {
        let topic = Topic::parse(topic).expect("a good name");
        let data = Bytes::copy_from_slice(data.as_bytes());
        self.hub.bus.feed().publish_as(&topic, id, None, data, self.clock.now()).expect("there is room");
    }

    pub(super) fn turn(&mut self) {
        self.reactor.turn().expect("nothing fails");
        self.reactor.check_invariants();
    }

    /// Turns until nothing is left to do, but wait.
    pub(super) fn work(&mut self) {
        for _ in 0..100 {
            self.turn();
            let is_told = self.reactor.net.peers.iter().any(|peer| peer.lock().readable || peer.lock().writable);
            if !is_told && self.hub.bus.inbox(0).is_empty() && self.reactor.sleep_time() != Duration::ZERO {
                return;
            }
        }
        panic!("there is always something to do");
    }

    /// One turn as far as its laps; false if there was nothing to do in them, but wait.
    pub(super) fn turn_laps(&mut self) -> bool {
        self.reactor.take_inbox();
        self.reactor.run_laps();
        self.reactor.fan_out.next_wait(self.reactor.now) == Some(Duration::ZERO)
    }

    pub(super) fn topic_index(&self, name: &str) -> TopicIndex {
        self.reactor.topics.find(&Topic::parse(name).expect("a good name")).expect("somebody listens to it")
    }

    pub(super) fn topic(&mut self, name: &str) -> &mut LocalTopic {
        let index = self.topic_index(name);
        self.reactor.topics.at(index).expect("it is there")
    }

    pub(super) fn connection(&mut self, slot: Slot) -> &mut Connection<Peer> {
        self.reactor.connections.at(slot).expect("it is there")
    }

    /// A figure of `/metrics` with its labels; zero if it is not there.
    pub(super) fn figure(&mut self, name: &str) -> u64 {
        let (_, peer) = self.connect_from([10, 0, 0, 1], true, "GET /metrics HTTP/1.0\r\n\r\n");
        let text = peer.take();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        row.map_or(0, |value| value.parse().expect("a whole number"))
    }
}

/// A request for a Server-Sent Events stream, with these further `fields`.
pub(super) fn sse(topics: &[&str], fields: &str) -> String {
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    format!("GET /sse?{} HTTP/1.1\r\nHost: h\r\n{fields}\r\n", query.join("&"))
}

/// A request for a WebSocket on `topic`.
pub(super) fn websocket(topic: &str, protocol: Option<&str>) -> String {
    upgrade(&format!("/ws?topic={topic}"), protocol)
}

fn upgrade(target: &str, protocol: Option<&str>) -> String {
    let protocol = protocol.map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    )
}
