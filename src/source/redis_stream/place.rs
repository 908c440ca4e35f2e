//! How far a stream was read, and whether everything that followed is still there.

use redis::Value;

use super::entry::{BadAnswer, read_id, read_map};
use crate::{
    event::EventId,
    gap::{Gap, GapReason},
};

/// How far a stream was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Everything up to this id is read.
    pub(super) last: EventId,
    /// How many entries had ever been added to the stream by then, if the server counts them (Redis 7).
    pub(super) added: Option<u64>,
    /// The newest id in the hub's log: `last`, or where an empty log begins.
    pub(super) newest: EventId,
}

/// What the server says of a stream (`XINFO STREAM`). All zero for one that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamInfo {
    pub(super) exists: bool,
    /// How many entries it has.
    pub(super) length: u64,
    /// The newest id there has been.
    pub(super) last: EventId,
    /// The oldest entry it has.
    pub(super) first: Option<EventId>,
    /// The newest entry that was deleted rather than trimmed.
    pub(super) deleted_max: EventId,
    /// How many entries were ever added. Redis 7 counts them.
    pub(super) added: Option<u64>,
}

/// What became of the entries that followed a [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of them are there, or in our hands.
    Whole,
    /// Those up to this id are not, at least in part.
    Expired { to: EventId },
    /// It is another stream than the one that was read.
    Replaced,
}

impl Place {
    /// An entry was read.
    pub(super) fn pass(&mut self, id: EventId) {
        self.skip_to(id);
        self.added = self.added.map(|added| added + 1);
    }

    /// What comes up to `id` is done with.
    pub(super) fn skip_to(&mut self, id: EventId) {
        self.last = id;
        self.newest = id;
    }

    /// Judges by `info`, which was asked for after `held` had been read from this place, nothing older than which the
    /// stream has any more.
    pub(super) fn judge(&self, info: &StreamInfo, held: &[EventId]) -> Verdict {
        let was_empty = self.last == EventId::default();
        if !info.exists {
            // If something is held, it was deleted since; then the next look shows it.
            return if was_empty || !held.is_empty() { Verdict::Whole } else { Verdict::Replaced };
        }
        if info.last < self.last {
            return Verdict::Replaced;
        }
        let gone = held.iter().filter(|id| info.first.is_none_or(|first| **id < first)).count() as u64;
        let missing = match (self.added, info.added) {
            (Some(before), Some(now)) => match now.checked_sub(before).and_then(|new| new.checked_sub(gone)) {
                None => return Verdict::Replaced,
                Some(_) if info.first.is_some_and(|first| first <= self.last) => 0,
                Some(new) if new < info.length => return Verdict::Replaced,
                Some(new) => new - info.length,
            },
            _ if info.first.is_some_and(|first| first <= self.last) || info.last == self.last => 0,
            // Nobody knows whether something was trimmed behind what was read.
            _ => 1,
        };
        match missing {
            0 => Verdict::Whole,
            _ => Verdict::Expired { to: held.first().copied().or(info.first).map_or(info.last, EventId::before) },
        }
    }

    /// Whether the stream is the one that was read, by whether it still has the entry at this place.
    pub(super) fn is_known(&self, info: &StreamInfo, has_entry: bool) -> bool {
        let covered = info.first.is_some_and(|first| first <= self.last);
        self.last == EventId::default() || !covered || has_entry || self.last <= info.deleted_max
    }
}

impl StreamInfo {
    /// Reads the answer to `XINFO STREAM`.
    pub(super) fn read(answer: Value) -> Result<Self, BadAnswer> {
        if let Value::ServerError(error) = &answer
            && error.details().is_some_and(|details| details.contains("no such key"))
        {
            return Ok(Self::default());
        }
        let mut info = Self { exists: true, ..Self::default() };
        for (name, value) in read_map(answer)? {
            let Value::BulkString(name) = name else { return Err(BadAnswer) };
            match (name.as_slice(), value) {
                (b"length", Value::Int(length)) => info.length = u64::try_from(length).map_err(|_| BadAnswer)?,
                (b"entries-added", Value::Int(added)) => info.added = u64::try_from(added).ok(),
                (b"last-generated-id", id) => info.last = read_id(&id)?,
                (b"max-deleted-entry-id", id) => info.deleted_max = read_id(&id)?,
                (b"first-entry", Value::Array(entry)) => {
                    info.first = Some(read_id(entry.first().ok_or(BadAnswer)?)?);
                }
                _ => {}
            }
        }
        Ok(info)
    }

    /// How many entries had been added before `held`, of which the stream had nothing older when it was asked.
    pub(super) fn added_before(&self, held: &[EventId]) -> Option<u64> {
        let gone = held.iter().filter(|id| self.first.is_none_or(|first| **id < first)).count() as u64;
        Some(self.added?.saturating_sub(self.length + gone))
    }

    /// What is missing for a reader that has everything up to `after`.
    ///
    /// An id within what is retained misses nothing. An older one has lost what was trimmed in between, if anything; and
    /// if nothing was ever trimmed, or it is newer than all there is, then it is of another stream.
    pub(super) fn gap_after(&self, after: EventId) -> Option<Gap> {
        let to = self.first.map_or(self.last, EventId::before);
        let gap = |reason| Some(Gap { from: after, to, reason });
        if self.last < after {
            return gap(GapReason::Epoch);
        }
        if after == self.last || to <= after {
            return None;
        }
        let never_trimmed = self.added == Some(self.length) && self.deleted_max == EventId::default();
        gap(if never_trimmed { GapReason::Epoch } else { GapReason::Expired })
    }
}
