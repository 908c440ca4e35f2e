//! What a connection speaks, for those that do not look into its session.

/// What a connection speaks at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Requests and responses.
    #[default]
    Http,
    /// A Server-Sent Events stream.
    Sse,
    /// WebSocket, raw or `fanfare.v1`.
    WebSocket,
    /// Engine.IO: a session, whether a WebSocket carries it or requests do.
    SocketIo,
}

impl Transport {
    /// All of them, by index.
    pub const ALL: [Self; 4] = [Self::Http, Self::Sse, Self::WebSocket, Self::SocketIo];

    /// The word for it in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
            Self::SocketIo => "socketio",
        }
    }

    /// Whether it brings events; if not, requests and responses.
    #[inline]
    pub fn is_stream(self) -> bool {
        self != Self::Http
    }

    /// Whether its client cannot answer: only the kernel tells whether the client is there.
    pub fn is_one_way(self) -> bool {
        self == Self::Sse
    }
}
