//! Gaps: how a reader learns that events of a topic are missing.

use std::fmt;

use crate::event::EventId;

/// A hole in what a reader receives of a topic: the events after `from`, up to and including `to`, are missing.
///
/// Sent in-band on every transport. A reader that continues after `to` does not receive it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// The last id before the hole: the reader has everything up to it.
    pub from: EventId,
    /// The last id in the hole: everything after it follows.
    pub to: EventId,
    pub reason: GapReason,
}

impl Gap {
    /// The end of a gap for a reader that continues behind `floor` in a broker's log that has replaced the one it knew. `floor` of
    /// an empty log is `0-0`, but a reader that resumes from `0-0` asks for everything and would not learn of events that came and
    /// went meanwhile. So the gap ends at `0-1`, an id that no stream has: a reader that resumes from `0-1` is sent a gap.
    pub fn resumable_end(floor: EventId) -> EventId {
        if floor == EventId::default() { EventId::new(0, 1) } else { floor }
    }
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The log no longer has the events.
    Expired,
    /// The id belongs to another log: the hub was restarted, or another hub gave the id.
    Epoch,
    /// The reader was too slow, or the hub had no room for the events.
    Overflow,
    /// The source was unavailable and may have dropped events, or sent one that cannot be delivered.
    SourceLost,
}

impl GapReason {
    /// All of them, by index.
    pub const ALL: [Self; 4] = [Self::Expired, Self::Epoch, Self::Overflow, Self::SourceLost];

    /// The reason that an entry of a broker's log names which is no event but tells of a gap. Where such an entry stands the log
    /// goes on, so a change of epoch of the log that it was carried from is a loss here, as is any other word.
    pub fn of_marker(label: &str) -> Self {
        if label == Self::Expired.label() { Self::Expired } else { Self::SourceLost }
    }

    /// The reason's name on the wire, in metrics and logs.
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
