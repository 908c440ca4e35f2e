//! The protocol of a subscriber: its request, the response, and the messages that follow.

use std::{borrow::Cow, sync::Arc};

use memchr::memmem;

use super::{
    payload::Stamp,
    plan::{Load, Plan},
    script::{Script, ScriptRun},
    topics::fill,
    transport::Transport,
    wire_event::WireEvent,
};
use crate::{
    client::{
        Credential, Item, Reader, ServerPacket, SocketIoHandshake, SocketIoOptions, SocketIoReader, SocketIoSteps,
    },
    protocol::{
        http::{self, ResponsePart, ResponseReader},
        websocket::client::encode_key,
    },
    topic::Topic,
};

/// The request and the dialect of the subscribers of one topic.
#[derive(Debug)]
pub(super) struct ClientProfile {
    pub request: Vec<u8>,
    dialect: Dialect,
}

#[derive(Debug)]
enum Dialect {
    Sse,
    WebSocket,
    Script(Arc<Script>),
    SocketIo(Arc<SocketIoSteps>),
}

/// The reading side of one connection.
#[derive(Debug)]
pub(super) enum Wire {
    /// Server-Sent Events, or WebSocket messages: each is a payload, or an envelope with one in it.
    Messages(Reader),
    /// WebSocket with a script.
    Script(Box<ScriptRun>),
    /// Socket.IO, the subscription yet to be confirmed.
    SocketIoHandshake(Box<SocketIoHandshake>),
    /// Socket.IO, subscribed.
    SocketIo(SocketIoReader),
    /// A request with one answer, and no subscription.
    OneAnswer(Box<ResponseReader>),
}

/// The `Sec-WebSocket-Key` in a profile's request. Each connection has another ([`with_fresh_key`]).
const KEY: &str = "ZmFuZmFyZS1iZW5jaC0wMQ==";

/// A profile's request for one connection. The load does not check what a server makes of the key.
pub(super) fn with_fresh_key(request: &[u8]) -> Cow<'_, [u8]> {
    let Some(at) = memmem::find(request, KEY.as_bytes()) else { return Cow::Borrowed(request) };
    let mut request = request.to_vec();
    //= RFC 6455 section 4.1: "The nonce MUST be selected randomly for each connection."
    request[at..][..KEY.len()].copy_from_slice(encode_key(rand::random()).as_bytes());
    Cow::Owned(request)
}

impl Wire {
    /// For a request that is no subscription.
    pub(super) fn one_answer() -> Self {
        Self::OneAnswer(Box::new(ResponseReader::new()))
    }

    /// The id of the last event; empty unless the connection is a stream of Server-Sent Events.
    pub(super) fn last_event_id(&self) -> &[u8] {
        match self {
            Self::Messages(reader) => reader.last_event_id(),
            _ => b"",
        }
    }

    /// Takes what the server sent. What must be sent back at once is appended to `reply`.
    #[inline]
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on_event: &mut impl FnMut(WireEvent<'_>),
    ) -> Result<(), String> {
        match self {
            Self::Messages(reader) => receive_messages(reader, bytes, reply, on_event),
            Self::SocketIo(reader) => reader.receive(bytes, reply, &mut |packet| on_event(event_of(packet))),
            Self::Script(run) => run.receive(bytes, reply, on_event),
            Self::SocketIoHandshake(handshake) => {
                if let Some(reader) = handshake.receive(bytes, reply, &mut |packet| on_event(event_of(packet)))? {
                    *self = Self::SocketIo(reader);
                }
                Ok(())
            }
            Self::OneAnswer(reader) => receive_answer(reader, bytes, on_event),
        }
    }
}

impl ClientProfile {
    /// The profiles of a load's topics, in their order.
    pub(super) fn of_load(plan: &Plan, load: &Load) -> Vec<Self> {
        load.topic.iter().map(|topic| Self::new(plan, load, topic)).collect()
    }

    fn new(plan: &Plan, load: &Load, topic: &Topic) -> Self {
        let dialect = match (load.transport, &plan.script) {
            (Transport::Sse, _) => Dialect::Sse,
            (Transport::SocketIo, _) => {
                let options = SocketIoOptions { args: fill(&plan.socket_io.args, topic), ..plan.socket_io.clone() };
                Dialect::SocketIo(Arc::new(SocketIoSteps::new(&options, load.credential().as_ref())))
            }
            (Transport::Ws | Transport::FanfareV1, script) if script.is_empty() => Dialect::WebSocket,
            (Transport::Ws | Transport::FanfareV1, script) => Dialect::Script(Arc::new(script.for_topic(topic))),
        };
        Self { request: write_request(plan, load, topic, &[]), dialect }
    }

    /// The reading side of a new connection.
    pub(super) fn wire(&self) -> Wire {
        match &self.dialect {
            Dialect::Sse => Wire::Messages(Reader::sse()),
            Dialect::WebSocket => Wire::Messages(Reader::websocket()),
            Dialect::Script(script) => Wire::Script(Box::new(ScriptRun::new(Arc::clone(script)))),
            Dialect::SocketIo(steps) => Wire::SocketIoHandshake(Box::new(SocketIoHandshake::new(Arc::clone(steps)))),
        }
    }
}

/// The request of a subscriber that resumes the load's first topic behind this event.
pub(super) fn request_after(plan: &Plan, load: &Load, last_event_id: &str) -> Vec<u8> {
    write_request(plan, load, load.topic.of(0), &[("Last-Event-ID", last_event_id)])
}

fn write_request(plan: &Plan, load: &Load, topic: &Topic, more: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut headers: Vec<(&str, &str)> = Vec::new();
    let credential = load.credential().as_ref().map(Credential::header);
    match load.transport {
        Transport::Sse => headers.push(("Accept", "text/event-stream")),
        Transport::Ws | Transport::FanfareV1 | Transport::SocketIo => headers.extend([
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ]),
    }
    if load.transport == Transport::FanfareV1 {
        headers.push(("Sec-WebSocket-Protocol", "fanfare.v1"));
    }
    // Socket.IO sends the token in its CONNECT packet.
    if let Some((name, value)) = &credential
        && load.transport != Transport::SocketIo
    {
        headers.push((name, value.expose()));
    }
    headers.extend(load.headers.iter().map(|(name, value)| (&**name, &**value)));
    headers.extend_from_slice(more);
    http::write_request(http::Method::Get, &plan.target.host, &fill(&load.path, topic), &headers, b"", &mut out);
    out
}

#[inline]
fn receive_messages(
    reader: &mut Reader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<(), String> {
    reader.receive(bytes, reply, &mut |item, _| {
        match item.payload()? {
            Some(payload) => on_event(WireEvent::Message(payload)),
            None if matches!(item, Item::Granted(_)) => on_event(WireEvent::Opened),
            None => {}
        }
        Ok(())
    })
}

/// The payload of an event is its argument: it stands behind the first comma, and begins with the stamp. An event without a
/// stamp there is kept whole, as its name may say that it is to be ignored, and as a stamp may follow further inside.
#[inline]
fn event_of(packet: ServerPacket<'_>) -> WireEvent<'_> {
    match packet {
        ServerPacket::Subscribed => WireEvent::Opened,
        ServerPacket::Early(packet) => WireEvent::Other(packet),
        ServerPacket::Event(event) => {
            let argument_start = memchr::memchr(b',', event).map_or(0, |comma| comma + 1);
            let argument = &event[argument_start..];
            WireEvent::Message(if Stamp::is_first(argument) { argument } else { event })
        }
    }
}

fn receive_answer(
    reader: &mut ResponseReader,
    bytes: &[u8],
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<(), String> {
    let received = reader.receive(bytes, |part| {
        if let ResponsePart::Head(head) = part {
            on_event(WireEvent::Response(head.status));
        }
    });
    received.map_err(|close| close.to_string())
}
