//! Gaps: what a reader is told when events of a topic are missing.

use std::fmt;

use crate::event::EventId;

/// A hole in what a reader gets of a topic: the events after `from`, up to and including `to`, are missing.
///
/// Told in-band on every transport. A reader that goes on after `to` is not told of it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// The last id before the hole: as far as the reader has everything.
    pub from: EventId,
    /// The last id in the hole: what follows is whole again.
    pub to: EventId,
    pub reason: GapReason,
}

impl Gap {
    /// Where a gap ends for a reader that a broker's log, which is not the one that the reader knew, goes on for behind `floor`.
    /// For a log without any event `floor` is `0-0`. A reader that comes back with `0-0` asks for all there is, and can miss
    /// nothing: events that came and went meanwhile would not be told. So the gap ends at `0-1`, an id that no stream has, and
    /// whoever comes back with `0-1` is told of a gap.
    pub fn resumable_end(floor: EventId) -> EventId {
        if floor == EventId::default() { EventId { major: 0, minor: 1 } } else { floor }
    }
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The log no longer goes back that far.
    Expired,
    /// The id is not of this log: the hub was restarted, or another one gave it.
    Epoch,
    /// The reader was too slow, or the hub had no room for the events.
    Overflow,
    /// The source was away and may have dropped events, or sent one that cannot be delivered.
    SourceLost,
}

impl GapReason {
    /// All of them, by index.
    pub const ALL: [Self; 4] = [Self::Expired, Self::Epoch, Self::Overflow, Self::SourceLost];

    /// The word for it on the wire, in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Epoch => "epoch",
            Self::Overflow => "overflow",
            Self::SourceLost => "source_lost",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
