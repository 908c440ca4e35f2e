//! Hubs behind HAProxy, with the configuration that `scripts/deploy` recommends.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;
use socket2::Socket;

use crate::support::{
    conversation::Conversation,
    haproxy::Haproxy,
    http::{HttpConnection, Response, read_some},
    hub::Hub,
    run_program, send_signal,
    sse::SseClient,
    stdout_of, wait_until,
    websocket::WebSocketClient,
};

const EVENT_SOURCE: [(&str, &str); 2] = [("Accept", "text/event-stream"), ("Origin", "https://app.example")];

/// A hub that trusts the proxy.
fn hub() -> Hub {
    Hub::start_with(&[], &[("proxy.trusted", "127.0.0.1")])
}

fn request(haproxy: &Haproxy, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    HttpConnection::new(haproxy.connect()).request(method, target, headers, body.as_bytes())
}

fn wait_until_gone(haproxy: &Haproxy) {
    wait_until("HAProxy sees that the hub is gone", || {
        (request(haproxy, Method::Get, "/topics", &[], "").status == 503).then_some(())
    });
}

#[test]
fn streams_sockets_and_publishing_go_through() {
    let hub = hub();
    let haproxy = Haproxy::start(&[hub.address()]);
    let mut stream = SseClient::open_on(haproxy.connect(), "/sse?topic=t", &[]);
    let mut raw = WebSocketClient::open_on(haproxy.connect(), "/ws?topic=t", &[]);
    let mut publisher = HttpConnection::new(haproxy.connect());
    for payload in ["one", "two"] {
        assert_eq!(publisher.request(Method::Post, "/publish/t", &[], payload.as_bytes()).status, 200);
        assert_eq!((stream.next_data().as_str(), raw.next_text().as_str()), (payload, payload));
    }
    for target in ["/health", "/ready", "/metrics", "/stats", "/"] {
        assert_eq!(request(&haproxy, Method::Get, target, &[], "").status, 404, "{target}");
    }
    let log = wait_until("the log", || Some(haproxy.log()).filter(|log| log.contains("/metrics")));
    assert!(!log.contains("topic=t"), "no query: {log}");
}

/// HAProxy delays what it takes for part of a longer body: each event of a chunked stream leaves 200 ms late, or with the next one.
#[test]
fn no_event_is_held_back() {
    let hub = hub();
    let haproxy = Haproxy::start(&[hub.address()]);
    let mut stream = SseClient::open_on(haproxy.connect(), "/sse?topic=t", &[]);
    let started = Instant::now();
    const EVENTS: u32 = 20;
    for number in 0..EVENTS {
        hub.publish("t", number.to_string());
        assert_eq!(stream.next_data(), number.to_string());
    }
    let each = started.elapsed() / EVENTS;
    assert!(each < Duration::from_millis(100), "corked: {each:?} an event");
}

/// The end of such a stream does not show whether it is complete, so a hub that is killed causes a reset.
#[test]
fn a_stream_to_a_trusted_proxy_ends_with_its_connection() {
    let stream = |hub: &Hub, preface: &str| {
        let mut connection = HttpConnection::new(hub.connect());
        connection.send(preface.as_bytes());
        connection.send(b"GET /sse?topic=t HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.9\r\n\r\n");
        let head = connection.receive_head();
        assert_eq!((head.header("connection"), head.header("transfer-encoding")), (Some("close"), None));
        connection.into_socket()
    };
    let read_on = |socket: &Socket| {
        let mut buffer = [0; 1024];
        loop {
            match read_some(socket, &mut buffer) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    };
    let drained = hub();
    let socket = stream(&drained, "");
    assert!(drained.terminate().success());
    assert_eq!(read_on(&socket), None, "a proper end");
    let killed = Hub::start_with(&[], &[("proxy.trusted", "127.0.0.1"), ("proxy.proxy_protocol", "true")]);
    let socket = stream(&killed, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    send_signal("KILL", killed.pid());
    assert_eq!(read_on(&socket), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_browser_reconnects_when_no_hub_answers() {
    let hub = hub();
    let haproxy = Haproxy::start(&[hub.address()]);
    assert!(hub.terminate().success());
    wait_until_gone(&haproxy);
    let kept = request(&haproxy, Method::Get, "/sse?topic=t", &EVENT_SOURCE, "");
    assert_eq!((kept.status, kept.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(kept.header("access-control-allow-origin"), Some("https://app.example"));
    let text = kept.text();
    let fields: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(fields.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["retry", "event", "data"], "{text}");
    let retry_ms: u64 = fields[0].1.parse().expect("a number");
    assert!((1000..3100).contains(&retry_ms), "{retry_ms}");
    let reason: Value = serde_json::from_str(fields[2].1).expect("the reason is JSON");
    assert_eq!((fields[1].1, &reason["code"]), ("error", &Value::from("unavailable")));
    for (method, target, headers) in [
        (Method::Get, "/sse?topic=t", &[][..]),
        (Method::Post, "/publish/t", &[]),
        (Method::Get, "/topics", &EVENT_SOURCE),
    ] {
        let refused = request(&haproxy, method, target, headers, "");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")), "{target}");
    }
}

#[test]
fn over_tls_and_http2() {
    let hub = hub();
    let haproxy = Haproxy::start_tls(&[hub.address()]);
    let certificate = haproxy.certificate();
    let fixed = ["--silent", "--show-error", "--max-time", "20", "--http2", "--cacert", &certificate];
    let url = |path: &str| format!("https://{}{path}", haproxy.address());
    let curl = |arguments: &[&str]| stdout_of(&run_program("curl", "curl", &[&fixed[..], arguments].concat()));
    let listening = ["--silent", "--no-buffer", "--include", "--http2", "--cacert", &certificate];
    let listening = Conversation::start("curl", "curl", &[&listening[..], &[&url("/sse?topic=t")]].concat());
    assert_eq!(listening.next_line().trim_end(), "HTTP/2 200");
    hub.wait_for_listeners("t", 1);
    for number in 0..3 {
        curl(&["--data-binary", &number.to_string(), &url("/publish/t")]);
        assert_eq!(listening.wait_for("data: "), number.to_string());
    }
    let wanted = ["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}", "--data-binary", "x"];
    let sent_on = curl(&[&wanted[..], &[&format!("{}/publish/t", haproxy.plain_url())]].concat());
    assert!(sent_on.starts_with("308 https://127.0.0.2"), "{sent_on}");
}
