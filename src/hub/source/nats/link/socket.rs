//! The byte stream of a connection: TCP, or TLS over TCP.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A connected stream.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Connects to the first address of `host` that answers.
    pub(super) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect((host, port)).await?;
        // A nonce or a subscription must not wait for the acknowledgement of the one before.
        socket.set_nodelay(true)?;
        Ok(Self::Tcp(socket))
    }

    /// Goes on in TLS, with a server that has a certificate for `host`.
    pub(super) async fn secure(self, config: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let Self::Tcp(socket) = self else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// `Ok(0)` is the end of the stream.
    pub(super) fn poll_read(&mut self, room: &mut [u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(room);
        let polled = match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(context, &mut read),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, &mut read),
        };
        polled.map_ok(|()| read.filled().len())
    }

    pub(super) fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
