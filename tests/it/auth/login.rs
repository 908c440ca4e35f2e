//! Signing in with a password.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use super::{ask, claims, log_in, sign, start, status_of, token_of, unix_s, with, write_users};
use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    socket_io::{Carried, Polled, SocketClient},
    wait_until,
    websocket::WebSocketClient,
};

#[test]
fn a_password_becomes_a_token_and_that_a_fresh_one() {
    let folder = Folder::new();
    let hub = start(&[("users.file", &write_users(&folder, ""))]);
    let answer = log_in(&hub, "correct");
    let token = token_of(&answer);
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]), 200);

    let bearer = format!("Bearer {token}");
    let refresh = |headers: &[(&str, &str)]| ask(&hub, Method::Post, "/api/v1/auth/refresh", headers, "");
    let fresh = token_of(&refresh(&[("Authorization", &bearer)]));
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={fresh}"), &[]), 200);
    assert_eq!(refresh(&[]).error_code(), "token_missing");
    let foreign = format!("Bearer {}", sign(&claims()));
    let refused = refresh(&[("Authorization", &foreign)]);
    assert_eq!((refused.status, refused.error_code().as_str()), (403, "not_refreshable"));
}

#[test]
fn a_failed_login_does_not_show_the_reason() {
    let folder = Folder::new();
    let hub = start(&[("users.file", &write_users(&folder, ""))]);
    let check = |body: &str, status: u16, code: &str| {
        let answer = ask(&hub, Method::Post, "/api/v1/auth/login", &[], body);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{body}");
        assert!(!answer.text().contains("geheim"), "{body}");
    };
    check(r#"{"username":"ann","password":"geheim"}"#, 401, "bad_password");
    check(r#"{"username":"nobody","password":"geheim"}"#, 401, "bad_password");
    check(r#"{"username":"ann","password":""}"#, 401, "bad_password");
    check(r#"{"username":"ann"}"#, 400, "bad_json");
    check(r#"{"username":"ann","password":geheim}"#, 400, "bad_json");
    check(&json!({ "username": "ann", "password": "x".repeat(2000) }).to_string(), 400, "too_long");
    assert_eq!(start(&[]).post("/api/v1/auth/login", r#"{"username":"ann","password":"x"}"#).status, 404);
}

#[test]
fn repeated_failures_have_to_wait() {
    let folder = Folder::new();
    // Longer than the attempts take on a busy machine.
    let hub = start(&[("users.file", &write_users(&folder, "")), ("auth.login_failure_window", "1h")]);
    for _ in 0..5 {
        assert_eq!(log_in(&hub, "wrong").status, 401);
    }
    let refused = log_in(&hub, "correct");
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "too_many_failures"));
    let seconds: u64 = refused.header("retry-after").and_then(|value| value.parse().ok()).expect("whole seconds");
    assert!((1..=3600).contains(&seconds), "{seconds}");
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"bad_password\"}"), 5.0);
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"too_many_failures\"}"), 1.0);
}

/// While passwords are checked, the reactor serves other clients, and the queue of checks is bounded.
#[test]
fn logins_beyond_the_queue_are_asked_to_retry() {
    let folder = Folder::new();
    let settings = [("users.file", write_users(&folder, "")), ("auth.login_queue_max", "1".into())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let hub = start(&settings);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let client = |index: usize| {
            let hub = &hub;
            scope.spawn(move || {
                let body = json!({ "username": format!("user{index}"), "password": "x" }).to_string();
                let answer = ask(hub, Method::Post, "/api/v1/auth/login", &[], &body);
                assert!(answer.status != 503 || answer.header("retry-after").is_some());
                answer.status
            })
        };
        let clients: Vec<_> = (0..24).map(client).collect();
        clients.into_iter().map(|client| client.join().expect("it got an answer")).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 401 | 503)), "{statuses:?}");
    assert!(statuses.contains(&401) && statuses.contains(&503), "{statuses:?}");
    assert_eq!(log_in(&hub, "correct").status, 200);
}

/// A login of `user` through a trusted proxy, which names the client's `address`.
fn log_in_from(hub: &Hub, address: &str, user: &str, password: &str) -> Response {
    let body = json!({ "username": user, "password": password }).to_string();
    ask(hub, Method::Post, "/api/v1/auth/login", &[("X-Forwarded-For", address)], &body)
}

/// Many names from one address, and many addresses against one name, are refused before anything is hashed. A user can still sign
/// in from an address that the user has signed in from before.
#[test]
fn addresses_and_users_have_limits_of_their_own() {
    let folder = Folder::new();
    let hub = start(&[
        ("users.file", &write_users(&folder, "")),
        ("proxy.trusted", "127.0.0.1"),
        ("auth.login_failure_window", "1h"),
        ("auth.login_failures_per_address_max", "3"),
        ("auth.login_failures_per_user_max", "4"),
    ]);
    let check = |address: &str, user: &str, password: &str, expected: &str| {
        let answer = log_in_from(&hub, address, user, password);
        let code = if answer.status == 200 { String::new() } else { answer.error_code() };
        assert_eq!(format!("{} {code}", answer.status), expected, "{address} {user}: {}", answer.text());
        let needs_wait = answer.status == 429;
        let wait = answer.header("retry-after").and_then(|value| value.parse().ok());
        assert_eq!(needs_wait, wait.is_some_and(|seconds: u64| (1..=3600).contains(&seconds)));
    };
    check("2001:db8::1", "ann", "correct", "200 ");
    for index in 0..3 {
        check(&format!("2001:db8::{index}"), &format!("name{index}"), "x", "401 bad_password");
    }
    check("2001:db8::9", "name9", "x", "429 too_many_failures");
    check("2001:db8:0:1::9", "name9", "x", "401 bad_password");
    for index in 0..4 {
        check(&format!("192.0.2.{index}"), "ann", "x", "401 bad_password");
    }
    check("192.0.2.9", "ann", "correct", "429 too_many_failures");
    check("2001:db8::5", "ann", "correct", "200 ");
    // A proxy that does not name its clients does not count as one client.
    for index in 0..6 {
        let body = json!({ "username": format!("name{index}"), "password": "x" }).to_string();
        assert_eq!(ask(&hub, Method::Post, "/api/v1/auth/login", &[], &body).status, 401, "{index}");
    }
}

/// One address keeps the queue of logins full. A login from another address still gets in.
#[test]
fn a_right_password_gets_through_a_flood() {
    let folder = Folder::new();
    let hub = start(&[
        ("users.file", &write_users(&folder, "")),
        ("proxy.trusted", "127.0.0.1"),
        ("auth.login_failures_per_address_max", "0"),
        ("auth.login_queue_max", "4"),
        ("auth.login_wait_max", "1h"),
    ]);
    let (is_over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let statuses: Vec<u16> = thread::scope(|scope| {
        for flooder in 0..8 {
            let (hub, is_over, refused) = (&hub, &is_over, &refused);
            scope.spawn(move || {
                for index in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = log_in_from(hub, "192.0.2.1", &format!("name{flooder}-{index}"), "x");
                    refused.fetch_add(usize::from(answer.status == 503), Ordering::Relaxed);
                }
            });
        }
        wait_until("the queue is full", || (8 < refused.load(Ordering::Relaxed)).then_some(()));
        let statuses =
            (2..7).map(|last| log_in_from(&hub, &format!("192.0.2.{last}"), "ann", "correct").status).collect();
        is_over.store(true, Ordering::Relaxed);
        statuses
    });
    assert_eq!(statuses, [200; 5]);
}

/// A flood of invalid tokens from one address: after a few, no more signatures are verified, and other clients are not affected.
#[test]
fn a_flood_of_wrong_tokens_is_refused_unchecked() {
    let hub = start(&[("proxy.trusted", "127.0.0.1"), ("auth.token_failures_max", "5"), ("sse.retry", "4s")]);
    let wrong = format!("Bearer {}x", sign(&claims()));
    let get = |address: &str, authorization: &str, extra: &[(&str, &str)]| {
        let headers = [&[("X-Forwarded-For", address), ("Authorization", authorization)], extra].concat();
        ask(&hub, Method::Get, "/topics", &headers, "")
    };
    let refused = wait_until("an answer of 429", || {
        let answer = get("192.0.2.1", &wrong, &[]);
        (answer.status != 401).then_some(answer)
    });
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "too_many_tokens"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(get("192.0.2.2", &format!("Bearer {}", sign(&claims())), &[]).status, 200);
    assert!(1.0 <= hub.metric("fanfare_auth_failures_total{reason=\"too_many_tokens\"}"));
}

/// The same from this machine, whose address is not limited: one connection sends tokens without waiting for answers. The answer to
/// the last token allowed ends the connection, and the rest is not read.
#[test]
fn a_connection_that_shows_wrong_tokens_is_closed() {
    const SENT: usize = 500;
    let hub = start(&[("auth.token_failures_per_connection_max", "5")]);
    let wrong = format!("{}x", sign(&claims()));
    let request = format!("GET /topics HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {wrong}\r\n\r\n");
    let mut flood = HttpConnection::new(hub.connect());
    flood.send(request.repeat(SENT).as_bytes());
    let answers: Vec<Response> = (0..5).map(|_| flood.receive()).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [401, 401, 401, 401, 429]);
    let last = &answers[4];
    assert_eq!((last.header("retry-after"), last.header("connection")), (Some("1"), Some("close")));
    assert_eq!(last.error_code(), "too_many_tokens");
    assert!(flood.is_closed(), "nothing follows");
    let refusals = ["token_invalid", "too_many_tokens"];
    let refusals = refusals.map(|reason| hub.metric(&format!("fanfare_auth_failures_total{{reason=\"{reason}\"}}")));
    assert_eq!(refusals, [4.0, 1.0], "no more than these were checked");
    let good = format!("Bearer {}", sign(&claims()));
    assert_eq!(ask(&hub, Method::Get, "/topics", &[("Authorization", &good)], "").status, 200);
    // By any API, and also for tokens with a right signature that have expired.
    let expired = sign(&with(claims(), "exp", unix_s() - 10));
    for target in ["/api/v1/telemetry/w", "/api/v1/events/streams", "/pods/events/changes", "/api/v1/sse/stream/w"] {
        let mut flood = HttpConnection::new(hub.connect());
        let headers = [("Authorization", format!("Bearer {expired}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let statuses: Vec<u16> = (0..5).map(|_| flood.request(Method::Get, target, &headers, b"").status).collect();
        assert_eq!(statuses, [401, 401, 401, 401, 429], "{target}");
        assert!(flood.is_closed(), "{target}");
    }
}

/// So does a connection that sends tokens in messages, and one that brings them for one Socket.IO session after another.
#[test]
fn wrong_tokens_in_messages_close_the_connection_too() {
    let hub = start(&[("auth.token_failures_per_connection_max", "5"), ("limits.messages_per_second", "100")]);
    let wrong = format!("{}x", sign(&claims()));
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let codes: Vec<Value> =
        (0..5).map(|_| socket.ask(&json!({ "op": "auth", "token": wrong }))["code"].clone()).collect();
    let refused = json!("Unauthenticated");
    assert_eq!(codes, [&refused, &refused, &refused, &refused, &json!("RateLimited")].map(Clone::clone));
    assert_eq!(socket.close_code(), Some(1013));

    let connect = format!("40{}", json!({ "token": wrong }));
    let mut carried = Carried::open(&hub);
    for _ in 0..5 {
        carried.send(&connect);
        assert!(carried.next_packet().starts_with("44"));
    }
    assert_eq!(carried.websocket.close_code(), Some(1013));

    // One connection for many sessions.
    let mut connection = HttpConnection::new(hub.connect());
    let statuses: Vec<u16> = (0..5)
        .map(|_| connection.request(Method::Post, &Polled::open(&hub).target(), &[], connect.as_bytes()).status)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    assert!(connection.is_closed());
}

/// The users file decides: tokens of a user who is disabled or removed there are refused.
#[test]
fn a_user_who_is_taken_out_of_the_file_is_refused() {
    let folder = Folder::new();
    let path = write_users(&folder, "");
    let token = token_of(&log_in(&start(&[("users.file", &path)]), "correct"));
    let text = fs::read_to_string(&path).expect("it was just written");
    let check = |users: String, token: &str, status: u16| {
        fs::write(&path, &users).expect("the folder is writable");
        let hub = start(&[("users.file", &path)]);
        assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]), status, "{users}");
    };
    check(text.clone(), &token, 200);
    check(format!("{text}disabled = true\n"), &token, 401);
    check(text.replace("\"ann\"", "\"bob\""), &token, 401);
    // Subjects of other issuers need no entry in the file.
    check(text.replace("\"ann\"", "\"bob\""), &sign(&with(claims(), "sub", "zoe")), 200);
}
