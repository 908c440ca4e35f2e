//! `fanfare bridge --stream`: logs are carried from Redis Streams into JetStream, and back, each event once and in order, whatever
//! is killed on the way.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use serde_json::Value;

use crate::{
    bridge::{bridge_with, wait_until_active},
    jetstream, redis_stream,
    support::{OnDrop, hub::Hub, nats::NatsServer, redis::RedisServer, send_signal, sse::SseClient, wait_until},
};

/// Both servers, and a hub that reads the logs where they go to.
struct Ends {
    redis: RedisServer,
    nats: NatsServer,
    far: Hub,
    /// Makes the stream, where logs come from JetStream.
    _near: Option<Hub>,
    is_to_nats: bool,
}

/// So that no test waits for a topic to be found, nor for what died to be followed.
const SETTINGS: [(&str, &str); 4] = [
    ("bridge.topics_interval", "50ms"),
    ("topics.history.count", "100000"),
    ("topics.history.age", "1000000h"),
    ("nats.publish_timeout", "1s"),
];

impl Ends {
    fn start(is_to_nats: bool) -> Self {
        Self::start_with(is_to_nats, &[])
    }

    fn start_with(is_to_nats: bool, of_far: &[(&str, &str)]) -> Self {
        let (redis, nats) = (RedisServer::start(), NatsServer::start_with_jetstream());
        let class = "history = { count = 100000, age = \"1000000h\" }";
        let far = match is_to_nats {
            true => jetstream::hub_on(&nats, class, of_far),
            false => redis_stream::hub_on(&redis, &[("topics.history.count", "100000")]),
        };
        let near = (!is_to_nats).then(|| jetstream::hub_on(&nats, class, &[]));
        Self { redis, nats, far, _near: near, is_to_nats }
    }

    fn bridge(&self, settings: &[(&str, &str)]) -> Hub {
        let (from, to) = (self.redis.url(), self.nats.url_as(""));
        let (from, to) = if self.is_to_nats { (from, to) } else { (to, from) };
        let all: Vec<_> = SETTINGS.iter().chain(settings).copied().collect();
        let bridge = bridge_with(&from, &to, &["t.*"], &["--stream"], &all);
        if !settings.contains(&("bridge.lease", "1h")) {
            wait_until_active(&bridge);
        }
        bridge
    }

    /// Adds an event where logs come from.
    fn add(&self, topic: &str, payload: &str) {
        if self.is_to_nats {
            self.redis.command::<String>(&["XADD", topic, "*", "data", payload]);
        } else {
            let answer = self.nats.request(topic, payload);
            assert!(answer["seq"].is_u64(), "{answer}");
        }
    }

    /// All that the topic has where logs go to, and what comes.
    fn read(&self, topic: &str) -> SseClient {
        SseClient::open_with(&self.far, &format!("/sse?topic={topic}"), &[("Last-Event-ID", "0-0")])
    }
}

/// The next one: a payload with its type, or the reason of a gap.
fn next(stream: &mut SseClient) -> String {
    let received = stream.next();
    match received.kind.as_str() {
        "" => received.data,
        "gap" => {
            let gap: Value = serde_json::from_str(&received.data).expect("a gap is JSON");
            format!("gap {}", gap["reason"].as_str().expect("a text"))
        }
        kind => format!("{kind} {}", received.data),
    }
}

#[track_caller]
fn expect(stream: &mut SseClient, expected: &[&str]) {
    let found: Vec<String> = expected.iter().map(|_| next(stream)).collect();
    assert_eq!(found, expected);
}

/// Adds numbers from 1 on while `act` runs, which is told of the newest; returns the last.
fn add_during(ends: &Ends, topic: &str, act: impl FnOnce(&AtomicU64)) -> u64 {
    let (stop, newest) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = newest.load(Ordering::Relaxed) + 1;
                ends.add(topic, &number.to_string());
                newest.store(number, Ordering::Relaxed);
            }
        });
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        act(&newest);
    });
    newest.load(Ordering::Relaxed)
}

fn wait_for_more(newest: &AtomicU64, count: u64) {
    let from = newest.load(Ordering::Relaxed);
    wait_until("more events", || (from + count <= newest.load(Ordering::Relaxed)).then_some(()));
}

/// Every number from 1 to `last`, once and in order, and nothing else.
#[track_caller]
fn expect_all(stream: &mut SseClient, last: u64) {
    for number in 1..=last {
        assert_eq!(next(stream), number.to_string());
    }
}

fn check_contents(is_to_nats: bool) {
    let ends = Ends::start(is_to_nats);
    ends.add("t.a", "old");
    let bridge = ends.bridge(&[]);
    let mut stream = ends.read("t.a");
    expect(&mut stream, &["old"]);
    if is_to_nats {
        ends.redis.command::<String>(&["XADD", "t.a", "*", "type", "made", "data", "{}"]);
    } else {
        ends.nats.client().publish_with("t.a", &[("Event-Type", "made")], "{}");
    }
    expect(&mut stream, &["made {}"]);
    // A topic that nobody knew, and one that no map names.
    ends.add("t.new", "1");
    expect(&mut ends.read("t.new"), &["1"]);
    if is_to_nats {
        ends.add("other.a", "x");
        let info =
            ends.nats.request(&format!("$JS.API.STREAM.INFO.{}", jetstream::STREAM), r#"{"subjects_filter":">"}"#);
        let subjects: Vec<&String> = info["state"]["subjects"].as_object().expect("an object").keys().collect();
        assert_eq!(subjects, ["t.a", "t.new"], "{info}");
    }
    wait_until("all are counted", || (bridge.metric("fanfare_bridge_events_total") == 3.0).then_some(()));
    assert_eq!(bridge.metric("fanfare_bridge_topics"), 2.0);
    assert_eq!(bridge.metric("fanfare_bridge_failures_total"), 0.0);
    // In order, a bridge ends, and the next one goes on where it ended.
    assert!(bridge.terminate().success());
    ends.add("t.a", "meanwhile");
    let _bridge = ends.bridge(&[]);
    expect(&mut stream, &["meanwhile"]);
    expect(&mut ends.read("t.a"), &["old", "made {}", "meanwhile"]);
}

#[test]
fn streams_are_carried_into_jetstream() {
    check_contents(true);
}

#[test]
fn jetstream_is_carried_into_streams() {
    check_contents(false);
}

/// `kill -9` of the bridge under traffic, several times.
fn check_kills(is_to_nats: bool) {
    // JetStream remembers message ids for so short a time that it cannot make up for a bridge that begins in the wrong place.
    let ends = Ends::start_with(is_to_nats, &[("limits.idempotency_window", "100ms")]);
    let mut stream = ends.read("t.a");
    let last = add_during(&ends, "t.a", |newest| {
        for _ in 0..5 {
            let bridge = ends.bridge(&[]);
            wait_until("some are carried", || (100.0 <= bridge.metric("fanfare_bridge_events_total")).then_some(()));
            wait_for_more(newest, 20);
            send_signal("KILL", bridge.pid());
        }
    });
    let _bridge = ends.bridge(&[]);
    expect_all(&mut stream, last);
    ends.add("t.a", "end");
    expect(&mut stream, &["end"]);
}

#[test]
fn a_killed_bridge_to_jetstream_loses_and_doubles_nothing() {
    check_kills(true);
}

#[test]
fn a_killed_bridge_to_streams_loses_and_doubles_nothing() {
    check_kills(false);
}

#[test]
fn what_the_other_side_has_forgotten_is_not_carried_again() {
    let ends = Ends::start_with(true, &[("limits.idempotency_window", "100ms")]);
    for number in 1..=3 {
        ends.add("t.a", &number.to_string());
    }
    let bridge = ends.bridge(&[]);
    let mut stream = ends.read("t.a");
    expect_all(&mut stream, 3);
    let ids: Vec<Vec<redis::Value>> = ends.redis.command(&["XREVRANGE", "t.a", "+", "-", "COUNT", "1"]);
    let newest: String = redis::from_redis_value(ids[0][0].clone()).expect("an id");
    let key = "fanfare.carried.elsewhere:t.a redis_stream:t.a";
    wait_until("Redis knows how far", || {
        (ends.redis.command::<Option<String>>(&["GET", key]) == Some(newest.clone())).then_some(())
    });
    send_signal("KILL", bridge.pid());
    drop(bridge);
    let purged = ends.nats.request(&format!("$JS.API.STREAM.PURGE.{}", jetstream::STREAM), "");
    assert_eq!(purged["purged"], 3, "{purged}");
    ends.add("t.a", "4");
    let _bridge = ends.bridge(&[]);
    let after = std::iter::repeat_with(|| next(&mut stream)).find(|shown| !shown.starts_with("gap"));
    assert_eq!(after.as_deref(), Some("4"));
}

/// Without a lease, so that all of them carry the same at the same time.
fn check_side_by_side(is_to_nats: bool) {
    let ends = Ends::start(is_to_nats);
    let mut stream = ends.read("t.a");
    let _bridges = [(); 3].map(|()| ends.bridge(&[("bridge.lease", "0s")]));
    let last = add_during(&ends, "t.a", |newest| wait_for_more(newest, 1000));
    expect_all(&mut stream, last);
    ends.add("t.a", "end");
    expect(&mut stream, &["end"]);
}

#[test]
fn bridges_side_by_side_do_not_double_in_jetstream() {
    check_side_by_side(true);
}

#[test]
fn bridges_side_by_side_do_not_double_in_streams() {
    check_side_by_side(false);
}

/// The other side is away under traffic, for longer than a publication may wait.
fn check_target_away(is_to_nats: bool) {
    let ends = Ends::start(is_to_nats);
    ends.add("t.a", "first");
    let bridge = ends.bridge(&[("redis.publish_timeout", "300ms"), ("nats.publish_timeout", "300ms")]);
    let mut stream = ends.read("t.a");
    expect(&mut stream, &["first"]);
    let pid = if is_to_nats { ends.nats.pid() } else { ends.redis.pid() };
    send_signal("STOP", pid);
    let thaw = OnDrop(|| send_signal("CONT", pid));
    for number in 1..=200 {
        ends.add("t.a", &number.to_string());
    }
    wait_until("some have failed", || (0.0 < bridge.metric("fanfare_bridge_failures_total")).then_some(()));
    drop(thaw);
    ends.add("t.a", "201");
    expect_all(&mut stream, 201);
    ends.add("t.a", "end");
    expect(&mut stream, &["end"]);
}

#[test]
fn what_jetstream_does_not_answer_is_carried_later() {
    check_target_away(true);
}

#[test]
fn what_redis_does_not_answer_is_carried_later() {
    check_target_away(false);
}

#[test]
fn what_a_stream_has_trimmed_is_told_where_it_is_missing() {
    let ends = Ends::start(true);
    for number in 1..=3 {
        ends.add("t.a", &number.to_string());
    }
    let bridge = ends.bridge(&[]);
    let mut stream = ends.read("t.a");
    expect_all(&mut stream, 3);
    send_signal("KILL", bridge.pid());
    drop(bridge);
    for number in 4..=9 {
        ends.add("t.a", &number.to_string());
    }
    ends.redis.command::<u32>(&["XTRIM", "t.a", "MAXLEN", "2"]);
    let _bridge = ends.bridge(&[]);
    expect(&mut stream, &["gap expired", "8", "9"]);
    expect(&mut ends.read("t.a"), &["1", "2", "3", "gap expired", "8", "9"]);
    // Another stream in its place.
    ends.redis.command::<u32>(&["DEL", "t.a"]);
    ends.add("t.a", "of another");
    expect(&mut stream, &["gap source_lost", "of another"]);
}

#[test]
fn what_jetstream_has_removed_is_told_where_it_is_missing() {
    let ends = Ends::start(false);
    ends.add("t.a", "1");
    let bridge = ends.bridge(&[]);
    let mut stream = ends.read("t.a");
    expect(&mut stream, &["1"]);
    send_signal("KILL", bridge.pid());
    drop(bridge);
    for number in 2..=5 {
        ends.add("t.a", &number.to_string());
    }
    let purged = ends.nats.request(&format!("$JS.API.STREAM.PURGE.{}", jetstream::STREAM), r#"{"keep":2}"#);
    assert_eq!(purged["purged"], 3, "{purged}");
    let _bridge = ends.bridge(&[]);
    expect(&mut stream, &["gap expired", "4", "5"]);
    expect(&mut ends.read("t.a"), &["1", "gap expired", "4", "5"]);
}

/// One that `settings` do not tell to be a link of a chain.
fn opposite(ends: &Ends, flags: &[&str], settings: &[(&str, &str)]) -> [Hub; 2] {
    let (redis, nats) = (ends.redis.url(), ends.nats.url_as(""));
    let all: Vec<_> = SETTINGS.iter().chain(settings).copied().collect();
    let bridges = [(&redis, &nats), (&nats, &redis)].map(|(from, to)| bridge_with(from, to, &["t.*"], flags, &all));
    bridges.iter().for_each(wait_until_active);
    bridges
}

fn returned(bridge: &Hub) -> f64 {
    bridge.metric("fanfare_bridge_returned_total")
}

#[test]
fn logs_in_both_directions_do_not_go_round_in_circles() {
    let ends = Ends::start(true);
    let near = redis_stream::hub_on(&ends.redis, &[("topics.history.count", "100000")]);
    let [to_nats, to_redis] = opposite(&ends, &["--stream"], &[]);
    ends.add("t.a", "of Redis");
    let mut on_nats = ends.read("t.a");
    expect(&mut on_nats, &["of Redis"]);
    assert!(ends.nats.request("t.a", "of NATS")["seq"].is_u64());
    wait_until("what was brought is left", || (1.0 <= returned(&to_nats).min(returned(&to_redis))).then_some(()));
    ends.add("t.a", "end of Redis");
    assert!(ends.nats.request("t.a", "end of NATS")["seq"].is_u64());
    wait_until("again", || (2.0 <= returned(&to_nats).min(returned(&to_redis))).then_some(()));
    let mut on_redis = SseClient::open_with(&near, "/sse?topic=t.a", &[("Last-Event-ID", "0-0")]);
    for (stream, own) in [(&mut on_nats, 3), (&mut on_redis, 4)] {
        let mut all: Vec<String> = (0..own).map(|_| next(stream)).collect();
        all.sort();
        let expected = ["end of NATS", "end of Redis", "of NATS", "of Redis"];
        assert_eq!(all, expected[..own], "each once");
    }
    for bridge in [&to_nats, &to_redis] {
        assert_eq!((bridge.metric("fanfare_bridge_events_total"), returned(bridge)), (2.0, 2.0));
    }
}

#[test]
fn a_bridge_that_is_told_so_carries_on_what_another_has_brought() {
    let ends = Ends::start(true);
    let _to_nats = ends.bridge(&[]);
    // Another Redis behind NATS.
    let behind = RedisServer::start();
    let settings: Vec<_> = SETTINGS.iter().chain(&[("bridge.chain", "true")]).copied().collect();
    let _bridge = bridge_with(&ends.nats.url_as(""), &behind.url(), &["t.*"], &["--stream"], &settings);
    let last = redis_stream::hub_on(&behind, &[]);
    ends.add("t.a", "1");
    let mut stream = SseClient::open_with(&last, "/sse?topic=t.a", &[("Last-Event-ID", "0-0")]);
    expect(&mut stream, &["1"]);
}

/// Pub/Sub has no place for the mark, so what comes from NATS is there once more. Then it ends.
#[test]
fn pubsub_in_both_directions_comes_to_an_end() {
    let ends = Ends::start(true);
    let [to_nats, to_redis] = opposite(&ends, &[], &[]);
    ends.nats.publish("t.a", "x");
    wait_until("it has come back, and stays", || (returned(&to_redis) == 1.0).then_some(()));
    ends.redis.command::<u32>(&["PUBLISH", "t.a", "y"]);
    wait_until("that is left, too", || (returned(&to_redis) == 2.0).then_some(()));
    let carried = [&to_nats, &to_redis].map(|bridge| bridge.metric("fanfare_bridge_events_total"));
    assert_eq!(carried, [2.0, 1.0]);
}

#[test]
fn a_broker_that_does_not_answer_is_named_in_ready() {
    let ends = Ends::start(true);
    let bridge = ends.bridge(&[("bridge.lease", "0s"), ("redis.ping_timeout", "300ms")]);
    // The commands that tell which topics there are, and nothing else.
    ends.redis.command::<String>(&["ACL", "SETUSER", "default", "-scan"]);
    let shown = |what: &str| bridge.get("/ready").text().contains(what);
    wait_until("what is wrong is named", || shown("which topics have a log is not known").then_some(()));
    ends.redis.command::<String>(&["ACL", "SETUSER", "default", "+scan"]);
    wait_until("it has passed", || (!shown("which topics have a log")).then_some(()));
    ends.add("t.a", "x");
    expect(&mut ends.read("t.a"), &["x"]);
}
