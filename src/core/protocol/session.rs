//! What a connection speaks: a closed enum whose transition consumes it.
//!
//! LIFECYCLE: a connection begins as [`Session::Http`], or as [`Session::Preface`], which turns into it, where a proxy has
//! to say first for whom it connects. A request that opens a stream turns it into [`Session::Sse`], an
//! upgrade into [`Session::WebSocket`]; neither ever turns back. [`Session::receive`] takes the session and returns the
//! next one, or the [`Close`] that ended it; its owner stores that `Result`, so that after an end every later call says
//! the same.

// The part of the standard library without sockets: an address is a plain value.
use core::{net::IpAddr, num::NonZeroU32, time::Duration};

use smallvec::SmallVec;

use super::{
    engine_session::{EngineLimits, EngineSession, SocketAsk},
    fanfare_v1,
    http::{self, Request},
    long_message::{Checked, LongMessage},
    proxy::{self, Preface},
    rate::{Rate, RateLimit, RateVerdict},
    sse,
    websocket::{self, Message},
};
use crate::{
    clock::Moment,
    close::Close,
    event::{EventId, Position},
    frame::{Format, SseForm},
    index::TopicIndex,
    json::LONG_TEXT_BYTES,
    outbox::Outbox,
};

/// What all sessions are bounded by.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionLimits {
    /// What a proxy says of a connection.
    pub proxy: proxy::ProxyLimits,
    pub http: http::HttpLimits,
    /// WebSocket messages.
    pub websocket: websocket::WebSocketLimits,
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
    /// The connection comes from here, by its proxy's account; `None`: from the proxy itself, or nobody knows.
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
    Http(Box<http::ServerSession>),
    /// An open Server-Sent Events stream. What the client says is read over.
    Sse(SseStream),
    /// An upgraded connection.
    WebSocket(WebSocketSession),
    /// A session of Engine.IO, whatever carries it. Boxed: it is large, and the others are small.
    Engine(Box<EngineSession>),
}

/// An open Server-Sent Events stream.
#[derive(Debug)]
pub struct SseStream {
    /// The variant of its frames.
    pub form: SseForm,
    /// With several topics: where the client stands in each, in the order of the URL. Together they are the stream's id.
    pub cursors: Option<Box<TopicCursors>>,
    /// Whether the client is told where it stands before the first event. By the standard a block without data is no
    /// event, but some clients make an empty one of it, so it is told to browsers only.
    pub tells_place: bool,
    /// What the client is told first, until it has been.
    pub greeting: Option<Box<sse::Greeting>>,
    /// What its clients expect besides the events, if they do.
    pub profile: Option<Box<sse::SseProfile>>,
}

/// Where a client stands in several topics. In a box of their own, so that streams over one topic stay small.
pub type TopicCursors = SmallVec<[TopicCursor; 4]>;

/// Where a client stands in one of several topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicCursor {
    /// The topic, by its owner's index for it.
    pub topic: TopicIndex,
    /// The last id. While the stream listens to the topic, its owner knows that better, and brings it up to date when it is
    /// needed.
    pub id: EventId,
    /// Where in the log the stream has begun to listen. While it stands there the id is right as it is: the log may know the
    /// position by another one.
    pub began: Position,
}

impl SseStream {
    /// The stream's id, if it is over several topics.
    pub fn ids(&self) -> Option<impl ExactSizeIterator<Item = EventId> + Clone> {
        self.cursors.as_ref().map(|cursors| cursors.iter().map(|cursor| cursor.id))
    }

    /// The stream listens to `topic` from the position `began` on.
    pub fn begin(&mut self, topic: TopicIndex, began: Position) {
        let cursors = self.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
        cursors.filter(|cursor| cursor.topic == topic).for_each(|cursor| cursor.began = began);
    }

    /// The client has everything of `topic` up to `id`.
    pub fn pass(&mut self, topic: TopicIndex, id: EventId) {
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
    /// Since when a ping waits for any sign of the peer, in whole seconds, rounded up: it takes half the room of a moment.
    pinged_s: Option<NonZeroU32>,
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
}

impl WebSocketSession {
    /// An upgrade just accepted.
    pub fn new(dialect: Dialect) -> Self {
        Self { codec: websocket::ServerSession::new(), dialect, pinged_s: None, rate: Rate::default() }
    }

    /// What was received and not understood yet, for whoever reads on.
    pub fn into_codec(self) -> websocket::ServerSession {
        self.codec
    }

    /// Begins the end from our side.
    pub fn close(&mut self, close: Close, outbox: &mut Outbox) {
        self.codec.close(close, outbox);
    }

    /// Takes note that a ping was sent.
    pub fn on_ping(&mut self, now: Moment) {
        let seconds = u32::try_from(now.0.div_ceil(NANOSECONDS_PER_SECOND)).unwrap_or(u32::MAX);
        self.pinged_s = self.pinged_s.or_else(|| NonZeroU32::new(seconds));
    }

    /// Forgets the ping: something else tells whether the peer is there.
    pub fn forget_ping(&mut self) {
        self.pinged_s = None;
    }

    /// When a peer that was pinged, and has been silent since, has been so for `pong_timeout`.
    pub fn pong_deadline(&self, pong_timeout: Duration) -> Option<Moment> {
        let seconds = self.pinged_s?;
        Some(Moment(u64::from(seconds.get()) * NANOSECONDS_PER_SECOND) + pong_timeout)
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        outbox: &mut Outbox,
        asks: &mut Vec<Ask>,
        now: Moment,
    ) -> Result<(), Close> {
        self.pinged_s = None;
        let mut messages = Vec::new();
        let mut outcome = self.codec.receive(bytes, &limits.websocket, outbox, &mut messages);
        let asks_before = asks.len();
        for message in messages {
            match self.rate.judge(&limits.rate, now) {
                RateVerdict::CutOff => {
                    outcome = outcome.and(Err(Close::RateLimited));
                    break;
                }
                RateVerdict::Ignore => self.report_ignored(&message, outbox),
                RateVerdict::Pass => self.read_message(message, outbox, asks),
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
            (Dialect::Raw, _) | (_, Message::Ping | Message::Pong) => {}
            (Dialect::Messages, message) => asks.push(Ask::Message(message)),
            (Dialect::FanfareV1, Message::Text(text)) if LONG_TEXT_BYTES < text.len() => {
                asks.push(Ask::Long(Box::new(LongMessage::command(text))));
            }
            (Dialect::FanfareV1, Message::Text(text)) => asks.push(Ask::Command(text)),
            (Dialect::FanfareV1, Message::Binary(_)) => {
                self.report_error("BadRequest", "commands are text messages", None, outbox);
            }
        }
    }

    /// Tells the client that a message of its came too fast. Pings and pongs count like any other, but nobody waits for
    /// what becomes of them.
    fn report_ignored(&self, message: &Message, outbox: &mut Outbox) {
        let reference = match message {
            Message::Text(text) => fanfare_v1::reference_of(text),
            Message::Binary(_) => None,
            Message::Ping | Message::Pong => return,
        };
        self.report_error("RateLimited", "too many messages; this one was ignored", reference, outbox);
    }

    /// Tells the client that a message of its was not heeded, where the dialect has a word for it.
    fn report_error(&self, code: &str, why: &str, reference: fanfare_v1::Reference<'_>, outbox: &mut Outbox) {
        if self.dialect == Dialect::FanfareV1 {
            let mut text = Vec::new();
            fanfare_v1::write_error(code, why, reference, &mut text);
            outbox.put(&websocket::encode_text(&text));
        }
    }
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
