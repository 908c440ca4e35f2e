//! Events through core NATS: interest, several hubs, plain publishers, and messages that the hub cannot carry.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    nats::NatsServer,
    redis::{HOST, free_port},
    sse::SseClient,
    wait_until,
    websocket::WebSocketClient,
};

/// A hub at `url` that forgets unused subjects and reconnects soon.
fn hub_on(url: &str, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("nats.linger", "100ms"),
        ("nats.backoff_min", "20ms"),
        ("nats.backoff_max", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    Hub::start_with(&["--nats", url], &all)
}

fn wait_until_ready(hub: &Hub) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

#[test]
fn a_plain_publisher_reaches_listeners() {
    let server = NatsServer::start();
    let hub = hub_on(&server.url_as(""), &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=events.critical");
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=events.critical");
    let payload = r#"{"event_id":"1","event_type":"SERVER_DOWN","source":"a","sequence":1,"published_at_ms":5}"#;
    server.publish("events.critical", payload);
    assert_eq!((stream.next_data().as_str(), socket.next_text().as_str()), (payload, payload));
    assert_eq!(server.subjects(), ["events.critical"], "one subscription for all listeners of a hub");
    assert_eq!(hub.stats()["events_received_by_source"]["nats"], 1);
    wait_until_ready(&hub);
    assert_eq!(hub.metric("fanfare_source_up{source=\"nats\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_events_received_total{source=\"nats\"}"), 1.0);
    assert!(0.0 < hub.metric("fanfare_source_probe_seconds{source=\"nats\"}"));
}

#[test]
fn subjects_follow_the_listeners() {
    let server = NatsServer::start();
    let hub = hub_on(&server.url_as(""), &[]);
    wait_until_ready(&hub);
    let first = SseClient::open(&hub, "/sse?topic=a&topic=b");
    assert_eq!(server.subjects(), ["a", "b"], "before the stream is open");
    let second = SseClient::open(&hub, "/sse?topic=a");
    drop(first);
    server.wait_for_subjects(&["a"]);
    drop(second);
    server.wait_for_subjects(&[]);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "c" }))["op"], "subscribed");
    assert_eq!(server.subjects(), ["c"], "before it is confirmed");
    assert_eq!(socket.ask(&json!({ "op": "unsubscribe", "topic": "c" }))["op"], "unsubscribed");
    server.wait_for_subjects(&[]);
    // More than one fence confirms. All of them become live.
    let topics: Vec<String> = (0..100).map(|number| format!("many.{number}")).collect();
    let mut streams =
        [0, 1].map(|half| SseClient::open(&hub, &format!("/sse?topic={}", topics[half * 50..][..50].join("&topic="))));
    topics.iter().for_each(|topic| server.publish(topic, topic));
    for (stream, topics) in streams.iter_mut().zip(topics.chunks(50)) {
        topics.iter().for_each(|topic| assert_eq!(stream.next_data(), *topic));
    }
}

#[test]
fn configured_subjects_stay_subscribed() {
    let server = NatsServer::start();
    let hub = hub_on(&server.url_as(""), &[("nats.subscribe", "orders.*,orders.>")]);
    wait_until_ready(&hub);
    assert_eq!(server.subjects(), ["orders.*", "orders.>"]);
    let mut client = server.client();
    client.publish_all("orders.eu", ["1", "2", "3"]);
    // Without subscribers it is still retained. Nothing comes twice, neither through the other pattern nor through the topic.
    wait_until("three events", || (hub.stats()["events_received"] == 3).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=orders.eu&last_event_id=first");
    client.publish_all("orders.eu", ["4", "5"]);
    let received: Vec<String> = (0..5).map(|_| stream.next_data()).collect();
    assert_eq!(received, ["1", "2", "3", "4", "5"]);
    assert_eq!(server.subjects(), ["orders.*", "orders.>"]);
    client.publish("orders.eu.new", "deep");
    wait_until("it is there", || (hub.get("/topics/orders.eu.new/history").status == 200).then_some(()));
}

#[test]
fn every_hub_sees_what_one_hub_publishes() {
    let server = NatsServer::start();
    let hubs = [hub_on(&server.url_as(""), &[]), hub_on(&server.url_as(""), &[])];
    let mut streams = hubs.each_ref().map(|hub| SseClient::open(hub, "/sse?topic=t"));
    let mut socket = WebSocketClient::open_v1(&hubs[1], "/ws?topic=t");
    let publish = |hub: &Hub, target: &str, payload: &str| {
        let response = hub.post(target, payload);
        let body = response.json();
        assert_eq!((response.status, &body["topic"], &body["id"]), (200, &json!("t"), &Value::Null), "{body}");
    };
    publish(&hubs[0], "/publish/t?type=made", r#"{"n":1}"#);
    publish(&hubs[1], "/publish/t", "two\nlines");
    let batch = hubs[0].post("/publish", r#"[{"topic":"t","type":"x","data":3},{"topic":"t","data":4}]"#);
    assert_eq!((batch.status, batch.json().as_array().map(Vec::len)), (200, Some(2)));
    for stream in &mut streams {
        let events = [0; 4].map(|_| stream.next()).map(|event| (event.kind, event.data));
        let expected = [("made", r#"{"n":1}"#), ("", "two\nlines"), ("x", "3"), ("", "4")];
        assert_eq!(events, expected.map(|(kind, data)| (kind.to_owned(), data.to_owned())));
    }
    assert_eq!(socket.next_json()["type"], "made");
    socket.send(r#"{"op":"publish","topic":"t","data":5,"ref":1}"#);
    let answers: Vec<Value> = (0..5).map(|_| socket.next_json()).collect();
    assert!(answers.iter().any(|answer| answer["op"] == "published" && answer["ref"] == 1), "{answers:?}");
    assert_eq!(streams.each_mut().map(SseClient::next_data), ["5", "5"]);
}

#[test]
fn a_repeat_under_the_same_key_is_delivered_by_no_hub() {
    let server = NatsServer::start();
    let hubs = [hub_on(&server.url_as(""), &[]), hub_on(&server.url_as(""), &[])];
    let mut streams = hubs.each_ref().map(|hub| SseClient::open(hub, "/sse?topic=t"));
    for (hub, data) in [(&hubs[0], 1), (&hubs[0], 2), (&hubs[1], 3)] {
        let body = json!([{ "topic": "t", "data": data, "idempotency_key": "the same" }]).to_string();
        assert_eq!(hub.post("/publish", body).status, 200);
    }
    // The header means the same from any other sender.
    server.client().publish_with("t", &[("Nats-Msg-Id", "the same")], "4");
    server.publish("t", "last");
    for stream in &mut streams {
        assert_eq!([stream.next_data(), stream.next_data()], ["1", "last"]);
    }
}

#[test]
fn events_are_plain_messages_with_headers() {
    let server = NatsServer::start();
    let hub = hub_on(&server.url_as(""), &[]);
    wait_until_ready(&hub);
    let (sender, received) = std::sync::mpsc::channel();
    server.subscribe("t", move |_, headers, payload| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Fails only if the test has ended.
        let _ = sender.send((headers.map(text), text(payload)));
    });
    assert_eq!(hub.post("/publish/t", "as it is").status, 200);
    let body = json!([{ "topic": "t", "type": "100% new", "data": {"n": 1}, "idempotency_key": "k" }]).to_string();
    assert_eq!(hub.post("/publish", body).status, 200);
    let next = || received.recv_timeout(crate::support::TIMEOUT).expect("the message should come");
    assert_eq!(next(), (None, "as it is".to_owned()));
    let (headers, payload) = next();
    let headers = headers.expect("it has a type");
    assert_eq!(payload, r#"{"n":1}"#);
    for line in ["Event-Type: 100%25 new\r\n", "Nats-Msg-Id: k\r\n"] {
        assert!(headers.starts_with("NATS/1.0\r\n") && headers.contains(line), "{headers}");
    }
    let mut stream = SseClient::open(&hub, "/sse?topic=u");
    let mut client = server.client();
    client.publish_with("u", &[("Event-Type", "theirs"), ("X-Other", "y")], "1");
    client.publish_with("u", &[("Event-Type", "100% new")], "2");
    let events = [stream.next(), stream.next()].map(|event| (event.kind, event.data));
    assert_eq!(events, [("theirs", "1"), ("100% new", "2")].map(|(kind, data)| (kind.to_owned(), data.to_owned())));
}

#[test]
fn topics_are_subjects_letter_for_letter() {
    let server = NatsServer::start();
    let hub = hub_on(&server.url_as(""), &[]);
    for topic in ["orders/eu:7", "A.b-c_d", "a/b.c:d", "_x", "0"] {
        let mut stream = SseClient::open(&hub, &format!("/sse?topic={topic}"));
        server.publish(topic, "theirs");
        assert_eq!(stream.next_data(), "theirs", "{topic}");
        assert_eq!(hub.post(&format!("/publish/{topic}"), "ours").status, 200, "{topic}");
        assert_eq!(stream.next_data(), "ours", "{topic}");
    }
}

/// A pattern also brings subjects that are no topic names, messages that the hub cannot carry, and probes of other hubs.
#[test]
fn what_is_no_event_is_counted_and_named() {
    let server = NatsServer::start();
    let other = hub_on(&server.url_as(""), &[("nats.ping_interval", "50ms")]);
    let hub = hub_on(&server.url_as(""), &[("nats.subscribe", ">"), ("limits.event_bytes_max", "64KiB")]);
    wait_until_ready(&other);
    wait_until_ready(&hub);
    let refused = || hub.metric("fanfare_source_rejected_messages_total{source=\"nats\"}");
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut client = server.client();
    client.publish("größe.1", "x");
    client.publish("$other", "x");
    client.publish("t", "first");
    assert_eq!(stream.next_data(), "first");
    assert_eq!(refused(), 2.0);
    // In a topic such a message leaves a gap.
    let large = vec![b'x'; 64 * 1024 + 1];
    for (payload, count) in [(&b"\xFF"[..], 3.0), (&large, 4.0)] {
        client.publish("t", payload);
        let gap = stream.next();
        assert!(gap.kind == "gap" && gap.data.contains("source_lost"), "{gap:?}");
        assert_eq!(refused(), count);
    }
    // What is passed over may come in many pieces.
    client.publish("t", vec![b'x'; 900_000]);
    assert_eq!(stream.next().kind, "gap");
    assert_eq!(refused(), 5.0);
    client.publish_with("t", &[("Event-Type", "a\u{b}b")], "typed");
    assert_eq!(stream.next_data(), "typed");
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"nats\"}"), 0.0);
    let topics = hub.get("/topics").text();
    assert!(!topics.contains("_INBOX"), "probes are no events: {topics}");
}

#[test]
fn an_event_that_the_server_does_not_take_is_refused() {
    let server = NatsServer::start_with("max_payload: 500");
    let hub = hub_on(&server.url_as(""), &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let response = hub.post("/publish/t", "x".repeat(501));
    let (status, code, text) = (response.status, response.error_code(), response.text());
    assert_eq!((status, code.as_str()), (413, "too_big"), "{text}");
    assert!(text.contains("max_payload"), "{text}");
    assert_eq!(hub.post("/publish/t", "small").status, 200);
    assert_eq!(stream.next_data(), "small", "the connection is as it was");
}

#[test]
fn a_hub_may_start_before_its_server() {
    let (away, port) = (free_port(), free_port());
    let url = format!("nats://{HOST}:{away},nats://{HOST}:{port}");
    let hub = hub_on(&url, &[("nats.publish_timeout", "300ms"), ("server.live_timeout", "100ms")]);
    let ready = hub.get("/ready");
    assert_eq!(ready.status, 503, "{}", ready.text());
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let response = hub.post("/publish/t", "early");
    assert_eq!((response.status, response.error_code().as_str()), (503, "unavailable"));
    let server = NatsServer::start_at(port, "");
    wait_until_ready(&hub);
    let gap = stream.next();
    assert!(gap.kind == "gap" && gap.data.contains("source_lost"), "{gap:?}");
    server.publish("t", "now");
    assert_eq!(stream.next_data(), "now");
}

#[test]
fn streams_of_every_hub_get_a_broadcast_once() {
    let server = NatsServer::start();
    let hubs = [hub_on(&server.url_as(""), &[]), hub_on(&server.url_as(""), &[])];
    hubs.iter().for_each(wait_until_ready);
    let open = |hub: usize, stream: &str| {
        SseClient::open(&hubs[hub], &format!("/api/v1/events/stream/{stream}")).behind_greeting()
    };
    let mut clients = [open(0, "a"), open(0, "both"), open(1, "both"), open(1, "b")];
    for (hub, message) in [(0, "one"), (1, "two")] {
        let order = json!({ "type": "notice", "message": message }).to_string();
        assert_eq!(hubs[hub].post("/api/v1/events/broadcast", order).status, 200);
        for client in &mut clients {
            let event: Value = serde_json::from_str(&client.next_data()).expect("an object");
            assert_eq!(event["message"], message);
        }
    }
}
