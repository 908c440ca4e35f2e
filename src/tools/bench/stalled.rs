//! Subscribers that never read after they are subscribed.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    plan::{Load, Plan},
    wire::{ClientProfile, with_fresh_key},
    wire_event::WireEvent,
};
use crate::client::MaybeTlsStream;

/// Timeout of each answer of the server while a connection subscribes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Receive buffer of a stalled connection. A large one on the same machine would hold the events of minutes, and the server
/// would never notice. It is small enough to be full before the measured window: while it fills up, the kernel compacts the
/// peer's queue with every packet, and on loopback it does so in the server's CPU time.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024;

/// Opens `plan.stalled` connections that subscribe to the load's topics and then do not read. They stall until dropped.
pub(super) fn open_stalled(plan: &Plan, load: &Load) -> io::Result<Vec<MaybeTlsStream<TcpStream>>> {
    if plan.stalled == 0 {
        return Ok(Vec::new());
    }
    let profiles = ClientProfile::of_load(plan, load);
    (0..plan.stalled as usize).map(|number| open(plan, &profiles[number % profiles.len()])).collect()
}

/// Reads byte by byte, no further than the end of the handshake.
fn open(plan: &Plan, profile: &ClientProfile) -> io::Result<MaybeTlsStream<TcpStream>> {
    let address = plan.target.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    // Before connecting: TCP's window scale follows from it.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect_timeout(&address.into(), OPEN_TIMEOUT)?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(OPEN_TIMEOUT))?;
    let mut socket = MaybeTlsStream::new(socket, plan.target.tls.as_ref())?;
    socket.write_all(&with_fresh_key(&profile.request))?;
    let (mut wire, mut reply, mut is_open) = (profile.wire(), Vec::new(), false);
    while !is_open {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        let mut on_event = |event: WireEvent<'_>| is_open |= matches!(event, WireEvent::Opened);
        wire.receive(&byte, &mut reply, &mut on_event).map_err(io::Error::other)?;
        socket.write_all(&reply)?;
        reply.clear();
    }
    Ok(socket)
}
