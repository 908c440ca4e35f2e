//! Listening sockets: one per TCP address and reactor, so that the kernel spreads connections by itself.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::mio_net::Listener;

/// Connections the kernel completes ahead of the reactor; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Unsent bytes the kernel takes per connection. A peer that reads slowly then leaves its backlog in the shared log
/// instead of in megabytes of kernel memory.
const UNSENT_BYTES_MAX: u32 = 16 * 1024;
/// When the kernel begins to ask an idle peer whether it is there, and how often.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Binds a TCP address once per reactor. Returns the address bound, with the port the system chose if none was named,
/// and the listeners.
pub fn bind_tcp(address: SocketAddr, reactors: usize) -> io::Result<(SocketAddr, Vec<Listener>)> {
    // Sockets that share a port are bound without complaint next to another process that shares it too; so the first
    // one claims it alone, to find out.
    let first = tcp_socket(address, false)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    if reactors == 1 {
        return Ok((bound, vec![start_listening(first)?]));
    }
    drop(first);
    let listeners = (0..reactors).map(|_| {
        let socket = tcp_socket(bound, true)?;
        socket.bind(&bound.into())?;
        start_listening(socket)
    });
    Ok((bound, listeners.collect::<io::Result<_>>()?))
}

/// Who owns a unix socket's file and who may connect to it, which takes the right to write. `None`: as it comes about, by the
/// process's own user, group and umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFile {
    /// The user's number. Only root may give a socket to another user.
    pub owner: Option<u32>,
    /// The group's number. Others than root must be in the group.
    pub group: Option<u32>,
    /// The permissions, as `chmod` takes them.
    pub mode: Option<u32>,
}

/// Binds a unix socket, in place of one that a dead process has left behind. Nobody can connect before its file is as `file` says.
pub fn bind_unix(path: &Path, file: SocketFile) -> io::Result<Listener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let opened = set_file(path, file).and_then(|()| socket.listen(BACKLOG));
    if let Err(error) = opened {
        // It is ours, and nobody has seen it.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(Listener::Unix(UnixListener::from_std(socket.into())))
}

/// The mode comes last: a change of owner may take permissions away.
fn set_file(path: &Path, SocketFile { owner, group, mode }: SocketFile) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(path, owner, group)?;
    }
    mode.map_or(Ok(()), |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}

/// All options are set on the listener: what it accepts inherits them, without a call per connection.
fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    set_connection_options(SockRef::from(&socket))?;
    Ok(socket)
}

/// What each connection is to have.
fn set_connection_options(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

/// Listens at a TCP socket that another process has bound.
pub fn adopt_tcp(socket: std::net::TcpListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    set_connection_options(SockRef::from(&socket))?;
    Ok(Listener::Tcp(TcpListener::from_std(socket)))
}

/// Listens at a unix socket that another process has bound. Its file stays that process's.
pub fn adopt_unix(socket: std::os::unix::net::UnixListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Ok(Listener::Unix(UnixListener::from_std(socket)))
}

fn start_listening(socket: Socket) -> io::Result<Listener> {
    socket.listen(BACKLOG)?;
    Ok(Listener::Tcp(TcpListener::from_std(socket.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused_even_if_shared() {
        let any = "127.0.0.1:0".parse().expect("an address");
        for (first, second) in [(1, 1), (2, 2), (2, 1), (1, 2)] {
            let (bound, listeners) = bind_tcp(any, first).expect("a free port");
            assert_eq!(listeners.len(), first);
            let refused = bind_tcp(bound, second).map(drop);
            assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse), "{first} {second}");
        }
    }
}
