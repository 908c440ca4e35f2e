//! Requests and messages that clients begin and do not finish. The head identifies the sender, and they count against the sender's
//! share.

use std::fs;

use fanfare_core::protocol::http::Method;
use serde_json::json;
use socket2::Socket;

use crate::support::{
    Folder,
    guarded::Guarded,
    http::{HttpConnection, Response, read_some},
    hub::Hub,
    socket_io::{Polled, SocketClient},
    sse::send_all,
    wait_until,
    websocket::WebSocketClient,
};

const SENT_BYTES: usize = 990_000;
const ANNOUNCED_BYTES: usize = 1_000_000;
/// What a retained event of the other tenant has.
const EVENT_BYTES: usize = 30_000;
const EVENTS: usize = 40;

/// The head of a publication with a body of `length` bytes. `credentials` are lines of the head.
pub(crate) fn head(target: &str, credentials: &str, length: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: hub\r\n{credentials}Content-Length: {length}\r\n\r\n")
}

/// The status of the hub's first response to a publication whose head has `Expect: 100-continue`.
pub(crate) fn first_status(hub: &Hub, credentials: &str, length: usize) -> u16 {
    let socket = hub.connect();
    send_all(&socket, head("/publish/ev.1", &format!("{credentials}Expect: 100-continue\r\n"), length).as_bytes());
    let mut answer = [0; 12];
    let count = read_some(&socket, &mut answer).expect("the hub answers");
    let status = std::str::from_utf8(&answer[..count]).ok().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    status.and_then(|status| status.parse().ok()).expect("a status line")
}

/// The answer to a head alone.
fn refusal(hub: &Hub, head: &str) -> Response {
    let mut connection = HttpConnection::new(hub.connect());
    connection.send(head.as_bytes());
    let response = connection.receive();
    assert_eq!(response.header("Connection"), Some("close"), "the body would follow: {}", response.head);
    assert!(connection.is_closed());
    response
}

/// The hub holds as many bodies as the sender's share has room for, and no more. Other senders are not affected.
fn check_bodies(hub: &Hub, sender: &str, other: &str) {
    let mut connection = HttpConnection::new(hub.connect());
    let fields: Vec<(&str, &str)> = other.lines().filter_map(|line| line.split_once(": ")).collect();
    let payload = vec![b'x'; EVENT_BYTES];
    for _ in 0..EVENTS {
        assert_eq!(connection.request(Method::Post, "/publish/quiet", &fields, &payload).status, 200);
    }
    let held: Vec<Socket> = (0..60)
        .map(|_| {
            let mut half = HttpConnection::new(hub.connect());
            half.send(head("/publish/ev.1", sender, ANNOUNCED_BYTES).as_bytes());
            half.send(&vec![b'x'; SENT_BYTES]);
            half.into_socket()
        })
        .collect();
    wait_until("the share is used up", || (first_status(hub, sender, ANNOUNCED_BYTES) == 429).then_some(()));
    let refused = refusal(hub, &head("/publish/ev.1", sender, ANNOUNCED_BYTES));
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "quota_exceeded"), "{}", refused.text());
    assert!(refused.header("Retry-After").is_some() && refused.text().contains("bytes_held"), "{}", refused.text());
    let used_bytes = hub_metric(hub, other, "fanfare_budget_used_bytes");
    assert!(used_bytes < 8 << 20, "{used_bytes} bytes are held");
    assert_eq!(first_status(hub, other, ANNOUNCED_BYTES), 100, "another's share is its own");
    let described = connection.request(Method::Get, "/topics/quiet", &fields, b"").json();
    assert_eq!(described["retained"], EVENTS, "{described}");
    drop(held);
    wait_until("there is room again", || (first_status(hub, sender, ANNOUNCED_BYTES) == 100).then_some(()));
}

fn hub_metric(hub: &Hub, credentials: &str, series: &str) -> u64 {
    let fields: Vec<(&str, &str)> = credentials.lines().filter_map(|line| line.split_once(": ")).collect();
    let metrics = HttpConnection::new(hub.connect()).request(Method::Get, "/metrics", &fields, b"").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in {metrics}"))
}

const BUDGET: [(&str, &str); 2] = [("server.memory_budget", "16MiB"), ("topics.history.bytes", "4MiB")];

#[test]
fn half_a_body_is_held_for_its_tokens_subject() {
    let guarded = Guarded::start("1h", &[], &BUDGET);
    let credentials = |subject: &str| format!("Authorization: Bearer {}\r\n", guarded.token(subject, "**"));
    check_bodies(&guarded.hub, &credentials("flooder"), &credentials("other"));
}

#[test]
fn half_a_body_counts_for_its_address_without_a_token() {
    let hub = Hub::start_with(&[], &[&BUDGET[..], &[("proxy.trusted", "127.0.0.1")]].concat());
    check_bodies(&hub, "X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.2\r\n");
}

/// Each route refuses in the form of its API, before a byte of the body has come.
#[test]
fn a_client_without_a_good_token_is_refused_by_the_head_alone() {
    let guarded = Guarded::start("1h", &[], &[]);
    let check = |target: &str, code: &str| {
        for credentials in ["", "Authorization: Bearer wrong\r\n", "Expect: 100-continue\r\n"] {
            let refused = refusal(&guarded.hub, &head(target, credentials, 100));
            let body = refused.json();
            let codes = [&body["error"]["code"], &body["code"], &body["error"]]
                .map(|it| it.as_str().unwrap_or_default().to_owned());
            assert_eq!(refused.status, 401, "{target}: {}", refused.text());
            assert!(codes.iter().any(|code_seen| code_seen.starts_with(code)), "{target}: {}", refused.text());
            assert!(refused.header("WWW-Authenticate").is_some(), "{target}");
        }
    };
    for target in ["/publish/a.b", "/publish", "/alice/events/changes", "/api/v1/auth/refresh"] {
        check(target, "token_");
    }
    for target in ["broadcast", "stream/default/start", "stream/default/pause"] {
        check(&format!("/api/v1/events/{target}"), "token_");
        check(&format!("/api/v1/broadcast-demo/{target}"), "token_");
    }
    for target in ["/api/v1/telemetry/ingest", "/api/v1/alerts", "/api/v1/diagnostics"] {
        check(target, "AuthenticationError");
    }
    let chunked = "POST /publish/a HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    assert_eq!(refusal(&guarded.hub, chunked).status, 401);
}

/// The hub does not wait for a body that it would not use, or that it would hold for a client without a token.
#[test]
fn unused_bodies_are_not_awaited() {
    let guarded = Guarded::start("1h", &[], &[]);
    let hub = &guarded.hub;
    assert_eq!(refusal(hub, &head("/nowhere", "", 100)).status, 404);
    assert_eq!(refusal(hub, &head("/stats", "", 100)).status, 405);
    let sign_in = "/api/v1/auth/login";
    assert_eq!(refusal(hub, &head(sign_in, "", 100_000)).status, 413);
    assert_eq!(refusal(hub, &head("/api/v1/auth/logout", "", 100_000)).status, 413);
    assert_eq!(refusal(hub, &head("/socket.io/?EIO=4&transport=polling", "", 100)).status, 400);
    let unknown = "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!(refusal(hub, &head(unknown, "Origin: http://page.example\r\n", 100)).json()["code"], 1);
    let get = "GET /health HTTP/1.1\r\nHost: hub\r\nContent-Length: 100000\r\n\r\n";
    assert_eq!(refusal(hub, get).status, 413);
    // The body of a sign-in may arrive in any number of pieces.
    let mut connection = HttpConnection::new(hub.connect());
    let body = json!({ "username": "admin", "password": crate::support::guarded::PASSWORD }).to_string();
    connection.send(head(sign_in, "Expect: 100-continue\r\n", body.len()).as_bytes());
    body.as_bytes().chunks(7).for_each(|piece| connection.send(piece));
    assert_eq!(connection.receive().status, 200);
}

/// One token serves for many bodies on one connection, however they arrive.
#[test]
fn bodies_that_are_wanted_come_in_pieces() {
    let guarded = Guarded::start("1h", &[], &BUDGET);
    let credentials = format!("Authorization: Bearer {}\r\n", guarded.token("sender", "**"));
    let mut connection = HttpConnection::new(guarded.hub.connect());
    for length in [1, 20_000, 300_000, 900_000, 20_000] {
        connection.send(head("/publish/ev.1", &credentials, length).as_bytes());
        vec![b'x'; length].chunks(length.div_ceil(3)).for_each(|piece| connection.send(piece));
        assert_eq!(connection.receive().status, 200, "{length}");
    }
    let none = hub_metric(&guarded.hub, &format!("Authorization: Bearer {}\r\n", guarded.admin_token()), REFUSALS);
    assert_eq!(none, 0);
}

const REFUSALS: &str = "fanfare_quota_refusals_total{rule=\"default\",limit=\"bytes_held\"}";

const RULES: &str = r#"
[[quota]]
name = "few-bytes"
who = "sub:narrow"
bytes_held = "64KiB"

[[quota]]
name = "few-of-an-address"
who = "address:192.0.2.0/24"
bytes_held = "64KiB"
"#;

/// The first frame, of `length` bytes, of a message that goes on.
fn beginning(length: u16) -> Vec<u8> {
    let mut frame = vec![0x01, 0x80 | 126];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend(std::iter::repeat_n(b' ', usize::from(length)));
    frame
}

#[test]
fn half_a_message_and_half_a_payload_are_held_for_their_clients() {
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, RULES).expect("the folder is ours");
    // Several reactors: a payload may arrive at another one than its session's.
    let settings =
        [("server.reactors", "3"), ("proxy.trusted", "127.0.0.1"), ("socketio.connect_max_payload", "64KiB")];
    let guarded = Guarded::start("1h", &["--config", &config], &settings);
    let (hub, token) = (&guarded.hub, guarded.token("narrow", "**"));

    let open = || WebSocketClient::open_v1(hub, &format!("/ws?token={token}"));
    let (first, mut second) = (open(), open());
    first.send_bytes(&beginning(40_000));
    wait_until("the first message is held", || {
        let credentials = format!("Authorization: Bearer {token}\r\n");
        (first_status(hub, &credentials, 50_000) == 429).then_some(())
    });
    second.send_bytes(&beginning(40_000));
    assert_eq!(second.close_code(), Some(1013));
    drop(first);

    let mut session = Polled::open(hub);
    session.send(&format!("40{}", json!({ "token": token })));
    assert!(session.next_packet().starts_with("40"));
    for _ in 0..6 {
        let refused = refusal(hub, &head(&session.target(), "", 80_000));
        assert_eq!((refused.status, refused.error_code().as_str()), (429, "quota_exceeded"), "{}", refused.text());
    }
    for _ in 0..6 {
        let mut connection = HttpConnection::new(hub.connect());
        let event = r#"42["ping"]"#;
        connection.send(head(&session.target(), "", event.len()).as_bytes());
        event.as_bytes().chunks(4).for_each(|piece| connection.send(piece));
        assert_eq!(connection.receive().status, 200, "what fits is taken, whichever reactor it comes to");
    }

    // Requests that wait for the answer to an earlier one have no sender yet, so they count for their address.
    assert_eq!(session.poll().status, 200, "what it was owed");
    let mut waiting = HttpConnection::new(hub.connect());
    let poll = format!("GET {} HTTP/1.1\r\nHost: hub\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n", session.target());
    waiting.send(poll.as_bytes());
    waiting.send(&[b'x'; 200_000]);
    assert_eq!(waiting.receive().status, 503);
}
