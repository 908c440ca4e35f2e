//! The checked configuration: every value is set, and each part of the hub takes its own.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{
    address::{Address, FileMode, Pin},
    reload::ConfigSnapshot,
    topics::Topics,
};
use crate::{
    auth::{AuthRules, QuotaConfig},
    endpoint::{CompatApis, Cors, Esp},
    protocol::{EngineLimits, RateLimit, http, proxy, websocket},
    source::SourcesConfig,
    store,
    topic::Topic,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Everything a hub is told before it starts. `Debug` shows no password.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where it listens, with how many reactors, and for how many.
    pub server: ServerConfig,
    /// Which compatibility APIs it serves.
    pub compat: CompatApis,
    /// A port of its own for health, readiness and metrics.
    pub admin: AdminConfig,
    /// What one peer may ask for.
    pub limits: LimitsConfig,
    /// How long topics remember, and what they do with the slow.
    pub topics: Topics,
    /// Where events come from besides the hub's own clients.
    pub sources: SourcesConfig,
    /// How it knows its clients.
    pub auth: Arc<AuthRules>,
    /// When it says that it is ready.
    pub ready: ReadyConfig,
    /// How much each of them may have.
    pub quotas: QuotaConfig,
    /// Proxies in front of it.
    pub proxy: ProxyConfig,
    /// Where telemetry is kept; `None` publishes it only.
    pub store: Option<store::Config>,
    /// Which web pages may read.
    pub cors: Cors,
    pub sse: SseConfig,
    /// The ESP IoT platform's API.
    pub esp: Esp,
    pub websocket: WebSocketConfig,
    /// Engine.IO and Socket.IO.
    pub engine: EngineLimits,
    /// The hub's own log.
    pub log: LogConfig,
    /// How it ends.
    pub drain: DrainConfig,
    /// What is no error, and yet probably not what somebody wants: one sentence each.
    pub warnings: Vec<String>,
    /// Every key's value as it was read, to be compared with the next reading.
    pub settings: ConfigSnapshot,
}

/// Where the hub listens, with how many reactors, and for how many.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// The addresses, at least one.
    pub listen: Vec<Address>,
    /// Names by which the hub may be asked where it asks nobody who it is: host names, `*.` before a domain, or `*`.
    pub hosts: Vec<String>,
    /// Reactor threads, at least one.
    pub reactors: usize,
    /// Which cores they are pinned to.
    pub pin: Pin,
    /// Connections at a time over all reactors.
    pub max_connections: usize,
    /// Connections beyond these that are open at a time to be refused.
    pub max_refusals: usize,
    /// Descriptors that no connection takes.
    pub reserved_descriptors: usize,
    /// Connections at a time from one peer address; 0 stands for no limit.
    pub max_connections_per_ip: usize,
    /// Engine.IO sessions whose clients have entered no namespace.
    pub max_pending: usize,
    /// The same for one address; zero: no limit.
    pub max_pending_per_ip: usize,
    /// What logs, outboxes and half-received requests may hold together, in bytes.
    pub memory_budget: usize,
    /// The topics of a WebSocket connection that names none.
    pub default_topics: Vec<Topic>,
    /// How long a stream's opening waits for its source to confirm the topics.
    pub live_timeout: Duration,
    /// A reactor that has not finished a turn for so long is stuck.
    pub stuck_after: Duration,
    /// Whether it may serve others than this machine without authentication.
    pub insecure: bool,
    /// The files of its unix sockets.
    pub socket: SocketAccess,
}

/// Who owns the file of a unix socket, and who may connect to it. What is empty stays as the process makes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SocketAccess {
    /// A user's name or number.
    pub owner: String,
    /// A group's name or number.
    pub group: String,
    /// The permissions.
    pub mode: FileMode,
}

/// A port of its own for health, readiness and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// The addresses; empty leaves these paths on the server's.
    pub listen: Vec<Address>,
    /// Connections at a time to these.
    pub max_connections: usize,
    /// The files of its unix sockets.
    pub socket: SocketAccess,
}

/// What one peer may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// What an HTTP request may weigh and how long it may take.
    pub http: http::HttpLimits,
    /// What a WebSocket message may weigh.
    pub websocket: websocket::WebSocketLimits,
    /// How often a WebSocket client may speak.
    pub rate: RateLimit,
    pub topics_per_connection_max: usize,
    /// Topics in one answer that lists them.
    pub topics_per_page_max: usize,
    /// Bytes of one event's payload.
    pub event_bytes_max: usize,
    /// Readings, alerts or diagnostics in one request.
    pub objects_per_request_max: usize,
    /// How long a publication's idempotency key is remembered.
    pub idempotency_window: Duration,
    /// Bytes of private answers (acks, pongs, responses) waiting on one connection.
    pub outbox_bytes_max: usize,
    /// How long a connection that ends may stand still before it has taken its last bytes; ten times as long in all.
    pub closing_timeout: Duration,
    /// How long a stream's peer may leave unacknowledged what it is sent before it counts as gone.
    pub unsent_timeout: Duration,
    /// Events waiting for one reactor before it reads them from the topics' histories instead.
    pub inbox_events_max: usize,
}

/// Proxies in front of the hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyConfig {
    /// Whose word is taken on who their clients are.
    pub trusted: proxy::Trusted,
    /// Whether their connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// What such a header may weigh.
    pub limits: proxy::ProxyLimits,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SseConfig {
    /// How long a stream may be silent before it gets a comment.
    pub heartbeat: Duration,
    /// When a browser that lost its stream comes back; each is told up to half as much again.
    pub retry: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebSocketConfig {
    /// How long a connection may be silent before it gets a ping.
    pub ping_interval: Duration,
    /// How long a ping may stay unanswered before the peer counts as gone.
    pub pong_timeout: Duration,
}

/// The hub's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`), or filter directives such as `info,fanfare::source=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether each answered request is a line, at the level info.
    pub access: bool,
    /// Whether each connection that ends is a line, at the level info.
    pub connections: bool,
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

/// When the hub says that it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyConfig {
    /// The sources that count, by name; `*` stands for all there are.
    pub require: Vec<String>,
}

impl Default for ReadyConfig {
    fn default() -> Self {
        Self { require: vec!["*".to_owned()] }
    }
}

/// How the hub ends.
#[derive(Clone, Debug, PartialEq)]
pub struct DrainConfig {
    /// For how long after a SIGTERM the hub serves on, and says that it is not ready.
    pub delay: Duration,
    /// Over how long connections are closed then.
    pub window: Duration,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: Vec::new(), max_connections: 64, socket: SocketAccess::default() }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![Address::loopback(8080)],
            hosts: Vec::new(),
            reactors: core_count(),
            pin: Pin::Off,
            max_connections: 100_000,
            max_refusals: 256,
            reserved_descriptors: 64,
            max_connections_per_ip: 0,
            max_pending: 10_000,
            max_pending_per_ip: 1000,
            memory_budget: 1024 * MIB,
            default_topics: vec![Topic::parse("events.critical").expect("a constant that is a valid name")],
            live_timeout: Duration::from_secs(2),
            stuck_after: Duration::from_secs(5),
            insecure: false,
            socket: SocketAccess::default(),
        }
    }
}

/// The cores this process may use, counting a container's quota.
pub(super) fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            http: http::HttpLimits::default(),
            websocket: websocket::WebSocketLimits::default(),
            rate: RateLimit::default(),
            topics_per_connection_max: 128,
            topics_per_page_max: 1000,
            event_bytes_max: MIB,
            objects_per_request_max: 1000,
            idempotency_window: Duration::from_secs(300),
            outbox_bytes_max: 256 * KIB,
            closing_timeout: Duration::from_secs(2),
            unsent_timeout: Duration::from_secs(30),
            inbox_events_max: 65_536,
        }
    }
}

impl Default for SseConfig {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(25), retry: Duration::from_secs(2) }
    }
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self { ping_interval: Duration::from_secs(25), pong_timeout: Duration::from_secs(60) }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text, access: false, connections: false }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), window: Duration::from_secs(20) }
    }
}
