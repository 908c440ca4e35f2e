//! A blocking connection: its stream, its login, and the role of the server.
//!
//! The client library's connections cannot say whether the server has closed them meanwhile. A publication must know that before
//! it is written: afterwards nobody knows whether the server took it.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{ErrorKind, Parser, RedisError, ServerErrorKind, Value};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::{Directory, RedisUrl, Role, ServerAddress, role::Hello};
use crate::{os, protocol::resp};

/// A connection that is logged in. Each read and each write waits as long as its timeout says.
pub(super) struct RedisConnection {
    stream: Stream,
    parser: Parser,
    target: ServerAddress,
    role: Role,
    allow_replica: bool,
    asks_role: bool,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
    SharedTcp(SharedSocket),
    SharedTls(Box<StreamOwned<ClientConnection, SharedSocket>>),
}

/// A socket that never waits.
struct SharedSocket(tokio::net::TcpStream);

/// Commands could not be sent.
#[derive(Debug)]
pub(super) struct SendFailed {
    pub(super) error: io::Error,
    /// Not even a part of them was: to send them again, elsewhere, repeats nothing.
    pub(super) is_unsent: bool,
}

impl RedisConnection {
    /// Connects to `target`, logs in as `url` says, and makes itself known as `name`, all of it within about `timeout`.
    /// Fails if the server serves no commands, or is not one that `directory` allows. `timeout` stays set.
    pub(super) fn open(
        directory: &Directory,
        target: ServerAddress,
        url: &RedisUrl,
        name: &str,
        timeout: Duration,
    ) -> Result<Self, RedisError> {
        let started = Instant::now();
        let stream = Stream::connect(&target, directory.tls.as_ref(), timeout)?;
        let left = timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        let (allow_replica, role) = (directory.allow_replica, Role::Unknown);
        let mut connection = Self { stream, parser: Parser::new(), target, role, allow_replica, asks_role: true };
        connection.set_timeout(left)?;
        connection.log_in(url, name, directory.least_version)?;
        connection.set_timeout(timeout)?;
        Ok(connection)
    }

    /// One round trip: the login, the database, the name, and what the server is.
    fn log_in(&mut self, url: &RedisUrl, name: &str, least_version: u64) -> Result<(), RedisError> {
        let mut commands = Vec::new();
        let database = url.database().to_string();
        let mut needed = 0;
        match (url.username(), url.password()) {
            (Some(user), Some(password)) => {
                resp::write_command(&mut commands, &[b"AUTH", user.as_bytes(), password.as_bytes()]);
                needed += 1;
            }
            (None, Some(password)) => {
                resp::write_command(&mut commands, &[b"AUTH", password.as_bytes()]);
                needed += 1;
            }
            (_, None) => {}
        }
        if url.database() != 0 {
            resp::write_command(&mut commands, &[b"SELECT", database.as_bytes()]);
            needed += 1;
        }
        let questions: [&[&[u8]]; 4] = [&[b"CLIENT", b"SETNAME", name.as_bytes()], &[b"PING"], &[b"ROLE"], &[b"HELLO"]];
        questions.iter().for_each(|words| resp::write_command(&mut commands, words));
        self.send(&commands)?;
        for _ in 0..needed {
            accept(self.receive()?)?;
        }
        // Access rules may forbid the name, and the `PING`: a refusal by them shows that commands are served.
        let named = self.receive()?;
        match (self.receive(), named) {
            (Ok(Value::ServerError(error)), _) if error.code() != "NOPERM" => return Err(error.into()),
            (Ok(_), _) => {}
            // A server at its limit of connections sends an error before any command, and closes.
            (Err(_), Value::ServerError(error)) => return Err(error.into()),
            (Err(error), _) => return Err(error),
        }
        let role = self.receive()?;
        let hello = Hello::of_value(&self.receive()?);
        let asked = Role::of_value(&role);
        self.asks_role = asked.is_some();
        self.role = asked.or(hello.role).unwrap_or(Role::Unknown);
        self.role.check(self.allow_replica)?;
        hello.check_version(least_version)
    }

    /// How long one write or one answer may take from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(socket) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))
            }
            Stream::Tls(stream) => {
                stream.sock.set_read_timeout(Some(timeout))?;
                stream.sock.set_write_timeout(Some(timeout))
            }
            Stream::Unix(socket) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))
            }
            // Who waits for it has the timeout.
            Stream::SharedTcp(_) | Stream::SharedTls(_) => Ok(()),
        }
    }

    /// The server's address.
    pub(super) fn target(&self) -> &ServerAddress {
        &self.target
    }

    /// The server's role when it was last asked.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether an idle connection may still be used: the server has neither closed it nor said anything unasked. Costs a
    /// system call and never waits.
    pub(super) fn is_usable(&mut self) -> bool {
        match &mut self.stream {
            Stream::Tcp(socket) => os::has_nothing_to_read(socket.as_fd()),
            Stream::Unix(socket) => os::has_nothing_to_read(socket.as_fd()),
            Stream::Tls(stream) => is_tls_usable(stream).unwrap_or(false),
            // It is read all the time.
            Stream::SharedTcp(_) | Stream::SharedTls(_) => true,
        }
    }

    /// Writes all of `commands`, each write within the timeout.
    pub(super) fn send(&mut self, commands: &[u8]) -> Result<(), SendFailed> {
        let mut sent = 0;
        while sent < commands.len() {
            match self.stream.write(&commands[sent..]) {
                Ok(0) => return Err(self.send_failed(io::ErrorKind::WriteZero.into(), sent)),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.send_failed(error, sent)),
            }
        }
        self.stream.flush().map_err(|error| SendFailed { error, is_unsent: false })
    }

    /// What TLS has taken may be on its way in part.
    fn send_failed(&self, error: io::Error, sent: usize) -> SendFailed {
        SendFailed { error, is_unsent: sent == 0 && !matches!(self.stream, Stream::Tls(_) | Stream::SharedTls(_)) }
    }

    /// The next answer; what the server pushes between answers is none. An error says that the connection is of no more
    /// use; what the server refuses is an answer.
    pub(super) fn receive(&mut self) -> Result<Value, RedisError> {
        loop {
            match self.parser.parse_value(&mut self.stream)? {
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
    }

    /// The command that asks what the server is now; its answer goes to [`Self::take_role`].
    pub(super) fn role_question(&self) -> &'static [&'static [u8]] {
        if self.asks_role { &[b"ROLE"] } else { &[b"HELLO"] }
    }

    /// Takes the answer to [`Self::role_question`]. Fails if the server is no longer one to use.
    pub(super) fn take_role(&mut self, answer: &Value) -> Result<(), RedisError> {
        let now = if self.asks_role { Role::of_value(answer) } else { Hello::of_value(answer).role };
        // Access rules may have changed: the next connection finds out what may be asked.
        self.role = now.unwrap_or(Role::Unknown);
        Ok(self.role.check(self.allow_replica)?)
    }

    /// Asks what the server is now. Fails if it is no longer one to use, or serves no commands.
    pub(super) fn check_role(&mut self) -> Result<(), RedisError> {
        let mut commands = Vec::new();
        resp::write_command(&mut commands, self.role_question());
        self.send(&commands)?;
        let answer = self.receive()?;
        self.accept_role(answer)
    }

    /// The same with an answer to [`Self::role_question`].
    pub(super) fn accept_role(&mut self, answer: Value) -> Result<(), RedisError> {
        let answer = check_served(answer)?;
        self.take_role(&answer)
    }

    /// The same connection for a thread that must not wait for it, within a runtime: a read or a write that would have to wait fails.
    /// [`Self::shared_socket`] says when to try again.
    pub(super) fn into_shared(self) -> io::Result<Self> {
        let share = |socket: TcpStream| {
            socket.set_nonblocking(true)?;
            tokio::net::TcpStream::from_std(socket)
        };
        let stream = match self.stream {
            Stream::Tcp(socket) => Stream::SharedTcp(SharedSocket(share(socket)?)),
            Stream::Tls(stream) => {
                let StreamOwned { conn, sock } = *stream;
                Stream::SharedTls(Box::new(StreamOwned { conn, sock: SharedSocket(share(sock)?) }))
            }
            other => other,
        };
        Ok(Self { stream, ..self })
    }

    /// `None`: the thread has to wait.
    pub(super) fn shared_socket(&self) -> Option<&tokio::net::TcpStream> {
        match &self.stream {
            Stream::SharedTcp(socket) => Some(&socket.0),
            Stream::SharedTls(stream) => Some(&stream.sock.0),
            Stream::Tcp(_) | Stream::Tls(_) | Stream::Unix(_) => None,
        }
    }

    /// Writes some of `bytes`, which [`Self::flush`] may have to send on.
    pub(super) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    /// Reads what there is; `Ok(0)` is the end.
    pub(super) fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

/// Takes a refusal for an error, unless it is by access rules: then commands are served.
fn check_served(answer: Value) -> Result<Value, RedisError> {
    match answer {
        Value::ServerError(error) if !matches!(error.code(), "NOPERM" | "ERR") => Err(error.into()),
        answer => Ok(answer),
    }
}

fn accept(answer: Value) -> Result<(), RedisError> {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether an error says that the server will not let this hub in, or not publish, before somebody changes something.
pub(super) fn is_lasting(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "READONLY" | "DENIED"))
}

/// Whether an error says that the server keeps no data of its own.
pub(super) fn is_read_only(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Takes in what has arrived, which may be no more than the session's tickets.
fn is_tls_usable(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> io::Result<bool> {
    let StreamOwned { conn, sock } = stream;
    sock.set_nonblocking(true)?;
    let is_usable = loop {
        match conn.read_tls(sock) {
            Ok(0) => break false,
            Ok(_) => match conn.process_new_packets() {
                Ok(state) if state.peer_has_closed() || state.plaintext_bytes_to_read() != 0 => break false,
                Ok(_) => {}
                Err(_) => break false,
            },
            Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
        }
    };
    sock.set_nonblocking(false)?;
    Ok(is_usable)
}

impl Stream {
    fn connect(target: &ServerAddress, tls: Option<&Arc<ClientConfig>>, timeout: Duration) -> io::Result<Self> {
        match (target, tls) {
            (ServerAddress::Unix(path), _) => Ok(Self::Unix(UnixStream::connect(path)?)),
            (ServerAddress::Tcp { host, port }, _) => Ok(Self::Tcp(connect_tcp(host, *port, timeout)?)),
            (ServerAddress::Tls { host, port }, Some(config)) => {
                let socket = connect_tcp(host, *port, timeout)?;
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Ok(Self::Tls(Box::new(StreamOwned::new(session, socket))))
            }
            (ServerAddress::Tls { .. }, None) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// A name may have several addresses: they are tried in order.
fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let started = Instant::now();
    let mut failure = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => {
                // Small commands do not wait for the acknowledgement of those before.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
            Self::SharedTcp(socket) => socket.read(buffer),
            Self::SharedTls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::SharedTcp(socket) => socket.write(bytes),
            Self::SharedTls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::SharedTcp(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
            Self::SharedTls(stream) => stream.flush(),
        }
    }
}

impl Read for SharedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for SharedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<SendFailed> for RedisError {
    fn from(failed: SendFailed) -> Self {
        failed.error.into()
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection")
            .field("target", &self.target)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
