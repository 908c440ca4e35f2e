//! Socket.IO v5 over Engine.IO v4 over WebSocket, as a subscriber speaks it: it connects to a namespace, requests its topic,
//! and receives events.

use std::sync::Arc;

use super::{
    payload::Stamp,
    topics::fill,
    wire_event::{MASK, WireEvent, payload_of},
};
use crate::{
    client::{Credential, Reader},
    protocol::websocket::client::write_masked_text,
    topic::Topic,
};

/// The first bytes of packets: Engine.IO's type, then, in a message, Socket.IO's.
const OPEN: u8 = b'0';
const PING: &[u8] = b"2";
const PONG: &[u8] = b"3";
const CONNECT: &str = "40";
const EVENT: &str = "42";
const REFUSED: &[u8] = b"44";

/// The names that a server uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketIoOptions {
    /// The event that subscribes.
    pub event: String,
    /// Its arguments: JSON texts with commas between them, with `{topic}`.
    pub args: String,
    /// The event that confirms the subscription; if empty, the request is enough.
    pub confirmation: String,
    /// The namespace, `/` by default.
    pub namespace: String,
}

/// The packets of the handshake for one topic.
#[derive(Debug)]
pub(super) struct SocketIoSteps {
    connect: Vec<u8>,
    subscribe: Vec<u8>,
    /// Prefixes of the packets that confirm each.
    connected: Vec<u8>,
    subscribed: Vec<u8>,
    /// Prefixes of an event's packet, and of an error's.
    event: Vec<u8>,
    error: Vec<u8>,
}

/// A connection on its way to its topic: upgraded, connected to the namespace, subscribed.
#[derive(Debug)]
pub(super) struct SocketIoHandshake {
    reader: Reader,
    steps: Arc<SocketIoSteps>,
    /// Whether the subscription was confirmed: events follow.
    is_subscribed: bool,
}

impl SocketIoOptions {
    /// Fails unless name and arguments form a packet.
    pub(super) fn check(&self) -> Result<(), String> {
        let packet = self.subscription(&fill(&self.args, &Topic::parse("a").map_err(|bad| bad.to_string())?));
        let array: Result<Vec<serde_json::Value>, _> = serde_json::from_str(&packet);
        array.map_err(|error| format!("--socketio-args: {packet} is no event of Socket.IO: {error}"))?;
        if !self.namespace.starts_with('/') || self.namespace.contains(',') {
            return Err(format!("--socketio-namespace {}: it begins with / and has no comma", self.namespace));
        }
        Ok(())
    }

    fn subscription(&self, args: &str) -> String {
        let name = serde_json::Value::from(self.event.as_str());
        if args.trim().is_empty() { format!("[{name}]") } else { format!("[{name},{args}]") }
    }
}

impl SocketIoSteps {
    /// For `topic`, with the token of `credential`.
    pub(super) fn new(options: &SocketIoOptions, credential: Option<&Credential>, topic: &Topic) -> Self {
        let credentials = credential.map(|it| serde_json::json!({ "token": it.secret().expose() }).to_string());
        let namespace = if options.namespace == "/" { String::new() } else { format!("{},", options.namespace) };
        let subscription = options.subscription(&fill(&options.args, topic));
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
}

impl SocketIoHandshake {
    pub(super) fn new(steps: Arc<SocketIoSteps>) -> Self {
        Self { reader: Reader::websocket(), steps, is_subscribed: false }
    }

    /// Takes what the server sent; returns the reader of all that follows once the subscription is confirmed.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on_event: &mut impl FnMut(WireEvent<'_>),
    ) -> Result<Option<Reader>, String> {
        let Self { reader, steps, is_subscribed } = self;
        reader.receive(bytes, reply, &mut |item, reply| match payload_of(&item)? {
            None => Ok(()),
            Some(packet) if *is_subscribed => take_packet(packet, reply, on_event),
            Some(packet) => {
                *is_subscribed = steps.advance(packet, reply, on_event)?;
                Ok(())
            }
        })?;
        Ok(is_subscribed.then(|| std::mem::replace(reader, Reader::websocket())))
    }
}

impl SocketIoSteps {
    /// Takes a packet of the handshake. True if the subscription is confirmed with it.
    fn advance(
        &self,
        packet: &[u8],
        reply: &mut Vec<u8>,
        on_event: &mut impl FnMut(WireEvent<'_>),
    ) -> Result<bool, String> {
        let mut is_subscribed = false;
        if packet.first() == Some(&OPEN) {
            write_masked_text(&self.connect, MASK, reply);
        } else if packet.starts_with(&self.connected) {
            write_masked_text(&self.subscribe, MASK, reply);
            is_subscribed = self.subscribed.is_empty();
        } else if packet == PING {
            write_masked_text(PONG, MASK, reply);
        } else if !self.subscribed.is_empty() && packet.starts_with(&self.subscribed) {
            is_subscribed = true;
        } else if packet.starts_with(REFUSED) || packet.starts_with(&self.error) || !packet.starts_with(&self.event) {
            return Err(unexpected(packet));
        } else {
            // What a server sends to every client that connects.
            on_event(WireEvent::Other(packet));
        }
        if is_subscribed {
            on_event(WireEvent::Opened);
        }
        Ok(is_subscribed)
    }
}

/// Takes what the server sent over a connection whose subscription is confirmed.
pub(super) fn receive_packets(
    reader: &mut Reader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<(), String> {
    reader.receive(bytes, reply, &mut |item, reply| match payload_of(&item)? {
        Some(packet) => take_packet(packet, reply, on_event),
        None => Ok(()),
    })
}

#[inline]
fn take_packet(packet: &[u8], reply: &mut Vec<u8>, on_event: &mut impl FnMut(WireEvent<'_>)) -> Result<(), String> {
    if let Some(event) = packet.strip_prefix(EVENT.as_bytes()) {
        // The payload is the event's argument: it stands behind the first comma, and the stamp at its beginning. Anything
        // else is told with its name, by which it may be ignored; a stamp further inside is looked for.
        let argument_start = memchr::memchr(b',', event).map_or(0, |comma| comma + 1);
        let argument = &event[argument_start..];
        on_event(WireEvent::Message(if Stamp::is_first(argument) { argument } else { event }));
        return Ok(());
    }
    if packet == PING {
        write_masked_text(PONG, MASK, reply);
        return Ok(());
    }
    Err(unexpected(packet))
}

fn unexpected(packet: &[u8]) -> String {
    format!("the server sent the packet {}", String::from_utf8_lossy(packet))
}
