use std::time::Duration;

use super::*;
use crate::protocol::websocket::client::{
    FrameReader, ServerFrame, write_masked_binary, write_masked_close, write_masked_text,
};

/// What a `fanfare.v1` client hears, the close frame aside, that sends `count` binary messages and a close frame in one
/// piece, and why the session ended.
fn hear(count: usize, rate: RateLimit) -> (Vec<String>, Close) {
    let (mut input, mut outbox, mut asks) = (Vec::new(), Outbox::new(), Vec::new());
    (0..count).for_each(|_| write_masked_binary(b"x", [1, 2, 3, 4], &mut input));
    write_masked_close(1000, "", [1, 2, 3, 4], &mut input);
    let session = Session::WebSocket(WebSocketSession::new(Dialect::FanfareV1));
    let limits = Limits { rate, ..Limits::default() };
    let outcome = session.receive(&mut input, &limits, &mut outbox, &mut asks, Moment(1_000_000_000));
    let mut heard = Vec::new();
    let note = |frame: ServerFrame<'_>| heard.push(format!("{frame:?}").split(['(', ' ']).next().map(String::from));
    FrameReader::new().receive(outbox.pending(), &limits.websocket, note).expect("whole frames");
    (heard.into_iter().flatten().collect(), outcome.expect_err("it has ended"))
}

#[test]
fn errors_are_told_before_the_close_frame() {
    let limits = RateLimit { messages_per_second: 5, ..RateLimit::default() };
    let impatient = RateLimit { patience: Duration::ZERO, ..limits };
    let check = |count: usize, rate: RateLimit, heard: usize| {
        let expected = (vec!["Text".to_owned(); heard], Close::PeerClosed(Some(1000)));
        assert_eq!(hear(count, rate), expected, "{count} messages, {rate:?}");
    };
    for count in [0, 1, 5, 6, 50] {
        check(count, limits, count);
        check(count, impatient, count.min(5));
    }
}

/// What the session asks for when `frames` come in one piece, and whether it goes on.
fn ask(dialect: Dialect, frames: &[u8]) -> (String, Option<Close>) {
    let (mut outbox, mut asks) = (Outbox::new(), Vec::new());
    let session = Session::WebSocket(WebSocketSession::new(dialect));
    let outcome =
        session.receive(&mut frames.to_vec(), &Limits::default(), &mut outbox, &mut asks, Moment(1_000_000_000));
    assert!(outbox.is_empty());
    (format!("{asks:?}"), outcome.err())
}

#[test]
fn what_came_before_the_end_is_answered_before_it() {
    let (mut message, mut close) = (Vec::new(), Vec::new());
    write_masked_text(b"a", [1, 2, 3, 4], &mut message);
    write_masked_close(1001, "", [1, 2, 3, 4], &mut close);
    let both = [message.clone(), close.clone()].concat();
    let broken = [&message[..], b"\x83\x80\0\0\0\0"].concat();
    let check = |dialect: Dialect, frames: &[u8], asks: &str, end: Option<Close>| {
        assert_eq!(ask(dialect, frames), (asks.to_owned(), end), "{dialect:?}");
    };
    check(Dialect::Messages, &message, r#"[Message(Text("a"))]"#, None);
    check(Dialect::Messages, &both, r#"[Message(Text("a")), End(PeerClosed(Some(1001)))]"#, None);
    check(Dialect::Messages, &broken, r#"[Message(Text("a")), End(BadFrame("reserved opcode"))]"#, None);
    check(Dialect::FanfareV1, &both, r#"[Command("a"), End(PeerClosed(Some(1001)))]"#, None);
    check(Dialect::Raw, &both, "[]", Some(Close::PeerClosed(Some(1001))));
    check(Dialect::Messages, &close, "[]", Some(Close::PeerClosed(Some(1001))));
}
