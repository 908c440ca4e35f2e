//! Answers `GET /metrics`, on a thread and a poll of its own, so that no scrape delays an event.
//!
//! LIFECYCLE of a peer: reading → answering → lingering → gone. Each connection carries one request. The server ends its
//! direction first, and lets the peer go once that has closed its own, or when its time is over.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, ToSocketAddrs},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use prometheus_client::registry::Registry;

use crate::{
    clock::{Clock, Moment},
    exposition::ExpositionFormat,
    outbox::Outbox,
    protocol::http::{HttpLimits, Method, Request, Response, ServerSession, format_date},
    stdio,
};

/// How many connections there are at a time; further ones are closed at once.
const PEERS_MAX: usize = 16;
/// How long a connection may last.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// How much is read at a time.
const READ_BYTES: usize = 4096;
/// Where the listener stands among the tokens: behind all peers.
const LISTENER: Token = Token(PEERS_MAX);

/// A proper request has a head that is much shorter than this, and no body: one is read only to be refused for its method.
fn limits() -> HttpLimits {
    HttpLimits { head_bytes_max: 8 * 1024, body_bytes_max: 8 * 1024, ..HttpLimits::default() }
}

/// Begins to serve `registry` at `address`, `host:port`, until the process ends; returns where that is. The error says why
/// not.
pub(super) fn serve(address: &str, registry: Registry) -> Result<SocketAddr, String> {
    let cannot = |error: io::Error| format!("cannot serve metrics at {address}: {error}");
    let place = address.to_socket_addrs().map_err(cannot)?.next();
    let place = place.ok_or_else(|| cannot(io::Error::new(ErrorKind::NotFound, "the host has no address")))?;
    let mut listener = TcpListener::bind(place).map_err(cannot)?;
    let place = listener.local_addr().map_err(cannot)?;
    let poll = Poll::new().map_err(cannot)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(cannot)?;
    let server = Server { poll, listener, peers: Default::default(), registry, clock: Clock::start() };
    thread::Builder::new().name("metrics".into()).spawn(move || server.run()).map_err(cannot)?;
    Ok(place)
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    peers: [Option<Peer>; PEERS_MAX],
    registry: Registry,
    clock: Clock,
}

struct Peer {
    stream: TcpStream,
    session: ServerSession,
    outbox: Outbox,
    /// Nothing it sends counts any more.
    is_answered: bool,
    deadline: Instant,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(PEERS_MAX + 1);
        loop {
            let next = self.peers.iter().flatten().map(|peer| peer.deadline).min();
            let timeout = next.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    // The measurement goes on without.
                    stdio::report(format_args!("fanfare: metrics are served no longer: cannot poll: {error}"));
                    return;
                }
                Err(_) => continue,
                Ok(()) => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(index) => self.visit(index),
                }
            }
            let now = Instant::now();
            for peer in &mut self.peers {
                peer.take_if(|peer| peer.deadline <= now);
            }
        }
    }

    /// Accepts all who wait. An error other than of one peer (no descriptor is left) drops the edge: the next peer brings
    /// another.
    fn accept(&mut self) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                Err(_) => return,
            };
            let Some(index) = self.peers.iter().position(Option::is_none) else { continue };
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(index), both).is_err() {
                continue;
            }
            self.peers[index] = Some(Peer {
                stream,
                session: ServerSession::new(self.clock.now()),
                outbox: Outbox::new(),
                is_answered: false,
                deadline: Instant::now() + PEER_TIMEOUT,
            });
        }
    }

    fn visit(&mut self, index: usize) {
        let Some(peer) = &mut self.peers[index] else { return };
        let (registry, now) = (&self.registry, self.clock.now());
        if peer.turn(now, |request| answer(request, registry)).is_err() {
            self.peers[index] = None;
        }
    }
}

impl Peer {
    /// Goes on as far as the socket lets it; an error when it is over.
    fn turn(&mut self, now: Moment, answer: impl Fn(&Request) -> Response) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        loop {
            self.send()?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.is_answered => {}
                Ok(count) => self.take(&buffer[..count], now, &answer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], now: Moment, answer: impl Fn(&Request) -> Response) {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let date = format_date(unix_s);
        match self.session.receive(bytes, &limits(), now) {
            Ok(None) => return,
            Ok(Some(request)) => {
                self.session.respond(&answer(&request).with("Connection", "close"), &date, &mut self.outbox);
            }
            Err(close) => self.session.refuse(close, &date, &mut self.outbox),
        }
        self.is_answered = true;
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.write(self.outbox.pending()) {
                Ok(count) => self.outbox.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_answered {
            // The peer may have gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

fn answer(request: &Request, registry: &Registry) -> Response {
    match (request.path.as_str(), request.method) {
        ("/metrics", Method::Get | Method::Head) => {
            let format = ExpositionFormat::negotiate(request.header_values("accept"));
            let headers = vec![("Content-Type", format.content_type().to_owned()), ("Vary", "Accept".to_owned())];
            Response { status: 200, headers, body: format.encode(registry).into_bytes() }
        }
        ("/metrics", _) => Response::text(405, "ask with GET\n").with("Allow", "GET, HEAD"),
        _ => Response::text(404, "the figures are at /metrics\n"),
    }
}
