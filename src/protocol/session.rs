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
    /// With several topics: where the client stands in each, in the order of the URL. Together they are the stream's id.
    pub cursors: Option<Box<[TopicCursor]>>,
    /// Whether the client is told where it stands before the first event. By the standard a block without data is no
    /// event, but some clients make an empty one of it, so it is told to browsers only.
    pub tells_place: bool,
}

/// Where a client stands in one of several topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicCursor {
    /// The topic, by its owner's number for it.
    pub topic: u32,
    /// The last id.
    pub id: EventId,
}

impl SseStream {
    /// The stream's id, if it is over several topics.
    pub fn ids(&self) -> Option<impl ExactSizeIterator<Item = EventId> + Clone> {
        self.cursors.as_ref().map(|cursors| cursors.iter().map(|cursor| cursor.id))
    }

    /// The client has everything of `topic` up to `id`.
    pub fn pass(&mut self, topic: u32, id: EventId) {
        let cursors = self.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
        cursors.filter(|cursor| cursor.topic == topic).for_each(|cursor| cursor.id = id);
    }
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

    /// What it keeps of what the peer has not finished saying, in bytes.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Http(http) => http.held_bytes(),
            Self::Sse(_) => 0,
            Self::WebSocket(websocket) => websocket.codec.held_bytes(),
        }
    }

    /// The form its events are written in; `None` before there are any.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Http(_) => None,
            Self::Sse(stream) => Some(Format::Sse(stream.form)),
            Self::WebSocket(websocket) => Some(match websocket.dialect {
                Dialect::Raw => Format::WebSocketRaw,
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
        let outcome = self.codec.receive(bytes, &limits.websocket, outbox, &mut messages);
        // After an end nothing more is said to the client: its close frame is answered already.
        let mut unsaid = Outbox::new();
        let outbox = if outcome.is_ok() { outbox } else { &mut unsaid };
        for message in messages {
            match self.rate.judge(&limits.rate, now) {
                Verdict::CutOff => return outcome.and(Err(Close::RateLimited)),
                Verdict::Ignore => self.tell_error("RateLimited", "too many messages; this one was ignored", outbox),
                Verdict::Pass => self.read_message(message, outbox, asks),
            }
        }
        outcome
    }

    fn read_message(&self, message: Message, outbox: &mut Outbox, asks: &mut Vec<Ask>) {
        match (self.dialect, message) {
            (Dialect::Raw, _) | (_, Message::Pong) => {}
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
