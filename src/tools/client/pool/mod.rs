//! Many event streams on one thread and one poll. A stream that ends reconnects and resumes behind its last event.

mod backoff;
mod pooled_client;
mod resume;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, ErrorKind},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mio::{Events, Poll, Token};

use self::pooled_client::{PooledClient, TurnOutcome};
use super::{
    access::HubAccess,
    link::{self, Address},
    stream::{StreamEnd, Transport},
};
use crate::os;

/// The most connections that are being opened at the same time: few enough for any listener's backlog.
const OPENING_MAX: usize = 100;
/// The size of the read buffer, which all clients share.
const READ_BYTES: usize = 64 * 1024;
/// The most readiness events that one poll returns.
const POLL_EVENTS: usize = 1024;

/// A stream to be opened.
#[derive(Clone, Debug)]
pub(crate) struct ClientSpec {
    /// Path and query at the hub, encoded, without the id to resume from.
    pub(crate) target: String,
    /// The topics that the target names, in its order. Only `fanfare.v1` needs them, to resume.
    pub(crate) topics: Vec<String>,
    pub(crate) transport: Transport,
    /// Where to begin: an id (one for each topic, joined by commas), `first`, or `last:N`.
    pub(crate) since: Option<String>,
}

/// What happened to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent<'a> {
    /// Its stream is open; `is_return` if it was open before.
    Opened { is_return: bool },
    /// An event; id and type are empty where the transport has none.
    Event { id: &'a str, kind: &'a str, data: &'a [u8] },
    /// Events are missing here: the hub says so, or the stream reconnected without an id to resume from.
    Gap(&'a str),
    /// A message about the stream, for people.
    Notice(&'a str),
    /// The connection ended, or was not made. If `is_final`, the client is not tried again; else it is after a while.
    Closed { reason: &'a str, is_final: bool, was_open: bool },
}

/// Counts over all clients since the pool was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolCounts {
    /// Streams opened, reconnections included.
    pub(crate) opened: u64,
    /// Streams that were open and ended.
    pub(crate) closed: u64,
    /// Streams opened by clients that had one before.
    pub(crate) returns: u64,
    /// Attempts to open one that failed.
    pub(crate) failed: u64,
    /// Clients whose refusal is final.
    pub(crate) refused: u64,
}

/// How long turns took, without the waiting. What arrives during a turn gets a late timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyTime {
    /// The sum over all turns.
    pub(crate) sum: Duration,
    /// The longest turn.
    pub(crate) longest: Duration,
}

impl PoolCounts {
    /// Streams that are open now.
    pub(crate) fn open(&self) -> u64 {
        self.opened - self.closed
    }
}

/// Clients on one thread, which [`ClientPool::turn`] drives.
#[derive(Debug)]
pub(crate) struct ClientPool {
    poll: Poll,
    events: Events,
    clients: Vec<PooledClient>,
    /// When each client without a connection is tried next.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Clients whose sockets may have more to read.
    unread: Vec<usize>,
    opening: usize,
    hub: HubAccess,
    addresses: Vec<Address>,
    buffer: Box<[u8]>,
    counts: PoolCounts,
    busy: BusyTime,
}

impl ClientPool {
    /// Prepares a stream for each of `specs` at `hub`; [`ClientPool::turn`] opens them. Fails if the hub's host has no
    /// address, or the system has no poll.
    pub(crate) fn open(hub: &HubAccess, specs: Vec<ClientSpec>) -> Result<Self, String> {
        // Each client is a descriptor. If the system allows too few, opening fails and says so.
        let _ = os::raise_descriptor_limit();
        let addresses = link::resolve(hub)?;
        let now = Instant::now();
        let due = (0..specs.len()).map(|index| Reverse((now, index))).collect();
        let client =
            |spec: ClientSpec| PooledClient::new(ClientSpec { target: hub.url().target(&spec.target), ..spec });
        Ok(Self {
            poll: Poll::new().map_err(|error| format!("cannot poll: {error}"))?,
            events: Events::with_capacity(POLL_EVENTS),
            clients: specs.into_iter().map(client).collect(),
            due,
            unread: Vec::new(),
            opening: 0,
            hub: hub.clone(),
            addresses,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            counts: PoolCounts::default(),
            busy: BusyTime::default(),
        })
    }

    pub(crate) fn counts(&self) -> PoolCounts {
        self.counts
    }

    /// The busy time since the last call.
    pub(crate) fn take_busy(&mut self) -> BusyTime {
        std::mem::take(&mut self.busy)
    }

    /// Whether no client is open or will be tried again.
    pub(crate) fn is_finished(&self) -> bool {
        self.clients.iter().all(PooledClient::is_ended)
    }

    /// Waits for events, at most `timeout`, and calls `on` for each with the client's index and the Unix time at which the bytes
    /// were read. Fails only if the system's poll does.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration),
    ) -> Result<(), String> {
        self.begin_due(on);
        let timeout = self.shorten(timeout);
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(format!("cannot poll: {error}")),
            // The caller checks for signals.
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        let woken = Instant::now();
        let mut ready: Vec<usize> = std::mem::take(&mut self.unread);
        ready.extend(self.events.iter().map(|event| event.token().0));
        ready.sort_unstable();
        ready.dedup();
        for index in ready {
            self.visit(index, on);
        }
        self.expire(on);
        let busy = woken.elapsed();
        self.busy.sum += busy;
        self.busy.longest = self.busy.longest.max(busy);
        Ok(())
    }

    /// `timeout`, or less if a client has something to do before.
    fn shorten(&self, timeout: Duration) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let next = self.due.peek().filter(|_| self.opening < OPENING_MAX);
        next.map_or(timeout, |Reverse((due, _))| timeout.min(due.saturating_duration_since(now)))
    }

    /// Begins the connections that are due, at most [`OPENING_MAX`] at a time.
    fn begin_due(&mut self, on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration)) {
        let now = Instant::now();
        while self.opening < OPENING_MAX
            && let Some(Reverse((due, index))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let (client, registry) = (&mut self.clients[index], self.poll.registry());
            let renewed = self.hub.renew().map_err(io::Error::other);
            let begun = renewed.and_then(|_| client.begin(&self.addresses, &self.hub, registry, Token(index)));
            match begun {
                Ok(()) => self.opening += 1,
                Err(error) => self.fail(index, &error, on),
            }
        }
    }

    /// A connection could not be begun. As any failure, it is reported only after all addresses of the host were tried.
    fn fail(&mut self, index: usize, error: &io::Error, on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration)) {
        let wait = self.clients[index].give_up(self.addresses.len());
        self.due.push(Reverse((Instant::now() + wait, index)));
        if wait.is_zero() {
            return;
        }
        self.counts.failed += 1;
        on(index, ClientEvent::Closed { reason: &error.to_string(), is_final: false, was_open: false }, unix_now());
    }

    /// Reads from and writes to a client's socket as far as it is ready.
    fn visit(&mut self, index: usize, on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration)) {
        let client = &mut self.clients[index];
        let was_open = client.is_open();
        let was_opening = client.is_opening();
        let counts = &mut self.counts;
        let turn = client.turn(&mut self.buffer, &mut |event, received| {
            if let ClientEvent::Opened { is_return } = &event {
                counts.opened += 1;
                counts.returns += u64::from(*is_return);
            }
            on(index, event, received);
        });
        let is_open = was_open || client.is_open();
        match turn {
            TurnOutcome::Waits => {}
            TurnOutcome::Unread => self.unread.push(index),
            TurnOutcome::Ended(end) => self.close(index, &end, is_open, on),
        }
        if was_opening && !self.clients[index].is_opening() {
            self.opening -= 1;
        }
    }

    /// Closes a connection, and schedules the next one unless the end is final.
    fn close(
        &mut self,
        index: usize,
        end: &StreamEnd,
        was_open: bool,
        on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration),
    ) {
        let client = &mut self.clients[index];
        if end.is_final {
            client.end();
            self.counts.refused += 1;
        } else {
            let wait = client.give_up(self.addresses.len());
            self.due.push(Reverse((Instant::now() + wait, index)));
            if wait.is_zero() {
                return;
            }
        }
        if was_open {
            self.counts.closed += 1;
        } else {
            self.counts.failed += 1;
        }
        on(index, ClientEvent::Closed { reason: &end.reason, is_final: end.is_final, was_open }, unix_now());
    }

    /// Ends the attempts that exceeded [`pooled_client::OPEN_TIMEOUT`].
    fn expire(&mut self, on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration)) {
        if self.opening == 0 {
            return;
        }
        let now = Instant::now();
        for index in 0..self.clients.len() {
            if self.clients[index].is_overdue(now) {
                self.opening -= 1;
                let end = format!("the hub did not open a stream within {} s", pooled_client::OPEN_TIMEOUT.as_secs());
                self.close(index, &end.into(), false, on);
            }
        }
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
