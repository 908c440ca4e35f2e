//! The inbox: events, connections, notes, resyncs.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{
    Reactor,
    connection::{CLOSING, HELD, Subscription},
    net::{Net, Token},
    table::Waiter,
};
use crate::{
    bus::{AnswerForm, Note, Receipt, Waiting},
    endpoint,
    event::Event,
    protocol::{fanfare_v1, http::Response, websocket},
};

/// Events taken per turn: the first subscriber waits until they all stand in their logs.
const EVENTS_PER_TURN: usize = 1024;
/// Connections taken from other reactors per turn.
const ARRIVALS_PER_TURN: usize = 64;

impl<N: Net> Reactor<N> {
    pub(super) fn take_inbox(&mut self) {
        let hub = Arc::clone(&self.hub);
        let inbox = hub.bus.inbox(self.index);
        for _ in 0..EVENTS_PER_TURN {
            let Some(mail) = inbox.next_mail() else { break };
            if let Some(place) = self.topics.place_of_key(mail.key) {
                self.take_event(place, mail.event);
            }
        }
        for _ in 0..ARRIVALS_PER_TURN {
            let Some(arrival) = self.placement.next_arrival(self.index) else { break };
            self.admit(arrival);
        }
        while let Some(note) = inbox.next_note() {
            match note {
                Note::Live(key) => {
                    if let Some(place) = self.topics.place_of_key(key) {
                        self.on_live(place);
                    }
                }
                Note::Archived { .. } => {}
                Note::History { token, topic, page } => {
                    let response = endpoint::complete_history(&topic, page);
                    self.answer_later(Token::unpack(token), HISTORY_ROUTE, &response);
                }
                Note::Published { token, waiting, receipts } => {
                    self.on_published(Token::unpack(token), &waiting, &receipts);
                }
            }
        }
        for state in inbox.take_resync() {
            if let Some(place) = self.topics.place_of_key(state.key) {
                let next = self.topics.at(place).map_or(0, |topic| topic.ring.next());
                let missed = hub.bus.resync(&state, self.index, next);
                missed.into_iter().for_each(|event| self.take_event(place, event));
            }
        }
        if self.must_stop() {
            self.enter_phase(hub.phase());
        }
    }

    /// An event arrived: its topic's listeners are to be visited.
    pub(super) fn take_event(&mut self, place: u32, event: Arc<Event>) {
        let Some(topic) = self.topics.at(place) else { return };
        if topic.take(event, self.now) {
            self.announce(place);
        }
    }

    /// The source has confirmed a topic, or has taken too long to: whoever waited for that goes on.
    pub(super) fn on_live(&mut self, place: u32) {
        let Some(topic) = self.topics.at(place) else { return };
        topic.live = true;
        for Waiter { token, command, .. } in std::mem::take(&mut topic.waiting) {
            if self.connections.named(token).is_none() {
                continue;
            }
            match command {
                Some((start, reference)) => {
                    self.listen(token.slot, place, start);
                    self.acknowledge(token.slot, place, reference.as_deref());
                }
                None => self.release(token),
            }
        }
        self.drop_unused(place);
    }

    /// Lets a connection go on that was held back, unless another of its topics is still awaited.
    fn release(&mut self, token: Token) {
        let Some(connection) = self.connections.at(token.slot) else { return };
        let awaits = |subscription: &Subscription| {
            let topic = self.topics.at(subscription.topic);
            topic.is_some_and(|topic| topic.waiting.iter().any(|waiter| waiter.token == token))
        };
        if !connection.subscriptions.iter().any(awaits) {
            connection.state.clear(HELD);
            self.mark_dirty(token.slot);
        }
    }

    /// The answer to publications that went out through the source.
    fn on_published(&mut self, token: Token, waiting: &Waiting, receipts: &[Receipt]) {
        if self.connections.named(token).is_none() {
            return;
        }
        if let AnswerForm::Command(_) = waiting.form {
            let mut text = Vec::new();
            endpoint::complete_command(waiting, receipts, &self.metrics, self.now, &mut text);
            self.send_message(token.slot, &text);
        } else {
            let response = endpoint::complete_request(waiting, receipts, &self.metrics, self.now);
            self.answer_later(token, PUBLISH_ROUTE, &response);
        }
    }

    /// Answers a request that had to wait, and goes on with what came behind it.
    fn answer_later(&mut self, token: Token, route: usize, response: &Response) {
        if self.connections.named(token).is_some() {
            self.respond(token.slot, route, response);
            self.advance_session(token.slot, &mut []);
            self.continue_session(token.slot);
        }
    }

    /// Sends one text message to a WebSocket client, unless its last frame has been said.
    pub(super) fn send_message(&mut self, slot: u32, text: &[u8]) {
        if let Some(connection) = self.connections.at(slot)
            && !connection.state.has(CLOSING)
        {
            connection.outbox.put(&websocket::encode_text(text));
            self.mark_dirty(slot);
        }
    }

    /// Acknowledges a subscription: events follow from the listener's place on.
    pub(super) fn acknowledge(&mut self, slot: u32, place: u32, reference: Option<&RawValue>) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(topic) = self.topics.at(place) else { return };
        let subscription = connection.subscriptions.iter().find(|subscription| subscription.topic == place);
        let Some(subscription) = subscription else { return };
        let cursor = topic.lap.listener(subscription.place).cursor;
        // Its id is known even if the event is not, so that a client can resume that has received nothing yet.
        let before = topic.ring.event(cursor - 1).map_or_else(|| self.hub.bus.id_at(cursor - 1), |event| event.id);
        let mut text = Vec::new();
        fanfare_v1::write_subscribed(&topic.state.topic, Some(before), reference, &mut text);
        self.send_message(slot, &text);
    }
}

/// The place of `publish` in [`crate::metrics::ROUTE_LABELS`].
const PUBLISH_ROUTE: usize = 2;
/// The place of `history` there.
const HISTORY_ROUTE: usize = 4;
