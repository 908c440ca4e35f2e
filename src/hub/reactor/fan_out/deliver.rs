//! The hot path: laps bring the subscribers of a topic to its head, a slice at a time.

use std::{io, time::Duration};

use super::{
    frame_batch::FrameBatchCache,
    group::APART,
    visit::{Visit, Visitor, may_visit, visit, visit_newest},
};
use crate::{
    clock::Moment,
    index::{GroupIndex, Slot, TopicIndex},
    log::Subscriber,
    metrics::ReactorMetrics,
    reactor::{
        Reactor,
        connection::{Connection, write_owed},
        net::Net,
        slab::Slab,
        state::{BEHIND, FROM_HISTORY, REPLAYING, State},
        table::{LocalTopic, TopicTable},
    },
};

/// A slice ends after so many visits …
const VISITS_PER_SLICE: usize = 256;
/// … or after so long, looked at every few visits.
const SLICE_TIME: Duration = Duration::from_micros(500);
const VISITS_PER_CLOCK: usize = 16;

impl<N: Net> Reactor<N> {
    /// One slice for topics with fresh news, then one for a topic whose lap is under way: so neither waits for more than
    /// one slice of the other, however many subscribers it has.
    pub(in crate::reactor) fn run_laps(&mut self) {
        self.end_cooldowns();
        let deadline = self.now + SLICE_TIME;
        let mut budget = VISITS_PER_SLICE;
        while 0 < budget && self.now < deadline {
            let Some(topic_index) = self.fan_out.rounds.next_fresh() else { break };
            budget -= self.run_slice(topic_index, budget, deadline).min(budget);
        }
        if let Some(topic_index) = self.fan_out.rounds.next_ongoing() {
            self.run_slice(topic_index, VISITS_PER_SLICE, self.now + SLICE_TIME);
        }
    }

    /// Visits subscribers of the topic; returns how many were written to.
    fn run_slice(&mut self, topic_index: TopicIndex, budget: usize, deadline: Moment) -> usize {
        let began = self.now;
        let (mut visits, mut looks) = (0, 0);
        self.fan_out.frame_batches.batches.carried.clear();
        while visits < budget {
            self.now = self.net.now();
            self.fan_out.frame_batches.settle(&self.metrics, self.now);
            if deadline <= self.now && 0 < visits + looks {
                break;
            }
            let Some(topic) = self.topics.at(topic_index) else { return visits };
            let subscribers = topic.subscribers.take(VISITS_PER_CLOCK.min(budget - visits));
            if subscribers.is_empty() {
                break;
            }
            fetch_ahead(&mut self.connections, subscribers);
            let mut visitor = Visitor {
                net: &mut self.net,
                connections: &mut self.connections,
                frame_batches: &mut self.fan_out.frame_batches,
                metrics: &self.metrics,
                outcomes: &mut self.outcomes,
                several: &mut self.fan_out.several,
                topic_index,
                now: self.now,
            };
            visits += visitor.visit_all(&topic.ring, subscribers);
            if !self.fan_out.several.is_empty() {
                looks += self.fan_out.several.len();
                visits += self.visit_several();
            }
        }
        self.now = self.net.now();
        self.fan_out.frame_batches.settle(&self.metrics, self.now);
        self.end_slice(topic_index, began);
        visits
    }

    /// Visits the connections that a lap has come to and that are written to from all their topics; returns how many were
    /// written to.
    fn visit_several(&mut self) -> usize {
        let mut visits = 0;
        for index in 0..self.fan_out.several.len() {
            let (slot, group) = self.fan_out.several[index];
            let Some(connection) = self.connections.at(slot) else { continue };
            if !may_visit(connection, slot, &mut self.outcomes) {
                continue;
            }
            let batches = &mut self.fan_out.frame_batches.batches;
            let outcome = batches.visit(&mut self.net, connection, group, false, &self.topics, &self.metrics, self.now);
            visits += usize::from(!outcome.is_level);
            if outcome.visit != Visit::AtHead {
                self.outcomes.record(outcome.visit, slot, outcome.topic, &mut connection.state);
                self.settle_flushed(slot);
            }
            if group == APART && !outcome.is_level {
                self.reunite(slot);
            }
        }
        self.fan_out.several.clear();
        visits
    }

    /// Writes what the connection is owed, in order: the unfinished frame, the outbox, the logs.
    pub(in crate::reactor) fn flush(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.may_flush() {
            return;
        }
        if !connection.state.has_socket() {
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
                self.outcomes.block(&mut connection.state);
            }
            Err(_) => self.outcomes.break_off(slot),
        }
        self.finish_closing(slot);
        self.settle_flushed(slot);
    }

    /// Visits each subscription of a connection that owes nothing else.
    fn catch_up(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        if let Some(group) = group_of(connection, &mut self.topics) {
            return self.catch_up_several(slot, group);
        }
        let mut at_head = true;
        for index in 0..connection.subscriptions.len() {
            if !connection.state.may_catch_up() {
                at_head = false;
                break;
            }
            let subscription = connection.subscriptions[index];
            let Some(topic) = self.topics.at(subscription.topic) else { continue };
            let conflates = topic.conflates();
            let subscriber = topic.subscribers.at(subscription.subscriber);
            if subscriber.cursor == topic.ring.next() {
                continue;
            }
            connection.written = self.now;
            let topic_index = subscription.topic;
            let (net, frame_batches) = (&mut self.net, &mut self.fan_out.frame_batches);
            let outcome = if conflates && connection.state.has(BEHIND) {
                visit_newest(net, connection, subscription.subscriber, topic_index, topic, frame_batches, &self.metrics)
            } else {
                visit(net, connection, subscriber, topic_index, &topic.ring, frame_batches, &self.metrics)
            };
            settle(&mut self.fan_out.frame_batches, connection.state, &self.metrics, self.now);
            if outcome != Visit::AtHead {
                at_head = false;
                self.outcomes.record(outcome, slot, topic_index, &mut connection.state);
            }
        }
        if at_head {
            connection.state.clear(BEHIND | FROM_HISTORY);
        }
    }

    /// The same for a connection that is written to from all its topics.
    fn catch_up_several(&mut self, slot: Slot, group: GroupIndex) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.may_catch_up() {
            return;
        }
        let conflates = |topic: TopicIndex| self.topics.get(topic).is_some_and(LocalTopic::conflates);
        let newest = connection.state.has(BEHIND) && connection.subscriptions.iter().any(|it| conflates(it.topic));
        let batches = &mut self.fan_out.frame_batches.batches;
        let outcome = batches.visit(&mut self.net, connection, group, newest, &self.topics, &self.metrics, self.now);
        settle(&mut self.fan_out.frame_batches, connection.state, &self.metrics, self.now);
        if outcome.visit == Visit::AtHead {
            connection.state.clear(BEHIND | FROM_HISTORY);
        } else {
            self.outcomes.record(outcome.visit, slot, outcome.topic, &mut connection.state);
        }
        if group == APART && !outcome.is_level {
            self.reunite(slot);
        }
    }
}

/// Writes to `metrics` what was delivered to a connection in `state`.
fn settle(frame_batches: &mut FrameBatchCache, state: State, metrics: &ReactorMetrics, now: Moment) {
    if state.has(FROM_HISTORY) {
        frame_batches.settle_history(metrics);
    } else {
        frame_batches.settle(metrics, now);
    }
}

/// The group of a connection that is written to from all its topics.
fn group_of<S>(connection: &Connection<S>, topics: &mut TopicTable) -> Option<GroupIndex> {
    let first = connection.subscriptions.first()?;
    let subscriber = topics.at(first.topic)?.subscribers.at(first.subscriber);
    subscriber.group()
}

/// Loads into the cache what the next visits read of their connections. Between two visits the kernel has used the cache
/// for the socket, so each connection is a miss; asked for one by one, each is waited for, but together they overlap.
fn fetch_ahead<S>(connections: &mut Slab<Connection<S>>, upcoming: &[Subscriber]) {
    for subscriber in upcoming {
        std::hint::black_box(connections.at(subscriber.slot).map(|connection| connection.state));
    }
}

/// Whether [`Reactor::catch_up`] is sure to write to the connection, once it owes nothing else. One whose protocol has no form for
/// a gap is left out.
fn has_news<S>(connection: &Connection<S>, topics: &mut TopicTable) -> bool {
    let mut is_behind = false;
    for subscription in &connection.subscriptions {
        let Some(topic) = topics.at(subscription.topic) else { continue };
        let (cursor, format) = (topic.cursor(subscription), topic.subscribers.at(subscription.subscriber).format);
        // A connection that lags in a topic gets its gap before events of the others.
        if !format.format().has_gaps() || cursor < topic.ring.oldest() {
            return false;
        }
        is_behind |= cursor < topic.ring.next();
    }
    let in_order = connection.state.may_catch_up() && !connection.state.has(REPLAYING | BEHIND);
    in_order && is_behind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{
        state::BLOCKED,
        tests::{KEPT, TestReactor},
    };

    /// Events have come that no lap has brought, to a connection that was at the head of its topic behind `before` others.
    #[test]
    fn a_connection_that_will_be_written_to_has_news() {
        let check = |is_raw: bool, before: usize, news: usize, flags: u16, expected: bool| {
            let mut test = TestReactor::new();
            let (slot, _) = if is_raw { test.open_websocket("close.a", None) } else { test.open_sse(&["close.a"]) };
            (0..before).for_each(|_| test.publish("close.a", "1"));
            test.work();
            (0..news).for_each(|_| test.publish("close.a", "1"));
            test.reactor.take_inbox();
            test.connection(slot).state.set(flags);
            let connection = test.reactor.connections.peek(slot).expect("it is there");
            let found = has_news(connection, &mut test.reactor.topics);
            assert_eq!(found, expected, "raw: {is_raw}, {news} behind {before}, {flags:b}");
        };
        check(false, 0, 0, 0, false);
        check(false, 3, 0, 0, false);
        check(false, 0, 1, 0, true);
        check(false, 3, 1, 0, true);
        check(false, 0, KEPT, 0, true);
        // It lags, so a gap goes first; and of a gap a raw WebSocket cannot be told.
        check(false, 0, KEPT + 1, 0, false);
        check(true, 0, 1, 0, false);
        // Something else has to go first, or nothing may go.
        check(false, 0, 1, REPLAYING, false);
        check(false, 0, 1, BEHIND, false);
        check(false, 0, 1, BLOCKED, false);
    }

    /// An answer and the events that follow it are one packet.
    #[test]
    fn an_answer_announces_what_follows_it() {
        let check = |owes: bool, news: usize, expected: usize| {
            let mut test = TestReactor::new();
            let (slot, peer) = test.open_sse(&["a"]);
            (0..news).for_each(|_| test.publish("a", "1"));
            test.reactor.take_inbox();
            if owes {
                test.connection(slot).outbox.put(b":\n");
            }
            peer.lock().writes_ahead = 0;
            test.reactor.flush(slot);
            assert_eq!(peer.lock().writes_ahead, expected, "owes: {owes}, {news} events");
        };
        check(true, 1, 1);
        check(true, 0, 0);
        check(false, 1, 0);
    }
}
