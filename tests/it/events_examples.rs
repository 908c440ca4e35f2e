//! The examples of the event streaming service's own documentation, as printed but for host and port.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Folder, browser::Page, conversation::Conversation, hub::Hub, packages::python, run_program, sse::SseClient,
    stdout_of,
};

/// A demonstration whose events come soon.
fn demo() -> Hub {
    let names = ["default", "system", "notifications"].map(|name| format!("demo.{name}_interval"));
    let settings: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "100ms")).collect();
    Hub::start_with(&["--demo"], &settings)
}

/// A line of the documentation, for this hub.
fn for_hub(text: &str, hub: &Hub) -> String {
    text.replace("localhost:8080", hub.address())
}

#[test]
fn curl_listens() {
    let hub = demo();
    for (line, stream) in [
        (
            "curl -N -H \"Accept: text/event-stream\" \\
     -H \"Cache-Control: no-cache\" \\
     http://localhost:8080/api/v1/events/stream/default",
            "default",
        ),
        ("curl -N http://localhost:8080/api/v1/events/stream/default", "default"),
        ("curl -N http://localhost:8080/api/v1/broadcast-demo/stream/demo-notifications", "demo-notifications"),
    ] {
        // curl replaces the shell, so that it ends with the test; without the progress meter.
        let script = format!("exec {} 2>/dev/null", for_hub(line, &hub));
        let listening = Conversation::start("sh", "dash", &["-c", &script]);
        let event: Value = serde_json::from_str(&listening.wait_for("data: ")).expect("an object on one line");
        assert_eq!(event["stream_id"], stream);
        assert_eq!(listening.next_line(), "", "an event ends with an empty line");
    }
}

#[test]
fn curl_commands() {
    let hub = demo();
    let mut listening = SseClient::open(&hub, "/api/v1/events/stream/custom").behind_greeting();
    let check = |line: &str, message: Value| {
        let script = format!("{} 2>/dev/null", for_hub(line, &hub));
        let answer = stdout_of(&run_program("sh", "dash", &["-c", &script]));
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!((&answer["success"], &answer["message"]), (&json!(true), &message), "{line}");
        answer
    };
    let listed = check("curl http://localhost:8080/api/v1/events/streams", Value::Null);
    assert_eq!(listed["data"]["system"]["generator"], json!({ "running": true, "paused": false }));
    assert_eq!(listed["data"]["custom"]["clients"], 1);
    check("curl http://localhost:8080/api/v1/broadcast-demo/streams", Value::Null);
    let start = "curl -X POST http://localhost:8080/api/v1/events/stream/custom/start";
    check(start, json!("Stream 'custom' started"));
    check("curl -X POST http://localhost:8080/api/v1/events/stream/custom/pause", json!("Stream 'custom' paused"));
    check(
        "curl -X POST http://localhost:8080/api/v1/events/stream/custom/stop",
        json!("Stream 'custom' stopped and removed"),
    );
    check(
        r#"curl -X POST http://localhost:8080/api/v1/events/broadcast \
  -H "Content-Type: application/json" \
  -d '{
    "stream_id": "default",
    "type": "test_event",
    "message": "Test message",
    "data": {"test": true}
  }'"#,
        json!("Event broadcasted to stream: default"),
    );
    check(
        r#"curl -X POST http://localhost:8080/api/v1/events/broadcast \
  -H "Content-Type: application/json" \
  -d '{
    "type": "global_test",
    "message": "Global test message"
  }'"#,
        json!("Event broadcasted to all streams"),
    );
    for mount in ["events", "broadcast-demo"] {
        let line = format!(
            r#"curl -X POST http://localhost:8080/api/v1/{mount}/broadcast \
  -H "Content-Type: application/json" \
  -d '{{"type":"test","message":"Hello from Service G"}}'"#
        );
        check(&line, json!("Event broadcasted to all streams"));
    }
    let kinds = |data: String| serde_json::from_str::<Value>(&data).expect("an object")["type"].clone();
    let mut next = || std::iter::repeat_with(|| kinds(listening.next_data())).find(|kind| kind != "user_action");
    let events: Vec<Option<Value>> = (0..3).map(|_| next()).collect();
    assert_eq!(events, [Some(json!("stream_started")), Some(json!("global_test")), Some(json!("test"))]);
}

/// Runs `script` of the documentation in a page whose base URL is the hub, with the functions that the script calls.
fn page(hub: &Hub, functions: &[&str], script: &str) -> Page {
    let define = |name: &&str| format!("function {name}(...given) {{ report(\"{name}\", ...given); }}\n");
    let functions: String = functions.iter().map(define).collect();
    let base = "const base = document.createElement('base'); base.href = hub; document.head.append(base);";
    Page::open(hub.url(0), &format!("{base}\n{functions}{script}"))
}

/// Reads reports until each of `wanted` was called. Returns the argument of the last call of each.
#[track_caller]
fn wait_for_calls(page: &mut Page, wanted: &[&str]) -> Vec<Value> {
    let mut given = vec![Value::Null; wanted.len()];
    // Each stream has ten events a second.
    for _ in 0..600 {
        let report = page.next();
        match wanted.iter().position(|name| report[0] == **name) {
            Some(index) => given[index] = report[1].clone(),
            None => panic!("{report}"),
        }
        if given.iter().all(|value| !value.is_null()) {
            return given;
        }
    }
    panic!("not all of {wanted:?} were called: {given:?}");
}

#[test]
fn a_browser_listens() {
    let hub = demo();
    let calls = ["handleUserAction", "handleSystemAlert", "showNotification"];
    let mut page = page(&hub, &calls, include_str!("documents/events_source.js"));
    hub.wait_for_listeners("streams.default", 1);
    let alert = json!({ "type": "system_alert", "message": "High CPU usage: 91.5%", "data": { "cpu_percent": 91.5 } });
    assert_eq!(hub.post("/api/v1/events/broadcast", alert.to_string()).status, 200);
    let given = wait_for_calls(&mut page, &calls);
    for (value, kind) in given.iter().zip(["user_action", "system_alert", "notification"]) {
        assert_eq!((&value["type"], &value["stream_id"]), (&json!(kind), &json!("default")));
    }
    assert_eq!(given[1]["data"], alert["data"]);
}

#[test]
fn a_browser_shows_metrics_notifications_and_changes() {
    let hub = demo();
    let calls = ["updateDashboardMetrics", "showNotificationToast", "applyRemoteChange"];
    let mut page = page(&hub, &calls, include_str!("documents/events_integrations.js"));
    hub.wait_for_listeners("streams.document_123", 1);
    let change = json!({ "stream_id": "document_123", "type": "document_change", "message": "m", "data": { "at": 7 } });
    assert_eq!(hub.post("/api/v1/events/broadcast", change.to_string()).status, 200);
    let given = wait_for_calls(&mut page, &calls);
    assert!(given[0]["cpu_percent"].is_number(), "{given:?}");
    assert!(given[1].is_string(), "{given:?}");
    assert_eq!(given[2], change["data"]);
}

/// Functions that the documentation leaves to its reader.
const PYTHON_REST: &str = r#"
import sys

def handle_user_action(event):
    print("handled", json.dumps(event))

def handle_system_alert(event):
    print("alerted", json.dumps(event))

if sys.argv[1] == "stream":
    stream_events(sys.argv[2])
else:
    print(json.dumps(broadcast_event(*sys.argv[2:5], data={"user_id": "12345", "action": "login"})))
    print(json.dumps(broadcast_event(*sys.argv[2:5])))
"#;

#[test]
fn python_broadcasts_and_listens() {
    let (hub, folder) = (demo(), Folder::new());
    let file = folder.path("client.py");
    let text = for_hub(include_str!("documents/events_client.py"), &hub) + PYTHON_REST;
    std::fs::write(&file, text).expect("the folder is ours");
    let run = |arguments: &[&str]| {
        Conversation::run(Command::new(python()).args(["-u", &file]).args(arguments), "python3-venv")
    };
    let listening = run(&["stream", "orders"]);
    hub.wait_for_listeners("streams.orders", 1);
    let broadcasting = run(&["broadcast", "orders", "user_action", "User logged in"]);
    for _ in 0..2 {
        let answer: Value = serde_json::from_str(&broadcasting.next_line()).expect("JSON");
        assert_eq!(answer["message"], "Event broadcasted to stream: orders");
    }
    assert_eq!(listening.next_line(), "Event: connection - Connected to stream: orders");
    for data in [json!({ "user_id": "12345", "action": "login" }), Value::Null] {
        assert_eq!(listening.next_line(), "Event: user_action - User logged in");
        let handled: Value = serde_json::from_str(&listening.wait_for("handled ")).expect("JSON");
        assert_eq!(handled["data"], data);
    }
    // And generated events. The first one begins the stream.
    let made = run(&["stream", "system"]);
    assert!(made.next_line().starts_with("Event: "));
}
