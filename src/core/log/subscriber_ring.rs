//! The subscribers of a topic, and the lap: the order in which a reactor visits them.
//!
//! Subscribers stand in a ring. A lap goes round it once, from wherever the last one stopped, so that none is always
//! last. A visit writes all that has come since the last one, and one that finds nothing to write costs a comparison, so
//! it never hurts to visit too often. Extending a lap under way makes it a full round from where it is.

use crate::{
    event::Position,
    frame::FormatCode,
    index::{GroupIndex, Slot, SubscriberIndex, SubscriptionIndex},
};

/// One subscription of one connection: a cursor into the topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The connection.
    pub slot: Slot,
    /// Which of the connection's subscriptions this is.
    pub subscription: SubscriptionIndex,
    /// The wire form it is served in.
    pub format: FormatCode,
    /// The position of the next event to write. Where the connection is written to from all its topics at once
    /// ([`FormatCode::is_several`]), the connection keeps its cursors together, and this is the index of its group.
    pub cursor: Position,
}

impl Subscriber {
    /// The group of its connection, if that is written to from all its topics at once.
    #[inline]
    pub fn group(&self) -> Option<GroupIndex> {
        self.format.is_several().then(|| GroupIndex::new(self.cursor as usize))
    }

    /// Its connection, which is in this group, keeps the cursor from now on.
    pub fn join(&mut self, group: GroupIndex) {
        self.format = self.format.several();
        self.cursor = group.get() as Position;
    }

    /// Takes the cursor back from its connection, which has left its group.
    pub fn leave(&mut self, cursor: Position) {
        self.format = self.format.format().into();
        self.cursor = cursor;
    }
}

/// The subscribers of a topic on one reactor, and how far the lap has come.
#[derive(Debug, Default)]
pub struct SubscriberRing {
    subscribers: Vec<Subscriber>,
    /// The subscriber the lap visits next.
    next: usize,
    /// How many visits the lap still owes.
    remaining: usize,
}

/// A subscriber whose index changed because another left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedSubscriber {
    /// Its connection.
    pub slot: Slot,
    /// Which of the connection's subscriptions.
    pub subscription: SubscriptionIndex,
    /// Its index from now on.
    pub subscriber: SubscriberIndex,
}

impl SubscriberRing {
    /// No subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many subscribers there are.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Adds a subscriber and returns its index. It is at the head or brought there by its own connection, so a lap
    /// under way need not reach it.
    pub fn add(&mut self, subscriber: Subscriber) -> SubscriberIndex {
        self.subscribers.push(subscriber);
        if 0 < self.remaining {
            // It may stand between the lap and those it has yet to visit.
            self.remaining += 1;
        }
        SubscriberIndex::new(self.subscribers.len() - 1)
    }

    /// Removes the subscriber at `index`; the last one takes its index.
    pub fn remove(&mut self, index: SubscriberIndex) -> Option<MovedSubscriber> {
        self.subscribers.swap_remove(index.get());
        if 0 < self.remaining {
            // The one that moved may have come to an index the lap has passed: go once round again.
            self.remaining = self.subscribers.len();
        }
        if self.subscribers.len() <= self.next {
            self.next = 0;
        }
        let moved = self.subscribers.get(index.get())?;
        Some(MovedSubscriber { slot: moved.slot, subscription: moved.subscription, subscriber: index })
    }

    /// The subscriber at `index`.
    #[inline]
    pub fn at(&mut self, index: SubscriberIndex) -> &mut Subscriber {
        &mut self.subscribers[index.get()]
    }

    /// All subscribers, by index.
    pub fn all(&self) -> &[Subscriber] {
        &self.subscribers
    }

    /// News: every subscriber is to be visited once from here.
    pub fn extend(&mut self) {
        self.remaining = self.subscribers.len();
    }

    /// Whether visits are owed.
    pub fn is_pending(&self) -> bool {
        0 < self.remaining
    }

    /// The subscribers to visit now, at most `count`, as far as they stand in one piece: the lap has passed them then, so
    /// each must be visited.
    #[inline]
    pub fn take(&mut self, count: usize) -> &mut [Subscriber] {
        let from = self.next;
        let until = self.subscribers.len().min(from + count.min(self.remaining));
        self.remaining -= until - from;
        self.next = if until == self.subscribers.len() { 0 } else { until };
        &mut self.subscribers[from..until]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Format;

    fn lap(count: usize) -> SubscriberRing {
        let mut lap = SubscriberRing::new();
        for slot in 0..count {
            lap.add(Subscriber {
                slot: Slot::new(slot),
                subscription: SubscriptionIndex::new(0),
                format: Format::WebSocketRaw.into(),
                cursor: 1,
            });
        }
        lap
    }

    fn visits(lap: &mut SubscriberRing, count: usize) -> Vec<usize> {
        let mut slots = Vec::new();
        while slots.len() < count {
            let taken = lap.take(count - slots.len());
            if taken.is_empty() {
                break;
            }
            slots.extend(taken.iter().map(|subscriber| subscriber.slot.get()));
        }
        slots
    }

    #[test]
    fn goes_round_from_where_it_stopped() {
        let mut lap = lap(4);
        assert!(visits(&mut lap, 9).is_empty());
        lap.extend();
        assert_eq!(visits(&mut lap, 2), [0, 1]);
        lap.extend();
        assert_eq!(visits(&mut lap, 9), [2, 3, 0, 1]);
        lap.extend();
        assert_eq!(visits(&mut lap, 9), [2, 3, 0, 1]);
    }

    #[test]
    fn a_leaving_listener_costs_nobody_a_visit() {
        for leaves in 0..5 {
            for after in 0..5 {
                let mut lap = lap(5);
                lap.extend();
                let mut seen = visits(&mut lap, after);
                lap.remove(SubscriberIndex::new(leaves));
                seen.extend(visits(&mut lap, 99));
                for slot in (0..5).filter(|slot| *slot != leaves) {
                    assert!(seen.contains(&slot), "{slot} after {leaves} left at {after}: {seen:?}");
                }
            }
        }
    }

    #[test]
    fn an_arriving_listener_costs_nobody_a_visit() {
        for after in 0..5 {
            for later in 0..5 {
                let mut lap = lap(5);
                lap.extend();
                visits(&mut lap, after);
                lap.extend();
                let mut seen = visits(&mut lap, later);
                lap.add(Subscriber {
                    slot: Slot::new(5),
                    subscription: SubscriptionIndex::new(0),
                    format: Format::WebSocketRaw.into(),
                    cursor: 1,
                });
                seen.extend(visits(&mut lap, 99));
                for slot in 0..5 {
                    assert!(
                        seen.contains(&slot),
                        "{slot}, visited {after}, extended, {later}, then one came: {seen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn tells_who_moved() {
        let mut lap = lap(3);
        let first = SubscriberIndex::new(0);
        let moved = MovedSubscriber { slot: Slot::new(2), subscription: SubscriptionIndex::new(0), subscriber: first };
        assert_eq!(lap.remove(first), Some(moved));
        assert_eq!(lap.remove(SubscriberIndex::new(1)), None);
        assert_eq!(lap.remove(first), None);
        assert!(lap.is_empty());
        lap.extend();
        assert!(lap.take(1).is_empty());
        for expected in 0..3 {
            let subscriber = Subscriber {
                slot: Slot::new(9),
                subscription: SubscriptionIndex::new(0),
                format: Format::WebSocketRaw.into(),
                cursor: 1,
            };
            assert_eq!(lap.add(subscriber), SubscriberIndex::new(expected));
            assert!(!lap.is_empty() && lap.len() == expected + 1 && lap.all().len() == lap.len());
        }
        assert!(!lap.is_pending());
        lap.extend();
        assert!(lap.is_pending());
        lap.take(2);
        assert!(lap.is_pending());
        lap.take(1);
        assert!(!lap.is_pending());
        let subscriber = lap.at(first);
        assert_eq!(subscriber.group(), None);
        subscriber.join(GroupIndex::new(5));
        assert_eq!(subscriber.group(), Some(GroupIndex::new(5)));
        subscriber.leave(7);
        assert_eq!((subscriber.group(), subscriber.cursor), (None, 7));
    }
}
