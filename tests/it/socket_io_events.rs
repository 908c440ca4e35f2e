//! Events of topics over Socket.IO: every payload, published by every API, and what clients get when events are lost.

use std::fs;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::{
    Folder,
    hub::Hub,
    redis::RedisServer,
    socket_io::{Carried, Polled, ReceivedEvent, SocketClient, sessions},
    sse::SseClient,
    wait_until,
    websocket::WebSocketClient,
};

const IN_HASTE: (&str, &str) = ("limits.messages_per_second", "10000");

/// One client on each transport, subscribed to `topic`.
fn listeners(hub: &Hub, topic: &str) -> (Carried, Polled) {
    let (mut carried, mut polled) = (Carried::open(hub).enter(), Polled::open(hub).enter());
    carried.subscribe(topic);
    polled.subscribe(topic);
    (carried, polled)
}

#[test]
fn payloads_of_all_kinds_arrive_as_they_are() {
    let hub = Hub::start_with(&["--reactors", "2"], &[IN_HASTE]);
    let (mut carried, mut polled) = listeners(&hub, "t");
    let mut check = |kind: &str, payload: &str, name: &str, expected: Value| {
        let query = if kind.is_empty() { String::new() } else { format!("?type={kind}") };
        let response = hub.post(&format!("/publish/t{query}"), payload);
        assert_eq!(response.status, 200, "{}", response.text());
        for event in [carried.next_event(), polled.next_event()] {
            assert_eq!(
                (event.name.as_str(), event.arguments.as_slice()),
                (name, &[expected.clone()][..]),
                "{payload:.99}"
            );
        }
    };
    check("", "{\"a\":[1,2.50,null]}", "message", json!({ "a": [1, 2.5, null] }));
    check("", "", "message", json!(""));
    check("", "null", "message", json!(null));
    check("", "plain text", "message", json!("plain text"));
    check("", "\"quoted\"", "message", json!("quoted"));
    check("", "{\"broken\":", "message", json!("{\"broken\":"));
    check("", "a\u{1e}b\u{0}c\nd\r\u{2028}\"\\", "message", json!("a\u{1e}b\u{0}c\nd\r\u{2028}\"\\"));
    check("", "Grüße, 世界, 🎺", "message", json!("Grüße, 世界, 🎺"));
    check("", "{\"Grüße\":\"\\ud83c\\udfba\"}", "message", json!({ "Grüße": "🎺" }));
    check("", " [ 1 , 2 ] ", "message", json!([1, 2]));
    check("", "\"$binary\"", "message", json!("$binary"));
    check("", "{\"$binary\":7}", "message", json!({ "$binary": 7 }));
    check("", "{\"$binary\":\"no base64!\"}", "message", json!({ "$binary": "no base64!" }));
    check("", &"x".repeat(64 * 1024), "message", json!("x".repeat(64 * 1024)));
    check("", &format!("[\"{}\"]", "é".repeat(32 * 1024)), "message", json!(["é".repeat(32 * 1024)]));
    check("telemetry_update", "1", "telemetry_update", json!(1));
    check("two%20words%20%22quoted%22", "1", "two words \"quoted\"", json!(1));
}

#[test]
fn binaries_in_payloads_become_attachments() {
    let hub = Hub::start_with(&[], &[IN_HASTE]);
    let (mut carried, mut polled) = listeners(&hub, "t");
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for number in 0..20 {
        let payload = json!({ "n": number, "all": { "$binary": BASE64.encode(&bytes) }, "none": { "$binary": "" } });
        hub.publish("t", payload.to_string());
    }
    for number in 0..20 {
        for event in [carried.next_event(), polled.next_event()] {
            let argument = &event.arguments[0];
            let attachment =
                |name: &str| &event.attachments[argument[name]["num"].as_u64().expect("a number") as usize];
            assert_eq!(argument["n"], number);
            assert!(*attachment("all") == bytes && attachment("none").is_empty(), "{number}");
        }
    }
}

/// A subscriber of every protocol.
struct Doors {
    carried: Carried,
    polled: Polled,
    stream: SseClient,
    raw: WebSocketClient,
    fanfare: WebSocketClient,
}

impl Doors {
    fn open(hub: &Hub, topic: &str) -> Self {
        let (carried, polled) = listeners(hub, topic);
        let stream = SseClient::open(hub, &format!("/sse?topic={topic}"));
        let raw = WebSocketClient::open(hub, &format!("/ws?topic={topic}"));
        let mut fanfare = WebSocketClient::open_v1(hub, "/ws");
        assert_eq!(fanfare.ask(&json!({ "op": "subscribe", "topic": topic }))["op"], "subscribed");
        Self { carried, polled, stream, raw, fanfare }
    }

    /// Checks that all get `expected`, with this attachment if it has one.
    #[track_caller]
    fn expect(&mut self, expected: &Value, attachment: &[u8]) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(parse(&self.stream.next_data()), *expected);
        assert_eq!(parse(&self.raw.next_text()), *expected);
        assert_eq!(self.fanfare.next_json()["data"], *expected);
        for event in [self.carried.next_event(), self.polled.next_event()] {
            match attachment {
                [] => assert_eq!(event.arguments, std::slice::from_ref(expected)),
                bytes => assert_eq!(event.attachments, [bytes], "{event:?}"),
            }
        }
    }
}

#[test]
fn what_any_api_publishes_reaches_all_protocols() {
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, "[[topics.class]]\nmatch = \"kept.**\"\nlog = \"redis-stream\"\n").expect("the folder is ours");
    let server = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &server.url(), "--config", &config, "--reactors", "2"], &[IN_HASTE]);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    for topic in ["passing.t", "kept.t"] {
        let mut doors = Doors::open(&hub, topic);
        assert_eq!(hub.post(&format!("/publish/{topic}"), "{\"door\":\"http\"}").status, 200);
        doors.expect(&json!({ "door": "http" }), &[]);

        if topic == "passing.t" {
            let _: i64 = server.command(&["PUBLISH", topic, "{\"door\":\"redis\"}"]);
        } else {
            let _: String = server.command(&["XADD", topic, "*", "data", "{\"door\":\"redis\"}"]);
        }
        doors.expect(&json!({ "door": "redis" }), &[]);

        let mut fanfare = WebSocketClient::open_v1(&hub, "/ws");
        let command = json!({ "op": "publish", "topic": topic, "data": { "door": "fanfare.v1" } });
        assert_eq!(fanfare.ask(&command)["op"], "published");
        doors.expect(&json!({ "door": "fanfare.v1" }), &[]);

        let mut sender = Carried::open(&hub).enter();
        sender.emit("publish", &json!({ "topic": topic, "data": { "door": "socket.io" } }));
        assert_eq!(sender.expect_event("published")["topic"], topic);
        doors.expect(&json!({ "door": "socket.io" }), &[]);

        let mut sender = Polled::open(&hub).enter();
        let event = json!(["publish", { "topic": topic, "data": { "b": { "_placeholder": true, "num": 0 } } }]);
        sender.send(&format!("451-{event}\u{1e}bAAECAw=="));
        assert_eq!(sender.expect_event("published")["topic"], topic);
        doors.expect(&json!({ "b": { "$binary": "AAECAw==" } }), &[0, 1, 2, 3]);
    }
}

/// Checks that the numbers up to `last` come in order and once, apart from those that a `gap` covers. `ids`: the id of each number.
#[track_caller]
fn expect_whole_or_gap(client: &mut impl SocketClient, ids: &[String], size: usize) -> usize {
    let mut next = 0;
    let mut gaps = 0;
    while next < ids.len() {
        let ReceivedEvent { name, arguments, .. } = client.next_event();
        if name == "gap" {
            let gap = &arguments[0];
            let before = if next == 0 { gap["from"].clone() } else { json!(ids[next - 1]) };
            assert_eq!((&gap["topic"], &gap["reason"], &gap["from"]), (&json!("t"), &json!("overflow"), &before));
            next = ids.iter().position(|id| gap["to"] == *id).expect("a gap ends at an event") + 1;
            gaps += 1;
        } else {
            let text = arguments[0].as_str().expect("a text");
            assert_eq!((text.split(' ').next(), text.len()), (Some(format!("#{next}").as_str()), size));
            next += 1;
        }
    }
    gaps
}

#[test]
fn a_room_of_many_gets_each_event_or_a_gap() {
    const SIZE: usize = 1000;
    let settings = [IN_HASTE, ("topics.history.count", "0"), ("topics.lag.count", "200")];
    let hub = Hub::start_with(&["--reactors", "4"], &settings);
    let mut carried: Vec<Carried> = (0..200).map(|_| Carried::open(&hub).enter()).collect();
    let mut polled: Vec<Polled> = (0..20).map(|_| Polled::open(&hub).enter()).collect();
    carried.iter_mut().for_each(|client| client.subscribe("t"));
    polled.iter_mut().for_each(|client| client.subscribe("t"));
    // Some clients do not read for some time. The events of some of them fit into the kernel's buffers.
    let mut publisher = crate::support::http::HttpConnection::new(hub.connect());
    let ids: Vec<String> = (0..600)
        .map(|number| {
            let payload = format!("{:x<SIZE$}", format!("#{number} "));
            let method = fanfare_core::protocol::http::Method::Post;
            let response = publisher.request(method, "/publish/t", &[], payload.as_bytes());
            response.json()["id"].as_str().expect("an embedded hub gives ids").to_owned()
        })
        .collect();
    let of_carried: usize = carried.iter_mut().map(|client| expect_whole_or_gap(client, &ids, SIZE)).sum();
    let of_polled: Vec<usize> = polled.iter_mut().map(|client| expect_whole_or_gap(client, &ids, SIZE)).collect();
    assert!(of_polled.iter().all(|gaps| *gaps == 1), "a client that does not poll falls behind by more than is kept");
    let notified = of_carried + of_polled.iter().sum::<usize>();
    assert_eq!(hub.metric("fanfare_gaps_total{reason=\"overflow\"}"), notified as f64);
    assert_eq!(sessions(&hub), 220, "and nobody is sent away");
}

#[test]
fn slow_readers_get_a_gap_and_go_on() {
    const SIZE: usize = 60_000;
    let settings = [IN_HASTE, ("topics.history.count", "0"), ("topics.lag.count", "20")];
    let hub = Hub::start_with(&["--reactors", "2"], &settings);
    let mut slow: Vec<Carried> = (0..5).map(|_| Carried::open(&hub).enter()).collect();
    slow.iter_mut().for_each(|client| client.subscribe("t"));
    let ids: Vec<String> =
        (0..300).map(|number| hub.publish("t", format!("{:x<SIZE$}", format!("#{number} ")))).collect();
    for client in &mut slow {
        assert!(0 < expect_whole_or_gap(client, &ids, SIZE), "18 MB fit into no socket");
        client.emit("ping", &Value::Null);
        client.expect_event("pong");
    }
}

#[test]
fn losses_at_redis_are_reported() {
    let mut server = RedisServer::start();
    let settings =
        [IN_HASTE, ("redis.backoff_min", "20ms"), ("redis.backoff_max", "200ms"), ("esp.namespaces", "/,/x")];
    let hub = Hub::start_with(&["--redis", &server.url(), "--reactors", "2"], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let (mut carried, mut polled) = listeners(&hub, "t");
    // One client in two namespaces.
    carried.send("40/x,");
    carried.next_packet();
    carried.expect_event("connected");
    carried.send("42/x,[\"subscribe\",{\"topic\":\"t\"}]");
    carried.expect_event("subscribed");
    server.kill();
    server.restart();
    let gap_namespace = |event: ReceivedEvent| {
        assert_eq!((event.name.as_str(), &event.arguments[0]["reason"]), ("gap", &json!("source_lost")));
        assert_eq!(event.arguments[0]["topic"], "t");
        event.namespace
    };
    let mut namespaces = [gap_namespace(carried.next_event()), gap_namespace(carried.next_event())];
    namespaces.sort();
    assert_eq!(namespaces, ["/", "/x"]);
    assert_eq!(gap_namespace(polled.next_event()), "/");
    wait_until("it is subscribed again", || (server.command::<i64>(&["PUBLISH", "t", "1"]) == 1).then_some(()));
    assert_eq!((carried.expect_event("message"), polled.expect_event("message")), (json!(1), json!(1)));
}
