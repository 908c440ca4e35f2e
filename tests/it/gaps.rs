//! Gaps in each transport, readers that fall behind, and repeated publications.

use std::{collections::HashSet, thread};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};
use socket2::Socket;

use crate::support::{
    http::HttpConnection,
    hub::Hub,
    sse::SseClient,
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

/// An id that this hub never gave, and its own first one for `topic`.
const FOREIGN: &str = "7-7";

fn gap(data: &str) -> Value {
    serde_json::from_str(data).expect("a gap is JSON")
}

/// The id that is `back` positions before `id`.
fn before(id: &str, back: u64) -> String {
    let (major, minor) = id.split_once('-').expect("an event id");
    format!("{major}-{}", minor.parse::<u64>().expect("a number") - back)
}

#[test]
fn an_id_of_another_hub_is_a_gap_on_every_transport() {
    let hub = Hub::start();
    let first = hub.publish("t", "1");
    let mut expected = json!({ "topic": "t", "from": FOREIGN, "to": before(&first, 1), "reason": "epoch" });
    // Clients of unnamed events distinguish gaps by their data.
    (expected["type"], expected["message"]) = ("gap".into(), "events are missing here".into());
    let mut stream = SseClient::open_with(&hub, "/sse?topic=t&named=0", &[("Last-Event-ID", FOREIGN)]);
    let received = stream.next();
    assert_eq!((received.kind.as_str(), received.id, gap(&received.data)), ("gap", before(&first, 1), expected));
    assert_eq!(stream.next_data(), "1", "then all there is");

    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let subscribed = socket.ask(&json!({ "op": "subscribe", "topic": "t", "since": FOREIGN, "ref": 1 }));
    assert_eq!((&subscribed["op"], &subscribed["id"]), (&json!("subscribed"), &json!(FOREIGN)));
    let mut received = socket.next_json();
    assert_eq!(received["op"].take(), "gap");
    assert_eq!(
        received,
        json!({ "op": null, "topic": "t", "from": FOREIGN, "to": before(&first, 1), "reason": "epoch" })
    );
    assert_eq!(socket.next_json()["data"], 1);

    let mut raw = WebSocketClient::open(&hub, &format!("/ws?topic=t&last_event_id={FOREIGN}"));
    let Incoming::Close(Some(4408), reason) = raw.next() else { panic!("a raw socket is closed") };
    let reason = gap(&reason);
    assert_eq!((&reason["gap"], &reason["from"]), (&json!("epoch"), &json!(FOREIGN)));
    assert!(reason["reconnect_in_ms"].is_u64(), "{reason}");
    let to = reason["to"].as_str().expect("an id");
    let mut raw = WebSocketClient::open(&hub, &format!("/ws?topic=t&last_event_id={to}"));
    hub.publish("t", "2");
    assert_eq!(raw.next_text(), "2", "from the end of the gap on it goes on");
}

/// Hubs that are started together give the events of a topic the same numbers. Only the epochs distinguish their logs.
#[test]
fn hubs_started_together_share_no_id() {
    let mut hubs: Vec<Hub> = thread::scope(|scope| {
        let started: Vec<_> = (0..5).map(|_| scope.spawn(Hub::start)).collect();
        started.into_iter().map(|hub| hub.join().expect("it starts")).collect()
    });
    let ids: Vec<Vec<String>> =
        hubs.iter().map(|hub| (0..4).map(|number| hub.publish("t", number.to_string())).collect()).collect();
    let distinct: HashSet<&String> = ids.iter().flatten().collect();
    assert_eq!(distinct.len(), 20, "{ids:?}");
    let (other, seen) = (hubs.pop().expect("a hub"), &ids[0][2]);
    let mut stream = SseClient::open_with(&other, "/sse?topic=t", &[("Last-Event-ID", seen)]);
    assert_eq!(gap(&stream.next().data)["reason"], "epoch");
    assert_eq!(stream.next_data(), "0");
}

#[test]
fn what_has_expired_is_a_gap_with_exact_ends() {
    let settings =
        [("topics.history.count", "2"), ("topics.lag.count", "1"), ("topics.lag.bytes", "1"), ("sse.retry", "10ms")];
    let hub = Hub::start_with(&[], &settings);
    let ids: Vec<String> = (0..5).map(|number| hub.publish("t", number.to_string())).collect();
    for resume in ["Last-Event-ID", "last_event_id", "lastEventId"] {
        let (target, headers) = match resume {
            "Last-Event-ID" => ("/sse?topic=t".to_owned(), vec![(resume, ids[0].as_str())]),
            _ => (format!("/sse?topic=t&{resume}={}", ids[0]), Vec::new()),
        };
        let mut stream = SseClient::open_with(&hub, &target, &headers);
        let expected = json!({ "topic": "t", "from": ids[0], "to": ids[2], "reason": "expired" });
        assert_eq!(gap(&stream.next().data), expected, "{resume}");
        assert_eq!((stream.next_data(), stream.next_data()), ("3".into(), "4".into()), "{resume}");
    }
    // A client that has had the gap, or everything before it, does not get it again.
    let mut stream = SseClient::open_with(&hub, "/sse?topic=t", &[("Last-Event-ID", &ids[2])]);
    assert_eq!(stream.next_data(), "3");
    let history = hub.get(&format!("/topics/t/history?since={}", ids[1])).json();
    assert_eq!(history["gap"], json!({ "from": ids[1], "to": ids[2], "reason": "expired" }));
    assert_eq!(history["events"].as_array().expect("a list").len(), 2);
    let everything = hub.get("/topics/t/history").json();
    assert_eq!(everything["gap"], json!({ "from": "0-0", "to": ids[2], "reason": "expired" }));
    assert!(3.0 <= hub.metric("fanfare_gaps_total{reason=\"expired\"}"));
}

#[test]
fn several_topics_resume_by_the_vector_and_each_has_its_gaps() {
    let hub = Hub::start();
    let (a, b) = (hub.publish("a", "a1"), hub.publish("b", "b1"));
    let vector = format!("{FOREIGN},{b}");
    let mut stream = SseClient::open_with(&hub, "/sse?topic=a&topic=b", &[("Last-Event-ID", &vector)]);
    let received = stream.next();
    assert_eq!((gap(&received.data)["topic"].as_str(), received.id), (Some("a"), format!("{},{b}", before(&a, 1))));
    assert_eq!((stream.next().id, hub.publish("b", "b2").as_str()), (format!("{a},{b}"), stream_tail(&mut stream)));
}

/// The part of the next event's id that belongs to the last topic.
fn stream_tail(stream: &mut SseClient) -> &'static str {
    let id = stream.next().id;
    Box::leak(id.split(',').next_back().expect("a vector").to_owned().into_boxed_str())
}

#[test]
fn a_browser_has_an_id_before_the_first_event() {
    let hub = Hub::start();
    let id = hub.publish("t", "seen by nobody");
    let mut socket = HttpConnection::new(hub.connect());
    let fields = "Accept: text/event-stream\r\nOrigin: http://localhost\r\nCache-Control: no-cache\r\nPragma: no-cache";
    socket.send(format!("GET /sse?topic=t HTTP/1.0\r\nHost: h\r\n{fields}\r\n\r\n").as_bytes());
    let mut socket = socket.into_socket();
    let expected = format!("\nid: {id}\n\n");
    let mut text = String::new();
    wait_until("the id is sent", || {
        text.push_str(&read_some(&mut socket));
        text.contains(&expected).then_some(())
    });
}

fn read_some(socket: &mut Socket) -> String {
    use std::io::Read;
    let mut buffer = [0; 4096];
    let count = socket.read(&mut buffer).expect("the stream goes on");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// A stream with small socket buffers. With much smaller ones the client would be slow for another reason: the kernel delays the
/// announcement of a small window.
fn open_stalled(hub: &Hub, target: &str) -> SseClient {
    let socket = hub.connect();
    socket.set_recv_buffer_size(64 * 1024).expect("the size is a proper one");
    SseClient::open_on(socket, target, &[])
}

#[test]
fn a_client_that_falls_behind_gets_a_gap_if_its_class_says_so() {
    let settings = [
        ("topics.history.count", "10"),
        ("topics.lag.count", "20"),
        ("topics.policy", "skip"),
        ("limits.event_bytes_max", "1MiB"),
    ];
    let hub = Hub::start_with(&[], &settings);
    let mut stalled = open_stalled(&hub, "/sse?topic=t");
    let large = "x".repeat(200_000);
    let ids: Vec<String> = (0..100).map(|number| hub.publish("t", format!("{number} {large}"))).collect();
    // Every event is delivered, or within the one gap.
    let (mut next, mut gaps) = (0, 0);
    while next < ids.len() {
        let event = stalled.next();
        if event.kind == "gap" {
            gaps += 1;
            let received = gap(&event.data);
            assert_eq!((&received["from"], &received["reason"]), (&json!(ids[next - 1]), &json!("overflow")));
            next = 1 + ids.iter().position(|id| received["to"] == json!(id)).expect("an event of ours");
        } else {
            assert_eq!(event.id, ids[next]);
            next += 1;
        }
    }
    assert!(1 <= gaps, "it must have fallen behind");
}

#[test]
fn a_client_behind_in_a_topic_of_policy_latest_gets_the_newest_of_each_key() {
    let settings = [("topics.policy", "latest"), ("topics.key", "/sensor"), ("topics.lag.bytes", "64MiB")];
    let hub = Hub::start_with(&[], &settings);
    let mut stalled = open_stalled(&hub, "/sse?topic=t");
    let mut quick = SseClient::open(&hub, "/sse?topic=t");
    let padding = "x".repeat(100_000);
    let rounds = 60;
    for round in 0..rounds {
        for sensor in ["a", "b"] {
            hub.publish("t", json!({ "sensor": sensor, "round": round, "padding": padding }).to_string());
            let seen: Value = serde_json::from_str(&quick.next_data()).expect("JSON");
            assert_eq!(
                (&seen["sensor"], &seen["round"]),
                (&json!(sensor), &json!(round)),
                "a client that keeps up misses nothing"
            );
        }
    }
    let mut last = [-1, -1];
    let mut count = 0;
    while last != [rounds - 1, rounds - 1] {
        let event = stalled.next();
        assert_ne!(event.kind, "gap", "nothing fell off the log");
        let seen: Value = serde_json::from_str(&event.data).expect("JSON");
        let round = seen["round"].as_i64().expect("a number");
        let sensor = usize::from(seen["sensor"] == "b");
        assert!(last[sensor] < round, "in order");
        last[sensor] = round;
        count += 1;
    }
    assert!(count < rounds, "{count} of {} events came: superseded ones are left out", 2 * rounds);
    assert!(0.0 < hub.metric("fanfare_conflated_total"));
}

#[test]
fn a_repeat_under_the_same_key_answers_the_first_id() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let publish = |body: &str| {
        let headers = [("Idempotency-Key", "order-17")];
        let response =
            HttpConnection::new(hub.connect()).request(Method::Post, "/publish/t", &headers, body.as_bytes());
        response.json()["id"].clone()
    };
    let first = publish("once");
    assert_eq!(publish("once"), first);
    let batch = r#"[{"topic":"t","data":1,"idempotency_key":"order-17"},{"topic":"t","data":2,"idempotency_key":"k"},
                    {"topic":"t","data":3,"idempotency_key":"k"},{"topic":"u","data":4,"idempotency_key":"k"}]"#;
    let answers = hub.post("/publish", batch).json();
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&first, &answers[2]["id"]));
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let command = json!({ "op": "publish", "topic": "t", "data": 5, "idempotency_key": "k", "ref": 1 });
    assert_eq!(socket.ask(&command)["id"], answers[1]["id"]);
    hub.publish("t", "end");
    assert_eq!([stream.next_data(), stream.next_data(), stream.next_data()], ["once", "2", "end"]);
    let refused = hub.post("/publish", r#"[{"topic":"t","data":1,"idempotency_key":""}]"#);
    assert_eq!((refused.status, refused.json()["error"]["field"].as_str()), (400, Some("[0].idempotency_key")));
}

#[test]
fn the_name_of_a_gap_is_the_hubs_own() {
    let hub = Hub::start();
    let refused = hub.post("/publish/t?type=gap", "x");
    assert_eq!((refused.status, refused.error_code().as_str()), (400, "bad_type"));
}
