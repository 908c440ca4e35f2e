//! The server half against tables of requests, the client half against tables of answers, and one against the other.

use crate::protocol::http::{HttpLimits, ResponsePart, ResponseReader};

use super::*;

const PROTOCOLS: [&str; 2] = ["fanfare.v1", "fanfare.v2"];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What the standard's own example answers to [`KEY`] (section 1.3).
const ACCEPT_KEY: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GOOD: [&str; 6] = [
    "GET /ws HTTP/1.1",
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn parse(lines: &[&str]) -> Request {
    let head = format!("{}\r\n\r\n", lines.join("\r\n"));
    Request::parse(head.as_bytes(), &HttpLimits::default()).expect("good HTTP")
}

/// [`GOOD`] with its line `at` replaced; an empty replacement leaves the line out.
fn variant<'a>(at: usize, replacement: &[&'a str]) -> Vec<&'a str> {
    [&GOOD[..at], replacement, &GOOD[at + 1..]].concat()
}

#[test]
fn accepts() {
    let check = |lines: &[&str], protocol: Option<&'static str>| {
        let request = parse(lines);
        assert!(is_upgrade(&request), "{lines:?}");
        let accept_key = ACCEPT_KEY.to_owned();
        assert_eq!(accept(&request, &PROTOCOLS), Ok(Accepted { protocol, accept_key }), "{lines:?}");
    };
    check(&GOOD, None);
    check(&variant(2, &["Upgrade: WebSocket"]), None);
    check(&variant(2, &["Upgrade: h2c, websocket"]), None);
    check(&variant(3, &["Connection: keep-alive, upgrade"]), None);
    check(&variant(3, &["Connection: keep-alive", "connection: Upgrade"]), None);
    let offering = |offer| [&GOOD[..], offer].concat();
    check(&offering(&["Sec-WebSocket-Protocol: fanfare.v1"]), Some("fanfare.v1"));
    check(&offering(&["Sec-WebSocket-Protocol: mqtt,fanfare.v2 , fanfare.v1"]), Some("fanfare.v2"));
    check(&offering(&["Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: fanfare.v1"]), Some("fanfare.v1"));
    check(&offering(&["Sec-WebSocket-Protocol: mqtt, Fanfare.v1"]), None);
    check(&offering(&["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]), None);
}

#[test]
fn refuses() {
    let check = |lines: &[&str], status: u16, word: &str| {
        let refusal = accept(&parse(lines), &PROTOCOLS).expect_err("a refusal");
        assert!(refusal.status == status && refusal.reason.contains(word), "{lines:?}: {refusal:?}");
        let response = refusal.response();
        assert_eq!(response.status, status);
        let names_version = response.headers.contains(&("Sec-WebSocket-Version", "13".to_owned()));
        assert_eq!(names_version, status == 426, "{lines:?}");
    };
    check(&variant(0, &["POST /ws HTTP/1.1"]), 400, "GET");
    check(&variant(0, &["GET /ws HTTP/1.0"]), 400, "HTTP/1.1");
    check(&variant(2, &[]), 426, "Upgrade");
    check(&variant(2, &["Upgrade: h2c"]), 426, "Upgrade");
    check(&variant(2, &["Upgrade: websockets"]), 426, "Upgrade");
    check(&variant(3, &[]), 400, "Connection");
    check(&variant(3, &["Connection: keep-alive"]), 400, "Connection");
    for version in [&[][..], &["Sec-WebSocket-Version: 8"], &["Sec-WebSocket-Version: 013"]] {
        check(&variant(4, version), 426, "Version");
    }
    check(&variant(4, &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"]), 426, "Version");
    check(&variant(5, &[]), 400, "Key");
    check(&[&GOOD[..], &[GOOD[5]]].concat(), 400, "Key");
    for key in ["", "x", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25jZ*=="] {
        check(&variant(5, &[&format!("Sec-WebSocket-Key: {key}")]), 400, "Key");
    }
}

#[test]
fn writes_101() {
    let mut out = Vec::new();
    let accepted = Accepted { protocol: Some("fanfare.v1"), accept_key: ACCEPT_KEY.to_owned() };
    write_accept(&accepted, "Sun, 06 Nov 1994 08:49:37 GMT", &mut out);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                    Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn keys() {
    assert_eq!(encode_key(*b"the sample nonce"), KEY);
    assert_eq!(encode_key([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA==");
    assert_eq!(encode_key([0xff; 16]), "/////////////////////w==");
}

/// What the client makes of an answer to a handshake that offered [`PROTOCOLS`].
fn check_answer(bytes: &[u8]) -> Result<Option<&'static str>, Close> {
    let mut checked = None;
    let on = |part: ResponsePart<'_>| {
        if let ResponsePart::Head(head) = part {
            checked = Some(check_accept(KEY, &PROTOCOLS, &head));
        }
    };
    ResponseReader::new().receive(bytes, on).expect("good HTTP");
    checked.expect("a head")
}

#[test]
fn client_checks_the_answer() {
    let good = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: WebSocket",
        "Connection: keep-alive, upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];
    let check = |at: usize, replacement: &[&str], expected: Result<Option<&'static str>, &str>| {
        let lines = [&good[..at], replacement, good.get(at + 1..).unwrap_or_default()].concat();
        let answer = check_answer(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes());
        match (answer, expected) {
            (Err(Close::BadRequest(rule)), Err(word)) => assert!(rule.contains(word), "{lines:?}: {rule}"),
            (answer, expected) => assert_eq!(answer.map_err(|_| ""), expected, "{lines:?}"),
        }
    };
    check(4, &[], Ok(None));
    check(4, &["Sec-WebSocket-Protocol: fanfare.v2"], Ok(Some("fanfare.v2")));
    check(0, &["HTTP/1.1 200 OK"], Err("switch"));
    check(1, &[], Err("upgrade"));
    for upgrade in
        [&["Upgrade: h2c, websocket"][..], &["Upgrade: websocket, h2c"], &["Upgrade: websocket", "Upgrade: h2c"]]
    {
        check(1, upgrade, Err("upgrade"));
    }
    check(2, &["Connection: keep-alive"], Err("upgrade"));
    check(2, &["Connection: keep-alive", "Connection: upgrade"], Ok(None));
    check(3, &[], Err("key"));
    check(3, &["Sec-WebSocket-Accept: AAAALMBiTxaQ9kYGzzhZRbK+xOo="], Err("key"));
    check(3, &[good[3], good[3]], Err("key"));
    check(4, &["Sec-WebSocket-Extensions: permessage-deflate"], Err("extension"));
    check(4, &["Sec-WebSocket-Protocol: mqtt"], Err("subprotocol"));
    check(4, &["Sec-WebSocket-Protocol: fanfare.v1", "Sec-WebSocket-Protocol: mqtt"], Err("subprotocol"));
}

#[test]
fn a_pair_shakes_hands() {
    let check = |protocols: &[&str], agreed: Option<&'static str>| {
        let mut sent = Vec::new();
        write_upgrade("localhost:8080", "/ws?topic=a", protocols, &[("Origin", "http://localhost")], KEY, &mut sent);
        let request = Request::parse(&sent, &HttpLimits::default()).expect("good HTTP");
        assert_eq!((request.query("topic"), request.header("origin")), (Some("a"), Some(&b"http://localhost"[..])));
        let accepted = accept(&request, &PROTOCOLS).expect("a good handshake");
        let mut answer = Vec::new();
        write_accept(&accepted, "Sun, 06 Nov 1994 08:49:37 GMT", &mut answer);
        assert_eq!(check_answer(&answer), Ok(agreed));
    };
    check(&[], None);
    check(&["fanfare.v1"], Some("fanfare.v1"));
    check(&["mqtt", "fanfare.v2"], Some("fanfare.v2"));
}
