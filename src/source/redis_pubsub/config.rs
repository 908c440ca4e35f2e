//! What the source is told to do, and where its server is.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::topic::Topic;

/// How the hub uses Redis Pub/Sub. Every value is valid, but `ping_interval` and the timeouts should not be zero.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server is, and as whom to log in.
    pub url: RedisUrl,
    /// For `rediss://`: PEM file of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// For `rediss://`: PEM file of the hub's own certificate chain, where the server asks for one.
    pub certificate_file: Option<PathBuf>,
    /// For `rediss://`: PEM file of the key to `certificate_file`.
    pub key_file: Option<PathBuf>,
    /// Channel patterns (Redis's globs) subscribed to from the start, whoever listens. Where several cover a channel,
    /// its messages come in through the first.
    pub subscribe: Vec<String>,
    /// Topics subscribed to from the start, whoever listens.
    pub always: Vec<Topic>,
    /// Whether to subscribe to a topic while somebody listens to it. Without, only `subscribe` and `always` count.
    pub interest: bool,
    /// How long a topic stays subscribed after its last listener left.
    pub linger: Duration,
    /// How long one attempt to connect and log in may take.
    pub connect_timeout: Duration,
    /// The wait after a first failure.
    pub backoff_min: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// How often each thread asks the server for a sign of life.
    pub ping_interval: Duration,
    /// How long the server may be silent after that before the connection is given up.
    pub ping_timeout: Duration,
    /// The reader's buffer: the most that is read before it is handed on. It grows while a larger message arrives.
    pub read_buffer_bytes: usize,
    /// Publications waiting for the writer.
    pub publish_queue_max: usize,
    /// What those may weigh together, in bytes.
    pub publish_queue_bytes_max: usize,
    /// How long a publication may wait for its answer.
    pub publish_timeout: Duration,
    /// The largest payload.
    pub message_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            subscribe: Vec::new(),
            always: Vec::new(),
            interest: true,
            linger: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            read_buffer_bytes: 256 * 1024,
            publish_queue_max: 65_536,
            publish_queue_bytes_max: 64 * 1024 * 1024,
            publish_timeout: Duration::from_secs(5),
            message_bytes_max: 1024 * 1024,
        }
    }
}

/// A server's address with the login, as `redis://`, `rediss://`, `unix://` and `redis+unix://` URLs give it. Neither
/// `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct RedisUrl {
    info: ConnectionInfo,
}

/// Why a text is not a Redis URL. Never quotes the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRedisUrl(String);

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

impl RedisUrl {
    /// Reads `text`. A `rediss://` URL with `#insecure` is refused: name the authority in `ca_file` instead.
    pub fn parse(text: &str) -> Result<Self, BadRedisUrl> {
        let info = text.into_connection_info().map_err(|error| BadRedisUrl(error.to_string()))?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                Err(BadRedisUrl("`#insecure` is not supported: name the authority to trust in `ca_file`".to_owned()))
            }
            ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. } | ConnectionAddr::Unix(_) => Ok(Self { info }),
            _ => Err(BadRedisUrl("this kind of address is not supported".to_owned())),
        }
    }

    pub(super) fn target(&self) -> Target {
        match self.info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => Target::Tls { host: host.clone(), port: *port },
            ConnectionAddr::Unix(path) => Target::Unix(path.clone()),
            ConnectionAddr::Tcp(host, port) => Target::Tcp { host: host.clone(), port: *port },
            // `parse` lets no other through; were there one, the loopback name resolves to a refusal at worst.
            _ => Target::Tcp { host: "localhost".to_owned(), port: 6379 },
        }
    }

    pub(super) fn username(&self) -> Option<&str> {
        self.info.redis_settings().username()
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.info.redis_settings().password()
    }

    pub(super) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    pub(super) fn connection_info(&self) -> &ConnectionInfo {
        &self.info
    }
}

impl Default for RedisUrl {
    fn default() -> Self {
        Self::parse("redis://127.0.0.1:6379").expect("a constant that the tests parse")
    }
}

impl FromStr for RedisUrl {
    type Err = BadRedisUrl;

    fn from_str(text: &str) -> Result<Self, BadRedisUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match (self.username(), self.password()) {
            (None, None) => String::new(),
            (name, None) => format!("{}@", name.unwrap_or_default()),
            (name, Some(_)) => format!("{}:***@", name.unwrap_or_default()),
        };
        match self.target() {
            Target::Tcp { host, port } => write!(f, "redis://{login}{}:{port}", Bracketed(&host))?,
            Target::Tls { host, port } => write!(f, "rediss://{login}{}:{port}", Bracketed(&host))?,
            Target::Unix(path) => return write!(f, "unix://{}?db={}", path.display(), self.database()),
        }
        match self.database() {
            0 => Ok(()),
            database => write!(f, "/{database}"),
        }
    }
}

/// A host as it stands in a URL: an IPv6 address in brackets.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for BadRedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a Redis URL (redis://, rediss:// or unix://): {}", self.0)
    }
}

impl std::error::Error for BadRedisUrl {}
