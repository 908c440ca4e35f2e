//! One non-blocking connection, over TCP, TLS or a unix socket.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use mio::{
    Interest, Registry, Token,
    net::{TcpStream, UnixStream},
};
use socket2::{SockRef, TcpKeepalive};

use super::{
    access::HubAccess,
    socket::{begin_connect, found_connected, is_connected, open_socket},
    tls::{MaybeTlsStream, TlsClient},
};

/// An idle connection is probed after this long, so that a peer that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// An address of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// All addresses of a hub, at least one. Fails if its host has none.
pub(crate) fn resolve(hub: &HubAccess) -> Result<Vec<Address>, String> {
    let url = hub.url();
    if let Some(path) = url.unix_path() {
        return Ok(vec![Address::Unix(path.to_owned())]);
    }
    let found = url.socket_addresses().map_err(|error| format!("cannot find {url}: {error}"))?;
    if found.is_empty() {
        return Err(format!("cannot find {url}: the host has no address"));
    }
    Ok(found.into_iter().map(Address::Tcp).collect())
}

/// A non-blocking connection, registered with a poll.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(MaybeTlsStream<TcpStream>),
    Unix(UnixStream),
}

impl Link {
    /// Begins to connect, with TLS if `tls` is given. The poll reports the connection as writable once it stands or has failed.
    pub(crate) fn connect(
        address: &Address,
        tls: Option<&TlsClient>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
        match address {
            Address::Tcp(address) => {
                let mut stream = begin_connect(open_socket(*address)?, *address)?;
                registry.register(&mut stream, token, BOTH)?;
                MaybeTlsStream::new(stream, tls).map(Self::Tcp)
            }
            Address::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                registry.register(&mut stream, token, BOTH)?;
                Ok(Self::Unix(stream))
            }
        }
    }

    /// Whether the connection stands. Fails if it never will.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) => is_connected(stream.socket()),
            Self::Unix(stream) => found_connected(stream.take_error()?, stream.peer_addr()),
        }
    }

    /// Sets the options of a connection that stands: keepalive, so that a peer that vanished is noticed.
    pub(crate) fn tune(&self) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        let stream = stream.socket();
        SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(_) => Ok(()),
        }
    }
}
