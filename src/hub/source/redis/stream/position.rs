//! How far a stream was read, and whether everything that followed is still there.

use redis::{RedisError, Value};

use super::{
    encoder::MARKER_GROUP,
    entry::{BadAnswer, StreamEntry, read_id, read_map},
    link::accept,
};
use crate::{
    event::EventId,
    gap::{Gap, GapReason},
};

/// How far a stream was read, and by what the stream is known again.
///
/// A stream may be deleted, expire, be restored or fail over to an older replica, and be filled with ids that are smaller,
/// or that overlap. It is still the same log up to here if it has the same entry at `last`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadPosition {
    /// Everything up to this id is read.
    pub(super) last: EventId,
    /// The digest of the entry at `last`; `None` if no entry stands there, or none that is an event.
    pub(super) content: Option<u64>,
    /// How many entries had ever been added to the stream by then, if the server counts them (Redis 7).
    pub(super) added: Option<u64>,
    /// The newest entry that had been deleted when the stream was looked at last.
    pub(super) deleted_max: EventId,
    /// The newest id in the hub's log: `last`, or where an empty log begins.
    pub(super) newest: EventId,
    /// Whether a hub made the stream, which therefore expires.
    pub(super) is_made: bool,
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

/// What became of the entries that followed a [`ReadPosition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of them are there, or were read already.
    Whole,
    /// Those up to this id are not, at least in part.
    Expired { to: EventId },
    /// It is another stream than the one that was read.
    Replaced,
}

/// What the stream has at a [`ReadPosition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The entry that was read, or nobody knows another.
    Same,
    /// Another entry than the one that was read.
    Other,
    /// No entry.
    Nothing,
}

impl ReadPosition {
    /// Advances past an entry that was read, with the digest of its event.
    pub(super) fn pass(&mut self, id: EventId, content: Option<u64>) {
        self.skip_to(id);
        self.content = content;
        self.added = self.added.map(|added| added + 1);
    }

    /// Advances to `id` without an entry there: what lies between is reported, or was none of ours.
    pub(super) fn skip_to(&mut self, id: EventId) {
        self.last = id;
        self.content = None;
        self.newest = id;
    }

    /// What `entry` is, which is the newest that the stream has up to this position, or the one at it.
    pub(super) fn compare(&self, entry: Option<&StreamEntry>) -> Found {
        let Some(entry) = entry.filter(|entry| self.last <= entry.id) else { return Found::Nothing };
        let is_same = entry.id == self.last && (self.content.is_none() || entry.digest() == self.content);
        if is_same { Found::Same } else { Found::Other }
    }

    /// Judges by `info`, which was asked for after `held` had been read from this position, and by what the stream has at it.
    pub(super) fn judge(&self, info: &StreamInfo, held: &[EventId], found: Found) -> Verdict {
        let was_empty = self.last == EventId::default();
        if !info.exists {
            // If something is held, it was deleted since; then the next look shows it.
            return if was_empty || !held.is_empty() { Verdict::Whole } else { Verdict::Replaced };
        }
        if info.last < self.last || found == Found::Other {
            return Verdict::Replaced;
        }
        let covers = info.first.is_some_and(|first| first <= self.last);
        let was_deleted = self.last <= info.deleted_max;
        if covers && found == Found::Nothing && self.content.is_some() && !was_deleted {
            return Verdict::Replaced;
        }
        let gone = held.iter().filter(|id| info.first.is_none_or(|first| **id < first)).count() as u64;
        let missing = match (self.added, info.added) {
            (Some(before), Some(now)) => {
                // As many as were added since, if nothing was deleted that was never read.
                let is_counted = info.last == self.last && info.deleted_max == self.deleted_max;
                match now.checked_sub(before).and_then(|new| new.checked_sub(gone)) {
                    None => return Verdict::Replaced,
                    Some(new) if is_counted && 0 < new => return Verdict::Replaced,
                    // Nothing of the stream was read, and yet it has an id that was.
                    Some(_) if covers && before == 0 => return Verdict::Replaced,
                    Some(_) if covers => 0,
                    Some(new) if new < info.length => return Verdict::Replaced,
                    Some(new) => new - info.length,
                }
            }
            _ if covers || info.last == self.last => 0,
            // Nobody knows whether something was trimmed behind what was read.
            _ => 1,
        };
        match missing {
            0 => Verdict::Whole,
            _ => Verdict::Expired { to: held.first().copied().or(info.first).map_or(info.last, EventId::before) },
        }
    }

    /// Whether the stream, which is gone, went because its events had grown too old, and nothing was added meanwhile: then
    /// nothing is missing. `now_ms` is the server's time, and nothing was read for `unread_ms`.
    pub(super) fn has_expired(&self, kept_ms: u64, now_ms: u64, unread_ms: u64) -> bool {
        self.is_made && self.last.major.saturating_add(kept_ms) <= now_ms && unread_ms < kept_ms
    }
}

impl StreamInfo {
    /// The same, in the server's words where it refuses to say.
    pub(super) fn accept(answer: Value) -> Result<Self, RedisError> {
        match Self::read(answer.clone()) {
            Ok(info) => Ok(info),
            Err(bad) => Err(accept(answer).err().unwrap_or_else(|| bad.into())),
        }
    }

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

    /// What is missing for a reader that has everything up to `after`, of a stream whose entries are kept for `kept_ms`, at
    /// `now_ms` by the server's clock.
    ///
    /// An id within what is retained misses nothing. An older one has lost what was trimmed in between, if anything; and
    /// if nothing was ever trimmed, or it is newer than all there is, then it is of another stream. Where all of a stream
    /// may have grown too old since, nobody knows of what stream it was.
    pub(super) fn gap_after(&self, after: EventId, kept_ms: u64, now_ms: u64) -> Option<Gap> {
        let to = self.first.map_or(self.last, EventId::before);
        let gap = |reason| Some(Gap { from: after, to, reason });
        let by_then = self.first.map_or(now_ms, |first| first.major.min(now_ms));
        let may_be_too_old = after.major.saturating_add(kept_ms) <= by_then;
        let anew = if may_be_too_old { GapReason::Expired } else { GapReason::Epoch };
        let never_trimmed = self.added == Some(self.length) && self.deleted_max == EventId::default();
        if !self.exists {
            return if after == EventId::default() || after.is_moment() && !may_be_too_old { None } else { gap(anew) };
        }
        if self.last < after {
            return gap(GapReason::Epoch);
        }
        if after == self.last || to <= after {
            return None;
        }
        match never_trimmed {
            // No entry stands there that could be of another stream.
            true if after.is_moment() && (after == EventId::default() || !may_be_too_old) => None,
            true => gap(anew),
            false => gap(GapReason::Expired),
        }
    }
}

/// Whether a hub made the stream: it has the marker. `answer` is to `XINFO GROUPS`.
pub(super) fn read_is_made(answer: Value) -> bool {
    let is_marker = |group: Value| {
        let fields = read_map(group).unwrap_or_default();
        let text =
            |value: &Value, expected: &str| matches!(value, Value::BulkString(text) if text == expected.as_bytes());
        fields.iter().any(|(name, value)| text(name, "name") && text(value, MARKER_GROUP))
    };
    match answer {
        Value::Array(groups) => groups.into_iter().any(is_marker),
        _ => false,
    }
}
