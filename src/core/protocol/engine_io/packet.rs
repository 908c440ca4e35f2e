//! Packets: a digit for the kind, then the data. On WebSocket each packet is a message of its own.

use std::borrow::Cow;

use crate::protocol::websocket;

use super::BadEnginePacket;

/// The packet that ends a poll without a message, as text.
pub const NOOP: &str = "6";

/// The kind of a packet: the digit it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnginePacketKind {
    /// The handshake, from the server.
    Open = 0,
    /// The transport is to be closed.
    Close = 1,
    /// Sent by the server every ping interval; by a client only as the probe of a new transport.
    Ping = 2,
    /// The answer to a ping, with the same data.
    Pong = 3,
    /// A message of the application.
    Message = 4,
    /// The client has changed to this transport.
    Upgrade = 5,
    /// Nothing: it ends a poll.
    Noop = 6,
}

/// One packet, borrowed from what arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnginePacket<'a> {
    /// Any packet but a binary message: its kind and its data.
    Text(EnginePacketKind, &'a str),
    /// A message of bytes. On WebSocket it is a binary message without a digit; in a payload it comes as base64.
    Binary(Cow<'a, [u8]>),
}

impl<'a> EnginePacket<'a> {
    /// The packet in a text message, or in a payload between separators if it does not begin with `b`.
    pub fn parse(text: &'a str) -> Result<Self, BadEnginePacket> {
        let digit = text.as_bytes().first().ok_or(BadEnginePacket("a packet begins with its type"))?;
        let kind = EnginePacketKind::of(*digit).ok_or(BadEnginePacket("a packet's type is a digit from 0 to 6"))?;
        let data = &text[1..];
        match kind {
            EnginePacketKind::Close | EnginePacketKind::Upgrade | EnginePacketKind::Noop if !data.is_empty() => {
                Err(BadEnginePacket("close, upgrade and noop packets have no data"))
            }
            _ => Ok(Self::Text(kind, data)),
        }
    }
}

impl EnginePacketKind {
    fn of(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Open,
            b'1' => Self::Close,
            b'2' => Self::Ping,
            b'3' => Self::Pong,
            b'4' => Self::Message,
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            _ => return None,
        })
    }

    pub fn digit(self) -> u8 {
        b'0' + self as u8
    }
}

/// Appends the packet of `kind` with `data` as a WebSocket frame.
pub fn write_frame(kind: EnginePacketKind, data: &str, out: &mut Vec<u8>) {
    websocket::write_text(&[&[kind.digit()], data.as_bytes()], out);
}

/// Appends the text message that consists of `parts`, each of them UTF-8, as a WebSocket frame. A binary message is
/// the frame that [`websocket::write_binary`] writes.
pub fn write_message(parts: &[&[u8]], out: &mut Vec<u8>) {
    const DIGIT: &[u8] = b"4";
    match parts {
        [one] => websocket::write_text(&[DIGIT, one], out),
        [one, two] => websocket::write_text(&[DIGIT, one, two], out),
        more => websocket::write_text(&[&[DIGIT], more].concat(), out),
    }
}

/// The data of the open packet, the first of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The session's id. It consists of the URL's unreserved characters, and is therefore written without escapes.
    pub sid: &'a str,
    /// Whether the client may upgrade to WebSocket: false if it uses WebSocket already.
    pub upgrade_to_websocket: bool,
    /// How often the server pings.
    pub ping_interval_ms: u64,
    /// How long after a ping the pong may take.
    pub ping_timeout_ms: u64,
    /// The most bytes in one payload or message from the client.
    pub payload_bytes_max: usize,
}

impl Handshake<'_> {
    /// Appends the open packet as a WebSocket frame.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        //= Engine.IO 4 section Handshake: "If the server accepts the connection, then it MUST respond with an `open`
        //=   packet with the following JSON-encoded payload"
        write_frame(EnginePacketKind::Open, &self.json(), out);
    }

    fn json(&self) -> String {
        let Self { sid, ping_interval_ms, ping_timeout_ms, payload_bytes_max, .. } = self;
        let upgrades = if self.upgrade_to_websocket { "\"websocket\"" } else { "" };
        format!(
            "{{\"sid\":\"{sid}\",\"upgrades\":[{upgrades}],\"pingInterval\":{ping_interval_ms},\
             \"pingTimeout\":{ping_timeout_ms},\"maxPayload\":{payload_bytes_max}}}"
        )
    }
}
