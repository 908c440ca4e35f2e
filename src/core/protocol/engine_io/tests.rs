//! Packets and payloads against tables, and both wrappings of the same messages against each other.

use crate::protocol::websocket;

use super::*;

#[test]
fn packets() {
    let check = |text: &str, expected: Option<(EnginePacketKind, &str)>| {
        let parsed = EnginePacket::parse(text);
        assert_eq!(parsed.ok(), expected.map(|(kind, data)| EnginePacket::Text(kind, data)), "{text:?}");
    };
    check("0{}", Some((EnginePacketKind::Open, "{}")));
    check("1", Some((EnginePacketKind::Close, "")));
    check("2", Some((EnginePacketKind::Ping, "")));
    check("2probe", Some((EnginePacketKind::Ping, "probe")));
    check("3probe", Some((EnginePacketKind::Pong, "probe")));
    check("4", Some((EnginePacketKind::Message, "")));
    check("4hello", Some((EnginePacketKind::Message, "hello")));
    check("4é\u{1e}🎺", Some((EnginePacketKind::Message, "é\u{1e}🎺")));
    check("5", Some((EnginePacketKind::Upgrade, "")));
    check("6", Some((EnginePacketKind::Noop, "")));
    for bad in ["", "7", "9x", "abc", "-1", " 4", "é", "1x", "5x", "6x", "bAQI="] {
        check(bad, None);
    }
}

/// A packet in short, for tables.
fn shown(packet: &EnginePacket<'_>) -> String {
    match packet {
        EnginePacket::Text(kind, data) => format!("{kind:?} {data}"),
        EnginePacket::Binary(bytes) => format!("Binary {bytes:?}"),
    }
}

/// The packets in `body` until the first bad one, and what is wrong with that.
fn read(body: &[u8], packets_max: usize) -> (Vec<String>, Option<&'static str>) {
    let mut packets = Vec::new();
    let payload = match PollPayload::parse(body, packets_max) {
        Ok(payload) => payload,
        Err(BadEnginePacket(rule)) => return (packets, Some(rule)),
    };
    for packet in payload {
        match packet {
            Ok(packet) => packets.push(shown(&packet)),
            Err(BadEnginePacket(rule)) => return (packets, Some(rule)),
        }
    }
    (packets, None)
}

/// A payload that is read in parts goes on where it was left, with the packets that are left.
#[test]
fn a_payload_is_read_in_parts() {
    let mut payload = PollPayload::parse(b"4a\x1e4b\x1e4c", 3).expect("it is UTF-8");
    assert_eq!(payload.rest(), Some(("4a\x1e4b\x1e4c", 3)));
    assert_eq!(payload.next().and_then(Result::ok).as_ref().map(shown).as_deref(), Some("Message a"));
    let (text, left) = payload.rest().expect("two packets are left");
    assert_eq!((text, left), ("4b\x1e4c", 2));
    let mut payload = PollPayload::behind(text, left);
    assert_eq!(payload.by_ref().flatten().map(|packet| shown(&packet)).collect::<Vec<_>>(), ["Message b", "Message c"]);
    assert_eq!(payload.rest(), None);
}

#[test]
fn payloads() {
    const DIGIT: Option<&str> = Some("a packet's type is a digit from 0 to 6");
    const EMPTY: Option<&str> = Some("a packet begins with its type");
    const BASE64: Option<&str> = Some("a binary message in a payload is base64");
    let check = |body: &[u8], packets: &[&str], fault: Option<&str>| {
        let (read, rule) = read(body, 4);
        assert_eq!((&read[..], rule), (&packets.iter().map(|it| it.to_string()).collect::<Vec<_>>()[..], fault));
    };
    check(b"4hello", &["Message hello"], None);
    check(b"4hello\x1e2\x1e4world", &["Message hello", "Ping ", "Message world"], None);
    check(b"4hello\x1ebAQIDBA==", &["Message hello", "Binary [1, 2, 3, 4]"], None);
    check(b"bAQIDBA", &["Binary [1, 2, 3, 4]"], None);
    check(b"b", &["Binary []"], None);
    check(b"41\x1e42\x1e43\x1e44", &["Message 1", "Message 2", "Message 3", "Message 4"], None);
    check(
        b"41\x1e42\x1e43\x1e44\x1e45",
        &["Message 1", "Message 2", "Message 3", "Message 4"],
        Some("too many packets in one payload"),
    );
    check(b"", &[], EMPTY);
    check(b"4a\x1e", &["Message a"], EMPTY);
    check(b"\x1e4a", &[], EMPTY);
    check(b"4a\x1eabc\x1e4b", &["Message a"], DIGIT);
    check(b"6:4hello", &[], Some("close, upgrade and noop packets have no data"));
    check(b"4a\x1ebA", &["Message a"], BASE64);
    check(b"bAQ*DBA==", &[], BASE64);
    check(b"bAQID BA==", &[], BASE64);
    check(b"b\xc3\xa9", &[], BASE64);
    check(b"4a\x1e4\xff", &[], Some("a payload is UTF-8"));
}

/// Wherever a payload is cut, what comes before the cut packet is the same.
#[test]
fn payloads_cut_anywhere() {
    let body = "4é\u{1e}2probe\u{1e}bAQIDBA==\u{1e}4".as_bytes();
    let (whole, fault) = read(body, 16);
    assert_eq!((whole.len(), fault), (4, None));
    for cut in 0..body.len() {
        let (packets, _) = read(&body[..cut], 16);
        let complete = body[..cut].iter().filter(|byte| **byte == 0x1e).count();
        let at_least = if std::str::from_utf8(&body[..cut]).is_ok() { complete } else { 0 };
        assert!(at_least <= packets.len(), "cut at {cut}");
        assert_eq!(packets[..at_least], whole[..at_least], "cut at {cut}");
    }
}

#[test]
fn handshakes() {
    let check = |upgrade_to_websocket, upgrades: &str| {
        let handshake = Handshake {
            sid: "lv_VI97HAXpY6yYWAAAC",
            upgrade_to_websocket,
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            payload_bytes_max: 1_000_000,
        };
        let mut frame = Vec::new();
        handshake.write_frame(&mut frame);
        let expected = format!(
            "0{{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":{upgrades},\"pingInterval\":25000,\
             \"pingTimeout\":20000,\"maxPayload\":1000000}}"
        );
        assert_eq!(frame, websocket::encode_text(expected.as_bytes()));
    };
    check(true, "[\"websocket\"]");
    check(false, "[]");
}

#[test]
fn messages_of_parts() {
    let check = |parts: &[&[u8]], expected: &[u8]| {
        let mut frame = Vec::new();
        write_message(parts, &mut frame);
        assert_eq!(frame, websocket::encode_text(expected));
    };
    check(&[], b"4");
    check(&[b"a"], b"4a");
    check(&[b"a", b"b"], b"4ab");
    check(&[b"a", b"", b"b", b"c"], b"4abc");
}

/// A text message, a binary one, control frames in between, and a ping of Engine.IO.
fn some_frames() -> Vec<u8> {
    let mut frames = Vec::new();
    write_message(&[b"2[\"a\"]"], &mut frames);
    websocket::write_pong(b"x", &mut frames);
    websocket::write_binary(&[1, 2, 3, 4], &mut frames);
    frames.extend_from_slice(websocket::PING);
    write_frame(EnginePacketKind::Ping, "", &mut frames);
    frames
}

#[test]
fn frames_become_payloads() {
    let frames = some_frames();
    let check = |packets_max, bytes_max, expected: &[&str]| {
        let mut rest = &frames[..];
        for payload in expected {
            let mut out = b"head".to_vec();
            rest = &rest[payload_from_frames(rest, packets_max, bytes_max, &mut out)..];
            assert_eq!(String::from_utf8_lossy(&out), format!("head{payload}"));
        }
        assert!(rest.is_empty());
    };
    check(16, 100, &["42[\"a\"]\u{1e}bAQIDBA==\u{1e}2"]);
    check(2, 100, &["42[\"a\"]\u{1e}bAQIDBA==", "2"]);
    // Seven bytes, a separator and nine: exactly so many, and one less.
    check(16, 17, &["42[\"a\"]\u{1e}bAQIDBA==", "2"]);
    check(16, 16, &["42[\"a\"]", "bAQIDBA==\u{1e}2"]);
    check(16, 1, &["42[\"a\"]", "bAQIDBA==", "2"]);
    check(16, 0, &["42[\"a\"]", "bAQIDBA==", "2"]);
}

/// Frames that are not all there wait, and lose nothing by it.
#[test]
fn frames_cut_anywhere() {
    let frames = some_frames();
    let mut whole = Vec::new();
    assert_eq!(payload_from_frames(&frames, 16, 100, &mut whole), frames.len());
    for cut in 0..frames.len() {
        let mut out = Vec::new();
        let mut poll = PollPayloadWriter::new(16, 100, &mut out);
        let consumed = poll.push_frames(&frames[..cut]);
        assert!(consumed <= cut);
        assert_eq!(poll.push_frames(&frames[consumed..]), frames.len() - consumed);
        assert_eq!(out, whole, "cut at {cut}");
    }
}

#[test]
fn polls_are_bounded_across_their_sources() {
    let mut out = b"head".to_vec();
    let mut poll = PollPayloadWriter::new(3, 10, &mut out);
    assert!(poll.is_empty());
    let mut push = |packet: &str| poll.push_frames(&websocket::encode_text(packet.as_bytes())) != 0;
    assert!(push("4abcd"));
    assert!(!push("4abcd"), "eleven bytes with the separator");
    assert!(push(NOOP));
    assert!(push("2"));
    assert!(!push("4"), "three packets are all");
    assert!(!poll.is_empty());
    assert_eq!(out, b"head4abcd\x1e6\x1e2");
}

/// What a server's encoder does not write is not passed on either.
#[test]
fn frames_of_others() {
    let check = |frame: &[u8]| {
        let mut out = Vec::new();
        assert_eq!((payload_from_frames(frame, 16, 100, &mut out), out.len()), (0, 0), "{frame:02x?}");
    };
    check(&[]);
    check(&[0x81]);
    check(&[0x81, 2, b'4']);
    check(&[0x01, 1, b'4']);
    check(&[0x80, 1, b'4']);
    check(&[0x81, 0x81, 0, 0, 0, 0, b'4']);
    check(&[0x83, 0]);
    check(&[0xc1, 1, b'4']);
}

/// What a client reads of a poll is what was said, whichever way it was wrapped.
#[test]
fn both_wrappings_say_the_same() {
    let mut payload = Vec::new();
    payload_from_frames(&some_frames(), 16, 100, &mut payload);
    let (packets, fault) = read(&payload, 16);
    assert_eq!(packets, ["Message 2[\"a\"]", "Binary [1, 2, 3, 4]", "Ping "]);
    assert_eq!(fault, None);
}
