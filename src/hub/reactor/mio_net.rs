//! [`Net`] over mio: epoll, sockets, the machine's clocks.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Shutdown},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mio::{
    Events, Interest, Poll, Waker,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use rustix::net::{SendFlags, send};
use socket2::SockRef;

use super::net::{Net, Ready, Token};
use crate::{
    bus::Wake,
    clock::{Clock, Moment},
    os,
    protocol::http::DateText,
};

/// Readiness events taken per poll.
const EVENTS_PER_POLL: usize = 1024;
/// Listeners and the notifier take the numbers from the top; no connection's token comes near them.
const DOORBELL: mio::Token = mio::Token(usize::MAX);

/// A listening socket, bound and non-blocking.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// An accepted connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// None.
    Nowhere,
}

/// The production [`Net`].
#[derive(Debug)]
pub struct MioNet {
    poll: Poll,
    events: Events,
    /// `None`: stopped.
    listeners: Vec<Option<Listener>>,
    clock: Clock,
    /// A descriptor held back: given up when none is left, so that one more connection can be accepted, and closed.
    spare: Option<File>,
    date: DateText,
}

#[derive(Debug)]
struct MioWaker(Waker);

impl Wake for MioWaker {
    fn wake(&self) {
        // Fails only if the eventfd's counter is full, and then the poll returns anyway.
        let _ = self.0.wake();
    }
}

impl MioNet {
    /// Polls `listeners`; the waker returned interrupts the poll.
    pub fn new(mut listeners: Vec<Listener>, clock: Clock) -> io::Result<(Self, Arc<dyn Wake>)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let token = mio::Token(DOORBELL.0 - 1 - index);
            match listener {
                Listener::Tcp(socket) => poll.registry().register(socket, token, Interest::READABLE)?,
                Listener::Unix(socket) => poll.registry().register(socket, token, Interest::READABLE)?,
            }
        }
        let waker = Arc::new(MioWaker(Waker::new(poll.registry(), DOORBELL)?));
        let net = Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            listeners: listeners.into_iter().map(Some).collect(),
            clock,
            spare: File::open("/dev/null").ok(),
            date: DateText::default(),
        };
        Ok((net, waker))
    }
}

impl Net for MioNet {
    type Stream = Stream;

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn date(&mut self) -> &str {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.date.at(since_1970.as_secs())
    }

    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        ready.extend(self.events.iter().map(|event| {
            let above = DOORBELL.0 - event.token().0;
            if above == 0 {
                return Ready::Notifier;
            }
            if above <= self.listeners.len() {
                return Ready::Listener(above - 1);
            }
            Ready::Connection {
                token: Token::unpack(event.token().0 as u64),
                readable: event.is_readable(),
                writable: event.is_writable(),
                ending: event.is_read_closed() || event.is_error(),
            }
        }));
        Ok(())
    }

    fn listener_count(&self) -> usize {
        self.listeners.len()
    }

    fn accept(&mut self, listener: usize) -> io::Result<(Stream, Option<IpAddr>)> {
        match self.listeners.get(listener).and_then(Option::as_ref) {
            Some(Listener::Tcp(socket)) => {
                socket.accept().map(|(stream, address)| (Stream::Tcp(stream), Some(address.ip().to_canonical())))
            }
            Some(Listener::Unix(socket)) => socket.accept().map(|(stream, _)| (Stream::Unix(stream), None)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn shed(&mut self, listener: usize, refusal: &[u8]) -> io::Result<()> {
        self.spare = None;
        let shed = self.accept(listener).map(|(mut stream, _)| {
            // What the peer has asked is taken from the kernel: closing over it would destroy the answer on its way.
            let _ = self.read(&mut stream, &mut [0; 4096]);
            let _ = self.write(&mut stream, refusal);
            self.end(&mut stream);
        });
        self.spare = File::open("/dev/null").ok();
        shed
    }

    fn stop_listening(&mut self, until: usize) {
        self.listeners.iter_mut().take(until).for_each(|listener| *listener = None);
    }

    fn register(&mut self, stream: &mut Stream, token: Token) -> io::Result<()> {
        let token = mio::Token(token.pack() as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        match stream {
            Stream::Tcp(socket) => self.poll.registry().register(socket, token, both),
            Stream::Unix(socket) => self.poll.registry().register(socket, token, both),
            Stream::Nowhere => Ok(()),
        }
    }

    fn rename(&mut self, stream: &mut Stream, token: Token) -> io::Result<()> {
        let token = mio::Token(token.pack() as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        match stream {
            Stream::Tcp(socket) => self.poll.registry().reregister(socket, token, both),
            Stream::Unix(socket) => self.poll.registry().reregister(socket, token, both),
            Stream::Nowhere => Ok(()),
        }
    }

    fn release(&mut self, stream: &mut Stream) -> io::Result<()> {
        match stream {
            Stream::Tcp(socket) => self.poll.registry().deregister(socket),
            Stream::Unix(socket) => self.poll.registry().deregister(socket),
            Stream::Nowhere => Ok(()),
        }
    }

    fn nowhere(&mut self) -> Stream {
        Stream::Nowhere
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
        match stream {
            Stream::Tcp(socket) => socket.read(buffer),
            Stream::Unix(socket) => socket.read(buffer),
            Stream::Nowhere => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[inline]
    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        send_bytes(stream, bytes, SendFlags::NOSIGNAL)
    }

    fn write_ahead(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        send_bytes(stream, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn end(&mut self, stream: &mut Stream) {
        // A peer that is gone already needs no end.
        let _ = match stream {
            Stream::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Stream::Unix(socket) => socket.shutdown(Shutdown::Write),
            Stream::Nowhere => Ok(()),
        };
    }

    fn reset_on_drop(&mut self, stream: &Stream, reset: bool) {
        if let Stream::Tcp(socket) = stream {
            // A peer that is gone already cannot be misled.
            let _ = SockRef::from(socket).set_linger(reset.then_some(Duration::ZERO));
        }
    }

    fn unanswered_time(&mut self, stream: &Stream) -> Duration {
        match stream {
            Stream::Tcp(socket) => os::unanswered_time(socket.as_fd()).unwrap_or_default(),
            // A process that is gone has closed it.
            Stream::Unix(_) | Stream::Nowhere => Duration::ZERO,
        }
    }

    fn acknowledged_bytes(&mut self, stream: &Stream) -> Option<u64> {
        match stream {
            Stream::Tcp(socket) => os::acknowledged_bytes(socket.as_fd()).ok(),
            Stream::Unix(_) | Stream::Nowhere => None,
        }
    }

    fn unacknowledged_bytes(&mut self, stream: &Stream) -> usize {
        let counted = match stream {
            Stream::Tcp(socket) => os::unacknowledged_bytes(socket.as_fd()),
            Stream::Unix(socket) => os::unacknowledged_bytes(socket.as_fd()),
            Stream::Nowhere => return 0,
        };
        counted.unwrap_or_default()
    }
}

#[inline]
fn send_bytes(stream: &Stream, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    let sent = match stream {
        Stream::Tcp(socket) => send(socket, bytes, flags),
        Stream::Unix(socket) => send(socket, bytes, flags),
        Stream::Nowhere => return Err(io::ErrorKind::WouldBlock.into()),
    };
    Ok(sent?)
}
