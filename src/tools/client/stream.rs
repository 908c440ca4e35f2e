//! What a hub sends, on any of its transports, as events. Pure: bytes in, events and answers out.

use std::borrow::Cow;

use clap::ValueEnum;

use super::{
    access::HubAccess,
    request::{Answer, describe_refusal},
};
use crate::protocol::{
    fanfare_v1::{SUBPROTOCOL, client::Envelope},
    http::{Method, ResponseHead, ResponsePart, ResponseReader, write_request},
    sse,
    websocket::{
        WebSocketLimits,
        client::{
            FrameReader, ServerFrame, check_accept, encode_key, write_masked_close, write_masked_pong, write_upgrade,
        },
    },
};

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Server-Sent Events
    Sse,
    /// WebSocket, each frame a payload
    Ws,
    /// WebSocket, JSON envelopes
    #[value(name = "fanfare.v1")]
    FanfareV1,
}

impl Transport {
    pub(crate) fn path(self) -> &'static str {
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
pub(crate) enum Received<'a> {
    /// The hub accepted: a stream follows.
    Opened,
    /// An event; topic, id and type are empty where the transport does not tell them.
    Event { topic: Cow<'a, str>, id: Cow<'a, str>, kind: Cow<'a, str>, data: &'a [u8] },
    /// From behind this id on a topic's events follow.
    Subscribed { topic: Cow<'a, str>, id: Cow<'a, str> },
    /// Events are missing here, in the hub's words.
    Gap(String),
    /// Something about the stream itself, for people.
    Notice(String),
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// For people.
    pub(crate) reason: String,
    /// The hub refused in a way that asking again does not change.
    pub(crate) is_final: bool,
}

impl From<String> for StreamEnd {
    fn from(reason: String) -> Self {
        Self { reason, is_final: false }
    }
}

impl From<&str> for StreamEnd {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl StreamEnd {
    /// 204 asks a client to stay away (WHATWG HTML section 9.2.3); the others say that the request itself is wrong.
    fn refused(refusal: &Answer) -> Self {
        Self { reason: describe_refusal(refusal), is_final: matches!(refusal.status, 204 | 400 | 401 | 403 | 404) }
    }
}

/// One connection's reading side.
#[derive(Debug)]
pub(crate) struct Stream {
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
const LIMITS: WebSocketLimits =
    WebSocketLimits { message_bytes_max: 16 << 20, fragments_max: 1 << 16, pong_bytes_max: 0 };

/// The close code of a hub that wants a token, or another one: coming back with the same does not change that.
const UNAUTHORIZED: u16 = 4401;

impl Stream {
    /// Before anything is sent. `random` makes the WebSocket key.
    pub(crate) fn new(transport: Transport, random: [u8; 16]) -> Self {
        let body = Body {
            transport,
            key: encode_key(random),
            events: sse::Decoder::new(),
            frames: FrameReader::new(),
            refusal: None,
        };
        Self { http: ResponseReader::new(), body }
    }

    /// The request that opens it at `hub`, behind `last_event_id` if that is not empty; WebSockets tell theirs in the target.
    pub(crate) fn request(&self, hub: &HubAccess, target: &str, last_event_id: &str) -> Vec<u8> {
        let (mut request, host) = (Vec::new(), hub.url().host());
        match self.body.transport {
            Transport::Sse => {
                let mut headers = vec![("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
                headers.extend((!last_event_id.is_empty()).then_some(("Last-Event-ID", last_event_id)));
                headers.extend(hub.headers());
                write_request(Method::Get, &host, target, &headers, b"", &mut request);
            }
            transport => {
                let headers: Vec<(&str, &str)> = hub.headers().collect();
                write_upgrade(&host, target, transport.subprotocols(), &headers, &self.body.key, &mut request);
            }
        }
        request
    }

    /// The last id that the hub told by SSE; empty if there is none.
    pub(crate) fn last_event_id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.body.events.last_event_id())
    }

    /// How long the hub asked by SSE to wait before coming back, in ms.
    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.body.events.retry_ms()
    }

    /// Takes what the hub sent; `answer` gets what must be sent back. An error is the end.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        mut on: impl FnMut(Received<'_>),
    ) -> Result<(), StreamEnd> {
        let Self { http, body } = self;
        let mut done = Ok(());
        let read = http.receive(bytes, |part| {
            if done.is_ok() {
                done = body.take(part, answer, &mut on);
            }
        });
        done?;
        read.map_err(|close| format!("the hub does not speak HTTP as it should: {close}").into())
    }

    /// Takes note that the hub closed the connection: always an error, as a stream has no end of its own.
    pub(crate) fn finish(&self) -> Result<(), StreamEnd> {
        match &self.body.refusal {
            Some(refusal) => Err(StreamEnd::refused(refusal)),
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
    ) -> Result<(), StreamEnd> {
        match (part, &mut self.refusal) {
            (ResponsePart::Head(head), _) => self.take_head(&head, on)?,
            (ResponsePart::Body(bytes), Some(refusal)) => {
                let room = REFUSAL_BYTES_MAX.saturating_sub(refusal.body.len()).min(bytes.len());
                refusal.body.extend_from_slice(&bytes[..room]);
            }
            (ResponsePart::Body(bytes), None) if self.transport == Transport::Sse => self.take_events(bytes, on)?,
            (ResponsePart::Body(bytes), None) => self.take_frames(bytes, answer, on)?,
            (ResponsePart::End, Some(refusal)) => return Err(StreamEnd::refused(refusal)),
            (ResponsePart::End, None) => return Err("the hub ended the stream".into()),
        }
        Ok(())
    }

    fn take_head(&mut self, head: &ResponseHead<'_>, on: &mut impl FnMut(Received<'_>)) -> Result<(), StreamEnd> {
        let subprotocols = self.transport.subprotocols();
        match (self.transport, head.status) {
            (Transport::Sse, 200) if head.is_event_stream() => on(Received::Opened),
            (Transport::Sse, 200) => return Err("the answer is no event stream: is this a hub?".into()),
            (Transport::Ws | Transport::FanfareV1, 101) => match check_accept(&self.key, subprotocols, head) {
                Ok(chosen) if chosen.is_some() != subprotocols.is_empty() => on(Received::Opened),
                Ok(_) => return Err("the hub does not speak fanfare.v1".into()),
                Err(close) => return Err(close.to_string().into()),
            },
            (_, status) => self.refusal = Some(Answer { status, body: Vec::new() }),
        }
        Ok(())
    }

    fn take_events(&mut self, bytes: &[u8], on: &mut impl FnMut(Received<'_>)) -> Result<(), StreamEnd> {
        let done = self.events.receive(bytes, |message| {
            let (id, kind) = (String::from_utf8_lossy(message.id), String::from_utf8_lossy(message.event));
            on(match &*kind {
                "gap" => Received::Gap(format!("gap: {}", message.text())),
                "error" => Received::Notice(format!("error: {}", message.text())),
                _ => Received::Event { topic: "".into(), id, kind, data: message.data },
            });
        });
        done.map_err(|close| close.to_string().into())
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        on: &mut impl FnMut(Received<'_>),
    ) -> Result<(), StreamEnd> {
        let transport = self.transport;
        let mut done = Ok(());
        let read = self.frames.receive(bytes, &LIMITS, |frame| {
            if done.is_ok() {
                done = take_frame(transport, frame, answer, on);
            }
        });
        done?;
        read.map_err(|close| format!("the hub does not speak WebSocket as it should: {close}").into())
    }
}

fn take_frame(
    transport: Transport,
    frame: ServerFrame<'_>,
    answer: &mut Vec<u8>,
    on: &mut impl FnMut(Received<'_>),
) -> Result<(), StreamEnd> {
    match frame {
        ServerFrame::Text(message) if transport == Transport::FanfareV1 => return take_envelope(message, on),
        ServerFrame::Text(data) | ServerFrame::Binary(data) => {
            on(Received::Event { topic: "".into(), id: "".into(), kind: "".into(), data });
        }
        ServerFrame::Ping(payload) => write_masked_pong(payload, rand::random(), answer),
        ServerFrame::Pong(_) => {}
        ServerFrame::Close { code, reason } => {
            let code = code.unwrap_or(1000);
            write_masked_close(code, "", rand::random(), answer);
            let reason = format!("the hub closed the WebSocket: {code} {reason}");
            return Err(StreamEnd { reason, is_final: code == UNAUTHORIZED });
        }
    }
    Ok(())
}

fn take_envelope(message: &[u8], on: &mut impl FnMut(Received<'_>)) -> Result<(), StreamEnd> {
    match Envelope::parse(message).map_err(|error| error.to_string())? {
        Envelope::Event { topic, id, kind, data } => {
            on(Received::Event { topic, id, kind: kind.unwrap_or_default(), data: data.as_bytes() });
        }
        Envelope::Subscribed { topic, id: Some(id), .. } => on(Received::Subscribed { topic, id }),
        Envelope::Gap { topic, from, to, reason } => {
            let [from, to] = [from, to].map(|id| id.unwrap_or_else(|| "?".into()));
            on(Received::Gap(format!("gap in {topic} between {from} and {to}: {reason}")));
        }
        Envelope::Error { code, message, .. } => on(Received::Notice(format!("{code}: {message}"))),
        _ => {}
    }
    Ok(())
}
