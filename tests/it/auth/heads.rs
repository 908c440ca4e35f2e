//! HEAD has the answer of the same GET, and has no effect.

use fanfare_core::protocol::http::Method;
use serde_json::json;

use super::{ask, claims, sign, start, status_of, with};

/// The routes that open streams, each with an unused topic.
const STREAMS: [(&str, &str); 5] = [
    ("/sse?topic=a.head", "a.head"),
    ("/sse?topic=a.one&topic=a.two", "a.one"),
    ("/api/v1/events/stream/head", "streams.head"),
    ("/api/v1/sse/stream/head", "wells.head"),
    ("/head/events/changes", "pods.head.changes"),
];

#[test]
fn a_head_asks_for_the_rights_of_its_get_and_opens_nothing() {
    let hub = start(&[]);
    let token = |patterns: &[&str]| sign(&with(claims(), "subscribe", json!(patterns)));
    let tokens = [String::new(), "garbage".into(), token(&["other"]), token(&["**"])];
    let topics = hub.metric("fanfare_topics");
    for (target, topic) in STREAMS {
        let join = if target.contains('?') { '&' } else { '?' };
        let of_head = tokens.each_ref().map(|token| {
            // With the headers of an EventSource. What a browser gets within a stream must not appear here.
            let browser = [("Accept", "text/event-stream"), ("Sec-Fetch-Mode", "cors")];
            let with_token = format!("{target}{join}token={token}");
            let plain = ask(&hub, Method::Head, &with_token, &[], "");
            assert_eq!(ask(&hub, Method::Head, &with_token, &browser, "").status, plain.status, "{with_token}");
            assert_eq!(plain.text(), "");
            if plain.status == 200 {
                assert_eq!(plain.header("content-type"), Some("text/event-stream"));
            }
            plain.status
        });
        assert_eq!(of_head, [401, 401, 403, 200], "{target}");
        let known = ask(&hub, Method::Get, &format!("/topics/{topic}?token={}", tokens[3]), &[], "");
        assert_eq!(known.status, 404, "{target}");
        let of_get = tokens.each_ref().map(|token| status_of(&hub, &format!("{target}{join}token={token}"), &[]));
        assert_eq!(of_get, of_head, "{target}");
    }
    assert_eq!(topics, 0.0);
    assert_eq!(hub.metric("fanfare_connects_total{transport=\"sse\"}"), STREAMS.len() as f64);
    // Errors in the request are also reported before a stream is opened.
    let bad = [("/sse?topic=a..b", 400), ("/api/v1/sse/stream/a.b", 400), ("/sse?topic=a&since=x", 400)];
    for (target, status) in bad {
        let join = if target.contains('?') { '&' } else { '?' };
        let found = ask(&hub, Method::Head, &format!("{target}{join}token={}", tokens[3]), &[], "").status;
        assert_eq!(found, status, "{target}");
    }
    let socket = ask(&hub, Method::Head, &format!("/ws?topic=a.b&token={}", tokens[3]), &[], "");
    assert_eq!(socket.status, 400);
    let session = ask(&hub, Method::Head, "/socket.io/?EIO=4&transport=polling", &[], "");
    assert_eq!((session.status, hub.metric("fanfare_connections{transport=\"socketio\"}")), (400, 0.0));
}
