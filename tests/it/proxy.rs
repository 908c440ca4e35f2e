//! Hubs behind nginx, with the configuration that `scripts/deploy` recommends.

use fanfare_core::protocol::http::Method;
use serde_json::Value;

use crate::support::{
    http::{HttpConnection, Response},
    hub::Hub,
    nginx::Nginx,
    sse::{Received, SseClient},
    websocket::{Incoming, WebSocketClient},
};

/// A request: method, path, headers.
type Asked = (Method, &'static str, &'static [(&'static str, &'static str)]);

const EVENT_SOURCE: [(&str, &str); 2] = [("Accept", "text/event-stream"), ("Origin", "https://app.example")];

fn request(nginx: &Nginx, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    HttpConnection::new(nginx.connect()).request(method, target, headers, body.as_bytes())
}

#[test]
fn streams_sockets_and_publishing_go_through() {
    let hub = Hub::start();
    let nginx = Nginx::start(&[hub.address()]);
    let mut stream = SseClient::open_on(nginx.connect(), "/sse?topic=t", &[]);
    let mut raw = WebSocketClient::open_on(nginx.connect(), "/ws?topic=t", &[]);
    let mut v1 = WebSocketClient::open_on(nginx.connect(), "/ws?topic=t", &["fanfare.v1"]);
    let mut publisher = HttpConnection::new(nginx.connect());
    for (target, body) in [("/publish/t", "one"), ("/publish", r#"[{"topic":"t","data":"two"}]"#)] {
        assert_eq!(publisher.request(Method::Post, target, &[], body.as_bytes()).status, 200, "{target}");
    }
    assert_eq!((stream.next_data().as_str(), raw.next_text().as_str()), ("one", "one"));
    assert_eq!((stream.next_data().as_str(), raw.next_text().as_str()), ("\"two\"", "\"two\""));
    v1.send(r#"{"op":"ping","ref":7}"#);
    let answered = (0..5).any(|_| matches!(v1.next(), Incoming::Text(text) if text.contains("pong")));
    assert!(answered, "frames go both ways");
    let history = request(&nginx, Method::Get, "/topics/t/history", &[], "").json();
    assert_eq!(history["events"].as_array().map(Vec::len), Some(2));
}

#[test]
fn administration_does_not_go_through() {
    let hub = Hub::start();
    let nginx = Nginx::start(&[hub.address()]);
    for target in
        ["/health", "/healthz", "/livez", "/ready", "/readyz", "/metrics", "/stats", "/", "/topics/../metrics"]
    {
        assert_eq!(request(&nginx, Method::Get, target, &[], "").status, 404, "{target}");
    }
    assert_eq!(request(&nginx, Method::Get, "/topics", &[], "").status, 200);
}

#[test]
fn what_the_hub_refuses_stays_as_it_is() {
    let hub = Hub::start_with(&[], &[("server.max_connections", "1")]);
    let nginx = Nginx::start(&[hub.address()]);
    let _holder = SseClient::open(&hub, "/sse?topic=t");
    let refused = request(&nginx, Method::Get, "/sse?topic=t", &[], "");
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "overloaded"));
    assert_eq!(refused.head.to_lowercase().matches("retry-after").count(), 1, "{}", refused.head);
    let kept = request(&nginx, Method::Get, "/sse?topic=t", &EVENT_SOURCE, "");
    assert_eq!(kept.status, 200);
    assert!(kept.text().contains("\"code\":\"try_later\""), "{}", kept.text());
}

#[test]
fn an_event_source_reconnects_when_no_hub_answers() {
    let hub = Hub::start();
    let nginx = Nginx::start(&[hub.address()]);
    assert!(hub.terminate().success());
    let kinds: [&[(&str, &str)]; 3] = [
        &EVENT_SOURCE,
        &[("Accept", "text/event-stream"), ("Sec-Fetch-Site", "same-origin")],
        &[("Accept", "text/event-stream, */*"), ("Sec-Fetch-Mode", "cors"), ("Origin", "null")],
    ];
    for headers in kinds {
        let response = request(&nginx, Method::Get, "/sse?topic=t", headers, "");
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
        let origin = headers.iter().find(|(name, _)| *name == "Origin").map(|(_, value)| *value);
        assert_eq!(response.header("access-control-allow-origin"), origin);
        let (retry_ms, event) = read_stream(&response.text());
        assert!((1000..=3100).contains(&retry_ms), "{retry_ms}");
        let received: Value = serde_json::from_str(&event.data).expect("the reason is JSON");
        assert_eq!((event.kind.as_str(), &received["code"]), ("error", &Value::from("unavailable")));
        assert_eq!(received["upstream_status"], "502");
    }
    let retries = (0..30).map(|_| read_stream(&request(&nginx, Method::Get, "/sse", &EVENT_SOURCE, "").text()).0);
    let retries: std::collections::BTreeSet<u64> = retries.collect();
    assert!(1 < retries.len(), "not all at once: {retries:?}");
}

#[test]
fn others_get_the_honest_status_when_no_hub_answers() {
    let hub = Hub::start();
    let nginx = Nginx::start(&[hub.address()]);
    assert!(hub.terminate().success());
    let rows: [Asked; 5] = [
        (Method::Get, "/sse?topic=t", &[]),
        (Method::Get, "/sse?topic=t", &[("Accept", "text/event-stream")]),
        (Method::Get, "/sse?topic=t", &[("Origin", "https://app.example")]),
        (Method::Get, "/topics", &EVENT_SOURCE),
        (Method::Post, "/publish/t", &[]),
    ];
    for (method, target, headers) in rows {
        let response = request(&nginx, method, target, headers, "");
        assert_eq!((response.status, response.header("retry-after")), (502, Some("2")), "{target} {headers:?}");
    }
}

#[test]
fn a_hub_that_is_gone_is_passed_over() {
    let hubs = [Hub::start(), Hub::start()];
    let nginx = Nginx::start(&[hubs[0].address(), hubs[1].address()]);
    let [gone, there] = hubs;
    assert!(gone.terminate().success());
    let mut stream = SseClient::open_on(nginx.connect(), "/sse?topic=t", &[]);
    for number in 0..10 {
        let taken = request(&nginx, Method::Post, "/publish/t", &[], &number.to_string());
        assert_eq!(taken.status, 200, "not even a POST was lost on the one that is gone");
        assert_eq!(stream.next_data(), number.to_string());
    }
    assert_eq!(there.stats()["events_received"], 10, "each once");
}

/// The content of a stream that ends at once: the retry time, and one event.
fn read_stream(text: &str) -> (u64, Received) {
    let mut decoder = fanfare_core::protocol::sse::Decoder::new();
    let mut events = Vec::new();
    let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let decoded = decoder.receive(text.as_bytes(), |message| {
        events.push(Received { id: owned(message.id), kind: owned(message.event), data: owned(message.data) });
    });
    decoded.expect("it is short");
    assert_eq!(events.len(), 1, "{text}");
    (decoder.retry_ms().expect("it tells when to come back"), events.remove(0))
}
