//! Keys that hold no stream: the server's error is reported, only their topics are affected, and they recover.

use serde_json::Value;

use super::redis_stream::hub_on;
use crate::support::{hub::Hub, redis::RedisServer, sse::SseClient, wait_until};

/// Waits until `/ready`, which must not fail, has a line that says what is wrong with the key; or until it has no line.
#[track_caller]
fn wait_for_refusal(hub: &Hub, is_reported: bool) {
    wait_until(&format!("reported: {is_reported}"), || {
        let ready = hub.get("/ready");
        assert_eq!(ready.status, 200, "{}", ready.text());
        let body: Value = ready.json();
        let lines: Vec<&str> = body["degraded"].as_array()?.iter().filter_map(Value::as_str).collect();
        let is_it = |line: &&str| {
            line.contains("WRONGTYPE") && line.contains("subscribing to `t`") && line.contains("key `hub:t`")
        };
        (lines.iter().any(is_it) == is_reported && lines.is_empty() != is_reported).then_some(())
    });
}

#[test]
fn a_key_that_is_no_stream_is_named_and_affects_no_other_topic() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("redis.stream_prefix", "hub:"), ("redis.ping_interval", "300ms")]);
    let mut other = SseClient::open(&hub, "/sse?topic=other");
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    hub.publish("t", "first");
    assert_eq!(stream.next_data(), "first");
    // The key that is being read is replaced by another type.
    server.command::<()>(&["SET", "hub:x", "text"]);
    let mut empty = SseClient::open(&hub, "/sse?topic=empty");
    server.command::<()>(&["RENAME", "hub:x", "hub:t"]);
    assert_eq!(stream.next().kind, "gap");
    server.command::<()>(&["SET", "hub:empty", "text"]);
    assert_eq!(empty.next().kind, "gap", "also where there was no event yet");
    server.command::<()>(&["DEL", "hub:empty"]);
    wait_for_refusal(&hub, true);
    let history = hub.get("/topics/t/history");
    assert_eq!((history.status, history.error_code().as_str()), (503, "refused"), "{}", history.text());
    assert!(history.text().contains("WRONGTYPE"), "{}", history.text());
    let refused = hub.post("/publish/t", "x");
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "refused"), "{}", refused.text());
    assert!(refused.text().contains("WRONGTYPE"), "{}", refused.text());
    hub.publish("other", "one");
    assert_eq!(other.next_data(), "one");
    assert_eq!(hub.get("/topics/other/history").status, 200, "the broker can be reached");

    server.command::<()>(&["DEL", "hub:t"]);
    publish_again(&hub);
    let healed = std::iter::from_fn(|| Some(stream.next())).find(|received| received.kind != "gap");
    assert_eq!(healed.map(|received| received.data).as_deref(), Some("back"));
    hub.publish("other", "two");
    assert_eq!(other.next_data(), "two");
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"redis_stream\"}"), 0.0, "the connection is good");
}

/// Waits until the stream is read again and a publication to it is taken.
#[track_caller]
fn publish_again(hub: &Hub) {
    wait_until("the stream is read again", || {
        let body: Value = hub.get("/ready").json();
        let lines: Vec<String> = serde_json::from_value(body["degraded"].clone()).ok()?;
        (!lines.iter().any(|line| line.contains("subscribing to"))).then_some(())
    });
    hub.publish("t", "back");
    wait_for_refusal(hub, false);
}
