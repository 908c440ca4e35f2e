//! Access rules of Redis that forbid something, from the start or later: subscribers get a gap, and recover once it is allowed.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    redis::RedisServer,
    socket_io::{Carried, SocketClient},
    sse::{Received, SseClient},
    wait_until,
    websocket::WebSocketClient,
};

/// A server on which the user `hub` may use the channels `allowed` and those of probes.
fn server_for(allowed: &[&str]) -> RedisServer {
    let server = RedisServer::start();
    set_rules(&server, allowed);
    server
}

fn set_rules(server: &RedisServer, rules: &[&str]) {
    let mut words =
        vec!["ACL", "SETUSER", "hub", "reset", "on", ">secret", "~*", "+@all", "&fanfare.probe.*", "&fanfare.orders.*"];
    words.extend_from_slice(rules);
    server.command::<()>(&words);
}

fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("redis.backoff_min", "20ms"),
        ("redis.backoff_max", "300ms"),
        ("redis.ping_interval", "200ms"),
        ("server.live_timeout", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    Hub::start_with(&["--redis", &server.url_as("hub:secret@")], &all)
}

/// Waits until `/ready` has this status, and one of its lines `under` contains `text`; empty for no line at all.
#[track_caller]
fn wait_for_line(hub: &Hub, status: u16, under: &str, text: &str) -> Value {
    wait_until(&format!("/ready says {status}, {under}: {text}"), || {
        let ready = hub.get("/ready");
        let body = ready.json();
        let lines = body[under].as_array()?.clone();
        let has = |line: &Value| line.as_str().is_some_and(|line| line.contains(text));
        let is_it = if text.is_empty() { lines.is_empty() } else { lines.iter().any(has) };
        (ready.status == status && is_it).then_some(body)
    })
}

#[track_caller]
fn expect_gap(received: &Received) {
    assert_eq!(received.kind, "gap", "{received:?}");
    let gap: Value = serde_json::from_str(&received.data).expect("JSON");
    assert_eq!((&gap["topic"], &gap["reason"]), (&json!("forbidden"), &json!("source_lost")), "{gap}");
}

fn refused(hub: &Hub) -> f64 {
    hub.metric("fanfare_source_refused_subscriptions{source=\"redis\"}")
}

#[test]
fn subscribers_of_a_forbidden_channel_get_a_gap_on_each_transport_and_it_recovers() {
    let server = server_for(&["&allowed"]);
    let hub = hub_on(&server, &[]);
    let mut other = SseClient::open(&hub, "/sse?topic=allowed");
    let mut stream = SseClient::open(&hub, "/sse?topic=forbidden");
    expect_gap(&stream.next());
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    socket.send(r#"{"op":"subscribe","topic":"forbidden"}"#);
    let messages = [socket.next_json(), socket.next_json()];
    assert_eq!(
        (&messages[0]["op"], &messages[1]["op"], &messages[1]["reason"]),
        (&json!("subscribed"), &json!("gap"), &json!("source_lost"))
    );
    // Raw WebSocket has no form for a gap.
    assert_eq!(WebSocketClient::open(&hub, "/ws?topic=forbidden").close_code(), Some(4408));
    let body = wait_for_line(&hub, 200, "degraded", "subscribing to `forbidden` is refused");
    assert!(body["ready"] == true && body["degraded"].to_string().contains("NOPERM"), "{body}");
    assert_eq!(refused(&hub), 1.0);
    // The other topics are not affected.
    server.command::<u64>(&["PUBLISH", "allowed", "1"]);
    assert_eq!(other.next_data(), "1");
    set_rules(&server, &["&*"]);
    wait_for_line(&hub, 200, "degraded", "");
    assert_eq!(refused(&hub), 0.0);
    server.command::<u64>(&["PUBLISH", "forbidden", "2"]);
    expect_gap(&stream.next());
    assert_eq!(stream.next_data(), "2");
    let messages = [socket.next_json(), socket.next_json()];
    assert_eq!((&messages[0]["op"], &messages[1]["op"]), (&json!("gap"), &json!("event")));
    let metrics = hub.get("/metrics").text();
    let is_named = |line: &str| line.starts_with("fanfare_source") && line.contains("forbidden");
    assert!(!metrics.lines().any(is_named), "labels carry no topic");
}

#[test]
fn subscribers_of_a_channel_that_becomes_forbidden_get_a_gap_then_and_at_recovery() {
    let server = server_for(&["&allowed", "&forbidden"]);
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=forbidden");
    server.command::<u64>(&["PUBLISH", "forbidden", "before"]);
    let before = stream.next();
    assert_eq!(before.data, "before");
    // Redis closes the connection of a user who loses the right to a subscribed channel.
    set_rules(&server, &["&allowed"]);
    expect_gap(&stream.next());
    wait_for_line(&hub, 200, "degraded", "subscribing to `forbidden` is refused");
    let mut late = SseClient::open_with(&hub, "/sse?topic=forbidden", &[("Last-Event-ID", &before.id)]);
    expect_gap(&late.next());
    set_rules(&server, &["&*"]);
    wait_for_line(&hub, 200, "degraded", "");
    server.command::<u64>(&["PUBLISH", "forbidden", "after"]);
    expect_gap(&stream.next());
    assert_eq!(stream.next_data(), "after");
    let rest: Vec<_> = std::iter::repeat_with(|| late.next()).take_while(|event| event.data != "after").collect();
    assert!(!rest.is_empty() && rest.iter().all(|event| event.kind == "gap"), "{rest:?}");
}

#[test]
fn socket_io_clients_get_gaps_too() {
    let server = server_for(&[]);
    let hub = hub_on(&server, &[]);
    let mut socket = Carried::open(&hub).enter();
    socket.subscribe("forbidden");
    let event = socket.next_event();
    assert_eq!((event.name.as_str(), &event.arguments[0]["reason"]), ("gap", &json!("source_lost")));
}

#[test]
fn a_default_topic_that_is_forbidden_does_not_make_the_hub_unready() {
    let server = server_for(&["&allowed"]);
    let hub = hub_on(&server, &[("server.default_topics", "events.critical"), ("redis.subscribe", "orders.*")]);
    let body = wait_for_line(&hub, 200, "degraded", "subscribing to `events.critical` is refused");
    assert!(body["degraded"].to_string().contains("`orders.*`"), "{body}");
    assert_eq!(refused(&hub), 2.0);
    set_rules(&server, &["allchannels"]);
    wait_for_line(&hub, 200, "degraded", "");
}

#[test]
fn what_is_forbidden_altogether_is_not_ready_until_it_is_allowed() {
    let server = server_for(&["&*", "-subscribe"]);
    let hub = hub_on(&server, &[("server.default_topics", "events.critical")]);
    wait_for_line(&hub, 503, "failed", "all subscriptions are refused");
    set_rules(&server, &["&*", "-publish"]);
    wait_for_line(&hub, 503, "failed", "all publications are refused");
    assert_eq!(hub.post("/publish/t", "x").error_code(), "refused");
    set_rules(&server, &["&*"]);
    wait_until("the hub is ready again", || (hub.get("/ready").status == 200).then_some(()));
    // `/ready` names the topic until something is published to it, or a minute has passed.
    assert_eq!(hub.post("/publish/t", "x").status, 200);
    wait_for_line(&hub, 200, "degraded", "");
    server.command::<u64>(&["ACL", "DELUSER", "hub"]);
    wait_for_line(&hub, 503, "failed", "WRONGPASS");
    wait_until("publications are refused", || (hub.post("/publish/t", "x").error_code() == "refused").then_some(()));
    set_rules(&server, &["&*"]);
    wait_for_line(&hub, 200, "degraded", "");
    assert_eq!(hub.post("/publish/t", "x").status, 200);
}

#[test]
fn subscribers_get_a_gap_when_the_hub_itself_is_refused() {
    let server = server_for(&["&*"]);
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=forbidden");
    server.command::<u64>(&["PUBLISH", "forbidden", "before"]);
    assert_eq!(stream.next_data(), "before");
    server.command::<u64>(&["ACL", "DELUSER", "hub"]);
    expect_gap(&stream.next());
    set_rules(&server, &["&*"]);
    wait_for_line(&hub, 200, "degraded", "");
    server.command::<u64>(&["PUBLISH", "forbidden", "after"]);
    expect_gap(&stream.next());
    assert_eq!(stream.next_data(), "after");
}

#[test]
fn a_publication_that_is_forbidden_is_refused_and_named() {
    let server = server_for(&["&allowed"]);
    let hub = hub_on(&server, &[]);
    wait_for_line(&hub, 200, "degraded", "");
    let answer = hub.post("/publish/forbidden", "x");
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "refused"));
    assert!(answer.text().contains("access rules"), "{}", answer.text());
    wait_for_line(&hub, 200, "degraded", "publishing to `forbidden` is refused");
    assert_eq!(hub.metric("fanfare_source_refused_publications_total{source=\"redis\"}"), 1.0);
    assert_eq!(hub.post("/publish/allowed", "x").status, 200);
    set_rules(&server, &["&*"]);
    assert_eq!(hub.post("/publish/forbidden", "x").status, 200);
    wait_for_line(&hub, 200, "degraded", "");
}

#[test]
fn only_the_sources_that_are_required_count() {
    let mut server = server_for(&["&*"]);
    let settings = [("topics.log", "redis-stream"), ("ready.require", "redis_stream")];
    let hub = hub_on(&server, &settings);
    wait_for_line(&hub, 200, "degraded", "");
    set_rules(&server, &["&*", "-subscribe"]);
    server.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_for_line(&hub, 200, "degraded", "redis: ");
    server.kill();
    wait_for_line(&hub, 503, "failed", "redis_stream: ");
}

#[test]
fn a_stream_that_becomes_forbidden_is_reported_and_recovers() {
    let server = server_for(&[]);
    let own = "~fanfare.*";
    set_rules(&server, &["resetkeys", own, "~allowed", "~forbidden"]);
    let hub = hub_on(&server, &[("topics.log", "redis-stream")]);
    wait_for_line(&hub, 200, "degraded", "");
    let [mut other, mut stream] =
        ["allowed", "forbidden"].map(|topic| SseClient::open(&hub, &format!("/sse?topic={topic}")));
    let publish = |topic: &str, payload: &str| hub.post(&format!("/publish/{topic}"), payload);
    assert_eq!(publish("forbidden", "before").status, 200);
    assert_eq!(stream.next_data(), "before");
    set_rules(&server, &["resetkeys", own, "~allowed"]);
    let refused = publish("forbidden", "x");
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "refused"));
    expect_gap(&stream.next());
    wait_for_line(&hub, 200, "degraded", "subscribing to `forbidden` is refused");
    assert_eq!(hub.metric("fanfare_source_refused_subscriptions{source=\"redis_stream\"}"), 1.0);
    assert_eq!(publish("allowed", "1").status, 200);
    assert_eq!(other.next_data(), "1");
    set_rules(&server, &["resetkeys", own, "~allowed", "~forbidden"]);
    wait_until("it publishes again", || (publish("forbidden", "after").status == 200).then_some(()));
    let events: Vec<_> = std::iter::repeat_with(|| stream.next()).take_while(|event| event.data != "after").collect();
    assert!(events.iter().any(|event| event.kind == "gap"), "{events:?}");
    wait_for_line(&hub, 200, "degraded", "");
}
