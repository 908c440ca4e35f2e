//! TCP sockets as a client opens them.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Timeout of connecting, and of each step of a TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first address that accepts: `localhost` may have two. Fails with the last address's error.
pub(crate) fn connect_first(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Socket> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What Linux answers when a connection is under way (EINPROGRESS): the standard library has no stable name for it.
const IN_PROGRESS: i32 = 115;

/// A non-blocking socket that is not connected yet and sends small writes at once. Options that must be set before connecting,
/// such as the receive buffer, are the caller's.
pub fn open_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Begins to connect a socket of [`open_socket`]; [`is_connected`] tells whether the connection stands.
pub fn begin_connect(socket: Socket, address: SocketAddr) -> io::Result<mio::net::TcpStream> {
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
        done => done?,
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// Whether the connection stands. Fails if it never will.
pub fn is_connected(stream: &mio::net::TcpStream) -> io::Result<bool> {
    found_connected(stream.take_error()?, stream.peer_addr())
}

/// What a socket's pending error and its peer's address say about the connection.
pub(super) fn found_connected<T>(pending: Option<io::Error>, peer: io::Result<T>) -> io::Result<bool> {
    match (pending, peer) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(true),
        (None, Err(error)) if error.kind() == ErrorKind::NotConnected => Ok(false),
        (None, Err(error)) => Err(error),
    }
}
