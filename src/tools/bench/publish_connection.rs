//! One connection over which events are published.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

use rustix::event::{PollFd, PollFlags};
use socket2::Socket;

use super::{payload::Stamp, plan::PublishTarget, published::Published, target::Target};
use crate::client::{MaybeTlsStream, Replies, Reply, tls_advice};

/// The size of the read buffer.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A connection with its output and its unanswered events.
#[derive(Debug)]
pub(super) struct PublishConnection {
    stream: MaybeTlsStream<Socket>,
    pub(super) outgoing: Vec<u8>,
    pub(super) replies: Replies,
    /// Events that wait for the answer to the event before them, with the indexes of their topics.
    waiting: VecDeque<(Stamp, u32)>,
    /// Events sent and not answered.
    pub(super) unanswered: u64,
    /// Whether an event was added since the connection was last read and written.
    pub(super) is_used: bool,
}

impl PublishConnection {
    /// Connects to `target`, for payloads of `payload_bytes`.
    pub(super) fn connect(target: &PublishTarget, payload_bytes: usize) -> io::Result<Self> {
        let (stream, replies) = match target {
            PublishTarget::Redis(target) => (target.connect().map_err(io::Error::other)?, Replies::redis()),
            PublishTarget::Http(post) => (open(&post.target)?, Replies::http()),
            PublishTarget::Nats(broker) => {
                let mut socket = open(&broker.target)?;
                let held = broker.log_in(socket.socket_mut(), payload_bytes)?;
                (socket, Replies::nats(held))
            }
        };
        stream.socket().set_nonblocking(true)?;
        let (outgoing, waiting) = (Vec::new(), VecDeque::new());
        Ok(Self { stream, outgoing, replies, waiting, unanswered: 0, is_used: false })
    }

    pub(super) fn queue(&mut self, stamp: Stamp, topic: u32) {
        self.waiting.push_back((stamp, topic));
    }

    /// The next waiting event, if all before it are answered.
    pub(super) fn next_waiting(&mut self) -> Option<(Stamp, u32)> {
        if self.unanswered == 0 { self.waiting.pop_front() } else { None }
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// The sequence number of the first waiting event.
    pub(super) fn first_waiting(&self) -> Option<u32> {
        self.waiting.front().map(|(stamp, _)| stamp.sequence)
    }

    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Whether something is left to send.
    pub(super) fn is_pending(&self) -> bool {
        !self.outgoing.is_empty() || !self.waiting.is_empty() || self.stream.wants_write()
    }

    /// Whether something is left to send, or to be answered.
    pub(super) fn is_busy(&self) -> bool {
        self.is_pending() || 0 < self.unanswered
    }

    /// The readiness to poll for.
    pub(super) fn poll_entry(&self) -> PollFd<'_> {
        let write =
            if self.outgoing.is_empty() && !self.stream.wants_write() { PollFlags::empty() } else { PollFlags::OUT };
        PollFd::new(self.stream.socket(), PollFlags::IN | write)
    }

    /// Requests replies where the server sends none by itself, and writes as far as the socket takes bytes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.replies.ask(self.unanswered, &mut self.outgoing);
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
        self.stream.flush()
    }

    /// Reads the replies that have arrived.
    pub(super) fn take_answers(&mut self, outcome: &mut Published) -> io::Result<()> {
        let mut buffer = [0; READ_BUFFER_BYTES];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.explain(io::Error::other("the server closed the publisher's connection"))),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.explain(error)),
            };
            let (unanswered, mut is_unasked) = (&mut self.unanswered, false);
            let answers = self.replies.receive(&buffer[..count], &mut self.outgoing, &mut |reply| {
                let Some(rest) = unanswered.checked_sub(1) else {
                    is_unasked = true;
                    return;
                };
                *unanswered = rest;
                outcome.answered += 1;
                outcome.refused += u64::from(matches!(reply, Reply::Refused(_)));
            });
            answers.map_err(io::Error::other)?;
            // RFC 9112 section 9.2. Which answer is whose is not known any more.
            if is_unasked {
                return Err(self.explain(io::Error::other("the server sent an answer to nothing")));
            }
            if count < buffer.len() && !self.stream.is_tls() {
                return Ok(());
            }
        }
    }

    /// Adds the first refusal to an error: some servers refuse an event before they close.
    fn explain(&self, error: io::Error) -> io::Error {
        match &self.replies.first_refusal {
            Some(refusal) => io::Error::other(format!("{error}; it had refused an event: {refusal}")),
            None => error,
        }
    }
}

fn open(target: &Target) -> io::Result<MaybeTlsStream<Socket>> {
    let socket = TcpStream::connect(target.address)?;
    socket.set_nodelay(true)?;
    let mut stream = MaybeTlsStream::new(Socket::from(socket), target.tls.as_ref())?;
    stream.shake_hands().map_err(|error| io::Error::other(format!("{error}{}", tls_advice(&error))))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_to_nothing_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (mut server, _) = listener.accept().expect("the connection");
        let mut connection = PublishConnection {
            stream: MaybeTlsStream::Plain(Socket::from(socket)),
            outgoing: Vec::new(),
            replies: Replies::http(),
            waiting: VecDeque::new(),
            unanswered: 1,
            is_used: false,
        };
        server.write_all(&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(2)).expect("it reads");
        let mut outcome = Published::new();
        let error = connection.take_answers(&mut outcome).expect_err("one was asked for");
        assert!(error.to_string().contains("an answer to nothing"), "{error}");
        assert_eq!((outcome.answered, connection.unanswered), (1, 0));
    }
}
