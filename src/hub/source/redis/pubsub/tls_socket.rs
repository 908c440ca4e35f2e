//! TLS on the reader's non-blocking socket.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

/// A TLS connection over a socket that may still be connecting.
#[derive(Debug)]
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: ClientConnection,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, host: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Self { socket, tls: ClientConnection::new(config, name).map_err(io::Error::other)? })
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads what was decrypted, taking in records until there is some. `Ok(0)` is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let processed = self.tls.process_new_packets().map_err(io::Error::other);
            // Handshake messages, and on an error the alert with its reason.
            let flushed = self.flush();
            processed?;
            flushed?;
        }
    }

    /// Encrypts as much of `bytes` as there is room for, and sends what it can.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.tls.writer().write(bytes)?;
        self.flush()?;
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Sends what is encrypted; what the socket does not take waits for the next call.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
