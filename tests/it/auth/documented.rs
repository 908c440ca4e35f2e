//! Each example of the ESP platform's document, sent as printed but for host and port: signing in, refreshing, and events of
//! wells, which the hub takes in the form in which it sends them.

use std::fs;

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use super::{ask, hash_password, start, token_of};
use crate::{
    support::{Folder, hub::Hub, run_program, sse::SseClient, stdout_of},
    wells::expect_timestamp,
};

const LOGIN: &str = r#"curl -X POST http://localhost:8000/api/v1/auth/login \
  -H "Content-Type: application/json" \
  -d '{
    "username": "admin",
    "password": "your-password"
  }'"#;

const TELEMETRY_BY_SOCKET: &str = r#"
    // data = {
    //     event: "telemetry_update",
    //     timestamp: "2025-11-20T10:30:00Z",
    //     well_id: "WELL-001",
    //     data: {
    //         telemetry_id: 12345,
    //         timestamp: "2025-11-20T10:30:00Z",
    //         flow_rate: 1000.5,
    //         pip: 2000.0,
    //         motor_current: 50.0,
    //         motor_temp: 85.0,
    //         vibration: 3.2,
    //         vsd_frequency: 60.0,
    //         flow_variance: 15.0,
    //         torque: 120.5,
    //         gor: 150.0
    //     }
    // }"#;

const ALERT_BY_SOCKET: &str = r#"
    // data = {
    //     event: "alert",
    //     timestamp: "2025-11-20T10:30:00Z",
    //     well_id: "WELL-001",
    //     alert: {
    //         type: "high_vibration",
    //         severity: "critical",
    //         message: "Vibration exceeds threshold",
    //         value: 5.2,
    //         threshold: 4.0
    //     }
    // }"#;

const TELEMETRY_BY_SSE: &str = r#"data: {"event":"telemetry_update","timestamp":"2025-11-20T10:30:00Z","well_id":"WELL-001","data":{"flow_rate":1000.5,"pip":2000.0,"motor_current":50.0}}"#;

const ALERT_BY_SSE: &str = r#"data: {"event":"alert","timestamp":"2025-11-20T10:30:00Z","well_id":"WELL-001","alert":{"type":"high_vibration","severity":"critical"}}"#;

/// The document names this type without an example. This follows its other examples.
const DIAGNOSTIC: &str = r#"data: {"event":"diagnostic_update","timestamp":"2025-11-20T10:30:00Z","well_id":"WELL-001","diagnostic":{"gas_lock":{"probability":0.4}}}"#;

/// The JSON of a printed sample: a line of a stream, or a comment with an object of JavaScript, whose names have no quotes.
fn json_of(printed: &str) -> String {
    if let Some(data) = printed.strip_prefix("data: ") {
        return data.to_owned();
    }
    let quote = |line: &str| {
        let line = line.trim().trim_start_matches("//").trim().trim_start_matches("data = ");
        match line.split_once(": ") {
            Some((name, rest)) => format!("\"{name}\":{rest}"),
            None => line.to_owned(),
        }
    };
    printed.lines().map(quote).collect()
}

/// A hub whose user `admin` has the password of the document.
fn documented_hub(folder: &Folder) -> Hub {
    let users = folder.path("users.toml");
    let hash = hash_password("your-password");
    let user = format!("[[user]]\nusername = \"admin\"\npassword = \"{hash}\"\nrole = \"admin\"\n");
    fs::write(&users, user).expect("the folder is ours");
    start(&[("users.file", &users)])
}

#[test]
fn each_sample_of_the_document_is_taken() {
    let folder = Folder::new();
    let hub = documented_hub(&folder);
    let script = format!("{} 2>/dev/null", LOGIN.replace("localhost:8000", hub.address()));
    let signed_in: Value =
        serde_json::from_str(&stdout_of(&run_program("sh", "dash", &["-c", &script]))).expect("JSON");
    let names: Vec<&String> = signed_in.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["access_token", "expires_in", "token_type"]);
    assert_eq!((&signed_in["token_type"], &signed_in["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let bearer = format!("Bearer {}", signed_in["access_token"].as_str().expect("a text"));
    let token = token_of(&ask(&hub, Method::Post, "/api/v1/auth/refresh", &[("Authorization", &bearer)], ""));
    let bearer = format!("Bearer {token}");
    let mut stream = SseClient::open(&hub, &format!("/api/v1/sse/stream/WELL-001?token={token}")).behind_greeting();
    let ingest = "/api/v1/telemetry/ingest";
    for (target, kind, member, printed) in [
        (ingest, "telemetry_update", "data", TELEMETRY_BY_SOCKET),
        (ingest, "telemetry_update", "data", TELEMETRY_BY_SSE),
        ("/api/v1/alerts", "alert", "alert", ALERT_BY_SOCKET),
        ("/api/v1/alerts", "alert", "alert", ALERT_BY_SSE),
        ("/api/v1/diagnostics", "diagnostic_update", "diagnostic", DIAGNOSTIC),
    ] {
        let body = json_of(printed);
        let taken = ask(&hub, Method::Post, target, &[("Authorization", &bearer)], &body);
        assert_eq!(taken.status, 202, "{printed}: {}", taken.text());
        let event = stream.next();
        assert_eq!((event.kind.as_str(), Some(event.id.as_str())), (kind, taken.json()["id"].as_str()), "{printed}");
        let reply: Value = serde_json::from_str(&event.data).expect("JSON");
        let mut expected: Value = serde_json::from_str(&body).expect("JSON");
        // The hub adds the time at which it made the event, and the number that a database would give the record.
        expect_timestamp(&reply["timestamp"]);
        expected["timestamp"] = reply["timestamp"].clone();
        expected[member]["timestamp"] = json!("2025-11-20T10:30:00Z");
        if kind == "telemetry_update" {
            expected[member]["telemetry_id"] = Value::Null;
        }
        assert_eq!(reply, expected, "{printed}");
    }
    // Several events in one request, in both forms.
    let both = format!("[{},{}]", json_of(ALERT_BY_SSE), r#"{"well_id":"WELL-001","type":"t","severity":"info"}"#);
    let taken = ask(&hub, Method::Post, "/api/v1/alerts", &[("Authorization", &bearer)], &both);
    assert_eq!((taken.status, &taken.json()["count"]), (202, &json!(2)));
    let types = [stream.next_data(), stream.next_data()].map(|data| {
        let reply: Value = serde_json::from_str(&data).expect("JSON");
        reply["alert"]["type"].clone()
    });
    assert_eq!(types, ["high_vibration", "t"]);
}
