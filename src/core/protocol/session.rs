//! What a connection speaks: a closed enum whose transition consumes it.
//!
//! LIFECYCLE: a connection begins as [`Session::Http`], or as [`Session::Preface`], which turns into it, where a proxy
//! has to name its client first. A request that opens a stream turns it into [`Session::Sse`],
//! [`Session::WebSocket`] or [`Session::Engine`] ([`Session::open`]); none of them ever turns back. [`Session::receive`] takes
//! the session and returns the next one, or the [`Close`] that ended it; its owner stores that `Result`, so that after an end
//! every later call returns the same.

mod cursors;
mod ending;
mod opening;
mod output;
mod sse;
mod websocket;

// The part of the standard library without sockets: an address is a plain value.
use core::{net::IpAddr, time::Duration};

pub use cursors::SessionCursor;
pub use ending::{Ending, close_reason, write_unread_refusal};
pub use opening::Opening;
pub use output::GapOutcome;
pub use sse::{SseStream, TopicCursor, TopicCursors};
pub use websocket::{Dialect, WebSocketSession};

use super::{
    engine_session::{EngineLimits, EngineSession, SocketAsk},
    http::{self, Request, ServerSession},
    long_message::{Checked, LongMessage},
    proxy::{self, Preface},
    rate::RateLimit,
    websocket::{Message, WebSocketLimits},
};
use crate::{clock::Moment, close::Close, frame::Format, outbox::Outbox};

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

/// What a peer wants, once understood.
#[derive(Debug)]
pub enum Ask {
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
    /// A message that is to be checked step by step, and then taken ([`Ask::Checked`]). What comes behind it waits.
    Long(Box<LongMessage>),
    /// A long message, and what its check has found.
    Checked(Box<LongMessage>, Checked),
    /// A message for the application, of a [`Dialect::Messages`] connection.
    Message(Message),
    /// A message for the application, over Engine.IO.
    EngineMessage(Message),
    /// Something of Socket.IO.
    Socket(SocketAsk),
    /// What a Socket.IO client said behind an ask that decides where it is: for its session again, once that is answered.
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

    /// Takes what the peer sent, all of it. What it wants is appended to `asks`, what it is owed at once to `outbox`. A session that
    /// refuses the body of a request stays, for it knows what the request was for: see [`Session::refused`].
    pub fn receive(
        mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        outbox: &mut Outbox,
        asks: &mut Vec<Ask>,
        now: Moment,
    ) -> Result<Self, Close> {
        match &mut self {
            Self::Preface(preface) => {
                let Some((header, mut rest)) = preface.receive(bytes, &limits.proxy)? else { return Ok(self) };
                asks.push(Ask::Source(header.source));
                return Self::new(preface.accepted()).receive(&mut rest, limits, outbox, asks, now);
            }
            Self::Http(http) => match http.receive(bytes, &limits.http, now) {
                Ok(request) => {
                    asks.extend(request.map(Ask::Request));
                    if http.announces_body() {
                        asks.push(Ask::Body);
                    }
                }
                Err(_) if http.refused().is_some() => {}
                Err(close) => return Err(close),
            },
            Self::Sse(_) => {}
            Self::WebSocket(websocket) => websocket.receive(bytes, limits, outbox, asks, now)?,
            Self::Engine(engine) => engine.receive(bytes, limits, outbox, asks, now)?,
        }
        Ok(self)
    }

    /// When [`Session::expire`] is due, unless something happens before; `None` while the hub has a request to answer, and
    /// for streams.
    pub fn deadline(&self, limits: &SessionLimits) -> Option<Moment> {
        match self {
            Self::Preface(preface) => Some(preface.accepted() + limits.http.head_timeout),
            Self::Http(http) => http.deadline(&limits.http),
            Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => None,
        }
    }

    /// Why the session takes no more, if it has refused the body of a request.
    pub fn refused(&self) -> Option<Close> {
        match self {
            Self::Http(http) => http.refused(),
            Self::Preface(_) | Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => None,
        }
    }

    /// When a peer that was pinged, and has been silent since, has been so for `pong_timeout`.
    pub fn pong_deadline(&self, pong_timeout: Duration) -> Option<Moment> {
        match self {
            Self::WebSocket(websocket) => websocket.pong_deadline(pong_timeout),
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::Engine(_) => None,
        }
    }

    /// When the next heartbeat is due of a stream whose heartbeats are events; `None`: whenever it has been silent.
    pub fn heartbeat_due(&self) -> Option<Moment> {
        match self {
            Self::Sse(stream) => stream.profile.as_ref().map(|profile| profile.heartbeat_due()),
            Self::Preface(_) | Self::Http(_) | Self::WebSocket(_) | Self::Engine(_) => None,
        }
    }

    /// Why the connection is to end, the deadline having passed.
    pub fn expire(&self) -> Close {
        match self {
            Self::Preface(preface) if !preface.is_idle() => Close::RequestTimeout,
            Self::Http(http) => http.expire(),
            Self::Preface(_) | Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => Close::Done,
        }
    }

    /// Whether the connection can be closed without cutting anything off: no request has begun.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Preface(preface) => preface.is_idle(),
            Self::Http(http) => http.is_idle(),
            Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => false,
        }
    }

    /// Whether nothing has come yet.
    pub fn is_fresh(&self) -> bool {
        match self {
            Self::Preface(preface) => preface.is_idle(),
            Self::Http(http) => http.is_fresh(),
            Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => false,
        }
    }

    /// What it keeps of what the peer has not finished saying, in bytes.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Preface(preface) => preface.held_bytes(),
            Self::Http(http) => http.held_bytes(),
            Self::Sse(_) => 0,
            Self::WebSocket(websocket) => websocket.codec.held_bytes(),
            Self::Engine(engine) => engine.held_bytes(),
        }
    }

    /// The form its events are written in; `None` before there are any.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Preface(_) | Self::Http(_) => None,
            Self::Sse(stream) => Some(Format::Sse(stream.form)),
            Self::WebSocket(websocket) => Some(match websocket.dialect {
                Dialect::Raw | Dialect::Messages => Format::WebSocketRaw,
                Dialect::FanfareV1 => Format::FanfareV1,
            }),
            Self::Engine(engine) => engine.sockets.as_ref().map(|sockets| Format::SocketIo(sockets.form())),
        }
    }

    /// Requests and their responses, if the session is that.
    pub fn requests(&self) -> Option<&ServerSession> {
        match self {
            Self::Http(http) => Some(http),
            Self::Preface(_) | Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => None,
        }
    }

    /// The same, to respond.
    pub fn requests_mut(&mut self) -> Option<&mut ServerSession> {
        match self {
            Self::Http(http) => Some(http),
            Self::Preface(_) | Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => None,
        }
    }

    /// The session of Engine.IO, which outlives what carries it.
    pub fn engine(&mut self) -> Option<&mut EngineSession> {
        match self {
            Self::Engine(engine) => Some(engine),
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::WebSocket(_) => None,
        }
    }

    /// Whether it is one that brings events.
    pub fn is_stream(&self) -> bool {
        match self {
            Self::Preface(_) | Self::Http(_) => false,
            Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => true,
        }
    }

    /// Whether it is a stream that has a client: a session of Socket.IO has none before one has entered a namespace.
    pub fn has_client(&self) -> bool {
        match self {
            Self::Preface(_) | Self::Http(_) => false,
            Self::Sse(_) | Self::WebSocket(_) => true,
            Self::Engine(engine) => engine.sockets.as_ref().is_some_and(|sockets| !sockets.clients().is_empty()),
        }
    }

    /// Whether it keeps its own time ([`EngineSession::deadline`]), and needs no heartbeats.
    pub fn keeps_time(&self) -> bool {
        match self {
            Self::Engine(_) => true,
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::WebSocket(_) => false,
        }
    }

    /// Whether a client that comes back by itself names the id to resume from. If not, a gap does not end its connection.
    pub fn says_from_where(&self) -> bool {
        match self {
            Self::Engine(_) => false,
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::WebSocket(_) => true,
        }
    }

    /// Whether its client learns of gaps from the close frame alone.
    pub fn ends_for_gaps(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.dialect == Dialect::Raw,
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::Engine(_) => false,
        }
    }

    /// Whether a ping has been unanswered for `pong_timeout`. A client that has yet to read what is ahead of the ping cannot have
    /// seen it, so where the connection `is_blocked` the ping is forgotten.
    pub fn is_pong_late(&mut self, is_blocked: bool, pong_timeout: Duration, now: Moment) -> bool {
        match self {
            Self::WebSocket(websocket) if is_blocked => {
                websocket.forget_ping();
                false
            }
            Self::WebSocket(websocket) => websocket.pong_deadline(pong_timeout).is_some_and(|deadline| deadline <= now),
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::Engine(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
