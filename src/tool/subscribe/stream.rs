//! What a hub sends, on any of its transports, as events. Pure: bytes in, events and answers out.

use std::borrow::Cow;

use clap::ValueEnum;

use super::super::client::{Answer, describe_refusal};
use crate::protocol::{
    fanfare_v1::{SUBPROTOCOL, client::Envelope},
    http::{Method, ResponseHead, ResponsePart, ResponseReader, write_request},
    sse,
    websocket::{
        Limits,
        client::{
            FrameReader, ServerFrame, check_accept, encode_key, write_masked_close, write_masked_pong, write_upgrade,
        },
    },
};

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    /// Server-Sent Events
    Sse,
    /// WebSocket, each frame a payload
    Ws,
    /// WebSocket, JSON envelopes
    #[value(name = "fanfare.v1")]
    FanfareV1,
}

impl Transport {
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Sse => "/sse",
            Self::Ws | Self::FanfareV1 => "/ws",
        }
    }

    fn subprotocols(self) -> &'static [&'static str] {
        match self {
            Self::Sse | Self::Ws => &[],
            Self::FanfareV1 => &[SUBPROTOCOL],
        }
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// An event; id and type are empty where the transport does not tell them.
    Event { id: Cow<'a, str>, kind: Cow<'a, str>, data: &'a [u8] },
    /// Something about the stream itself, for people.
    Notice(String),
}

/// One connection's reading side.
#[derive(Debug)]
pub(super) struct Stream {
    http: ResponseReader,
    body: Body,
}

#[derive(Debug)]
struct Body {
    transport: Transport,
    /// What was sent as `Sec-WebSocket-Key`.
    key: String,
    events: sse::Decoder,
    frames: FrameReader,
    /// An answer that is no stream.
    refusal: Option<Answer>,
}

/// The most bytes of a refusal that are kept to be shown.
const REFUSAL_BYTES_MAX: usize = 4096;

/// What a hub may send: more than it sends by default, as the tool trusts the hub it was told to listen to.
const LIMITS: Limits = Limits { message_bytes_max: 16 << 20, fragments_max: 1 << 16, pong_bytes_max: 0 };

impl Stream {
    /// Before anything is sent. `random` makes the WebSocket key.
    pub(super) fn new(transport: Transport, random: [u8; 16]) -> Self {
        let body = Body {
            transport,
            key: encode_key(random),
            events: sse::Decoder::new(),
            frames: FrameReader::new(),
            refusal: None,
        };
        Self { http: ResponseReader::new(), body }
    }

    /// The request that opens it.
    pub(super) fn request(&self, host: &str, target: &str) -> Vec<u8> {
        let mut request = Vec::new();
        match self.body.transport {
            Transport::Sse => {
                let headers = [("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
                write_request(Method::Get, host, target, &headers, b"", &mut request);
            }
            transport => write_upgrade(host, target, transport.subprotocols(), &[], &self.body.key, &mut request),
        }
        request
    }

    /// Takes what the hub sent; `answer` gets what must be sent back. An error is the end.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        mut on: impl FnMut(Received<'_>),
    ) -> Result<(), String> {
        let Self { http, body } = self;
        let mut done = Ok(());
        let read = http.receive(bytes, |part| {
            if done.is_ok() {
                done = body.take(part, answer, &mut on);
            }
        });
        done?;
        read.map_err(|close| format!("the hub does not speak HTTP as it should: {close}"))
    }

    /// Takes note that the hub closed the connection: always an error, as a stream has no end of its own.
    pub(super) fn finish(&self) -> Result<(), String> {
        match &self.body.refusal {
            Some(refusal) => Err(describe_refusal(refusal)),
            None => Err("the hub closed the connection".into()),
        }
    }
}

impl Body {
    fn take(
        &mut self,
        part: ResponsePart<'_>,
        answer: &mut Vec<u8>,
        on: &mut impl FnMut(Received<'_>),
    ) -> Result<(), String> {
        match (part, &mut self.refusal) {
            (ResponsePart::Head(head), _) => self.take_head(&head)?,
            (ResponsePart::Body(bytes), Some(refusal)) => {
                let room = REFUSAL_BYTES_MAX.saturating_sub(refusal.body.len()).min(bytes.len());
                refusal.body.extend_from_slice(&bytes[..room]);
            }
            (ResponsePart::Body(bytes), None) if self.transport == Transport::Sse => self.take_events(bytes, on)?,
            (ResponsePart::Body(bytes), None) => self.take_frames(bytes, answer, on)?,
            (ResponsePart::End, Some(refusal)) => return Err(describe_refusal(refusal)),
            (ResponsePart::End, None) => return Err("the hub ended the stream".into()),
        }
        Ok(())
    }

    fn take_head(&mut self, head: &ResponseHead<'_>) -> Result<(), String> {
        let subprotocols = self.transport.subprotocols();
        match (self.transport, head.status) {
            (Transport::Sse, 200) if head.is_event_stream() => Ok(()),
            (Transport::Sse, 200) => Err("the answer is no event stream: is this a hub?".into()),
            (Transport::Ws | Transport::FanfareV1, 101) => match check_accept(&self.key, subprotocols, head) {
                Ok(chosen) if chosen.is_some() != subprotocols.is_empty() => Ok(()),
                Ok(_) => Err("the hub does not speak fanfare.v1".into()),
                Err(close) => Err(close.to_string()),
            },
            (_, status) => {
                self.refusal = Some(Answer { status, body: Vec::new() });
                Ok(())
            }
        }
    }

    fn take_events(&mut self, bytes: &[u8], on: &mut impl FnMut(Received<'_>)) -> Result<(), String> {
        let done = self.events.receive(bytes, |message| {
            let (id, kind) = (String::from_utf8_lossy(message.id), String::from_utf8_lossy(message.event));
            on(match &*kind {
                "gap" | "error" => Received::Notice(format!("{kind}: {}", message.text())),
                _ => Received::Event { id, kind, data: message.data },
            });
        });
        done.map_err(|close| close.to_string())
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        on: &mut impl FnMut(Received<'_>),
    ) -> Result<(), String> {
        let transport = self.transport;
        let mut done = Ok(());
        let read = self.frames.receive(bytes, &LIMITS, |frame| {
            if done.is_ok() {
                done = take_frame(transport, frame, answer, on);
            }
        });
        done?;
        read.map_err(|close| format!("the hub does not speak WebSocket as it should: {close}"))
    }
}

fn take_frame(
    transport: Transport,
    frame: ServerFrame<'_>,
    answer: &mut Vec<u8>,
    on: &mut impl FnMut(Received<'_>),
) -> Result<(), String> {
    match frame {
        ServerFrame::Text(message) if transport == Transport::FanfareV1 => return take_envelope(message, on),
        ServerFrame::Text(data) | ServerFrame::Binary(data) => {
            on(Received::Event { id: "".into(), kind: "".into(), data });
        }
        ServerFrame::Ping(payload) => write_masked_pong(payload, rand::random(), answer),
        ServerFrame::Pong(_) => {}
        ServerFrame::Close { code, reason } => {
            let code = code.unwrap_or(1000);
            write_masked_close(code, "", rand::random(), answer);
            return Err(format!("the hub closed the WebSocket: {code} {reason}"));
        }
    }
    Ok(())
}

fn take_envelope(message: &[u8], on: &mut impl FnMut(Received<'_>)) -> Result<(), String> {
    match Envelope::parse(message).map_err(|error| error.to_string())? {
        Envelope::Event { id, kind, data, .. } => {
            on(Received::Event { id, kind: kind.unwrap_or_default(), data: data.as_bytes() });
        }
        Envelope::Gap { topic, from, to, reason } => {
            let [from, to] = [from, to].map(|id| id.unwrap_or_else(|| "?".into()));
            on(Received::Notice(format!("gap in {topic} between {from} and {to}: {reason}")));
        }
        Envelope::Error { code, message, .. } => on(Received::Notice(format!("{code}: {message}"))),
        _ => {}
    }
    Ok(())
}
