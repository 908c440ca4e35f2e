//! One subscriber: its socket, its dialect, and what it has received.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
};

use mio::net::TcpStream;
use socket2::Socket;

use super::{
    order::Order,
    stamps::StampClock,
    tally::Received,
    target::Target,
    wire::{Wire, with_fresh_key},
    wire_event::WireEvent,
};
use crate::{
    client::{self, MaybeTlsStream, begin_connect, is_connected, tls_advice},
    clock::{Clock, Moment},
};

/// The most subscribers that share a source address: a loopback address has some 28,000 free ports.
const SUBSCRIBERS_PER_ADDRESS: u32 = 20_000;

/// From this index on each client has a source address of its own: see [`stranger_index`].
const STRANGERS_FROM: u32 = 1_000 * SUBSCRIBERS_PER_ADDRESS;
const STRANGERS: u32 = 200_000;

/// The index of a client with a source address of its own. Addresses repeat after [`STRANGERS`] clients.
pub(super) fn stranger_index(number: usize) -> u32 {
    STRANGERS_FROM + (number % STRANGERS as usize) as u32 * SUBSCRIBERS_PER_ADDRESS
}

/// A connection and its state: small, as there are thousands.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) stream: MaybeTlsStream<TcpStream>,
    pub(super) wire: Wire,
    pub(super) seen: Seen,
    is_asked: bool,
}

/// What a subscriber has received.
#[derive(Debug)]
pub(super) struct Seen {
    pub order: Order,
    /// Whether a probe has arrived.
    pub is_ready: bool,
    /// When the connection was begun.
    pub began: Moment,
}

/// Clock and buffers for reading, which all subscribers of a thread share.
#[derive(Debug)]
pub(super) struct SharedIo {
    pub clock: Clock,
    pub stamps: Option<StampClock>,
    pub buffer: Box<[u8]>,
    /// Bytes to send back at once, such as pongs and commands.
    pub reply: Vec<u8>,
}

impl Subscriber {
    /// Begins to connect.
    pub(super) fn connect(target: &Target, index: u32, io: &SharedIo, wire: Wire) -> io::Result<Self> {
        let socket = open_socket(target.address, index, io)?;
        Self::connect_over(socket, target, Order::default(), io, wire)
    }

    /// Begins to connect a socket of [`open_socket`]; `order` is what earlier connections received.
    pub(super) fn connect_over(
        socket: Socket,
        target: &Target,
        order: Order,
        io: &SharedIo,
        wire: Wire,
    ) -> io::Result<Self> {
        let seen = Seen { order, is_ready: false, began: io.clock.now() };
        let stream = MaybeTlsStream::new(begin_connect(socket, target.address)?, target.tls.as_ref())?;
        Ok(Self { stream, wire, seen, is_asked: false })
    }

    /// The socket is writable: sends the request, if it was not sent.
    pub(super) fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        if self.is_asked {
            return self.stream.flush();
        }
        if !is_connected(self.stream.socket())? {
            return Ok(());
        }
        self.is_asked = true;
        self.stream.write_all(&with_fresh_key(request))
    }

    /// Sends the request without waiting for the socket to become writable: a loopback socket mostly is as soon as
    /// connecting returns. If it is not, [`Subscriber::ask`] sends it later.
    pub(super) fn ask_at_once(&mut self, request: &[u8]) -> io::Result<()> {
        if self.stream.is_tls() {
            return Ok(());
        }
        let request = &*with_fresh_key(request);
        match self.stream.write(request) {
            Ok(count) if count == request.len() => self.is_asked = true,
            Ok(_) => return Err(io::Error::other("a socket has no room for a request")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads all that has arrived. A read that does not fill the buffer has emptied the socket, unless the peer is closing:
    /// polling is edge-triggered, so later input causes another event.
    pub(super) fn read(
        &mut self,
        io: &mut SharedIo,
        is_ending: bool,
        on_event: &mut impl FnMut(&mut Seen, Received, WireEvent<'_>),
    ) -> io::Result<()> {
        loop {
            let (count, received) = match self.receive(io) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(advise(error)),
            };
            if count == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            let seen = &mut self.seen;
            let mut on_event = |event: WireEvent<'_>| on_event(seen, received, event);
            self.wire.receive(&io.buffer[..count], &mut io.reply, &mut on_event).map_err(io::Error::other)?;
            self.answer(&mut io.reply)?;
            if count < io.buffer.len() && !is_ending && !self.stream.is_tls() {
                return Ok(());
            }
        }
    }

    #[inline]
    fn receive(&mut self, io: &mut SharedIo) -> io::Result<(usize, Received)> {
        let (count, kernel) = match &io.stamps {
            Some(stamps) => stamps.receive(self.stream.socket().as_fd(), &mut io.buffer)?,
            None => (self.stream.read(&mut io.buffer)?, None),
        };
        Ok((count, Received { read: io.clock.now(), kernel }))
    }

    /// Sends a reply. Replies are a few bytes, so a socket without room for them is an error.
    fn answer(&mut self, reply: &mut Vec<u8>) -> io::Result<()> {
        if !reply.is_empty() {
            self.stream.write_all(reply)?;
            reply.clear();
        }
        Ok(())
    }
}

/// Adds advice to an error of TLS.
#[cold]
fn advise(error: io::Error) -> io::Error {
    match tls_advice(&error) {
        "" => error,
        advice => io::Error::other(format!("{error}{advice}")),
    }
}

/// A socket that is ready to connect.
pub(super) fn open_socket(target: SocketAddr, index: u32, io: &SharedIo) -> io::Result<Socket> {
    let socket = client::open_socket(target)?;
    if let Some(source) = source_address(target, index) {
        socket.bind(&source.into())?;
    }
    if io.stamps.is_some() {
        StampClock::enable(&socket)?;
    }
    Ok(socket)
}

/// The source address: 127.0.0.1, .2, .3 … as their ports are used up. `None` unless the target is a loopback address.
fn source_address(target: SocketAddr, index: u32) -> Option<SocketAddr> {
    let block = index / SUBSCRIBERS_PER_ADDRESS;
    let is_loopback = target.is_ipv4() && target.ip().is_loopback();
    (is_loopback && 0 < block).then(|| {
        let address = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + block);
        SocketAddr::new(IpAddr::V4(address), 0)
    })
}
