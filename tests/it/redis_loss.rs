//! Redis is killed in the middle, and everything comes back by itself.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use redis::Commands;

use crate::support::{
    OnDrop,
    hub::Hub,
    redis::RedisServer,
    sse::SseClient,
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

const TOPICS: usize = 20;
const SUBSCRIBERS: usize = 200;

/// One of either kind, and how often it was told that events are missing.
struct Subscriber<'hub> {
    hub: &'hub Hub,
    topic: usize,
    connection: Connection,
    gaps: usize,
}

enum Connection {
    Stream(SseClient),
    Socket(WebSocketClient),
}

impl<'hub> Subscriber<'hub> {
    fn open(hub: &'hub Hub, number: usize) -> Self {
        let topic = number % TOPICS;
        let connection = match number % 2 {
            0 => Connection::Stream(SseClient::open(hub, &format!("/sse?topic=t{topic}"))),
            _ => Connection::Socket(WebSocketClient::open(hub, &format!("/ws?topic=t{topic}"))),
        };
        Self { hub, topic, connection, gaps: 0 }
    }

    /// The next number. An event stream is told of a gap in-band; a raw WebSocket is closed, and comes back.
    fn next(&mut self) -> u64 {
        loop {
            let text = match &mut self.connection {
                Connection::Stream(stream) => match stream.next() {
                    event if event.kind == "gap" => Err(event.data),
                    event => Ok(event.data),
                },
                Connection::Socket(socket) => match socket.next() {
                    Incoming::Close(Some(4408), reason) => Err(reason),
                    Incoming::Text(text) => Ok(text),
                    other => panic!("unexpected: {other:?}"),
                },
            };
            match text {
                Ok(text) => return text.parse().expect("the publisher sends numbers"),
                Err(reason) => self.take_gap(&reason),
            }
        }
    }

    fn take_gap(&mut self, reason: &str) {
        assert!(reason.contains("\"source_lost\""), "{reason}");
        self.gaps += 1;
        if let Connection::Socket(socket) = &mut self.connection {
            *socket = WebSocketClient::open(self.hub, &format!("/ws?topic=t{}", self.topic));
        }
    }

    /// All numbers up to the first one that is at least `end`; they must ascend.
    fn read_to(&mut self, end: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last().is_none_or(|last| *last < end) {
            let number = self.next();
            assert!(numbers.last().is_none_or(|last| *last < number), "{number} after {numbers:?}");
            numbers.push(number);
        }
        numbers
    }
}

/// Publishes ascending numbers to all topics straight at Redis while it is there, until told to stop.
struct Publisher {
    stop: AtomicBool,
    last: AtomicU64,
}

impl Publisher {
    fn run(&self, url: &str) {
        let client = redis::Client::open(url).expect("the URL is well-formed");
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            // What cannot be published now is not published later: as with any publisher that only calls PUBLISH.
            let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            if connection.is_none() {
                connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok();
            }
            let mut publish =
                |topic: usize| connection.as_mut()?.publish::<_, _, u64>(format!("t{topic}"), number).ok();
            if (0..TOPICS).any(|topic| publish(topic).is_none()) {
                connection = None;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_killed_server_is_survived_by_all() {
    let mut server = RedisServer::start();
    let settings = [("redis.backoff_min", "20ms"), ("redis.backoff_max", "200ms"), ("server.reactors", "2")];
    let hub = Hub::start_with(&["--redis", &server.url()], &settings);
    let mut subscribers: Vec<Subscriber<'_>> = (0..SUBSCRIBERS).map(|number| Subscriber::open(&hub, number)).collect();
    let publisher = Publisher { stop: AtomicBool::new(false), last: AtomicU64::new(0) };
    let url = server.url();
    thread::scope(|scope| {
        scope.spawn(|| publisher.run(&url));
        // Ends the publisher also if an assertion fails.
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        let before: Vec<Vec<u64>> = subscribers.iter_mut().map(|subscriber| subscriber.read_to(20)).collect();
        for numbers in &before {
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a hole before anything broke: {numbers:?}");
        }
        server.kill();
        let not_ready = wait_until("readiness fails", || Some(hub.get("/ready")).filter(|ready| ready.status == 503));
        assert!(!not_ready.json()["failed"].as_array().expect("a list").is_empty());
        assert_eq!(hub.get("/health").status, 200, "the hub itself is well");
        server.restart();
        wait_until("the hub is ready again", || (hub.get("/ready").status == 200).then_some(()));
        // A raw WebSocket is back only once it has been closed and opened anew.
        for subscriber in &mut subscribers {
            while subscriber.gaps == 0 {
                subscriber.next();
            }
        }
        // Whatever is published from now on must come.
        let back = publisher.last.load(Ordering::Relaxed) + 1;
        let mut since: HashSet<u64> = HashSet::new();
        for subscriber in &mut subscribers {
            let numbers = subscriber.read_to(back + 20);
            let live: Vec<u64> = numbers.into_iter().filter(|number| (back + 5..=back + 20).contains(number)).collect();
            assert_eq!(live, (back + 5..=back + 20).collect::<Vec<u64>>());
            since.extend(live);
            assert_eq!(subscriber.gaps, 1, "told once that events are missing");
        }
        assert_eq!(since.len(), 16);
    });
    let expected: HashSet<String> = (0..TOPICS).map(|topic| format!("t{topic}")).collect();
    assert!(expected.is_subset(&server.channels().into_iter().collect()), "all channels are subscribed again");
    assert!(TOPICS as f64 <= hub.metric("fanfare_losses_total"), "each topic may have lost events, and it is counted");
    assert!(1.0 <= hub.metric("fanfare_source_reconnects_total{source=\"redis\"}"));
    assert_eq!(hub.stats()["connected_clients"], SUBSCRIBERS);
}
