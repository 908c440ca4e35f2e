//! The hot path: laps bring the listeners of a topic to its head, a slice at a time.

use std::{io, time::Duration};

use super::{
    Reactor,
    conflate::conflate,
    connection::{ABSENT, BEHIND, BLOCKED, Connection, DOOMED, HELD, LINGERING, REPLAYING, Subscription, write_owed},
    net::Net,
    slab::Slab,
    table::TopicTable,
    visit::{Visit, Visitor, send_owed, set_aside, visit},
};
use crate::{clock::Moment, close::Close, frame::Format, log::Listener};

/// A slice ends after so many visits …
const VISITS_PER_SLICE: usize = 256;
/// … or after so long, looked at every few visits.
const SLICE_TIME: Duration = Duration::from_micros(500);
const VISITS_PER_CLOCK: usize = 16;

impl<N: Net> Reactor<N> {
    /// One slice for topics with fresh news, then one for a topic whose lap is under way: so neither waits for more than
    /// one slice of the other, however many listeners it has.
    pub(super) fn run_laps(&mut self) {
        self.end_rests();
        let deadline = self.now + SLICE_TIME;
        let mut budget = VISITS_PER_SLICE;
        while 0 < budget && self.now < deadline {
            let Some(place) = self.fresh.pop() else { break };
            budget -= self.run_slice(place, budget, deadline).min(budget);
        }
        if let Some(place) = self.ongoing.pop() {
            self.run_slice(place, VISITS_PER_SLICE, self.now + SLICE_TIME);
        }
    }

    /// Visits listeners of the topic at `place`; returns how many were written to.
    fn run_slice(&mut self, place: u32, budget: usize, deadline: Moment) -> usize {
        let Some(topic) = self.topics.at(place) else { return 0 };
        let began = self.now;
        let mut visits = 0;
        while visits < budget {
            self.now = self.net.now();
            self.gathers.settle(&self.metrics, self.now);
            if deadline <= self.now && 0 < visits {
                break;
            }
            let listeners = topic.lap.take(VISITS_PER_CLOCK.min(budget - visits));
            if listeners.is_empty() {
                break;
            }
            fetch_ahead(&mut self.connections, listeners);
            let mut visitor = Visitor {
                net: &mut self.net,
                connections: &mut self.connections,
                engines: &mut self.engines,
                gathers: &mut self.gathers,
                metrics: &self.metrics,
                aside: (&mut self.blocked, &mut self.write_again, &mut self.to_end, &mut self.stranded),
                place,
                now: self.now,
            };
            visits += visitor.visit_all(&topic.ring, listeners);
        }
        self.now = self.net.now();
        self.gathers.settle(&self.metrics, self.now);
        self.end_slice(place, began);
        visits
    }

    /// Writes what the connection is owed, in order: the unfinished frame, the outbox, the logs.
    pub(super) fn flush(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.state.has(BLOCKED | HELD | LINGERING | DOOMED) {
            return;
        }
        if connection.state.has(ABSENT) {
            self.serve_poll(slot);
            return self.finish_closing(slot);
        }
        let goes_on = !connection.outbox.is_empty() && has_news(connection, &mut self.topics);
        match write_owed(&mut self.net, connection, goes_on, &self.metrics, self.now) {
            Ok(()) => {
                if connection.state.has(REPLAYING) {
                    self.continue_replays(slot);
                }
                self.catch_up(slot);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.state.set(BLOCKED | BEHIND);
                self.blocked += 1;
            }
            Err(_) => self.to_end.push((slot, Close::PeerGone)),
        }
        self.finish_closing(slot);
        self.settle_flushed(slot);
    }

    /// Visits each subscription of a connection that owes nothing else.
    fn catch_up(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let mut at_head = true;
        for index in 0..connection.subscriptions.len() {
            if !connection.state.may_catch_up() {
                at_head = false;
                break;
            }
            let subscription = connection.subscriptions[index];
            let Some(topic) = self.topics.at(subscription.topic) else { continue };
            let conflates = topic.conflates();
            let listener = topic.lap.listener(subscription.place);
            if listener.cursor == topic.ring.next() {
                continue;
            }
            connection.written = self.now;
            let place = subscription.topic;
            let outcome = if conflates && connection.state.has(BEHIND) {
                let outcome = conflate(connection, topic, place, subscription.place, &self.metrics);
                send_owed(&mut self.net, connection, outcome, &self.metrics, self.now)
            } else {
                let (net, ring) = (&mut self.net, &topic.ring);
                let outcome = visit(net, connection, listener, place, ring, &mut self.gathers, &self.metrics);
                self.gathers.settle(&self.metrics, self.now);
                outcome
            };
            if outcome != Visit::AtHead {
                at_head = false;
                let mut aside = (&mut self.blocked, &mut self.write_again, &mut self.to_end, &mut self.stranded);
                set_aside(outcome, slot, place, connection, &mut aside);
            }
        }
        if at_head {
            connection.state.clear(BEHIND);
        }
    }
}

/// Loads into the cache what the next visits read of their connections. Between two visits the kernel has used the cache
/// for the socket, so each connection is a miss; asked for one by one, each is waited for, but together they overlap.
fn fetch_ahead<S>(connections: &mut Slab<Connection<S>>, upcoming: &[Listener]) {
    for listener in upcoming {
        std::hint::black_box(connections.at(listener.slot).map(|connection| connection.state));
    }
}

/// Whether [`Reactor::catch_up`] is sure to write to the connection, once it owes nothing else. A raw WebSocket is left out:
/// a gap has no frame there.
fn has_news<S>(connection: &Connection<S>, topics: &mut TopicTable) -> bool {
    let is_behind = |subscription: &Subscription| {
        let Some(topic) = topics.at(subscription.topic) else { return false };
        let Listener { format, cursor, .. } = *topic.lap.listener(subscription.place);
        format.format() != Format::WebSocketRaw && (topic.ring.oldest()..topic.ring.next()).contains(&cursor)
    };
    let in_order = connection.state.may_catch_up() && !connection.state.has(REPLAYING | BEHIND);
    in_order && connection.subscriptions.iter().any(is_behind)
}
