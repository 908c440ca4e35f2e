//! The master is killed, the sentinels promote a replica, and the hub finds the new master by itself.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::support::{
    OnDrop,
    hub::Hub,
    send_signal,
    sentinel::SentinelGroup,
    sse::{Received, SseClient},
    wait_until,
    websocket::WebSocketClient,
};

/// Publishes ascending numbers to `t` through the hub until stopped. A number that the hub refuses is not repeated.
struct Publisher {
    stop: AtomicBool,
    accepted: AtomicU64,
}

impl Publisher {
    fn run(&self, hub: &Hub) {
        for number in 1.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if hub.post("/publish/t", number.to_string()).status == 200 {
                self.accepted.store(number, Ordering::Relaxed);
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// Reads up to the event `end`. Returns the numbers before the gap, those after it, and the gap's reason.
fn read_over_one_hole(stream: &mut SseClient, end: u64) -> (Vec<u64>, Vec<u64>, String) {
    let mut halves = [Vec::new(), Vec::new()];
    let mut reason = None;
    while halves[1].last().is_none_or(|last| *last < end) {
        let Received { kind, data, .. } = stream.next();
        if kind == "gap" {
            let gap: serde_json::Value = serde_json::from_str(&data).expect("JSON");
            assert_eq!(gap["topic"], "t");
            let former = reason.replace(gap["reason"].as_str().expect("a word").to_owned());
            assert_eq!(former, None, "one outage, one hole");
        } else {
            let number = data.parse().expect("the publisher sends numbers");
            halves[usize::from(reason.is_some())].push(number);
        }
    }
    let [before, after] = halves;
    (before, after, reason.expect("the gap comes before what follows it"))
}

#[test]
fn a_master_that_hangs_is_left_when_the_sentinels_name_another() {
    let mut group = SentinelGroup::start();
    let settings = [
        ("redis.backoff_max", "200ms"),
        ("redis.ping_interval", "500ms"),
        // Not because the master is silent.
        ("redis.ping_timeout", "10m"),
        ("redis.publish_timeout", "1s"),
        ("server.default_topics", ""),
    ];
    let hub = Hub::start_with(&["--redis", &group.url()], &settings);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.post("/publish/t", "before").status, 200);
    assert_eq!(stream.next_data(), "before");
    let pid = group.master().pid();
    send_signal("STOP", pid);
    wait_until("the hub has the new master", || {
        (hub.metric("fanfare_source_reconnects_total{source=\"redis\"}") == 1.0).then_some(())
    });
    wait_until("publishing works again", || (hub.post("/publish/t", "after").status == 200).then_some(()));
    assert_eq!((stream.next().kind.as_str(), stream.next_data().as_str()), ("gap", "after"));
    wait_until("the hub is ready again", || (hub.get("/ready").status == 200).then_some(()));
    send_signal("CONT", pid);
}

#[test]
fn a_failover_heals_by_itself() {
    let mut group = SentinelGroup::start();
    let settings = [("redis.backoff_min", "20ms"), ("redis.backoff_max", "200ms"), ("server.default_topics", "")];
    let hub = Hub::start_with(&["--redis", &group.url()], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let old_port = group.master_port().expect("the sentinels know");
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut socket = WebSocketClient::open_v1(&hub, "/ws?topic=t");
    let publisher = Publisher { stop: AtomicBool::new(false), accepted: AtomicU64::new(0) };
    let accepted = || publisher.accepted.load(Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| publisher.run(&hub));
        // Ends the publisher also if an assertion fails.
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        wait_until("events flow", || (20 <= accepted()).then_some(()));
        group.master().kill();
        let ready = wait_until("readiness fails", || Some(hub.get("/ready")).filter(|ready| ready.status == 503));
        let source = &ready.json()["sources"]["redis"];
        assert!(source["ok"] == false && source["reason"].is_string() && source["for_s"].is_number(), "{source}");
        assert_eq!(hub.get("/health").status, 200, "the hub itself is well");
        wait_until("the hub is ready again", || (hub.get("/ready").status == 200).then_some(()));
        let back = accepted();
        wait_until("events flow again", || (back + 20 <= accepted()).then_some(()));
        publisher.stop.store(true, Ordering::Relaxed);
    });
    assert_ne!(group.master_port(), Some(old_port), "another server is the master now");
    let (before, after, reason) = read_over_one_hole(&mut stream, accepted());
    assert_eq!(reason, "source_lost");
    for half in [&before, &after] {
        assert!(half.windows(2).all(|pair| pair[0] + 1 == pair[1]), "events are missing without a gap: {half:?}");
    }
    let gap =
        wait_until("the other transport tells it, too", || Some(socket.next_json()).filter(|it| it["op"] == "gap"));
    assert_eq!((&gap["topic"], &gap["reason"]), (&"t".into(), &"source_lost".into()));
    assert_eq!(hub.metric("fanfare_source_losses_total{source=\"redis\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"redis\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_source_up{source=\"redis\"}"), 1.0);
}
