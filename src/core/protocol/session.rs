//! What a connection speaks: a closed enum whose transition consumes it.
//!
//! LIFECYCLE: a connection begins as [`Session::Http`], or as [`Session::Preface`], which turns into it, where a proxy
//! has to name its client first. A request that opens a stream turns it into [`Session::Sse`],
//! [`Session::WebSocket`] or [`Session::Engine`] ([`Session::open`]); none of them ever turns back. [`Session::receive`] takes
//! the session and returns the next one, or the [`Close`] that ended it; its owner stores that `Result`, so that after an end
//! every later call returns the same.
//!
//! This file lists the protocols: a variant of [`Session`] and one of [`Opening`], and an arm of `call_protocol` and of
//! `call_opening`. Everything else about a protocol stands in its own folder, which implements `ProtocolSession` and
//! `ProtocolOpening`.

// The part of the standard library without sockets: an address is a plain value.
use core::net::IpAddr;

use super::{
    engine_session::{EngineLimits, EngineOpening, EngineSession, SocketIoInput},
    http::{self, Request, Response, ServerSession},
    long_message::{Checked, LongMessage},
    proxy::{self, Preface},
    rate::RateLimit,
    sse::{SseOpening, SseStream},
    websocket::{self, Message, WebSocketLimits, WebSocketOpening, WebSocketSession},
};
use crate::{clock::Moment, close::Close, outbox::Outbox, transport::Transport};

/// Calls a method of `ProtocolSession` of the protocol that `$session` is.
macro_rules! call_protocol {
    ($session:expr, $method:ident($($argument:expr),*)) => {
        match $session {
            Session::Preface(it) => <$crate::protocol::proxy::Preface as ProtocolSession>::$method(it, $($argument),*),
            Session::Http(it) => <$crate::protocol::http::ServerSession as ProtocolSession>::$method(it, $($argument),*),
            Session::Sse(it) => <$crate::protocol::SseStream as ProtocolSession>::$method(it, $($argument),*),
            Session::WebSocket(it) => <$crate::protocol::WebSocketSession as ProtocolSession>::$method(it, $($argument),*),
            Session::Engine(it) => <$crate::protocol::EngineSession as ProtocolSession>::$method(it, $($argument),*),
        }
    };
}

/// `$call` on the opening that `$opening` is.
macro_rules! call_opening {
    ($opening:expr, $it:ident => $call:expr) => {
        match $opening {
            Opening::Sse($it) => $call,
            Opening::WebSocket($it) => $call,
            Opening::Engine($it) => $call,
        }
    };
}

mod ending;
mod interface;
mod opening;
mod requests;

pub use ending::{Ending, close_reason, write_unread_refusal};
pub(super) use ending::{denial_json, error_json, error_of, is_denial};
pub use interface::{GapOutcome, SessionCursor};
pub(super) use interface::{ProtocolSession, sort_by_topic};
pub(super) use opening::ProtocolOpening;
pub use opening::{AfterRefusal, OpeningContext};

/// What all sessions are bounded by.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionLimits {
    /// Headers of the PROXY protocol.
    pub proxy: proxy::ProxyLimits,
    pub http: http::HttpLimits,
    /// WebSocket messages.
    pub websocket: WebSocketLimits,
    /// How often a WebSocket client may speak.
    pub rate: RateLimit,
    /// Engine.IO sessions.
    pub engine: EngineLimits,
}

/// What is left to read of the packets in the body of a request.
#[derive(Debug)]
pub struct HeldPayload {
    /// The packets, behind others that are read.
    pub text: String,
    /// Where in the text they begin, in bytes.
    pub at: usize,
    /// How many there may be.
    pub packets_left: usize,
}

/// One thing that a peer has said or asked for, decoded from its bytes. The owner of the session acts on it.
#[derive(Debug)]
pub enum PeerInput {
    /// The connection's client, as its proxy names it; `None`: the proxy itself, or unknown.
    Source(Option<IpAddr>),
    /// The head of an HTTP request has come, and not all of its body: whether to wait for the body. Until that is answered the
    /// body is read all the same, so that the request may follow.
    Body,
    /// The rest of the body of a request that brought a session's packets, to be read when the session is looked at next.
    Payload(Box<HeldPayload>),
    /// An HTTP request, to be answered before the next one comes.
    Request(Request),
    /// A `fanfare.v1` message.
    Command(String),
    /// A message that is to be checked step by step, and then taken ([`PeerInput::Checked`]). What comes behind it waits.
    Long(Box<LongMessage>),
    /// A long message, and what its check has found.
    Checked(Box<LongMessage>, Checked),
    /// A message for the application, of a [`Dialect::Messages`](crate::protocol::Dialect::Messages) connection.
    Message(Message),
    /// A message for the application, over Engine.IO.
    EngineMessage(Message),
    /// Something of Socket.IO.
    Socket(SocketIoInput),
    /// What a Socket.IO client said behind an input that decides where the client is. It goes back to the session once that input is answered.
    Held(Message),
    /// The end, once all that was asked before is answered.
    End(Close),
}

/// What a connection speaks.
#[derive(Debug)]
pub enum Session {
    /// A proxy's header is due. Boxed, like all that is short-lived.
    Preface(Box<Preface>),
    /// Requests and responses. Boxed: it is short-lived, and the others are small.
    Http(Box<ServerSession>),
    /// An open Server-Sent Events stream. What the client sends is dropped.
    Sse(SseStream),
    /// An upgraded connection.
    WebSocket(WebSocketSession),
    /// A session of Engine.IO, whatever carries it. Boxed: it is large, and the others are small.
    Engine(Box<EngineSession>),
}

impl Session {
    /// For a connection accepted `now`.
    pub fn new(now: Moment) -> Self {
        Self::Http(Box::new(ServerSession::new(now)))
    }

    /// For a connection accepted `now` from a proxy that begins with a header of the PROXY protocol.
    pub fn behind_proxy(now: Moment) -> Self {
        Self::Preface(Box::new(Preface::new(now)))
    }

    /// Takes what the peer sent, all of it. What it wants is appended to `inputs`, what it is owed at once to `outbox`. A session that
    /// refuses the body of a request stays, for it knows what the request was for: see [`Session::refused`].
    pub fn receive(
        mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<Self, Close> {
        if let Self::Preface(preface) = &mut self {
            let Some((header, mut rest)) = preface.receive(bytes, &limits.proxy)? else { return Ok(self) };
            inputs.push(PeerInput::Source(header.source));
            return Self::new(preface.accepted()).receive(&mut rest, limits, outbox, inputs, now);
        }
        call_protocol!(&mut self, receive(bytes, limits, outbox, inputs, now))?;
        Ok(self)
    }

    /// Answers the request with the head that opens a stream, and becomes that stream. Returns it, and what the client has sent
    /// behind the request: the first bytes of the stream.
    pub fn open(self, opening: Opening, context: OpeningContext<'_>, outbox: &mut Outbox) -> (Self, Vec<u8>) {
        let next = call_opening!(opening, it => it.open(context, outbox));
        let leftover = if let Self::Http(http) = self { http.leftover() } else { Vec::new() };
        (next, leftover)
    }

    /// Requests and their responses, if the session is that.
    pub fn requests(&self) -> Option<&ServerSession> {
        if let Self::Http(http) = self { Some(http) } else { None }
    }

    /// The same, to respond.
    pub fn requests_mut(&mut self) -> Option<&mut ServerSession> {
        if let Self::Http(http) = self { Some(http) } else { None }
    }

    /// The session of Engine.IO, which outlives what carries it.
    pub fn engine(&mut self) -> Option<&mut EngineSession> {
        if let Self::Engine(engine) = self { Some(engine) } else { None }
    }

    /// A session of Engine.IO that requests carried goes on over the WebSocket whose session was `carrier`. False if one of the two
    /// is something else.
    pub fn carry_over(&mut self, carrier: Self) -> bool {
        match (self, carrier) {
            (Self::Engine(engine), Self::WebSocket(websocket)) => {
                engine.carry(websocket.into_codec());
                true
            }
            _ => false,
        }
    }

    fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox) {
        call_protocol!(self, write_end(ending, outbox));
    }

    /// Writes the last bytes of a connection that spoke `transport`, and whose session has ended itself.
    fn write_end_of(transport: Transport, ending: &Ending<'_>, outbox: &mut Outbox) {
        match transport {
            Transport::Http => http::write_refusal(ending.close, ending.date, outbox),
            Transport::Sse => {}
            Transport::WebSocket | Transport::SocketIo => websocket::write_last(ending, outbox),
        }
    }
}

/// The stream that an answer to a request opens.
#[derive(Debug)]
pub enum Opening {
    /// An event stream.
    Sse(SseOpening),
    /// A WebSocket.
    WebSocket(WebSocketOpening),
    /// A session of Engine.IO, and the WebSocket that carries it.
    Engine(EngineOpening),
}

impl Opening {
    /// The stream that a client asks for with `request`, to be ended at once, if the client learns more from its end than from a
    /// status. `after`: what the client is then to do.
    pub fn of_refusal(request: &Request, after: AfterRefusal) -> Option<Self> {
        let websocket = WebSocketOpening::of_refusal(request, after).map(Self::WebSocket);
        websocket.or_else(|| SseOpening::of_refusal(request, after).map(Self::Sse))
    }

    /// What the connection speaks from then on.
    pub fn transport(&self) -> Transport {
        const fn of<P: ProtocolOpening>(_: &P) -> Transport {
            P::TRANSPORT
        }
        call_opening!(self, it => of(it))
    }

    /// The status of the response.
    pub fn status(&self) -> u16 {
        const fn of<P: ProtocolOpening>(_: &P) -> u16 {
            P::STATUS
        }
        call_opening!(self, it => of(it))
    }

    /// Whether the stream is the content of the response. If not, the connection is another protocol's from then on (RFC 9110
    /// section 15.2.2).
    pub fn is_content(&self) -> bool {
        self.status() != 101
    }

    /// Whether the id of a stream over so many topics is its own, and names all of them ([`Session::set_topics`]).
    pub fn has_own_id(&self, topic_count: usize) -> bool {
        call_opening!(self, it => it.has_own_id(topic_count))
    }

    /// The answer to a HEAD (RFC 9110 section 9.3.2); `None` where only a GET can open such a stream.
    pub fn head(&self) -> Option<Response> {
        call_opening!(self, it => it.head())
    }

    /// The stream is opened only to be refused, for an API whose clients look for an event that tells why.
    pub fn expect_refusal(&mut self) {
        call_opening!(self, it => it.expect_refusal());
    }
}

impl From<SseOpening> for Opening {
    fn from(opening: SseOpening) -> Self {
        Self::Sse(opening)
    }
}

impl From<WebSocketOpening> for Opening {
    fn from(opening: WebSocketOpening) -> Self {
        Self::WebSocket(opening)
    }
}

#[cfg(test)]
mod tests;
