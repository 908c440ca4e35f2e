//! Every case is received whole, one byte at a time, and, where it comes from proptest, cut anywhere; the outcome must be
//! the same. Frames are made by hand here, so that the codec is not checked by itself.

use crate::{close::Close, outbox::Outbox};

use super::{
    Message, PING, ServerSession, WebSocketLimits, encode_binary, encode_text, mask, write_close, write_end,
    write_message, write_pong,
};

pub(super) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
pub(super) const FIN: u8 = 0x80;
pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = FIN | 8;
pub(super) const PING_BYTE: u8 = FIN | 9;
pub(super) const PONG: u8 = FIN | 10;

pub(super) fn small_limits() -> WebSocketLimits {
    WebSocketLimits { message_bytes_max: 300, fragments_max: 3, pong_bytes_max: 200 }
}

/// A frame by hand: the first byte as given, the length in its shortest form.
pub(super) fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = match payload.len() {
        short @ ..126 => vec![first, mask_bit | short as u8],
        middle @ ..0x1_0000 => [&[first, mask_bit | 126], &(middle as u16).to_be_bytes()[..]].concat(),
        long => [&[first, mask_bit | 127], &(long as u64).to_be_bytes()[..]].concat(),
    };
    bytes.extend(key.into_iter().flatten());
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key.map_or(0, |key| key[at % 4])));
    bytes
}

pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Some(KEY))
}

/// What a session made of what it got.
#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Message>,
    written: Vec<u8>,
    end: Option<Close>,
}

fn receive_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &WebSocketLimits) -> Outcome {
    let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
    let mut end = None;
    for piece in pieces {
        let result = session.receive(&mut piece.to_vec(), limits, &mut outbox, &mut messages);
        assert!(end.is_none() || end == result.err(), "an ended session says another thing");
        end = result.err();
    }
    Outcome { messages, written: outbox.pending().to_vec(), end }
}

fn check(frames: &[Vec<u8>], messages: &[Message], written: &[u8], end: Option<Close>) {
    let bytes = frames.concat();
    let expected = Outcome { messages: messages.to_vec(), written: written.to_vec(), end };
    assert_eq!(receive_pieces([&bytes[..]], &small_limits()), expected, "whole: {bytes:02x?}");
    assert_eq!(receive_pieces(bytes.chunks(1), &small_limits()), expected, "byte by byte: {bytes:02x?}");
    let frame_by_frame = frames.iter().map(Vec::as_slice);
    assert_eq!(receive_pieces(frame_by_frame, &small_limits()), expected, "frame by frame: {bytes:02x?}");
}

pub(super) fn text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

#[test]
fn messages() {
    let check = |frames: &[Vec<u8>], messages: &[Message]| check(frames, messages, b"", None);
    check(&[masked(FIN | TEXT, b"Hello")], &[text("Hello")]);
    check(&[masked(FIN | TEXT, b"")], &[text("")]);
    check(&[masked(FIN | TEXT, "κόσμε".as_bytes())], &[text("κόσμε")]);
    check(&[masked(FIN | TEXT, &[b'x'; 125])], &[text(&"x".repeat(125))]);
    check(&[masked(FIN | TEXT, &[b'x'; 126])], &[text(&"x".repeat(126))]);
    check(&[masked(FIN | TEXT, &[b'x'; 300])], &[text(&"x".repeat(300))]);
    check(&[masked(FIN | BINARY, b"\0\xff")], &[Message::Binary(b"\0\xff".to_vec())]);
    check(&[masked(FIN | BINARY, b"")], &[Message::Binary(vec![])]);
    check(&[masked(FIN | TEXT, b"a"), masked(FIN | TEXT, b"b")], &[text("a"), text("b")]);
    check(&[masked(PONG, b"any"), masked(PONG, b"")], &[Message::Pong, Message::Pong]);
    // The frame is the standard's own example (section 5.7).
    check(&[b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec()], &[text("Hello")]);
}

#[test]
fn fragments() {
    let check = |frames: &[Vec<u8>], messages: &[Message], written| check(frames, messages, written, None);
    let (first, middle, last) = (masked(TEXT, b"a"), masked(CONTINUATION, b"b"), masked(FIN, b"c"));
    check(&[first.clone(), middle.clone(), last.clone()], &[text("abc")], b"");
    check(
        &[masked(BINARY, b"\xff"), last.clone(), masked(FIN | TEXT, b"x")],
        &[Message::Binary(b"\xffc".to_vec()), text("x")],
        b"",
    );
    check(&[masked(TEXT, b""), masked(CONTINUATION, b""), masked(FIN, b"")], &[text("")], b"");
    // Control frames come through in between (section 5.5).
    check(
        &[first.clone(), masked(PING_BYTE, b"p"), masked(PONG, b""), last],
        &[Message::Ping, Message::Pong, text("ac")],
        b"\x8a\x01p",
    );
    // A character cut between fragments, at each of its bytes.
    let sign = "🦀".as_bytes();
    for cut in 0..=sign.len() {
        check(&[masked(TEXT, &sign[..cut]), masked(FIN, &sign[cut..])], &[text("🦀")], b"");
    }
    check(&[masked(TEXT, &sign[..1]), masked(CONTINUATION, &sign[1..2]), masked(FIN, &sign[2..])], &[text("🦀")], b"");
    // An unfinished message is no message.
    check(&[first, middle], &[], b"");
}

#[test]
fn broken_rules() {
    let check = |bytes: &[u8], rule: &'static str| check(&[bytes.to_vec()], &[], b"", Some(Close::BadFrame(rule)));
    let reserved_bits = "reserved bits are set, but no extension was agreed on";
    check(&masked(FIN | TEXT | 0x40, b"x"), reserved_bits);
    check(&masked(FIN | TEXT | 0x20, b"x"), reserved_bits);
    check(&masked(PING_BYTE | 0x10, b"x"), reserved_bits);
    for opcode in [3, 7, 11, 15] {
        check(&masked(FIN | opcode, b""), "reserved opcode");
    }
    check(&frame(FIN | TEXT, b"x", None), "client frames must be masked");
    check(&frame(PING_BYTE, b"", None), "client frames must be masked");
    for first in [8, 9, 10] {
        check(&masked(first, b""), "control frames must not be fragmented");
        check(&masked(FIN | first, &[b'x'; 126]), "control frames have at most 125 bytes of payload");
    }
    let shortest = "a payload length must be in its shortest form";
    check(b"\x81\xfe\0\x7dkey!", shortest);
    check(b"\x81\xff\0\0\0\0\0\0\xff\xffkey!", shortest);
    check(b"\x81\xff\0\0\0\0\0\0\0\x01key!", shortest);
    check(b"\x82\xff\x80\0\0\0\0\0\0\0key!", "the highest bit of a payload length must be zero");
    check(&masked(FIN, b"x"), "there is no message to continue");
    check(&masked(CONTINUATION, b"x"), "there is no message to continue");
    check(&[masked(TEXT, b"a"), masked(FIN | TEXT, b"b")].concat(), "the last message is not finished");
    check(&[masked(BINARY, b"a"), masked(TEXT, b"b")].concat(), "the last message is not finished");
    check(&masked(CLOSE, b"\x03"), "a close frame's payload has a whole code or nothing");
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check(&masked(CLOSE, &code.to_be_bytes()), "this close code must not be sent");
    }
}

#[test]
fn messages_before_a_broken_rule_count() {
    let frames = [masked(FIN | TEXT, b"a"), masked(PING_BYTE, b"p"), masked(FIN | 3, b""), masked(FIN | TEXT, b"b")];
    check(&frames, &[text("a"), Message::Ping], b"\x8a\x01p", Some(Close::BadFrame("reserved opcode")));
}

#[test]
fn bad_utf8() {
    let check = |frames: &[Vec<u8>]| check(frames, &[], b"", Some(Close::BadUtf8));
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\x80", b"cut\xe2\x82"] {
        check(&[masked(FIN | TEXT, bad)]);
        check(&[masked(TEXT, bad), masked(FIN, b"")]);
        check(&[masked(TEXT, b""), masked(FIN, bad)]);
        check(&[masked(CLOSE, &[b"\x03\xe8", bad].concat())]);
    }
    check(&[masked(TEXT, b"\xe2\x82"), masked(FIN, b"x")]);
}

/// Told at the first impossible byte, though the frame, or the message, is far from its end (section 8.1).
#[test]
fn bad_utf8_fails_fast() {
    let check = |bytes: &[u8]| {
        let before = receive_pieces([&bytes[..bytes.len() - 1]], &small_limits());
        assert_eq!(before.end, None, "{bytes:02x?}");
        assert_eq!(receive_pieces([bytes], &small_limits()).end, Some(Close::BadUtf8), "{bytes:02x?}");
        assert_eq!(receive_pieces(bytes.chunks(1), &small_limits()).end, Some(Close::BadUtf8), "{bytes:02x?}");
    };
    let cut = |first: u8, payload: &[u8], bytes: usize| masked(first, payload)[..6 + bytes].to_vec();
    check(&cut(FIN | TEXT, b"ab\xffdefgh", 3));
    check(&cut(FIN | TEXT, b"\xed\xa0\x80xx", 2));
    check(&cut(TEXT, b"\xf4\x90\x80\x80", 2));
    check(&[masked(TEXT, b"\xe2\x82"), cut(CONTINUATION, b"(xxx", 1)].concat());
}

#[test]
fn limits_hold_before_the_payload_comes() {
    let check = |bytes: &[u8]| {
        assert_eq!(receive_pieces([bytes], &small_limits()).end, Some(Close::MessageTooBig), "{bytes:02x?}");
        assert_eq!(receive_pieces(bytes.chunks(1), &small_limits()).end, Some(Close::MessageTooBig), "{bytes:02x?}");
    };
    let header = |first: u8, payload_bytes: usize| masked(first, &vec![b'x'; payload_bytes])[..8].to_vec();
    check(&header(FIN | TEXT, 301));
    check(&masked(FIN | TEXT, &[b'x'; 301]));
    check(&header(BINARY, 301));
    check(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffkey!");
    check(&[masked(TEXT, &[b'x'; 150]), header(FIN, 151)].concat());
    check(&[masked(TEXT, b""), masked(CONTINUATION, b""), masked(CONTINUATION, b""), masked(FIN, b"")].concat());
}

#[test]
fn pings_are_answered_within_a_bound() {
    let pong = [&b"\x8a\x50"[..], &[b'p'; 80]].concat();
    let ping = masked(PING_BYTE, &[b'p'; 80]);
    check(&[masked(PING_BYTE, b"")], &[Message::Ping], b"\x8a\0", None);
    check(&[masked(PING_BYTE, &[b'p'; 125])], &[Message::Ping], &[&b"\x8a\x7d"[..], &[b'p'; 125]].concat(), None);
    // 82 + 82 bytes fit into 200, 3 × 82 do not.
    check(
        &[ping.clone(), ping.clone(), ping],
        &[Message::Ping, Message::Ping, Message::Ping],
        &[&pong[..], &pong].concat(),
        None,
    );
}

#[test]
fn close_ends_it_and_is_to_be_answered_alike() {
    let check = |payload: &[u8], code: Option<u16>, answer: &[u8]| {
        let frames = [masked(FIN | TEXT, b"a"), masked(CLOSE, payload), masked(FIN | TEXT, b"late"), vec![0xff]];
        check(&frames, &[text("a")], b"", Some(Close::PeerClosed(code)));
        let mut written = Vec::new();
        write_end(Close::PeerClosed(code), "bye", &mut written);
        assert_eq!(written, answer);
    };
    check(b"", None, b"\x88\0");
    check(b"\x03\xe8", Some(1000), b"\x88\x02\x03\xe8");
    check(b"\x03\xe9going away", Some(1001), b"\x88\x02\x03\xe9");
    check(b"\x0b\xb8", Some(3000), b"\x88\x02\x0b\xb8");
    check(b"\x13\x87", Some(4999), b"\x88\x02\x13\x87");
}

#[test]
fn ends_have_their_close_frames() {
    let check = |close: Close, answer: &[u8]| {
        let mut written = Vec::new();
        write_end(close, "why", &mut written);
        assert_eq!(written, answer, "{close:?}");
    };
    check(Close::Done, b"");
    check(Close::BadUtf8, b"\x88\x05\x03\xefwhy");
    check(Close::Slow, b"\x88\x05\x11\x38why");
}

#[test]
fn messages_are_written_as_they_came() {
    let check = |message: Message, expected: &[u8]| {
        let mut written = Vec::new();
        write_message(&message, &mut written);
        assert_eq!(written, expected);
    };
    check(text("é"), b"\x81\x02\xc3\xa9");
    check(Message::Binary(vec![0, 255]), b"\x82\x02\0\xff");
    check(Message::Pong, b"\x8a\0");
}

#[test]
fn our_close_waits_for_the_peers() {
    let check = |bytes: &[u8], end: Result<(), Close>| {
        let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
        // Within a message, which stays unfinished.
        session.receive(&mut masked(TEXT, b"a"), &small_limits(), &mut outbox, &mut messages).expect("good frame");
        session.close(Close::Restart, &mut outbox);
        session.close(Close::Slow, &mut outbox);
        assert!(!session.is_open());
        let result = session.receive(&mut bytes.to_vec(), &small_limits(), &mut outbox, &mut messages);
        assert_eq!((result, &messages[..]), (end, &[][..]), "{bytes:02x?}");
        assert_eq!(outbox.pending(), &frame(CLOSE, b"\x03\xf4the hub restarts", None)[..], "{bytes:02x?}");
    };
    check(b"", Ok(()));
    check(&masked(FIN, b"b"), Ok(()));
    check(&masked(PING_BYTE, b"b"), Ok(()));
    check(&[masked(FIN, b"b"), masked(FIN | TEXT, b"c"), masked(CLOSE, b"\x03\xf4")].concat(), Err(Close::Done));
    check(&masked(FIN | 3, b""), Err(Close::Done));
    check(&masked(FIN, b"\xff"), Err(Close::Done));
}

#[test]
fn an_idle_session_is_small_and_owns_nothing() {
    assert!(size_of::<ServerSession>() <= 32);
    let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
    let frames = [masked(TEXT, b"a"), masked(PING_BYTE, b"p"), masked(FIN, b"b")].concat();
    for piece in frames.chunks(1) {
        session.receive(&mut piece.to_vec(), &small_limits(), &mut outbox, &mut messages).expect("good frames");
    }
    assert_eq!(format!("{session:?}"), format!("{:?}", ServerSession::new()));
    // A whole frame never needs memory of its own in the session.
    let mut whole = masked(PONG, b"");
    messages.reserve(1);
    let allocations = allocation_counter::measure(|| {
        session.receive(&mut whole, &small_limits(), &mut outbox, &mut messages).expect("a good frame");
    });
    assert_eq!(allocations.count_total, 0);
}

#[test]
fn server_frames() {
    let check = |payload: &[u8]| {
        for (encoded, first) in [(encode_text(payload), FIN | TEXT), (encode_binary(payload), FIN | BINARY)] {
            assert!(encoded == frame(first, payload, None), "{} bytes", payload.len());
            assert_eq!(encoded.capacity(), encoded.len());
        }
    };
    for payload_bytes in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
        check(&vec![b'x'; payload_bytes]);
    }
    assert_eq!(PING, frame(PING_BYTE, b"", None));
    let mut pong = Vec::new();
    write_pong(b"abc", &mut pong);
    assert_eq!(pong, frame(PONG, b"abc", None));
}

#[test]
fn close_frames() {
    let check = |reason: &str, sent: &str| {
        let mut out = Vec::new();
        write_close(1013, reason, &mut out);
        assert_eq!(out, frame(CLOSE, &[b"\x03\xf5", sent.as_bytes()].concat(), None), "{reason}");
    };
    check("", "");
    check("try again later", "try again later");
    check(&"x".repeat(123), &"x".repeat(123));
    check(&"x".repeat(124), &"x".repeat(123));
    // The 123rd byte is within a character: the cut comes before it.
    check(&"é".repeat(70), &"é".repeat(61));
}

#[test]
fn masks() {
    let plain: Vec<u8> = (0..40).collect();
    for start in 0..9 {
        for cut in start..plain.len() {
            let mut bytes = plain[start..].to_vec();
            let (before, behind) = bytes.split_at_mut(cut - start);
            mask::apply(before, KEY, 0);
            mask::apply(behind, KEY, before.len());
            let expected: Vec<u8> = plain[start..].iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(bytes, expected, "from {start}, cut at {cut}");
        }
    }
}

/// Frames that mostly keep the rules, so that random input gets far.
fn any_frame() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let first = proptest::sample::select(vec![TEXT, FIN | TEXT, CONTINUATION, FIN, BINARY, PING_BYTE, PONG, CLOSE, 3]);
    let payload = prop_oneof![
        "[a-zé🦀]{0,40}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..20),
        Just(vec![b'x'; 130]),
    ];
    (first, payload, any::<[u8; 4]>()).prop_map(|(first, payload, key)| frame(first, &payload, Some(key)))
}

/// `bytes` cut where `cuts`, taken modulo what is left, says.
pub(super) fn cut(mut bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = bytes.split_at(cut % (bytes.len() + 1));
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces.push(bytes.to_vec());
    pieces
}

proptest::proptest! {
    #[test]
    fn cuts_change_nothing(
        frames in proptest::collection::vec(any_frame(), 1..8),
        cuts in proptest::collection::vec(0..500_usize, 0..8),
    ) {
        let bytes = frames.concat();
        let whole = receive_pieces([&bytes[..]], &small_limits());
        let pieces = cut(&bytes, &cuts);
        assert_eq!(receive_pieces(pieces.iter().map(Vec::as_slice), &small_limits()), whole);
    }

    #[test]
    fn noise_never_panics(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        cuts in proptest::collection::vec(0..200_usize, 0..4),
    ) {
        let pieces = cut(&bytes, &cuts);
        let pieces = pieces.iter().map(Vec::as_slice);
        assert_eq!(receive_pieces(pieces, &small_limits()), receive_pieces([&bytes[..]], &small_limits()));
    }
}
