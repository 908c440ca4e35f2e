//! Time as a value: every part is handed the moment, and only the reactor's `Net` and the source threads read a clock.

use std::{
    ops,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

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

    /// The same clock, had it begun so much earlier.
    pub fn begun_earlier(self, span: Duration) -> Self {
        Self { start: self.start.checked_sub(span).unwrap_or(self.start) }
    }

    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What the wall clock says at a moment. Whoever may read the clocks sets it, again and again: the wall clock may be put
/// right at any time. All others ask it.
#[derive(Debug, Default)]
pub struct WallClock {
    /// What it said at [`Moment`] zero, in Unix milliseconds.
    start_unix_ms: AtomicU64,
}

impl WallClock {
    /// It is `now`, and the wall clock says `unix`, the time since 1970.
    pub fn set(&self, now: Moment, unix: Duration) {
        let start = unix.saturating_sub(Duration::from_nanos(now.0));
        self.start_unix_ms.store(u64::try_from(start.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it says at `moment`, in Unix milliseconds.
    pub fn unix_ms(&self, moment: Moment) -> u64 {
        self.start_unix_ms.load(Ordering::Relaxed).saturating_add(moment.0 / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_follows_what_it_is_told() {
        let wall = WallClock::default();
        wall.set(Moment(2_000_000_000), Duration::from_millis(1_768_068_834_227));
        assert_eq!(wall.unix_ms(Moment(2_000_000_000)), 1_768_068_834_227);
        assert_eq!(wall.unix_ms(Moment(3_500_000_000)), 1_768_068_835_727);
        wall.set(Moment(4_000_000_000), Duration::from_secs(5));
        assert_eq!(wall.unix_ms(Moment(4_000_000_000)), 5_000);
    }
}
