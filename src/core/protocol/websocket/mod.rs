//! WebSocket (RFC 6455), server and client halves: the handshake, the frame codec, the server's session, the client's frame reader.
//!
//! An event's frame is encoded once ([`encode_text`]) and shared by every connection, since a server does not mask. What
//! arrives is checked against every rule of the standard before anything is kept for it.

pub mod client;
mod dialect;
mod frame;
mod handshake;
mod mask;
mod progress;
mod session;
mod stream;
mod utf8;

pub use dialect::Dialect;
pub(in crate::protocol) use dialect::Subprotocol;
pub(crate) use frame::write_text;
pub use frame::{
    EncodedFrame, EncodedKind, PING, encode_binary, encode_text, write_binary, write_close, write_end, write_message,
    write_pong,
};
pub use handshake::{Accepted, Refusal, accept, write_accept};
pub use session::{Message, ServerSession};
pub(in crate::protocol) use stream::write_last;
pub use stream::{WebSocketOpening, WebSocketSession};

#[cfg(test)]
mod tests;

/// What a peer may send, and how much is written on its behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// The most payload bytes in one message, all its fragments together; over it 1009.
    pub message_bytes_max: usize,
    /// The most frames one message may be cut into; over it 1009. Empty fragments would otherwise cost a peer nothing.
    pub fragments_max: u32,
    /// Pings go unanswered while more than this is yet to be written to the peer, pong included. The standard asks for
    /// an answer to the latest ping only (RFC 6455 section 5.5.3).
    pub pong_bytes_max: usize,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self { message_bytes_max: 64 * 1024, fragments_max: 1024, pong_bytes_max: 4 * 1024 }
    }
}
