//! What an endpoint returns. The reactor carries it out; an endpoint never sees a socket.

use std::sync::Arc;

use crate::{
    auth::Identity,
    close::Close,
    endpoint::{EngineRequest, OpenWork},
    event::Start,
    protocol::{
        Dialect,
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
