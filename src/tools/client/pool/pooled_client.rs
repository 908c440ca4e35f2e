//! One client of the pool: its connections, one after the other.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use mio::{Registry, Token};

use super::{
    super::{
        access::HubAccess,
        link::{Address, Link},
        stream::{Received, Stream, StreamEnd},
        tls,
    },
    ClientEvent, ClientSpec,
    backoff::wait_for,
    resume::ResumePoint,
    unix_now,
};

/// How long opening a stream may take.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The most reads of one socket in a turn, so that a fast stream does not delay all others.
const READS_MAX: usize = 16;

/// A client, and its connection if it has one.
#[derive(Debug)]
pub(super) struct PooledClient {
    spec: ClientSpec,
    resume: ResumePoint,
    state: State,
    /// Failed attempts since a stream was open.
    failures: u32,
    /// The reconnection time that the hub asked for (the field `retry` of Server-Sent Events).
    retry: Option<Duration>,
    /// The address to try next, among those of the hub's host.
    address_index: usize,
    has_opened: bool,
}

#[derive(Debug)]
enum State {
    /// Not connected; to be tried again.
    Disconnected,
    /// The refusal was final.
    Ended,
    Connected(Box<Connection>),
}

#[derive(Debug)]
struct Connection {
    link: Link,
    stream: Stream,
    /// Bytes the socket has not taken yet.
    outgoing: Vec<u8>,
    deadline: Instant,
    is_connected: bool,
    is_open: bool,
}

/// The outcome of a turn.
#[derive(Debug)]
pub(super) enum TurnOutcome {
    /// The client waits for its socket.
    Waits,
    /// The socket may have more to read.
    Unread,
    Ended(StreamEnd),
}

impl PooledClient {
    pub(super) fn new(spec: ClientSpec) -> Self {
        let resume = ResumePoint::new(&spec);
        Self { spec, resume, state: State::Disconnected, failures: 0, retry: None, address_index: 0, has_opened: false }
    }

    /// Whether its refusal was final.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(&self.state, State::Connected(connection) if connection.is_open)
    }

    /// Whether it has a connection, but no stream yet.
    pub(super) fn is_opening(&self) -> bool {
        matches!(&self.state, State::Connected(connection) if !connection.is_open)
    }

    /// Whether opening the stream exceeded [`OPEN_TIMEOUT`].
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(&self.state, State::Connected(connection) if !connection.is_open && connection.deadline <= now)
    }

    /// Begins a connection; its request is sent once the connection stands.
    pub(super) fn begin(
        &mut self,
        addresses: &[Address],
        hub: &HubAccess,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let link = Link::connect(&addresses[self.address_index % addresses.len()], hub.tls(), registry, token)?;
        let stream = Stream::new(self.spec.transport, rand::random());
        let (target, last_event_id) = self.resume.request(&self.spec.target);
        let outgoing = stream.request(hub, &target, &last_event_id);
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let connection = Connection { link, stream, outgoing, deadline, is_connected: false, is_open: false };
        self.state = State::Connected(Box::new(connection));
        Ok(())
    }

    /// Closes the connection. Returns how long to wait before the next one: zero if the host's next address is to be tried.
    pub(super) fn give_up(&mut self, address_count: usize) -> Duration {
        let was_open = self.is_open();
        if let State::Connected(connection) = &self.state {
            self.retry = connection.stream.retry_ms().map(Duration::from_millis).or(self.retry);
        }
        self.state = State::Disconnected;
        if was_open {
            self.failures = 0;
            return wait_for(0, self.retry, rand::random());
        }
        self.address_index += 1;
        // An attempt tries all addresses of the host.
        if !self.address_index.is_multiple_of(address_count) && !self.has_opened {
            return Duration::ZERO;
        }
        self.failures = self.failures.saturating_add(1);
        wait_for(self.failures - 1, self.retry, rand::random())
    }

    /// Closes the connection; there will be no other.
    pub(super) fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Reads and writes as far as the socket is ready.
    pub(super) fn turn(&mut self, buffer: &mut [u8], on: &mut dyn FnMut(ClientEvent<'_>, Duration)) -> TurnOutcome {
        match self.try_turn(buffer, on) {
            Ok(turn) => turn,
            Err(error) => {
                let is_connected = matches!(&self.state, State::Connected(connection) if connection.is_connected);
                let what = if is_connected { "the connection broke" } else { "cannot connect" };
                let reason = format!("{what}: {error}{}", tls::advice(&error));
                TurnOutcome::Ended(StreamEnd { reason, is_final: tls::is_untrusted(&error) })
            }
        }
    }

    fn try_turn(
        &mut self,
        buffer: &mut [u8],
        on: &mut dyn FnMut(ClientEvent<'_>, Duration),
    ) -> io::Result<TurnOutcome> {
        let State::Connected(connection) = &mut self.state else { return Ok(TurnOutcome::Waits) };
        if !connection.is_connected {
            if !connection.link.is_connected()? {
                return Ok(TurnOutcome::Waits);
            }
            connection.link.tune()?;
            connection.is_connected = true;
        }
        connection.send()?;
        for _ in 0..READS_MAX {
            let State::Connected(connection) = &mut self.state else { break };
            let count = match connection.link.read(buffer) {
                Ok(0) => return Ok(TurnOutcome::Ended(end_of(&connection.stream))),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(TurnOutcome::Waits),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if let Err(end) = self.take(&buffer[..count], on) {
                return Ok(TurnOutcome::Ended(end));
            }
        }
        Ok(TurnOutcome::Unread)
    }

    /// Takes what the hub sent, reports its events to `on`, and sends replies such as pongs.
    fn take(&mut self, bytes: &[u8], on: &mut dyn FnMut(ClientEvent<'_>, Duration)) -> Result<(), StreamEnd> {
        let State::Connected(connection) = &mut self.state else { return Ok(()) };
        let Connection { link: _, stream, outgoing, is_open, .. } = connection.as_mut();
        let (resume, failures, has_opened) = (&mut self.resume, &mut self.failures, &mut self.has_opened);
        let now = unix_now();
        let done = stream.receive(bytes, outgoing, |received| match received {
            Received::Opened => {
                let is_return = std::mem::replace(has_opened, true);
                *is_open = true;
                *failures = 0;
                on(ClientEvent::Opened { is_return }, now);
                if is_return && resume.value().is_none() {
                    on(ClientEvent::Gap(NO_RESUME_ID), now);
                }
                resume.open();
            }
            Received::Event { topic, id, kind, data } => {
                resume.advance(&topic, &id);
                on(ClientEvent::Event { id: &id, kind: &kind, data }, now);
            }
            Received::Subscribed { topic, id } => resume.advance(&topic, &id),
            Received::Gap(text) => on(ClientEvent::Gap(&text), now),
            Received::Notice(text) => on(ClientEvent::Notice(&text), now),
        });
        // An id may come without an event (WHATWG HTML section 9.2.6).
        resume.advance("", &stream.last_event_id());
        done?;
        connection.send().map_err(|error| format!("the hub does not take what is sent: {error}").into())
    }
}

/// The gap of a stream that reconnected without an id to resume from.
const NO_RESUME_ID: &str = "the stream was away and has no id to go on from: what came meanwhile is missing";

/// The reason of a connection's end that the hub closed.
fn end_of(stream: &Stream) -> StreamEnd {
    stream.finish().err().unwrap_or_else(|| "the hub closed the connection".into())
}

impl Connection {
    /// Writes pending bytes as far as the socket takes them.
    fn send(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.link.write(&self.outgoing) {
                Ok(count) => {
                    self.outgoing.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.link.flush()
    }
}
