//! The checked configuration: every value is set, and each part of the hub takes its own.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{
    address::{Address, FileMode, Pin},
    reload::ConfigSnapshot,
    topics::Topics,
};
use crate::{
    audit::AuditConfig,
    auth::{AuthRules, QuotaConfig},
    bridge::BridgeConfig,
    endpoint::{CompatApis, Cors, Esp},
    fleet::FleetConfig,
    protocol::{EngineLimits, RateLimit, http, proxy, websocket},
    source::SourcesConfig,
    store,
    topic::Topic,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The whole configuration of a hub. `Debug` shows no password.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Addresses, threads and limits of the server.
    pub server: ServerConfig,
    /// The compatibility APIs to serve.
    pub compat: CompatApis,
    /// A separate port for health, readiness and metrics.
    pub admin: AdminConfig,
    /// Limits for each client, connection, request and message.
    pub limits: LimitsConfig,
    /// What topics keep, and what happens to slow readers.
    pub topics: Topics,
    /// Sources of events besides the hub's own clients.
    pub sources: SourcesConfig,
    /// A bridge from one source to another.
    pub bridge: BridgeConfig,
    /// Authentication.
    pub auth: Arc<AuthRules>,
    /// Readiness.
    pub ready: ReadyConfig,
    /// Quotas of tenants.
    pub quotas: QuotaConfig,
    /// Trusted proxies.
    pub proxy: ProxyConfig,
    /// The database for telemetry; `None`: telemetry is published only.
    pub store: Option<store::Config>,
    /// Web pages of other origins that may use the hub.
    pub cors: Cors,
    pub sse: SseConfig,
    /// The ESP IoT platform's API.
    pub esp: Esp,
    pub websocket: WebSocketConfig,
    /// Engine.IO and Socket.IO.
    pub engine: EngineLimits,
    /// The hub's own log.
    pub log: LogConfig,
    /// Who signed in, who was refused, and what operators did.
    pub audit: AuditConfig,
    /// Shutting down.
    pub drain: DrainConfig,
    /// Other hubs on the same broker.
    pub fleet: FleetConfig,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
    /// Every key's value as it was read, for comparison at a reload.
    pub settings: ConfigSnapshot,
}

/// Addresses, threads and limits of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// The addresses, at least one.
    pub listen: Vec<Address>,
    /// Host names that requests may use at a hub without authentication: names, `*.` before a domain, or `*`.
    pub hosts: Vec<String>,
    /// Reactor threads, at least one.
    pub reactors: usize,
    /// The cores that reactors are pinned to.
    pub pin: Pin,
    /// Open connections over all reactors.
    pub max_connections: usize,
    /// Connections beyond `max_connections` that stay open to read their refusal.
    pub max_refusals: usize,
    /// File descriptors that connections never take.
    pub reserved_descriptors: usize,
    /// Open connections from one address. 0: no limit.
    pub max_connections_per_ip: usize,
    /// Long-polling sessions whose client has not entered a namespace.
    pub max_pending: usize,
    /// The same from one address. 0: no limit.
    pub max_pending_per_ip: usize,
    /// Memory for logs, outboxes and half-received requests together, in bytes.
    pub memory_budget: usize,
    /// The topics of a WebSocket connection that names none.
    pub default_topics: Vec<Topic>,
    /// How long opening a stream waits for its source to confirm the topics.
    pub live_timeout: Duration,
    /// A reactor that has not finished a turn for this long counts as stuck.
    pub stuck_after: Duration,
    /// Whether other machines may reach the hub although it has no authentication.
    pub insecure: bool,
    /// The files of the unix sockets in `listen`.
    pub socket: SocketAccess,
}

/// Owner, group and permissions of the file of a unix socket. Empty: as the process creates it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SocketAccess {
    /// A user's name or number.
    pub owner: String,
    /// A group's name or number.
    pub group: String,
    /// The permissions.
    pub mode: FileMode,
}

/// A separate port for health, readiness and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// The addresses. Empty: these paths are served at the server's addresses.
    pub listen: Vec<Address>,
    /// Open connections to these addresses.
    pub max_connections: usize,
    /// The files of the unix sockets in `listen`.
    pub socket: SocketAccess,
}

/// Limits for each client, connection, request and message.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Sizes and timeouts of HTTP requests.
    pub http: http::HttpLimits,
    /// Sizes of WebSocket messages.
    pub websocket: websocket::WebSocketLimits,
    /// The rate of a WebSocket client's messages.
    pub rate: RateLimit,
    pub topics_per_connection_max: usize,
    /// Topics in one answer that lists them.
    pub topics_per_page_max: usize,
    /// Bytes of one event's payload.
    pub event_bytes_max: usize,
    /// Readings, alerts or diagnostics in one request.
    pub objects_per_request_max: usize,
    /// How long the idempotency key of a publication is remembered.
    pub idempotency_window: Duration,
    /// Bytes of answers (acks, pongs, responses) that may wait on one connection.
    pub outbox_bytes_max: usize,
    /// How long a connection that is being closed may make no progress; ten times this in all.
    pub closing_timeout: Duration,
    /// How long a stream's peer may send no TCP acknowledgement before the stream is closed.
    pub unsent_timeout: Duration,
    /// Events that may wait for one reactor. Beyond it the reactor reads them from the topics' histories.
    pub inbox_events_max: usize,
}

/// Trusted proxies in front of the hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyConfig {
    /// The trusted proxies.
    pub trusted: proxy::Trusted,
    /// Whether their connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The size of a PROXY protocol header.
    pub limits: proxy::ProxyLimits,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SseConfig {
    /// Send a comment on a stream that has been silent for this long.
    pub heartbeat: Duration,
    /// How long a browser waits before it reconnects; each is sent up to half as much more.
    pub retry: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebSocketConfig {
    /// Send a ping on a connection that has been silent for this long.
    pub ping_interval: Duration,
    /// How long a ping may stay unanswered before the connection is closed.
    pub pong_timeout: Duration,
}

/// The hub's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`), or filter directives such as `info,fanfare::source=debug`.
    pub level: String,
    /// The format of a line.
    pub format: LogFormat,
    /// Whether each answered request is logged, at level info.
    pub access: bool,
    /// Whether each connection that ends is logged, at level info.
    pub connections: bool,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text.
    #[default]
    Text,
    /// One JSON object per line.
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

/// When /ready reports that the hub is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyConfig {
    /// The required sources by name; `*`: all that are configured.
    pub require: Vec<String>,
    /// How long after they deliver for the first time.
    pub delay: Duration,
}

impl Default for ReadyConfig {
    fn default() -> Self {
        Self { require: vec!["*".to_owned()], delay: Duration::ZERO }
    }
}

/// Shutting down after a SIGTERM.
#[derive(Clone, Debug, PartialEq)]
pub struct DrainConfig {
    /// How long the hub goes on serving while /ready reports 503.
    pub delay: Duration,
    /// The period after `delay` over which connections are closed.
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
