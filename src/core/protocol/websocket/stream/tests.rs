use std::time::Duration;

use super::*;
use crate::{
    json::LONG_TEXT_BYTES,
    protocol::{
        RateLimit,
        websocket::client::{
            FrameReader, ServerFrame, write_masked_binary, write_masked_close, write_masked_ping, write_masked_text,
        },
    },
};

/// What a `fanfare.v1` client hears, the close frame aside, that sends `count` binary messages and a close frame in one
/// piece, and why the session ended.
fn hear(count: usize, rate: RateLimit) -> (Vec<String>, Close) {
    let (mut input, mut outbox, mut inputs) = (Vec::new(), Outbox::new(), Vec::new());
    (0..count).for_each(|_| write_masked_binary(b"x", [1, 2, 3, 4], &mut input));
    write_masked_close(1000, "", [1, 2, 3, 4], &mut input);
    let session = Session::WebSocket(WebSocketSession::new(Dialect::FanfareV1));
    let limits = SessionLimits { rate, ..SessionLimits::default() };
    let outcome = session.receive(&mut input, &limits, &mut outbox, &mut inputs, Moment(1_000_000_000));
    let mut heard = Vec::new();
    let note = |frame: ServerFrame<'_>| heard.push(format!("{frame:?}").split(['(', ' ']).next().map(String::from));
    FrameReader::new().receive(outbox.pending(), &limits.websocket, note).expect("whole frames");
    (heard.into_iter().flatten().collect(), outcome.expect_err("it has ended"))
}

#[test]
fn errors_are_told_before_the_close_frame() {
    let limits = RateLimit { messages_per_second: 5, ..RateLimit::default() };
    let impatient = RateLimit { cutoff_timeout: Duration::ZERO, ..limits };
    let check = |count: usize, rate: RateLimit, heard: usize| {
        let expected = (vec!["Text".to_owned(); heard], Close::PeerClosed(Some(1000)));
        assert_eq!(hear(count, rate), expected, "{count} messages, {rate:?}");
    };
    for count in [0, 1, 5, 6, 50] {
        check(count, limits, count);
        check(count, impatient, count.min(5));
    }
}

/// What a client hears that sends `frames` at once, at most five of them within its limit; and whether it stays.
fn answers(dialect: Dialect, frames: &[u8], cutoff_timeout: Duration) -> (Vec<String>, Option<Close>) {
    let mut outbox = Outbox::new();
    let limits =
        SessionLimits { rate: RateLimit { messages_per_second: 5, cutoff_timeout }, ..SessionLimits::default() };
    let session = Session::WebSocket(WebSocketSession::new(dialect));
    let end = session.receive(&mut frames.to_vec(), &limits, &mut outbox, &mut Vec::new(), Moment(1_000_000_000));
    let mut heard = Vec::new();
    let note = |frame: ServerFrame<'_>| {
        heard.push(match frame {
            ServerFrame::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        });
    };
    FrameReader::new().receive(outbox.pending(), &limits.websocket, note).expect("whole frames");
    (heard, end.err())
}

#[test]
fn what_comes_too_fast_is_named_by_its_reference() {
    let mut frames = Vec::new();
    for number in 0..6 {
        write_masked_text(format!(r#"{{"op":"ping","ref":{number}}}"#).as_bytes(), [1, 2, 3, 4], &mut frames);
    }
    write_masked_text(b"not JSON", [1, 2, 3, 4], &mut frames);
    write_masked_binary(b"x", [1, 2, 3, 4], &mut frames);
    let error = r#"{"op":"error","code":"RateLimited","message":"too many messages; this one was ignored""#;
    let expected = [format!("{error},\"ref\":5}}"), format!("{error}}}"), format!("{error}}}")];
    assert_eq!(answers(Dialect::FanfareV1, &frames, Duration::MAX), (expected.to_vec(), None));
    assert_eq!(answers(Dialect::Raw, &frames, Duration::MAX), (vec![], None));
    assert_eq!(answers(Dialect::Raw, &frames, Duration::ZERO), (vec![], Some(Close::RateLimited)));
}

#[test]
fn pings_count_as_messages() {
    for dialect in [Dialect::Raw, Dialect::FanfareV1] {
        let flood = |count: usize, cutoff_timeout: Duration| {
            let mut frames = Vec::new();
            (0..count).for_each(|_| write_masked_ping(b"", [1, 2, 3, 4], &mut frames));
            let (heard, end) = answers(dialect, &frames, cutoff_timeout);
            assert!(heard.iter().all(|frame| frame == "Pong([])"), "{heard:?}");
            (heard.len(), end)
        };
        assert_eq!(flood(5, Duration::ZERO), (5, None));
        assert_eq!(flood(6, Duration::ZERO).1, Some(Close::RateLimited));
        assert_eq!(flood(6, Duration::MAX), (6, None));
    }
}

#[test]
fn a_pong_is_due_until_anything_comes() {
    let second = |number: u64| Moment(number * 1_000_000_000);
    let timeout = Duration::from_secs(20);
    let mut session = WebSocketSession::new(Dialect::Raw);
    assert_eq!(session.pong_deadline(timeout), None);
    session.on_ping(Moment(1));
    session.on_ping(second(9));
    assert_eq!(session.pong_deadline(timeout), Some(second(21)), "from the first one on, rounded up");
    // One byte of a frame shows that the peer lives.
    let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
    session.receive(&mut [0x8a], &SessionLimits::default(), &mut outbox, &mut inputs, second(10)).expect("a good byte");
    assert_eq!(session.pong_deadline(timeout), None);
    session.on_ping(second(11));
    assert!(!session.is_pong_late(true, Duration::ZERO, second(99)), "it cannot have seen the ping");
    assert_eq!(session.pong_deadline(timeout), None);
}

/// The inputs that `frames`, in one piece, become, and the close if the session ends.
fn inputs_of(dialect: Dialect, frames: &[u8]) -> (String, Option<Close>) {
    let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
    let session = Session::WebSocket(WebSocketSession::new(dialect));
    let outcome = session.receive(
        &mut frames.to_vec(),
        &SessionLimits::default(),
        &mut outbox,
        &mut inputs,
        Moment(1_000_000_000),
    );
    assert!(outbox.is_empty());
    (format!("{inputs:?}"), outcome.err())
}

#[test]
fn what_came_before_the_end_is_answered_before_it() {
    let (mut message, mut close) = (Vec::new(), Vec::new());
    write_masked_text(b"a", [1, 2, 3, 4], &mut message);
    write_masked_close(1001, "", [1, 2, 3, 4], &mut close);
    let both = [message.clone(), close.clone()].concat();
    let broken = [&message[..], b"\x83\x80\0\0\0\0"].concat();
    let check = |dialect: Dialect, frames: &[u8], inputs: &str, end: Option<Close>| {
        assert_eq!(inputs_of(dialect, frames), (inputs.to_owned(), end), "{dialect:?}");
    };
    check(Dialect::Messages, &message, r#"[Message(Text("a"))]"#, None);
    check(Dialect::Messages, &both, r#"[Message(Text("a")), End(PeerClosed(Some(1001)))]"#, None);
    check(Dialect::Messages, &broken, r#"[Message(Text("a")), End(BadFrame("reserved opcode"))]"#, None);
    check(Dialect::FanfareV1, &both, r#"[Command("a"), End(PeerClosed(Some(1001)))]"#, None);
    check(Dialect::Raw, &both, "[]", Some(Close::PeerClosed(Some(1001))));
    check(Dialect::Messages, &close, "[]", Some(Close::PeerClosed(Some(1001))));
}

/// What is longer is looked at in parts.
#[test]
fn a_command_is_long_beyond_a_limit() {
    let mut limits = SessionLimits::default();
    limits.websocket.message_bytes_max = 1 << 20;
    for (bytes, is_long) in [(LONG_TEXT_BYTES, false), (LONG_TEXT_BYTES + 1, true), (2 * LONG_TEXT_BYTES, true)] {
        let (mut text, mut inputs) = (Vec::new(), Vec::new());
        write_masked_text(&vec![b'x'; bytes], [1, 2, 3, 4], &mut text);
        let session = Session::WebSocket(WebSocketSession::new(Dialect::FanfareV1));
        let outcome = session.receive(&mut text, &limits, &mut Outbox::new(), &mut inputs, Moment(1_000_000_000));
        assert!(outcome.is_ok(), "{bytes} bytes");
        let found = inputs.iter().map(|input| matches!(input, PeerInput::Long(_))).collect::<Vec<_>>();
        assert_eq!(found, [is_long], "{bytes} bytes");
    }
}
