//! Where events are published: Redis's address, and a connection that nobody waits for.

use std::{
    io::{self, Read, Write},
    net::ToSocketAddrs,
    str::FromStr,
    time::Duration,
};

use socket2::Socket;

use super::access::connect_first;
use crate::protocol::resp;

/// How long each answer to logging in may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The port of a Redis whose address names none.
const REDIS_PORT: u16 = 6379;

/// A Redis server's address and what it asks for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RedisPlace {
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<String>,
    database: i64,
}

/// Without login and password, as it is shown to people.
impl std::fmt::Display for RedisPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "redis://{host}:{}", self.port)
    }
}

impl std::fmt::Debug for RedisPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}/{}", self.database)
    }
}

impl FromStr for RedisPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = match text.split_once("://") {
            Some(("redis", _)) => text.to_owned(),
            Some(("rediss", _)) => return Err("TLS is not spoken here: name a Redis without it".into()),
            Some((scheme, _)) => return Err(format!("`{scheme}://` is not understood: write host:port or redis://…")),
            None => format!("redis://{text}"),
        };
        let client = redis::Client::open(url).map_err(|error| format!("not host:port or a Redis URL: {error}"))?;
        let info = client.get_connection_info();
        let redis::ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err("expected host:port or redis://host:port".into());
        };
        let settings = info.redis_settings();
        let port = if *port == 0 { REDIS_PORT } else { *port };
        let own = |text: Option<&str>| text.map(str::to_owned);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (username, password) = (own(settings.username()), own(settings.password()));
        Ok(Self { host, port, username, password, database: settings.db() })
    }
}

impl RedisPlace {
    /// Connects, logs in and chooses the database. The error says where, and why not.
    pub(super) fn connect(&self) -> Result<Socket, String> {
        let connect = || -> io::Result<Socket> {
            let mut socket = connect_tcp(&self.host, self.port)?;
            let mut greeting = Vec::new();
            for command in self.greeting() {
                let words: Vec<&[u8]> = command.iter().map(String::as_bytes).collect();
                resp::write_command(&mut greeting, &words);
            }
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.write_all(&greeting)?;
            await_answers(&mut socket, self.greeting().len())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        connect().map_err(|error| format!("cannot use Redis at {self}: {error}. Is it running there?"))
    }

    /// The commands that come first. There is always one: what is no Redis is found out before the run.
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

/// Reads so many replies, none of which may be an error.
fn await_answers(socket: &mut Socket, count: usize) -> io::Result<()> {
    let (mut held, mut buffer, mut seen) = (Vec::new(), [0; 1024], 0);
    while seen < count {
        let length = socket.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("it closed the connection"));
        }
        held.extend_from_slice(&buffer[..length]);
        while let Some((reply, length)) = resp::parse(&held, &resp::Limits::default()).map_err(io::Error::other)? {
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
