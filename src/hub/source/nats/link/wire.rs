//! A socket with its two buffers: what was read and is not parsed yet, and what waits to be sent.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ClientConfig;

use super::socket::Socket;
use crate::{
    protocol::nats::{NatsLimits, Operation, parse},
    source::{Filled, ReadBuffer},
};

/// What the buffer of what is sent keeps of its memory while it is empty.
const OUTGOING_BYTES_KEPT: usize = 256 * 1024;

/// A connected stream of operations.
#[derive(Debug)]
pub(in crate::source::nats) struct Wire {
    socket: Socket,
    incoming: ReadBuffer,
    /// What waits to be sent, and how much of it has been.
    outgoing: Vec<u8>,
    sent: usize,
    is_flushed: bool,
}

impl Wire {
    pub(in crate::source::nats) async fn connect(host: &str, port: u16, read_buffer_bytes: usize) -> io::Result<Self> {
        let socket = Socket::connect(host, port).await?;
        let incoming = ReadBuffer::new(read_buffer_bytes);
        Ok(Self { socket, incoming, outgoing: Vec::new(), sent: 0, is_flushed: true })
    }

    /// Goes on in TLS. Fails if the server has said more than was read: that would be taken for something said in TLS.
    pub(in crate::source::nats) async fn secure(self, config: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        if !self.incoming.unparsed().is_empty() {
            return Err(io::Error::other("the server goes on in plain text, and wants TLS"));
        }
        Ok(Self { socket: self.socket.secure(config, host).await?, ..self })
    }

    /// Where to write what is to be sent.
    pub(in crate::source::nats) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// Both buffers: what came, and where to write an answer.
    pub(super) fn buffers(&mut self) -> (&mut ReadBuffer, &mut Vec<u8>) {
        (&mut self.incoming, &mut self.outgoing)
    }

    /// Sends what waits, and hands what comes to `take` until that returns something.
    pub(in crate::source::nats) async fn converse<R>(
        &mut self,
        limits: &NatsLimits,
        mut take: impl FnMut(Operation<'_>, &mut Vec<u8>) -> Option<R>,
    ) -> io::Result<R> {
        loop {
            while let Some((operation, length)) = parse(self.incoming.unparsed(), limits).map_err(io::Error::other)? {
                let taken = take(operation, &mut self.outgoing);
                self.incoming.consume(length);
                if let Some(result) = taken {
                    return Ok(result);
                }
            }
            std::future::poll_fn(|context| {
                // A server that is gone may have said why before it went, so reading counts.
                let sent = self.poll_send(context);
                let before = self.incoming.unparsed().len();
                let filled = self.poll_fill(context);
                if before < self.incoming.unparsed().len() {
                    return Poll::Ready(Ok(()));
                }
                match (filled, sent) {
                    (Filled::End, _) => Poll::Ready(Err(io::Error::other("the server closed the connection"))),
                    (Filled::Failed(error), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                    (Filled::Drained | Filled::Full, _) => Poll::Pending,
                }
            })
            .await?;
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            self.is_flushed = false;
            match self.socket.poll_write(&self.outgoing[self.sent..], context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.outgoing.drain(..self.sent);
                    self.sent = 0;
                    return Poll::Pending;
                }
            }
        }
        if !self.is_flushed {
            self.outgoing.clear();
            self.outgoing.shrink_to(OUTGOING_BYTES_KEPT);
            self.sent = 0;
            std::task::ready!(self.socket.poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what there is, up to a buffer full.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Filled {
        let Self { socket, incoming, .. } = self;
        incoming.fill(|room| match socket.poll_read(room, context) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        })
    }
}
