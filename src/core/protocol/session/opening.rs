//! How a connection for requests becomes a stream.

use super::{Dialect, Session, SseStream, WebSocketSession};
use crate::{
    clock::Moment,
    frame::SseForm,
    outbox::Outbox,
    protocol::{EngineLimits, EngineSession, Layer, SessionId, sse, websocket},
    transport::Transport,
};

/// What a request opens.
#[derive(Debug)]
pub enum Opening<'a> {
    /// An event stream.
    Sse {
        /// The variant of its frames. Without ids of its own it is over several topics ([`Session::set_topics`]).
        form: SseForm,
        /// Whether its resume id is written before the first event ([`Session::takes_resume_id`]).
        tells_place: bool,
        /// Its first event, which no log has.
        greeting: Option<sse::Greeting>,
        /// What its clients expect besides the events.
        profile: Option<Box<sse::SseProfile>>,
        /// Fields for its head.
        headers: &'a [(&'static str, String)],
        /// When a browser may come back, should the stream break.
        retry_ms: u64,
    },
    /// A WebSocket.
    WebSocket {
        /// What the handshake agreed on.
        accepted: &'a websocket::Accepted,
        /// What its messages mean.
        dialect: Dialect,
    },
    /// A session of Engine.IO, and the WebSocket that carries it.
    Engine {
        /// What the handshake agreed on.
        accepted: &'a websocket::Accepted,
        /// The session's name.
        sid: SessionId,
        /// What lies on top.
        layer: Layer,
        /// What bounds it.
        limits: &'a EngineLimits,
        /// When it begins.
        now: Moment,
    },
}

impl Opening<'_> {
    /// What the connection speaks from then on.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Sse { .. } => Transport::Sse,
            Self::WebSocket { .. } => Transport::WebSocket,
            Self::Engine { .. } => Transport::SocketIo,
        }
    }

    /// Whether the stream's id is its own, and names several topics ([`Session::set_topics`]).
    pub fn has_own_id(&self) -> bool {
        matches!(self, Self::Sse { form, .. } if !form.with_id)
    }
}

impl Session {
    /// Answers the request with the head that opens a stream, and becomes that stream. Returns it, and what the client has sent
    /// behind the request: the first bytes of the stream. `date` as [`crate::protocol::http::format_date`] gives it.
    pub fn open(self, opening: Opening<'_>, date: &str, outbox: &mut Outbox) -> (Self, Vec<u8>) {
        let next = match opening {
            Opening::Sse { form, tells_place, greeting, profile, headers, retry_ms } => {
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                sse::write_open(form.chunked, date, retry_ms, &headers, outbox.buffer());
                let greeting = greeting.map(Box::new);
                // What the client of an event stream sends is never read.
                return (Self::Sse(SseStream { form, cursors: None, tells_place, greeting, profile }), Vec::new());
            }
            Opening::WebSocket { accepted, dialect } => {
                websocket::write_accept(accepted, date, outbox.buffer());
                Self::WebSocket(WebSocketSession::new(dialect))
            }
            Opening::Engine { accepted, sid, layer, limits, now } => {
                websocket::write_accept(accepted, date, outbox.buffer());
                limits.write_handshake(sid, false, outbox.buffer());
                Self::Engine(Box::new(EngineSession::carried(sid, layer, limits, now)))
            }
        };
        let leftover = match self {
            Self::Http(http) => http.leftover(),
            Self::Preface(_) | Self::Sse(_) | Self::WebSocket(_) | Self::Engine(_) => Vec::new(),
        };
        (next, leftover)
    }

    /// A session of Engine.IO that requests carried goes on over the WebSocket whose session was `carrier`. False if one of the two
    /// is something else.
    pub fn carry_over(&mut self, carrier: Self) -> bool {
        match (self, carrier) {
            (Self::Engine(engine), Self::WebSocket(websocket)) => {
                engine.carry(websocket.codec);
                true
            }
            _ => false,
        }
    }
}
