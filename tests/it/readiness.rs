//! `/ready` and `/health` while Redis is stopped, afterwards, and while the hub shuts down.

use serde_json::json;

use crate::support::{http::HttpConnection, hub::Hub, redis::RedisServer, send_signal, sse::SseClient, wait_until};

/// A hub that requires a fresh proof each second and gives up a silent server after `ping_timeout`.
fn hub_on(server: &RedisServer, ping_timeout: &str) -> Hub {
    let settings = [
        ("redis.ping_interval", "200ms"),
        ("redis.proof_age_max", "1s"),
        ("redis.ping_timeout", ping_timeout),
        ("redis.publish_timeout", "30s"),
        ("redis.backoff_max", "200ms"),
        ("server.default_topics", ""),
    ];
    let hub = Hub::start_with(&["--redis", &server.url()], &settings);
    wait_for_status(&hub, 200);
    hub
}

fn wait_for_status(hub: &Hub, status: u16) {
    wait_until(&format!("/ready says {status}"), || (hub.get("/ready").status == status).then_some(()));
}

/// Stops the server until `/ready` gives this `reason`. Returns the types and payloads of the events of a stream.
fn stop_and_go_on(ping_timeout: &str, reason: &str) -> Vec<(String, String)> {
    let server = RedisServer::start();
    let hub = hub_on(&server, ping_timeout);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.post("/publish/t", "before").status, 200);
    let mut received = vec![stream.next()];
    send_signal("STOP", server.pid());
    let source = wait_until("the reason is shown", || {
        let ready = hub.get("/ready");
        let source = ready.json()["sources"]["redis"].clone();
        let is_it = source["reason"].as_str().is_some_and(|it| it.contains(reason));
        (ready.status == 503 && is_it).then_some(source)
    });
    assert!(source["ok"] == false && source["for_s"].as_f64().is_some_and(|it| (0.0..30.0).contains(&it)), "{source}");
    assert_eq!(hub.get("/health").status, 200);
    assert_eq!(hub.metric("fanfare_source_up{source=\"redis\"}"), 0.0);
    send_signal("CONT", server.pid());
    wait_for_status(&hub, 200);
    assert_eq!(hub.post("/publish/t", "after").status, 200);
    while received.last().is_none_or(|last| last.data != "after") {
        received.push(stream.next());
    }
    assert!(hub.metric("fanfare_source_probe_seconds{source=\"redis\"}") < 30.0);
    assert!(hub.metric("fanfare_source_last_event_age_seconds{source=\"redis\"}") < 30.0);
    let gaps = received.iter().filter(|event| event.kind == "gap").count();
    assert_eq!(hub.metric("fanfare_source_losses_total{source=\"redis\"}"), gaps as f64);
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"redis\"}"), gaps as f64);
    received.into_iter().map(|event| (event.kind, event.data)).collect()
}

#[test]
fn a_server_that_was_only_late_raises_no_gap() {
    let received = stop_and_go_on("60s", "no proof of delivery");
    assert_eq!(received, [(String::new(), "before".to_owned()), (String::new(), "after".to_owned())]);
}

#[test]
fn a_server_that_was_given_up_raises_one() {
    let received = stop_and_go_on("1s", "the server does not answer");
    assert_eq!(received.len(), 3, "{received:?}");
    assert_eq!((received[0].1.as_str(), received[1].0.as_str(), received[2].1.as_str()), ("before", "gap", "after"));
    assert!(received[1].1.contains(r#""reason":"source_lost""#), "{received:?}");
}

#[test]
fn a_hub_that_ends_is_not_ready() {
    let hub = Hub::start_with(&[], &[("drain.window", "10s")]);
    let stream = SseClient::open(&hub, "/sse?topic=t");
    let mut requester = HttpConnection::new(hub.connect());
    requester.send(b"GET /ready HTTP/1.1\r\nHost: h\r\n");
    wait_until("it has arrived", || (hub.metric("fanfare_connections{transport=\"http\"}") == 2.0).then_some(()));
    let hub = hub.drain();
    requester.send(b"\r\n");
    let ready = requester.receive();
    assert_eq!(ready.status, 503);
    assert_eq!((&ready.json()["ready"], &ready.json()["failed"]), (&false.into(), &json!(["the hub shuts down"])));
    drop(stream);
    assert!(hub.wait().success());
}
