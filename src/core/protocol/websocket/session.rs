//! The server's side of an open connection.
//!
//! LIFECYCLE: *open* until the peer's close frame arrives, the peer breaks a rule (the caller writes the close frame for the
//! returned [`Close`]), or [`ServerSession::close`] is called. In the last case the session is *closing*: input is ignored until
//! the peer's close frame arrives. Then it has *ended*, and every later call returns the same close.

use crate::{close::Close, outbox::Outbox};

use super::{
    WebSocketLimits,
    frame::{self, ControlKind, FrameHead, FrameKind},
    mask,
    progress::PartialInput,
};

/// A message or a control frame from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message, whole.
    Text(String),
    /// A binary message, whole.
    Binary(Vec<u8>),
    /// A ping. It is answered already, unless too many answers wait.
    Ping,
    /// A pong, solicited or not: the peer is alive.
    Pong,
}

/// The receiving state of one connection. Owns no heap memory between messages.
#[derive(Debug)]
pub struct ServerSession {
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Option<Box<PartialInput>>),
    Closing(Option<Box<PartialInput>>),
    Ended(Close),
}

impl ServerSession {
    /// A connection whose upgrade was just accepted.
    pub const fn new() -> Self {
        Self { state: State::Open(None) }
    }

    /// Memory for an incomplete message, in bytes.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Open(progress) | State::Closing(progress) => progress.as_ref().map_or(0, |it| it.held_bytes()),
            State::Ended(_) => 0,
        }
    }

    /// Takes what the peer sent, all of it, unmasking in place. Whole messages are appended to `messages`, pongs to
    /// `outbox`.
    ///
    /// An error ends the session. [`Close::Done`] means that close frames were exchanged and nothing more is to be said;
    /// with any other, the caller answers `messages` and then writes the close frame ([`super::write_end`]): one that says
    /// the same as the peer's after [`Close::PeerClosed`] (RFC 6455 section 5.5.1), else one that names the broken rule
    /// (section 7.1.7).
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &WebSocketLimits,
        outbox: &mut Outbox,
        messages: &mut Vec<Message>,
    ) -> Result<(), Close> {
        let result = match &mut self.state {
            State::Open(progress) => advance(progress, bytes, &mut Sink { limits, outbox, messages }),
            //= RFC 6455 section 5.5.1: "The application MUST NOT send any more data frames after sending a Close
            //=   frame."
            State::Closing(progress) => read_over(progress, bytes, limits),
            //= RFC 6455 section 7.1.7: "An endpoint MUST NOT continue to attempt to process data (including a
            //=   responding Close frame) from the remote endpoint"
            State::Ended(close) => return Err(*close),
        };
        if let Err(close) = result {
            self.state = State::Ended(close);
        }
        result
    }

    /// Begins the end from our side: writes the close frame. Does nothing if the end has begun already.
    ///
    /// The caller goes on receiving, for a while, until [`Close::Done`] tells that the peer's close frame came.
    pub fn close(&mut self, close: Close, outbox: &mut Outbox) {
        if let State::Open(progress) = &mut self.state {
            //= RFC 6455 section 7.1.2: "an endpoint MUST send a Close control frame, as described in Section 5.5.1"
            frame::write_close(close.websocket_code(), &close.to_string(), outbox.buffer());
            self.state = State::Closing(progress.take());
        }
    }

    /// Whether messages may be sent: nobody has begun to close.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }
}

/// Input after our close frame: nothing is answered and nothing passed on. A broken rule ends the session like a close frame,
/// because a second close frame must not be sent (RFC 6455 section 5.5.1).
fn read_over(
    progress: &mut Option<Box<PartialInput>>,
    bytes: &mut [u8],
    limits: &WebSocketLimits,
) -> Result<(), Close> {
    let mut sink = Sink { limits, outbox: &mut Outbox::new(), messages: &mut Vec::new() };
    advance(progress, bytes, &mut sink).map_err(|_| Close::Done)
}

/// Complete frames are read from `bytes` directly; only incomplete frames and fragmented messages are boxed.
fn advance(progress: &mut Option<Box<PartialInput>>, mut bytes: &mut [u8], sink: &mut Sink<'_>) -> Result<(), Close> {
    //= RFC 6455 section 6.2: "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
    while !bytes.is_empty() {
        let consumed = match progress {
            None => match receive_whole(bytes, sink)? {
                Some(consumed) => consumed,
                None => progress.insert(Box::default()).receive(bytes, sink)?,
            },
            Some(unfinished) => unfinished.receive(bytes, sink)?,
        };
        bytes = &mut bytes[consumed..];
        if progress.as_ref().is_some_and(|unfinished| unfinished.is_nothing()) {
            *progress = None;
        }
    }
    Ok(())
}

/// Takes a complete message or control frame at the start of `bytes` and returns its size; `None` if there is none.
fn receive_whole(bytes: &mut [u8], sink: &mut Sink<'_>) -> Result<Option<usize>, Close> {
    let Some((header, key)) = parse_header(bytes)? else { return Ok(None) };
    if !header.is_final || header.kind == FrameKind::Continuation || bytes.len() < header.frame_bytes() {
        return Ok(None);
    }
    if !matches!(header.kind, FrameKind::Control(_)) && sink.limits.message_bytes_max < header.payload_bytes {
        return Err(Close::MessageTooBig);
    }
    let payload = &mut bytes[header.header_bytes..header.frame_bytes()];
    //= RFC 6455 section 6.2: "A server MUST remove masking for data frames received from a client as described in
    //=   Section 5.3."
    mask::apply(payload, key, 0);
    match header.kind {
        FrameKind::Control(kind) => sink.take_control(kind, payload)?,
        FrameKind::Text => {
            //= RFC 6455 section 5.6: "however, the whole message MUST contain valid UTF-8."
            let text = simdutf8::basic::from_utf8(payload).map_err(|_| Close::BadUtf8)?;
            sink.messages.push(Message::Text(text.to_owned()));
        }
        FrameKind::Binary | FrameKind::Continuation => sink.messages.push(Message::Binary(payload.to_vec())),
    }
    Ok(Some(header.frame_bytes()))
}

/// A client's header, and its masking key, without which the connection fails (RFC 6455 section 5.1).
pub(super) fn parse_header(bytes: &[u8]) -> Result<Option<(FrameHead, [u8; 4])>, Close> {
    //= RFC 6455 section 10.7: "Incoming data MUST always be validated by both clients and servers."
    let Some(header) = FrameHead::parse(bytes)? else { return Ok(None) };
    //= RFC 6455 section 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
    let key = header.mask.ok_or(Close::BadFrame("client frames must be masked"))?;
    Ok(Some((header, key)))
}

/// Receives messages and answers.
pub(super) struct Sink<'a> {
    pub(super) limits: &'a WebSocketLimits,
    pub(super) outbox: &'a mut Outbox,
    pub(super) messages: &'a mut Vec<Message>,
}

impl Sink<'_> {
    pub(super) fn take_control(&mut self, kind: ControlKind, payload: &[u8]) -> Result<(), Close> {
        match kind {
            //= RFC 6455 section 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response,
            //=   unless it already received a Close frame."
            ControlKind::Ping => {
                self.answer_ping(payload);
                self.messages.push(Message::Ping);
            }
            ControlKind::Pong => self.messages.push(Message::Pong),
            ControlKind::Close => return Err(Close::PeerClosed(frame::close_code(payload)?)),
        }
        Ok(())
    }

    fn answer_ping(&mut self, payload: &[u8]) {
        if self.outbox.len() + PONG_HEADER_BYTES + payload.len() <= self.limits.pong_bytes_max {
            frame::write_pong(payload, self.outbox.buffer());
        }
    }
}

const PONG_HEADER_BYTES: usize = 2;
