//! Section 4: the opening handshake.

use crate::client::{PACES, Pace, connect, read_through, send};

const PROPER: [(&str, &str); 5] = [
    ("Host", "h"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The head that answers `line` with `fields`.
#[track_caller]
fn ask(rule: &str, line: &str, fields: &[(&str, &str)], pace: Pace) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut stream = connect();
    send(&mut stream, format!("{line}\r\n{fields}\r\n").as_bytes(), pace);
    let head = read_through(&mut stream, b"\r\n\r\n", rule);
    String::from_utf8(head).expect("a head should be ASCII")
}

#[track_caller]
fn check_request(rule: &str, line: &str, fields: &[(&str, &str)], status: u16, contains: &str) {
    for pace in PACES {
        let head = ask(rule, line, fields, pace);
        let as_expected = head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains(contains);
        assert!(as_expected, "{rule}, {pace:?}: {fields:?} should get {status} with {contains:?}, not {head}");
    }
}

/// A proper request, but for what `changes` add or, with an empty value, take away.
#[track_caller]
fn check(rule: &str, changes: &[(&str, &str)], status: u16, contains: &str) {
    let unchanged = |(name, _): &&(&str, &str)| changes.iter().all(|(changed, _)| changed != name);
    let mut fields: Vec<(&str, &str)> = PROPER.iter().filter(unchanged).copied().collect();
    fields.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    check_request(rule, "GET /echo HTTP/1.1", &fields, status, contains);
}

#[test]
fn accepted() {
    const ACCEPT: &str = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let check = |rule: &str, changes: &[(&str, &str)], contains: &str| check(rule, changes, 101, contains);
    check("4.2.2: the key's answer (section 1.3)", &[], ACCEPT);
    check("4.2.2: Upgrade", &[], "\r\nUpgrade: websocket\r\n");
    check("4.2.2: Connection", &[], "\r\nConnection: Upgrade\r\n");
    check("4.2.1: Upgrade in any case", &[("Upgrade", "WebSocket")], ACCEPT);
    check("4.2.1: Upgrade among others", &[("Upgrade", "h2c, websocket")], ACCEPT);
    check("4.2.1: Connection in any case", &[("Connection", "upgrade")], ACCEPT);
    check("4.2.1: Connection among others", &[("Connection", "keep-alive,Upgrade")], ACCEPT);
    check("4.2.1: Connection twice", &[("Connection", "keep-alive"), ("Connection", "Upgrade")], ACCEPT);
    check("4.2.1: names in any case", &[("Upgrade", ""), ("uPGRADE", "websocket")], ACCEPT);
    check("4.1: an origin", &[("Origin", "https://app.example")], ACCEPT);
    check("4.2.1: fields of no concern", &[("X-Unknown", "y"), ("Cookie", "a=b")], ACCEPT);
    check("4.2.2: a subprotocol", &[("Sec-WebSocket-Protocol", "echo")], "\r\nSec-WebSocket-Protocol: echo\r\n");
    check("4.2.2: one of two", &[("Sec-WebSocket-Protocol", "a, echo")], "\r\nSec-WebSocket-Protocol: echo\r\n");
    let fields = [("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "echo")];
    check("11.3.4: in two fields", &fields, "\r\nSec-WebSocket-Protocol: echo\r\n");
    let line = "GET http://h/echo?a=b HTTP/1.1";
    check_request("RFC 9112 3.2.2: an absolute target", line, &PROPER, 101, ACCEPT);
}

#[test]
fn content_is_asked_for_before_the_upgrade() {
    let rule = "RFC 9110 7.8: 100 comes before 101";
    let fields: String = PROPER.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("GET /echo HTTP/1.1\r\n{fields}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    for pace in PACES {
        let mut stream = connect();
        send(&mut stream, head.as_bytes(), pace);
        let interim = read_through(&mut stream, b"\r\n\r\n", rule);
        assert_eq!(interim, b"HTTP/1.1 100 Continue\r\n\r\n", "{rule}");
        send(&mut stream, b"ab", pace);
        let answer = read_through(&mut stream, b"\r\n\r\n", rule);
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{rule}: {}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn declined() {
    let absent = |rule: &str, changes: [(&str, &str); 1], unwanted: &str| {
        let head = ask(rule, "GET /echo HTTP/1.1", &[&PROPER[..], &changes[..]].concat(), Pace::Whole);
        assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains(unwanted), "{rule}: {head}");
    };
    absent("4.2.2: an unknown subprotocol", [("Sec-WebSocket-Protocol", "a, b")], "Sec-WebSocket-Protocol");
    absent("4.2.2: subprotocols are case-sensitive", [("Sec-WebSocket-Protocol", "Echo")], "Sec-WebSocket-Protocol");
    let deflate = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    absent("9.1: an extension", [deflate], "Sec-WebSocket-Extensions");
}

#[test]
fn refused() {
    check("4.2.1: Upgrade is missing", &[("Upgrade", "")], 426, "\r\nUpgrade: websocket\r\n");
    check("4.2.1: Upgrade to another", &[("Upgrade", "h2c")], 426, "");
    check("4.2.1: Connection is missing", &[("Connection", "")], 400, "");
    check("4.2.1: Connection without upgrade", &[("Connection", "keep-alive")], 400, "");
    for version in ["", "8", "12", "14", "13, 8", "013", "thirteen"] {
        check("4.4: another version", &[("Sec-WebSocket-Version", version)], 426, "\r\nSec-WebSocket-Version: 13\r\n");
    }
    for key in ["", "short==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==dGhl", "!!!!!!!!!!!!!!!!!!!!!!=="] {
        check("4.2.1: a key of 16 bytes", &[("Sec-WebSocket-Key", key)], 400, "");
    }
    let twice = [("Sec-WebSocket-Key", PROPER[4].1), ("Sec-WebSocket-Key", PROPER[4].1)];
    check("11.3.1: the key stands once", &twice, 400, "");
    check("4.2.1: Host is missing", &[("Host", "")], 400, "");
    check_request("4.2.1: at least HTTP/1.1", "GET /echo HTTP/1.0", &PROPER, 400, "");
    check_request("4.2.1: GET", "POST /echo HTTP/1.1", &PROPER, 405, "\r\nAllow: GET");
    check_request("4.2.2: nothing at this path", "GET /nothing HTTP/1.1", &PROPER, 404, "");
    check_request("RFC 9110 7.8: an upgrade may be ignored", "GET /headers HTTP/1.1", &PROPER, 200, "");
}
