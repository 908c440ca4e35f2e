//! Connections that go on, or end: RFC 9112 section 9.

use std::net::Shutdown;

use super::{NEXT, exchange, read_responses, refused, served};
use crate::client::{PACES, Pace, connect, read_to_end, send};

fn get(version: &str, fields: &str) -> String {
    format!("GET / {version}\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn options() {
    let check = |rule: &str, fields: &str| {
        let response = served(rule, get("HTTP/1.1", fields), 200);
        assert!(response.values("connection").is_empty(), "{rule}: {}", response.head);
    };
    check("9112 9.3: HTTP/1.1 goes on", "");
    check("9112 9.3: and may say so", "Connection: keep-alive\r\n");
    check("9110 7.6.1: other options", "Connection: TE, X-Closed\r\nKeep-Alive: timeout=5\r\n");
    for value in ["close", "Close", "keep-alive, close", "close, keep-alive", "X,close ,", ",,close"] {
        refused("9112 9.6: close", get("HTTP/1.1", &format!("Connection: {value}\r\n")), 200);
    }
    let apart = "Connection: keep-alive\r\nX: y\r\nconnection: close\r\n";
    refused("9112 9.6: close in a second field", get("HTTP/1.1", apart), 200);
}

#[test]
fn old_clients() {
    refused("9112 9.3: HTTP/1.0 does not go on", get("HTTP/1.0", ""), 200);
    refused("9112 9.3: nor with both", get("HTTP/1.0", "Connection: keep-alive, close\r\n"), 200);
    refused("9112 9.3: another option", get("HTTP/1.0", "Connection: X\r\n"), 200);
    for value in ["keep-alive", "Keep-Alive", "X, keep-alive"] {
        let fields = format!("Connection: {value}\r\n");
        let response = served("9112 C.2.2: unless asked to", get("HTTP/1.0", &fields), 200);
        assert_eq!(response.values("connection"), ["keep-alive"], "9112 9.3: {}", response.head);
    }
}

#[test]
fn pipelines() {
    let post = |body: &str| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nX: y\r\n\r\n";
    let requests = [&post("one"), chunked, &post("GET / HTTP/1.1\r\n\r\n"), "\r\n", &post("")].concat();
    let bodies: Vec<Vec<u8>> =
        exchange("9112 9.3.2: in order", requests.as_bytes(), 5).into_iter().map(|response| response.body).collect();
    assert_eq!(bodies[..4], [&b"one"[..], b"two", b"GET / HTTP/1.1\r\n\r\n", b""]);
    let many = exchange("9112 9.3.2: many", get("HTTP/1.1", "").repeat(200).as_bytes(), 201);
    assert!(many.iter().all(|response| response.status == 200));
    let bad = [&get("HTTP/1.1", "")[..], "GET / HTTP/1.1\r\n\r\n", &get("HTTP/1.1", "")].concat();
    let statuses: Vec<u16> = exchange("9112 9.6: nothing behind a refusal", bad.as_bytes(), 2)
        .iter()
        .map(|response| response.status)
        .collect();
    assert_eq!(statuses, [200, 400]);
    refused("9112 9.6: nothing behind a close", get("HTTP/1.1", "Connection: close\r\n").repeat(3), 200);
}

#[test]
fn clients_may_end_their_half() {
    for pace in PACES {
        let mut stream = connect();
        send(&mut stream, get("HTTP/1.1", "").repeat(3).as_bytes(), pace);
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let answer = read_to_end(&mut stream, "9112 9.6: what was asked is answered");
        assert_eq!(read_responses(&answer, false).len(), 3, "{pace:?}");
    }
    let incomplete = [&get("HTTP/1.1", "")[..20], "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell"];
    for request in incomplete {
        let mut stream = connect();
        send(&mut stream, request.as_bytes(), Pace::Whole);
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let answer = read_to_end(&mut stream, "9112 8: an incomplete request");
        assert!(
            !answer.starts_with(b"HTTP/1.1 2"),
            "9112 8: it must not be served: {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[test]
fn the_next_request_is_what_tells() {
    // If this row were not so, no other row here could fail.
    let mut stream = connect();
    send(&mut stream, NEXT.as_bytes(), Pace::Whole);
    let responses = read_responses(&read_to_end(&mut stream, "the next request alone"), false);
    assert_eq!(responses[0].body, b"Host: h\nX-Next: yes\nConnection: close\n");
}
