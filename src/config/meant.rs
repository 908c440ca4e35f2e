//! The configuration as meant: plain values, every one of them set, ready for the parts they belong to.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::{
    address::{Address, Pin},
    topics::Topics,
};
use crate::topic::Topic;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Everything a hub is told before it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where it listens, with how many reactors, and for how many.
    pub server: Server,
    /// A port of its own for health, readiness and metrics.
    pub admin: Admin,
    /// What one peer may ask for.
    pub limits: Limits,
    /// How long topics remember, and what they do with the slow.
    pub topics: Topics,
    /// Redis Pub/Sub; `None` leaves the hub on its in-process bus.
    pub redis: Option<Redis>,
    /// Which web pages may read.
    pub cors: Cors,
    /// Server-Sent Events.
    pub sse: Sse,
    /// WebSocket.
    pub websocket: WebSocket,
    /// The hub's own log.
    pub log: Log,
    /// How it ends.
    pub drain: Drain,
}

/// Where the hub listens, with how many reactors, and for how many.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The addresses, at least one.
    pub listen: Vec<Address>,
    /// Reactor threads, at least one.
    pub reactors: usize,
    /// Which cores they are pinned to.
    pub pin: Pin,
    /// Connections at a time over all reactors.
    pub max_connections: usize,
    /// Connections at a time from one peer address; 0 stands for no limit.
    pub max_connections_per_ip: usize,
    /// The topics of a WebSocket connection that names none.
    pub default_topics: Vec<Topic>,
    /// Whether it may serve others than this machine without authentication.
    pub insecure: bool,
}

/// A port of its own for health, readiness and metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admin {
    /// The addresses; empty leaves these paths on the server's.
    pub listen: Vec<Address>,
}

/// What one peer may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// What an HTTP request may weigh and how long it may take.
    pub http: HttpLimits,
    /// What a WebSocket message may weigh.
    pub websocket: WebSocketLimits,
    /// Topics on one connection.
    pub topics_per_connection_max: usize,
    /// Messages a second from one client.
    pub messages_per_second: usize,
    /// How long a client may keep on sending too fast before it is closed.
    pub rate_limit_patience: Duration,
    /// Bytes of private answers (acks, pongs, responses) waiting on one connection.
    pub outbox_bytes_max: usize,
}

/// What an HTTP request may weigh and how long it may take.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpLimits {
    /// Bytes of request line and headers.
    pub head_bytes_max: usize,
    /// Header fields.
    pub headers_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// How long a request's head may take.
    pub head_timeout: Duration,
    /// How long a request's body may stand still.
    pub body_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
}

/// What a WebSocket message may weigh.
#[derive(Clone, Debug, PartialEq)]
pub struct WebSocketLimits {
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Frames one message may be cut into.
    pub fragments_max: usize,
}

/// Redis Pub/Sub.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `redis://`, `rediss://` or `unix://`, with user, password and database.
    pub url: String,
    /// Channel patterns that are always subscribed, in the broker's own glob form.
    pub subscribe: Vec<String>,
    /// Whether a topic's channel is subscribed while somebody listens to it.
    pub interest: bool,
    /// How long a channel stays subscribed after its last listener.
    pub linger: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The first pause before connecting again.
    pub backoff_min: Duration,
    /// The longest pause before connecting again.
    pub backoff_max: Duration,
    /// How often the connection is probed.
    pub ping_interval: Duration,
    /// How long a probe may stay unanswered.
    pub ping_timeout: Duration,
    /// The reader's buffer.
    pub read_buffer_bytes: usize,
    /// Publications waiting for the writer thread.
    pub publish_queue_max: usize,
    /// How long a publication may take.
    pub publish_timeout: Duration,
    /// Bytes of one event.
    pub message_bytes_max: usize,
    /// Authorities to trust instead of the system's, in PEM, for `rediss://`.
    pub ca_file: Option<PathBuf>,
}

/// Which web pages may read.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Origins (`https://example.org`), or `*` for any.
    pub allow_origins: Vec<String>,
    /// Whether a page may send its cookies along; then each origin must be named.
    pub allow_credentials: bool,
}

/// Server-Sent Events.
#[derive(Clone, Debug, PartialEq)]
pub struct Sse {
    /// How long a stream may be silent before it gets a comment.
    pub heartbeat: Duration,
    /// When a browser that lost its stream comes back.
    pub retry: Duration,
    /// Up to how much more is added to it, at random, so that not all come back at once.
    pub retry_jitter: Duration,
}

/// WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub struct WebSocket {
    /// How long a connection may be silent before it gets a ping.
    pub ping_interval: Duration,
}

/// The hub's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`), or filter directives such as `info,fanfare::source=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("a log format is `text` or `json`"),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// How the hub ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// Over how long connections are closed after a SIGTERM.
    pub window: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![Address::loopback(8080)],
            reactors: core_count(),
            pin: Pin::Off,
            max_connections: 100_000,
            max_connections_per_ip: 0,
            default_topics: vec![Topic::parse("events.critical").expect("a constant that is a valid name")],
            insecure: false,
        }
    }
}

/// The cores this process may use, counting a container's quota.
pub(super) fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http: HttpLimits::default(),
            websocket: WebSocketLimits::default(),
            topics_per_connection_max: 128,
            messages_per_second: 10,
            rate_limit_patience: Duration::from_secs(10),
            outbox_bytes_max: 256 * KIB,
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * KIB,
            headers_max: 64,
            body_bytes_max: MIB,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
        }
    }
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self { message_bytes_max: 64 * KIB, fragments_max: 1024 }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: String::new(),
            subscribe: Vec::new(),
            interest: true,
            linger: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            read_buffer_bytes: 256 * KIB,
            publish_queue_max: 65_536,
            publish_timeout: Duration::from_secs(5),
            message_bytes_max: MIB,
            ca_file: None,
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self { allow_origins: vec!["*".into()], allow_credentials: false }
    }
}

impl Default for Sse {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(25), retry: Duration::from_secs(2), retry_jitter: Duration::from_secs(2) }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { ping_interval: Duration::from_secs(25) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { window: Duration::from_secs(30) }
    }
}
