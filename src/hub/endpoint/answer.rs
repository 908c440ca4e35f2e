//! What an endpoint returns. The reactor carries it out; an endpoint never sees a socket.

use std::sync::Arc;

use crate::{
    auth::Identity,
    close::Close,
    endpoint::OpenWork,
    event::Start,
    protocol::{
        Dialect, Layer, SessionId,
        http::Response,
        sse::{Greeting, SseProfile},
        websocket::Accepted,
    },
    share::Hold,
    topic::Topic,
};

/// What is to be done about a request.
#[derive(Debug)]
pub enum Answer {
    /// This response.
    Response(Response),
    /// A note on the bus will bring what the response is made of; it gets these fields besides its own.
    Later(Vec<(&'static str, String)>),
    /// Work that goes on over several turns, and ends with a response.
    Work(OpenWork),
    /// A Server-Sent Events stream.
    Sse(Box<OpenSse>),
    /// An upgrade.
    WebSocket(Box<OpenWebSocket>),
    /// Something of Engine.IO.
    Engine(Box<EngineRequest>),
    /// A stream that ends as soon as it is open: the one refusal from which a browser learns when to come back.
    Ended {
        /// What is opened.
        stream: Box<Self>,
        /// Why it ends.
        close: Close,
    },
}

/// A Server-Sent Events stream to be opened.
#[derive(Debug, Default)]
pub struct OpenSse {
    /// What it carries, in the order of the URL.
    pub topics: Vec<(Topic, Start)>,
    /// With `event:` lines.
    pub named: bool,
    /// Whether the client is told where it stands before the first event.
    pub wants_initial_id: bool,
    /// What the client is told first. The greeting tells it where it stands, so `wants_initial_id` is not needed with it.
    pub greeting: Option<Greeting>,
    /// What its clients expect besides the events, if they do.
    pub profile: Option<Box<SseProfile>>,
    /// Fields for its head.
    pub headers: Vec<(&'static str, String)>,
    /// Whose it is.
    pub identity: Option<Arc<Identity>>,
    /// Its part of what its tenant may have open, where a quota bounds that.
    pub hold: Option<Hold>,
}

/// A WebSocket to be opened.
#[derive(Debug)]
pub struct OpenWebSocket {
    /// What the handshake agreed on.
    pub accepted: Accepted,
    /// What its messages mean.
    pub dialect: Dialect,
    /// What it carries from the start.
    pub topics: Vec<(Topic, Start)>,
    /// Whose it is.
    pub identity: Option<Arc<Identity>>,
    /// Its part of what its tenant may have open, where a quota bounds that.
    pub hold: Option<Hold>,
}

/// What a request wants of Engine.IO, for the reactor to carry out.
#[derive(Debug)]
pub struct EngineRequest {
    /// What is wanted.
    pub kind: EngineAction,
    /// What lies on top of the session.
    pub layer: Layer,
    /// Fields for the answer.
    pub headers: Vec<(&'static str, String)>,
}

/// What a request wants of Engine.IO.
#[derive(Debug)]
pub enum EngineAction {
    /// A new session, carried by requests.
    Open,
    /// A new session, carried by a WebSocket.
    OpenWebSocket(Accepted),
    /// What the session has for the client.
    Poll(SessionId),
    /// The body holds what the client has for the session.
    Post(SessionId),
    /// To carry the session from now on.
    Probe(SessionId, Accepted),
}

impl EngineAction {
    /// The session it concerns, if there is one already.
    pub fn sid(&self) -> Option<SessionId> {
        match self {
            Self::Open | Self::OpenWebSocket(_) => None,
            Self::Poll(sid) | Self::Post(sid) | Self::Probe(sid, _) => Some(*sid),
        }
    }
}

impl Answer {
    /// A note will bring the answer.
    pub fn later() -> Self {
        Self::Later(Vec::new())
    }
}

impl From<OpenSse> for Answer {
    fn from(open: OpenSse) -> Self {
        Self::Sse(Box::new(open))
    }
}

impl From<OpenWebSocket> for Answer {
    fn from(open: OpenWebSocket) -> Self {
        Self::WebSocket(Box::new(open))
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}
