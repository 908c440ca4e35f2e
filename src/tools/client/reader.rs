//! What a server sends to one subscriber, cut into items: the answer to the request, then Server-Sent Events or WebSocket
//! messages. Pure: bytes in, items and replies out.

use std::fmt;

use crate::{
    close::Close,
    protocol::{
        http::{ResponseHead, ResponsePart, ResponseReader},
        sse,
        websocket::{
            WebSocketLimits,
            client::{FrameReader, ServerFrame, write_masked_pong},
        },
    },
};

/// The limits of a message: higher than those of a hub by default, as a client trusts the server it was given.
const LIMITS: WebSocketLimits =
    WebSocketLimits { message_bytes_max: 16 << 20, fragments_max: 1 << 16, pong_bytes_max: 0 };

/// One item, borrowed from the input where it came in one piece.
#[derive(Debug)]
pub enum Item<'a> {
    /// The server granted the request: messages follow.
    Granted(&'a ResponseHead<'a>),
    /// The server answered anything else. [`Item::RefusalBody`] and [`Item::End`] follow.
    Refused(&'a ResponseHead<'a>),
    /// A piece of a refusal's body.
    RefusalBody(&'a [u8]),
    /// The response is complete: the end of a refusal, or of a stream of events.
    End,
    /// A server-sent event.
    Event(sse::SseMessage<'a>),
    /// A WebSocket text message. Whether it is UTF-8 is left to the caller.
    Text(&'a [u8]),
    /// A WebSocket binary message.
    Binary(&'a [u8]),
    /// The server closes the WebSocket. The caller may answer with a close frame.
    Closed {
        /// The status code (RFC 6455 section 7.4).
        code: Option<u16>,
        /// The reason; empty if there is none.
        reason: &'a str,
    },
}

impl<'a> Item<'a> {
    /// The payload of a message; `None` for an item that is no message. Fails if the server refused the request or ended the
    /// stream.
    #[inline]
    pub(crate) fn payload(&self) -> Result<Option<&'a [u8]>, String> {
        match *self {
            Self::Text(payload) | Self::Binary(payload) => Ok(Some(payload)),
            Self::Event(message) => Ok(Some(message.data)),
            Self::Granted(_) | Self::RefusalBody(_) => Ok(None),
            Self::Refused(head) => Err(format!("the server answered {}", head.status)),
            Self::End => Err("the server ended the stream".to_owned()),
            Self::Closed { code, reason } => Err(format!("the server closed: {code:?} {reason}")),
        }
    }
}

/// The server broke the rules of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// Of HTTP, in its answer.
    Http(Close),
    /// Of Server-Sent Events: one event exceeds 16 MiB.
    Sse(Close),
    /// Of WebSocket, in a frame.
    WebSocket(Close),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Http(close) | Self::Sse(close) | Self::WebSocket(close)) = self;
        close.fmt(f)
    }
}

impl From<ProtocolError> for String {
    fn from(error: ProtocolError) -> Self {
        error.to_string()
    }
}

/// The reading side of one connection. Small once a WebSocket is open, as there may be many thousands.
#[derive(Debug)]
pub struct Reader(State);

#[derive(Debug)]
enum State {
    Sse(Box<SseState>),
    /// A WebSocket whose upgrade was not answered yet.
    Upgrade(Box<UpgradeState>),
    /// An open WebSocket.
    Frames(FrameReader),
}

#[derive(Debug)]
struct SseState {
    http: ResponseReader,
    events: sse::Decoder,
    is_refused: bool,
}

#[derive(Debug)]
struct UpgradeState {
    http: ResponseReader,
    frames: FrameReader,
    is_granted: bool,
}

impl Reader {
    /// For a request that asks for an event stream.
    pub fn sse() -> Self {
        let state = SseState { http: ResponseReader::new(), events: sse::Decoder::new(), is_refused: false };
        Self(State::Sse(Box::new(state)))
    }

    /// For a request that asks for an upgrade to WebSocket. Whether `Sec-WebSocket-Accept` and the subprotocol fit the request
    /// is left to the caller, who gets the head with [`Item::Granted`].
    pub fn websocket() -> Self {
        let state = UpgradeState { http: ResponseReader::new(), frames: FrameReader::new(), is_granted: false };
        Self(State::Upgrade(Box::new(state)))
    }

    /// The last event id of an event stream; empty if there is none, and on a WebSocket.
    pub fn last_event_id(&self) -> &[u8] {
        match &self.0 {
            State::Sse(state) => state.events.last_event_id(),
            State::Upgrade(_) | State::Frames(_) => b"",
        }
    }

    /// The reconnection time that an event stream asked for, in ms.
    pub fn retry_ms(&self) -> Option<u64> {
        match &self.0 {
            State::Sse(state) => state.events.retry_ms(),
            State::Upgrade(_) | State::Frames(_) => None,
        }
    }

    /// Takes what the server sent, and calls `on` for each item that is complete with it. Pings are answered in `reply`, to
    /// which `on` may append. The first error of `on` ends the call and is returned.
    #[inline]
    pub fn receive<E: From<ProtocolError>>(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on: &mut impl FnMut(Item<'_>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut self.0 {
            State::Frames(frames) => receive_frames(frames, bytes, reply, on),
            State::Sse(state) => state.receive(bytes, reply, on),
            State::Upgrade(state) => {
                state.receive(bytes, reply, on)?;
                if state.is_granted {
                    self.0 = State::Frames(std::mem::take(&mut state.frames));
                }
                Ok(())
            }
        }
    }
}

impl SseState {
    fn receive<E: From<ProtocolError>>(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on: &mut impl FnMut(Item<'_>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { http, events, is_refused } = self;
        let mut outcome = Ok(());
        let received = http.receive(bytes, |part| {
            if outcome.is_err() {
                return;
            }
            outcome = match part {
                ResponsePart::Head(head) if head.status == 200 && head.is_event_stream() => {
                    on(Item::Granted(&head), reply)
                }
                ResponsePart::Head(head) => {
                    *is_refused = true;
                    on(Item::Refused(&head), reply)
                }
                ResponsePart::Body(body) if *is_refused => on(Item::RefusalBody(body), reply),
                ResponsePart::Body(body) => receive_events(events, body, reply, on),
                ResponsePart::End => on(Item::End, reply),
            };
        });
        outcome?;
        received.map_err(|close| ProtocolError::Http(close).into())
    }
}

#[inline]
fn receive_events<E: From<ProtocolError>>(
    events: &mut sse::Decoder,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on: &mut impl FnMut(Item<'_>, &mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut outcome = Ok(());
    let received = events.receive(bytes, |message| {
        if outcome.is_ok() {
            outcome = on(Item::Event(message), reply);
        }
    });
    outcome?;
    received.map_err(|close| ProtocolError::Sse(close).into())
}

impl UpgradeState {
    fn receive<E: From<ProtocolError>>(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on: &mut impl FnMut(Item<'_>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { http, frames, is_granted } = self;
        let mut outcome = Ok(());
        let received = http.receive(bytes, |part| {
            if outcome.is_err() {
                return;
            }
            outcome = match part {
                ResponsePart::Head(head) if head.status == 101 => {
                    *is_granted = true;
                    on(Item::Granted(&head), reply)
                }
                ResponsePart::Head(head) => on(Item::Refused(&head), reply),
                // Frames may follow the response directly.
                ResponsePart::Body(body) if *is_granted => receive_frames(frames, body, reply, on),
                ResponsePart::Body(body) => on(Item::RefusalBody(body), reply),
                ResponsePart::End => on(Item::End, reply),
            };
        });
        outcome?;
        received.map_err(|close| ProtocolError::Http(close).into())
    }
}

#[inline]
fn receive_frames<E: From<ProtocolError>>(
    frames: &mut FrameReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    on: &mut impl FnMut(Item<'_>, &mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut outcome = Ok(());
    let received = frames.receive(bytes, &LIMITS, |frame| {
        if outcome.is_err() {
            return;
        }
        outcome = match frame {
            ServerFrame::Text(payload) => on(Item::Text(payload), reply),
            ServerFrame::Binary(payload) => on(Item::Binary(payload), reply),
            ServerFrame::Close { code, reason } => on(Item::Closed { code, reason }, reply),
            ServerFrame::Ping(payload) => {
                write_masked_pong(payload, rand::random(), reply);
                Ok(())
            }
            ServerFrame::Pong(_) => Ok(()),
        };
    });
    outcome?;
    received.map_err(|close| ProtocolError::WebSocket(close).into())
}
