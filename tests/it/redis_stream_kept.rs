//! What Redis keeps of topics in streams: as much as their class says, and keys of other applications are not touched.

use serde_json::json;

use crate::support::{hub::Hub, redis::RedisServer, sse::SseClient, wait_until};

/// A hub that keeps all topics in streams of `server`.
fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![("topics.log", "redis-stream"), ("redis.linger", "100ms"), ("server.default_topics", "")];
    all.extend_from_slice(settings);
    let hub = Hub::start_with(&["--redis", &server.url()], &all);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

fn length(server: &RedisServer, key: &str) -> u64 {
    server.command(&["XLEN", key])
}

fn weight(server: &RedisServer, key: &str) -> usize {
    server.command(&["MEMORY", "USAGE", key, "SAMPLES", "0"])
}

fn publish_many(hub: &Hub, topic: &str, count: usize, body: &str) {
    (0..count).for_each(|_| drop(hub.publish(topic, body)));
}

#[test]
fn streams_of_other_applications_are_read_and_never_trimmed() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "10"), ("topics.history.bytes", "8KiB")]);
    for number in 1..=300 {
        server.command::<String>(&["XADD", "theirs", "*", "data", &number.to_string()]);
    }
    let mut stream = SseClient::open(&hub, "/sse?topic=theirs");
    let id = hub.publish("theirs", "ours");
    publish_many(&hub, "theirs", 250, "ours");
    assert_eq!((stream.next().id, length(&server, "theirs")), (id, 551));
    assert_eq!(server.command::<i64>(&["PTTL", "theirs"]), -1);
    let groups: Vec<redis::Value> = server.command(&["XINFO", "GROUPS", "theirs"]);
    assert!(groups.is_empty(), "nothing was changed in it: {groups:?}");
    // Another hub has made the stream, so it belongs to the fleet.
    publish_many(&hub, "fleet", 5, "ours");
    let other = hub_on(&server, &[("topics.history.count", "10")]);
    publish_many(&other, "fleet", 300, "ours");
    assert!((10..=110).contains(&length(&server, "fleet")));
    // Another application has deleted the key and made it again, so it belongs to that application.
    server.command::<u64>(&["DEL", "fleet"]);
    server.command::<String>(&["XADD", "fleet", "*", "data", "theirs"]);
    publish_many(&other, "fleet", 300, "ours");
    assert_eq!((length(&server, "fleet"), server.command::<i64>(&["PTTL", "fleet"])), (301, -1));
}

#[test]
fn a_dump_of_a_stream_is_the_fleets_as_the_stream_was() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "10")]);
    publish_many(&hub, "t", 5, "x");
    let mut connection = server.connect();
    let dump: Vec<u8> = redis::cmd("DUMP").arg("t").query(&mut connection).expect("it is there");
    server.command::<u64>(&["DEL", "t"]);
    redis::cmd("RESTORE").arg("t").arg(0).arg(dump).query::<()>(&mut connection).expect("it is not there");
    publish_many(&hub, "t", 300, "x");
    assert!((10..=110).contains(&length(&server, "t")));
    assert!(0 < server.command::<i64>(&["PTTL", "t"]));
}

#[test]
fn a_stream_is_let_go_when_its_events_are_too_old() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.age", "1500ms")]);
    let topics: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    for topic in &topics {
        hub.publish(topic, "x");
        let left: i64 = server.command(&["PTTL", topic]);
        assert!((1..=1500).contains(&left), "{left} ms");
    }
    // So that the oldest entries fill a node of the stream.
    publish_many(&hub, "t0", 150, "old");
    let first = || hub.get("/topics/t0/history?since=first&limit=1").json()["events"][0]["data"].clone();
    wait_until("the oldest are trimmed", || {
        hub.publish("t0", "new");
        (first() != json!("x") && length(&server, "t0") < 151).then_some(())
    });
    wait_until("all are gone", || {
        let left: u64 = server.command(&["EXISTS", "t1", "t2", "t3", "t0", "t19"]);
        (left == 0).then_some(())
    });
    drop(hub);
    // Only the hub's probe is left, which expires as well.
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    for key in &keys {
        assert!(0 < server.command::<i64>(&["PTTL", key]), "{key} stays for ever");
    }
}

#[test]
fn a_stream_weighs_no_more_than_its_class_says() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "100000"), ("topics.history.bytes", "64KiB")]);
    publish_many(&hub, "t", 300, "small");
    publish_many(&hub, "t", 40, &"x".repeat(8000));
    let all = weight(&server, "t");
    assert!((40 << 10..80 << 10).contains(&all), "{all} bytes");
    // The small entries are gone, and the newest of the large ones remain.
    assert!((4..=9).contains(&length(&server, "t")));
    publish_many(&hub, "t", 2, &"x".repeat(100_000));
    assert_eq!(length(&server, "t"), 1, "the newest stays, whatever it weighs");
    publish_many(&hub, "many", 3000, &"x".repeat(100));
    let all = weight(&server, "many");
    assert!(all < 200 << 10, "{all} bytes");
}

#[test]
fn a_publication_is_one_command() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[]);
    let calls = |command: &str| {
        let figures: String = server.command(&["INFO", "commandstats"]);
        let of = format!("cmdstat_{command}:calls=");
        let line = figures.lines().find_map(|line| line.strip_prefix(of.as_str()));
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    publish_many(&hub, "t", 1, "x");
    let before = (calls("evalsha"), calls("memory|usage"));
    publish_many(&hub, "t", 100, "x");
    let after = (calls("evalsha"), calls("memory|usage"));
    assert_eq!(after.0 - before.0, 100);
    assert!(after.1 - before.1 < 10, "{} looks at what it weighs", after.1 - before.1);
}
