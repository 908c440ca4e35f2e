//! One blocking connection to a hub, over TCP, TLS or a unix socket.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use socket2::Socket;

use super::{access::HubAccess, tls::MaybeTlsStream};

/// The timeout of a read, unless the caller sets another.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The size of the read buffer.
const READ_BYTES: usize = 64 * 1024;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: MaybeTlsStream<Socket>,
    buffer: Box<[u8]>,
}

/// The outcome of [`Connection::read`].
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    Bytes(&'a [u8]),
    TimedOut,
    /// The hub closed.
    End,
}

impl Connection {
    /// Connects to `hub`. The error names the hub and the reason.
    pub(crate) fn open(hub: &HubAccess) -> Result<Self, String> {
        let connection = Self { stream: hub.connect()?, buffer: vec![0; READ_BYTES].into_boxed_slice() };
        connection.set_read_timeout(READ_TIMEOUT)?;
        Ok(connection)
    }

    /// Sets how long [`Connection::read`] waits, at least a millisecond.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> Result<(), String> {
        // Zero would mean for ever.
        let timeout = timeout.max(Duration::from_millis(1));
        self.stream.socket().set_read_timeout(Some(timeout)).map_err(|error| error.to_string())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| format!("the hub does not take what is sent: {error}"))
    }

    /// Whether the connection is open and no input is pending: a hub closes connections that are idle for too long. Does not
    /// wait. Input that it finds is lost, so the connection is unusable after `false`.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.stream.socket().set_nonblocking(true).is_ok()
            && matches!(self.stream.has_input(), Ok(false))
            && self.stream.socket().set_nonblocking(false).is_ok()
    }

    /// Waits for input, at most for the read timeout.
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
