//! What a subscriber speaks: the request, the answer to it, and the messages that follow.

use std::sync::Arc;

use super::{
    options::Transport,
    plan::{Load, Plan},
    post::fill,
    script::{Script, ScriptRun},
    socket_io::{self, SocketIoHandshake},
};
use crate::{
    client::Credential, close::Close, protocol::http, protocol::http::ResponseHead, protocol::http::ResponsePart,
    protocol::http::ResponseReader, protocol::sse, protocol::websocket, protocol::websocket::client::FrameReader,
    protocol::websocket::client::ServerFrame, topic::Topic,
};

/// How the subscribers of one topic come: what they ask for, and what they speak then.
#[derive(Debug)]
pub(super) struct ClientProfile {
    /// The same for all of them.
    pub request: Vec<u8>,
    dialect: Dialect,
}

#[derive(Debug)]
enum Dialect {
    Stream,
    Messages,
    Script(Arc<Script>),
    SocketIo(Arc<socket_io::SocketIoSteps>),
}

/// One connection's reading side.
#[derive(Debug)]
pub(super) enum Wire {
    /// Server-Sent Events: HTTP's framing around the stream's.
    Sse(Box<(ResponseReader, sse::Decoder)>),
    /// WebSocket, the answer to the upgrade yet to come.
    Upgrade(Box<ResponseReader>),
    /// WebSocket, open.
    Frames(FrameReader),
    /// WebSocket with a script, the answer to the upgrade yet to come.
    ScriptHandshake(Box<(ResponseReader, ScriptRun)>),
    /// WebSocket with a script, upgraded.
    Scripted(Box<ScriptRun>),
    /// Socket.IO, the subscription yet to be confirmed.
    SocketIoHandshake(Box<SocketIoHandshake>),
    /// Socket.IO, subscribed.
    Packets(FrameReader),
    /// A request with one answer, and no subscription.
    OneAnswer(Box<ResponseReader>),
}

/// What a server's bytes mean to a subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) enum WireEvent<'a> {
    /// The request is granted, and the subscriber subscribed.
    Opened,
    /// A message: a payload, or an envelope with one in it.
    Message(&'a [u8]),
    /// Something that carries no event, while the subscriber waits for something else to be subscribed.
    Other(&'a [u8]),
    /// It waits for a message that contains this.
    Awaiting(&'a str),
    /// The status of [`Wire::one_answer`]'s answer.
    Response(u16),
}

/// The mask and key of every client: they protect from proxies that do not stand between the bench and its server.
pub(super) const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const KEY: &str = "ZmFuZmFyZS1iZW5jaC0wMQ==";

/// What one message may have: more than any hub sends here.
const FRAME_LIMITS: websocket::WebSocketLimits =
    websocket::WebSocketLimits { message_bytes_max: 16 << 20, fragments_max: 1024, pong_bytes_max: 125 };

impl Wire {
    /// For a request that is no subscription.
    pub(super) fn one_answer() -> Self {
        Self::OneAnswer(Box::new(ResponseReader::new()))
    }

    /// The id of the last event; empty unless it speaks Server-Sent Events.
    pub(super) fn last_event_id(&self) -> &[u8] {
        match self {
            Self::Sse(stream) => stream.1.last_event_id(),
            _ => b"",
        }
    }

    /// Takes what the server sent. What it must be told at once is appended to `reply`.
    #[inline]
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on_event: &mut impl FnMut(WireEvent<'_>),
    ) -> Result<(), String> {
        match self {
            Self::Frames(frames) => receive_frames(frames, bytes, reply, on_event),
            Self::Packets(frames) => socket_io::receive_packets(frames, bytes, reply, on_event),
            Self::Sse(stream) => receive_stream(stream, bytes, on_event),
            Self::Scripted(run) => run.receive(bytes, reply, on_event),
            Self::Upgrade(reader) => {
                if let Some(frames) = receive_upgrade(reader, bytes, reply, on_event)? {
                    *self = Self::Frames(frames);
                }
                Ok(())
            }
            Self::ScriptHandshake(handshake) => {
                if let Some(run) = receive_script_upgrade(handshake, bytes, reply, on_event)? {
                    *self = Self::Scripted(Box::new(run));
                }
                Ok(())
            }
            Self::SocketIoHandshake(handshake) => {
                if let Some(frames) = handshake.receive(bytes, reply, on_event)? {
                    *self = Self::Packets(frames);
                }
                Ok(())
            }
            Self::OneAnswer(reader) => receive_answer(reader, bytes, on_event),
        }
    }
}

impl ClientProfile {
    /// Of a load's subscribers: the topics' manners, in their order.
    pub(super) fn of_load(plan: &Plan, load: &Load) -> Vec<Self> {
        load.topic.iter().map(|topic| Self::new(plan, load, topic)).collect()
    }

    fn new(plan: &Plan, load: &Load, topic: &Topic) -> Self {
        let dialect = match (load.transport, &plan.script) {
            (Transport::Sse, _) => Dialect::Stream,
            (Transport::SocketIo, _) => {
                Dialect::SocketIo(Arc::new(socket_io::SocketIoSteps::new(&plan.room, load, topic)))
            }
            (Transport::Ws | Transport::FanfareV1, script) if script.is_empty() => Dialect::Messages,
            (Transport::Ws | Transport::FanfareV1, script) => Dialect::Script(Arc::new(script.for_topic(topic))),
        };
        Self { request: write_request(plan, load, topic, &[]), dialect }
    }

    /// The reading side of one of them.
    pub(super) fn wire(&self) -> Wire {
        match &self.dialect {
            Dialect::Stream => Wire::Sse(Box::new((ResponseReader::new(), sse::Decoder::new()))),
            Dialect::Messages => Wire::Upgrade(Box::new(ResponseReader::new())),
            Dialect::Script(script) => {
                Wire::ScriptHandshake(Box::new((ResponseReader::new(), ScriptRun::new(Arc::clone(script)))))
            }
            Dialect::SocketIo(steps) => Wire::SocketIoHandshake(Box::new(SocketIoHandshake::new(Arc::clone(steps)))),
        }
    }
}

/// The request of one that comes back to the load's first topic, having seen the event of this id last.
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
    // Socket.IO's travels in its own packet.
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

fn receive_stream(
    (reader, decoder): &mut (ResponseReader, sse::Decoder),
    bytes: &[u8],
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<(), String> {
    let mut outcome = Ok(());
    let received = reader.receive(bytes, |part| match part {
        ResponsePart::Head(head) if head.status == 200 && head.is_event_stream() => on_event(WireEvent::Opened),
        ResponsePart::Head(head) => outcome = Err(refused(&head)),
        ResponsePart::Body(body) => {
            // The decoder's only error is an event over its limit, and a refusal's body is no stream.
            let _ = decoder.receive(body, |message| on_event(WireEvent::Message(message.data)));
        }
        ResponsePart::End if outcome.is_ok() => outcome = Err("the server ended the stream".to_owned()),
        ResponsePart::End => {}
    });
    received.map_err(|close| close.to_string()).and(outcome)
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

/// Some frames once the upgrade is granted; they may have come right behind it.
fn receive_upgrade(
    reader: &mut ResponseReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<Option<FrameReader>, String> {
    let mut frames = None;
    let mut outcome = Ok(());
    let received = reader.receive(bytes, |part| match part {
        ResponsePart::Head(head) if head.status == 101 => {
            on_event(WireEvent::Opened);
            frames = Some(FrameReader::new());
        }
        ResponsePart::Head(head) => outcome = Err(refused(&head)),
        ResponsePart::Body(body) => {
            if let (Some(frames), Ok(())) = (&mut frames, &outcome) {
                outcome = receive_frames(frames, body, reply, on_event);
            }
        }
        ResponsePart::End => {}
    });
    received.map_err(|close| close.to_string()).and(outcome)?;
    Ok(frames)
}

/// The recital once the upgrade is granted.
fn receive_script_upgrade(
    (reader, run): &mut (ResponseReader, ScriptRun),
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<Option<ScriptRun>, String> {
    let mut is_granted = false;
    let mut outcome = Ok(());
    let received = reader.receive(bytes, |part| match part {
        ResponsePart::Head(head) if head.status == 101 => {
            is_granted = true;
            run.begin(reply, on_event);
        }
        ResponsePart::Head(head) => outcome = Err(refused(&head)),
        ResponsePart::Body(body) if is_granted && outcome.is_ok() => outcome = run.receive(body, reply, on_event),
        ResponsePart::Body(_) | ResponsePart::End => {}
    });
    received.map_err(|close| close.to_string()).and(outcome)?;
    Ok(is_granted.then(|| std::mem::take(run)))
}

fn receive_frames(
    frames: &mut FrameReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on_event: &mut impl FnMut(WireEvent<'_>),
) -> Result<(), String> {
    each_text(frames, bytes, reply, &mut |payload, _| {
        on_event(WireEvent::Message(payload));
        Ok(())
    })
}

/// Calls `each` with every message, answers pings, and tells why the server closed, if it did.
#[inline]
pub(super) fn each_text(
    frames: &mut FrameReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    let mut outcome = Ok(());
    let received = frames.receive(bytes, &FRAME_LIMITS, |frame| match frame {
        ServerFrame::Text(payload) | ServerFrame::Binary(payload) if outcome.is_ok() => outcome = each(payload, reply),
        ServerFrame::Ping(payload) => websocket::client::write_masked_pong(payload, MASK, reply),
        ServerFrame::Close { code, reason } => outcome = Err(format!("the server closed: {code:?} {reason}")),
        ServerFrame::Text(_) | ServerFrame::Binary(_) | ServerFrame::Pong(_) => {}
    });
    received.map_err(|close: Close| close.to_string()).and(outcome)
}

/// What an answer that is no welcome means.
pub(super) fn refused(head: &ResponseHead<'_>) -> String {
    format!("the server answered {}", head.status)
}
