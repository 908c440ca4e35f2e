//! Many event streams on one thread and one poll, each of which comes back when it is cut, from where it was.

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

/// How many connections are being opened at the same time: few enough for any listener's backlog.
const OPENING_MAX: usize = 100;
/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// How many events of the poll are taken at a time.
const POLL_EVENTS: usize = 1024;

/// One stream that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct ClientSpec {
    /// Path and query at the hub, encoded, without a place to begin at.
    pub(crate) target: String,
    /// The topics that the target names, in its order; they are needed to come back by `fanfare.v1` only.
    pub(crate) topics: Vec<String>,
    /// How the events come.
    pub(crate) transport: Transport,
    /// The place to begin at: an id (one for each topic, joined by commas), `first`, or `last:N`.
    pub(crate) since: Option<String>,
}

/// What happened to a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent<'a> {
    /// Its stream is open; `is_return` if it has been before.
    Opened { is_return: bool },
    /// An event; id and type are empty where the transport does not tell them.
    Event { id: &'a str, kind: &'a str, data: &'a [u8] },
    /// Events are missing here: the hub says so, or the stream came back without a place to go on from.
    Gap(&'a str),
    /// Something else about the stream, for people.
    Notice(&'a str),
    /// The connection ended, or was not made. If it is final the member is never tried again, else by and by.
    Closed { reason: &'a str, is_final: bool, was_open: bool },
}

/// What became of all members so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolCounts {
    /// Streams opened, of which some are returns.
    pub(crate) opened: u64,
    /// Streams that were open and ended.
    pub(crate) closed: u64,
    /// Streams opened by members that had one before.
    pub(crate) returns: u64,
    /// Attempts to open one that failed.
    pub(crate) failed: u64,
    /// Members that were refused for good.
    pub(crate) refused: u64,
}

/// How long turns took, without waiting: while one is under way, whatever else arrives is stamped late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyTime {
    /// All of them together.
    pub(crate) sum: Duration,
    /// The longest.
    pub(crate) longest: Duration,
}

impl PoolCounts {
    /// How many are open now.
    pub(crate) fn open(&self) -> u64 {
        self.opened - self.closed
    }
}

/// The streams.
#[derive(Debug)]
pub(crate) struct ClientPool {
    poll: Poll,
    events: Events,
    clients: Vec<PooledClient>,
    /// When each member that has no connection is tried next.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Members whose sockets had more than they were read.
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
        // Each member is a descriptor. What the system does not allow is told when it is missed.
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

    /// What became of the members so far.
    pub(crate) fn counts(&self) -> PoolCounts {
        self.counts
    }

    /// How busy it has been since this was asked last.
    pub(crate) fn take_busy(&mut self) -> BusyTime {
        std::mem::take(&mut self.busy)
    }

    /// Whether no member is left that is open or will be tried again.
    pub(crate) fn is_finished(&self) -> bool {
        self.clients.iter().all(PooledClient::is_ended)
    }

    /// Waits for something to happen, at most `timeout`, and tells it: the member's index, what happened, and when its
    /// bytes were read, as a Unix time. Fails only if the system's poll does.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration),
    ) -> Result<(), String> {
        self.begin_due(on);
        let timeout = self.shorten(timeout);
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(format!("cannot poll: {error}")),
            // Whatever interrupted, such as Ctrl+C, is the caller's.
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

    /// `timeout`, or less if something is to be done before.
    fn shorten(&self, timeout: Duration) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let next = self.due.peek().filter(|_| self.opening < OPENING_MAX);
        next.map_or(timeout, |Reverse((due, _))| timeout.min(due.saturating_duration_since(now)))
    }

    /// Begins the connections whose time has come, as many as may be under way.
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

    /// A connection could not even be begun. Told, as any failure, only once all addresses of the host were tried.
    fn fail(&mut self, index: usize, error: &io::Error, on: &mut dyn FnMut(usize, ClientEvent<'_>, Duration)) {
        let wait = self.clients[index].give_up(self.addresses.len());
        self.due.push(Reverse((Instant::now() + wait, index)));
        if wait.is_zero() {
            return;
        }
        self.counts.failed += 1;
        on(index, ClientEvent::Closed { reason: &error.to_string(), is_final: false, was_open: false }, unix_now());
    }

    /// Reads and writes what a member's socket gives and takes.
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

    /// Lets a connection go, and plans the next one unless the end is final.
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

    /// Ends the attempts that took too long.
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
