//! What a hub sends on any of its transports, as events. Pure: bytes in, events and replies out.

use std::borrow::Cow;

use clap::ValueEnum;

use super::{
    access::HubAccess,
    reader::{Item, ProtocolError, Reader},
    request::{Response, describe_refusal},
};
use crate::protocol::{
    fanfare_v1::{SUBPROTOCOL, client::Envelope},
    http::{Method, ResponseHead, write_request},
    sse,
    websocket::client::{check_accept, encode_key, write_masked_close, write_upgrade},
};

/// The transport of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Server-Sent Events
    Sse,
    /// WebSocket, one payload per message
    Ws,
    /// WebSocket, JSON envelopes with id and type
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

/// What the hub sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// The hub accepted the request: a stream follows.
    Opened,
    /// An event; topic, id and type are empty where the transport has none.
    Event { topic: Cow<'a, str>, id: Cow<'a, str>, kind: Cow<'a, str>, data: &'a [u8] },
    /// The events of a topic follow, beginning behind this id.
    Subscribed { topic: Cow<'a, str>, id: Cow<'a, str> },
    /// Events are missing here; the text says which.
    Gap(String),
    /// A message about the stream itself, for people.
    Notice(String),
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// For people.
    pub(crate) reason: String,
    /// Whether a further attempt would be refused as well.
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
    /// 204 tells a client not to reconnect (WHATWG HTML section 9.2.3); the other codes say that the request itself is wrong.
    fn refused(refusal: &Response) -> Self {
        Self { reason: describe_refusal(refusal), is_final: matches!(refusal.status, 204 | 400 | 401 | 403 | 404) }
    }
}

impl From<ProtocolError> for StreamEnd {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Http(_) => format!("the hub does not speak HTTP as it should: {error}").into(),
            ProtocolError::Sse(_) => error.to_string().into(),
            ProtocolError::WebSocket(_) => format!("the hub does not speak WebSocket as it should: {error}").into(),
        }
    }
}

/// The reading side of one connection.
#[derive(Debug)]
pub(crate) struct Stream {
    reader: Reader,
    opening: Opening,
}

/// The request, and the refusal if there was one.
#[derive(Debug)]
struct Opening {
    transport: Transport,
    /// The request's `Sec-WebSocket-Key`.
    key: String,
    /// A response that is no stream.
    refusal: Option<Response>,
}

/// The most bytes of a refusal that are kept to be shown.
const REFUSAL_BYTES_MAX: usize = 4096;

/// The close code of a hub that does not accept the token: reconnecting with the same token is useless.
const UNAUTHORIZED: u16 = 4401;

impl Stream {
    /// `random` makes the WebSocket key.
    pub(crate) fn new(transport: Transport, random: [u8; 16]) -> Self {
        let reader = match transport {
            Transport::Sse => Reader::sse(),
            Transport::Ws | Transport::FanfareV1 => Reader::websocket(),
        };
        Self { reader, opening: Opening { transport, key: encode_key(random), refusal: None } }
    }

    /// The request that opens the stream at `hub`. `last_event_id`, unless empty, is where a stream of Server-Sent Events
    /// resumes; a WebSocket resumes from what `target` says.
    pub(crate) fn request(&self, hub: &HubAccess, target: &str, last_event_id: &str) -> Vec<u8> {
        let (mut request, host) = (Vec::new(), hub.url().host());
        match self.opening.transport {
            Transport::Sse => {
                let mut headers = vec![("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
                headers.extend((!last_event_id.is_empty()).then_some(("Last-Event-ID", last_event_id)));
                headers.extend(hub.headers());
                write_request(Method::Get, &host, target, &headers, b"", &mut request);
            }
            transport => {
                let headers: Vec<(&str, &str)> = hub.headers().collect();
                write_upgrade(&host, target, transport.subprotocols(), &headers, &self.opening.key, &mut request);
            }
        }
        request
    }

    /// The last event id of a stream of Server-Sent Events; empty if there is none.
    pub(crate) fn last_event_id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.reader.last_event_id())
    }

    /// The reconnection time that a stream of Server-Sent Events asked for, in ms.
    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.reader.retry_ms()
    }

    /// Takes what the hub sent; `answer` gets the bytes to send back. An error is the end of the stream.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        mut on: impl FnMut(Received<'_>),
    ) -> Result<(), StreamEnd> {
        let Self { reader, opening } = self;
        reader.receive(bytes, answer, &mut |item, answer| opening.take(item, answer, &mut on))
    }

    /// The hub closed the connection: always an error, as a stream has no end of its own.
    pub(crate) fn finish(&self) -> Result<(), StreamEnd> {
        match &self.opening.refusal {
            Some(refusal) => Err(StreamEnd::refused(refusal)),
            None => Err("the hub closed the connection".into()),
        }
    }
}

impl Opening {
    fn take(
        &mut self,
        item: Item<'_>,
        answer: &mut Vec<u8>,
        on: &mut impl FnMut(Received<'_>),
    ) -> Result<(), StreamEnd> {
        match (item, &mut self.refusal) {
            (Item::Granted(head), _) => self.check_grant(head).map(|()| on(Received::Opened)),
            (Item::Refused(head), _) if head.status == 200 && self.transport == Transport::Sse => {
                Err("the answer is no event stream: is this a hub?".into())
            }
            (Item::Refused(head), refusal) => {
                *refusal = Some(Response { status: head.status, body: Vec::new() });
                Ok(())
            }
            (Item::RefusalBody(bytes), Some(refusal)) => {
                let room = REFUSAL_BYTES_MAX.saturating_sub(refusal.body.len()).min(bytes.len());
                refusal.body.extend_from_slice(&bytes[..room]);
                Ok(())
            }
            (Item::RefusalBody(_), None) => Ok(()),
            (Item::End, Some(refusal)) => Err(StreamEnd::refused(refusal)),
            (Item::End, None) => Err("the hub ended the stream".into()),
            (Item::Event(message), _) => {
                on(read_message(message));
                Ok(())
            }
            (Item::Text(message), _) if self.transport == Transport::FanfareV1 => take_envelope(message, on),
            (Item::Text(data) | Item::Binary(data), _) => {
                on(Received::Event { topic: "".into(), id: "".into(), kind: "".into(), data });
                Ok(())
            }
            (Item::Closed { code, reason }, _) => Err(take_close(code.unwrap_or(1000), reason, answer)),
        }
    }

    /// A WebSocket's grant must fit the request (RFC 6455 section 4.1).
    fn check_grant(&self, head: &ResponseHead<'_>) -> Result<(), StreamEnd> {
        if self.transport == Transport::Sse {
            return Ok(());
        }
        let subprotocols = self.transport.subprotocols();
        match check_accept(&self.key, subprotocols, head) {
            Ok(chosen) if chosen.is_some() != subprotocols.is_empty() => Ok(()),
            Ok(_) => Err("the hub does not speak fanfare.v1".into()),
            Err(close) => Err(close.to_string().into()),
        }
    }
}

fn read_message(message: sse::SseMessage<'_>) -> Received<'_> {
    let (id, kind) = (String::from_utf8_lossy(message.id), String::from_utf8_lossy(message.event));
    match &*kind {
        "gap" => Received::Gap(format!("gap: {}", message.text())),
        "error" => Received::Notice(format!("error: {}", message.text())),
        _ => Received::Event { topic: "".into(), id, kind, data: message.data },
    }
}

fn take_close(code: u16, reason: &str, answer: &mut Vec<u8>) -> StreamEnd {
    write_masked_close(code, "", rand::random(), answer);
    let reason = format!("the hub closed the WebSocket: {code} {reason}");
    StreamEnd { reason, is_final: code == UNAUTHORIZED }
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
