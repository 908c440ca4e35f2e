//! Subscribers that never read.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    options::{Load, Plan},
    wire,
};

/// How long one of them may take to be let in.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Their receive buffer: a large one, on the same machine, would take in the events of minutes, and the server would never
/// notice. Across a network the window is what bounds it.
/// Small enough to be full before the measured span begins: while it fills up, the kernel compacts the peer's queue with
/// every packet, and on loopback it does so on the server's processor.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024;

/// Opens `plan.stalled` connections that ask for the load's topic and then do not read. They stall until dropped.
pub(super) fn open_stalled(plan: &Plan, load: &Load) -> io::Result<Vec<TcpStream>> {
    let request = wire::request(plan, load);
    (0..plan.stalled).map(|_| open(plan, &request)).collect()
}

/// Reads no further than the end of the answer's head, byte by byte.
fn open(plan: &Plan, request: &[u8]) -> io::Result<TcpStream> {
    let address = plan.target.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    // Before connecting: the window that is agreed on follows from it.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect_timeout(&address.into(), OPEN_TIMEOUT)?;
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(OPEN_TIMEOUT))?;
    socket.write_all(request)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(socket)
}
