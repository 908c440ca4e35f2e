//! Engine.IO, protocol revision 4: packets, the handshake, and payloads of long polling. The server's half.
//!
//! What waits for a session is always kept as WebSocket frames, whichever transport it has at the moment; a poll is
//! answered with [`payload_from_frames`], so that a session can change its transport with nothing to convert.

mod packet;
mod payload;

pub use packet::{Handshake, NOOP, Packet, PacketKind, write_frame, write_message};
pub use payload::{PollPayload, PollPayloadWriter, payload_from_frames};

/// Why bytes are no Engine.IO; the text names the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPacket(pub &'static str);

#[cfg(test)]
mod tests;
