//! What the hub answers whom it wants to come back later: a browser survives it, all others are told the truth.

use fanfare::protocol::http::Method;
use serde_json::Value;

use crate::support::{
    http::{HttpConnection, Response},
    hub::Hub,
    sse::SseClient,
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

/// The headers by which a browser's EventSource is known.
const BROWSERS: [&[(&str, &str)]; 3] = [
    &[("Accept", "text/event-stream"), ("Origin", "https://app.example"), ("Sec-Fetch-Mode", "cors")],
    &[("Accept", "text/event-stream"), ("Origin", "http://app.example")],
    &[("Accept", "text/event-stream"), ("Sec-Fetch-Site", "same-origin")],
];

/// A request: method, path, headers.
type Asked = (Method, &'static str, &'static [(&'static str, &'static str)]);

/// What others ask.
const OTHERS: [Asked; 5] = [
    (Method::Get, "/sse?topic=t", &[]),
    (Method::Get, "/sse?topic=t", &[("Accept", "text/event-stream")]),
    (Method::Get, "/sse?topic=t", &[("Origin", "https://app.example")]),
    (Method::Get, "/topics", &[]),
    (Method::Post, "/publish/t", &[]),
];

/// The one event and the `retry:` of a response that is a stream, which must end by the rules.
#[track_caller]
fn check_refused_stream(response: &Response, code: &str, retry_ms: std::ops::RangeInclusive<u64>) {
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    let (mut decoder, mut events) = (fanfare::protocol::sse::Decoder::new(), Vec::new());
    let decoded = decoder.receive(&response.body, |message| {
        events.push((message.event.to_vec(), serde_json::from_slice::<Value>(message.data)));
    });
    decoded.expect("it is short");
    let [(kind, Ok(data))] = &events[..] else { panic!("one event was due: {}", response.text()) };
    assert_eq!((kind.as_slice(), &data["code"]), (b"error".as_slice(), &Value::from(code)));
    assert!(data["message"].as_str().is_some_and(|message| !message.is_empty()), "{data}");
    assert!(decoder.retry_ms().is_some_and(|told| retry_ms.contains(&told)), "{:?}", decoder.retry_ms());
}

/// What every kind of client gets from a hub at a limit: `status` and `code` if it is no browser.
fn check_limit(hub: &Hub, status: u16, code: &str) {
    for headers in BROWSERS {
        let mut connection = HttpConnection::new(hub.connect());
        let response = connection.request(Method::Get, "/sse?topic=t", headers, b"");
        check_refused_stream(&response, "try_later", 4000..=6000);
        // A page of another origin learns of it only if it may.
        let is_foreign = headers.iter().any(|(name, _)| *name == "Origin");
        assert_eq!(response.header("access-control-allow-origin"), is_foreign.then_some("*"));
        assert!(connection.is_closed());
    }
    for (method, target, headers) in OTHERS {
        let mut connection = HttpConnection::new(hub.connect());
        let response = connection.request(method, target, headers, b"");
        assert_eq!((response.status, response.error_code().as_str()), (status, code), "{target} {headers:?}");
        assert!(response.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
        assert!(connection.is_closed());
    }
    // Health and figures are still shown, once per connection, to anybody but who asks for too much.
    let shown = if status == 503 { 200 } else { status };
    for target in ["/health", "/ready", "/metrics"] {
        let mut connection = HttpConnection::new(hub.connect());
        assert_eq!(connection.request(Method::Get, target, &[], b"").status, shown, "{target}");
        assert!(connection.is_closed());
    }
    for protocols in [&[][..], &["fanfare.v1"]] {
        // A WebSocket tells its page nothing but a close code and a reason.
        let mut socket = WebSocketClient::open_on(hub.connect(), "/ws?topic=t", protocols);
        let Incoming::Close(Some(1013), reason) = socket.next() else { panic!("it should close with 1013") };
        let reason: Value = serde_json::from_str(&reason).expect("the reason is JSON");
        assert!(reason["reconnect_in_ms"].as_u64().is_some_and(|told| (4000..=6000).contains(&told)), "{reason}");
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

#[test]
fn beyond_the_limit_of_an_address() {
    let hub = Hub::start_with(&[], &[("server.max_connections_per_ip", "3"), ("sse.retry", "4s")]);
    let streams: Vec<SseClient> = (0..3).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    check_limit(&hub, 429, "too_many_connections");
    drop(streams);
    wait_until("there is room again", || (hub.get("/topics").status == 200).then_some(()));
}

/// Requests of which the second half comes when the hub drains already.
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
