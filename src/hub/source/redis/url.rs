//! The URL of a Redis server, of the sentinels that know its address, or of some nodes of a Redis Cluster.

use std::{fmt, path::PathBuf, str::FromStr};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::protocol::resp::SentinelUrl;

/// A server's address with the login, as `redis://`, `rediss://`, `unix://` and `redis+unix://` URLs give it; or the
/// sentinels that know the address, as `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]` and
/// `rediss+sentinel://` do. The login is the server's, not the sentinels'. Or some nodes of a cluster, as
/// `redis+cluster://[user:password@]host[:port][,host[:port]…]` and `rediss+cluster://` do; the login is that of all nodes. Neither
/// `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct RedisUrl {
    /// With sentinels, or a cluster, the address is the first one's.
    info: ConnectionInfo,
    sentinels: Option<Sentinels>,
    /// The nodes of a cluster that are named; empty: it is no cluster.
    nodes: Vec<NodeAddress>,
}

/// The address of a node of a cluster, as the cluster tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeAddress {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The sentinels to ask, and the name of the master to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) service: String,
}

/// Why a text is not a Redis URL. Never quotes the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRedisUrl(String);

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerAddress {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

impl RedisUrl {
    /// Reads `text`. A `rediss://` URL with `#insecure` is refused: name the authority in `ca_file` instead.
    pub fn parse(text: &str) -> Result<Self, BadRedisUrl> {
        match SentinelUrl::parse(text) {
            Some(Ok(url)) => read_sentinels(&url),
            Some(Err(missing)) => Err(BadRedisUrl(missing.to_owned())),
            None if text.contains(CLUSTER_SCHEME_END) => read_nodes(text),
            None => Ok(Self { info: parse_server(text)?, sentinels: None, nodes: Vec::new() }),
        }
    }

    /// Whether it names nodes of a cluster.
    pub fn names_cluster(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// The nodes of a cluster that it names; empty: it names no cluster.
    pub(super) fn nodes(&self) -> &[NodeAddress] {
        &self.nodes
    }

    /// The URL of the server at `node`, with the same login.
    pub(super) fn at(&self, node: &NodeAddress) -> Self {
        let info = with_address(&self.info, &node.host, node.port);
        Self { info, sentinels: None, nodes: Vec::new() }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Whether sentinels are to be asked, and what they name has to be a master.
    pub(super) fn names_sentinels(&self) -> bool {
        self.sentinels.is_some()
    }

    /// Whether `other` leads to the same server and database, or names the same sentinels or nodes, whatever the login is.
    pub fn is_of_same_server(&self, other: &Self) -> bool {
        let place =
            |url: &Self| (ServerAddress::of(&url.info), url.database(), url.sentinels.clone(), url.nodes.clone());
        place(self) == place(other)
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

    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        self.sentinels.as_ref()
    }
}

impl ServerAddress {
    /// The address in `info`.
    pub(super) fn of(info: &ConnectionInfo) -> Self {
        match info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => Self::Tls { host: host.clone(), port: *port },
            ConnectionAddr::Unix(path) => Self::Unix(path.clone()),
            ConnectionAddr::Tcp(host, port) => Self::Tcp { host: host.clone(), port: *port },
            // `parse` lets no other through; were there one, the loopback name resolves to a refusal at worst.
            _ => Self::Tcp { host: "localhost".to_owned(), port: 6379 },
        }
    }
}

/// `info` at another address, of the same kind.
pub(super) fn with_address(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let address = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    };
    info.clone().set_addr(address)
}

fn parse_server(text: &str) -> Result<ConnectionInfo, BadRedisUrl> {
    let info = text.into_connection_info().map_err(|error| BadRedisUrl(error.to_string()))?;
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            Err(BadRedisUrl("`#insecure` is not supported: name the authority to trust in `ca_file`".to_owned()))
        }
        ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. } | ConnectionAddr::Unix(_) => Ok(info),
        _ => Err(BadRedisUrl("this kind of address is not supported".to_owned())),
    }
}

/// Each address is read as the URL of a server at it.
fn read_sentinels(url: &SentinelUrl<'_>) -> Result<RedisUrl, BadRedisUrl> {
    let read = |host: &String| parse_server(&url.server_url(host));
    let servers = url.hosts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let addresses = servers.iter().filter_map(|server| match server.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
        _ => None,
    });
    let sentinels = Sentinels { addresses: addresses.collect(), service: url.service.to_owned() };
    let first = servers.into_iter().next().ok_or_else(|| BadRedisUrl("no sentinel is named".to_owned()))?;
    Ok(RedisUrl { info: first, sentinels: Some(sentinels), nodes: Vec::new() })
}

/// What stands between the first part of a cluster's URL and its nodes.
const CLUSTER_SCHEME_END: &str = "+cluster://";

/// Each address is read as the URL of a server at it.
fn read_nodes(text: &str) -> Result<RedisUrl, BadRedisUrl> {
    let bad = |why: &str| BadRedisUrl(why.to_owned());
    let (scheme, rest) = text.split_once(CLUSTER_SCHEME_END).unwrap_or(("", text));
    if !["redis", "rediss"].contains(&scheme) {
        return Err(bad("a cluster is redis+cluster:// or rediss+cluster://"));
    }
    // A password may hold a slash, but not an `@`.
    let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    if hosts.contains('/') {
        return Err(bad("a cluster has one database only: leave out what follows the nodes"));
    }
    let at = if login.is_empty() { "" } else { "@" };
    let servers: Vec<ConnectionInfo> = hosts
        .split(',')
        .map(|host| parse_server(&format!("{scheme}://{login}{at}{host}")))
        .collect::<Result<_, _>>()?;
    let nodes = servers.iter().filter_map(NodeAddress::of).collect();
    let first = servers.into_iter().next().ok_or_else(|| bad("no node is named"))?;
    Ok(RedisUrl { info: first, sentinels: None, nodes })
}

impl NodeAddress {
    /// The address in `info`; `None` if it is no network address.
    fn of(info: &ConnectionInfo) -> Option<Self> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self { host: host.clone(), port: *port })
            }
            _ => None,
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bracketed(&self.host), self.port)
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
        if !self.nodes.is_empty() {
            let nodes: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
            let scheme = if self.is_tls() { "rediss" } else { "redis" };
            return write!(f, "{scheme}{CLUSTER_SCHEME_END}{login}{}", nodes.join(","));
        }
        match (&self.sentinels, ServerAddress::of(&self.info)) {
            (Some(sentinels), target) => {
                let scheme = if matches!(target, ServerAddress::Tls { .. }) { "rediss" } else { "redis" };
                write!(f, "{scheme}+sentinel://{login}{sentinels}")?;
            }
            (None, ServerAddress::Tcp { host, port }) => write!(f, "redis://{login}{}:{port}", Bracketed(&host))?,
            (None, ServerAddress::Tls { host, port }) => write!(f, "rediss://{login}{}:{port}", Bracketed(&host))?,
            (None, ServerAddress::Unix(path)) => return write!(f, "unix://{}?db={}", path.display(), self.database()),
        }
        match self.database() {
            0 => Ok(()),
            database => write!(f, "/{database}"),
        }
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (host, port)) in self.addresses.iter().enumerate() {
            write!(f, "{}{}:{port}", if index == 0 { "" } else { "," }, Bracketed(host))?;
        }
        write!(f, "/{}", self.service)
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
        write!(f, "not a Redis URL (redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://): {}", self.0)
    }
}

impl std::error::Error for BadRedisUrl {}
