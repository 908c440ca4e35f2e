//! The metrics of the hub and its tools, read by the programs that they are for.

use std::fs;

use fanfare_core::protocol::http::Method;

use crate::{
    subscribe::{connect, finish, start_with_metrics},
    support::{
        Folder,
        guarded::Guarded,
        http::HttpConnection,
        hub::Hub,
        postgres::PostgresServer,
        prometheus::{Prometheus, check_exposition},
        redis::RedisServer,
        send_signal,
        socket_io::{Carried, SocketClient},
        sse::SseClient,
        wait_until,
        websocket::WebSocketClient,
    },
};

/// A hub with each kind of source, a quota whose name has all characters that must be escaped, and traffic.
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
    let (subscriber, address) = start_with_metrics(&hub);
    let names = check_exposition(|accept| {
        let headers: Vec<(&str, &str)> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        HttpConnection::new(connect(&address)).request(Method::Get, "/metrics", &headers, b"")
    });
    assert!(names.iter().any(|name| name == "sse_latency_seconds"), "{names:?}");
    send_signal("INT", subscriber.id());
    assert!(finish(subscriber).status.success());
}

/// A query of a dashboard. Without the bucket `+Inf` a quantile is `NaN`.
#[test]
fn prometheus_answers_for_quantiles() {
    let hub = Hub::start();
    let (subscriber, address) = start_with_metrics(&hub);
    hub.wait_for_listeners("pods.alice.changes", 1);
    let prometheus = Prometheus::start(&[hub.address(), &address]);
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

#[track_caller]
fn check_requests(hub: &Hub, route: &str, status: u16) {
    let series = format!("fanfare_http_requests_total{{route=\"{route}\",code=\"{status}\"}}");
    assert_eq!(hub.metric(&series), 1.0, "{series}");
}

/// Each status and each route is counted under its own label.
#[test]
fn each_status_and_each_route_is_counted_as_what_it_is() {
    let redis = RedisServer::start();
    let settings = [("redis.publish_timeout", "200ms"), ("redis.ping_timeout", "60s")];
    let hub = Hub::start_with(&["--redis", &redis.url()], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    assert_eq!(hub.get("/nowhere").status, 404);
    check_requests(&hub, "other", 404);
    assert_eq!(hub.get("/sse?topic=%20").status, 400);
    check_requests(&hub, "sse", 400);
    assert_eq!(hub.get("/api/v1/telemetry/W1").status, 501);
    check_requests(&hub, "telemetry", 501);
    // A refusal before the end of the head is a response, and counted.
    assert_eq!(hub.get(&format!("/{}", "x".repeat(20_000))).status, 414);
    check_requests(&hub, "other", 414);
    assert_eq!(hub.post("/publish/t", vec![b'x'; 2 << 20]).status, 413);
    check_requests(&hub, "other", 413);
    send_signal("STOP", redis.pid());
    assert_eq!(hub.post("/publish/t", "x").status, 504);
    check_requests(&hub, "publish", 504);
    send_signal("CONT", redis.pid());
    let text = hub.get("/metrics").text();
    let wrong: Vec<&str> = text.lines().filter(|line| line.contains("code=\"other\"")).collect();
    assert_eq!(wrong, [""; 0]);
}

/// The WebSocket of the ESP IoT platform is Socket.IO.
#[test]
fn socket_io_counts_as_websocket() {
    let guarded = Guarded::start("1h", &[], &[]);
    let hub = &guarded.hub;
    let metric = |series: &str| -> f64 {
        let text = guarded.request(Method::Get, "/metrics", "").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{series} is not in\n{text}"))
    };
    let mut client = Carried::open(hub);
    client.send(&format!("40{{\"token\":\"{}\"}}", guarded.admin_token()));
    assert!(client.next_packet().starts_with("40{\"sid\":"));
    assert!(client.next_packet().starts_with("42[\"connected\""));
    client.send("42[\"subscribe\",{\"well_id\":\"W1\"}]");
    assert!(client.next_packet().starts_with("42[\"subscribed\""));
    guarded.publish("wells.W1?type=telemetry_update", "{\"well_id\":\"W1\"}");
    assert!(client.next_packet().starts_with("42[\"telemetry_update\""));
    let mut socket = WebSocketClient::open(hub, &format!("/ws?topic=wells.W1&token={}", guarded.admin_token()));
    wait_until("the socket listens", || (guarded.listeners("wells.W1") == 2).then_some(()));
    guarded.publish("wells.W1?type=telemetry_update", "{\"well_id\":\"W1\"}");
    assert!(client.next_packet().starts_with("42[\"telemetry_update\""));
    assert_eq!(socket.next_text(), "{\"well_id\":\"W1\"}");
    let expected = [("websocket_connections", 2.0), ("websocket_messages_total", 3.0), ("websocket_errors_total", 0.0)];
    for (series, value) in expected {
        // A delivery counts once the kernel has it, so before the client has it.
        assert_eq!(metric(series), value, "{series}");
    }
    let mut stranger = Carried::open(hub);
    stranger.send("40{\"token\":\"none of ours\"}");
    assert!(stranger.next_packet().starts_with("44{"));
    assert_eq!(metric("websocket_errors_total"), 1.0);
}
