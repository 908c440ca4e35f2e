//! Where events are published: Redis's address, and a connection that nobody waits for.

use std::{
    io::{self, Read, Write},
    net::ToSocketAddrs,
    str::FromStr,
    time::Duration,
};

use socket2::Socket;

use super::{
    socket::connect_first,
    tls::{self, MaybeTlsStream, TlsClient, TlsOptions},
};
use crate::protocol::resp;

/// Timeout of each reply while logging in.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of a Redis whose address names none.
const REDIS_PORT: u16 = 6379;

/// The URL of a Redis server, with login and database: `host:port`, `redis://…`, or with TLS `rediss://…`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    host: String,
    port: u16,
    is_tls: bool,
    username: Option<String>,
    password: Option<String>,
    database: i64,
}

/// A Redis server, with all that connecting needs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisTarget {
    url: RedisUrl,
    tls: Option<TlsClient>,
}

/// Without login and password.
impl std::fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{}://{host}:{}", if self.is_tls { "rediss" } else { "redis" }, self.port)
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}/{}", self.database)
    }
}

impl std::fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.url.fmt(f)
    }
}

impl std::fmt::Debug for RedisTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.url, f)
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = match text.split_once("://") {
            Some(("redis" | "rediss", _)) => text.to_owned(),
            Some((scheme, _)) => {
                return Err(format!("`{scheme}://` is not understood: write host:port, redis://… or rediss://…"));
            }
            None => format!("redis://{text}"),
        };
        let client = redis::Client::open(url).map_err(|error| format!("not host:port or a Redis URL: {error}"))?;
        let info = client.get_connection_info();
        let (host, port, is_tls) = match info.addr() {
            redis::ConnectionAddr::Tcp(host, port) => (host, port, false),
            redis::ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("leave `#insecure` out: --insecure-tls trusts any certificate".into());
            }
            redis::ConnectionAddr::TcpTls { host, port, .. } => (host, port, true),
            _ => return Err("expected host:port, redis://host:port or rediss://host:port".into()),
        };
        let settings = info.redis_settings();
        let port = if *port == 0 { REDIS_PORT } else { *port };
        let own = |text: Option<&str>| text.map(str::to_owned);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (username, password) = (own(settings.username()), own(settings.password()));
        Ok(Self { host, port, is_tls, username, password, database: settings.db() })
    }
}

impl RedisTarget {
    /// The server at `url`. With TLS, reads the files that `options` name. The error names the file.
    pub(crate) fn new(url: RedisUrl, options: &TlsOptions) -> Result<Self, String> {
        let tls = url.is_tls.then(|| TlsClient::without_http(&url.host, options)).transpose()?;
        Ok(Self { url, tls })
    }

    /// Connects, logs in and selects the database; returns a non-blocking socket. The error names the server and the reason.
    pub(crate) fn connect(&self) -> Result<MaybeTlsStream<Socket>, String> {
        let connect = || -> io::Result<MaybeTlsStream<Socket>> {
            let socket = connect_tcp(&self.url.host, self.url.port)?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            let mut stream = MaybeTlsStream::new(socket, self.tls.as_ref())?;
            stream.shake_hands()?;
            let mut greeting = Vec::new();
            let commands = self.url.greeting();
            for command in &commands {
                let words: Vec<&[u8]> = command.iter().map(String::as_bytes).collect();
                resp::write_command(&mut greeting, &words);
            }
            stream.write_all(&greeting)?;
            stream.flush()?;
            await_answers(&mut stream, commands.len())?;
            stream.socket().set_nonblocking(true)?;
            Ok(stream)
        };
        connect().map_err(|error| {
            let advice = match tls::advice(&error) {
                "" if tls::is_untrusted(&error) => "",
                "" => ". Is it running there?",
                advice => advice,
            };
            format!("cannot use Redis at {self}: {error}{advice}")
        })
    }
}

impl RedisUrl {
    /// The commands of a new connection. There is always one, so that a server that is no Redis is noticed at once.
    fn greeting(&self) -> Vec<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let login = self.password.as_deref().map(|password| match self.username.as_deref() {
            Some(username) => words(&["AUTH", username, password]),
            None => words(&["AUTH", password]),
        });
        let select = (self.database != 0).then(|| words(&["SELECT", &self.database.to_string()]));
        login.into_iter().chain(select).chain([words(&["PING"])]).collect()
    }
}

/// Reads `count` replies. Fails if one of them is an error.
fn await_answers(stream: &mut impl Read, count: usize) -> io::Result<()> {
    let (mut held, mut buffer, mut seen) = (Vec::new(), [0; 1024], 0);
    while seen < count {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("it closed the connection"));
        }
        held.extend_from_slice(&buffer[..length]);
        while let Some((reply, length)) = resp::parse(&held, &resp::RespLimits::default()).map_err(io::Error::other)? {
            if let resp::Reply::Error(text) = reply {
                return Err(io::Error::other(text.to_owned()));
            }
            held.drain(..length);
            seen += 1;
        }
    }
    Ok(())
}

fn connect_tcp(host: &str, port: u16) -> io::Result<Socket> {
    connect_first((host, port).to_socket_addrs()?)
}
