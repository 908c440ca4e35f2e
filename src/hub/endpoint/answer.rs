//! What an endpoint returns. The reactor carries an answer out; an endpoint never sees a socket.

use std::sync::Arc;

use crate::{
    auth::Identity,
    close::Close,
    endpoint::OpenWork,
    event::Start,
    protocol::{Layer, Opening, SessionId, http::Response, websocket::Accepted},
    share::QuotaReservation,
    topic::Topic,
};

/// What the reactor does about a request.
#[derive(Debug)]
pub enum Answer {
    /// Send this response.
    Response(Response),
    /// Wait for a [`Completion`](super::Completion), which brings the response. The response gets these fields besides its own.
    Later(Vec<(&'static str, String)>),
    /// Do this work over several turns; it ends with a response.
    Work(OpenWork),
    /// Open a stream of events.
    Stream(Box<OpenStream>),
    /// Carry out a request to Engine.IO.
    Engine(Box<EngineRequest>),
    /// Open a stream and end it at once. This is the only refusal from which a browser learns when to come back.
    Ended {
        /// The stream to open.
        stream: Box<OpenStream>,
        /// Why it ends.
        close: Close,
    },
}

/// A stream of events to open.
#[derive(Debug)]
pub struct OpenStream {
    /// The protocol that the stream speaks, and what is peculiar to it.
    pub opening: Opening,
    /// The topics that the stream carries from the start, in the order of the URL, each with where it begins.
    pub topics: Vec<(Topic, Start)>,
    /// Fields of the response's head. A response that accepts an upgrade has none of them.
    pub headers: Vec<(&'static str, String)>,
    /// Whose stream it is; `None` if the hub asks for no token.
    pub identity: Option<Arc<Identity>>,
    /// The stream's share of its tenant's quota, held while the stream is open.
    pub reservation: Option<QuotaReservation>,
}

impl OpenStream {
    /// A stream without topics, of a client that has shown no token.
    pub fn new(opening: impl Into<Opening>) -> Self {
        Self { opening: opening.into(), topics: Vec::new(), headers: Vec::new(), identity: None, reservation: None }
    }
}

/// A request to Engine.IO, for the reactor to carry out.
#[derive(Debug)]
pub struct EngineRequest {
    /// What to do.
    pub kind: EngineAction,
    /// The protocol on top of the session.
    pub layer: Layer,
    /// Fields of the response.
    pub headers: Vec<(&'static str, String)>,
}

/// What a request asks of Engine.IO.
#[derive(Debug)]
pub enum EngineAction {
    /// Open a session that requests carry.
    Open,
    /// Open a session that this WebSocket carries.
    OpenWebSocket(Accepted),
    /// Answer with the packets that the session has for the client.
    Poll(SessionId),
    /// Take the packets in the body.
    Post(SessionId),
    /// Carry the session over this WebSocket from now on, once the client has probed it.
    Probe(SessionId, Accepted),
}

impl EngineAction {
    /// The session that the request names, unless it opens one.
    pub fn sid(&self) -> Option<SessionId> {
        match self {
            Self::Open | Self::OpenWebSocket(_) => None,
            Self::Poll(sid) | Self::Post(sid) | Self::Probe(sid, _) => Some(*sid),
        }
    }
}

impl Answer {
    /// The answer of a request that waits for a completion, without fields of its own.
    pub fn later() -> Self {
        Self::Later(Vec::new())
    }

    /// Opens the stream that `opening` is, and ends it at once.
    pub(in crate::endpoint) fn ended(opening: Opening, close: Close) -> Self {
        Self::Ended { stream: Box::new(OpenStream::new(opening)), close }
    }
}

impl From<OpenStream> for Answer {
    fn from(open: OpenStream) -> Self {
        Self::Stream(Box::new(open))
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}
