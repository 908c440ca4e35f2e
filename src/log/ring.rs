//! The ring: a topic's retained events, oldest first, bounded by count, bytes and age.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    clock::Moment,
    event::{Event, EventId, Position},
};

/// How much of a log is kept. All three hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At most so many events.
    pub count: usize,
    /// At most so many bytes, by [`Event::weight_bytes`].
    pub bytes: usize,
    /// None older than this.
    pub age: Duration,
}

/// What a topic retains: an event stays while either bound still covers it.
///
/// The two differ in purpose. `history` is what a newcomer may ask for. `lag` is how far a connected reader may fall
/// behind before the policy speaks: without it, a burst longer than a short history would cut off every reader before
/// the first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What is kept for replay.
    pub history: Bounds,
    /// What is kept for readers that are behind.
    pub lag: Bounds,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            history: Bounds { count: 100, bytes: 1 << 20, age: Duration::from_secs(300) },
            lag: Bounds { count: 16_384, bytes: 8 << 20, age: Duration::from_secs(30) },
        }
    }
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    #[default]
    Live,
    /// With the oldest event retained.
    First,
    /// With the newest `n` events.
    Last(usize),
    /// With the event that follows this one.
    After(EventId),
}

/// A topic's retained events. Positions are dense: the event at the back has position `next - 1`.
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<Entry>,
    next: Position,
    /// What all events ever pushed weigh together, in bytes.
    pushed_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    /// [`Ring::pushed_bytes`] before this event: what lies between two events is a subtraction.
    before_bytes: usize,
}

impl Ring {
    /// An empty ring whose first event will have position `next`.
    pub fn new(next: Position) -> Self {
        Self { entries: VecDeque::new(), next, pushed_bytes: 0 }
    }

    /// The position of the oldest event retained; [`Ring::next`] if there is none.
    pub fn oldest(&self) -> Position {
        self.next - self.entries.len() as Position
    }

    /// The position the next event will have: where a cursor at the head stands.
    #[inline]
    pub fn next(&self) -> Position {
        self.next
    }

    /// How many events are retained.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no event is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The weight of all that is retained.
    pub fn bytes(&self) -> usize {
        self.entries.front().map_or(0, |oldest| self.weight_from(oldest))
    }

    /// The event at `position`, if it is retained.
    #[inline]
    pub fn event(&self, position: Position) -> Option<&Arc<Event>> {
        let place = position.checked_sub(self.oldest())?;
        self.entries.get(usize::try_from(place).ok()?).map(|entry| &entry.event)
    }

    /// The id of the newest event, if one is retained.
    pub fn newest_id(&self) -> Option<EventId> {
        self.entries.back().map(|entry| entry.event.id)
    }

    /// The retained events from `position` on, oldest first.
    pub fn events_from(&self, position: Position) -> impl Iterator<Item = &Arc<Event>> {
        let skip = position.saturating_sub(self.oldest());
        self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).map(|entry| &entry.event)
    }

    /// Appends the event that follows. An event that leaves a hole empties the ring first: nothing retained may ever be
    /// mistaken for a whole.
    pub fn push(&mut self, event: Arc<Event>) {
        debug_assert!(self.next <= event.position, "positions never go back");
        if event.position != self.next {
            self.entries.clear();
        }
        self.next = event.position + 1;
        let before_bytes = self.pushed_bytes;
        self.pushed_bytes += event.weight_bytes();
        self.entries.push_back(Entry { event, before_bytes });
    }

    /// Drops from the old end what neither bound of `retention` covers.
    pub fn trim(&mut self, retention: &Retention, now: Moment) {
        while let Some(oldest) = self.entries.front() {
            let age = now.since(oldest.event.accepted);
            if self.fits(&retention.history, age) || self.fits(&retention.lag, age) {
                break;
            }
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn fits(&self, bounds: &Bounds, age: Duration) -> bool {
        self.len() <= bounds.count && self.bytes() <= bounds.bytes && age <= bounds.age
    }

    /// The oldest position that `history` covers `now`: where a newcomer that wants everything begins. What is retained
    /// beyond it is there for those who are behind.
    pub fn history_from(&self, history: &Bounds, now: Moment) -> Position {
        let beyond_count = self.len().saturating_sub(history.count);
        let beyond_bytes = self.entries.partition_point(|entry| history.bytes < self.weight_from(entry));
        let beyond_age = self.entries.partition_point(|entry| history.age < now.since(entry.event.accepted));
        self.oldest() + beyond_count.max(beyond_bytes).max(beyond_age) as Position
    }

    /// The position at which a subscription that wants `start` begins. One that goes on after an event it has seen gets
    /// all that is retained.
    pub fn place(&self, start: Start, history: &Bounds, now: Moment) -> Position {
        match start {
            Start::Live => self.next,
            Start::First => self.history_from(history, now),
            Start::Last(count) => self.history_from(history, now).max(self.next.saturating_sub(count as Position)),
            Start::After(id) => self.oldest() + self.entries.partition_point(|entry| entry.event.id <= id) as Position,
        }
    }

    /// The weight from this entry on.
    fn weight_from(&self, entry: &Entry) -> usize {
        self.pushed_bytes - entry.before_bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{frame::FrameCache, topic::Topic};

    fn event(position: Position, accepted_s: u64) -> Arc<Event> {
        Arc::new(Event {
            topic: Topic::parse("t").expect("a good name"),
            id: EventId { major: 7, minor: position },
            position,
            accepted: Moment(accepted_s * 1_000_000_000),
            kind: None,
            data: Bytes::from_static(b"0123456789"),
            frames: FrameCache::default(),
        })
    }

    fn filled(count: u64) -> Ring {
        let mut ring = Ring::new(1);
        (1..=count).for_each(|position| ring.push(event(position, position)));
        ring
    }

    fn bounds(count: usize, bytes: usize, age_s: u64) -> Bounds {
        Bounds { count, bytes, age: Duration::from_secs(age_s) }
    }

    #[test]
    fn trims_by_each_bound_and_the_wider_of_both() {
        let none = bounds(0, 0, 0);
        let weight = event(1, 0).weight_bytes();
        let check = |history: Bounds, lag: Bounds, expected_oldest: Position| {
            let mut ring = filled(10);
            ring.trim(&Retention { history, lag }, Moment(10_000_000_000));
            assert_eq!(ring.oldest(), expected_oldest, "{history:?} {lag:?}");
            assert_eq!(ring.bytes(), ring.len() * weight);
            assert_eq!(ring.next(), 11);
        };
        check(bounds(100, 1 << 20, 100), none, 1);
        check(bounds(3, 1 << 20, 100), none, 8);
        check(bounds(100, 4 * weight, 100), none, 7);
        check(bounds(100, 1 << 20, 2), none, 8);
        check(bounds(3, 1 << 20, 100), bounds(5, 1 << 20, 100), 6);
        check(none, none, 11);
    }

    #[test]
    fn places() {
        let ring = filled(10);
        let now = Moment(10_000_000_000);
        let wide = bounds(100, 1 << 20, 100);
        let check = |start: Start, expected: Position| assert_eq!(ring.place(start, &wide, now), expected, "{start:?}");
        check(Start::Live, 11);
        check(Start::First, 1);
        check(Start::Last(0), 11);
        check(Start::Last(3), 8);
        check(Start::Last(99), 1);
        check(Start::After(EventId { major: 7, minor: 4 }), 5);
        check(Start::After(EventId { major: 6, minor: 99 }), 1);
        check(Start::After(EventId { major: 8, minor: 0 }), 11);
        assert_eq!(Ring::new(5).place(Start::First, &wide, now), 5);
        let weight = event(1, 0).weight_bytes();
        let check = |history: Bounds, start: Start, expected: Position| {
            assert_eq!(ring.place(start, &history, now), expected, "{history:?} {start:?}");
        };
        check(bounds(3, 1 << 20, 100), Start::First, 8);
        check(bounds(100, 4 * weight, 100), Start::First, 7);
        check(bounds(100, 1 << 20, 2), Start::First, 8);
        check(bounds(0, 1 << 20, 100), Start::First, 11);
        check(bounds(3, 1 << 20, 100), Start::Last(5), 8);
        check(bounds(3, 1 << 20, 100), Start::Last(2), 9);
        check(bounds(3, 1 << 20, 100), Start::After(EventId { major: 7, minor: 4 }), 5);
    }

    #[test]
    fn a_hole_empties_the_ring() {
        let mut ring = filled(3);
        ring.push(event(7, 7));
        assert_eq!((ring.oldest(), ring.next(), ring.len()), (7, 8, 1));
        assert!(ring.event(3).is_none());
        assert_eq!(ring.event(7).map(|event| event.position), Some(7));
    }
}
