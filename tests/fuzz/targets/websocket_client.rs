//! What a server may send to the tools' half of WebSocket.

use fanfare_core::{
    close::Close,
    protocol::websocket::{
        WebSocketLimits,
        client::{FrameReader, ServerFrame},
        encode_binary, encode_text, write_close, write_pong,
    },
};

use super::{
    input::{Input, PIECE_BYTES_MAX, peak_bytes},
    websocket_server,
};

pub(super) const TOKENS: &[&str] = &["\u{1}\u{7f}", "\u{7f}", "\u{9}\0", "\u{8}\u{2}\u{3}", "\0\0\0\0", "é", "🎺"];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let limits = websocket_server::limits(input.knob);
    let at_once = receive([input.payload], &limits);
    assert_eq!(at_once, receive(input.pieces(), &limits));
    for frame in &at_once.0 {
        assert!(frame.payload_bytes() <= frame.payload_bytes_max(&limits));
        if let Some(bytes) = encode(frame) {
            let again = receive(input.cut(&bytes), &limits);
            assert_eq!(again, (vec![frame.clone()], None), "{}", bytes.escape_ascii());
        }
    }
    check_memory(&input, &limits);
}

/// A frame that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Frame {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl Frame {
    fn of(frame: ServerFrame<'_>) -> Self {
        match frame {
            ServerFrame::Text(payload) => Self::Text(payload.to_vec()),
            ServerFrame::Binary(payload) => Self::Binary(payload.to_vec()),
            ServerFrame::Ping(payload) => Self::Ping(payload.to_vec()),
            ServerFrame::Pong(payload) => Self::Pong(payload.to_vec()),
            ServerFrame::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

impl Frame {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Text(payload) | Self::Binary(payload) | Self::Ping(payload) | Self::Pong(payload) => payload.len(),
            Self::Close(_, reason) => reason.len(),
        }
    }

    /// Control frames have a limit of their own (RFC 6455 section 5.5).
    fn payload_bytes_max(&self, limits: &WebSocketLimits) -> usize {
        if matches!(self, Self::Text(_) | Self::Binary(_)) { limits.message_bytes_max } else { 125 }
    }
}

fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &WebSocketLimits) -> (Vec<Frame>, Option<Close>) {
    let (mut reader, mut frames) = (FrameReader::new(), Vec::new());
    for piece in pieces {
        if let Err(close) = reader.receive(piece, limits, |frame| frames.push(Frame::of(frame))) {
            return (frames, Some(close));
        }
    }
    (frames, None)
}

/// As a server writes it; `None` for what ours does not write.
fn encode(frame: &Frame) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match frame {
        Frame::Text(payload) => bytes = encode_text(payload),
        Frame::Binary(payload) => bytes = encode_binary(payload),
        Frame::Pong(payload) => write_pong(payload, &mut bytes),
        Frame::Close(Some(code), reason) => write_close(*code, reason, &mut bytes),
        Frame::Ping(_) | Frame::Close(None, _) => return None,
    }
    Some(bytes)
}

/// A frame and a message in fragments may both be unfinished, each in a buffer that grew by doubling.
fn check_memory(input: &Input<'_>, limits: &WebSocketLimits) {
    let bound = 6 * limits.message_bytes_max + 4 * PIECE_BYTES_MAX + 2048;
    let peak = peak_bytes(|| {
        let mut reader = FrameReader::new();
        for piece in input.pieces() {
            if reader.receive(piece, limits, |_| {}).is_err() {
                break;
            }
        }
    });
    assert!(peak <= bound, "{peak} bytes held, {bound} are allowed for by {limits:?}");
}
