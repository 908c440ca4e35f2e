//! What a subscriber speaks: the request, the answer to it, and the messages that follow.

use std::sync::Arc;

use super::{
    options::Transport,
    packets::{self, Entrance},
    plan::{Load, Plan},
    post::fill,
    script::{Recital, Script},
};
use crate::{
    access::Credential,
    close::Close,
    protocol::{
        http::{self, ResponseHead, ResponsePart, ResponseReader},
        sse,
        websocket::{
            self,
            client::{FrameReader, ServerFrame},
        },
    },
    topic::Topic,
};

/// How the subscribers of one topic come: what they ask for, and what they speak then.
#[derive(Debug)]
pub(super) struct Manner {
    /// The same for all of them.
    pub request: Vec<u8>,
    speech: Speech,
}

#[derive(Debug)]
enum Speech {
    Stream,
    Messages,
    Script(Arc<Script>),
    Room(Arc<packets::Steps>),
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
    Prologue(Box<(ResponseReader, Recital)>),
    /// WebSocket with a script, upgraded.
    Scripted(Box<Recital>),
    /// Socket.IO, the subscription yet to be confirmed.
    Entrance(Box<Entrance>),
    /// Socket.IO, subscribed.
    Packets(FrameReader),
    /// A request with one answer, and no subscription.
    OneAnswer(Box<ResponseReader>),
}

/// What a server's bytes mean to a subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard<'a> {
    /// The request is granted, and the subscriber subscribed.
    Open,
    /// A message: a payload, or an envelope with one in it.
    Message(&'a [u8]),
    /// Something that carries no event, while the subscriber waits for something else to be subscribed.
    Aside(&'a [u8]),
    /// It waits for a message that contains this.
    Awaiting(&'a str),
    /// The status of [`Wire::one_answer`]'s answer.
    Answer(u16),
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
        heed: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), String> {
        match self {
            Self::Frames(frames) => receive_frames(frames, bytes, reply, heed),
            Self::Packets(frames) => packets::receive_packets(frames, bytes, reply, heed),
            Self::Sse(stream) => receive_stream(stream, bytes, heed),
            Self::Scripted(recital) => recital.receive(bytes, reply, heed),
            Self::Upgrade(reader) => {
                if let Some(frames) = receive_upgrade(reader, bytes, reply, heed)? {
                    *self = Self::Frames(frames);
                }
                Ok(())
            }
            Self::Prologue(prologue) => {
                if let Some(recital) = receive_prologue(prologue, bytes, reply, heed)? {
                    *self = Self::Scripted(Box::new(recital));
                }
                Ok(())
            }
            Self::Entrance(entrance) => {
                if let Some(frames) = entrance.receive(bytes, reply, heed)? {
                    *self = Self::Packets(frames);
                }
                Ok(())
            }
            Self::OneAnswer(reader) => receive_answer(reader, bytes, heed),
        }
    }
}

impl Manner {
    /// Of a load's subscribers: the topics' manners, in their order.
    pub(super) fn of_load(plan: &Plan, load: &Load) -> Vec<Self> {
        load.topic.iter().map(|topic| Self::new(plan, load, topic)).collect()
    }

    fn new(plan: &Plan, load: &Load, topic: &Topic) -> Self {
        let speech = match (load.transport, &plan.script) {
            (Transport::Sse, _) => Speech::Stream,
            (Transport::SocketIo, _) => Speech::Room(Arc::new(packets::Steps::new(&plan.room, load, topic))),
            (Transport::Ws | Transport::FanfareV1, script) if script.is_empty() => Speech::Messages,
            (Transport::Ws | Transport::FanfareV1, script) => Speech::Script(Arc::new(script.for_topic(topic))),
        };
        Self { request: write_request(plan, load, topic, &[]), speech }
    }

    /// The reading side of one of them.
    pub(super) fn wire(&self) -> Wire {
        match &self.speech {
            Speech::Stream => Wire::Sse(Box::new((ResponseReader::new(), sse::Decoder::new()))),
            Speech::Messages => Wire::Upgrade(Box::new(ResponseReader::new())),
            Speech::Script(script) => {
                Wire::Prologue(Box::new((ResponseReader::new(), Recital::new(Arc::clone(script)))))
            }
            Speech::Room(steps) => Wire::Entrance(Box::new(Entrance::new(Arc::clone(steps)))),
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
    heed: &mut impl FnMut(Heard<'_>),
) -> Result<(), String> {
    let mut outcome = Ok(());
    let received = reader.receive(bytes, |part| match part {
        ResponsePart::Head(head) if head.status == 200 && head.is_event_stream() => heed(Heard::Open),
        ResponsePart::Head(head) => outcome = Err(refused(&head)),
        ResponsePart::Body(body) => {
            // The decoder's only error is an event over its limit, and a refusal's body is no stream.
            let _ = decoder.receive(body, |message| heed(Heard::Message(message.data)));
        }
        ResponsePart::End if outcome.is_ok() => outcome = Err("the server ended the stream".to_owned()),
        ResponsePart::End => {}
    });
    received.map_err(|close| close.to_string()).and(outcome)
}

fn receive_answer(reader: &mut ResponseReader, bytes: &[u8], heed: &mut impl FnMut(Heard<'_>)) -> Result<(), String> {
    let received = reader.receive(bytes, |part| {
        if let ResponsePart::Head(head) = part {
            heed(Heard::Answer(head.status));
        }
    });
    received.map_err(|close| close.to_string())
}

/// Some frames once the upgrade is granted; they may have come right behind it.
fn receive_upgrade(
    reader: &mut ResponseReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    heed: &mut impl FnMut(Heard<'_>),
) -> Result<Option<FrameReader>, String> {
    let mut frames = None;
    let mut outcome = Ok(());
    let received = reader.receive(bytes, |part| match part {
        ResponsePart::Head(head) if head.status == 101 => {
            heed(Heard::Open);
            frames = Some(FrameReader::new());
        }
        ResponsePart::Head(head) => outcome = Err(refused(&head)),
        ResponsePart::Body(body) => {
            if let (Some(frames), Ok(())) = (&mut frames, &outcome) {
                outcome = receive_frames(frames, body, reply, heed);
            }
        }
        ResponsePart::End => {}
    });
    received.map_err(|close| close.to_string()).and(outcome)?;
    Ok(frames)
}

/// The recital once the upgrade is granted.
fn receive_prologue(
    (reader, recital): &mut (ResponseReader, Recital),
    bytes: &[u8],
    reply: &mut Vec<u8>,
    heed: &mut impl FnMut(Heard<'_>),
) -> Result<Option<Recital>, String> {
    let mut is_granted = false;
    let mut outcome = Ok(());
    let received = reader.receive(bytes, |part| match part {
        ResponsePart::Head(head) if head.status == 101 => {
            is_granted = true;
            recital.begin(reply, heed);
        }
        ResponsePart::Head(head) => outcome = Err(refused(&head)),
        ResponsePart::Body(body) if is_granted && outcome.is_ok() => outcome = recital.receive(body, reply, heed),
        ResponsePart::Body(_) | ResponsePart::End => {}
    });
    received.map_err(|close| close.to_string()).and(outcome)?;
    Ok(is_granted.then(|| std::mem::take(recital)))
}

fn receive_frames(
    frames: &mut FrameReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    heed: &mut impl FnMut(Heard<'_>),
) -> Result<(), String> {
    each_text(frames, bytes, reply, &mut |payload, _| {
        heed(Heard::Message(payload));
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
