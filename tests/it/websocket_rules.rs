//! WebSocket: raw streams, and the answers to frames that break the rules.

use fanfare_core::protocol::http::Method;

use crate::support::{
    http::HttpConnection,
    hub::Hub,
    websocket::{Incoming, WebSocketClient},
};

#[test]
fn a_raw_socket_gets_payloads_verbatim() {
    let hub = Hub::start();
    let mut default = WebSocketClient::open(&hub, "/ws");
    let mut other = WebSocketClient::open(&hub, "/ws?topic=a&topic=b");
    let payloads = [r#"{"event_id":"1",  "n":1}"#, "two\nlines", "", "é€😀"];
    for payload in payloads {
        hub.publish("events.critical", payload);
        assert_eq!(default.next_text(), payload);
    }
    hub.publish("a", "1");
    hub.publish("b", "2");
    assert_eq!([other.next_text(), other.next_text()], ["1", "2"]);
    default.close();
    other.close();
}

#[test]
fn a_raw_socket_resumes() {
    let hub = Hub::start();
    let ids: Vec<String> = (1..=4).map(|number| hub.publish("t", number.to_string())).collect();
    let mut socket = WebSocketClient::open(&hub, &format!("/ws?topic=t&last_event_id={}", ids[1]));
    assert_eq!([socket.next_text(), socket.next_text()], ["3", "4"]);
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=t&since=first");
    assert_eq!(socket.next_text(), "1");
}

#[test]
fn large_payloads_have_long_headers() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=t");
    for length in [125, 126, 65_535, 65_536, 1 << 20] {
        let payload = "x".repeat(length);
        hub.publish("t", &payload);
        assert_eq!(socket.next_text(), payload);
    }
}

#[test]
fn pings_are_answered_in_order() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=t");
    for payload in ["", "hello", &"x".repeat(125)] {
        socket.send_bytes(&frame(0x89, payload.as_bytes()));
        assert_eq!(socket.next(), Incoming::Pong(payload.into()));
    }
    // A message in fragments, with a ping in the middle.
    let mut bytes = frame(0x01, "h€".as_bytes()[..2].as_ref());
    bytes.extend(frame(0x89, b"between"));
    bytes.extend(frame(0x80, "h€".as_bytes()[2..].as_ref()));
    socket.send_bytes(&bytes);
    assert_eq!(socket.next(), Incoming::Pong(b"between".to_vec()));
    socket.close();
}

#[test]
fn a_silent_socket_gets_pings() {
    let hub = Hub::start_with(&[], &[("websocket.ping_interval", "1s")]);
    let mut socket = hub.connect();
    let request = "GET /ws?topic=t HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    crate::support::sse::send_all(&socket, request.as_bytes());
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n\x89\x00") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut socket, &mut byte).expect("a ping should come");
        received.push(byte[0]);
    }
}

/// A masked frame whose first byte is `first`.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | length as u8),
        length @ ..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[test]
fn broken_rules_have_their_codes() {
    let hub = Hub::start();
    let check = |what: &str, bytes: &[u8], code: u16| {
        for pieces in [bytes.len(), 1] {
            let mut socket = WebSocketClient::open(&hub, "/ws?topic=t");
            let _ = bytes.chunks(pieces).all(|piece| socket.try_send_bytes(piece));
            assert_eq!(socket.close_code(), Some(code), "{what}");
            assert_eq!(socket.next(), Incoming::End, "{what}");
        }
    };
    check("unmasked", b"\x81\x02hi", 1002);
    check("reserved bit 1", &frame(0xc1, b"hi"), 1002);
    check("reserved bit 2", &frame(0xa1, b"hi"), 1002);
    check("reserved bit 3", &frame(0x91, b"hi"), 1002);
    check("reserved data opcode", &frame(0x83, b"hi"), 1002);
    check("reserved control opcode", &frame(0x8b, b"hi"), 1002);
    check("fragmented ping", &frame(0x09, b"hi"), 1002);
    check("fragmented close", &frame(0x08, b"\x03\xe8"), 1002);
    check("long ping", &frame(0x89, &[b'x'; 126]), 1002);
    check("continuation of nothing", &frame(0x80, b"hi"), 1002);
    check("message within a message", &[frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002);
    check("length not the shortest", b"\x81\xfe\x00\x02\x01\x02\x03\x04hi", 1002);
    check("top bit of the length", b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", 1002);
    check("close of one byte", &frame(0x88, b"\x03"), 1002);
    check("close code that is none", &frame(0x88, &999_u16.to_be_bytes()), 1002);
    check("close code never sent", &frame(0x88, &1005_u16.to_be_bytes()), 1002);
    check("close reason not UTF-8", &frame(0x88, b"\x03\xe8\xff"), 1007);
    check("text not UTF-8", &frame(0x81, b"\xff"), 1007);
    check("text cut within a character", &frame(0x81, b"\xe2\x82"), 1007);
    check("bad text across fragments", &[frame(0x01, b"\xe2"), frame(0x80, b"(")].concat(), 1007);
    check("surrogate", &frame(0x81, b"\xed\xa0\x80"), 1007);
    check("too big", &frame(0x81, &[b'x'; 65_537])[..14], 1009);
    check("too big in fragments", &[frame(0x01, &[b'x'; 40_000]), frame(0x80, &[b'x'; 40_000])].concat(), 1009);
    check("a proper close", &frame(0x88, &1001_u16.to_be_bytes()), 1001);
    check("application's own close", &frame(0x88, &4000_u16.to_be_bytes()), 4000);
}

#[test]
fn a_close_without_a_code_is_answered_alike() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=t");
    socket.send_bytes(&frame(0x88, b""));
    assert!(matches!(socket.next(), Incoming::Close(None | Some(1000), _)));
    assert_eq!(socket.next(), Incoming::End);
}

#[test]
fn improper_handshakes_are_refused() {
    let hub = Hub::start();
    let proper = [
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let check = |changed: Option<(usize, Option<&str>)>, expected: u16| {
        let mut headers = proper.to_vec();
        match changed {
            Some((index, Some(value))) => headers[index].1 = value,
            Some((index, None)) => drop(headers.remove(index)),
            None => {}
        }
        let mut connection = HttpConnection::new(hub.connect());
        let mut request = "GET /ws?topic=t HTTP/1.1\r\nHost: h\r\n".to_owned();
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        connection.send(format!("{request}\r\n").as_bytes());
        let mut head = Vec::new();
        let mut socket = connection.into_socket();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut socket, &mut byte).expect("an answer should come");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("heads are ASCII");
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{changed:?}: {head}");
        assert!(expected != 426 || head.contains("Sec-WebSocket-Version: 13"), "{head}");
    };
    check(None, 101);
    check(Some((0, None)), 426);
    check(Some((0, Some("h2c"))), 426);
    check(Some((1, Some("close"))), 400);
    check(Some((2, Some("8"))), 426);
    check(Some((2, None)), 426);
    check(Some((3, None)), 400);
    check(Some((3, Some("short=="))), 400);
    let mut connection = HttpConnection::new(hub.connect());
    let refused = connection.request(Method::Get, "/ws?topic=a..b", &proper, b"");
    assert_eq!(refused.error_code(), "bad_topic");
    let many: String = (0..129).map(|number| format!("topic=t{number}&")).collect();
    let refused = connection.request(Method::Get, &format!("/ws?{many}"), &proper, b"");
    assert_eq!(refused.error_code(), "too_many_topics");
}

#[test]
fn frames_right_behind_the_handshake_are_read() {
    let hub = Hub::start();
    let request = "GET /ws?topic=t HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let mut socket = hub.connect();
    let mut bytes = request.as_bytes().to_vec();
    bytes.extend(frame(0x89, b"early"));
    crate::support::sse::send_all(&socket, &bytes);
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n\x8a\x05early") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut socket, &mut byte).expect("a pong should come");
        received.push(byte[0]);
    }
}

#[test]
fn the_end_of_the_hub_closes_with_restart() {
    let hub = Hub::start_with(&[], &[("drain.window", "1s")]);
    let mut sockets: Vec<WebSocketClient> = (0..10).map(|_| WebSocketClient::open(&hub, "/ws?topic=t")).collect();
    assert!(hub.terminate().success());
    for socket in &mut sockets {
        let Incoming::Close(Some(1012), reason) = socket.next() else { panic!("close 1012 should come") };
        let reason: serde_json::Value = serde_json::from_str(&reason).expect("the reason is JSON");
        assert!(reason["reconnect_in_ms"].as_u64().is_some_and(|wait| 0 < wait), "{reason}");
    }
}
