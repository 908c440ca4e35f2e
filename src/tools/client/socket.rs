//! TCP sockets as a client opens them.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use socket2::Socket;

/// How long connecting, and each step of a handshake, may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries each address of a host in turn, as `localhost` may stand for two.
pub(crate) fn connect_first(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Socket> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
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
