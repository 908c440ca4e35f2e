//! What really happened to a topic, and what may be forgotten of it, computed from the whole each time.

use fanfare_core::{
    clock::Moment,
    event::{Event, EventId, Position, Start},
    gap::{Gap, GapReason},
    log::{Bounds, Retention},
};

use super::super::hub::EPOCH;

/// All entries there have ever been; the first has position 1.
pub(super) struct Truth {
    entries: Vec<Entry>,
    retention: Retention,
    /// The oldest position that the bus still has.
    oldest: Position,
    /// Something was lost behind a hole that is the newest entry.
    has_lost: bool,
    /// Whether the bus has it in its table.
    pub(super) exists: bool,
}

struct Entry {
    gap: Option<Gap>,
    accepted: Moment,
    weight: usize,
}

/// The id at `position`, in every topic.
pub(super) fn id(position: Position) -> EventId {
    EventId::new(EPOCH, position)
}

impl Truth {
    pub(super) fn new(retention: Retention) -> Self {
        Self { entries: Vec::new(), retention, oldest: 1, has_lost: false, exists: false }
    }

    /// The position that the next entry gets.
    pub(super) fn next(&self) -> Position {
        self.entries.len() as Position + 1
    }

    pub(super) fn oldest(&self) -> Position {
        self.oldest
    }

    pub(super) fn push(&mut self, gap: Option<Gap>, now: Moment) {
        let entry = Entry { gap, accepted: now, weight: self.weigh(gap) };
        self.entries.push(entry);
        self.exists = true;
        self.trim(now);
    }

    /// The weight itself is not under test.
    fn weigh(&self, gap: Option<Gap>) -> usize {
        let topic = || fanfare_core::topic::Topic::parse("t").expect("a good name");
        let position = self.next();
        match gap {
            Some(gap) => Event::hole(topic(), gap, position, Moment(0)).weight_bytes(),
            None => {
                Event::new(topic(), id(position), position, None, bytes::Bytes::from(position.to_string()), Moment(0))
                    .weight_bytes()
            }
        }
    }

    /// A hole that was reported at the same moment and is the newest entry known already says so. Where there is no room,
    /// the next to be published does, or the next sweep.
    pub(super) fn report_loss(&mut self, reason: GapReason, now: Moment) {
        self.exists = true;
        let newest = self.entries.last().filter(|_| self.oldest < self.next());
        let known = newest.filter(|entry| entry.gap.is_some_and(|gap| gap.reason == reason));
        match (known, reason) {
            (Some(_), GapReason::Overflow) => self.has_lost = true,
            (Some(known), _) if known.accepted == now => {}
            _ => self.push_hole(reason, now),
        }
    }

    fn push_hole(&mut self, reason: GapReason, now: Moment) {
        let position = self.next();
        self.push(Some(Gap { from: id(position - 1), to: id(position), reason }), now);
    }

    /// What was lost since the last hole is told.
    pub(super) fn settle_lost(&mut self, now: Moment) {
        if std::mem::take(&mut self.has_lost) {
            self.push_hole(GapReason::Overflow, now);
        }
    }

    pub(super) fn sweep(&mut self, is_used: bool, now: Moment) {
        if self.exists {
            self.trim(now);
            let had_lost = self.has_lost;
            self.settle_lost(now);
            self.exists = had_lost || is_used || self.oldest < self.next();
        }
    }

    fn trim(&mut self, now: Moment) {
        while self.oldest < self.next() && !self.may_stay(self.oldest, self.next(), now) {
            self.oldest += 1;
        }
    }

    /// Whether the entry at `position` is to be retained by who knows all up to `next`.
    pub(super) fn may_stay(&self, position: Position, next: Position, now: Moment) -> bool {
        let covers = |bounds: &Bounds| self.covers(bounds, position, next, now);
        covers(&self.retention.history) || covers(&self.retention.lag)
    }

    fn covers(&self, bounds: &Bounds, position: Position, next: Position, now: Moment) -> bool {
        let entries = &self.entries[position as usize - 1..next as usize - 1];
        let bytes: usize = entries.iter().map(|entry| entry.weight).sum();
        entries.len() <= bounds.count && bytes <= bounds.bytes && now.since(entries[0].accepted) <= bounds.age
    }

    /// Where a subscription begins at a log that holds `oldest..next`, or the hole ahead of it.
    pub(super) fn place(&self, start: Start, oldest: Position, next: Position, now: Moment) -> Result<Position, Gap> {
        let first = || {
            let is_shown = |position: &Position| self.covers(&self.retention.history, *position, next, now);
            (oldest..next).find(is_shown).unwrap_or(next)
        };
        match start {
            Start::Live => Ok(next),
            Start::First if self.retention.history.count == 0 => Ok(next),
            Start::First if oldest == 1 => Ok(1),
            Start::First => Err(Gap { from: EventId::default(), to: id(oldest - 1), reason: GapReason::Expired }),
            Start::Last(count) => Ok(first().max(next.saturating_sub(count as Position))),
            Start::After(seen) if (id(oldest - 1)..id(next)).contains(&seen) => Ok(seen.minor + 1),
            Start::After(seen) => {
                let is_trimmed = seen.major == EPOCH && seen < id(oldest);
                let reason = if is_trimmed { GapReason::Expired } else { GapReason::Epoch };
                Err(Gap { from: seen, to: id(oldest - 1), reason })
            }
        }
    }

    /// `event` is what was published at its position.
    pub(super) fn check_entry(&self, event: &Event) {
        let entry = &self.entries[event.position as usize - 1];
        assert_eq!((event.id, event.gap, event.accepted), (id(event.position), entry.gap, entry.accepted));
        if event.gap.is_none() {
            assert_eq!(event.text(), event.position.to_string());
        }
    }
}
