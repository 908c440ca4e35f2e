//! Engine.IO, protocol revision 4: packets, the handshake, and payloads of long polling, for a server.
//!
//! The output queue of a session always holds WebSocket frames, whichever transport the session has at the moment. A poll is
//! answered with [`payload_from_frames`]; so a session can change its transport without converting its queue.

mod packet;
mod payload;

pub use packet::{EnginePacket, EnginePacketKind, Handshake, NOOP, write_frame, write_message};
pub use payload::{PollPayload, PollPayloadWriter, payload_from_frames};

/// Why bytes are not Engine.IO; the text names the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEnginePacket(pub &'static str);

#[cfg(test)]
mod tests;
