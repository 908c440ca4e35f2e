//! Time as a value: every part is handed the moment, and only the reactor's `Net` and the source threads read a clock.

use std::{ops, time::Duration};

/// Nanoseconds on the machine's monotonic clock, counted from the hub's own start.
///
/// A plain number rather than an `Instant`, so that it fits an atomic, costs eight bytes, and can be made up by a
/// simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The one place where the process reads its clocks: threads keep a copy of it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts counting now.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// The moment it is.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
