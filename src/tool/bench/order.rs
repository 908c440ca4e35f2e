//! Whether a subscriber got every event, once, in order.

/// Which events one subscriber has seen: all up to a number, as far as the last [`WINDOW`] of them tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    /// One more than the highest number seen.
    next: u32,
    /// Bit i: whether `next - 1 - i` was seen.
    recent: u64,
}

/// How far back a late event is told from a repeated one.
const WINDOW: u32 = u64::BITS;

/// What an arrival means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one.
    InOrder,
    /// So many before it have not come yet.
    Ahead(u32),
    /// One that was missing.
    Late,
    /// Seen before.
    Repeated,
}

/// What went wrong, over all subscribers of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct Faults {
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came more than once.
    pub repeated: u64,
    /// Deliveries that came after a later one.
    pub reordered: u64,
    /// Messages that are not of this run.
    pub foreign: u64,
}

impl Order {
    /// Takes note of an event's arrival.
    #[inline]
    pub(super) fn note(&mut self, sequence: u32) -> Arrival {
        if sequence < self.next {
            return self.note_old(self.next - 1 - sequence);
        }
        let ahead = sequence - self.next;
        self.next = sequence + 1;
        self.recent = self.recent.checked_shl(ahead + 1).unwrap_or(0) | 1;
        if ahead == 0 { Arrival::InOrder } else { Arrival::Ahead(ahead) }
    }

    /// Beyond the window an old event is taken for a late one: it was counted as lost, or the hub repeats itself at a
    /// distance, which replay after a reconnect alone could explain, and the bench never resumes.
    fn note_old(&mut self, age: u32) -> Arrival {
        if age < WINDOW {
            let bit = 1 << age;
            if self.recent & bit != 0 {
                return Arrival::Repeated;
            }
            self.recent |= bit;
        }
        Arrival::Late
    }

    /// How many of `event_count` events are missing at the end, beyond those already told as [`Arrival::Ahead`].
    pub(super) fn missing(&self, event_count: u32) -> u32 {
        event_count.saturating_sub(self.next)
    }
}

impl Faults {
    /// Counts an arrival.
    #[inline]
    pub(super) fn count(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder => {}
            Arrival::Ahead(skipped) => self.lost += u64::from(skipped),
            Arrival::Late => {
                self.lost = self.lost.saturating_sub(1);
                self.reordered += 1;
            }
            Arrival::Repeated => self.repeated += 1,
        }
    }

    /// Adds what went wrong for others.
    pub(super) fn add(&mut self, more: &Self) {
        self.lost += more.lost;
        self.repeated += more.repeated;
        self.reordered += more.reordered;
        self.foreign += more.foreign;
    }

    /// Whether every event came, once, in order.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
