//! Each error has the form of the API that the path belongs to, whichever part of the hub refuses the request.

use std::io::Write;

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use super::{ask, log_in, start, write_users};
use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    sse::SseClient,
};

const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";

/// The ESP platform's form: a kind of error, and a text.
#[track_caller]
fn expect_platform(response: &Response, status: u16, kind: &str) {
    let body = response.json();
    assert_eq!((response.status, &body["error"]), (status, &json!(kind)), "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert_eq!(response.header("content-type"), Some("application/json"));
}

/// The event streaming service's.
#[track_caller]
fn expect_envelope(response: &Response, status: u16, code: &str) {
    let body = response.json();
    assert_eq!((response.status, &body["success"], &body["error"]["code"]), (status, &json!(false), &json!(code)));
    assert!(body["message"].is_string() && body["timestamp"].is_i64(), "{body}");
}

/// The response to a head that announces a body of `length` bytes, without the body.
fn announce(hub: &Hub, target: &str, length: usize) -> Response {
    let mut socket = hub.connect();
    let head = format!("POST {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("the hub reads");
    HttpConnection::new(socket).receive()
}

#[test]
fn errors_of_signing_in_have_the_platform_s_form() {
    let folder = Folder::new();
    let hub = start(&[
        ("users.file", &write_users(&folder, "")),
        ("auth.login_failure_window", "1h"),
        ("auth.login_failures_per_user_max", "2"),
    ]);
    let post = |target: &str, headers: &[(&str, &str)], body: &str| ask(&hub, Method::Post, target, headers, body);
    expect_platform(&post(LOGIN, &[], "{"), 400, "ValidationError");
    expect_platform(&post(LOGIN, &[], r#"{"username":"ann"}"#), 400, "ValidationError");
    let long = json!({ "username": "ann", "password": "x".repeat(2000) }).to_string();
    expect_platform(&post(LOGIN, &[], &long), 400, "ValidationError");
    expect_platform(&post(REFRESH, &[], ""), 401, "AuthenticationError");
    expect_platform(&post(REFRESH, &[("Authorization", "Bearer x")], ""), 401, "AuthenticationError");
    for target in [LOGIN, REFRESH, "/api/v1/auth/logout"] {
        let refused = hub.get(target);
        expect_platform(&refused, 405, "MethodNotAllowed");
        assert_eq!(refused.header("allow"), Some("POST, OPTIONS"));
    }
    // Before the body is read: by the hub's limit, and by the limit for clients without a token.
    expect_platform(&announce(&hub, LOGIN, 2 << 20), 413, "PayloadTooLarge");
    expect_platform(&announce(&hub, LOGIN, 20 << 10), 413, "PayloadTooLarge");
    expect_platform(&announce(&hub, REFRESH, 20 << 10), 401, "AuthenticationError");
    expect_platform(&log_in(&hub, "wrong"), 401, "AuthenticationError");
    expect_platform(&log_in(&hub, "wrong"), 401, "AuthenticationError");
    let limited = log_in(&hub, "correct");
    expect_platform(&limited, 429, "RateLimited");
    assert!(limited.header("retry-after").is_some());
    assert_eq!(limited.error_code(), "too_many_failures", "what the native form says is there as well");
    // A hub without users, and one that is full.
    expect_platform(&start(&[]).post(LOGIN, r#"{"username":"a","password":"x"}"#), 404, "NotFound");
    let full = Hub::start_with(&[], &[("server.max_connections", "1")]);
    let _holder = SseClient::open(&full, "/sse?topic=t");
    let refused = full.post(LOGIN, "{}");
    expect_platform(&refused, 503, "ServiceUnavailable");
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn so_have_all_errors_at_the_paths_of_an_api() {
    let hub = Hub::start_with(&[], &[("limits.body_timeout", "200ms")]);
    for target in ["/api/v1/telemetry/ingest", "/api/v1/alerts", "/api/v1/diagnostics"] {
        expect_platform(&hub.get(target), 405, "MethodNotAllowed");
        expect_platform(&announce(&hub, target, 2 << 20), 413, "PayloadTooLarge");
        expect_platform(&announce(&hub, target, 10), 408, "RequestTimeout");
    }
    expect_platform(&hub.post("/api/v1/telemetry/W", "{}"), 405, "MethodNotAllowed");
    for mount in ["events", "broadcast-demo"] {
        let path = |rest: &str| format!("/api/v1/{mount}/{rest}");
        expect_envelope(&hub.get(&path("broadcast")), 405, "method_not_allowed");
        expect_envelope(&hub.post(&path("streams"), "{}"), 405, "method_not_allowed");
        expect_envelope(&hub.get(&path("stream/s/start")), 405, "method_not_allowed");
        expect_envelope(&announce(&hub, &path("broadcast"), 2 << 20), 413, "body_too_large");
        expect_envelope(&announce(&hub, &path("broadcast"), 10), 408, "request_timeout");
    }
    let full = Hub::start_with(&[], &[("server.max_connections", "1")]);
    let _holder = SseClient::open(&full, "/sse?topic=t");
    expect_platform(&full.post("/api/v1/alerts", "{}"), 503, "ServiceUnavailable");
    expect_envelope(&full.post("/api/v1/events/broadcast", "{}"), 503, "overloaded");
    // The native API has a form of its own.
    let native: Value = full.post("/publish/t", "{}").json();
    assert!(native["error"]["code"].is_string() && native["error"]["message"].is_string(), "{native}");
    expect_native(&announce(&hub, "/publish/t", 2 << 20), 413);
    expect_native(&announce(&hub, "/pod/events/changes", 2 << 20), 413);
    expect_native(&hub.post("/api/v1/none", "{}"), 404);
}

#[track_caller]
fn expect_native(response: &Response, status: u16) {
    let body = response.json();
    assert_eq!(response.status, status, "{body}");
    assert!(body["error"]["message"].is_string(), "{body}");
}
