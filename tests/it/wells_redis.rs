//! A well's stream where Redis keeps the events.

use serde_json::{Value, json};

use crate::{
    support::{Folder, hub::Hub, redis::RedisServer, sse::SseClient, wait_until},
    wells::{STREAM, alert, expect_event, expect_greeting, publish, telemetry},
};

/// A hub whose events are in `server`. Its own log has the newest ones and the permitted lag.
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
    // The following events come from Redis, because the hub's own log has only the last one.
    assert_eq!(expect_greeting(&mut stream).id, published[0]);
    for (number, id) in published.iter().enumerate().skip(1) {
        expect_event(&mut stream, "telemetry_update", id, &telemetry(number as f64));
    }
    let id = publish(&hub, "alert", &alert());
    expect_event(&mut stream, "alert", &id, &alert());
    // Before the first event of a well, its stream starts at `0-0`.
    let other = "/api/v1/sse/stream/WELL-002";
    let mut fresh = SseClient::open(&hub, other);
    let greeting = fresh.next();
    assert_eq!(hub.post("/publish/wells.WELL-002?type=alert", json!({}).to_string()).status, 200);
    let mut again = SseClient::open_with(&hub, other, &[("Last-Event-ID", &greeting.id)]);
    assert_eq!([again.next().kind, again.next().kind], ["connected", "alert"]);
}

/// The documented configuration with which wells resume at any hub of a fleet.
const WELLS_IN_STREAMS: &str = "[[topics.class]]\nmatch = \"wells.**\"\nlog = \"redis-stream\"\n";

#[test]
fn the_documentation_names_what_wells_of_a_fleet_need() {
    for text in [include_str!("../../docs/operations.md"), include_str!("../../scripts/deploy/README.md")] {
        assert!(text.contains(WELLS_IN_STREAMS), "{text}");
    }
}

/// Two hubs with `config` on one server, both ready.
fn fleet(server: &RedisServer, config: &str) -> [Hub; 2] {
    let folder = Folder::new();
    let path = folder.path("fanfare.toml");
    std::fs::write(&path, config).expect("the folder is ours");
    [(); 2].map(|()| {
        let hub = Hub::start_with(&["--redis", &server.url(), "--config", &path], &[]);
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
        hub
    })
}

fn ingest(hub: &Hub, pip: u32) {
    let taken = hub.post("/api/v1/telemetry/ingest", json!({ "well_id": "WELL-001", "pip": pip }).to_string());
    assert_eq!(taken.status, 202, "{}", taken.text());
}

/// The next event of a client: the reading's pressure, or the reason of a gap.
fn next(stream: &mut SseClient) -> Value {
    let event = stream.next();
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    if event.kind == "gap" { data["reason"].clone() } else { data["data"]["pip"].clone() }
}

/// A client alternates between the hubs while both accept readings: nothing is missing, nothing comes twice, and the order is the
/// same.
#[test]
fn a_client_of_a_well_goes_on_at_any_hub_of_a_fleet() {
    let server = RedisServer::start();
    let hubs = fleet(&server, WELLS_IN_STREAMS);
    let mut last_id = expect_greeting(&mut SseClient::open(&hubs[0], STREAM)).id;
    let mut expected = 0;
    for round in 0..6 {
        // At either hub, while there are no subscribers.
        (0..5).for_each(|number| ingest(&hubs[(round + number) % 2], (round * 10 + number) as u32));
        let hub = &hubs[(round + 1) % 2];
        let mut stream = SseClient::open_with(hub, STREAM, &[("Last-Event-ID", &last_id)]);
        assert_eq!(expect_greeting(&mut stream).id, last_id, "it stands where it stood");
        (5..10).for_each(|number| ingest(&hubs[number % 2], (round * 10 + number) as u32));
        for _ in 0..10 {
            let event = stream.next();
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!((event.kind.as_str(), &data["data"]["pip"]), ("telemetry_update", &json!(expected)));
            (last_id, expected) = (event.id, expected + 1);
        }
    }
    for hub in &hubs {
        for reason in ["epoch", "expired", "overflow", "source_lost"] {
            assert_eq!(hub.metric(&format!("fanfare_gaps_total{{reason=\"{reason}\"}}")), 0.0, "{reason}");
        }
    }
}

/// Without the class each hub has its own ids, so a client gets a gap.
#[test]
fn without_streams_a_client_gets_a_gap_at_another_hub() {
    let server = RedisServer::start();
    let hubs = fleet(&server, "");
    let mut stream = SseClient::open(&hubs[0], STREAM);
    expect_greeting(&mut stream);
    // So that the other hub gets the well's events as well.
    let mut other = SseClient::open(&hubs[1], STREAM);
    expect_greeting(&mut other);
    ingest(&hubs[0], 1);
    let seen = stream.next();
    assert_eq!(next(&mut other), 1);
    ingest(&hubs[1], 2);
    assert_eq!(next(&mut other), 2);
    let mut back = SseClient::open_with(&hubs[1], STREAM, &[("Last-Event-ID", &seen.id)]);
    expect_greeting(&mut back);
    assert_eq!(next(&mut back), "epoch");
}
