//! Publishing to a Redis channel: at the server that a URL names, at the master that its sentinels name, or at the node of a cluster that
//! has the channel.

use std::time::Duration;

use redis::{Connection, RedisError, Value};

use super::redis_cluster::{ClusterNodes, moved_to};
use crate::protocol::resp::SentinelUrl;

/// How often a node of a cluster may name another one before that is taken for an error: while a slot moves, two may name each other.
const MOVES_MAX: usize = 5;

/// Timeout of connecting, and of each reply.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel of a connected server.
pub(crate) struct RedisChannel {
    connection: Connection,
    channel: String,
    address: String,
    receivers: u64,
    /// Set if the server is a node of a cluster: then the channel is a sharded one.
    nodes: Option<ClusterNodes>,
}

impl RedisChannel {
    /// Connects. The error names the server and the reason, without login and password.
    pub(crate) fn open(url: &str, channel: &str) -> Result<Self, String> {
        let not_a_url = |why: &str| format!("not a Redis URL: {why}");
        let nodes = ClusterNodes::parse(url).transpose().map_err(|why| not_a_url(&why))?;
        let (connection, address) = match (&nodes, SentinelUrl::parse(url)) {
            (Some(nodes), _) => connect_to_any(nodes)?,
            (None, None) => connect(url)?,
            (None, Some(Ok(url))) => connect_to_master(&url)?,
            (None, Some(Err(missing))) => return Err(not_a_url(missing)),
        };
        Ok(Self { connection, channel: channel.to_owned(), address, receivers: 0, nodes })
    }

    /// Publishes, and waits for the reply. In a cluster, goes to the node that has the channel's slot, and stays there.
    pub(crate) fn publish(&mut self, payload: &str) -> Result<(), String> {
        let mut moves = 0;
        loop {
            let name = if self.nodes.is_some() { "SPUBLISH" } else { "PUBLISH" };
            let answer = redis::cmd(name).arg(&*self.channel).arg(payload).query(&mut self.connection);
            match (answer, &self.nodes) {
                (Ok(receivers), _) => {
                    self.receivers = receivers;
                    return Ok(());
                }
                (Err(error), Some(nodes))
                    if moves < MOVES_MAX
                        && let Some(node) = moved_to(&error, &self.address) =>
                {
                    (self.connection, self.address) = connect(&nodes.url_of(&node))?;
                    moves += 1;
                }
                (Err(error), _) => return Err(format!("Redis: {error}")),
            }
        }
    }

    /// The channel, the server, and how many subscribers the last event had.
    pub(crate) fn describe(&self) -> String {
        let Self { channel, address, receivers, .. } = self;
        match receivers {
            0 => format!("to channel {channel} at {address} (nobody is subscribed)"),
            receivers => format!("to channel {channel} at {address} (subscribed: {receivers})"),
        }
    }
}

/// A connection to the server at `url`, and its address.
fn connect(url: &str) -> Result<(Connection, String), String> {
    let client = redis::Client::open(url).map_err(|error| format!("not a Redis URL: {error}"))?;
    // Without login and password, unlike the URL.
    let address = client.get_connection_info().addr().to_string();
    let connect = || {
        let connection = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    };
    let connection = connect().map_err(|error: RedisError| {
        let hint = match error.to_string().contains("certificate") {
            true => "An authority to trust is named by SSL_CERT_FILE",
            false => "Is it running there?",
        };
        format!("cannot reach Redis at {address}: {error}. {hint}")
    })?;
    Ok((connection, address))
}

/// Connects to the first node that answers.
fn connect_to_any(nodes: &ClusterNodes) -> Result<(Connection, String), String> {
    let mut failures = Vec::new();
    for (host, url) in nodes.urls() {
        match connect(&url) {
            Ok(connected) => return Ok(connected),
            Err(failure) => failures.push(format!("{host}: {failure}")),
        }
    }
    Err(format!("no node of the cluster can be reached. {}", failures.join("; ")))
}

/// Asks the sentinels in turn, until one names a server that says itself that it is the master: during a failover some
/// sentinels still name the old one.
fn connect_to_master(url: &SentinelUrl<'_>) -> Result<(Connection, String), String> {
    let mut failures = Vec::new();
    for host in &url.hosts {
        let found = ask_master(&url.sentinel_url(host), url.service);
        let connected = found.and_then(|master| connect(&url.server_url(&master)));
        match connected.and_then(|(mut connection, address)| {
            check_master(&mut connection, &address).map(|()| (connection, address))
        }) {
            Ok(connected) => return Ok(connected),
            Err(failure) => failures.push(format!("{host}: {failure}")),
        }
    }
    Err(format!("no sentinel leads to the master of `{}`. {}", url.service, failures.join("; ")))
}

/// The address of the master of `service` that the sentinel at `url` names: `host:port`.
fn ask_master(url: &str, service: &str) -> Result<String, String> {
    let (mut connection, _) = connect(url)?;
    let mut question = redis::cmd("SENTINEL");
    let answer = question.arg("get-master-addr-by-name").arg(service).query(&mut connection);
    match answer.map_err(|error: RedisError| error.to_string())? {
        Some((host, port)) => Ok(host_and_port(host, port)),
        None => Err(format!("it watches no `{service}`")),
    }
}

fn host_and_port(host: String, port: u16) -> String {
    // As it stands in a URL (RFC 3986 section 3.2.2).
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn check_master(connection: &mut Connection, address: &str) -> Result<(), String> {
    let role: Vec<Value> =
        redis::cmd("ROLE").query(connection).map_err(|error| format!("Redis at {address}: {error}"))?;
    match role.first() {
        Some(Value::BulkString(name)) if name == b"master" => Ok(()),
        _ => Err(format!("Redis at {address} is not the master it is said to be")),
    }
}
