//! The inbox: events, connections, control messages, resyncs.

use std::{any::Any, sync::Arc};

use serde_json::value::RawValue;

use super::{
    Reactor,
    net::{Net, Token},
    replay::Archived,
    table::Waiter,
};
use crate::{
    bus::{ControlMessage, LogKind, Receipt, TopicState},
    close::Close,
    endpoint::{self, Answer, AnswerForm, Completion, ReceiptWaiter},
    event::{Event, EventId},
    index::{Slot, TopicIndex},
    label::RouteLabel,
    outbox::Outbox,
    protocol::{Session, http::Response},
};

/// Events taken per turn: the first subscriber waits until they all stand in their logs.
const EVENTS_PER_TURN: usize = 1024;
/// Answers of other threads taken per turn.
const CONTROLS_PER_TURN: usize = 256;
/// Topics copied from their histories per turn, because their events did not fit: each up to a whole log.
const RESYNCS_PER_TURN: usize = 16;
/// Connections taken from other reactors per turn.
const ARRIVALS_PER_TURN: usize = 64;

/// Topics of which events did not fit into the inbox, and that are yet to be copied.
#[derive(Debug, Default)]
pub(super) struct Resyncs {
    topics: Vec<Arc<TopicState>>,
}

impl Resyncs {
    /// Whether there are some.
    pub(super) fn is_under_way(&self) -> bool {
        !self.topics.is_empty()
    }

    /// The topics to be copied in this turn.
    fn take(&mut self, arrived: &mut Vec<Arc<TopicState>>) -> Vec<Arc<TopicState>> {
        self.topics.append(arrived);
        self.topics.split_off(self.topics.len().saturating_sub(RESYNCS_PER_TURN))
    }
}

impl<N: Net> Reactor<N> {
    pub(super) fn take_inbox(&mut self) {
        let hub = Arc::clone(&self.hub);
        let inbox = hub.bus.inbox(self.index);
        for _ in 0..EVENTS_PER_TURN {
            let Some(message) = inbox.next_event() else { break };
            if let Some(topic_index) = self.topics.find_key(message.key) {
                self.take_event(topic_index, message.event);
            }
        }
        for _ in 0..ARRIVALS_PER_TURN {
            let Some(arrival) = self.placement.next_arrival(self.index) else { break };
            self.take_arrival(arrival);
        }
        for _ in 0..CONTROLS_PER_TURN {
            let Some(message) = inbox.next_control() else { break };
            match message {
                ControlMessage::Live(key) => {
                    if let Some(topic_index) = self.topics.find_key(key) {
                        self.on_live(topic_index);
                    }
                }
                ControlMessage::Completion { token, content } => self.take_completion(Token::unpack(token), content),
            }
        }
        for state in self.resyncs.take(&mut inbox.take_resync()) {
            if let Some(topic_index) = self.topics.find_key(state.key) {
                self.resync(topic_index);
            }
        }
        if self.must_stop() {
            self.enter_phase(hub.phase());
        }
    }

    /// Another thread has finished something for the connection `token`.
    fn take_completion(&mut self, token: Token, content: Box<dyn Any + Send>) {
        match content.downcast::<Completion>().map(|completion| *completion) {
            Ok(Completion::Answer { route, make }) => self.make_answer(token, route, make),
            Ok(Completion::Published { waiting, receipts }) => self.on_published(token, waiting, receipts),
            Err(content) => {
                // The only other completion that reactors ask for.
                if let Ok(archived) = content.downcast::<Archived>() {
                    self.on_archived(token, *archived);
                }
            }
        }
    }

    /// Makes the answer to a request that had to wait.
    fn make_answer(
        &mut self,
        token: Token,
        route: RouteLabel,
        make: Box<dyn FnOnce(&endpoint::Context<'_>) -> Answer + Send>,
    ) {
        let Some(connection) = self.connections.named(token) else { return };
        let (admission, identity) = (connection.admission(), connection.identity.clone());
        let shared = self.shared();
        let answer = make(&self.context(&shared, token.slot, admission, identity.as_deref()));
        match answer {
            Answer::Work(open) => self.open_work(token.slot, route, open),
            Answer::Response(response) => self.answer_later_owned(token, route, response),
            _ => {}
        }
    }

    /// An event arrived: its topic's subscribers are to be visited.
    pub(super) fn take_event(&mut self, topic_index: TopicIndex, event: Arc<Event>) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        if topic.take(event, self.hub.bus.budget(), self.now) {
            self.announce(topic_index);
        }
    }

    /// Copies what the log of the topic has more than the one here.
    pub(super) fn resync(&mut self, topic_index: TopicIndex) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        let missed = self.hub.bus.resync(&topic.state, self.index, topic.ring.next());
        if topic.take_missed(missed, self.hub.bus.budget(), self.now) {
            self.announce(topic_index);
        }
    }

    /// The source has confirmed a topic: the connections that waited for that go on.
    pub(super) fn on_live(&mut self, topic_index: TopicIndex) {
        let hub = Arc::clone(&self.hub);
        let Some(topic) = self.topics.at(topic_index) else { return };
        if topic.state.class.log != LogKind::Memory && topic.subscribers.is_empty() {
            // The source has loaded what its broker keeps, perhaps behind where the copy here began.
            topic.load(hub.bus.snapshot(&topic.state));
        }
        topic.live = true;
        while let Some(Waiter { token, start, reason, .. }) = self.next_waiter(topic_index) {
            let Some(connection) = self.connections.named(token) else { continue };
            connection.pending -= 1;
            // It may have lost the right while it waited.
            if connection.session.is_ok() && self.keeps_right_to(token.slot, topic_index) {
                self.begin(token.slot, topic_index, start, reason);
                self.check_opened(token.slot);
            }
        }
        self.drop_unused(topic_index);
    }

    /// Takes the first of those that wait for the topic. One by one: while others wait, the topic is not given up.
    fn next_waiter(&mut self, topic_index: TopicIndex) -> Option<Waiter> {
        self.topics.at(topic_index)?.waiting.pop_front()
    }

    /// The source takes too long to confirm a topic, or no connection wants it any more. Those that wait begin, and learn of a gap
    /// when the source is there; not so where a broker keeps the log, for nothing is known of it yet.
    pub(super) fn on_overdue(&mut self, topic_index: TopicIndex) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        if topic.state.class.log == LogKind::Memory {
            if !topic.waiting.is_empty() {
                self.hub.bus.admit_unconfirmed(&topic.state);
            }
            return self.on_live(topic_index);
        }
        while let Some(Waiter { token, .. }) = self.next_waiter(topic_index) {
            if let Some(connection) = self.connections.named(token) {
                connection.pending -= 1;
                self.end(token.slot, Close::TryLater("the broker that keeps the topic cannot be reached at present"));
            }
        }
        self.drop_unused(topic_index);
    }

    /// The answer to publications that went out through the source.
    fn on_published(&mut self, token: Token, waiting: ReceiptWaiter, receipts: Vec<Receipt>) {
        if let AnswerForm::Part = waiting.form {
            return self.resume_work(token, waiting, receipts);
        }
        let receipts = &receipts[..];
        if self.connections.named(token).is_none() {
            return;
        }
        if let AnswerForm::Frames(_) = waiting.form {
            let frames = endpoint::complete_frames(waiting, receipts, &self.metrics, self.now);
            return self.send_frames(token.slot, &frames);
        }
        if let Some((route, response)) = endpoint::complete_request(waiting, receipts, &self.metrics, self.now) {
            self.answer_later(token, route, &response);
        }
    }

    /// Answers a request that had to wait, and goes on with what came behind it.
    pub(super) fn answer_later(&mut self, token: Token, route: RouteLabel, response: &Response) {
        if self.connections.named(token).is_some() {
            self.respond(token.slot, route, response);
            self.continue_answered(token.slot);
        }
    }

    /// The same, without copying a body that is large.
    pub(super) fn answer_later_owned(&mut self, token: Token, route: RouteLabel, response: Response) {
        if self.connections.named(token).is_some() {
            self.respond_owned(token.slot, route, response);
            self.continue_answered(token.slot);
        }
    }

    /// Goes on with the requests that came behind one that is answered now.
    fn continue_answered(&mut self, slot: Slot) {
        self.advance_session(slot, &mut []);
        self.continue_session(slot);
    }

    /// Writes something to the client, unless its connection has ended.
    pub(super) fn tell(&mut self, slot: Slot, write: impl FnOnce(&mut Session, &mut Outbox)) {
        if let Some(connection) = self.connections.at(slot)
            && connection.state.is_open()
            && let Some((session, outbox)) = connection.speaks()
        {
            write(session, outbox);
            self.mark_dirty(slot);
        }
    }

    /// Sends what stands in the session's frames already.
    pub(super) fn send_frames(&mut self, slot: Slot, frames: &[u8]) {
        if let Some(connection) = self.connections.at(slot)
            && connection.state.is_open()
            && !frames.is_empty()
        {
            connection.outbox.put(frames);
            self.mark_dirty(slot);
        }
    }

    /// Acknowledges a subscription: events follow from behind `before`.
    pub(super) fn acknowledge(
        &mut self,
        slot: Slot,
        topic_index: TopicIndex,
        before: EventId,
        reference: Option<&RawValue>,
    ) {
        let Some(topic) = self.topics.get(topic_index).map(|topic| topic.state.topic.clone()) else { return };
        self.tell(slot, |session, outbox| session.write_subscribed(&topic, before, reference, outbox));
    }
}
