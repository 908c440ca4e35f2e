use std::time::Duration;

use super::*;
use crate::protocol::websocket::client::{FrameReader, ServerFrame, write_masked_binary, write_masked_close};

/// What a `fanfare.v1` client hears that sends `count` binary messages and a close frame in one piece.
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
fn nothing_is_said_after_the_close_frame() {
    let limits = RateLimit { messages_per_second: 5, ..RateLimit::default() };
    let impatient = RateLimit { patience: Duration::ZERO, ..limits };
    for count in [0, 1, 5, 6, 50] {
        for rate in [limits, impatient] {
            assert_eq!(hear(count, rate), (vec!["Close".to_owned()], Close::Done), "{count} messages, {rate:?}");
        }
    }
}
