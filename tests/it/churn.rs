//! Two thousand connections that come and go at random while events flow.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fanfare_core::protocol::http::Method;

use crate::support::{OnDrop, http::HttpConnection, hub::Hub, sse::SseClient, wait_until, websocket::WebSocketClient};

/// Connections at a time, over all threads.
const CONNECTIONS: usize = 2_000;
const THREADS: usize = 4;
const EVENTS_PER_SECOND: u32 = 50;
/// How many connections of each thread are replaced by new ones.
const REPLACEMENTS: usize = 500;
/// Events published after the last replacement. All clients that are left must get them.
const LAST_EVENTS: u32 = 25;

/// One connection of either kind, and the events it has received.
struct Peer {
    client: Client,
    last: Option<u64>,
    received: u64,
}

enum Client {
    Stream(SseClient),
    Socket(WebSocketClient),
}

impl Peer {
    fn open(hub: &Hub, is_stream: bool) -> Self {
        let client = match is_stream {
            true => Client::Stream(SseClient::open(hub, "/sse?topic=t")),
            false => Client::Socket(WebSocketClient::open(hub, "/ws?topic=t")),
        };
        Self { client, last: None, received: 0 }
    }

    /// Reads one event: the one that follows the last.
    fn read(&mut self) {
        let text = match &mut self.client {
            Client::Stream(stream) => stream.next_data(),
            Client::Socket(socket) => socket.next_text(),
        };
        let number: u64 = text.parse().expect("the publisher sends numbers");
        assert!(self.last.is_none_or(|last| last + 1 == number), "{number} after {:?}", self.last);
        self.last = Some(number);
        self.received += 1;
    }

    fn read_to(&mut self, end: u64) {
        while self.last.is_none_or(|last| last < end) {
            self.read();
        }
    }
}

/// A small generator, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn survivors_get_every_event_in_order_exactly_once() {
    let hub = Hub::start_with(&["--reactors", "2"], &[]);
    let idle_descriptors = descriptors(&hub);
    let stop = AtomicBool::new(false);
    let last_event = thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_until(&hub, &stop));
        // Ends the publisher also if an assertion fails.
        let stopping = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let hub = &hub;
        let threads: Vec<_> = (0..THREADS).map(|index| scope.spawn(move || churn(hub, index as u64))).collect();
        let mut peers: Vec<Peer> = threads.into_iter().flat_map(|thread| thread.join().expect("no hole")).collect();
        assert_eq!(peers.len(), CONNECTIONS);
        wait_until("the replaced ones are gone", || (hub.stats()["connected_clients"] == CONNECTIONS).then_some(()));
        drop(stopping);
        let last_event = publisher.join().expect("every event is taken");
        peers.iter_mut().for_each(|peer| peer.read_to(last_event));
        assert!(peers.iter().all(|peer| u64::from(LAST_EVENTS) <= peer.received), "the last ones were for all");
        last_event
    });
    assert_eq!(hub.stats()["events_received"], last_event);
    wait_until("everybody is gone", || (hub.stats()["connected_clients"] == 0).then_some(()));
    wait_until("every descriptor is free", || (descriptors(&hub) <= idle_descriptors).then_some(()));
    for transport in ["sse", "websocket"] {
        assert_eq!(hub.metric(&format!("fanfare_connections{{transport=\"{transport}\"}}")), 0.0);
    }
    wait_until("nobody listens", || (hub.get("/topics/t").json()["listeners"] == 0).then_some(()));
    assert_eq!(hub.metric("fanfare_lagging_connections"), 0.0);
}

fn descriptors(hub: &Hub) -> usize {
    let listed = std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).expect("the hub runs");
    listed.count()
}

/// Publishes ascending numbers at a steady rate until stopped, then the last ones. Returns the last number.
fn publish_until(hub: &Hub, stop: &AtomicBool) -> u64 {
    let (mut number, mut due, mut left) = (0, Instant::now(), LAST_EVENTS);
    let mut connection = HttpConnection::new(hub.connect());
    while 0 < left {
        thread::park_timeout(due.saturating_duration_since(Instant::now()));
        due += Duration::from_secs(1) / EVENTS_PER_SECOND;
        number += 1;
        left -= u32::from(stop.load(Ordering::Relaxed));
        let payload = number.to_string();
        assert_eq!(connection.request(Method::Post, "/publish/t", &[], payload.as_bytes()).status, 200);
    }
    number
}

/// Opens this thread's share of connections, then replaces some at random while it reads from others.
fn churn(hub: &Hub, seed: u64) -> Vec<Peer> {
    let mut random = Random(seed);
    let mut peers: Vec<Peer> = (0..CONNECTIONS / THREADS).map(|number| Peer::open(hub, number % 2 == 0)).collect();
    for _ in 0..REPLACEMENTS {
        let index = random.below(peers.len());
        // Dropping a connection with unread events resets it. The test includes that on purpose.
        peers[index] = Peer::open(hub, random.below(2) == 0);
        let reader = random.below(peers.len());
        (0..random.below(3)).for_each(|_| peers[reader].read());
    }
    peers
}
