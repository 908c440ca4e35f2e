//! Telemetry, alerts and diagnostics without a database: valid records are published, invalid ones get errors.

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::{
    support::{http::HttpConnection, hub::Hub, sse::SseClient},
    wells::expect_timestamp,
};

const INGEST: &str = "/api/v1/telemetry/ingest";

#[test]
fn a_reading_reaches_the_subscribers_of_its_well() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.WELL-001");
    let reading = json!({ "well_id": "WELL-001", "timestamp": "2025-11-20T10:30:00Z", "flow_rate": 1000.5, "pip": 2000,
        "motor_current": 50.0, "quality": "good" });
    let answer = hub.post(INGEST, reading.to_string());
    assert_eq!(answer.status, 202, "{}", answer.text());
    let reply = answer.json();
    let event = stream.next();
    assert_eq!(reply["stored"], false);
    assert_eq!((&reply["published"], &reply["telemetry_id"]), (&true.into(), &Value::Null));
    assert_eq!((event.kind.as_str(), event.id.as_str()), ("telemetry_update", reply["id"].as_str().expect("an id")));
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    assert_eq!((&data["event"], &data["well_id"]), (&"telemetry_update".into(), &"WELL-001".into()));
    let expected = json!({ "telemetry_id": null, "timestamp": "2025-11-20T10:30:00Z", "flow_rate": 1000.5, "pip": 2000,
        "motor_current": 50.0, "quality": "good" });
    assert_eq!(data["data"], expected);
}

#[test]
fn alerts_and_diagnostics_have_their_own_form() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.W");
    let alert = json!({ "well_id": "W", "type": "high_vibration", "severity": "critical",
        "message": "Vibration exceeds threshold", "value": 5.2, "threshold": 4.0 });
    assert_eq!(hub.post("/api/v1/alerts", alert.to_string()).status, 202);
    let found = json!({ "well_id": "W", "timestamp": "2025-11-20T12:00:00+02:00", "gas_lock": { "probability": 0.4 } });
    assert_eq!(hub.post("/api/v1/diagnostics", found.to_string()).status, 202);
    let (first, second) = (stream.next(), stream.next());
    let payload = |text: &str| -> Value { serde_json::from_str(text).expect("JSON") };
    assert_eq!(first.kind, "alert");
    let mut reply = payload(&first.data);
    assert!(reply["alert"]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{reply}");
    reply["alert"].as_object_mut().expect("an object").remove("timestamp");
    let mut expected = alert;
    expected.as_object_mut().expect("an object").remove("well_id");
    assert_eq!(reply["alert"], expected);
    assert_eq!(second.kind, "diagnostic_update");
    let expected = json!({ "timestamp": "2025-11-20T10:00:00Z", "gas_lock": { "probability": 0.4 } });
    assert_eq!(payload(&second.data)["diagnostic"], expected);
}

#[test]
fn an_array_is_taken_as_a_whole_or_not_at_all() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.A");
    let bad = json!([{ "well_id": "A", "pip": 1 }, { "well_id": "A", "pip": "two" }]);
    let refused = hub.post(INGEST, bad.to_string());
    assert_eq!(refused.status, 400);
    let expected =
        json!({ "error": "ValidationError", "message": "pip must be a finite number", "field": "pip", "index": 1 });
    assert_eq!(refused.json(), expected);
    let good = json!([{ "well_id": "A", "pip": 3 }, { "well_id": "A", "gor": 4 }]);
    let answer = hub.post(INGEST, good.to_string()).json();
    assert_eq!((&answer["count"], &answer["stored"]), (&2.into(), &false.into()));
    assert!(stream.next_data().contains(r#""pip":3"#), "nothing of the refused one was published");
    let second = stream.next();
    assert_eq!(answer["results"][1]["id"], second.id);
}

#[test]
fn a_repeat_under_the_same_key_publishes_nothing_again() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.K");
    let mut connection = HttpConnection::new(hub.connect());
    let mut ingest = |key: &str, value: u32| {
        let body = json!([{ "well_id": "K", "pip": value }, { "well_id": "K", "pip": value + 1 }]).to_string();
        connection.request(Method::Post, INGEST, &[("Idempotency-Key", key)], body.as_bytes()).json()
    };
    let (first, again, other) = (ingest("a", 1), ingest("a", 5), ingest("b", 10));
    assert_eq!(first["results"][1]["id"], again["results"][1]["id"]);
    assert_ne!(first["results"][0]["id"], first["results"][1]["id"]);
    assert_ne!(first["results"][0]["id"], other["results"][0]["id"]);
    for expected in [1, 2, 10, 11] {
        assert!(stream.next_data().contains(&format!(r#""pip":{expected}}}"#)), "{expected}");
    }
}

#[test]
fn invalid_records_get_errors() {
    let hub = Hub::start_with(&[], &[("limits.objects_per_request_max", "2"), ("limits.event_bytes_max", "2KiB")]);
    let check = |target: &str, body: &str, status: u16, message: &str| {
        let answer = hub.post(target, body);
        let reply = answer.json();
        assert_eq!(answer.status, status, "{body}: {reply}");
        let kind = if status == 413 && !message.contains("too many") { "PayloadTooLarge" } else { "ValidationError" };
        assert_eq!(reply["error"], kind, "{body}: {reply}");
        assert!(reply["message"].as_str().is_some_and(|text| text.contains(message)), "{body}: {reply}");
    };
    let (alerts, diagnostics) = ("/api/v1/alerts", "/api/v1/diagnostics");
    check(INGEST, "", 400, "not JSON");
    check(INGEST, "{", 400, "not JSON");
    check(INGEST, "7", 400, "must be an object");
    check(INGEST, "[]", 400, "empty");
    check(INGEST, "[1]", 400, "each element must be an object");
    check(INGEST, "[{},{},{}]", 413, "too many");
    check(INGEST, "{}", 400, "well_id is required");
    check(INGEST, r#"{"well_id":null}"#, 400, "well_id is required");
    check(INGEST, r#"{"well_id":""}"#, 400, "well_id is required");
    check(INGEST, r#"{"well_id":7}"#, 400, "well_id must be a string");
    check(INGEST, r#"{"well_id":"a.b","pip":1}"#, 400, "well_id must be");
    check(INGEST, r#"{"well_id":"a b","pip":1}"#, 400, "well_id must be");
    check(INGEST, &format!(r#"{{"well_id":"{}","pip":1}}"#, "a".repeat(250)), 400, "well_id must be");
    check(INGEST, r#"{"well_id":"a"}"#, 400, "at least one measurement");
    check(INGEST, r#"{"well_id":"a","flow_rat":1}"#, 400, "at least one measurement");
    check(INGEST, r#"{"well_id":"a","pip":null}"#, 400, "at least one measurement");
    check(INGEST, r#"{"well_id":"a","pip":"1"}"#, 400, "pip must be a finite number");
    check(INGEST, r#"{"well_id":"a","pip":true}"#, 400, "pip must be a finite number");
    check(INGEST, r#"{"well_id":"a","pip":1e999}"#, 400, "not JSON");
    check(INGEST, r#"{"well_id":"a","pip":NaN}"#, 400, "not JSON");
    check(INGEST, r#"{"well_id":"a","pip":1,"telemetry_id":1}"#, 400, "telemetry_id is given by the server");
    check(INGEST, r#"{"well_id":"a","pip":1,"note":"\u0000"}"#, 400, "U+0000");
    check(INGEST, r#"{"well_id":"a","pip":1,"note":[{"\u0000":1}]}"#, 400, "U+0000");
    for time in [
        "\"\"",
        "\"yesterday\"",
        "\"2025-11-20\"",
        "\"2025-13-20T10:30:00Z\"",
        "1763634600",
        "\"1969-12-31T23:59:59Z\"",
    ] {
        check(INGEST, &format!(r#"{{"well_id":"a","pip":1,"timestamp":{time}}}"#), 400, "timestamp must be");
    }
    check(INGEST, &format!(r#"{{"well_id":"a","pip":1,"note":"{}"}}"#, "x".repeat(2048)), 413, "over the limit");
    check(alerts, r#"{"well_id":"a","severity":"info","message":"m"}"#, 400, "type is required");
    check(alerts, r#"{"well_id":"a","type":"t","message":"m"}"#, 400, "severity is required");
    check(alerts, r#"{"well_id":"a","type":"t","severity":"fatal","message":"m"}"#, 400, "severity must be");
    check(alerts, r#"{"well_id":"a","type":"t","severity":"info","message":""}"#, 400, "not empty");
    check(alerts, r#"{"well_id":"a","type":"t","severity":"info","message":"m","value":"5"}"#, 400, "value must be");
    check(diagnostics, r#"{"well_id":"a"}"#, 400, "say something");
    check(diagnostics, r#"{"well_id":"a","timestamp":"2025-11-20T10:30:00Z"}"#, 400, "say something");
    let long_key = "k".repeat(256);
    let mut connection = HttpConnection::new(hub.connect());
    let body = br#"{"well_id":"a","pip":1}"#;
    let answer = connection.request(Method::Post, INGEST, &[("Idempotency-Key", &long_key)], body);
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"ValidationError".into()));
    assert_eq!(hub.metric("realtime_publishes_total"), 0.0, "nothing of all this was published");
    assert_eq!(hub.get(INGEST).status, 405, "no well that is to be read back is called so");
}

/// Timestamps of the hub have the document's form in the answer, in the event, and in the event's record. Timestamps of clients
/// keep fractions of a second.
#[test]
fn timestamps_have_the_form_of_the_document() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/api/v1/sse/stream/W");
    expect_timestamp(&serde_json::from_str::<Value>(&stream.next_data()).expect("JSON")["timestamp"]);
    // Another form could go unnoticed only if the hub's clock were at a whole second each time.
    for round in 0..3 {
        for (target, member, record) in [
            (INGEST, "data", json!({ "well_id": "W", "pip": round })),
            ("/api/v1/alerts", "alert", json!({ "well_id": "W", "type": "t", "severity": "info", "message": "m" })),
            ("/api/v1/diagnostics", "diagnostic", json!({ "well_id": "W", "a": round })),
        ] {
            let reply = hub.post(target, record.to_string()).json();
            let event: Value = serde_json::from_str(&stream.next_data()).expect("JSON");
            expect_timestamp(&reply["timestamp"]);
            expect_timestamp(&event["timestamp"]);
            expect_timestamp(&event[member]["timestamp"]);
            let mut measured = record.clone();
            measured["timestamp"] = json!("2025-11-20T12:30:00.25+02:00");
            let reply = hub.post(target, measured.to_string()).json();
            let event: Value = serde_json::from_str(&stream.next_data()).expect("JSON");
            expect_timestamp(&event["timestamp"]);
            let expected = json!("2025-11-20T10:30:00.25Z");
            assert_eq!((&reply["timestamp"], &event[member]["timestamp"]), (&expected, &expected));
        }
    }
}

#[test]
fn without_a_store_nothing_can_be_read_back() {
    let hub = Hub::start();
    let answer = hub.get("/api/v1/telemetry/W");
    assert_eq!((answer.status, &answer.json()["error"]), (501, &"StorageNotConfigured".into()));
}
