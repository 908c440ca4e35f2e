//! One hub with classes of topics on different engines.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Folder, hub::Hub, nats::NatsServer, redis::RedisServer, run_program, sse::SseClient, stdout_of, wait_until,
};

const CLASSES: &str = r#"
topics.source = "nats"
[[topics.class]]
match = "r.*"
source = "redis"
[[topics.class]]
match = "s.*"
log = "redis-stream"
[[topics.class]]
match = "j.*"
log = "jetstream"
[[topics.class]]
match = "h.*"
source = "hub"
"#;

const TOPICS: [&str; 5] = ["r.1", "s.1", "j.1", "h.1", "n.1"];

fn hub_on(redis: &RedisServer, nats: &NatsServer) -> Hub {
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    fs::write(&file, CLASSES).expect("the folder is writable");
    let flags = ["--config", &file, "--redis", &redis.url(), "--nats", &nats.url_as("")];
    let settings = [
        ("server.default_topics", ""),
        ("redis.backoff_max", "200ms"),
        ("nats.backoff_max", "200ms"),
        ("nats.ping_interval", "200ms"),
        ("nats.publish_timeout", "300ms"),
        ("redis.publish_timeout", "300ms"),
    ];
    let hub = Hub::start_with(&flags, &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

#[test]
fn each_class_has_its_engine() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start_with_jetstream());
    let hubs = [0, 1].map(|_| hub_on(&redis, &nats));
    let mut streams =
        hubs.each_ref().map(|hub| TOPICS.map(|topic| SseClient::open(hub, &format!("/sse?topic={topic}"))));
    for topic in TOPICS {
        let answer = hubs[0].post(&format!("/publish/{topic}"), topic);
        assert_eq!(answer.status, 200, "{topic}: {}", answer.text());
        let has_id = ["s.1", "j.1", "h.1"].contains(&topic);
        assert_eq!(answer.json()["id"] != Value::Null, has_id, "{topic}");
    }
    let [of_first, of_second] = &mut streams;
    let ids = [of_first, of_second].map(|streams| {
        std::iter::zip(TOPICS, streams)
            .filter(|(topic, _)| *topic != "h.1")
            .map(|(topic, stream)| {
                let event = stream.next();
                assert_eq!(event.data, topic);
                event.id
            })
            .collect::<Vec<String>>()
    });
    // r.1, s.1, j.1, n.1: brokers' logs have the same ids at all hubs.
    assert_eq!((ids[0][1] == ids[1][1], ids[0][2] == ids[1][2]), (true, true), "{ids:?}");
    assert_ne!((&ids[0][0], &ids[0][3]), (&ids[1][0], &ids[1][3]), "{ids:?}");
    // What the hub keeps to itself reaches nobody else.
    assert_eq!(streams[0][3].next_data(), "h.1");
    hubs[1].publish("h.1", "of the second");
    assert_eq!(streams[1][3].next_data(), "of the second");
    assert_eq!(nats.subjects(), ["n.1", "n.1"], "and no topic of Redis");
    let port = redis.port().to_string();
    let keys = run_program("redis-cli", "redis-tools", &["-h", redis.host(), "-p", &port, "KEYS", "s.*"]);
    assert_eq!(stdout_of(&keys).trim(), "s.1");
    for name in ["redis", "redis_stream", "nats", "jetstream"] {
        assert_eq!(hubs[0].metric(&format!("fanfare_source_up{{source=\"{name}\"}}")), 1.0, "{name}");
    }
}

/// One server is away: only its topics are concerned, and readiness names it.
#[test]
fn a_server_that_is_away_concerns_its_topics_alone() {
    let (mut redis, nats) = (RedisServer::start(), NatsServer::start_with_jetstream());
    let hub = hub_on(&redis, &nats);
    let mut streams = TOPICS.map(|topic| SseClient::open(&hub, &format!("/sse?topic={topic}")));
    redis.kill();
    let sources = wait_until("readiness names it", || {
        let sources = hub.get("/ready").json()["sources"].clone();
        (sources["redis"]["ok"] == false && sources["redis_stream"]["ok"] == false).then_some(sources)
    });
    assert_eq!((&sources["nats"]["ok"], &sources["jetstream"]["ok"]), (&json!(true), &json!(true)), "{sources}");
    for (topic, stream) in std::iter::zip(TOPICS, &mut streams).skip(2) {
        assert_eq!(hub.post(&format!("/publish/{topic}"), topic).status, 200, "{topic}");
        assert_eq!(stream.next_data(), topic);
    }
    assert_eq!(hub.post("/publish/r.1", "lost").status, 503);
    redis.restart();
    wait_until("it is back", || (hub.get("/ready").status == 200).then_some(()));
    let gap = streams[0].next();
    assert!(gap.kind == "gap" && gap.data.contains("source_lost"), "{gap:?}");
}

#[test]
fn two_servers_need_a_default() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--nats", "nats://127.0.0.1:1"]).env("FANFARE_REDIS__URL", "redis://127.0.0.1:1");
    let problem = Hub::refusal(command);
    assert!(problem.contains("topics.source") && problem.contains("say which of them"), "{problem}");
}
