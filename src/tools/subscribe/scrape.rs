//! Answers `GET /metrics` on threads of its own, so that no scrape delays an event.
//!
//! Each connection carries one request, has a thread, and ends when its time is over. The server closes its direction first
//! and then waits for the peer's close: closing a socket with unread input would reset it, and destroy an answer on its way.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::registry::Registry;

use crate::{
    clock::Clock,
    exposition::ExpositionFormat,
    outbox::Outbox,
    protocol::http::{HttpLimits, Method, Request, Response, ServerSession, format_date},
};

/// How many connections are served at a time; further ones are closed at once.
const PEERS_MAX: usize = 16;
/// How long a connection may last.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before accepting again if the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much is read at a time.
const READ_BYTES: usize = 4096;

/// A proper request has a head that is much shorter than this, and no body: one is read only to be refused for its method.
fn limits() -> HttpLimits {
    HttpLimits { head_bytes_max: 8 * 1024, body_bytes_max: 8 * 1024, ..HttpLimits::default() }
}

/// Begins to serve `registry` at `address`, a `host:port`, until the process ends; returns the address that is bound.
pub(super) fn serve(address: &str, registry: Registry) -> Result<SocketAddr, String> {
    let cannot = |error: io::Error| format!("cannot serve metrics at {address}: {error}");
    let listener = TcpListener::bind(address).map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || accept(&listener, &Arc::new(registry)))
        .map_err(cannot)?;
    Ok(bound)
}

fn accept(listener: &TcpListener, registry: &Arc<Registry>) {
    // Each thread holds a clone while it serves.
    let served = Arc::new(());
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
            Err(_) => {
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        if PEERS_MAX < Arc::strong_count(&served) {
            continue;
        }
        let (registry, served) = (Arc::clone(registry), Arc::clone(&served));
        // Without a thread, the peer's connection is closed; it may try again.
        let _ = thread::Builder::new().name("scrape".into()).spawn(move || {
            // The peer may go at any time: nobody else is concerned.
            let _ = Peer { stream, deadline: Instant::now() + PEER_TIMEOUT }.serve(&registry);
            drop(served);
        });
    }
}

struct Peer {
    stream: TcpStream,
    deadline: Instant,
}

impl Peer {
    fn serve(mut self, registry: &Registry) -> io::Result<()> {
        let clock = Clock::start();
        let (mut session, mut outbox) = (ServerSession::new(clock.now()), Outbox::new());
        let mut buffer = [0; READ_BYTES];
        while outbox.is_empty() {
            let count = self.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let date = format_date(unix_s);
            match session.receive(&buffer[..count], &limits(), clock.now()) {
                Ok(None) => {}
                Ok(Some(request)) => {
                    session.respond(&answer(&request, registry).with("Connection", "close"), &date, &mut outbox);
                }
                Err(close) => session.refuse(close, &date, &mut outbox),
            }
        }
        self.stream.set_write_timeout(Some(PEER_TIMEOUT))?;
        while !outbox.is_empty() {
            let count = self.stream.write(outbox.pending())?;
            outbox.advance(count);
        }
        self.stream.shutdown(Shutdown::Write)?;
        while 0 < self.read(&mut buffer)? {}
        Ok(())
    }

    /// Reads until the deadline at most.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
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
