//! Subscriptions: a connection begins and ends to listen to topics.

use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use super::{
    Reactor,
    connection::{HELD, Subscription},
    net::Net,
    table::Waiter,
};
use crate::{
    event::EventId,
    log::{Listener, Moved, Start},
    protocol::fanfare_v1,
    topic::Topic,
};

impl<N: Net> Reactor<N> {
    /// Subscribes a stream that is being opened. Its first bytes are held back until every topic is live: a client that
    /// sees the stream open may rely on getting what is published from then on.
    pub(super) fn subscribe_stream(&mut self, slot: u32, topics: &[(Topic, Start)]) {
        for (topic, start) in topics {
            let place = self.attach(topic);
            self.listen(slot, place, *start);
            if self.wait_for(place, slot, None)
                && let Some(connection) = self.connections.at(slot)
            {
                connection.state.set(HELD);
            }
        }
    }

    /// Carries out a `subscribe` command.
    pub(super) fn subscribe_command(
        &mut self,
        slot: u32,
        topic: &Topic,
        start: Start,
        reference: Option<Box<RawValue>>,
    ) {
        let refuse = |code: &str, why: &str| {
            let mut text = Vec::new();
            fanfare_v1::write_error(code, why, reference.as_deref(), &mut text);
            text
        };
        let Some(connection) = self.connections.at(slot) else { return };
        if self.hub.config.topics_per_connection_max <= connection.subscriptions.len() {
            let text = refuse("TooManyTopics", "this connection has all the topics it may have");
            return self.send_message(slot, &text);
        }
        let known = self.topics.place_of(topic);
        let listens = connection.subscriptions.iter().any(|subscription| Some(subscription.topic) == known);
        if listens || self.waiting_command(slot, known).is_some() {
            let text = refuse("AlreadySubscribed", "this connection listens to the topic already");
            return self.send_message(slot, &text);
        }
        let place = self.attach(topic);
        if self.topics.at(place).is_some_and(|topic| topic.live) {
            self.listen(slot, place, start);
            self.acknowledge(slot, place, reference.as_deref());
        } else {
            self.wait_for(place, slot, Some((start, reference)));
        }
    }

    /// Carries out an `unsubscribe` command.
    pub(super) fn unsubscribe_command(&mut self, slot: u32, topic: &Topic, reference: Option<&RawValue>) {
        let mut text = Vec::new();
        let place = self.topics.place_of(topic);
        let subscription = self.connections.at(slot).and_then(|connection| {
            connection.subscriptions.iter().position(|subscription| Some(subscription.topic) == place)
        });
        match subscription {
            Some(index) => {
                self.unlisten(slot, index);
                fanfare_v1::write_unsubscribed(topic, reference, &mut text);
            }
            None if self.cancel_waiting(slot, place) => fanfare_v1::write_unsubscribed(topic, reference, &mut text),
            None => fanfare_v1::write_error("NotSubscribed", "it does not listen to this topic", reference, &mut text),
        }
        self.send_message(slot, &text);
    }

    /// Where among those who wait for the topic at `place` the connection stands with a `subscribe` command.
    fn waiting_command(&mut self, slot: u32, place: Option<u32>) -> Option<usize> {
        let token = self.connections.token(slot);
        let waiting = &self.topics.at(place?)?.waiting;
        waiting.iter().position(|waiter| waiter.token == token && waiter.command.is_some())
    }

    /// Gives up a `subscribe` command that waits for its topic, and answers it; false if there is none.
    fn cancel_waiting(&mut self, slot: u32, place: Option<u32>) -> bool {
        let (Some(index), Some(place)) = (self.waiting_command(slot, place), place) else { return false };
        let Some(topic) = self.topics.at(place) else { return false };
        if let Some((_, reference)) = topic.waiting.remove(index).command {
            let mut text = Vec::new();
            let why = "unsubscribed before the topic was confirmed";
            fanfare_v1::write_error("Cancelled", why, reference.as_deref(), &mut text);
            self.send_message(slot, &text);
        }
        self.drop_unused(place);
        true
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn unlisten_all(&mut self, slot: u32) {
        while let Some(count) = self.connections.at(slot).map(|connection| connection.subscriptions.len())
            && 0 < count
        {
            self.unlisten(slot, count - 1);
        }
    }

    /// Adds a listener for the connection to the topic at `place`, where `start` says.
    pub(super) fn listen(&mut self, slot: u32, place: u32, start: Start) {
        if let Start::After(id) = start {
            self.catch_up_with(place, id);
        }
        let Some(topic) = self.topics.at(place) else { return };
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(format) = connection.session.as_ref().ok().and_then(|session| session.format()) else { return };
        let cursor = topic.ring.place(start, &topic.state.class.retention.history, self.now);
        let cursor = cursor.unwrap_or_else(|| topic.ring.oldest());
        let subscription = connection.subscriptions.len() as u16;
        let listener = topic.lap.add(Listener { slot, subscription, format, cursor });
        topic.state.listeners.fetch_add(1, Ordering::Relaxed);
        connection.subscriptions.push(Subscription { topic: place, place: listener });
        self.mark_dirty(slot);
    }

    /// A client may have seen, at another reactor, an event that still lies in the inbox here. It must not be told of it
    /// again, so the log is brought up to it first.
    fn catch_up_with(&mut self, place: u32, seen: EventId) {
        let Some(topic) = self.topics.at(place) else { return };
        if topic.ring.newest_id() < seen {
            let missed = self.hub.bus.resync(&topic.state, self.index, topic.ring.next());
            missed.into_iter().for_each(|event| self.take_event(place, event));
        }
    }

    /// The topic's place in the table, attached to the bus if nobody here listened to it.
    pub(super) fn attach(&mut self, topic: &Topic) -> u32 {
        match self.topics.place_of(topic) {
            Some(place) => place,
            None => {
                self.gathers.forget();
                self.topics.insert(self.hub.bus.attach(topic, self.index))
            }
        }
    }

    /// Puts the connection among those that wait for the topic to become live, unless it is.
    fn wait_for(&mut self, place: u32, slot: u32, command: Option<(Start, Option<Box<RawValue>>)>) -> bool {
        let token = self.connections.token(slot);
        match self.topics.at(place) {
            Some(topic) if !topic.live => {
                topic.waiting.push(Waiter { token, since: self.now, command });
                true
            }
            _ => false,
        }
    }

    /// Ends the subscription at `index` of the connection.
    fn unlisten(&mut self, slot: u32, index: usize) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Subscription { topic: place, place: listener } = connection.subscriptions.swap_remove(index);
        if let Some(moved) = connection.subscriptions.get(index).copied()
            && let Some(topic) = self.topics.at(moved.topic)
        {
            topic.lap.listener(moved.place).subscription = index as u16;
        }
        let Some(topic) = self.topics.at(place) else { return };
        topic.state.listeners.fetch_sub(1, Ordering::Relaxed);
        if let Some(Moved { slot, subscription, place: new_place }) = topic.lap.remove(listener)
            && let Some(other) = self.connections.at(slot)
        {
            other.subscriptions[usize::from(subscription)].place = new_place;
        }
        self.drop_unused(place);
    }

    /// Gives up a topic that nobody here listens to or waits for.
    pub(super) fn drop_unused(&mut self, place: u32) {
        let unused = self.topics.at(place).is_some_and(|topic| topic.lap.is_empty() && topic.waiting.is_empty());
        if !unused {
            return;
        }
        if let Some(topic) = self.topics.remove(place) {
            self.hub.bus.detach(&topic.state, self.index);
            self.fresh.retain(|queued| *queued != place);
            self.resting.retain(|(_, queued)| *queued != place);
            self.ongoing.retain(|queued| *queued != place);
            self.gathers.forget();
        }
    }
}
