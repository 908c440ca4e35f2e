//! The ring: a topic's retained events, oldest first, bounded by count, bytes and age.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    budget::{Budget, Pressure},
    clock::Moment,
    event::{Event, EventId, Position, Start},
    fingerprint::Fingerprint,
    gap::{Gap, GapReason},
};

/// Bounds of what a log keeps. All three apply at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most events.
    pub count: usize,
    /// The most bytes, counted by [`Event::weight_bytes`].
    pub bytes: usize,
    /// The greatest age of an event.
    pub age: Duration,
}

impl Bounds {
    /// Whether nothing may be kept.
    pub fn is_none(&self) -> bool {
        self.count == 0 || self.bytes == 0 || self.age.is_zero()
    }
}

/// What a topic retains: an event is kept while `history` or `lag` covers it.
///
/// `history` is for new subscriptions: how far back they may ask for events. `lag` is for connected readers: how far one may be
/// behind before the topic's policy applies. Without `lag`, a burst longer than a short history would disconnect every reader
/// before the first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What is kept for replay.
    pub history: Bounds,
    /// What is kept for readers that are behind.
    pub lag: Bounds,
}

impl Retention {
    /// The retention to apply under `pressure`: shorter while the memory budget or the publisher's share is tight. Never shorter
    /// than a minimum of `lag`, so that publishers are refused before a reader that keeps up loses events.
    pub fn within(&self, pressure: Pressure) -> Self {
        if !pressure.is_tight() {
            return *self;
        }
        let shorten = |bounds: Bounds, least: usize, least_bytes: usize| Bounds {
            count: pressure.shorten(bounds.count).max(least.min(bounds.count)),
            bytes: pressure.shorten(bounds.bytes).max(least_bytes.min(bounds.bytes)),
            age: bounds.age,
        };
        Self { history: shorten(self.history, 0, 0), lag: shorten(self.lag, LAG_MIN, LAG_BYTES_MIN) }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            history: Bounds { count: 100, bytes: 1 << 20, age: Duration::from_secs(300) },
            lag: Bounds { count: 16_384, bytes: 8 << 20, age: Duration::from_secs(30) },
        }
    }
}

/// The least that [`Retention::within`] keeps for readers that are behind, in events and in bytes.
const LAG_MIN: usize = 64;
const LAG_BYTES_MIN: usize = 256 * 1024;

/// A topic's retained events. Positions are dense: the event at the back has position `next - 1`.
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<LogEntry>,
    next: Position,
    /// The id before the oldest retained event: a reader that has everything up to it misses nothing.
    floor: EventId,
    ids: Ids,
    /// The position of the newest change of epoch, 0 if there was none. Ids before it belong to another log.
    epoch: Position,
    /// When it was.
    epoch_at: Moment,
    /// The weight of all events ever pushed, in bytes.
    pushed_bytes: usize,
    /// Whether an event was pushed that other hubs may have elsewhere ([`Event::is_placed_here`]).
    is_mixed: bool,
}

/// How the ids of events that are no longer retained are found.
#[derive(Debug)]
enum Ids {
    /// The hub gives the ids: the minor part is the position.
    Dense,
    /// A broker gives the ids. `passed` has the ids of the newest events that are no longer retained, each with the position
    /// behind it, so that a gap can name the last id that a reader has.
    Sparse { passed: VecDeque<(Position, EventId)> },
}

/// The most ids in [`Ids::Sparse`].
const PASSED_MAX: usize = 16_384;

/// The most events among which another hub's event is looked for: the newest ones. It takes some 20 µs.
const LOOKED_AT_MAX: usize = 16_384;

#[derive(Debug)]
struct LogEntry {
    event: Arc<Event>,
    /// That of the event's id, at hand for a search.
    fingerprint: Option<Fingerprint>,
    /// [`Ring::pushed_bytes`] before this event, so that the bytes between two events are a subtraction.
    before_bytes: usize,
}

impl Ids {
    /// Records that the event before `position`, with this id, is no longer retained.
    fn pass(&mut self, position: Position, id: EventId) {
        let Self::Sparse { passed } = self else { return };
        if passed.back().is_some_and(|(last, _)| position <= *last) {
            return;
        }
        if passed.len() == PASSED_MAX {
            passed.pop_front();
        }
        passed.push_back((position, id));
    }
}

impl Ring {
    /// An empty ring. Its first event will have the position `next` and will be the first after the id `floor`.
    pub fn new(next: Position, floor: EventId) -> Self {
        Self {
            entries: VecDeque::new(),
            next,
            floor,
            ids: Ids::Dense,
            epoch: 0,
            epoch_at: Moment(0),
            pushed_bytes: 0,
            is_mixed: false,
        }
    }

    /// An empty ring for events whose ids a broker gives.
    pub fn sparse(next: Position, floor: EventId) -> Self {
        Self { ids: Ids::Sparse { passed: VecDeque::from([(next, floor)]) }, ..Self::new(next, floor) }
    }

    /// The id before the oldest retained event.
    pub fn floor(&self) -> EventId {
        self.floor
    }

    /// Drops all events and continues after `floor`. Positions continue.
    pub fn restart(&mut self, floor: EventId) {
        self.entries = VecDeque::new();
        self.floor = floor;
        if let Ids::Sparse { passed } = &mut self.ids {
            passed.clear();
            passed.push_back((self.next, floor));
        }
    }

    /// Drops all events before the position `next` and continues there, after `floor`. No effect if the ring is already past it.
    pub fn skip_to(&mut self, next: Position, floor: EventId) {
        if self.next < next {
            self.leap(next, floor);
        }
    }

    /// Drops all events and continues at `next`, after `floor`. The ids before the dropped events are kept.
    fn leap(&mut self, next: Position, floor: EventId) {
        while let Some(entry) = self.entries.pop_front() {
            self.ids.pass(entry.event.position + 1, entry.event.id);
        }
        self.ids.pass(next, floor);
        self.entries = VecDeque::new();
        (self.next, self.floor) = (next, floor);
    }

    /// The position of the oldest retained event; [`Ring::next`] if there is none.
    pub fn oldest(&self) -> Position {
        self.next - self.entries.len() as Position
    }

    /// The position that the next event will have, and of a cursor at the head.
    #[inline]
    pub fn next(&self) -> Position {
        self.next
    }

    /// The number of retained events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no event is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The weight of all retained events, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.front().map_or(0, |oldest| self.weight_from(oldest))
    }

    /// The event at `position`, if it is retained.
    #[inline]
    pub fn event(&self, position: Position) -> Option<&Arc<Event>> {
        let place = position.checked_sub(self.oldest())?;
        self.entries.get(usize::try_from(place).ok()?).map(|entry| &entry.event)
    }

    /// The id of the newest event pushed, retained or not.
    pub fn newest_id(&self) -> EventId {
        self.entries.back().map_or(self.floor, |entry| entry.event.id)
    }

    /// The id of the event before `position`, retained or not. `0-0` if it is no longer known. At a change of epoch it is the
    /// last id of the former log, because a cursor there has not received the change yet.
    pub fn id_before(&self, position: Position) -> EventId {
        let before = position.saturating_sub(1);
        if let Some(event) = self.event(before) {
            return event.id;
        }
        let Ids::Sparse { passed } = &self.ids else {
            let is_floor = self.floor.minor == before;
            return if is_floor { self.floor } else { EventId::new(self.floor.major, before) };
        };
        match passed.binary_search_by_key(&position, |(behind, _)| *behind) {
            Ok(place) => passed[place].1,
            Err(_) if self.oldest() <= position => self.floor,
            Err(_) => EventId::default(),
        }
    }

    /// The retained events from `position` on, oldest first.
    pub fn events_from(&self, position: Position) -> impl Iterator<Item = &Arc<Event>> {
        let skip = position.saturating_sub(self.oldest());
        self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).map(|entry| &entry.event)
    }

    /// Appends an event. An event that leaves a hole in the positions, or a change of epoch, empties the ring first, so that
    /// retained events are always contiguous.
    pub fn push(&mut self, event: Arc<Event>) {
        debug_assert!(self.next <= event.position, "positions never go back");
        // Ids begin anew behind a change of epoch, so nothing before it can be compared with what follows.
        let begins_anew = event.gap.is_some_and(|gap| gap.reason == GapReason::Epoch);
        if event.position != self.next || begins_anew {
            self.leap(event.position, event.id.before());
        }
        if begins_anew {
            (self.epoch, self.epoch_at) = (event.position, event.accepted);
        }
        self.next = event.position + 1;
        let before_bytes = self.pushed_bytes;
        self.pushed_bytes += event.weight_bytes();
        self.is_mixed |= event.is_placed_here;
        let fingerprint = event.id.fingerprint;
        self.entries.push_back(LogEntry { event, fingerprint, before_bytes });
    }

    /// Drops the oldest events that neither bound of `retention` covers.
    pub fn trim(&mut self, retention: &Retention, now: Moment) {
        while let Some(oldest) = self.entries.front() {
            let age = now.since(oldest.event.accepted);
            if self.fits(&retention.history, age) || self.fits(&retention.lag, age) {
                break;
            }
            self.floor = oldest.event.id;
            self.ids.pass(oldest.event.position + 1, self.floor);
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Trims by the retention under the present pressure of the budget and of the newest event's owner: the logs of a tenant
    /// whose share is tight shorten, and those of others do not.
    pub fn trim_within(&mut self, retention: &Retention, budget: &Budget, now: Moment) {
        let of_owner = self.entries.back().map(|newest| newest.event.charge.owner_pressure()).unwrap_or_default();
        self.trim(&retention.within(budget.pressure().or_tighter(of_owner)), now);
    }

    fn fits(&self, bounds: &Bounds, age: Duration) -> bool {
        self.len() <= bounds.count && self.bytes() <= bounds.bytes && age <= bounds.age
    }

    /// The oldest position that `history` covers `now`, for subscriptions that ask for the newest events.
    fn history_from(&self, history: &Bounds, now: Moment) -> Position {
        let beyond_count = self.len().saturating_sub(history.count);
        let beyond_bytes = self.entries.partition_point(|entry| history.bytes < self.weight_from(entry));
        let beyond_age = self.entries.partition_point(|entry| history.age < now.since(entry.event.accepted));
        self.oldest() + beyond_count.max(beyond_bytes).max(beyond_age) as Position
    }

    /// The oldest position that a new subscription may ask for: the oldest retained event's, also if only `lag` covers it. The
    /// next event's if there is no history.
    pub fn first_for_newcomers(&self, history: &Bounds) -> Position {
        if history.is_none() { self.next } else { self.oldest() }
    }

    /// The position at which a subscription from `start` begins. The error is the gap before the oldest retained event, if
    /// events that `start` asks for are missing. A start at the first event, or after an event that the client has seen, gets
    /// all retained events.
    pub fn start_position(&self, start: Start, history: &Bounds, now: Moment) -> Result<Position, Gap> {
        match start {
            Start::Live => Ok(self.next),
            Start::First if history.is_none() || self.has_first() => Ok(self.first_for_newcomers(history)),
            Start::First => Err(Gap { from: EventId::default(), to: self.floor, reason: GapReason::Expired }),
            Start::Last(count) => Ok(self.history_from(history, now).max(self.next.saturating_sub(count as Position))),
            Start::After(id) if self.knows(id) => Ok(self.position_after(id)),
            Start::After(id) => self.position_behind_foreign(id).ok_or_else(|| self.unjoined_gap(id)),
        }
    }

    /// Whether the first event that the log ever had is retained, or still to come. A broker's log may have had events before
    /// those that the hub knows.
    fn has_first(&self) -> bool {
        match self.ids {
            Ids::Dense => self.floor.minor == 0,
            Ids::Sparse { .. } => self.floor == EventId::default(),
        }
    }

    /// Whether `id` can belong to this log, now or later. An id of another epoch never does where the hub gives the ids.
    pub fn may_hold(&self, id: EventId) -> bool {
        matches!(self.ids, Ids::Sparse { .. }) || id.major == self.floor.major
    }

    /// Whether a reader that has everything up to `id` misses nothing before the retained events.
    pub fn joins(&self, id: EventId) -> bool {
        self.may_hold(id) && self.floor <= id && id <= self.newest_id()
    }

    /// Whether `id` certainly belongs to this log and nothing is missing after it. A broker's ids have holes, and an id in a hole
    /// may belong to a former log: only the broker knows.
    pub fn knows(&self, id: EventId) -> bool {
        match self.ids {
            Ids::Dense => self.joins(id),
            Ids::Sparse { .. } => id == self.floor || self.find(id).is_some(),
        }
    }

    /// The position behind the event to which another hub gave the id `id`: the only event here with its fingerprint, retained or
    /// the last that is not. `None` if there is none, or more than one, or if events have no common order at all hubs.
    pub fn position_behind_foreign(&self, id: EventId) -> Option<Position> {
        let wanted = id.fingerprint.filter(|_| !self.may_hold(id) && !self.is_mixed);
        let is_wanted = |found: Option<Fingerprint>| wanted.is_some() && found == wanted;
        let newest_first = self.entries.iter().rev().take(LOOKED_AT_MAX).map(|entry| entry.fingerprint);
        let floor = (self.entries.len() < LOOKED_AT_MAX).then_some(self.floor.fingerprint);
        let mut found = (0..).zip(newest_first.chain(floor)).filter(|(_, found)| is_wanted(*found));
        let (place, _) = found.next()?;
        found.next().is_none().then_some(self.next - place)
    }

    fn find(&self, id: EventId) -> Option<&Arc<Event>> {
        self.entries.binary_search_by_key(&id, |entry| entry.event.id).ok().map(|index| &self.entries[index].event)
    }

    /// The position of the newest change of epoch; 0 if there was none.
    pub fn epoch(&self) -> Position {
        self.epoch
    }

    /// When it was.
    pub fn epoch_at(&self) -> Moment {
        self.epoch_at
    }

    /// The change of epoch that a reader at `position` has yet to be told of, while it is retained: what the reader lacks before it
    /// went with the former log.
    pub fn change_ahead(&self, position: Position) -> Option<Gap> {
        if position <= self.epoch { self.event(self.epoch)?.gap } else { None }
    }

    /// There was a change of epoch at `position`, perhaps one that is not among the events here. No effect if a newer one is known.
    pub fn note_epoch(&mut self, position: Position, at: Moment) {
        if self.epoch < position {
            (self.epoch, self.epoch_at) = (position, at);
        }
    }

    /// The position behind the event `id`, if the event is retained and has this digest.
    pub fn position_behind(&self, id: EventId, content: u64) -> Option<Position> {
        self.find(id).filter(|event| event.digest() == Some(content)).map(|event| event.position + 1)
    }

    /// The gap for a reader whose `id` may be from the broker's log before it was replaced. `None` if `id` is newer than all ids
    /// of that log, or if the change of epoch is no longer retained.
    pub fn former_gap(&self, id: EventId) -> Option<Gap> {
        let change = self.event(self.epoch)?.gap.filter(|gap| gap.reason == GapReason::Epoch && id <= gap.from)?;
        Some(Gap { from: id, ..change })
    }

    /// The position of the first retained event whose id is greater than `id`.
    pub fn position_after(&self, id: EventId) -> Position {
        self.oldest() + self.entries.partition_point(|entry| entry.event.id <= id) as Position
    }

    /// The gap before the oldest retained event for a reader that has everything up to `id`. An id with another major part, or a
    /// future one, is another hub's or from before a restart, and yields the reason `epoch`.
    fn unjoined_gap(&self, id: EventId) -> Gap {
        let is_ours = id.major == self.floor.major && id < self.floor;
        let reason = if is_ours { GapReason::Expired } else { GapReason::Epoch };
        Gap { from: id, to: self.floor, reason }
    }

    fn weight_from(&self, entry: &LogEntry) -> usize {
        self.pushed_bytes - entry.before_bytes
    }
}

#[cfg(test)]
mod tests;
