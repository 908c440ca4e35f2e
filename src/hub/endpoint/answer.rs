//! What an endpoint returns. The reactor carries an answer out; an endpoint never sees a socket.

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

/// What the reactor does about a request.
#[derive(Debug)]
pub enum Answer {
    /// Send this response.
    Response(Response),
    /// Wait for a [`Completion`](super::Completion), which brings the response. The response gets these fields besides its own.
    Later(Vec<(&'static str, String)>),
    /// Do this work over several turns; it ends with a response.
    Work(OpenWork),
    /// Open a Server-Sent Events stream.
    Sse(Box<OpenSse>),
    /// Upgrade the connection to WebSocket.
    WebSocket(Box<OpenWebSocket>),
    /// Carry out a request to Engine.IO.
    Engine(Box<EngineRequest>),
    /// Open a stream and end it at once. This is the only refusal from which a browser learns when to come back.
    Ended {
        /// The stream to open.
        stream: Box<Self>,
        /// Why it ends.
        close: Close,
    },
}

/// A Server-Sent Events stream to open.
#[derive(Debug, Default)]
pub struct OpenSse {
    /// The topics, in the order of the URL, each with where it begins.
    pub topics: Vec<(Topic, Start)>,
    /// Whether events have `event:` lines.
    pub named: bool,
    /// Whether the client gets the ids that it starts from, in a block without data, before the first event.
    pub wants_initial_id: bool,
    /// An event for this client alone, sent first. It carries the ids, so `wants_initial_id` is not needed with it.
    pub greeting: Option<Greeting>,
    /// What an API's clients expect besides the events, such as heartbeats.
    pub profile: Option<Box<SseProfile>>,
    /// Fields of the response's head.
    pub headers: Vec<(&'static str, String)>,
    /// Whose stream it is; `None` if the hub asks for no token.
    pub identity: Option<Arc<Identity>>,
    /// The stream's share of its tenant's quota, held while the stream is open.
    pub hold: Option<Hold>,
}

/// A WebSocket to open.
#[derive(Debug)]
pub struct OpenWebSocket {
    /// What the handshake agreed on.
    pub accepted: Accepted,
    /// What its messages mean.
    pub dialect: Dialect,
    /// The topics that it carries from the start.
    pub topics: Vec<(Topic, Start)>,
    /// Whose connection it is; `None` if the hub asks for no token.
    pub identity: Option<Arc<Identity>>,
    /// The connection's share of its tenant's quota, held while it is open.
    pub hold: Option<Hold>,
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
