//! What a WebSocket client may send (RFC 6455): frames, fragments, control frames, text that must be UTF-8.

use fanfare_core::{
    close::Close,
    outbox::Outbox,
    protocol::websocket::{
        Message, ServerSession, WebSocketLimits, client,
        client::{FrameReader, ServerFrame},
        encode_binary, encode_text,
    },
};

use super::input::{Input, PIECE_BYTES_MAX, peak_bytes};

pub(super) const TOKENS: &[&str] = &["\u{1}\u{7f}", "\u{9}", "\0\0\0\0", "é", "€", "🎺", "\u{3}\u{7f}"];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let limits = limits(input.knob);
    let at_once = receive([input.payload], &limits);
    let in_pieces = receive(input.pieces(), &limits);
    assert_eq!(at_once, in_pieces);
    assert!(at_once.outbox.len() <= limits.pong_bytes_max + CLOSE_ECHO_BYTES_MAX);
    for message in &at_once.messages {
        assert!(payload_bytes(message) <= limits.message_bytes_max);
        check_message(message, &input, &limits);
    }
    check_memory(&input, &limits);
}

const CLOSE_ECHO_BYTES_MAX: usize = 4;

pub(super) fn limits(knob: u8) -> WebSocketLimits {
    WebSocketLimits {
        message_bytes_max: [0, 10, 300, 64 * 1024][usize::from(knob % 4)],
        fragments_max: [1, 3, 1024, u32::MAX][usize::from(knob / 4 % 4)],
        pong_bytes_max: [0, 20, 200, 4096][usize::from(knob / 16 % 4)],
    }
}

/// What a session made of its input.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    messages: Vec<Message>,
    outbox: Vec<u8>,
    end: Option<Close>,
}

fn payload_bytes(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
        Message::Ping | Message::Pong => 0,
    }
}

/// Nothing is taken from the outbox meanwhile, so that answers are given or left out for the same reason.
fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &WebSocketLimits) -> Outcome {
    let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
    let mut end = None;
    for piece in pieces {
        let outcome = session.receive(&mut piece.to_vec(), limits, &mut outbox, &mut messages);
        assert!(end.is_none() || outcome.err() == end, "an end is final");
        end = outcome.err();
    }
    Outcome { messages, outbox: outbox.pending().to_vec(), end }
}

/// A message written anew is the same message, to either side.
fn check_message(message: &Message, input: &Input<'_>, limits: &WebSocketLimits) {
    let key = [input.knob, 0x5a, 0, 0xff];
    let mut masked = Vec::new();
    let (frame, shown) = match message {
        Message::Text(text) => {
            client::write_masked_text(text.as_bytes(), key, &mut masked);
            (encode_text(text.as_bytes()), ServerFrame::Text(text.as_bytes()))
        }
        Message::Binary(bytes) => {
            client::write_masked_binary(bytes, key, &mut masked);
            (encode_binary(bytes), ServerFrame::Binary(bytes))
        }
        Message::Ping | Message::Pong => return,
    };
    let again = receive(input.cut(&masked), limits);
    assert_eq!(again, Outcome { messages: vec![message.clone()], outbox: Vec::new(), end: None });
    let (mut reader, mut count) = (FrameReader::new(), 0);
    for piece in input.cut(&frame) {
        let outcome = reader.receive(piece, limits, |frame| {
            assert_eq!(frame, shown);
            count += 1;
        });
        assert_eq!(outcome, Ok(()));
    }
    assert_eq!(count, 1);
}

/// What is kept of a message: its bytes, in a buffer that grew by doubling, and the copy handed on.
fn check_memory(input: &Input<'_>, limits: &WebSocketLimits) {
    let bound = 4 * limits.message_bytes_max + 4 * PIECE_BYTES_MAX + limits.pong_bytes_max * 2 + 2048;
    let peak = peak_bytes(|| {
        let (mut session, mut messages) = (ServerSession::new(), Vec::new());
        for piece in input.pieces() {
            let mut outbox = Outbox::new();
            let _ = session.receive(&mut piece.to_vec(), limits, &mut outbox, &mut messages);
            messages.clear();
        }
    });
    assert!(peak <= bound, "{peak} bytes held, {bound} are allowed for by {limits:?}");
}
