//! Broadcasts to all streams: by several hubs on one broker, and to very many streams at one hub.

use serde_json::{Value, json};

use crate::support::{Folder, hub::Hub, redis::RedisServer, sse::SseClient, wait_until};

const BROADCAST: &str = "/api/v1/events/broadcast";

fn hub_on(server: &RedisServer, flags: &[&str]) -> Hub {
    let hub = Hub::start_with(&[&["--redis", &server.url()], flags].concat(), &[]);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

fn open(hub: &Hub, stream: &str) -> SseClient {
    SseClient::open(hub, &format!("/api/v1/events/stream/{stream}")).behind_greeting()
}

fn broadcast_to_all(hub: &Hub, message: &str) {
    let answer = hub.post(BROADCAST, json!({ "type": "notice", "message": message }).to_string());
    assert_eq!((answer.status, &answer.json()["message"]), (200, &json!("Event broadcasted to all streams")));
}

fn next(client: &mut SseClient) -> (Value, Value) {
    let event: Value = serde_json::from_str(&client.next_data()).expect("an object");
    (event["message"].clone(), event["stream_id"].clone())
}

#[test]
fn streams_of_every_hub_get_a_broadcast_once() {
    let server = RedisServer::start();
    let hubs = [hub_on(&server, &[]), hub_on(&server, &[])];
    let mut clients: Vec<(SseClient, &str)> =
        [(0, "a"), (0, "both"), (0, "default"), (1, "b"), (1, "both"), (1, "x/y.z")]
            .map(|(hub, stream): (usize, &str)| (open(&hubs[hub], stream), stream))
            .into();
    let mut elsewhere = SseClient::open(&hubs[1], "/api/v1/broadcast-demo/stream/b").behind_greeting();
    for junk in ["junk", "{}", r#"{"id":"e","type":"t","message":"m","timestamp":1}"#] {
        server.command::<u64>(&["PUBLISH", "fanfare.orders.streams.all", junk]);
    }
    assert_eq!(hubs[0].post("/publish/fanfare.orders.streams.all?type=key", "{}").status, 403);
    for (round, hub) in [0, 1, 0].into_iter().enumerate() {
        broadcast_to_all(&hubs[hub], &round.to_string());
        for (client, stream) in &mut clients {
            assert_eq!(next(client), (json!(round.to_string()), json!(stream)));
        }
    }
    let only = json!({ "stream_id": "b", "type": "t", "message": "only" }).to_string();
    assert_eq!(hubs[0].post("/api/v1/broadcast-demo/broadcast", only).status, 200);
    assert_eq!(next(&mut elsewhere).0, "only", "and nothing before it");
    let listed = hubs[1].get("/api/v1/events/streams").json();
    assert_eq!(
        (&listed["data"]["both"]["clients"], &listed["data"]["both"]["clients_of"]),
        (&json!(1), &json!("this hub"))
    );
    // A client that comes back gets everything, or a gap.
    assert_eq!(hubs[1].metric("fanfare_gaps_total{reason=\"source_lost\"}"), 0.0);
    // What hubs say to each other is no event of the source, so the last one was the only one.
    assert_eq!(hubs[1].stats()["events_received_by_source"]["redis"], 1);
}

#[test]
fn a_stream_that_redis_keeps_gets_a_broadcast_once() {
    let (server, folder) = (RedisServer::start(), Folder::new());
    let file = folder.path("fanfare.toml");
    std::fs::write(&file, "[[topics.class]]\nmatch = \"streams.**\"\nlog = \"redis-stream\"\n").expect("it is ours");
    let hubs = [hub_on(&server, &["--config", &file]), hub_on(&server, &["--config", &file])];
    let mut clients = [open(&hubs[0], "both"), open(&hubs[1], "both"), open(&hubs[1], "b")];
    // One after the other: broadcasts of two hubs at a time may come in either order.
    for (hub, kind, count) in [(&hubs[0], "one", 1), (&hubs[1], "two", 2)] {
        broadcast_to_all(hub, kind);
        for client in &mut clients {
            assert_eq!(next(client).0, kind);
        }
        wait_until("all hubs have appended it", || {
            let length = |stream: &str| server.command::<u64>(&["XLEN", &format!("streams.{stream}")]);
            let lengths = ["both", "b", "default"].map(length);
            assert!(lengths.iter().all(|length| *length <= count), "{lengths:?}");
            (lengths == [count; 3]).then_some(())
        });
    }
}

/// A megabyte for each of 300 streams is more than four times what the hub may use.
#[test]
fn a_broadcast_takes_the_memory_of_one_event() {
    let hub = Hub::start_with(&[], &[("server.memory_budget", "64MiB")]);
    let lines: Vec<String> =
        (0..300).map(|stream| json!({ "topic": format!("streams.s{stream}"), "data": 1 }).to_string()).collect();
    assert_eq!(hub.post("/publish", lines.join("\n")).status, 200);
    let mut listening = open(&hub, "s7");
    let text = "x".repeat(900_000);
    let body = json!({ "type": "notice", "message": "large", "data": { "text": text } }).to_string();
    for _ in 0..3 {
        let answer = hub.post(BROADCAST, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(next(&mut listening), (json!("large"), json!("s7")));
    }
    for stream in ["s0", "s299", "system"] {
        let page = hub.get(&format!("/topics/streams.{stream}/history?since=last:1")).json();
        let event = &page["events"][0];
        assert_eq!((&event["type"], &event["data"]["stream_id"]), (&json!("notice"), &json!(stream)));
        assert_eq!(event["data"]["data"]["text"].as_str().map(str::len), Some(text.len()));
    }
    assert!(!hub.publish("t", "there is room").is_empty());
}
