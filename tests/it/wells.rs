//! The ESP IoT platform's event stream of a well.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    browser::Page,
    http::{HttpConnection, Response},
    hub::Hub,
    relay::Relay,
    sse::{Received, SseClient},
};

pub(crate) const STREAM: &str = "/api/v1/sse/stream/WELL-001";

/// The headers that a browser's `EventSource` adds.
pub(crate) const BROWSER: [(&str, &str); 2] = [("Accept", "text/event-stream"), ("Sec-Fetch-Mode", "cors")];

pub(crate) fn publish(hub: &Hub, kind: &str, data: &Value) -> String {
    let response = hub.post(&format!("/publish/wells.WELL-001?type={kind}"), data.to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["id"].as_str().expect("an embedded hub gives ids").to_owned()
}

/// The event that the platform publishes for a reading.
pub(crate) fn telemetry(flow_rate: f64) -> Value {
    let data = json!({ "flow_rate": flow_rate, "pip": 2000.25, "motor_current": 50.5 });
    json!({ "event": "telemetry_update", "timestamp": "2025-11-20T10:30:00Z", "well_id": "WELL-001", "data": data })
}

pub(crate) fn alert() -> Value {
    let alert = json!({ "type": "high_vibration", "severity": "critical" });
    json!({ "event": "alert", "timestamp": "2025-11-20T10:30:00Z", "well_id": "WELL-001", "alert": alert })
}

#[track_caller]
pub(crate) fn expect_greeting(stream: &mut SseClient) -> Received {
    let greeting = stream.next();
    assert_eq!(greeting.kind, "connected");
    let data: Value = serde_json::from_str(&greeting.data).expect("JSON");
    assert_eq!(data["message"], "Connected to ESP IoT Platform SSE stream");
    assert_eq!(data["well_id"], "WELL-001");
    expect_timestamp(&data["timestamp"]);
    greeting
}

/// As the document prints them: `2025-11-20T10:30:00Z`.
#[track_caller]
pub(crate) fn expect_timestamp(timestamp: &Value) {
    let text = timestamp.as_str().expect("a text");
    let form: String = text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(form, "0000-00-00T00:00:00Z", "{text}");
    assert!("2026" <= text, "the wall clock's time: {text}");
}

/// The next event other than a heartbeat. Heartbeats may come at any time.
#[track_caller]
pub(crate) fn expect_event(stream: &mut SseClient, kind: &str, id: &str, data: &Value) {
    let mut event = stream.next();
    while event.kind == "heartbeat" {
        event = stream.next();
    }
    assert_eq!((event.kind.as_str(), event.id.as_str()), (kind, id));
    assert_eq!(serde_json::from_str::<Value>(&event.data).expect("JSON"), *data);
}

#[test]
fn a_stream_greets_and_names_its_events() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, STREAM);
    let greeting = expect_greeting(&mut stream);
    assert!(!greeting.id.is_empty());
    for kind in ["telemetry_update", "alert", "diagnostic_update"] {
        let id = publish(&hub, kind, &telemetry(1000.5));
        expect_event(&mut stream, kind, &id, &telemetry(1000.5));
    }
    hub.post("/publish/wells.WELL-002?type=alert", "{}");
    hub.publish("wells.WELL-001", "unnamed");
    assert_eq!(stream.next().data, "unnamed", "nothing of other wells");
}

#[test]
fn a_stream_resumes_from_its_greeting_its_events_and_its_heartbeats() {
    let hub = Hub::start_with(&[], &[("esp.heartbeat", "1s")]);
    let mut stream = SseClient::open(&hub, STREAM);
    let greeting = expect_greeting(&mut stream);
    let first = publish(&hub, "telemetry_update", &telemetry(1.0));
    expect_event(&mut stream, "telemetry_update", &first, &telemetry(1.0));
    let heartbeat = stream.next();
    assert_eq!((heartbeat.kind.as_str(), heartbeat.id.as_str()), ("heartbeat", first.as_str()));
    drop(stream);
    let second = publish(&hub, "alert", &alert());
    let check = |last_id: &str, header: Option<&str>, missed_first: bool| {
        let target = format!("{STREAM}?last_event_id={last_id}");
        let headers: Vec<(&str, &str)> = header.map(|id| ("Last-Event-ID", id)).into_iter().collect();
        let mut stream = SseClient::open_with(&hub, &target, &headers);
        let received = expect_greeting(&mut stream);
        if missed_first {
            assert_eq!(received.id, greeting.id);
            expect_event(&mut stream, "telemetry_update", &first, &telemetry(1.0));
        }
        expect_event(&mut stream, "alert", &second, &alert());
    };
    check(&greeting.id, None, true);
    check(&first, None, false);
    check(&heartbeat.id, None, false);
    check(&greeting.id, Some(&first), false);
    check("", Some(&first), false);
}

#[test]
fn a_number_of_the_former_server_is_a_gap() {
    let hub = Hub::start();
    let id = publish(&hub, "alert", &alert());
    let mut stream = SseClient::open_with(&hub, STREAM, &[("Last-Event-ID", "15")]);
    // The greeting comes first, with the id before the gap. So a client that loses its connection in between gets the gap again.
    assert_eq!(expect_greeting(&mut stream).id, "0-15");
    let gap = stream.next();
    assert_eq!(gap.kind, "gap");
    let received: Value = serde_json::from_str(&gap.data).expect("JSON");
    assert_eq!((&received["topic"], &received["reason"]), (&json!("wells.WELL-001"), &json!("epoch")));
    expect_event(&mut stream, "alert", &id, &alert());
    // The id of the former server's greeting: the client gets everything.
    let mut stream = SseClient::open(&hub, &format!("{STREAM}?last_event_id=0"));
    expect_greeting(&mut stream);
    expect_event(&mut stream, "alert", &id, &alert());
}

#[test]
fn heartbeats_come_whether_there_are_events_or_not() {
    let hub = Hub::start_with(&[], &[("esp.heartbeat", "1s"), ("sse.heartbeat", "1s")]);
    let (mut stream, mut native) = (SseClient::open(&hub, STREAM), SseClient::open(&hub, "/sse?topic=wells.WELL-001"));
    let mut last_id = expect_greeting(&mut stream).id;
    let (mut heartbeats, mut between) = (0, 0);
    while heartbeats < 2 || between < 2 {
        if between < 1000 {
            publish(&hub, "alert", &alert());
        }
        let event = stream.next();
        match event.kind.as_str() {
            "alert" => (last_id, between) = (event.id, between + 1),
            "heartbeat" => {
                assert_eq!(event.id, last_id, "the id of what came last");
                expect_timestamp(&serde_json::from_str::<Value>(&event.data).expect("JSON")["timestamp"]);
                heartbeats += 1;
            }
            other => panic!("{other}"),
        }
    }
    // No other stream has heartbeat events.
    assert!(std::iter::repeat_with(|| native.next()).take(between).all(|event| event.kind == "alert"));
    // A quiet stream has heartbeat events as well, and no comments other than the first.
    let mut quiet = SseClient::open(&hub, "/api/v1/sse/stream/WELL-002");
    assert_eq!([quiet.next().kind, quiet.next().kind], ["connected", "heartbeat"]);
    assert_eq!(quiet.comments(), 1);
}

#[track_caller]
pub(crate) fn refused(hub: &Hub, target: &str, headers: &[(&str, &str)]) -> Response {
    HttpConnection::new(hub.connect()).request(Method::Get, target, headers, b"")
}

#[test]
fn refusals_are_events() {
    let hub = Hub::start_with(&[], &[("esp.denied_retry", "1234ms")]);
    let check = |target: &str, headers: &[(&str, &str)], message: &str| {
        let event = format!("event: error\ndata: {{\"error\":\"ValidationError\",\"message\":\"{message}\"}}\n\n");
        let plain = refused(&hub, target, headers);
        assert_eq!((plain.status, plain.text()), (400, event.clone()));
        assert_eq!(plain.header("content-type"), Some("text/event-stream"));
        // A page could not read a response with any other status.
        let page = refused(&hub, target, &[headers, &BROWSER].concat());
        assert_eq!((page.status, page.text()), (200, format!("retry: 1234\n{event}")));
        let foreign = refused(
            &hub,
            target,
            &[headers, &[("Accept", "text/event-stream"), ("Origin", "http://localhost:3000")]].concat(),
        );
        assert_eq!(
            (foreign.status, foreign.header("access-control-allow-origin")),
            (200, Some("http://localhost:3000"))
        );
    };
    let bad_well = "well_id has 1 to 249 of the characters A-Z a-z 0-9 _ - : /";
    check("/api/v1/sse/stream/a.b", &[], bad_well);
    check("/api/v1/sse/stream/a%20b", &[], bad_well);
    check(&format!("{STREAM}?last_event_id=x"), &[], "last_event_id is no event's id: x");
    check(STREAM, &[("Last-Event-ID", "1-1,2-2")], "last_event_id is no event's id: 1-1,2-2");
    assert_eq!(hub.post(STREAM, "{}").status, 405);
    assert_eq!(hub.get("/api/v1/sse/stream/").status, 404);
    let head = HttpConnection::new(hub.connect()).request(Method::Head, STREAM, &[], b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
}

#[test]
fn a_full_hub_refuses_in_the_platform_s_form() {
    let hub = Hub::start_with(&[], &[("server.max_connections", "1")]);
    let _holder = SseClient::open(&hub, STREAM);
    let page = refused(&hub, STREAM, &BROWSER);
    let message = "the hub has all the connections it is configured to serve";
    let event = format!("event: error\ndata: {}\n\n", json!({ "error": "ServiceUnavailable", "message": message }));
    assert_eq!(page.status, 200);
    assert!(page.text().contains(&event), "{}", page.text());
    assert_eq!(refused(&hub, STREAM, &[]).status, 503);
}

#[test]
fn curl_listens_to_a_well() {
    let hub = Hub::start_with(&[], &[("esp.platform", "Test Platform"), ("esp.heartbeat", "1s")]);
    let url = format!("{}{STREAM}?token=YOUR_JWT_TOKEN&last_event_id=0", hub.url(0));
    let id = publish(&hub, "alert", &alert());
    let started = Command::new("curl").args(["--silent", "--no-buffer", &url]).stdout(Stdio::piped()).spawn();
    let mut curl = started.unwrap_or_else(|error| panic!("cannot run curl: {error}; install it: apt-get install curl"));
    let stdout = BufReader::new(curl.stdout.take().expect("it was just asked for"));
    let lines: Vec<String> = stdout.lines().map(|line| line.expect("the hub sends UTF-8")).take(13).collect();
    let ended = curl.kill().and_then(|()| curl.wait());
    assert!(ended.is_ok(), "{ended:?}");
    assert!(lines[1].starts_with("retry: ") && lines[2].starts_with("id: "), "{lines:?}");
    assert_eq!(lines[3], "event: connected");
    let greeting = r#"data: {"message":"Connected to Test Platform SSE stream","well_id":"WELL-001","timestamp":""#;
    assert!(lines[4].starts_with(greeting), "{lines:?}");
    let expected = ["", &format!("id: {id}"), "event: alert", &format!("data: {}", alert()), ""];
    assert_eq!(lines[5..10], expected);
    // Some clients use the id of the last block, so heartbeats have an id as well.
    assert_eq!(lines[10..12], [&format!("id: {id}"), "event: heartbeat"]);
    assert!(lines[12].starts_with("data: {\"timestamp\":\""), "{lines:?}");
}

/// The platform's own complete example, as its document prints it.
const EXAMPLE: &str = include_str!("documents/esp_sse.js");

/// Functions that the example leaves to the page. The page also reports what the example writes to the console.
const EXAMPLE_PAGE: &str = r#"
console.log = (...words) => report(...words);
console.error = (what, detail) => report(what, detail instanceof Event ? null : detail);
function updateDashboard(data) { report("dashboard", data.data.flow_rate); }
function showAlertNotification(data) { report("notification", data.alert.severity); }
"#;

pub(crate) fn example_for(hub: &Hub, token: &str) -> String {
    let example = EXAMPLE.replace("http://localhost:8000", hub.url(0)).replace("YOUR_JWT_TOKEN", token);
    format!("{EXAMPLE_PAGE}{example}")
}

#[test]
fn the_platform_s_example_runs_in_a_browser() {
    let hub = Hub::start_with(&[], &[("esp.heartbeat", "1s")]);
    let mut page = Page::open(hub.url(0), &example_for(&hub, "YOUR_JWT_TOKEN"));
    page.expect(json!(["SSE connection established"]));
    page.expect(json!(["Connected:", "Connected to ESP IoT Platform SSE stream"]));
    let heartbeat = page.next();
    assert_eq!(heartbeat[0], "Heartbeat at:");
    expect_timestamp(&heartbeat[1]);
    // Heartbeats may come in between.
    let mut next = || loop {
        let received = page.next();
        if received[0] != "Heartbeat at:" {
            return received;
        }
    };
    publish(&hub, "telemetry_update", &telemetry(1000.5));
    assert_eq!(next(), json!(["Telemetry:", telemetry(1000.5)]));
    assert_eq!(next(), json!(["dashboard", 1000.5]));
    publish(&hub, "alert", &alert());
    assert_eq!(next(), json!(["ALERT:", alert()]));
    assert_eq!(next(), json!(["notification", "critical"]));
}

#[test]
fn a_page_that_was_cut_off_before_any_event_misses_none() {
    let hub = Hub::start_with(&[], &[("sse.retry", "50ms")]);
    let network = Relay::start(hub.address());
    let script = r#"
        const source = new EventSource(`${hub}/api/v1/sse/stream/WELL-001?token=YOUR_JWT_TOKEN`);
        source.addEventListener("connected", event => report("connected", event.lastEventId));
        source.addEventListener("alert", event => report("alert", JSON.parse(event.data)));
        source.onerror = () => report("error", source.readyState);
    "#;
    let mut page = Page::open(&format!("http://{}", network.address()), script);
    let greeting = page.next();
    assert_eq!(greeting[0], "connected");
    network.cut();
    publish(&hub, "alert", &alert());
    page.expect(json!(["error", 0]));
    network.restore();
    // Attempts while the network was down may have failed as well.
    let mut next = page.next();
    while next[0] == "error" {
        next = page.next();
    }
    assert_eq!(next, greeting, "the same position");
    page.expect(json!(["alert", alert()]));
}
