//! The subscribers' side of a storm: all but the first disconnect at once, and reconnect as fast as the client can, each
//! from the last event it received.

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

/// The most connections that are begun between two polls, so that responses are read soon.
const RETURNS_PER_POLL: usize = 16;

/// Subscribers that a storm disconnected, and their next requests.
#[derive(Debug, Default)]
pub(super) struct DisconnectedClients {
    /// The next to reconnect is the last.
    away: Vec<ParkedClient>,
    /// Requests by slot; empty for a subscriber that stayed.
    requests: Vec<Vec<u8>>,
}

/// A disconnected subscriber. Its socket is open already but not connected, so that the measured time is the server's.
#[derive(Debug)]
struct ParkedClient {
    slot: usize,
    socket: Socket,
    order: Order,
}

/// Measurements of a reconnection.
#[derive(Debug)]
pub(in crate::bench) struct ReconnectStats {
    /// When the first and the last subscriber began to connect, and when the last had caught up.
    pub began: Moment,
    pub last_began: Moment,
    pub ended: Moment,
    /// From `began` until a subscriber had all missed events; one value per subscriber.
    pub caught_up: Histogram<u64>,
    /// From the start of connecting to the granted request; one value per subscriber.
    pub opening: Histogram<u64>,
    /// The sequence number of the last missed event.
    goal: u32,
}

impl Fleet<'_> {
    /// Follows the conductor's command; returns how long the fleet may wait in its poll.
    pub(super) fn follow_command(&mut self, idle: Duration) -> io::Result<Duration> {
        match self.counters.progress.command() {
            Command::Listen => Ok(idle),
            Command::Leave if self.disconnected.requests.is_empty() => self.disconnect().map(|()| idle),
            Command::Leave => Ok(idle),
            Command::Return => Ok(if self.reconnect_some() { Duration::ZERO } else { idle }),
        }
    }

    /// Disconnects all subscribers but the first, which shows that the server goes on.
    fn disconnect(&mut self) -> io::Result<()> {
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

    /// Begins some connections; true if more are left.
    fn reconnect_some(&mut self) -> bool {
        let now = self.io.clock.now();
        let goal = self.event_count.saturating_sub(EVENTS_AFTER_STORM + 1);
        let reconnect = self.counters.reconnect.get_or_insert_with(|| ReconnectStats::new(now, goal));
        if self.disconnected.away.is_empty() {
            return false;
        }
        reconnect.last_began = now;
        for _ in 0..RETURNS_PER_POLL {
            let Some(parked) = self.disconnected.away.pop() else { break };
            self.reconnect(parked);
        }
        true
    }

    fn reconnect(&mut self, parked: ParkedClient) {
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
    /// The request of the subscriber in this slot, if it was disconnected.
    pub(super) fn request(&self, slot: usize) -> Option<&[u8]> {
        self.requests.get(slot).map(Vec::as_slice).filter(|request| !request.is_empty())
    }

    /// What the subscribers had received that did not reconnect.
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

    /// Counts an event that arrived at `now`; true if a subscriber has caught up with it.
    pub(super) fn note(&mut self, sequence: u32, arrival: Arrival, now: Moment) -> bool {
        if sequence != self.goal || arrival == Arrival::Repeated {
            return false;
        }
        self.ended = now;
        self.caught_up.saturating_record(nanoseconds(now.since(self.began)));
        true
    }
}
