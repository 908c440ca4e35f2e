//! Subscriptions: a connection begins and ends to listen to topics.

use std::{borrow::Cow, sync::atomic::Ordering};

use serde_json::value::RawValue;

use super::{
    Reactor,
    beginning::{Beginning, BeginningFacts, BeginningSource, beginning},
    connection::{Admission, Connection, Subscription},
    net::Net,
    state::{FROM_HISTORY, HELD},
    table::{SubscribeReason, Waiter},
};
use crate::{
    budget::ChargeRefused,
    bus::LogSnapshot,
    close::Close,
    endpoint::Overload,
    event::{EventId, Position, Start},
    gap::Gap,
    index::{Slot, SubscriptionIndex, TopicIndex},
    log::{MovedSubscriber, Subscriber},
    protocol::Session,
    topic::Topic,
};

/// A refusal to a subscriber: a code, and a sentence.
pub(super) fn describe_refused(refused: ChargeRefused) -> (&'static str, Cow<'static, str>) {
    match refused {
        ChargeRefused::NoRoom => ("Overloaded", "the memory budget is spent; try again later".into()),
        ChargeRefused::Quota(refused) => ("QuotaExceeded", refused.to_string().into()),
    }
}

/// How a stream ends that was refused so.
pub(super) fn close_of(refused: ChargeRefused) -> Close {
    match refused {
        ChargeRefused::NoRoom => Overload::Memory.close(),
        ChargeRefused::Quota(_) => Close::TryLater("a quota of topics is used up"),
    }
}

/// What a subscription is taken to weigh, in bytes: its entries with the connection and among the topic's subscribers, which
/// grow by doubling, or the entry of one that waits for its topic.
const SUBSCRIPTION_BYTES: usize = 64;
/// Why a subscription that was given up never began.
const CANCELLED: &str = "unsubscribed before the topic was confirmed";

/// Gaps that connections learn of once they are open.
#[derive(Debug, Default)]
pub(super) struct GapsOwed {
    gaps: Vec<(Slot, TopicIndex, Gap)>,
}

impl GapsOwed {
    fn add(&mut self, slot: Slot, topic_index: TopicIndex, gap: Gap) {
        self.gaps.push((slot, topic_index, gap));
    }

    fn first(&self, slot: Slot) -> Option<Gap> {
        self.gaps.iter().find(|(owed, ..)| *owed == slot).map(|(.., gap)| *gap)
    }

    fn take(&mut self, slot: Slot) -> Vec<(TopicIndex, Gap)> {
        self.gaps.extract_if(.., |(owed, ..)| *owed == slot).map(|(_, topic_index, gap)| (topic_index, gap)).collect()
    }
}

impl<N: Net> Reactor<N> {
    /// Subscribes a stream that is being opened. Its first bytes are held back until every topic is live: a client that
    /// sees the stream open may rely on getting what is published from then on.
    pub(super) fn subscribe_stream(&mut self, slot: Slot, topics: &[(Topic, Start)]) {
        for (topic, start) in topics {
            match self.try_attach(slot, topic) {
                Ok(topic_index) => self.subscribe(slot, topic_index, *start, SubscribeReason::Opening),
                Err(refused) => return self.end(slot, close_of(refused)),
            }
        }
        self.check_opened(slot);
    }

    /// Carries out a `subscribe` command.
    pub(super) fn subscribe_command(
        &mut self,
        slot: Slot,
        topic: &Topic,
        start: Start,
        reference: Option<Box<RawValue>>,
    ) {
        let Some(connection) = self.connections.at(slot) else { return };
        let held = connection.subscriptions.len() + usize::from(connection.pending) + self.replay_count(slot);
        let known = self.topics.find(topic);
        let refused: (&str, Cow<'_, str>) = if self.endpoints.value.topics_per_connection_max <= held {
            ("TooManyTopics", "this connection has all the topics it may have".into())
        } else if known.is_some_and(|topic_index| self.is_subscribed(slot, topic_index)) {
            ("AlreadySubscribed", "this connection listens to the topic already".into())
        } else {
            match self.try_attach(slot, topic) {
                Ok(topic_index) => {
                    return self.subscribe(slot, topic_index, start, SubscribeReason::Command(reference));
                }
                Err(refused) => describe_refused(refused),
            }
        };
        let (code, why) = refused;
        self.refuse_command(slot, code, &why, reference.as_deref());
    }

    fn refuse_command(&mut self, slot: Slot, code: &str, why: &str, reference: Option<&RawValue>) {
        self.tell(slot, |session, outbox| session.write_command_refusal(code, why, reference, outbox));
    }

    fn is_subscribed(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        let listens = self.subscription(slot, topic_index).is_some();
        listens || self.waiter_index(slot, topic_index).is_some() || self.is_replaying(slot, topic_index)
    }

    /// Subscribes a connection to the topic now, if it is live, or when it is; or, if it comes from another hub, when the source
    /// has read what that hub may have read already.
    pub(super) fn subscribe(&mut self, slot: Slot, topic_index: TopicIndex, start: Start, reason: SubscribeReason) {
        let token = self.connections.token(slot);
        let is_ahead = self.is_ahead(topic_index, start);
        let (Some(topic), Some(connection)) = (self.topics.at(topic_index), self.connections.at(slot)) else { return };
        if topic.live && is_ahead {
            self.hub.bus.ask_for_live(&topic.state);
        } else if topic.live {
            return self.begin(slot, topic_index, start, reason);
        }
        connection.pending += 1;
        if let SubscribeReason::Opening = reason {
            connection.state.set(HELD);
        }
        let charge = self.hub.bus.budget().charge(SUBSCRIPTION_BYTES);
        topic.waiting.push_back(Waiter { token, since: self.now, start, reason, _charge: charge });
    }

    /// The subscription begins: acknowledges it, and listens, replays, or writes a gap and listens.
    pub(super) fn begin(&mut self, slot: Slot, topic_index: TopicIndex, start: Start, reason: SubscribeReason) {
        if let Start::After(seen) = start {
            self.catch_up_with(topic_index, seen);
        }
        let reason = match reason {
            SubscribeReason::Client(pending) => match self.resume_pending(slot, topic_index, pending) {
                Some(pending) => SubscribeReason::Client(pending),
                None => return,
            },
            reason => reason,
        };
        let ends_for_gaps = self.session_is(slot, Session::ends_for_gaps);
        let Some(topic) = self.topics.at(topic_index) else { return };
        let (bus, class) = (&self.hub.bus, &topic.state.class);
        let facts = BeginningFacts {
            history: &class.retention.history,
            is_archived: bus.archive_of(class).is_some(),
            ids_differ_per_hub: bus.ids_differ_per_hub(class),
            ends_for_gaps,
            is_refused: topic.state.is_refused(),
            now: self.now,
        };
        let Beginning { before, source } = beginning(&topic.ring, start, &facts);
        if let Some((session, _)) = self.connections.at(slot).and_then(Connection::speaks) {
            session.start_after(topic_index, before);
        }
        // The id of a stream that opens is not known before all its topics have begun.
        let is_opening = matches!(reason, SubscribeReason::Opening);
        match reason {
            SubscribeReason::Opening => {}
            SubscribeReason::Command(reference) => self.acknowledge(slot, topic_index, before, reference.as_deref()),
            SubscribeReason::Client(pending) => self.begin_pending(slot, topic_index, before, *pending),
        }
        match source {
            BeginningSource::Archive(after) => self.begin_replay(slot, topic_index, after),
            BeginningSource::Log(cursor, gap) => {
                self.listen_at(slot, topic_index, cursor);
                match gap {
                    Some(gap) if is_opening => self.gaps_owed.add(slot, topic_index, gap),
                    Some(gap) => self.tell_gap(slot, topic_index, gap),
                    None => {}
                }
            }
        }
    }

    /// If a stream that is being opened waits for no topic any more: lets its first bytes go, with the id from which a browser can
    /// resume even if it never gets an event.
    pub(super) fn check_opened(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        if 0 < connection.pending {
            return;
        }
        connection.state.clear(HELD);
        self.greet(slot);
        for (topic_index, gap) in self.gaps_owed.take(slot) {
            self.tell_gap(slot, topic_index, gap);
        }
        if let Some((session, _)) = self.connections.at(slot).and_then(Connection::speaks)
            && session.takes_resume_id()
        {
            self.write_resume_id(slot);
        }
        self.mark_dirty(slot);
    }

    /// Writes what a stream begins with, if it begins with something: before any gap.
    fn greet(&mut self, slot: Slot) {
        let session = self.connections.peek(slot).map(|connection| &connection.session);
        if !matches!(session, Some(Ok(session)) if session.has_greeting()) {
            return;
        }
        let resume_id = self.stream_resume_id(slot);
        if let Some((session, outbox)) = self.connections.at(slot).and_then(Connection::speaks) {
            session.write_greeting(resume_id, outbox);
        }
    }

    /// Where a stream over one topic stands, once its outbox is written: the client has everything up to here, but for the gaps it
    /// has got.
    pub(super) fn stream_resume_id(&mut self, slot: Slot) -> Option<EventId> {
        if let Some(gap) = self.gaps_owed.first(slot) {
            return Some(gap.from);
        }
        match self.connections.at(slot)?.subscriptions.first() {
            Some(subscription) => {
                let topic = self.topics.get(subscription.topic)?;
                Some(topic.ring.id_before(topic.cursor(subscription)))
            }
            None => self.replayed_id(slot),
        }
    }

    fn write_resume_id(&mut self, slot: Slot) {
        self.refresh_cursors(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        // A stream without subscriptions replays, and so has an id already.
        let only = connection.subscriptions.first().and_then(|subscription| {
            let topic = self.topics.get(subscription.topic)?;
            Some(topic.ring.id_before(topic.cursor(subscription)))
        });
        if let Some((session, outbox)) = connection.speaks() {
            session.write_resume_id(only, outbox);
        }
    }

    /// Carries out an `unsubscribe` command.
    pub(super) fn unsubscribe_command(&mut self, slot: Slot, topic: &Topic, reference: Option<&RawValue>) {
        let topic_index = self.topics.find(topic);
        let subscription = self.connections.at(slot).and_then(|connection| {
            connection.subscriptions.iter().position(|subscription| Some(subscription.topic) == topic_index)
        });
        let was_subscribed = match subscription {
            Some(index) => {
                self.unlisten(slot, index);
                true
            }
            None => topic_index.is_some_and(|topic_index| self.cancel(slot, topic_index)),
        };
        if was_subscribed {
            self.tell(slot, |session, outbox| session.write_unsubscribed(topic, reference, outbox));
        } else {
            self.refuse_command(slot, "NotSubscribed", "it does not listen to this topic", reference);
        }
    }

    /// Where among those who wait for the topic the connection stands.
    pub(super) fn waiter_index(&mut self, slot: Slot, topic_index: TopicIndex) -> Option<usize> {
        let token = self.connections.token(slot);
        self.topics.at(topic_index)?.waiting.iter().position(|waiter| waiter.token == token)
    }

    /// Gives up a subscription that has not begun to listen; false if there is none.
    pub(super) fn cancel(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        self.cancel_waiting(slot, topic_index) || self.end_replay(slot, topic_index)
    }

    /// Gives up a subscription that waits for its topic. A command is answered.
    fn cancel_waiting(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        match self.waiter_index(slot, topic_index) {
            Some(index) => self.cancel_at(slot, topic_index, index),
            None => false,
        }
    }

    /// The same for a subscription of the client in `namespace`.
    pub(super) fn cancel_client(&mut self, slot: Slot, topic_index: TopicIndex, namespace: &str) -> bool {
        let token = self.connections.token(slot);
        let is_its =
            |reason: &SubscribeReason| matches!(reason, SubscribeReason::Client(pending) if pending.is_in(namespace));
        let Some(topic) = self.topics.at(topic_index) else { return false };
        match topic.waiting.iter().position(|waiter| waiter.token == token && is_its(&waiter.reason)) {
            Some(index) => self.cancel_at(slot, topic_index, index),
            None => false,
        }
    }

    fn cancel_at(&mut self, slot: Slot, topic_index: TopicIndex, index: usize) -> bool {
        let (Some(topic), Some(connection)) = (self.topics.at(topic_index), self.connections.at(slot)) else {
            return false;
        };
        connection.pending -= 1;
        match topic.waiting.remove(index).map(|waiter| waiter.reason) {
            Some(SubscribeReason::Command(reference)) => {
                self.refuse_command(slot, "Cancelled", CANCELLED, reference.as_deref());
            }
            Some(SubscribeReason::Client(pending)) => self.refuse_pending(slot, &pending, "Cancelled", CANCELLED),
            Some(SubscribeReason::Opening) | None => {}
        }
        self.drop_unused(topic_index);
        self.check_opened(slot);
        true
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn unlisten_all(&mut self, slot: Slot) {
        self.ungroup(slot);
        while let Some(count) = self.connections.at(slot).map(|connection| connection.subscriptions.len())
            && 0 < count
        {
            self.remove_listener(slot, count - 1);
        }
        self.end_replays(slot);
        self.gaps_owed.take(slot);
    }

    /// Ends the subscription of a connection to the topic, if it listens to it or replays it.
    pub(super) fn unlisten_topic(&mut self, slot: Slot, topic_index: TopicIndex) {
        let Some(connection) = self.connections.at(slot) else { return };
        match connection.subscriptions.iter().position(|subscription| subscription.topic == topic_index) {
            Some(index) => self.unlisten(slot, index),
            None => drop(self.end_replay(slot, topic_index)),
        }
    }

    /// Adds a subscriber for the connection to the topic, from `cursor` on.
    pub(super) fn listen_at(&mut self, slot: Slot, topic_index: TopicIndex, cursor: Position) {
        self.ungroup(slot);
        let Some(topic) = self.topics.at(topic_index) else { return };
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(format) = connection.session.as_ref().ok().and_then(|session| session.format()) else { return };
        let subscription = SubscriptionIndex::new(connection.subscriptions.len());
        let subscriber = topic.subscribers.add(Subscriber { slot, subscription, format: format.into(), cursor });
        topic.state.subscriber_count.fetch_add(1, Ordering::Relaxed);
        self.hub.bus.budget().adjust(0, SUBSCRIPTION_BYTES);
        connection.subscriptions.push(Subscription { topic: topic_index, subscriber, cursor });
        if cursor < topic.ring.next() {
            connection.state.set(FROM_HISTORY);
        }
        if let Some((session, _)) = connection.speaks() {
            session.begin(topic_index, cursor);
        }
        self.group(slot);
        self.mark_dirty(slot);
    }

    /// Whether a client may have come faster from another hub than its last event from the source: the event is not here, and may
    /// be on its way.
    fn is_ahead(&mut self, topic_index: TopicIndex, start: Start) -> bool {
        let Start::After(seen) = start else { return false };
        let Some(topic) = self.topics.get(topic_index).filter(|_| seen.fingerprint.is_some()) else { return false };
        if topic.ring.may_hold(seen) || !self.hub.bus.ids_differ_per_hub(&topic.state.class) {
            return false;
        }
        self.catch_up_with(topic_index, seen);
        self.topics.get(topic_index).is_some_and(|topic| topic.ring.position_behind_foreign(seen).is_none())
    }

    /// A client may have seen, at another reactor, an event that still lies in the inbox here. It must not get it again,
    /// so the log is brought up to it first. An id of another epoch is none of this log, however great it is; but its fingerprint
    /// may be that of such an event.
    fn catch_up_with(&mut self, topic_index: TopicIndex, seen: EventId) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        let is_to_come = match topic.ring.may_hold(seen) {
            true => topic.ring.newest_id() < seen,
            false => seen.fingerprint.is_some() && topic.ring.position_behind_foreign(seen).is_none(),
        };
        if is_to_come {
            self.resync(topic_index);
        }
    }

    /// The topic's index in the table, attached to the bus if it had no subscriber here, whatever is left of the memory
    /// budget: for a client that comes back to what it listened to.
    pub(super) fn attach(&mut self, topic: &Topic) -> TopicIndex {
        match self.topics.find(topic) {
            Some(topic_index) => topic_index,
            None => self.take_in_topic(self.hub.bus.attach(topic, self.index)),
        }
    }

    /// The same for a new subscription of the connection, which is refused while the memory budget is spent, or if the topic
    /// does not exist and its tenant may hold no more.
    pub(super) fn try_attach(&mut self, slot: Slot, topic: &Topic) -> Result<TopicIndex, ChargeRefused> {
        if self.hub.bus.budget().is_spent() {
            return Err(ChargeRefused::NoRoom);
        }
        if let Some(topic_index) = self.topics.find(topic) {
            return Ok(topic_index);
        }
        let shared = self.shared();
        let identity = self.connections.at(slot).and_then(|connection| connection.identity.clone());
        let requester = self.context(&shared, slot, Admission::ORDINARY, identity.as_deref()).requester();
        let owner = shared.hub.quotas.topic_owner(requester, topic, self.now);
        let attached = shared.hub.bus.try_attach(topic, self.index, owner.as_ref());
        if let Err(ChargeRefused::Quota(refused)) = attached {
            shared.hub.quotas.count(refused);
        }
        Ok(self.take_in_topic(attached?))
    }

    fn take_in_topic(&mut self, snapshot: LogSnapshot) -> TopicIndex {
        self.fan_out.on_topic_added();
        self.topics.insert(snapshot, self.hub.bus.budget())
    }

    /// Ends the subscription at `index` of the connection.
    fn unlisten(&mut self, slot: Slot, index: usize) {
        self.ungroup(slot);
        self.remove_listener(slot, index);
        self.group(slot);
    }

    /// Ends the subscription at `index` of the connection, which is in no group.
    fn remove_listener(&mut self, slot: Slot, index: usize) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Subscription { topic: topic_index, subscriber, .. } = connection.subscriptions.swap_remove(index);
        if let Some(moved) = connection.subscriptions.get(index).copied()
            && let Some(topic) = self.topics.at(moved.topic)
        {
            topic.subscribers.at(moved.subscriber).subscription = SubscriptionIndex::new(index);
        }
        let Some(topic) = self.topics.at(topic_index) else { return };
        topic.state.subscriber_count.fetch_sub(1, Ordering::Relaxed);
        self.hub.bus.budget().adjust(SUBSCRIPTION_BYTES, 0);
        if let Some(MovedSubscriber { slot, subscription, subscriber }) = topic.subscribers.remove(subscriber)
            && let Some(other) = self.connections.at(slot)
        {
            other.subscriptions[subscription.get()].subscriber = subscriber;
        }
        self.drop_unused(topic_index);
    }

    /// Gives up a topic that no connection here listens to or waits for.
    pub(super) fn drop_unused(&mut self, topic_index: TopicIndex) {
        if !self.topics.at(topic_index).is_some_and(|topic| topic.is_unused()) {
            return;
        }
        if let Some(topic) = self.topics.remove(topic_index) {
            self.hub.bus.detach(&topic.state, self.index);
            self.fan_out.on_topic_removed(topic_index);
        }
    }
}

#[cfg(test)]
mod tests;
