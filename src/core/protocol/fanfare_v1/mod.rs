//! `fanfare.v1`: the WebSocket subprotocol of JSON envelopes and commands, one object a text message. Both halves.
//!
//! Payloads, and the `ref` by which a client tells answers apart, are passed through as the JSON text they came as, never
//! parsed into a tree and written anew.

pub mod client;
mod command;
mod dialect;
mod encode;

pub use command::{BadCommand, Command, Reference, code};
pub(in crate::protocol) use dialect::FanfareV1;
pub use encode::{
    encode_event, write_authenticated, write_error, write_event, write_gap, write_pong, write_published, write_refused,
    write_stats, write_subscribed, write_unsubscribed,
};

/// What goes into `Sec-WebSocket-Protocol`.
pub const SUBPROTOCOL: &str = "fanfare.v1";

/// Text borrowed from the message, unless it has escapes. serde borrows a `Cow` only where it stands alone, not within
/// an `Option`; hence a type of its own.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[cfg(test)]
mod tests;
