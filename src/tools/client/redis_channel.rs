//! Publishing to a Redis channel: at the server that a URL names, or at the master that its sentinels name.

use std::time::Duration;

use redis::{Cmd, Connection, RedisError, Value};

use crate::protocol::resp::SentinelUrl;

/// Timeout of connecting, and of each reply.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel of a connected server.
pub(crate) struct RedisChannel {
    connection: Connection,
    channel: String,
    address: String,
    receivers: u64,
}

impl RedisChannel {
    /// Connects. The error names the server and the reason, without login and password.
    pub(crate) fn open(url: &str, channel: &str) -> Result<Self, String> {
        let (connection, address) = match SentinelUrl::parse(url) {
            None => connect(url)?,
            Some(Ok(url)) => connect_to_master(&url)?,
            Some(Err(missing)) => return Err(format!("not a Redis URL: {missing}")),
        };
        Ok(Self { connection, channel: channel.to_owned(), address, receivers: 0 })
    }

    /// Publishes, and waits for the reply.
    pub(crate) fn publish(&mut self, payload: &str) -> Result<(), String> {
        let command = Cmd::publish(&*self.channel, payload);
        self.receivers = command.query(&mut self.connection).map_err(|error| format!("Redis: {error}"))?;
        Ok(())
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
