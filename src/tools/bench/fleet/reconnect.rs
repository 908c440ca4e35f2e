//! The subscribers' side of a storm: all but the first leave at once, and come back as fast as the client can, each with
//! the id of the event it has seen last.

use std::{io, mem, time::Duration};

use hdrhistogram::Histogram;
use socket2::Socket;

use super::{
    super::{
        histogram::{latency_histogram, nanoseconds},
        order::{Arrival, Order},
        plan::EVENTS_AFTER_STORM,
        progress::Command,
        subscriber::{self, Subscriber},
        wire,
    },
    Fleet,
};
use crate::clock::Moment;

/// How many connections are begun between two polls: none waits for an answer, but answers must not wait for long.
const RETURNS_PER_POLL: usize = 16;

/// Those who are away, and their way back.
#[derive(Debug, Default)]
pub(super) struct DisconnectedClients {
    /// The next to return stands last.
    away: Vec<ParkedClient>,
    /// By slot: what each of them asks for.
    requests: Vec<Vec<u8>>,
}

/// One who is away, its socket made but not connected: that would be the client's time, and no server's.
#[derive(Debug)]
struct ParkedClient {
    slot: usize,
    socket: Socket,
    order: Order,
}

/// What those who came back found.
#[derive(Debug)]
pub(in crate::bench) struct ReconnectStats {
    /// When the first and the last of them began to connect, and when the last one had all it had missed.
    pub began: Moment,
    pub last_began: Moment,
    pub ended: Moment,
    /// For each, from `began` until it had all it had missed.
    pub caught_up: Histogram<u64>,
    /// For each, from its own connecting to the answer.
    pub opening: Histogram<u64>,
    /// The number of the last event that was missed.
    goal: u32,
}

impl Fleet<'_> {
    /// Does what the conductor says; returns how long the fleet may sleep.
    pub(super) fn obey(&mut self, idle: Duration) -> io::Result<Duration> {
        match self.counters.progress.command() {
            Command::Listen => Ok(idle),
            Command::Leave if self.disconnected.requests.is_empty() => self.leave().map(|()| idle),
            Command::Leave => Ok(idle),
            Command::Return => Ok(if self.return_some() { Duration::ZERO } else { idle }),
        }
    }

    /// The first subscriber stays: somebody must tell that the server goes on.
    fn leave(&mut self) -> io::Result<()> {
        let mut left = Vec::with_capacity(self.subscribers.len());
        for (slot, subscriber) in self.subscribers.iter_mut().enumerate().skip(1) {
            // Dropping the socket closes it.
            left.extend(subscriber.take().map(|gone| (slot, gone.wire.last_event_id().to_vec(), gone.seen.order)));
        }
        self.disconnected.requests = vec![Vec::new(); self.subscribers.len()];
        for (slot, id, order) in left {
            let id = String::from_utf8_lossy(&id);
            self.disconnected.requests[slot] = wire::request_after(self.plan, self.load, &id);
            let socket = subscriber::open_socket(self.plan.target.address, self.index_of(slot), &self.io)?;
            self.disconnected.away.push(ParkedClient { slot, socket, order });
            self.counters.progress.away.raise();
        }
        Ok(())
    }

    /// Begins some connections; true if more are to follow.
    fn return_some(&mut self) -> bool {
        let now = self.io.clock.now();
        let goal = self.event_count.saturating_sub(EVENTS_AFTER_STORM + 1);
        let reconnect = self.counters.reconnect.get_or_insert_with(|| ReconnectStats::new(now, goal));
        if self.disconnected.away.is_empty() {
            return false;
        }
        reconnect.last_began = now;
        for _ in 0..RETURNS_PER_POLL {
            let Some(parked) = self.disconnected.away.pop() else { break };
            self.bring_back(parked);
        }
        true
    }

    fn bring_back(&mut self, parked: ParkedClient) {
        let ParkedClient { slot, socket, order } = parked;
        // A storm has one topic.
        let wire = self.profiles[0].wire();
        let returned = Subscriber::connect_over(socket, &self.plan.target, order, &self.io, wire);
        let returned = returned.and_then(|mut subscriber| {
            subscriber.ask_at_once(&self.disconnected.requests[slot])?;
            self.register(&mut subscriber, slot)?;
            Ok(subscriber)
        });
        match returned {
            Ok(subscriber) => self.subscribers[slot] = Some(subscriber),
            Err(error) => {
                self.counters.progress.fail(&error.to_string());
                self.counters.tally.faults.lost += u64::from(order.missing(self.event_count, self.counters.topics));
            }
        }
    }
}

impl DisconnectedClients {
    /// What the subscriber in this slot asks for, if it comes back.
    pub(super) fn request(&self, slot: usize) -> Option<&[u8]> {
        self.requests.get(slot).map(Vec::as_slice).filter(|request| !request.is_empty())
    }

    /// What those who never came back have seen.
    pub(super) fn take_orders(&mut self) -> impl Iterator<Item = Order> + use<> {
        mem::take(&mut self.away).into_iter().map(|parked| parked.order)
    }
}

impl ReconnectStats {
    fn new(now: Moment, goal: u32) -> Self {
        Self {
            began: now,
            last_began: now,
            ended: now,
            caught_up: latency_histogram(),
            opening: latency_histogram(),
            goal,
        }
    }

    /// Takes note of an event's arrival at `now`; true if somebody has caught up with it.
    pub(super) fn note(&mut self, sequence: u32, arrival: Arrival, now: Moment) -> bool {
        if sequence != self.goal || arrival == Arrival::Repeated {
            return false;
        }
        self.ended = now;
        self.caught_up.saturating_record(nanoseconds(now.since(self.began)));
        true
    }
}
