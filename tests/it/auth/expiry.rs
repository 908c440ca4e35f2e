//! A stream ends when its client's token expires, and says so. A renewed token keeps it open.

use std::fs;

use serde_json::{Value, json};

use super::{MOMENT, claims, log_in, sign, start, status_of, token_of, unix_s, with, write_users};
use crate::support::{
    Folder,
    hub::Hub,
    send_signal,
    sse::SseClient,
    websocket::{Incoming, WebSocketClient},
};

/// Valid for a second or two.
fn short() -> String {
    sign(&with(claims(), "exp", unix_s() + 2))
}

fn long() -> String {
    sign(&claims())
}

fn publish(hub: &Hub, payload: &str) {
    let answer = hub.post(&format!("/publish/a.b?token={}", long()), payload);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn an_event_stream_says_that_its_token_has_expired_and_nothing_is_lost() {
    let hub = start(&[]);
    let token = short();
    let target = format!("/sse?topic=a.b&token={token}");
    let mut stream = SseClient::open(&hub, &target);
    publish(&hub, "1");
    let first = stream.next();
    assert_eq!(first.data, "1");
    let rest = stream.read_to_end();
    let [error] = rest.as_slice() else { panic!("one event should come before the end, not {rest:?}") };
    assert_eq!(error.kind, "error");
    let said: Value = serde_json::from_str(&error.data).expect("JSON");
    assert_eq!(said["error"], "AuthenticationError");
    assert_eq!(said["code"], "token_expired");
    assert_eq!(hub.metric("fanfare_closes_total{transport=\"sse\",reason=\"token_expired\"}"), 1.0);
    // An expired token counts neither as no token nor as an invalid one.
    assert_eq!(status_of(&hub, &target, &[]), 401);
    assert_eq!(status_of(&hub, "/sse?topic=a.b", &[]), 401);

    publish(&hub, "2");
    let fresh = format!("/sse?topic=a.b&token={}&last_event_id={}", long(), first.id);
    let mut stream = SseClient::open(&hub, &fresh);
    publish(&hub, "3");
    assert_eq!([stream.next_data(), stream.next_data()], ["2", "3"]);
}

#[test]
fn a_websocket_is_closed_when_its_token_expires() {
    let hub = start(&[]);
    let token = short();
    let mut raw = WebSocketClient::open(&hub, &format!("/ws?topic=a.b&token={token}"));
    let mut v1 = WebSocketClient::open_v1(&hub, &format!("/ws?topic=a.b&token={token}"));
    let expected = Incoming::Close(Some(4401), "the token has expired".into());
    assert_eq!([raw.next(), v1.next()], [expected.clone(), expected]);
}

#[test]
fn a_fresh_token_lets_a_websocket_go_on() {
    let hub = start(&[]);
    let mut client = WebSocketClient::open_v1(&hub, &format!("/ws?topic=a.b&token={}", short()));
    let mut witness = WebSocketClient::open(&hub, &format!("/ws?topic=a.b&token={}", short()));
    let sign_in = |token: String| json!({ "op": "auth", "token": token, "ref": "r" });
    let refused = client.ask(&sign_in(sign(&with(claims(), "sub", "eve"))));
    assert_eq!((&refused["op"], &refused["code"]), (&json!("error"), &json!("OtherSubject")));
    let refused = client.ask(&sign_in("garbage".into()));
    assert_eq!((&refused["op"], &refused["code"]), (&json!("error"), &json!("Unauthenticated")));
    let taken = client.ask(&sign_in(long()));
    assert_eq!((&taken["op"], &taken["sub"], &taken["ref"]), (&json!("authenticated"), &json!("ann"), &json!("r")));
    assert!(taken["expires_in"].as_u64().is_some_and(|seconds| (50..=60).contains(&seconds)), "{taken}");

    assert_eq!(witness.close_code(), Some(4401));
    publish(&hub, "\"later\"");
    assert_eq!(client.next_json()["data"], "later");
}

#[test]
fn a_fresh_token_with_fewer_rights_ends_what_it_does_not_allow() {
    let hub = start(&[]);
    let mut client = WebSocketClient::open_v1(&hub, &format!("/ws?topic=a.b&token={}", long()));
    publish(&hub, "1");
    assert_eq!(client.next_json()["data"], 1);
    let less = sign(&with(claims(), "subscribe", json!(["c.*"])));
    client.send(&json!({ "op": "auth", "token": less }).to_string());
    assert_eq!(client.close_code(), Some(1008));
}

#[test]
fn a_websocket_that_does_not_sign_in_is_closed() {
    let timeout = format!("{}ms", MOMENT.as_millis());
    let hub = start(&[("auth.sign_in_timeout", &timeout)]);
    let mut client = WebSocketClient::open_v1(&hub, "/ws");
    assert_eq!(client.ask(&json!({ "op": "ping" }))["op"], "pong");
    assert_eq!(client.next(), Incoming::Close(Some(4401), "no token came in time".into()));
    // Raw WebSockets cannot renew their token.
    assert_eq!(WebSocketClient::open(&hub, "/ws").close_code(), Some(4401));
}

/// A user who is removed from the users file while the hub runs is refused, and the user's streams end.
#[test]
fn the_streams_of_a_user_who_is_disabled_end() {
    let folder = Folder::new();
    let users = write_users(&folder, "");
    let hub = start(&[("users.file", &users), ("sse.heartbeat", "1s"), ("websocket.ping_interval", "1s")]);
    let target = format!("/sse?topic=a.b&token={}", token_of(&log_in(&hub, "correct")));
    let mut stream = SseClient::open(&hub, &target);
    let mut socket = WebSocketClient::open(&hub, &target.replace("/sse", "/ws"));
    let mut other = SseClient::open(&hub, &format!("/sse?topic=a.b&token={}", long()));
    let text = fs::read_to_string(&users).expect("it was just written");
    fs::write(&users, text + "disabled = true\n").expect("the folder is writable");
    send_signal("HUP", hub.pid());
    let rest = stream.read_to_end();
    assert_eq!(rest.last().map(|event| event.kind.as_str()), Some("error"), "{rest:?}");
    assert_eq!(socket.close_code(), Some(4401));
    assert_eq!(status_of(&hub, &target, &[]), 401);
    publish(&hub, "1");
    assert_eq!(other.next_data(), "1");
}
