//! Connections that Redis closes because they are idle: no publication is lost.

use crate::support::{hub::Hub, redis::RedisServer, sse::SseClient, wait_until};

fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![("redis.ping_interval", "10s"), ("redis.proof_age_max", "10m"), ("server.default_topics", "")];
    all.extend_from_slice(settings);
    let hub = Hub::start_with(&["--redis", &server.url()], &all);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

/// The number of the hub's connections with this client name at the server.
fn connections(server: &RedisServer, name: &str) -> usize {
    server.command::<String>(&["CLIENT", "LIST"]).matches(&format!(" name={name} ")).count()
}

#[test]
fn a_server_with_a_timeout_costs_no_publication() {
    let server = RedisServer::start_with(&["--timeout", "1"]);
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    for number in 0..2 {
        wait_until("the server closes the idle connection", || {
            (connections(&server, "fanfare-writer") == 0).then_some(())
        });
        assert_eq!(hub.get("/ready").status, 200, "an idle connection that is gone is no fault");
        let answer = hub.post("/publish/t", number.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(stream.next_data(), number.to_string());
    }
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"redis\"}"), 0.0);
}

#[test]
fn no_connection_of_a_stream_is_missed() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.log", "redis-stream"), ("topics.history.count", "10")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut first = String::new();
    for number in 0..5 {
        // Ends all connections but those with a blocking command, and the one that sends these commands.
        for name in ["fanfare-writer", "fanfare-stream-bell", "fanfare-archive"] {
            let clients: String = server.command(&["CLIENT", "LIST"]);
            for client in clients.lines().filter(|line| line.contains(&format!(" name={name} "))) {
                let id = client.trim_start_matches("id=").split(' ').next().expect("an id");
                server.command::<u64>(&["CLIENT", "KILL", "ID", id]);
            }
        }
        let answer = hub.post("/publish/t", number.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let event = stream.next();
        assert_eq!(event.data, number.to_string());
        if number == 0 {
            first = event.id;
            continue;
        }
        let mut resumed = SseClient::open_with(&hub, "/sse?topic=t", &[("Last-Event-ID", &first)]);
        assert_eq!(resumed.next_data(), "1");
        let history = hub.get(&format!("/topics/t/history?since={first}"));
        assert_eq!(history.status, 200, "{}", history.text());
    }
}
