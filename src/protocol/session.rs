//! What a connection speaks: a closed enum whose transition consumes it.
//!
//! LIFECYCLE: a connection begins as [`Session::Http`]. A request that opens a stream turns it into [`Session::Sse`], an
//! upgrade into [`Session::WebSocket`]; neither ever turns back. [`Session::receive`] takes the session and returns the
//! next one, or the [`Close`] that ended it; its owner stores that `Result`, so that after an end every later call says
//! the same.

use super::{
    fanfare_v1,
    http::{self, Request},
    rate::{Rate, RateLimit, Verdict},
    websocket::{self, Message},
};
use crate::{
    clock::Moment,
    close::Close,
    event::EventId,
    frame::{Format, SseForm},
    outbox::Outbox,
};

/// What all sessions are bounded by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Requests.
    pub http: http::Limits,
    /// WebSocket messages.
    pub websocket: websocket::Limits,
    /// How often a WebSocket client may speak.
    pub rate: RateLimit,
}

/// What a peer wants, once understood.
#[derive(Debug)]
pub enum Ask {
    /// An HTTP request, to be answered before the next one comes.
    Request(Request),
    /// A `fanfare.v1` message.
    Command(String),
    /// A message for the application, of a [`Dialect::Messages`] connection.
    Message(Message),
    /// The end, once all that was asked before is answered.
    End(Close),
}

/// What a connection speaks.
#[derive(Debug)]
pub enum Session {
    /// Requests and responses. Boxed: it is short-lived, and the others are small.
    Http(Box<http::ServerSession>),
    /// An open Server-Sent Events stream. What the client says is read over.
    Sse(SseStream),
    /// An upgraded connection.
    WebSocket(WebSocketSession),
}

/// An open Server-Sent Events stream.
#[derive(Debug)]
pub struct SseStream {
    /// The variant of its frames.
    pub form: SseForm,
    /// With several topics: the last id of each, in the order of the URL. Together they are the stream's id.
    pub cursors: Option<Box<[Option<EventId>]>>,
}

/// An upgraded connection.
#[derive(Debug)]
pub struct WebSocketSession {
    codec: websocket::ServerSession,
    /// What the messages mean.
    pub dialect: Dialect,
    rate: Rate,
}

/// What WebSocket messages mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// From the server: one payload each, verbatim. From the client: nothing.
    Raw,
    /// JSON envelopes and commands.
    FanfareV1,
    /// Whatever the application takes them for.
    Messages,
}

impl Session {
    /// For a connection accepted `now`.
    pub fn new(now: Moment) -> Self {
        Self::Http(Box::new(http::ServerSession::new(now)))
    }

    /// Takes what the peer sent, all of it. What it wants is appended to `asks`, what it is owed at once to `outbox`.
    pub fn receive(
        mut self,
        bytes: &mut [u8],
        limits: &Limits,
        outbox: &mut Outbox,
        asks: &mut Vec<Ask>,
        now: Moment,
    ) -> Result<Self, Close> {
        match &mut self {
            Self::Http(http) => asks.extend(http.receive(bytes, &limits.http, outbox, now)?.map(Ask::Request)),
            Self::Sse(_) => {}
            Self::WebSocket(websocket) => websocket.receive(bytes, limits, outbox, asks, now)?,
        }
        Ok(self)
    }

    /// The form its events are written in; `None` before there are any.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Http(_) => None,
            Self::Sse(stream) => Some(Format::Sse(stream.form)),
            Self::WebSocket(websocket) => Some(match websocket.dialect {
                Dialect::Raw | Dialect::Messages => Format::WebSocketRaw,
                Dialect::FanfareV1 => Format::FanfareV1,
            }),
        }
    }
}

impl WebSocketSession {
    /// An upgrade just accepted.
    pub fn new(dialect: Dialect) -> Self {
        Self { codec: websocket::ServerSession::new(), dialect, rate: Rate::default() }
    }

    /// Begins the end from our side.
    pub fn close(&mut self, close: Close, outbox: &mut Outbox) {
        self.codec.close(close, outbox);
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &Limits,
        outbox: &mut Outbox,
        asks: &mut Vec<Ask>,
        now: Moment,
    ) -> Result<(), Close> {
        let mut messages = Vec::new();
        let mut outcome = self.codec.receive(bytes, &limits.websocket, outbox, &mut messages);
        let asks_before = asks.len();
        for message in messages {
            match self.rate.judge(&limits.rate, now) {
                Verdict::CutOff => {
                    outcome = outcome.and(Err(Close::RateLimited));
                    break;
                }
                Verdict::Ignore => self.tell_error("RateLimited", "too many messages; this one was ignored", outbox),
                Verdict::Pass => self.read_message(message, outbox, asks),
            }
        }
        match outcome {
            // Nothing may be said after a close frame (RFC 6455 section 5.5.1), so the answers come first.
            Err(close) if asks_before < asks.len() => {
                asks.push(Ask::End(close));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn read_message(&self, message: Message, outbox: &mut Outbox, asks: &mut Vec<Ask>) {
        match (self.dialect, message) {
            (Dialect::Raw, _) | (_, Message::Pong) => {}
            (Dialect::Messages, message) => asks.push(Ask::Message(message)),
            (Dialect::FanfareV1, Message::Text(text)) => asks.push(Ask::Command(text)),
            (Dialect::FanfareV1, Message::Binary(_)) => {
                self.tell_error("BadRequest", "commands are text messages", outbox);
            }
        }
    }

    /// Tells the client that a message of its was not heeded, where the dialect has a word for it.
    fn tell_error(&self, code: &str, why: &str, outbox: &mut Outbox) {
        if self.dialect == Dialect::FanfareV1 {
            let mut text = Vec::new();
            fanfare_v1::write_error(code, why, None, &mut text);
            outbox.put(&websocket::encode_text(&text));
        }
    }
}

#[cfg(test)]
mod tests;
