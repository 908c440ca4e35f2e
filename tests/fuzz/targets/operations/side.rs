//! A reactor's side: its copies of the logs, the laps over their listeners, and what these have got. It does what
//! `src/hub/reactor` does, without connections.

use std::sync::Arc;

use fanfare::bus::{Bus, LogSnapshot, TopicState};
use fanfare_core::{
    clock::Moment,
    event::{Event, Position, Start},
    frame::Format,
    index::{Slot, SubscriberIndex, SubscriptionIndex},
    log::{MovedSubscriber, Ring, Subscriber, SubscriberRing},
    topic::Topic,
};

use super::{
    TOPICS,
    truth::{self, Truth},
};

pub(super) struct Side {
    pub(super) index: usize,
    topics: [Option<Local>; TOPICS],
}

/// A topic with listeners here.
struct Local {
    topic: usize,
    state: Arc<TopicState>,
    ring: Ring,
    lap: SubscriberRing,
    /// By the slot of their listeners.
    readers: Vec<Option<Reader>>,
}

/// Who listens.
#[derive(Clone, Copy)]
struct Reader {
    /// Of its subscriber in the lap.
    subscriber: SubscriberIndex,
    /// The position of the entry it is owed next.
    due: Position,
    /// Takes nothing at present.
    is_blocked: bool,
}

/// More listeners tell nothing new.
const READERS_MAX: usize = 12;

impl Side {
    pub(super) fn new(index: usize) -> Self {
        Self { index, topics: [const { None }; TOPICS] }
    }

    pub(super) fn listens_to(&self, topic: usize) -> bool {
        self.topics[topic].is_some()
    }

    pub(super) fn subscribe(
        &mut self,
        bus: &Bus,
        truths: &[Truth],
        topic: usize,
        name: &Topic,
        start: Start,
        now: Moment,
    ) {
        let index = self.index;
        let local = self.topics[topic].get_or_insert_with(|| Local::new(topic, bus.attach(name, index), truths));
        if READERS_MAX <= local.lap.len() {
            return;
        }
        if let Start::After(seen) = start
            && local.ring.may_hold(seen)
            && local.ring.newest_id() < seen
        {
            let missed = bus.resync(&local.state, index, local.ring.next());
            local.take_missed(missed, &truths[topic], now);
        }
        local.add_reader(&truths[topic], start, now);
    }

    pub(super) fn unsubscribe(&mut self, bus: &Bus, topic: usize, choice: usize) {
        let Some(local) = &mut self.topics[topic] else { return };
        local.remove_reader(choice);
        if local.lap.is_empty() {
            bus.detach(&local.state, self.index);
            self.topics[topic] = None;
        }
    }

    /// Up to `count` events and then, as every turn does, all resyncs.
    pub(super) fn take_inbox(&mut self, bus: &Bus, truths: &[Truth], count: usize, now: Moment) {
        let inbox = bus.inbox(self.index);
        for _ in 0..count {
            let Some(message) = inbox.next_event() else { break };
            if let Some(local) = self.topics.iter_mut().flatten().find(|local| local.state.key == message.key) {
                local.take(message.event, now);
            }
        }
        for state in inbox.take_resync() {
            if let Some(local) = self.topics.iter_mut().flatten().find(|local| local.state.key == state.key) {
                let missed = bus.resync(&state, self.index, local.ring.next());
                local.take_missed(missed, &truths[local.topic], now);
            }
        }
        self.topics.iter().flatten().for_each(|local| local.check(&truths[local.topic], now));
    }

    /// A slice of the lap.
    pub(super) fn visit(&mut self, truths: &[Truth], topic: usize, count: usize, now: Moment) {
        let Some(local) = &mut self.topics[topic] else { return };
        let slots: Vec<Slot> = local.lap.take(count).iter().map(|subscriber| subscriber.slot).collect();
        slots.into_iter().for_each(|slot| local.serve(slot.get(), &truths[topic], now));
        if !local.lap.is_pending() {
            local.check_all_served();
        }
    }

    /// One reader stops or goes on; one that goes on gets what it is owed.
    pub(super) fn toggle_reader(&mut self, truths: &[Truth], topic: usize, choice: usize, now: Moment) {
        let Some(local) = &mut self.topics[topic] else { return };
        let slot = local.lap.all()[choice % local.lap.len()].slot.get();
        if let Some(reader) = &mut local.readers[slot] {
            reader.is_blocked = !reader.is_blocked;
        }
        local.serve(slot, &truths[topic], now);
    }

    /// The inbox is empty: everybody goes on and must come to the end.
    pub(super) fn check_at_end(&mut self, truths: &[Truth], now: Moment) {
        for local in self.topics.iter_mut().flatten() {
            let truth = &truths[local.topic];
            assert_eq!(local.ring.next(), truth.next(), "the log here is the topic's");
            local.readers.iter_mut().flatten().for_each(|reader| reader.is_blocked = false);
            (0..local.readers.len()).for_each(|slot| local.serve(slot, truth, now));
            assert!(local.readers.iter().flatten().all(|reader| reader.due == truth.next()));
        }
    }
}

impl Local {
    fn new(topic: usize, snapshot: LogSnapshot, truths: &[Truth]) -> Self {
        let LogSnapshot { state, events, next, floor, .. } = snapshot;
        let oldest = next - events.len() as Position;
        assert_eq!((oldest, next), (truths[topic].oldest(), truths[topic].next()), "what the bus has is attached");
        let mut ring = Ring::new(oldest, floor);
        events.into_iter().for_each(|event| ring.push(event));
        Self { topic, state, ring, lap: SubscriberRing::new(), readers: Vec::new() }
    }

    /// What a resync has brought already is passed over. EventMessage leaves nothing out.
    fn take(&mut self, event: Arc<Event>, now: Moment) {
        if event.position < self.ring.next() {
            return;
        }
        assert_eq!(event.position, self.ring.next(), "an inbox leaves nothing out");
        self.push(event, now);
    }

    /// What did not fit into the inbox. Left out may be only what was too much for the history before it could be copied.
    fn take_missed(&mut self, missed: LogSnapshot, truth: &Truth, now: Moment) {
        let from = missed.next - missed.events.len() as Position;
        let is_owed = |position| truth.may_stay(position, truth.next(), now);
        assert!(!(self.ring.next()..from).any(is_owed), "left out although the retention covers it");
        assert_eq!(missed.next, truth.next(), "a resync brings the log up to the topic's");
        missed.events.into_iter().for_each(|event| self.push(event, now));
        self.ring.skip_to(missed.next, missed.floor);
        self.lap.extend();
    }

    fn push(&mut self, event: Arc<Event>, now: Moment) {
        self.ring.push(event);
        self.ring.trim(&self.state.class.retention, now);
        self.lap.extend();
    }

    fn add_reader(&mut self, truth: &Truth, start: Start, now: Moment) {
        let (oldest, next) = (self.ring.oldest(), self.ring.next());
        let placed = self.ring.start_position(start, &self.state.class.retention.history, now);
        assert_eq!(placed, truth.place(start, oldest, next, now), "{start:?} in {oldest}..{next}");
        let due = placed.unwrap_or(oldest);
        let free = self.readers.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.readers.len());
        let subscriber = Subscriber {
            slot: Slot::new(slot),
            subscription: SubscriptionIndex::new(0),
            format: Format::WebSocketRaw.into(),
            cursor: due,
        };
        let reader = Reader { subscriber: self.lap.add(subscriber), due, is_blocked: false };
        match free {
            Some(slot) => self.readers[slot] = Some(reader),
            None => self.readers.push(Some(reader)),
        }
        // Its own connection brings it to the head.
        self.serve(slot, truth, now);
    }

    fn remove_reader(&mut self, choice: usize) {
        let slot = self.lap.all()[choice % self.lap.len()].slot.get();
        let Some(reader) = self.readers[slot].take() else { panic!("a subscriber without a reader") };
        if let Some(MovedSubscriber { slot, subscriber, .. }) = self.lap.remove(reader.subscriber)
            && let Some(moved) = &mut self.readers[slot.get()]
        {
            moved.subscriber = subscriber;
        }
    }

    /// Gives a reader what it is owed; or tells it of the hole, if the log has passed it, and then gives it the rest.
    fn serve(&mut self, slot: usize, truth: &Truth, now: Moment) {
        let Some(reader) = self.readers[slot].as_mut().filter(|reader| !reader.is_blocked) else { return };
        let subscriber = self.lap.at(reader.subscriber);
        assert_eq!(
            (subscriber.slot.get(), subscriber.cursor),
            (slot, reader.due),
            "a subscriber is where its reader is"
        );
        let oldest = self.ring.oldest();
        if reader.due < oldest {
            let is_owed = |position| truth.may_stay(position, self.ring.next(), now);
            assert!(!(reader.due..oldest).any(is_owed), "forgotten although the retention covers it");
            assert_eq!(self.ring.id_before(reader.due), truth::id(reader.due - 1));
            assert_eq!(self.ring.floor(), truth::id(oldest - 1));
            reader.due = oldest;
        }
        for event in self.ring.events_from(reader.due) {
            assert_eq!(event.position, reader.due, "in order, each once");
            truth.check_entry(event);
            reader.due += 1;
        }
        subscriber.cursor = reader.due;
    }

    /// A lap that is over has brought everybody to the head.
    fn check_all_served(&self) {
        for reader in self.readers.iter().flatten().filter(|reader| !reader.is_blocked) {
            assert_eq!(reader.due, self.ring.next(), "the lap has left somebody behind");
        }
    }

    fn check(&self, truth: &Truth, now: Moment) {
        let (oldest, next) = (self.ring.oldest(), self.ring.next());
        assert!(self.ring.events_from(0).map(|event| event.position).eq(oldest..next), "positions are dense");
        assert!((1..oldest).next_back().is_none_or(|passed| !truth.may_stay(passed, next, now)));
        let retention = &self.state.class.retention;
        assert!(self.ring.len() <= retention.history.count.max(retention.lag.count), "no longer than it may be");
    }
}
