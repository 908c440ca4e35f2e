//! The memory budget as clients see it: a request for which there is no room gets a clear error, and nothing of it stays in memory.

use fanfare_core::protocol::http::Method;
use serde_json::json;

use crate::support::{http::HttpConnection, hub::Hub, websocket::WebSocketClient};

const PAYLOAD_BYTES: usize = 100_000;

#[test]
fn a_spent_budget_lets_no_topic_begin() {
    let hub = Hub::start_with(&[], &[("server.memory_budget", "1MiB"), ("topics.lag.bytes", "1GiB")]);
    let (mut socket, mut connection) =
        (WebSocketClient::open_v1(&hub, "/ws?topic=known"), HttpConnection::new(hub.connect()));
    spend(&mut connection);
    let mut status = |method, target: &str| connection.request(method, target, &[], b"x").status;
    assert_eq!(status(Method::Post, "/publish/fresh.one"), 503);
    assert_eq!(status(Method::Get, "/topics/fresh.one"), 404, "a refused publication makes no topic");
    let refused = socket.ask(&json!({ "op": "subscribe", "topic": "fresh.two", "ref": 1 }));
    assert_eq!((&refused["op"], &refused["code"], &refused["ref"]), (&json!("error"), &json!("Overloaded"), &json!(1)));
    assert_eq!(status(Method::Get, "/topics/fresh.two"), 404);
    let refused = connection.request(Method::Get, "/sse?topic=fresh.three", &[], b"");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("2")));
    let mut connection = HttpConnection::new(hub.connect());
    let browser = [("Accept", "text/event-stream"), ("Sec-Fetch-Mode", "cors")];
    let received = connection.request(Method::Get, "/sse?topic=fresh.four", &browser, b"");
    assert_eq!((received.status, received.text().contains("event: error")), (200, true), "{}", received.text());
}

/// Publishes to ever new topics until there is no room for one more with the smallest payload, and then to the first of them.
fn spend(connection: &mut HttpConnection) {
    let (mut payload, mut number) = (vec![b'x'; PAYLOAD_BYTES], 0);
    let mut is_last = false;
    loop {
        number += usize::from(!is_last);
        match connection.request(Method::Post, &format!("/publish/spent.{number}"), &[], &payload).status {
            200 => {}
            503 if is_last => return,
            503 if payload.is_empty() => (number, is_last) = (1, true),
            503 => payload.truncate(payload.len() / 2),
            other => panic!("{other}"),
        }
    }
}
