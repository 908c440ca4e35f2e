//! Socket.IO, protocol revision 5, over Engine.IO messages, for a server.
//!
//! The hub's events are text, so a binary attachment is kept in the JSON as `{"$binary":"<base64>"}` in the place of its
//! placeholder, and becomes an attachment again on its way to a client.

mod args;
mod binary;
mod encode;
mod offset;
mod packet;
mod small_object;

pub use args::{Args, EventName, event_of};
pub use binary::{Reassembly, Whole};
pub use encode::{
    PacketTarget, encode_event, write_ack, write_connect, write_connect_error, write_disconnect, write_event,
    write_event_for,
};
pub use offset::{parse_offset, write_offset};
pub use packet::{DataCheck, SocketIoPacket, SocketIoPacketKind};

/// Why bytes are no Socket.IO; the text names the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSocketIoPacket(pub &'static str);

/// What the clients' own `EventEmitter`s emit: nobody may send an event of such a name.
pub(crate) const RESERVED_NAMES: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

#[cfg(test)]
mod tests;
