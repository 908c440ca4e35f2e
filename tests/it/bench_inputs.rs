//! The targets and inputs of `fanfare bench`: servers with protocols of their own, NATS, and many topics.

use std::{
    fs,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;

use crate::support::{
    Folder,
    bidirectional::Bidirectional,
    http::HttpConnection,
    hub::Hub,
    nats::NatsServer,
    redis::{RedisServer, TlsRedis},
    wait_until,
};

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"{topic}"}}"#;
const PUBLISH: &str = r#"{"channel":"{topic}","data":{payload}}"#;

/// `fanfare bench` with these arguments, on a process of its own.
struct Bench {
    child: Child,
    folder: Folder,
}

impl Bench {
    /// Runs for a second, unless the arguments specify another time.
    fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["bench", "--rate", "100", "--duration", "800ms", "--warmup", "200ms", "--quiet"]);
        command.args(["--json", &folder.path("report.json")]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().expect("it was just built"), folder }
    }

    fn finish(self) -> (Output, Option<Value>) {
        let output = self.child.wait_with_output().expect("it is our child");
        let report = fs::read(self.folder.path("report.json")).ok();
        (output, report.map(|bytes| serde_json::from_slice(&bytes).expect("JSON")))
    }

    /// The report of a run in which every event came, once and in order.
    #[track_caller]
    fn report(self) -> Value {
        let (output, report) = self.finish();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
        report.expect("it was asked for")
    }
}

/// The error of a run that cannot begin.
#[track_caller]
fn problem(arguments: &[&str]) -> String {
    let (output, _) = Bench::start(arguments).finish();
    assert_ne!(output.status.code(), Some(0));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[track_caller]
fn check_deliveries(report: &Value, topic: usize, expected: u64) {
    let topic = &report["topics"][topic];
    assert_eq!((topic["unanswered"].as_u64(), topic["refused"].as_u64()), (Some(0), Some(0)), "{topic}");
    assert_eq!(topic["deliveries"], expected, "{topic}");
    let faults: u64 = ["lost", "repeated", "reordered", "foreign"]
        .map(|fault| &topic["faults"][fault])
        .iter()
        .filter_map(|count| count.as_u64())
        .sum();
    assert_eq!(faults, 0, "{topic}");
}

#[test]
fn a_server_with_a_protocol_of_its_own_is_spoken_to_by_script() {
    let server = Bidirectional::start();
    let (subscribe, publish) = (server.url("ws", "/connection/websocket"), server.url("http", "/api/publish"));
    let mut arguments = vec!["--transport", "ws", "--subscribe", &subscribe, "--publish", &publish];
    arguments.extend(["--publish-body", PUBLISH, "--subscribers", "5", "--stalled", "2"]);
    arguments.extend([
        "--second-topic",
        "second",
        "--second-subscribers",
        "3",
        "--churn",
        "20",
        "--churn-stay",
        "50ms",
    ]);
    arguments.extend(["--send", CONNECT, "--await", r#""connect""#, "--send", SUBSCRIBE, "--await", r#""id":2"#]);
    let report = Bench::start(&[&arguments[..], &["--answer", "{}={}"]].concat()).report();
    check_deliveries(&report, 0, 5 * 80);
    check_deliveries(&report, 1, 3 * 80);
    assert!(report["churn"]["opening"]["count"].as_u64().is_some_and(|count| 5 < count), "{report}");
    // Each event came with a ping. The reply to a command is no event.
    wait_until("the server has read all answers", || (8 * 100 <= server.count("answered")).then_some(()));
    assert!(10 < server.count("subscribed"));
    assert_eq!((server.count("rude"), server.count("silent")), (0, 2), "those that are stalled answer nothing");
}

#[test]
fn a_subscriber_that_answers_no_pings_is_sent_away() {
    let server = Bidirectional::start();
    let (subscribe, publish) = (server.url("ws", "/"), server.url("http", "/"));
    let mut arguments = vec!["--transport", "ws", "--subscribe", &subscribe, "--publish", &publish];
    arguments.extend(["--publish-body", PUBLISH, "--subscribers", "2", "--ignore", "{}"]);
    // Both commands in one message, and both replies.
    let commands = [CONNECT, SUBSCRIBE].join("\n");
    arguments.extend(["--send", &commands, "--await", r#""id":2"#]);
    let (output, report) = Bench::start(&arguments).finish();
    assert_eq!((output.status.code(), server.count("silent")), (Some(1), 2));
    let topic = &report.expect("losses are reported")["topics"][0];
    assert!(topic["closed"] == 2 && 0 < topic["faults"]["lost"].as_u64().unwrap_or_default(), "{topic}");
    assert_eq!(topic["faults"]["foreign"], 0);
}

#[test]
fn the_native_protocol_by_script() {
    let hub = Hub::start();
    let subscribe = format!("ws://{}/ws", hub.address());
    let mut arguments = vec!["--transport", "fanfare.v1", "--subscribe", &subscribe, "--publish", hub.url(0)];
    arguments.extend(["--subscribers", "5", "--send", r#"{"op":"subscribe","topic":"{topic}"}"#]);
    let report = Bench::start(&[&arguments[..], &["--await", r#""op":"subscribed""#]].concat()).report();
    check_deliveries(&report, 0, 5 * 80);
}

#[test]
fn a_stalled_client_of_a_room_was_admitted() {
    let hub = Hub::start();
    let arguments = ["--url", hub.url(0), "--transport", "socketio", "--subscribers", "3", "--stalled", "2"];
    let bench = Bench::start(&arguments);
    hub.wait_for_listeners("bench", 5);
    check_deliveries(&bench.report(), 0, 3 * 80);
}

#[test]
fn a_room_may_have_names_of_its_own() {
    let hub = Hub::start();
    let mut arguments = vec!["--url", hub.url(0), "--transport", "socketio", "--subscribers", "3"];
    arguments.extend(["--socketio-event", "subscribe", "--socketio-args", r#"{"topic":"{topic}"}"#]);
    // For this client a connection is a subscription. The confirmation counts as a message then.
    arguments.extend(["--socketio-confirmation", "", "--ignore", r#""connected""#, "--ignore", r#""subscribed""#]);
    check_deliveries(&Bench::start(&arguments).report(), 0, 3 * 80);
    let refused = problem(&[&arguments[..6], &["--socketio-args", "{"]].concat());
    assert!(refused.contains("--socketio-args") && refused.contains("no event of Socket.IO"), "{refused}");
}

/// Forwards to the hub what is published at a NATS server, and counts messages with headers.
fn relay(nats: &NatsServer, hub: &Hub, pattern: &str) -> Arc<AtomicU32> {
    let with_headers = Arc::new(AtomicU32::new(0));
    let (count, mut connection) = (Arc::clone(&with_headers), HttpConnection::new(hub.connect()));
    nats.subscribe(pattern, move |subject, headers, payload| {
        let is_marked = headers.is_some_and(|headers| headers == b"NATS/1.0\r\nX-Key: k\r\n\r\n");
        count.fetch_add(u32::from(is_marked), Ordering::Relaxed);
        let response = connection.request(Method::Post, &format!("/publish/{subject}"), &[], payload);
        assert_eq!(response.status, 200);
    });
    with_headers
}

#[test]
fn events_are_published_over_a_redis_with_a_login() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    let hub = Hub::start_with(&["--redis", &redis.url_as(":secret@")], &[]);
    let publish = |login: &str| format!("{}/2", redis.url_as(login));
    let report = Bench::start(&["--url", hub.url(0), "--subscribers", "5", "--publish", &publish(":secret@")]).report();
    check_deliveries(&report, 0, 5 * 80);
    assert!(!report.to_string().contains("secret"), "{report}");
    let wrong = publish(":wrong@");
    let problem = problem(&["--url", hub.url(0), "--subscribers", "1", "--publish", &wrong]);
    assert!(problem.contains("WRONGPASS") && !problem.contains(":wrong@"), "{problem}");
}

#[test]
fn events_are_published_over_nats() {
    let (hub, nats) = (Hub::start(), NatsServer::start());
    let with_headers = relay(&nats, &hub, "bench");
    let (url, publish) = (hub.url(0), nats.url_as(""));
    let arguments = ["--url", url, "--transport", "sse", "--subscribers", "5", "--publish", &publish];
    let report = Bench::start(&arguments).report();
    check_deliveries(&report, 0, 5 * 80);
    assert_eq!(with_headers.load(Ordering::Relaxed), 0);
    let arguments = [&arguments[..], &["--publish-header", "X-Key: k", "--publish-connections", "2"]].concat();
    let report = Bench::start(&[&arguments[..], &["--publish-in-turn"]].concat()).report();
    assert!(report["topics"][0]["published"].as_u64().is_some_and(|count| 100 < count), "{report}");
    assert!(100 < with_headers.load(Ordering::Relaxed));
}

#[test]
fn the_reason_of_a_nats_server_is_shown() {
    let hub = Hub::start();
    let nats = NatsServer::start_with(
        r#"max_payload: 500
        authorization { users = [
            { user: ada, password: "p@ss" }
            { user: bob, password: "b", permissions: { publish: { deny: "bench" } } }
        ] }"#,
    );
    let check = |login: &str, more: &[&str], expected: &str| {
        let (url, publish) = (hub.url(0), nats.url_as(login));
        let arguments = [&["--url", url, "--subscribers", "1", "--publish", &publish][..], more].concat();
        let problem = problem(&arguments);
        assert!(problem.contains(expected) && !problem.contains(&publish), "{problem}");
    };
    check("", &[], "Authorization Violation");
    check("ada:wrong@", &[], "Authorization Violation");
    check("token@", &[], "Authorization Violation");
    check("ada:p%40ss@", &["--size", "600"], "--size: the server takes 500 bytes at most");
    check("bob:b@", &[], "Permissions Violation");
}

#[test]
fn many_topics_have_their_own_subscribers_and_events() {
    let hub = Hub::start();
    let check = |more: &[&str], topic: &str, deliveries: u64| {
        let arguments = [&["--url", hub.url(0), "--topics", "10", "--rate", "200"][..], more].concat();
        let report = Bench::start(&arguments).report();
        assert_eq!(report["topics"][0]["topic"], topic);
        check_deliveries(&report, 0, deliveries);
        assert_eq!(report["topics"][0]["event_last"]["count"], 160);
    };
    // 160 events are measured, 16 of each topic; the first five topics have one subscriber more than the others.
    check(&["--subscribers", "25"], "bench.0 … bench.9", 16 * 25);
    check(&["--subscribers", "10", "--transport", "sse", "--topic", "a.{index}.z"], "a.0.z … a.9.z", 160);
    check(&["--subscribers", "20", "--transport", "socketio", "--publish-connections", "3"], "bench.0 … bench.9", 320);
    // More topics than are probed at once.
    check(&["--subscribers", "150", "--topics", "150"], "bench.0 … bench.149", 160);
    assert_eq!(hub.listeners("bench.3"), Some(0));
}

#[test]
fn many_topics_over_nats() {
    let (hub, nats) = (Hub::start(), NatsServer::start());
    relay(&nats, &hub, "bench.*");
    let (url, publish) = (hub.url(0), nats.url_as(""));
    let arguments = ["--url", url, "--topics", "5", "--subscribers", "10", "--publish", &publish, "--churn", "50"];
    check_deliveries(&Bench::start(&arguments).report(), 0, 2 * 80);
}

#[test]
fn published_at_a_redis_with_tls() {
    let redis = TlsRedis::start(&["--requirepass", "s3cret"]);
    let hub = Hub::start_with(&["--redis", &redis.plain.url_as(":s3cret@")], &[]);
    let (url, certificate) = (redis.url(":s3cret@"), redis.certificate());
    let arguments = ["--url", hub.url(0), "--subscribers", "3", "--publish", &url];
    let report = Bench::start(&[&arguments[..], &["--ca", &certificate]].concat()).report();
    assert_eq!(report["topics"][0]["events"], 80);
    assert!(!report.to_string().contains("s3cret"), "{report}");
    let said = problem(&arguments);
    assert!(said.contains("--ca FILE") && !said.contains("s3cret"), "{said}");
}
