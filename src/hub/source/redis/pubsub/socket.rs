//! The reader's non-blocking byte stream: TCP, TLS over TCP, or a Unix socket.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpStream, UnixStream},
};
use rustls::ClientConfig;

use super::tls_socket::TlsStream;
use crate::source::redis::{ClusterView, Directory, ServerAddress};

/// Makes connections to the configured server.
#[derive(Debug)]
pub(super) struct Dialer {
    directory: Directory,
    timeout: Duration,
    /// Where the server was when [`Dialer::candidates`] were asked for.
    target: ServerAddress,
    tls: Option<Arc<ClientConfig>>,
    /// Looks names up on another thread, where this one must not wait.
    names: Option<Arc<ClusterView>>,
}

/// A stream, perhaps still connecting. Registered once, edge-triggered, for both directions.
#[derive(Debug)]
pub(super) enum ReaderSocket {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
}

/// Where one attempt may connect to: a name may have several addresses.
#[derive(Debug)]
pub(super) enum Candidate {
    Address(SocketAddr),
    Path,
}

impl Dialer {
    /// For the server in `directory`; finding it takes `timeout` at most.
    pub(super) fn new(directory: Directory, timeout: Duration) -> Self {
        let target = ServerAddress::Unix(PathBuf::new());
        Self { tls: directory.tls.clone(), directory, timeout, target, names: None }
    }

    /// The same for a node of a cluster: `names` looks its name up, so that this thread need not wait.
    pub(super) fn with_names(self, names: Arc<ClusterView>) -> Self {
        Self { names: Some(names), ..self }
    }

    /// Where the server was when [`Dialer::candidates`] were asked for.
    pub(super) fn target(&self) -> &ServerAddress {
        &self.target
    }

    /// All places to try, in order. Asks the sentinels, if there are any, and looks the name up, both of which may block
    /// this thread: while there is no connection it has nothing else to do, unless [`Dialer::with_names`] says that it has.
    pub(super) fn candidates(&mut self) -> io::Result<Vec<Candidate>> {
        let info = self.directory.current_within(self.timeout).map_err(io::Error::other)?;
        self.target = ServerAddress::of(&info);
        match &self.target {
            ServerAddress::Tcp { host, port } | ServerAddress::Tls { host, port } => {
                let addresses = match &self.names {
                    Some(names) => names.addresses(host, *port)?,
                    None => (host.as_str(), *port).to_socket_addrs()?.collect(),
                };
                Ok(addresses.into_iter().map(Candidate::Address).collect())
            }
            ServerAddress::Unix(_) => Ok(vec![Candidate::Path]),
        }
    }

    /// Begins to connect to `candidate` and registers the stream.
    pub(super) fn connect(&self, candidate: &Candidate, registry: &Registry, token: Token) -> io::Result<ReaderSocket> {
        let mut connection = match (candidate, &self.target, &self.tls) {
            (Candidate::Address(address), ServerAddress::Tls { host, .. }, Some(config)) => {
                let stream = TlsStream::new(TcpStream::connect(*address)?, host, Arc::clone(config))?;
                ReaderSocket::Tls(Box::new(stream))
            }
            (Candidate::Address(address), ..) => ReaderSocket::Tcp(TcpStream::connect(*address)?),
            (Candidate::Path, ServerAddress::Unix(path), _) => ReaderSocket::Unix(UnixStream::connect(path)?),
            (Candidate::Path, ..) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        registry.register(connection.source(), token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(connection)
    }
}

impl ReaderSocket {
    /// Whether it is connected by now; an error if that failed.
    pub(super) fn poll_connected(&mut self) -> io::Result<bool> {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.socket(),
            Self::Unix(socket) => return socket.take_error()?.map_or(Ok(true), Err),
        };
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => {
                // A sign of life or a subscription must not wait for the acknowledgement of the one before.
                socket.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `Ok(0)` is the end of the stream.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }

    /// Sends from the front of `outgoing` and removes what was taken; the rest waits for the next writable edge.
    pub(super) fn send(&mut self, outgoing: &mut Vec<u8>) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == outgoing.len() {
                break self.flush();
            }
            match self.write(&outgoing[sent..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        outgoing.drain(..sent);
        result
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush(),
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.socket(),
            Self::Unix(socket) => socket,
        }
    }
}
