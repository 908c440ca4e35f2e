//! Redis is killed while events flow, and everything recovers by itself.

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
    sse::{Received, SseClient},
    wait_until,
    websocket::WebSocketClient,
};

const TOPICS: usize = 20;
const SUBSCRIBERS: usize = 200;

/// A client on either transport.
enum Subscriber {
    Stream(SseClient),
    Socket(WebSocketClient),
}

impl Subscriber {
    fn open(hub: &Hub, number: usize) -> Self {
        let topic = number % TOPICS;
        match number % 2 {
            0 => Self::Stream(SseClient::open(hub, &format!("/sse?topic=t{topic}"))),
            _ => Self::Socket(WebSocketClient::open_v1(hub, &format!("/ws?topic=t{topic}"))),
        }
    }

    /// The next event, or the reason of the next gap.
    fn next(&mut self) -> Result<u64, String> {
        match self {
            Self::Stream(stream) => {
                let Received { kind, data, .. } = stream.next();
                if kind == "gap" { Err(data) } else { Ok(data.parse().expect("the publisher sends numbers")) }
            }
            Self::Socket(socket) => loop {
                let message = socket.next_json();
                match message["op"].as_str() {
                    Some("event") => return Ok(message["data"].as_u64().expect("the publisher sends numbers")),
                    Some("gap") => return Err(message.to_string()),
                    _ => {}
                }
            },
        }
    }

    /// All numbers up to the first one that is at least `end`, split at the gaps. They must ascend, and each gap must have
    /// a reason.
    fn read_to(&mut self, end: u64) -> Vec<Vec<u64>> {
        let mut runs = vec![Vec::new()];
        loop {
            let run = runs.last_mut().expect("there is one from the start");
            match self.next() {
                Ok(number) => {
                    assert!(run.last().is_none_or(|last| last + 1 == number), "{number} after {run:?}, and no word");
                    run.push(number);
                    if end <= number {
                        return runs;
                    }
                }
                Err(gap) => {
                    assert!(gap.contains(r#""reason":"source_lost""#), "{gap}");
                    runs.push(Vec::new());
                }
            }
        }
    }
}

/// Publishes ascending numbers to all topics directly at Redis while it runs, until stopped.
struct Publisher {
    stop: AtomicBool,
    last: AtomicU64,
}

impl Publisher {
    fn run(&self, url: &str) {
        let client = redis::Client::open(url).expect("the URL is well-formed");
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            // A failed publication is not repeated, as with any publisher that only calls PUBLISH.
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
    let mut subscribers: Vec<Subscriber> = (0..SUBSCRIBERS).map(|number| Subscriber::open(&hub, number)).collect();
    let publisher = Publisher { stop: AtomicBool::new(false), last: AtomicU64::new(0) };
    let url = server.url();
    thread::scope(|scope| {
        scope.spawn(|| publisher.run(&url));
        // Ends the publisher also if an assertion fails.
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.read_to(20).len(), 1, "a hole before anything broke");
        }
        server.kill();
        let not_ready = wait_until("readiness fails", || Some(hub.get("/ready")).filter(|ready| ready.status == 503));
        assert!(!not_ready.json()["failed"].as_array().expect("a list").is_empty());
        assert_eq!(hub.get("/health").status, 200, "the hub itself is well");
        server.restart();
        wait_until("the hub is ready again", || (hub.get("/ready").status == 200).then_some(()));
        // All events published from now on must arrive.
        let back = publisher.last.load(Ordering::Relaxed) + 1;
        let mut since: HashSet<u64> = HashSet::new();
        for subscriber in &mut subscribers {
            let runs = subscriber.read_to(back + 20);
            assert_eq!(runs.len(), 2, "one outage, one hole: {runs:?}");
            let [before, after] = [&runs[0], &runs[1]];
            assert!(before.last() < after.first(), "{runs:?}");
            let live: Vec<u64> =
                after.iter().copied().filter(|number| (back + 5..=back + 20).contains(number)).collect();
            assert_eq!(live, (back + 5..=back + 20).collect::<Vec<u64>>());
            since.extend(live);
        }
        assert_eq!(since.len(), 16);
    });
    let expected: HashSet<String> = (0..TOPICS).map(|topic| format!("t{topic}")).collect();
    assert!(expected.is_subset(&server.channels().into_iter().collect()), "all channels are subscribed again");
    assert!(TOPICS as f64 <= hub.metric("fanfare_losses_total"), "each topic may have lost events, and it is counted");
    assert!(1.0 <= hub.metric("fanfare_source_reconnects_total{source=\"redis\"}"));
    assert_eq!(hub.stats()["connected_clients"], SUBSCRIBERS);
}
