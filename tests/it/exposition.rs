//! What the hub and its tools export, read by those it is for.

use std::fs;

use fanfare::protocol::http::Method;

use crate::{
    subscribe::{connect, finish, start_with_metrics},
    support::{
        Folder,
        http::HttpConnection,
        hub::Hub,
        postgres::PostgresServer,
        prometheus::{Prometheus, check_exposition},
        redis::RedisServer,
        send_signal,
        sse::SseClient,
        wait_until,
    },
};

/// With each kind of source, a quota whose name has all that must be escaped, and traffic.
#[test]
fn foreign_parsers_read_all_that_a_hub_exports() {
    let (redis, postgres, folder) = (RedisServer::start(), PostgresServer::start(), Folder::new());
    let config = "[[quota]]\nname = 'a \"quoted\" \\ name'\nwho = \"*\"\npublish_per_second = 1000000\n";
    fs::write(folder.path("fanfare.toml"), config).expect("it is ours");
    let (redis, postgres, config) = (redis.url(), postgres.url(), folder.path("fanfare.toml"));
    let flags = ["--config", &config, "--redis", &redis, "--store", &postgres, "--demo"];
    let hub = Hub::start_with(&flags, &[("topics.log", "redis-stream"), ("topics.history.count", "10")]);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.post("/publish/t", "x").status, 200);
    assert_eq!(stream.next().data, "x");
    let names = check_exposition(|accept| {
        let headers: Vec<(&str, &str)> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        HttpConnection::new(hub.connect()).request(Method::Get, "/metrics", &headers, b"")
    });
    for name in ["fanfare_delivery_seconds", "fanfare_store_queue_rows", "fanfare_quota_refusals", "process_max_fds"] {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
}

#[test]
fn foreign_parsers_read_all_that_a_subscriber_exports() {
    let hub = Hub::start();
    let (subscriber, place) = start_with_metrics(&hub);
    let names = check_exposition(|accept| {
        let headers: Vec<(&str, &str)> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        HttpConnection::new(connect(&place)).request(Method::Get, "/metrics", &headers, b"")
    });
    assert!(names.iter().any(|name| name == "sse_latency_seconds"), "{names:?}");
    send_signal("INT", subscriber.id());
    assert!(finish(subscriber).status.success());
}

/// A dashboard's question. Without a bucket for all the rest a quantile is no number.
#[test]
fn prometheus_answers_for_quantiles() {
    let hub = Hub::start();
    let (subscriber, place) = start_with_metrics(&hub);
    hub.wait_for_listeners("pods.alice.changes", 1);
    let prometheus = Prometheus::start(&[hub.address(), &place]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let event = format!(r#"{{"sensor":"S","timestamp":{}}}"#, now.as_millis());
    assert_eq!(hub.post("/alice/events/changes", event).status, 201);
    let histograms = [
        "fanfare_delivery_seconds_bucket{transport=\"sse\"}",
        "fanfare_publish_to_last_subscriber_seconds_bucket",
        "fanfare_reactor_turn_seconds_bucket",
        "realtime_publish_duration_seconds_bucket",
        "sse_latency_seconds_bucket",
    ];
    for histogram in histograms {
        let query = format!("histogram_quantile(0.99, sum by (le) ({histogram}))");
        let value = prometheus.wait_for(&query, f64::is_finite);
        assert!(0.0 < value && value < 30.0, "{query}: {value}");
    }
    send_signal("INT", subscriber.id());
    assert!(finish(subscriber).status.success());
}
