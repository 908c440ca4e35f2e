//! The seam between a reactor and the world: mio in production ([`super::mio_net`]), queues with short writes, resets and
//! a virtual clock in simulation.

use std::{io, net::IpAddr, time::Duration};

use crate::{clock::Moment, index::Slot};

/// What a poll found. A closed set: nothing else gives a reactor work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A peer wants to connect to the listener of this index.
    Listener(usize),
    /// The notifier rang.
    Notifier,
    /// Something about a connection.
    Connection {
        /// The token it was registered with.
        token: Token,
        /// There is something to read, or the end.
        readable: bool,
        /// There is room to write again.
        writable: bool,
        /// No more bytes follow those that wait, or the connection failed: a read says which.
        ending: bool,
    },
}

/// Names a connection: its slot and how often the slot had been used before, so that late news of a connection that is
/// gone does not reach its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Its slot in the reactor.
    pub slot: Slot,
    /// Counts the connections that had this slot.
    pub generation: u32,
}

impl Token {
    /// In one number, for the kernel and for control messages.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | self.slot.get() as u64
    }

    /// Out of [`Token::pack`].
    pub fn unpack(packed: u64) -> Self {
        Self { slot: Slot::new(packed as u32 as usize), generation: (packed >> 32) as u32 }
    }
}

/// The calls a reactor makes outward. One value per reactor, used by its thread only.
///
/// All sockets are non-blocking. Readiness is edge-triggered: it is reported once, and again only after a read or write
/// found nothing or no room.
pub trait Net {
    /// A connected byte stream. Dropping it closes it.
    type Stream: Send + std::fmt::Debug;

    /// The moment it is.
    fn now(&self) -> Moment;

    /// The wall clock as an HTTP date (RFC 9110 section 5.6.7), good to the second.
    fn date(&mut self) -> &str;

    /// Waits until something is ready or `timeout` has passed, and appends what is to `ready`.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;

    /// How many listeners there are.
    fn listener_count(&self) -> usize;

    /// Takes the next connection from the listener of this index. `WouldBlock`: none waits.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Option<IpAddr>)>;

    /// Sends `refusal` to the peer that waits first at the listener, and closes: for when descriptors are exhausted, because
    /// the queue must not fill with peers that wait for an answer that never comes. `WouldBlock`: no peer waits. Any other
    /// error: not even one descriptor could be had.
    fn shed(&mut self, listener: usize, refusal: &[u8]) -> io::Result<()>;

    /// Stops the listeners below the index `until` for good. Nothing is accepted from them any more.
    fn stop_listening(&mut self, until: usize);

    /// Begins to report readiness of `stream`, in both directions.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Goes on reporting readiness of `stream` under another token. What is ready is reported anew.
    fn rename(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Reports no more readiness of `stream`: it goes to another reactor.
    fn release(&mut self, stream: &mut Self::Stream) -> io::Result<()>;

    /// A stream that leads nowhere, of a session without a connection of its own: nothing ever comes, and there is never
    /// room. It is not registered.
    fn nowhere(&mut self) -> Self::Stream;

    /// Reads what has arrived; zero bytes: the peer has ended.
    fn read(&mut self, stream: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much of `bytes` as there is room for.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize>;

    /// Like [`Net::write`], for bytes behind which others are written right away: both may travel together.
    fn write_ahead(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize> {
        self.write(stream, bytes)
    }

    /// Ends the stream in our direction: the peer sees the end once it has read all.
    fn end(&mut self, stream: &mut Self::Stream);

    /// Whether dropping the stream, or the death of the process, resets it instead of ending it: for a response that ends with
    /// the connection, whose reader could not tell it from a complete one (RFC 9112 section 8).
    fn reset_on_drop(&mut self, _stream: &Self::Stream, _reset: bool) {}

    /// For how long the peer's host has acknowledged nothing, although it was asked: it is gone, or out of reach. Zero while it
    /// acknowledges, even if the peer does not read.
    fn unanswered_time(&mut self, _stream: &Self::Stream) -> Duration {
        Duration::ZERO
    }

    /// How many bytes the peer's machine has acknowledged since it connected, its own side's opening and end included, which count
    /// for one each. `None` where they are not counted: a unix socket.
    fn acknowledged_bytes(&mut self, _stream: &Self::Stream) -> Option<u64> {
        None
    }

    /// How many of the bytes written have not reached the peer.
    fn unacknowledged_bytes(&mut self, _stream: &Self::Stream) -> usize {
        0
    }
}
