//! Publishing: events on their way into the logs and to the reactors, in batches.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{Bus, EventMessage, LogKind, ReactorSet, TopicState, is_hub_command, topic::TopicLog, topics::lock};
use crate::{
    budget::{Charge, ChargeRefused},
    clock::Moment,
    event::{Event, EventId, Payload, is_word_of_socket_io, is_word_of_sse},
    fingerprint::{Mark, digest},
    gap::{Gap, GapReason},
    share::{Owner, QuotaRefused},
    topic::Topic,
};

/// A batch of events on their way into the logs. Dropping it wakes the reactors that got events, each once at most.
#[derive(Debug)]
pub struct Feed<'bus> {
    bus: &'bus Bus,
    to_wake: ReactorSet,
    wakes_follower: bool,
    /// The topic of the last event, because bursts mostly stay on one topic.
    last: Option<Arc<TopicState>>,
    /// The tenant that the next events are charged to. Events of a broker are nobody's.
    owner: Option<Arc<Owner>>,
    /// The newest mark before the next events. `None`: they come from nowhere that sends them to all hubs in one order.
    mark: Option<Mark>,
    /// Whether the place of an event cannot be said before there is another mark.
    needs_mark: bool,
}

impl<'bus> Feed<'bus> {
    pub(super) fn new(bus: &'bus Bus) -> Self {
        Self {
            bus,
            to_wake: ReactorSet::default(),
            wakes_follower: false,
            last: None,
            owner: None,
            mark: None,
            needs_mark: false,
        }
    }

    /// Charges the events that follow, and topics made for them, to `owner`.
    pub(crate) fn hold_for(&mut self, owner: Option<Arc<Owner>>) {
        self.owner = owner;
    }

    /// What is published from here on, and the topics of which it is said that they are [delivered](Feed::begin_sequence), come
    /// from a source that sends all messages to all hubs in one order, and stand behind `mark` there.
    pub(crate) fn read_behind(&mut self, mark: Mark) {
        self.mark = Some(mark);
    }

    /// The source delivers `topic` from here on, or has all along.
    pub(crate) fn begin_sequence(&mut self, topic: &Topic) {
        if let Some(mark) = self.mark {
            self.needs_mark |= self.with_log(topic, |_, _, log| {
                log.sequence.begin(mark);
                log.sequence.needs_mark()
            });
        }
    }

    /// Whether, since the last call, something was published or begun whose place cannot be said before there is another mark.
    pub(crate) fn take_needs_mark(&mut self) -> bool {
        std::mem::take(&mut self.needs_mark)
    }

    /// Whether `topic` takes events without ids. A log that a broker keeps does not: after an id of the hub's own, none of the
    /// broker's would be newer.
    pub(crate) fn gives_ids(&self, topic: &Topic) -> bool {
        let known = self.last.as_ref().filter(|state| state.topic == *topic);
        let log = known.map_or_else(|| self.bus.log_kind(topic), |state| state.class.log);
        log == LogKind::Memory || is_hub_command(topic)
    }

    /// Appends an event to `topic` and hands it to every reactor with subscribers there. The hub gives the id, so
    /// [`Feed::gives_ids`] must be true of the topic.
    pub fn publish(
        &mut self,
        topic: &Topic,
        kind: Option<&str>,
        payload: impl Into<Payload>,
        now: Moment,
    ) -> Result<EventId, PublishRefused> {
        let payload = payload.into();
        self.bus.check(kind, &payload.data)?;
        let bus = self.bus;
        if is_hub_command(topic) {
            bus.take_hub_command(topic, kind, payload.data, now);
            return Ok(bus.id_at(0));
        }
        let charge = self.charge(Event::least_weight_bytes(kind, &payload.data))?;
        let digest = || digest(&payload.data) ^ kind.map_or(0, |kind| digest(kind.as_bytes()).rotate_left(1));
        let read = self.mark.map(|mark| (mark, digest()));
        let key_of = |state: &TopicState, payload: &Payload| state.key_of(kind, payload, None);
        self.with_room(topic, payload, key_of, |feed, state, log, (payload, key)| {
            debug_assert!(state.class.log == LogKind::Memory, "a broker gives the ids of {topic}");
            if !bus.budget().is_spent() {
                feed.append_pending_loss(state, log, now);
            }
            let position = log.history.next();
            let id = bus.id_at(position).with_fingerprint(log.fingerprint(read, topic));
            feed.needs_mark |= log.sequence.needs_mark();
            let event = state.event(id, position, (kind, key), payload, now);
            feed.append(state, log, Event { is_placed_here: read.is_none(), ..event }, charge, now)
        })
    }

    /// As [`Feed::publish`], for an event whose payload is `shared` and then `tail`: together they are JSON. [`Bus::share`] made
    /// `shared`, and the caller has checked it. Where hubs share a broker, the event comes past the broker. It is then appended
    /// only to a log that the broker feeds at present; a log that is not fed, and has something missing at its end, gets another
    /// hole instead.
    pub(crate) fn publish_shared(
        &mut self,
        topic: &Topic,
        kind: &str,
        shared: &Bytes,
        tail: &str,
        now: Moment,
    ) -> Result<Option<EventId>, PublishRefused> {
        let bus = self.bus;
        let charge = self.charge(Event::least_weight_bytes(Some(kind), tail.as_bytes()))?;
        let key_of = |state: &TopicState, payload: &Payload| state.key_of(Some(kind), payload, Some(tail));
        self.with_room(topic, Payload::json(shared.clone()), key_of, |feed, state, log, (payload, key)| {
            if bus.default_sink().is_some() && !log.live {
                match log.history.event(log.history.next() - 1) {
                    None => return None,
                    Some(newest) if newest.gap.is_some() => {
                        feed.append_loss(state, log, GapReason::SourceLost, now);
                        return None;
                    }
                    Some(_) => {}
                }
            }
            if !bus.budget().is_spent() {
                feed.append_pending_loss(state, log, now);
            }
            let position = log.history.next();
            let event = state.event(bus.id_at(position), position, (Some(kind), key), payload, now);
            log.sequence.mix();
            let event = Event { tail: Some(tail.into()), is_placed_here: true, ..event };
            Some(feed.append(state, log, event, charge, now))
        })
    }

    /// As [`Feed::publish`], unless an event was published to `topic` under `key` within the window. Then nothing is delivered,
    /// and the first event's id is returned.
    pub fn publish_once(
        &mut self,
        key: &str,
        topic: &Topic,
        kind: Option<&str>,
        payload: impl Into<Payload>,
        now: Moment,
    ) -> Result<EventId, PublishRefused> {
        let mut seen = self.bus.idempotency_keys.lock(topic, key);
        if let Some(id) = seen.find(now) {
            return Ok(id);
        }
        let id = self.publish(topic, kind, payload, now)?;
        seen.insert(id, now);
        Ok(id)
    }

    /// Appends an event with its broker's id. False: the id is not newer than the newest one, so the event is here already.
    pub fn publish_as(
        &mut self,
        topic: &Topic,
        id: EventId,
        kind: Option<&str>,
        payload: impl Into<Payload>,
        now: Moment,
    ) -> Result<bool, PublishRefused> {
        let payload = payload.into();
        self.bus.check(kind, &payload.data)?;
        let charge = self.charge(Event::least_weight_bytes(kind, &payload.data))?;
        let key_of = |state: &TopicState, payload: &Payload| state.key_of(kind, payload, None);
        self.with_room(topic, payload, key_of, |feed, state, log, (payload, key)| {
            log.begin_at(id.before(), state);
            if id <= log.history.newest_id() {
                return false;
            }
            let event = state.event(id, log.history.next(), (kind, key), payload, now);
            feed.append(state, log, event, charge, now);
            true
        })
    }

    /// Reports that events of `topic` may be missing from here on, for `reason`: every reader gets a gap, in order. Of reports at
    /// the same moment, with no event between them, the first stands for all; a later one makes a gap of its own, because readers
    /// may have passed the earlier one. While there is no room ([`GapReason::Overflow`]), each event would leave a hole that
    /// takes room: then the second report is kept until there is room, and stands for those that follow. No effect on a log that
    /// a broker keeps: its holes have the broker's ids ([`Feed::report_gap`]).
    pub fn report_loss(&mut self, topic: &Topic, reason: GapReason, now: Moment) {
        // Otherwise a sender whose events have no room could have any number of topics made.
        if self.bus.budget().is_spent() && !self.bus.has_topic(topic) {
            if self.bus.log_kind(topic) == LogKind::Memory {
                self.bus.losses.fetch_add(1, Ordering::Relaxed);
                self.bus.skip_position(topic);
            }
            return;
        }
        self.with_log(topic, |feed, state, log| {
            if is_hub_command(topic) || state.class.log != LogKind::Memory {
                return;
            }
            feed.bus.losses.fetch_add(1, Ordering::Relaxed);
            log.sequence.interrupt();
            let newest = log.history.event(log.history.next() - 1);
            let (accepted, gap) = (newest.map(|event| event.accepted), newest.and_then(|event| event.gap));
            if gap.is_none_or(|gap| gap.reason != reason) || (reason != GapReason::Overflow && accepted != Some(now)) {
                feed.append_loss(state, log, reason, now);
            } else if reason == GapReason::Overflow {
                log.has_pending_loss = true;
            }
        });
    }

    /// Reports the losses for want of room since the last hole, if any.
    pub(super) fn report_pending_loss(&mut self, topic: &Topic, now: Moment) {
        self.with_log(topic, |feed, state, log| feed.append_pending_loss(state, log, now));
    }

    fn append_pending_loss(&mut self, state: &Arc<TopicState>, log: &mut TopicLog, now: Moment) {
        if std::mem::take(&mut log.has_pending_loss) {
            self.append_loss(state, log, GapReason::Overflow, now);
        }
    }

    fn append_loss(&mut self, state: &Arc<TopicState>, log: &mut TopicLog, reason: GapReason, now: Moment) {
        let gap = Gap { from: log.history.newest_id(), to: self.bus.id_at(log.history.next()), reason };
        self.append_hole(state, log, gap, false, now);
    }

    /// Reports that the broker does not have the events of `gap` any more, or cannot deliver them. No effect if the end of `gap`
    /// is not newer than the newest event.
    pub fn report_gap(&mut self, topic: &Topic, gap: Gap, now: Moment) {
        self.report_gap_of(topic, gap, false, now);
    }

    /// The same of a gap that stands in the broker's log. `is_carried`: a bridge has brought it there.
    pub(crate) fn report_gap_of(&mut self, topic: &Topic, gap: Gap, is_carried: bool, now: Moment) {
        self.bus.losses.fetch_add(1, Ordering::Relaxed);
        self.with_log(topic, |feed, state, log| {
            log.begin_at(gap.from, state);
            if log.history.newest_id() < gap.to {
                feed.append_hole(state, log, gap, is_carried, now);
            }
        });
    }

    /// The broker's log of `topic` was lost or replaced while it had readers. The log here begins again after `floor`, whatever
    /// its ids were, and readers get a gap `epoch`.
    pub fn restart_log(&mut self, topic: &Topic, floor: EventId, now: Moment) {
        self.bus.losses.fetch_add(1, Ordering::Relaxed);
        self.with_log(topic, |feed, state, log| {
            let gap = Gap { from: log.history.newest_id(), to: floor, reason: GapReason::Epoch };
            feed.append_hole(state, log, gap, false, now);
        });
    }

    /// Charges an event to the memory budget before its topic is made, so that a refusal leaves nothing behind.
    fn charge(&self, bytes: usize) -> Result<Charge, PublishRefused> {
        Ok(self.bus.budget().try_charge_for(self.owner.as_ref(), bytes)?)
    }

    fn append(
        &mut self,
        state: &Arc<TopicState>,
        log: &mut TopicLog,
        event: Event,
        charge: Charge,
        now: Moment,
    ) -> EventId {
        // The key is a part of the payload or the type, and the event has been admitted.
        charge.grow(event.key.as_ref().map_or(0, |key| key.len()));
        self.bus.received.fetch_add(1, Ordering::Relaxed);
        if event.kind.as_deref().is_some_and(|kind| is_word_of_sse(kind) || is_word_of_socket_io(kind)) {
            self.bus.reserved_kinds.fetch_add(1, Ordering::Relaxed);
        }
        let id = event.id;
        self.push(state, log, Event { charge, ..event }, now);
        id
    }

    /// A hole is not refused for want of room, but two events never have more than one between them.
    fn append_hole(&mut self, state: &Arc<TopicState>, log: &mut TopicLog, gap: Gap, is_carried: bool, now: Moment) {
        log.sequence.interrupt();
        let hole = Event { is_carried, ..Event::hole(state.topic.clone(), gap, log.history.next(), now) };
        let charge = self.bus.budget().charge(hole.weight_bytes());
        self.push(state, log, Event { charge, ..hole }, now);
    }

    fn push(&mut self, state: &Arc<TopicState>, log: &mut TopicLog, event: Event, now: Moment) {
        let event = Arc::new(event);
        log.history.push(Arc::clone(&event));
        log.history.trim_within(&state.class.retention, self.bus.budget(), now);
        self.bus.count_log(log);
        self.deliver(state, log, &event);
    }

    /// Calls `act` under the lock of `topic`.
    fn with_log<T>(&mut self, topic: &Topic, act: impl FnOnce(&mut Self, &Arc<TopicState>, &mut TopicLog) -> T) -> T {
        loop {
            let state = self.take_last(topic).unwrap_or_else(|| self.bus.state(topic));
            let mut log = lock(&state.log);
            if !log.retired {
                let outcome = act(self, &state, &mut log);
                drop(log);
                self.last = Some(state);
                return outcome;
            }
        }
    }

    /// As [`Feed::with_log`], for an event with this `payload`; refuses to make a topic for which there is no room. `key_of`
    /// takes long, so it runs before the lock is taken, and again if the topic ends meanwhile.
    fn with_room<T>(
        &mut self,
        topic: &Topic,
        payload: Payload,
        key_of: impl Fn(&TopicState, &Payload) -> Option<Box<str>>,
        act: impl FnOnce(&mut Self, &Arc<TopicState>, &mut TopicLog, (Payload, Option<Box<str>>)) -> T,
    ) -> Result<T, PublishRefused> {
        loop {
            let state = match self.take_last(topic) {
                Some(state) => state,
                None => self.bus.try_state(topic, self.owner.as_ref())?,
            };
            let key = key_of(&state, &payload);
            let mut log = lock(&state.log);
            if !log.retired {
                let outcome = act(self, &state, &mut log, (payload, key));
                drop(log);
                self.last = Some(state);
                return Ok(outcome);
            }
        }
    }

    /// Hands the event to the reactors under the topic's lock, so that every inbox has the same order.
    fn deliver(&mut self, state: &Arc<TopicState>, log: &mut TopicLog, event: &Arc<Event>) {
        for reactor in log.interest.iter() {
            if log.resync.contains(reactor) {
                continue;
            }
            let inbox = &self.bus.inboxes[reactor];
            if !inbox.put_event(EventMessage { key: state.key, event: Arc::clone(event) }) {
                log.resync.insert(reactor);
                inbox.put_resync(Arc::clone(state));
                self.bus.resyncs.fetch_add(1, Ordering::Relaxed);
            }
            self.to_wake.insert(reactor);
        }
        if let Some(follower) = &self.bus.follower {
            self.wakes_follower |= follower.take(self.bus, state, log, event);
        }
    }

    /// The topic of the last event, if it is `topic`.
    fn take_last(&mut self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.last.take_if(|state| state.topic == *topic)
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        if let Some(inbox) = self.bus.follower_inbox().filter(|_| self.wakes_follower) {
            inbox.notifier().notify();
        }
        for reactor in self.to_wake.iter() {
            if self.bus.inboxes[reactor].notifier().notify() {
                self.bus.wakeups.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Why the bus refused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    /// The payload is not UTF-8: text transports could not carry it.
    NotUtf8,
    /// The payload is larger than [`super::Config::payload_bytes_max`].
    TooBig,
    /// The type contains a line break or NUL.
    BadKind,
    /// The memory budget is spent.
    NoRoom,
    /// The publisher has used up a quota.
    Quota(QuotaRefused),
}

impl From<ChargeRefused> for PublishRefused {
    fn from(refused: ChargeRefused) -> Self {
        match refused {
            ChargeRefused::NoRoom => Self::NoRoom,
            ChargeRefused::Quota(refused) => Self::Quota(refused),
        }
    }
}
