//! The rights to read streams and pods, to broadcast to them, and to control generators.

use std::time::UNIX_EPOCH;

use fanfare_core::protocol::http::Method;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{
    http::{HttpConnection, Response},
    hub::Hub,
    sse::SseClient,
};

const SECRET: &str = "only for this test, and long enough for it";

/// A token for topics by pattern.
fn token(subscribe: &[&str], publish: &[&str]) -> String {
    let expires = UNIX_EPOCH.elapsed().expect("it is past 1970").as_secs() + 3600;
    let claims = json!({ "sub": "somebody", "exp": expires, "subscribe": subscribe, "publish": publish });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("claims are JSON")
}

fn guarded_hub() -> Hub {
    Hub::start_with(&["--demo"], &[("auth.mode", "jwt"), ("auth.secret", SECRET)])
}

fn ask(hub: &Hub, method: Method, target: &str, token: Option<&str>, body: &str) -> Response {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    HttpConnection::new(hub.connect()).request(method, target, &headers, body.as_bytes())
}

#[test]
fn rights_are_checked_at_every_route() {
    let hub = guarded_hub();
    let reader = token(&["streams.a", "pods.p.changes"], &[]);
    let writer = token(&[], &["streams.a", "pods.p.changes"]);
    let everything = token(&["**"], &["**"]);
    let check = |method: Method, target: &str, body: &str, expected: [u16; 4]| {
        let tokens = [None, Some(reader.as_str()), Some(&writer), Some(&everything)];
        let statuses = tokens.map(|token| ask(&hub, method, target, token, body).status);
        assert_eq!(statuses, expected, "{method} {target} {body}");
    };
    let to_one = r#"{"stream_id":"a","type":"t","message":"m"}"#;
    let to_all = r#"{"type":"t","message":"m"}"#;
    check(Method::Head, "/api/v1/events/stream/a", "", [401, 200, 403, 200]);
    check(Method::Head, "/api/v1/events/stream/b", "", [401, 403, 403, 200]);
    check(Method::Head, "/api/v1/broadcast-demo/stream/a", "", [401, 403, 403, 200]);
    check(Method::Post, "/api/v1/events/broadcast", to_one, [401, 403, 200, 200]);
    check(Method::Post, "/api/v1/events/broadcast", to_all, [401, 403, 403, 200]);
    check(Method::Post, "/api/v1/broadcast-demo/broadcast", to_one, [401, 403, 403, 200]);
    check(Method::Get, "/api/v1/events/streams", "", [401, 200, 200, 200]);
    // Repeating an action conflicts with the first time, except for a start.
    for (action, again) in [("start", 200), ("pause", 409), ("resume", 409), ("stop", 404)] {
        check(Method::Post, &format!("/api/v1/events/stream/a/{action}"), "", [401, 403, 200, again]);
    }
    check(Method::Head, "/p/events/changes", "", [401, 200, 403, 200]);
    check(Method::Head, "/q/events/changes", "", [401, 403, 403, 200]);
    check(Method::Post, "/p/events/changes", "{}", [401, 403, 201, 201]);
    check(Method::Post, "/q/events/changes", "{}", [401, 403, 403, 201]);
}

#[test]
fn a_refusal_has_the_form_of_the_api() {
    let hub = guarded_hub();
    let reader = token(&["streams.a"], &[]);
    for (token, code) in [(None, "token_missing"), (Some(reader.as_str()), "forbidden"), (Some("x"), "token_invalid")] {
        let answer = ask(&hub, Method::Post, "/api/v1/events/stream/a/start", token, "");
        let body = answer.json();
        assert_eq!((&body["success"], &body["error"]["code"]), (&json!(false), &json!(code)), "{body}");
        assert!(answer.header("WWW-Authenticate").is_some_and(|value| value.starts_with("Bearer")), "{}", answer.head);
    }
}

#[test]
fn streams_are_listed_for_those_who_may_listen() {
    let hub = guarded_hub();
    let names = |token: &str| {
        let listed = ask(&hub, Method::Get, "/api/v1/events/streams", Some(token), "").json();
        listed["data"].as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&token(&["streams.system"], &[])), ["system"]);
    assert_eq!(names(&token(&[], &["**"])), Vec::<String>::new());
    assert_eq!(names(&token(&["**"], &[])), ["default", "notifications", "system", "user-activity"]);
}

#[test]
fn a_token_in_the_address_opens_a_stream() {
    let hub = guarded_hub();
    let target = format!("/api/v1/events/stream/a?token={}", token(&["streams.a"], &[]));
    let mut listening = SseClient::open(&hub, &target).behind_greeting();
    let body = r#"{"stream_id":"a","type":"t","message":"m"}"#;
    let writer = token(&[], &["streams.a"]);
    assert_eq!(ask(&hub, Method::Post, "/api/v1/events/broadcast", Some(&writer), body).status, 200);
    let event: Value = serde_json::from_str(&listening.next_data()).expect("an object");
    assert_eq!(event["message"], "m");
}

/// Anybody may read the answer of a stream, so no page is refused for its origin; and one refusal counts as one.
#[test]
fn a_refused_stream_counts_once() {
    let hub = guarded_hub();
    assert_eq!(ask(&hub, Method::Get, "/api/v1/events/stream/a", Some("no token"), "").status, 401);
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"token_invalid\"}"), 1.0);
    let open = Hub::start();
    let headers = [("Origin", "https://elsewhere.example")];
    let target = "/api/v1/events/stream/a";
    assert_eq!(HttpConnection::new(open.connect()).request(Method::Head, target, &headers, b"").status, 200);
    assert_eq!(open.metric("fanfare_auth_failures_total{reason=\"origin_refused\"}"), 0.0);
}
