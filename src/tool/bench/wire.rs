//! What a subscriber speaks: the request, the answer to it, and the messages that follow.

use super::options::{Load, Plan, Transport};
use crate::{
    close::Close,
    protocol::{
        http::{self, ResponseHead, ResponsePart, ResponseReader},
        sse,
        websocket::{
            self,
            client::{FrameReader, ServerFrame},
        },
    },
};

/// One connection's reading side.
#[derive(Debug)]
pub(super) enum Wire {
    /// Server-Sent Events: HTTP's framing around the stream's.
    Sse(Box<(ResponseReader, sse::Decoder)>),
    /// WebSocket, the answer to the upgrade yet to come.
    Upgrade(Box<ResponseReader>),
    /// WebSocket, open.
    Frames(FrameReader),
}

/// What a server's bytes mean to a subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard<'a> {
    /// The request is granted.
    Open,
    /// A message: a payload, or an envelope with one in it.
    Message(&'a [u8]),
}

/// The mask and key of every client: they protect from proxies that do not stand between the bench and its server.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const KEY: &str = "ZmFuZmFyZS1iZW5jaC0wMQ==";

/// What one message may have: more than any hub sends here.
const FRAME_LIMITS: websocket::Limits =
    websocket::Limits { message_bytes_max: 16 << 20, fragments_max: 1024, pong_bytes_max: 125 };

impl Wire {
    pub(super) fn new(transport: Transport) -> Self {
        match transport {
            Transport::Sse => Self::Sse(Box::new((ResponseReader::new(), sse::Decoder::new()))),
            Transport::Ws | Transport::FanfareV1 => Self::Upgrade(Box::new(ResponseReader::new())),
        }
    }

    /// The id of the last event; empty unless it speaks Server-Sent Events.
    pub(super) fn last_event_id(&self) -> &[u8] {
        match self {
            Self::Sse(stream) => stream.1.last_event_id(),
            Self::Upgrade(_) | Self::Frames(_) => b"",
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
            Self::Sse(stream) => receive_stream(stream, bytes, heed),
            Self::Upgrade(reader) => {
                if let Some(frames) = receive_upgrade(reader, bytes, reply, heed)? {
                    *self = Self::Frames(frames);
                }
                Ok(())
            }
        }
    }
}

/// The request of a load's subscribers: the same for all of them.
pub(super) fn request(plan: &Plan, load: &Load) -> Vec<u8> {
    write_request(plan, load, &[])
}

/// The request of one that comes back, having seen the event of this id last.
pub(super) fn request_after(plan: &Plan, load: &Load, last_event_id: &str) -> Vec<u8> {
    write_request(plan, load, &[("Last-Event-ID", last_event_id)])
}

fn write_request(plan: &Plan, load: &Load, more: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut headers: Vec<(&str, &str)> = Vec::new();
    match load.transport {
        Transport::Sse => headers.push(("Accept", "text/event-stream")),
        Transport::Ws | Transport::FanfareV1 => headers.extend([
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ]),
    }
    if load.transport == Transport::FanfareV1 {
        headers.push(("Sec-WebSocket-Protocol", "fanfare.v1"));
    }
    headers.extend_from_slice(more);
    http::write_request(http::Method::Get, &plan.target.host, &load.path, &headers, b"", &mut out);
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

fn receive_frames(
    frames: &mut FrameReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    heed: &mut impl FnMut(Heard<'_>),
) -> Result<(), String> {
    let mut outcome = Ok(());
    let received = frames.receive(bytes, &FRAME_LIMITS, |frame| match frame {
        ServerFrame::Text(payload) | ServerFrame::Binary(payload) => heed(Heard::Message(payload)),
        ServerFrame::Ping(payload) => websocket::client::write_masked_pong(payload, MASK, reply),
        ServerFrame::Pong(_) => {}
        ServerFrame::Close { code, reason } => outcome = Err(format!("the server closed: {code:?} {reason}")),
    });
    received.map_err(|close: Close| close.to_string()).and(outcome)
}

fn refused(head: &ResponseHead<'_>) -> String {
    format!("the server answered {}", head.status)
}
