//! Whether a subscriber received every event once and in order.

/// The events that one subscriber has received: exact for the last [`WINDOW`] sequence numbers. With n topics, every n-th
/// number belongs to the subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    /// The number after the highest one received.
    next: u32,
    /// Bit i: whether the (i + 1)-th number before `next` was seen.
    recent: u64,
}

/// How far back a late event is distinguished from a repeated one.
const WINDOW: u32 = u64::BITS;

/// How an event arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next number.
    InOrder,
    /// This many numbers before it have not arrived yet.
    Ahead(u32),
    /// A number that was missing.
    Late,
    /// Received before.
    Repeated,
    /// Of another topic.
    Foreign,
}

/// Faults over all subscribers of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct Faults {
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came more than once.
    pub repeated: u64,
    /// Deliveries that came after a later one.
    pub reordered: u64,
    /// Messages that are not of this run, or not of the subscriber's topic.
    pub foreign: u64,
}

impl Order {
    /// For a subscriber of the topic with this index.
    pub(super) fn of_topic(topic: u32) -> Self {
        Self { next: topic, recent: 0 }
    }

    /// Records an event of a load with `topics` topics.
    #[inline]
    pub(super) fn note(&mut self, sequence: u32, topics: u32) -> Arrival {
        if sequence == self.next {
            self.next = sequence.saturating_add(topics);
            self.recent = self.recent << 1 | 1;
            return Arrival::InOrder;
        }
        self.note_other(sequence, topics)
    }

    fn note_other(&mut self, sequence: u32, topics: u32) -> Arrival {
        if !sequence.abs_diff(self.next).is_multiple_of(topics) {
            return Arrival::Foreign;
        }
        if sequence < self.next {
            return self.note_old((self.next - sequence) / topics - 1);
        }
        let ahead = (sequence - self.next) / topics;
        self.next = sequence.saturating_add(topics);
        self.recent = self.recent.checked_shl(ahead + 1).unwrap_or(0) | 1;
        Arrival::Ahead(ahead)
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

    /// How many of `event_count` events, of all topics, are missing at the end, beyond those already reported as
    /// [`Arrival::Ahead`].
    pub(super) fn missing(&self, event_count: u32, topics: u32) -> u32 {
        event_count.saturating_sub(self.next).div_ceil(topics)
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
            Arrival::Foreign => self.foreign += 1,
        }
    }

    /// Adds the faults of other subscribers.
    pub(super) fn add(&mut self, more: &Self) {
        self.lost += more.lost;
        self.repeated += more.repeated;
        self.reordered += more.reordered;
        self.foreign += more.foreign;
    }

    /// Whether every event arrived once and in order.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
