//! Socket.IO v5 over Engine.IO v4 over WebSocket, as a subscriber speaks it: it connects to a namespace, requests its topic,
//! and receives events. Pure: bytes in, packets and replies out.

use std::sync::Arc;

use super::{
    credential::Credential,
    reader::{Item, Reader},
};
use crate::protocol::websocket::client::write_masked_text;

/// The first bytes of packets: Engine.IO's type, then, in a message, Socket.IO's.
const OPEN: u8 = b'0';
const PING: &[u8] = b"2";
const PONG: &[u8] = b"3";
const CONNECT: &str = "40";
const EVENT: &str = "42";
const REFUSED: &[u8] = b"44";

/// The names that a server uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketIoOptions {
    /// The event that subscribes.
    pub(crate) event: String,
    /// Its arguments: JSON texts with commas between them.
    pub(crate) args: String,
    /// The event that confirms the subscription; if empty, the request is enough.
    pub(crate) confirmation: String,
    /// The namespace, `/` by default.
    pub(crate) namespace: String,
}

impl SocketIoOptions {
    /// The data of the packet that subscribes: a JSON array, if name and arguments are JSON.
    pub(crate) fn subscription(&self) -> String {
        let name = serde_json::Value::from(self.event.as_str());
        if self.args.trim().is_empty() { format!("[{name}]") } else { format!("[{name},{}]", self.args) }
    }
}

/// The packets of a handshake.
#[derive(Debug)]
pub(crate) struct SocketIoSteps {
    connect: Vec<u8>,
    subscribe: Vec<u8>,
    /// Prefixes of the packets that confirm each.
    connected: Vec<u8>,
    subscribed: Vec<u8>,
    /// Prefixes of an event's packet, and of an error's.
    event: Vec<u8>,
    error: Vec<u8>,
}

/// What a server sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerPacket<'a> {
    /// The subscription is confirmed: events follow.
    Subscribed,
    /// An event behind its packet's type: its namespace, unless that is `/`, and a JSON array of its name and arguments.
    Event(&'a [u8]),
    /// An event before the subscription is confirmed, as a whole packet. Some servers send one to every client that connects.
    Early(&'a [u8]),
}

/// The handshake of one connection: upgraded, connected to the namespace, subscribed.
#[derive(Debug)]
pub(crate) struct SocketIoHandshake {
    reader: Reader,
    steps: Arc<SocketIoSteps>,
    is_subscribed: bool,
}

/// A connection whose subscription is confirmed.
#[derive(Debug)]
pub(crate) struct SocketIoReader {
    reader: Reader,
}

impl SocketIoSteps {
    /// With the secret of `credential` as the token.
    pub(crate) fn new(options: &SocketIoOptions, credential: Option<&Credential>) -> Self {
        let credentials = credential.map(|it| serde_json::json!({ "token": it.secret().expose() }).to_string());
        let namespace = if options.namespace == "/" { String::new() } else { format!("{},", options.namespace) };
        let subscription = options.subscription();
        let confirmation = serde_json::Value::from(options.confirmation.as_str());
        Self {
            connect: format!("{CONNECT}{namespace}{}", credentials.unwrap_or_default()).into_bytes(),
            subscribe: format!("{EVENT}{namespace}{subscription}").into_bytes(),
            connected: format!("{CONNECT}{namespace}").into_bytes(),
            subscribed: match options.confirmation.as_str() {
                "" => Vec::new(),
                _ => format!("{EVENT}{namespace}[{confirmation}").into_bytes(),
            },
            event: format!("{EVENT}{namespace}").into_bytes(),
            error: format!(r#"{EVENT}{namespace}["error""#).into_bytes(),
        }
    }

    /// Takes a packet of the handshake. True if the subscription is confirmed with it.
    fn advance(
        &self,
        packet: &[u8],
        reply: &mut Vec<u8>,
        on: &mut impl FnMut(ServerPacket<'_>),
    ) -> Result<bool, String> {
        let mut is_subscribed = false;
        if packet.first() == Some(&OPEN) {
            write_text(&self.connect, reply);
        } else if packet.starts_with(&self.connected) {
            write_text(&self.subscribe, reply);
            is_subscribed = self.subscribed.is_empty();
        } else if packet == PING {
            write_text(PONG, reply);
        } else if !self.subscribed.is_empty() && packet.starts_with(&self.subscribed) {
            is_subscribed = true;
        } else if packet.starts_with(REFUSED) || packet.starts_with(&self.error) || !packet.starts_with(&self.event) {
            return Err(unexpected(packet));
        } else {
            on(ServerPacket::Early(packet));
        }
        if is_subscribed {
            on(ServerPacket::Subscribed);
        }
        Ok(is_subscribed)
    }
}

impl SocketIoHandshake {
    /// Before the upgrade is granted.
    pub(crate) fn new(steps: Arc<SocketIoSteps>) -> Self {
        Self { reader: Reader::websocket(), steps, is_subscribed: false }
    }

    /// Takes what the server sent; returns the reader of all that follows once the subscription is confirmed.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on: &mut impl FnMut(ServerPacket<'_>),
    ) -> Result<Option<SocketIoReader>, String> {
        let Self { reader, steps, is_subscribed } = self;
        reader.receive(bytes, reply, &mut |item, reply| match item.payload()? {
            None => Ok(()),
            Some(packet) if *is_subscribed => take_packet(packet, reply, on),
            Some(packet) => {
                *is_subscribed = steps.advance(packet, reply, on)?;
                Ok(())
            }
        })?;
        Ok(is_subscribed.then(|| SocketIoReader { reader: std::mem::replace(reader, Reader::websocket()) }))
    }
}

impl SocketIoReader {
    /// Takes what the server sent.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on: &mut impl FnMut(ServerPacket<'_>),
    ) -> Result<(), String> {
        self.reader.receive(bytes, reply, &mut |item: Item<'_>, reply| match item.payload()? {
            Some(packet) => take_packet(packet, reply, on),
            None => Ok(()),
        })
    }
}

#[inline]
fn take_packet(packet: &[u8], reply: &mut Vec<u8>, on: &mut impl FnMut(ServerPacket<'_>)) -> Result<(), String> {
    if let Some(event) = packet.strip_prefix(EVENT.as_bytes()) {
        on(ServerPacket::Event(event));
        return Ok(());
    }
    if packet == PING {
        write_text(PONG, reply);
        return Ok(());
    }
    Err(unexpected(packet))
}

/// A message under a mask of its own.
fn write_text(payload: &[u8], reply: &mut Vec<u8>) {
    //= RFC 6455 section 5.3: "the client MUST pick a fresh masking key from the set of allowed 32-bit values."
    write_masked_text(payload, rand::random(), reply);
}

fn unexpected(packet: &[u8]) -> String {
    format!("the server sent the packet {}", String::from_utf8_lossy(packet))
}
