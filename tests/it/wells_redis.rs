//! A well's stream where Redis keeps the events.

use serde_json::json;

use crate::{
    support::{hub::Hub, redis::RedisServer, sse::SseClient, wait_until},
    wells::{STREAM, alert, expect_event, expect_greeting, publish, telemetry},
};

/// A hub whose events are in `server`; the newest of them, and those that readers may lag behind, it has itself.
fn hub_on(server: &RedisServer, lag: &str) -> Hub {
    let kept = [("topics.log", "redis-stream"), ("topics.history.count", "1"), ("topics.lag.count", lag)];
    let hub = Hub::start_with(&["--redis", &server.url()], &[&kept[..], &[("esp.heartbeat", "1s")]].concat());
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

#[test]
fn a_stream_goes_on_at_another_hub_behind_its_greeting() {
    let server = RedisServer::start();
    let hub = hub_on(&server, "100");
    let mut stream = SseClient::open(&hub, STREAM);
    expect_greeting(&mut stream);
    let published: Vec<String> =
        (0..5).map(|number| publish(&hub, "telemetry_update", &telemetry(number.into()))).collect();
    for (number, id) in published.iter().enumerate() {
        expect_event(&mut stream, "telemetry_update", id, &telemetry(number as f64));
    }
    let heartbeat = stream.next();
    assert_eq!((heartbeat.kind.as_str(), &heartbeat.id), ("heartbeat", &published[4]));
    drop((hub, stream));
    let hub = hub_on(&server, "1");
    let mut stream = SseClient::open_with(&hub, STREAM, &[("Last-Event-ID", &published[0])]);
    // What follows comes from Redis, for the hub itself has only the last.
    assert_eq!(expect_greeting(&mut stream).id, published[0]);
    for (number, id) in published.iter().enumerate().skip(1) {
        expect_event(&mut stream, "telemetry_update", id, &telemetry(number as f64));
    }
    let id = publish(&hub, "alert", &alert());
    expect_event(&mut stream, "alert", &id, &alert());
    // Before the first event of a well, its stream's place is the beginning.
    let other = "/api/v1/sse/stream/WELL-002";
    let mut fresh = SseClient::open(&hub, other);
    let greeting = fresh.next();
    assert_eq!(hub.post("/publish/wells.WELL-002?type=alert", json!({}).to_string()).status, 200);
    let mut again = SseClient::open_with(&hub, other, &[("Last-Event-ID", &greeting.id)]);
    assert_eq!([again.next().kind, again.next().kind], ["connected", "alert"]);
}
