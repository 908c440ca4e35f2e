//! One blocking connection to a hub, over TCP, TLS or a unix socket.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use socket2::Socket;

use super::{access::HubAccess, tls::MaybeTlsStream};

/// How long one read waits, unless the caller chooses another time.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: MaybeTlsStream<Socket>,
    buffer: Box<[u8]>,
}

/// What [`Connection::read`] found.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// Some bytes.
    Bytes(&'a [u8]),
    /// Nothing in time.
    TimedOut,
    /// The hub closed.
    End,
}

impl Connection {
    /// Connects to `hub`. The error says where to and why not.
    pub(crate) fn open(hub: &HubAccess) -> Result<Self, String> {
        let connection = Self { stream: hub.connect()?, buffer: vec![0; READ_BYTES].into_boxed_slice() };
        connection.set_read_timeout(READ_TIMEOUT)?;
        Ok(connection)
    }

    /// How long [`Connection::read`] waits; below a millisecond counts as one.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> Result<(), String> {
        // Zero would mean for ever.
        let timeout = timeout.max(Duration::from_millis(1));
        self.stream.socket().set_read_timeout(Some(timeout)).map_err(|error| error.to_string())
    }

    /// Sends all of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| format!("the hub does not take what is sent: {error}"))
    }

    /// Whether it is open and nothing has arrived: a hub closes what was idle for too long. Reads without waiting. What is
    /// read is lost, so the connection is of no use if it is not quiet.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.stream.socket().set_nonblocking(true).is_ok()
            && matches!(self.stream.has_input(), Ok(false))
            && self.stream.socket().set_nonblocking(false).is_ok()
    }

    /// Waits for something to arrive.
    pub(crate) fn read(&mut self) -> Result<Incoming<'_>, String> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Ok(Incoming::End),
            Ok(count) => Ok(Incoming::Bytes(&self.buffer[..count])),
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => Ok(Incoming::TimedOut),
            Err(error) => Err(format!("the connection broke: {error}")),
        }
    }
}
