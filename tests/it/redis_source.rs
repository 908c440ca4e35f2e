//! Events through Redis Pub/Sub: interest, several hubs, logins, and a server that goes away and comes back.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    redis::{RedisServer, free_port},
    run_program,
    sse::SseClient,
    stdout_of, wait_until,
    websocket::WebSocketClient,
};

/// A hub on `server` that forgets unused channels and reconnects soon.
fn hub_on(url: &str, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("redis.linger", "100ms"),
        ("redis.backoff_min", "20ms"),
        ("redis.backoff_max", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    Hub::start_with(&["--redis", url], &all)
}

fn wait_until_ready(hub: &Hub) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

#[test]
fn redis_cli_publishes_to_listeners() {
    let server = RedisServer::start();
    let hub = hub_on(&server.url(), &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=events.critical");
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=events.critical");
    let payload = r#"{"event_id":"1","event_type":"SERVER_DOWN","source":"a","sequence":1,"published_at_ms":5}"#;
    let port = server.port().to_string();
    let arguments = ["-h", server.host(), "-p", &port, "PUBLISH", "events.critical", payload];
    let receivers = stdout_of(&run_program("redis-cli", "redis-tools", &arguments));
    assert_eq!(receivers.trim(), "1", "one subscription for all listeners of a hub");
    assert_eq!((stream.next_data().as_str(), socket.next_text().as_str()), (payload, payload));
    assert_eq!(hub.stats()["events_received_by_source"]["redis"], 1);
    assert_eq!(hub.metric("fanfare_source_up{source=\"redis\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_events_received_total{source=\"redis\"}"), 1.0);
}

/// It is ready later than it could be, once: not again after an outage.
#[test]
fn a_hub_hears_its_source_for_a_while_before_it_is_ready() {
    let mut server = RedisServer::start();
    let hub = hub_on(&server.url(), &[("redis.subscribe", "*"), ("ready.delay", "1s")]);
    let failed = || hub.get("/ready").json()["failed"].as_array().cloned().expect("a list");
    let reason = wait_until("Redis delivers", || {
        let failed = failed();
        failed.iter().filter_map(Value::as_str).find(|line| line.ends_with("(ready.delay)")).map(str::to_owned)
    });
    assert!(reason.starts_with("the hub has heard its sources for 0."), "{reason}");
    assert_eq!(hub.get("/ready").json()["sources"]["redis"]["ok"], true);
    wait_until_ready(&hub);
    server.kill();
    wait_until("it is not ready", || (hub.get("/ready").status == 503).then_some(()));
    server.restart();
    wait_until("it is ready", || {
        let failed = failed();
        assert!(failed.iter().filter_map(Value::as_str).all(|line| !line.contains("ready.delay")), "{failed:?}");
        failed.is_empty().then_some(())
    });
}

#[test]
fn channels_follow_the_listeners() {
    let server = RedisServer::start();
    let hub = hub_on(&server.url(), &[]);
    wait_until_ready(&hub);
    let own = server.channels();
    let with_own = |names: &[&str]| {
        let mut names: Vec<&str> = names.iter().copied().chain(own.iter().map(String::as_str)).collect();
        names.sort_unstable();
        names.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let wait_for = |names: &[&str]| {
        let expected = with_own(names);
        server.wait_for_channels(&expected.iter().map(String::as_str).collect::<Vec<&str>>());
    };
    let first = SseClient::open(&hub, "/sse?topic=a&topic=b");
    assert_eq!(server.channels(), with_own(&["a", "b"]), "before the stream is open");
    let second = SseClient::open(&hub, "/sse?topic=a");
    drop(first);
    wait_for(&["a"]);
    drop(second);
    wait_for(&[]);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "c" }))["op"], "subscribed");
    assert_eq!(server.channels(), with_own(&["c"]), "before it is confirmed");
    assert_eq!(socket.ask(&json!({ "op": "unsubscribe", "topic": "c" }))["op"], "unsubscribed");
    wait_for(&[]);
}

#[test]
fn configured_patterns_stay_subscribed() {
    let server = RedisServer::start();
    let hub = hub_on(&server.url(), &[("redis.subscribe", "orders.*")]);
    wait_until_ready(&hub);
    assert_eq!(server.command::<u64>(&["PUBSUB", "NUMPAT"]), 1);
    for number in 1..=3 {
        assert_eq!(server.command::<u64>(&["PUBLISH", "orders.eu", &number.to_string()]), 1);
    }
    // Without subscribers it is still retained. Nothing comes twice through the topic's own channel.
    wait_until("three events", || (hub.stats()["events_received"] == 3).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=orders.eu&last_event_id=first");
    server.command::<u64>(&["PUBLISH", "orders.eu", "4"]);
    server.command::<u64>(&["PUBLISH", "orders.eu", "5"]);
    let received: Vec<String> = (0..5).map(|_| stream.next_data()).collect();
    assert_eq!(received, ["1", "2", "3", "4", "5"]);
}

#[test]
fn every_hub_sees_what_one_hub_publishes() {
    let server = RedisServer::start();
    let hubs = [hub_on(&server.url(), &[]), hub_on(&server.url(), &[])];
    let mut streams = hubs.each_ref().map(|hub| SseClient::open(hub, "/sse?topic=t"));
    let mut socket = WebSocketClient::open_v1(&hubs[1], "/ws?topic=t");
    let publish = |hub: &Hub, target: &str, payload: &str| {
        let response = hub.post(target, payload);
        assert_eq!((response.status, &response.json()["topic"]), (200, &json!("t")), "{}", response.text());
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
fn untyped_events_reach_other_subscribers_verbatim() {
    let server = RedisServer::start();
    let hub = hub_on(&server.url(), &[]);
    wait_until_ready(&hub);
    let mut connection = server.connect();
    let mut subscription = connection.as_pubsub();
    subscription.subscribe("t").expect("Redis takes the command");
    assert_eq!(hub.post("/publish/t", "as it is").status, 200);
    let message = subscription.get_message().expect("the event should come");
    assert_eq!(message.get_payload::<String>().expect("text"), "as it is");
}

#[test]
fn logins_and_sockets() {
    let options = ["--requirepass", "default-secret", "--user", "hub", "on", ">user-secret", "~*", "&*", "+@all"];
    let server = RedisServer::start_with(&options);
    let path = server.socket_path();
    let urls = [
        server.url_as(":default-secret@"),
        server.url_as("hub:user-secret@"),
        format!("{}/3", server.url_as("hub:user-secret@")),
        format!("unix://{path}?user=hub&pass=user-secret"),
        format!("redis+unix://{path}?pass=default-secret"),
    ];
    for url in urls {
        let hub = hub_on(&url, &[]);
        let mut stream = SseClient::open(&hub, "/sse?topic=t");
        assert_eq!(hub.post("/publish/t", "x").status, 200, "{url}");
        assert_eq!(stream.next_data(), "x", "{url}");
    }
    let hub = hub_on(&server.url_as("hub:wrong@"), &[]);
    let reason = wait_until("the hub says what is wrong", || {
        let ready = hub.get("/ready");
        let reason = ready.json()["sources"]["redis"]["reason"].as_str()?.to_owned();
        (ready.status == 503 && reason.contains("WRONGPASS")).then_some(reason)
    });
    assert!(!reason.contains("wrong@"), "the password stays out: {reason}");
}

#[test]
fn the_hub_may_start_before_redis() {
    let port = free_port();
    let hub = hub_on(&format!("redis://127.0.0.2:{port}"), &[]);
    assert_eq!(hub.get("/health").status, 200);
    let ready = hub.get("/ready");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    let refused = hub.post("/publish/t", "x");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    let _server = RedisServer::start_at(port);
    wait_until_ready(&hub);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.post("/publish/t", "x").status, 200);
    assert_eq!(stream.next_data(), "x");
}

#[test]
fn publishing_without_redis_is_refused_clearly() {
    let mut server = RedisServer::start();
    let hub = hub_on(&server.url(), &[("redis.publish_timeout", "1s")]);
    wait_until_ready(&hub);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    server.kill();
    wait_until("readiness fails", || (hub.get("/ready").status == 503).then_some(()));
    let refused = hub.post("/publish/t", "x");
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "unavailable"));
    assert!(refused.header("retry-after").is_some());
    let batch = hub.post("/publish", r#"[{"topic":"t","data":1},{"topic":"u","data":2}]"#);
    assert_eq!(batch.status, 503);
    let answer = socket.ask(&json!({ "op": "publish", "topic": "t", "data": 1, "ref": 4 }));
    assert_eq!((&answer["op"], &answer["code"], &answer["ref"]), (&json!("error"), &json!("unavailable"), &json!(4)));
    server.restart();
    wait_until("publishing works again", || (hub.post("/publish/t", "x").status == 200).then_some(()));
}

#[test]
fn payloads_that_are_no_text_are_counted_and_reported() {
    let server = RedisServer::start();
    let hub = hub_on(&server.url(), &[("limits.event_bytes_max", "1KiB")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut connection = server.connect();
    let mut publish = |payload: &[u8]| {
        redis::cmd("PUBLISH").arg("t").arg(payload).query::<u64>(&mut connection).expect("Redis takes the command");
    };
    let bad: [&[u8]; 3] = [b"\xff\xfe", &[b'x'; 2000], b"\xfffanfare1\nbroken"];
    for payload in bad {
        publish(payload);
        publish(b"good");
        let [gap, good] = [stream.next(), stream.next()];
        assert_eq!((gap.kind.as_str(), good.data.as_str()), ("gap", "good"));
        assert!(gap.data.contains("source_lost"), "{gap:?}");
    }
    assert_eq!(hub.stats()["events_received"], 3);
}
