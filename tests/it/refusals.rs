//! Responses that ask a client to retry later: a browser retries, and other clients get the true status.

use std::{fs, process::Command};

use fanfare_core::protocol::http::Method;
use serde_json::Value;

use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    run_program,
    sse::SseClient,
    stdout_of, wait_until,
    websocket::{Incoming, WebSocketClient},
};

/// The headers by which a browser's EventSource is known.
const BROWSERS: [&[(&str, &str)]; 3] = [
    &[("Accept", "text/event-stream"), ("Origin", "http://localhost:3000"), ("Sec-Fetch-Mode", "cors")],
    &[("Accept", "text/event-stream"), ("Origin", "http://127.0.0.1:3000")],
    &[("Accept", "text/event-stream"), ("Sec-Fetch-Site", "same-origin")],
];

/// A request: method, path, headers.
type Asked = (Method, &'static str, &'static [(&'static str, &'static str)]);

/// Requests of clients that are no browsers.
const OTHERS: [Asked; 5] = [
    (Method::Get, "/sse?topic=t", &[]),
    (Method::Get, "/sse?topic=t", &[("Accept", "text/event-stream")]),
    (Method::Get, "/sse?topic=t", &[("Origin", "http://localhost:3000")]),
    (Method::Get, "/topics", &[]),
    (Method::Post, "/publish/t", &[]),
];

/// The one event and the `retry:` of a response that is a stream. The stream must end properly.
#[track_caller]
fn check_refused_stream(response: &Response, code: &str, retry_ms: std::ops::RangeInclusive<u64>) {
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    let (mut decoder, mut events) = (fanfare_core::protocol::sse::Decoder::new(), Vec::new());
    let decoded = decoder.receive(&response.body, |message| {
        events.push((message.event.to_vec(), serde_json::from_slice::<Value>(message.data)));
    });
    decoded.expect("it is short");
    let [(kind, Ok(data))] = &events[..] else { panic!("one event was due: {}", response.text()) };
    assert_eq!((kind.as_slice(), &data["code"]), (b"error".as_slice(), &Value::from(code)));
    assert!(data["message"].as_str().is_some_and(|message| !message.is_empty()), "{data}");
    assert!(decoder.retry_ms().is_some_and(|wait_ms| retry_ms.contains(&wait_ms)), "{:?}", decoder.retry_ms());
}

/// Checks what each kind of client gets from a hub at a limit: `status` and `code` unless it is a browser.
fn check_limit(hub: &Hub, status: u16, code: &str) {
    for headers in BROWSERS {
        let mut connection = HttpConnection::new(hub.connect());
        let response = connection.request(Method::Get, "/sse?topic=t", headers, b"");
        check_refused_stream(&response, "try_later", 4000..=6000);
        // A page of another origin can read it only if it is allowed.
        let origin = headers.iter().find_map(|(name, value)| (*name == "Origin").then_some(*value));
        assert_eq!(response.header("access-control-allow-origin"), origin);
        assert!(connection.is_closed());
    }
    for (method, target, headers) in OTHERS {
        let mut connection = HttpConnection::new(hub.connect());
        let response = connection.request(method, target, headers, b"");
        assert_eq!((response.status, response.error_code().as_str()), (status, code), "{target} {headers:?}");
        assert!(response.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
        assert!(connection.is_closed());
    }
    // Health and metrics are still shown, once per connection, except to an address with too many connections.
    let shown = if status == 503 { 200 } else { status };
    for target in ["/health", "/ready", "/metrics"] {
        let mut connection = HttpConnection::new(hub.connect());
        assert_eq!(connection.request(Method::Get, target, &[], b"").status, shown, "{target}");
        assert!(connection.is_closed());
    }
    for protocols in [&[][..], &["fanfare.v1"]] {
        // A page sees only the close code and the reason of a WebSocket.
        let mut socket = WebSocketClient::open_on(hub.connect(), "/ws?topic=t", protocols);
        let Incoming::Close(Some(1013), reason) = socket.next() else { panic!("it should close with 1013") };
        let reason: Value = serde_json::from_str(&reason).expect("the reason is JSON");
        assert!(reason["reconnect_in_ms"].as_u64().is_some_and(|wait_ms| (4000..=6000).contains(&wait_ms)), "{reason}");
    }
}

#[test]
fn beyond_the_limit_of_the_hub() {
    let hub = Hub::start_with(&[], &[("server.max_connections", "5"), ("sse.retry", "4s")]);
    let streams: Vec<SseClient> = (0..5).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    check_limit(&hub, 503, "overloaded");
    drop(streams);
    wait_until("there is room again", || (hub.get("/topics").status == 200).then_some(()));
}

/// A hub that may open few files. It logs to a file in `folder`.
fn start_with_descriptors(limit: u32, folder: &Folder, flags: &str) -> (Hub, String) {
    let log = folder.path("log");
    let script =
        format!("ulimit -n {limit} && exec \"$0\" serve --listen 127.0.0.1:0 {flags} --log-level warn 2>'{log}'");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_fanfare")]);
    (Hub::spawn(command, &[("sse.retry", "4s"), ("log.level", "warn")]), log)
}

/// Opens `count` streams at the hub. Returns those that are open, and the number of proper refusals.
fn open_streams(hub: &Hub, count: usize) -> (Vec<HttpConnection>, usize) {
    let mut refused = 0;
    let open = (0..count).filter_map(|_| {
        let mut connection = HttpConnection::new(hub.connect());
        connection.send(b"GET /sse?topic=t HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = connection.receive_head();
        if head.status == 200 {
            return Some(connection);
        }
        assert_eq!((head.status, head.header("retry-after").is_some()), (503, true), "{}", head.head);
        refused += 1;
        None
    });
    (open.collect(), refused)
}

fn health_at(hub: &Hub, index: usize) -> u16 {
    HttpConnection::new(hub.connect_at(index)).request(Method::Get, "/health", &[], b"").status
}

/// More streams than the process has descriptors for, and clients that only connect: each gets an answer, health answers at all
/// times, and the log has one line.
#[test]
fn beyond_the_descriptors_of_the_process() {
    fanfare_platform::os::raise_descriptor_limit().expect("a process may use what it is given");
    let folder = Folder::new();
    let (hub, log) = start_with_descriptors(200, &folder, "--reactors 2");
    let (streams, refused) = open_streams(&hub, 230);
    assert!(100 < streams.len() && streams.len() + refused == 230, "{} {refused}", streams.len());
    check_limit(&hub, 503, "overloaded");
    // Connections without a request do not take the descriptors that refusals need.
    let silent: Vec<_> = (0..100).map(|_| hub.connect()).collect();
    for _ in 0..20 {
        assert_eq!(health_at(&hub, 0), 200);
    }
    assert!(hub.metric("process_open_fds") <= 200.0 - 16.0, "some are left for the hub itself");
    assert_eq!(hub.metric("process_max_fds"), 200.0);
    drop((silent, streams));
    wait_until("there is room again", || (hub.get("/topics").status == 200).then_some(()));
    let log = fs::read_to_string(log).expect("the hub has written it");
    let lowered = "max_connections lowered from 100000 to ";
    assert!(log.contains(lowered) && log.contains(": the process may open 200 files"), "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("WARN")).count(), 2, "{log}");
}

/// The admin listener has descriptors of its own, which neither streams nor silent clients take.
#[test]
fn the_admin_listener_has_descriptors_of_its_own() {
    fanfare_platform::os::raise_descriptor_limit().expect("a process may use what it is given");
    let folder = Folder::new();
    let (hub, _) = start_with_descriptors(200, &folder, "--reactors 2 --admin-listen 127.0.0.1:0");
    let (_streams, refused) = open_streams(&hub, 230);
    assert!(0 < refused);
    let _silent: Vec<_> = (0..100).map(|_| hub.connect()).collect();
    let _idle: Vec<_> = (0..100).map(|_| hub.connect_at(1)).collect();
    for _ in 0..20 {
        assert_eq!(health_at(&hub, 1), 200);
    }
}

/// If descriptors run out all the same (here the limit falls below what is open), clients get an answer, the log has one line,
/// and the hub goes on once there are descriptors.
#[test]
fn without_a_single_descriptor_left() {
    let folder = Folder::new();
    // One reactor: another could take the descriptor that this one frees for a moment.
    let (hub, log) = start_with_descriptors(200, &folder, "--reactors 1");
    let pid = hub.pid().to_string();
    let limit = |files: &str| {
        stdout_of(&run_program("prlimit", "util-linux", &["--pid", &pid, &format!("--nofile={files}:200")]));
    };
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut publisher = HttpConnection::new(hub.connect());
    let mut publish = || publisher.request(Method::Post, "/publish/t", &[], b"x").json()["id"].clone();
    let first = publish();
    assert_eq!(Value::from(stream.next().id), first);
    let is_open = |number: &u32| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    // The limit is below the next descriptor number. Open ones stay open, and one of them is the spare.
    limit(&(0..).find(|number| !is_open(number)).expect("some number is free").to_string());
    let mut refused = 0;
    for _ in 0..50 {
        let mut connection = HttpConnection::new(hub.connect());
        connection.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
        // If the request came after the answer, the kernel would reset the connection and discard the answer.
        if let Some(answer) = connection.try_receive() {
            assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", answer.head);
            refused += 1;
        }
    }
    assert!(10 < refused, "{refused}");
    assert_eq!(publish(), Value::from(stream.next().id));
    limit("200");
    wait_until("it answers again", || {
        let mut connection = HttpConnection::new(hub.connect());
        connection.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
        connection.try_receive().filter(|answer| answer.status == 200)
    });
    let log = fs::read_to_string(log).expect("the hub has written it");
    assert_eq!(log.lines().filter(|line| line.contains("no descriptor left")).count(), 1, "{log}");
}

#[test]
fn beyond_the_limit_of_an_address() {
    let hub = Hub::start_with(&[], &[("server.max_connections_per_ip", "3"), ("sse.retry", "4s")]);
    let streams: Vec<SseClient> = (0..3).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    check_limit(&hub, 429, "too_many_connections");
    drop(streams);
    wait_until("there is room again", || (hub.get("/topics").status == 200).then_some(()));
}

/// Requests whose second half arrives while the hub drains.
#[test]
fn a_stream_asked_for_while_the_hub_drains() {
    let hub = Hub::start_with(&[], &[("drain.window", "20s"), ("sse.retry", "4s")]);
    let begin = |head: &str| {
        let mut connection = HttpConnection::new(hub.connect());
        connection.send(format!("GET {head}").as_bytes());
        connection
    };
    let stream = "/sse?topic=t HTTP/1.1\r\nHost: h\r\n";
    let mut browsers = BROWSERS.map(|_| begin(stream));
    let mut other = begin(stream);
    let mut socket = begin("/ws?topic=t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    wait_until("all have arrived", || (hub.metric("fanfare_connections{transport=\"http\"}") == 6.0).then_some(()));
    let hub = hub.drain();
    for (connection, headers) in browsers.iter_mut().zip(BROWSERS) {
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        connection.send(format!("{fields}\r\n").as_bytes());
        check_refused_stream(&connection.receive(), "restart", 4000..=6000);
        assert!(connection.is_closed());
    }
    other.send(b"\r\n");
    let refused = other.receive();
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "restart"));
    assert!(refused.header("retry-after").is_some() && other.is_closed());
    socket.send(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    let answer = crate::support::http::read_to_end(socket.into_socket());
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("\u{3}"), "{answer}");
    assert!(answer.contains("{\"reconnect_in_ms\":"), "{answer}");
    assert!(hub.wait().success());
}
