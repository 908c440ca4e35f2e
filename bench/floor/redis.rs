//! The source: a Redis Pub/Sub connection (RESP2), read on the thread that writes.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use crate::{broadcast::Halls, peer::Peer};

/// How much one read takes: what the hub's reader takes.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The connection, subscribed.
pub(crate) struct Subscriber {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Subscriber {
    pub(crate) fn connect(address: SocketAddr, channels: &[String]) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut command = format!("*{}\r\n$9\r\nSUBSCRIBE\r\n", channels.len() + 1);
        for channel in channels {
            command.push_str(&format!("${}\r\n{channel}\r\n", channel.len()));
        }
        socket.write_all(command.as_bytes())?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer: vec![0; READ_BUFFER_BYTES], filled: 0 })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// One read, and all events in it.
    pub(crate) fn receive(&mut self, halls: &mut Halls, peers: &mut [Option<Peer>]) -> io::Result<()> {
        match recv(&self.socket, &mut self.buffer[self.filled..], RecvFlags::empty()) {
            Ok((_, 0)) => return Err(io::Error::other("Redis closed the connection")),
            Ok((_, length)) => self.filled += length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut start = 0;
        while let Some((items, length)) = parse_push(&self.buffer[start..self.filled]) {
            if items[0] == b"message" {
                halls.publish(items[1], items[2], peers);
            }
            start += length;
        }
        halls.flush(peers);
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        if self.filled == self.buffer.len() {
            return Err(io::Error::other("an event larger than the read buffer"));
        }
        Ok(())
    }
}

/// The three items of a push (`message`, channel, payload; of `subscribe` the third is a number) and its length; `None`
/// until it is whole.
fn parse_push(bytes: &[u8]) -> Option<([&[u8]; 3], usize)> {
    let (_count, mut at) = parse_line(bytes, 0)?;
    let mut items: [&[u8]; 3] = [b""; 3];
    for item in &mut items {
        let (head, start) = parse_line(bytes, at)?;
        at = start;
        if let Some(digits) = head.strip_prefix(b"$") {
            let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
            *item = bytes.get(start..start + length)?;
            at = start + length + 2;
        }
    }
    (at <= bytes.len()).then_some((items, at))
}

/// The line that begins at `start`, without its end, and where the next one begins.
fn parse_line(bytes: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let length = memchr::memchr(b'\n', bytes.get(start..)?)?;
    Some((bytes.get(start..(start + length).checked_sub(1)?)?, start + length + 1))
}
