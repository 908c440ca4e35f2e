//! Compatibility APIs that are switched off: their paths do not exist, nothing of them runs, and all else works as before.

use std::{fs, process::Command};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    redis::RedisServer,
    socket_io::{Carried, SocketClient},
    sse::SseClient,
    wait_until,
    websocket::WebSocketClient,
};

/// The paths of each API, as a method that it has there, and the path.
const APIS: [(&str, &[(Method, &str)]); 3] = [
    (
        "event-streams",
        &[
            (Method::Head, "/api/v1/events/stream/default"),
            (Method::Get, "/api/v1/events/streams"),
            (Method::Post, "/api/v1/events/broadcast"),
            (Method::Post, "/api/v1/events/stream/default/start"),
            (Method::Post, "/api/v1/events/stream/default/stop"),
            (Method::Post, "/api/v1/events/stream/default/pause"),
            (Method::Post, "/api/v1/events/stream/default/resume"),
            (Method::Head, "/api/v1/broadcast-demo/stream/demo-default"),
            (Method::Get, "/api/v1/broadcast-demo/streams"),
            (Method::Post, "/api/v1/broadcast-demo/broadcast"),
            (Method::Post, "/api/v1/broadcast-demo/stream/demo-default/start"),
        ],
    ),
    (
        "esp",
        &[
            (Method::Head, "/api/v1/sse/stream/W"),
            (Method::Post, "/api/v1/telemetry/ingest"),
            (Method::Get, "/api/v1/telemetry/W"),
            (Method::Post, "/api/v1/alerts"),
            (Method::Post, "/api/v1/diagnostics"),
        ],
    ),
    ("iot-pods", &[(Method::Head, "/alice/events/changes"), (Method::Post, "/alice/events/changes")]),
];

const ALL: [&str; 4] = ["broadcaster", "event-streams", "esp", "iot-pods"];

fn hub_with(apis: &[&str]) -> Hub {
    Hub::start_with(&[], &[("compat", &apis.join(","))])
}

fn all_but(left_out: &str) -> Vec<&'static str> {
    ALL.into_iter().filter(|api| *api != left_out).collect()
}

fn ask(hub: &Hub, method: Method, path: &str) -> Response {
    HttpConnection::new(hub.connect()).request(method, path, &[], b"")
}

/// Whether `hub` answers as at a path that it does not know, whatever the method.
#[track_caller]
fn is_unknown(hub: &Hub, method: Method, path: &str) -> bool {
    let answer = ask(hub, method, path);
    if answer.status != 404 || method != Method::Head && answer.error_code() != "not_found" {
        return false;
    }
    let unknown = ask(hub, Method::Post, "/nothing/here");
    assert_eq!(ask(hub, Method::Post, path).text(), unknown.text(), "{path}");
    assert_eq!(ask(hub, Method::Options, path).status, 404, "{path}");
    // The hub does not wait for a body either.
    let head = format!("POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n");
    let mut connection = HttpConnection::new(hub.connect());
    connection.send(head.as_bytes());
    assert_eq!(connection.receive().text(), unknown.text(), "{path}");
    true
}

#[test]
fn paths_of_an_api_that_is_left_out_are_unknown() {
    let everything = Hub::start();
    for (left_out, _) in APIS {
        let hub = hub_with(&all_but(left_out));
        let index = hub.get("/").text();
        for (api, paths) in APIS {
            for (method, path) in paths {
                let is_off = api == left_out;
                assert_eq!(is_unknown(&hub, *method, path), is_off, "without {left_out}: {method} {path}");
                assert!(!is_unknown(&everything, *method, path), "{method} {path}");
            }
        }
        let listed = |path: &str| index.contains(path);
        assert_eq!(listed("/api/v1/alerts"), left_out != "esp", "{index}");
        assert_eq!(listed("/events/changes"), left_out != "iot-pods", "{index}");
        assert_eq!(listed("/api/v1/events/broadcast"), left_out != "event-streams", "{index}");
    }
}

/// Signing in and the native protocols are part of no compatibility API.
#[test]
fn without_all_of_them_the_hub_is_itself() {
    let hub = hub_with(&[]);
    for (api, paths) in APIS {
        paths.iter().for_each(|(method, path)| assert!(is_unknown(&hub, *method, path), "{api}: {method} {path}"));
    }
    // This hub has no users, and the error says so: the path exists.
    let refused = hub.post("/api/v1/auth/login", r#"{"username":"a","password":"b"}"#);
    assert_eq!((refused.status, refused.error_code().as_str()), (404, "no_users"));
    assert_eq!(hub.post("/api/v1/auth/refresh", "").error_code(), "no_users");
    assert_eq!(hub.post("/api/v1/auth/logout", "").status, 204);
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.W");
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=wells.W");
    let mut client = Carried::open(&hub);
    // There is no greeting, and a well is a topic like any other.
    client.send("40");
    assert!(client.next_packet().starts_with("40"));
    client.emit("subscribe", &json!({ "well_id": "W" }));
    assert_eq!(client.expect_event("error"), json!({ "error": "ValidationError", "message": "topic is required" }));
    client.emit("subscribe", &json!({ "topic": "wells.W", "well_id": "V" }));
    assert_eq!(client.expect_event("subscribed")["topic"], "wells.W");
    client.emit("get_stats", &Value::Null);
    assert_eq!(client.expect_event("stats")["subscriptions"], json!(["wells.W"]));
    hub.publish("wells.W", "1");
    assert_eq!((stream.next_data(), socket.next_text()), ("1".to_owned(), "1".to_owned()));
    assert_eq!(client.expect_event("message"), 1);
    client.emit("publish", &json!({ "topic": "wells.W", "type": "alert", "data": 2 }));
    let received = [client.next_event(), client.next_event()];
    let published = received.iter().find(|received| received.name == "published").expect("it is confirmed");
    assert_eq!(published.arguments[0]["topic"], "wells.W");
    assert_eq!(stream.next().kind, "alert");
    for path in ["/health", "/ready", "/stats", "/metrics", "/topics"] {
        assert_eq!(hub.get(path).status, 200, "{path}");
    }
}

/// The broadcaster API adds only one thing: topics for a WebSocket that names none.
#[test]
fn without_the_broadcaster_a_websocket_names_its_topics() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open(&hub, "/ws");
    hub.publish("events.critical", "down");
    assert_eq!(socket.next_text(), "down");
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let hub = hub_with(&all_but("broadcaster"));
    let refused = HttpConnection::new(hub.connect()).request(Method::Get, "/ws", &upgrade, b"");
    assert_eq!((refused.status, refused.error_code().as_str()), (400, "missing_topic"), "{}", refused.text());
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=events.critical");
    hub.publish("events.critical", "down");
    assert_eq!(socket.next_text(), "down");
    // A configured value is not replaced by the default.
    let settings = [("compat", "esp"), ("server.default_topics", "news")];
    let hub = Hub::start_with(&[], &settings);
    let mut socket = WebSocketClient::open(&hub, "/ws");
    hub.publish("news", "new");
    assert_eq!(socket.next_text(), "new");
}

/// The names of the hub's threads.
fn threads(hub: &Hub) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", hub.pid())).expect("the hub runs");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn nothing_of_an_api_runs_that_is_left_out() {
    let server = RedisServer::start();
    let url = server.url();
    let start = |apis: &[&str]| {
        let hub = Hub::start_with(&["--redis", &url], &[("compat", &apis.join(","))]);
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
        hub
    };
    let channels = || server.command::<Vec<String>>(&["PUBSUB", "CHANNELS"]);
    // Every hub hears of losses and of other hubs, whatever APIs it serves.
    let is_of_streams = |channel: &String| {
        channel.strip_prefix("fanfare.orders.").is_some_and(|command| !["losses", "hubs"].contains(&command))
    };
    let whole = start(&ALL);
    assert!(channels().iter().any(is_of_streams) && channels().iter().any(|channel| channel == "events.critical"));
    assert!(threads(&whole).iter().any(|name| name == "broadcasts"));
    drop(whole);
    wait_until("its subscriptions are gone", || channels().is_empty().then_some(()));
    let bare = start(&[]);
    assert!(!channels().iter().any(is_of_streams), "{:?}", channels());
    assert!(!channels().iter().any(|channel| channel == "events.critical"), "{:?}", channels());
    assert!(!threads(&bare).iter().any(|name| name == "broadcasts"), "{:?}", threads(&bare));
}

/// The error of `serve` with this configuration, which it must refuse.
#[track_caller]
fn refusal(flags: &[&str], config: &str) -> String {
    let folder = Folder::new();
    let path = folder.path("fanfare.toml");
    fs::write(&path, config).expect("it is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config", &path]).args(flags);
    Hub::refusal(command)
}

#[test]
fn what_would_do_nothing_is_an_error() {
    let check = |flags: &[&str], config: &str, expected: &[&str]| {
        let said = refusal(flags, config);
        assert!(expected.iter().all(|part| said.contains(part)), "{config}: {said}");
    };
    check(&[], "compat = [\"iot-pod\"]\n", &["fanfare.toml:1", "`iot-pod` is no", "did you mean `iot-pods`?"]);
    check(&[], "compat = [\"esp\", \"event-steams\"]\n", &["did you mean `event-streams`?"]);
    let all = "there are broadcaster, event-streams, esp, iot-pods";
    check(&[], "compat = [\"something else\"]\n", &["`something else` is no compatibility API", all]);
    check(&["--demo"], "compat = [\"esp\"]\n", &["--demo", "event-streams"]);
    let store = "compat = [\"event-streams\"]\n[store]\nurl = \"postgres://127.0.0.1:1/none\"\n";
    check(&[], store, &["fanfare.toml:3", "esp"]);
}
