//! Coarse latencies during a run, which a fleet counts and the conductor reads, for the display only.

use std::sync::atomic::{AtomicU64, Ordering};

/// Eight buckets for each doubling: the error is at most 6 %.
const STEPS_LOG2: u32 = 3;
const STEPS: usize = 1 << STEPS_LOG2;
/// The first bucket holds all below 1 µs, the last all above two minutes.
const OCTAVE_MIN: u32 = 10;
const BUCKETS: usize = 27 * STEPS;

/// The counts that one fleet writes.
#[derive(Debug)]
pub(super) struct Live([AtomicU64; BUCKETS]);

/// The counts at one moment, or between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot([u64; BUCKETS]);

impl Default for Live {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Live {
    /// Counts a latency in nanoseconds. Only the fleet's own thread may call this: it adds without an atomic
    /// read-modify-write, as cheaply as to a plain number.
    #[inline]
    pub(super) fn note(&self, latency_ns: u64) {
        let count = &self.0[bucket(latency_ns)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Live {
    /// Number and count of each bucket that is not empty.
    pub(super) fn counts(&self) -> Vec<(usize, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| 0 < *count).collect()
    }

    /// Replaces the counts by the sum of `counts`, which workers report.
    pub(super) fn set<'a>(&self, counts: impl Iterator<Item = &'a (usize, u64)>) {
        let mut sum = [0; BUCKETS];
        counts.for_each(|&(bucket, count)| sum[bucket.min(BUCKETS - 1)] += count);
        self.0.iter().zip(sum).for_each(|(count, sum)| count.store(sum, Ordering::Relaxed));
    }
}

impl Snapshot {
    /// All fleets' counts together.
    pub(super) fn of<'a>(fleets: impl Iterator<Item = &'a Live>) -> Self {
        let mut sum = [0; BUCKETS];
        for fleet in fleets {
            for (count, more) in sum.iter_mut().zip(&fleet.0) {
                *count += more.load(Ordering::Relaxed);
            }
        }
        Self(sum)
    }

    /// What was counted after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index].saturating_sub(earlier.0[index])))
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The latency, in microseconds, of this quantile; `None` without values.
    pub(super) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let rank = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = self.0.iter().position(|&count| {
            below += count;
            rank <= below
        });
        found.map(|index| middle_ns(index) / 1e3)
    }
}

fn bucket(latency_ns: u64) -> usize {
    let value = latency_ns.max(1 << OCTAVE_MIN);
    let octave = value.ilog2();
    let step = (value >> (octave - STEPS_LOG2)) as usize % STEPS;
    ((octave - OCTAVE_MIN) as usize * STEPS + step).min(BUCKETS - 1)
}

fn middle_ns(bucket: usize) -> f64 {
    let octave_ns = 2.0_f64.powi((bucket / STEPS) as i32 + OCTAVE_MIN as i32);
    octave_ns * (1.0 + ((bucket % STEPS) as f64 + 0.5) / STEPS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_figures_are_near() {
        let live = Live::default();
        (1..=10_000).for_each(|latency_us| live.note(latency_us * 1_000));
        let all = Snapshot::of([&live].into_iter());
        let check = |snapshot: &Snapshot, quantile: f64, expected_us: f64| {
            let found_us = snapshot.quantile_us(quantile).expect("there are some");
            assert!((found_us / expected_us - 1.0).abs() < 0.07, "{quantile}: {found_us} µs");
        };
        for (quantile, expected_us) in [(0.001, 10.0), (0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (1.0, 10_000.0)]
        {
            check(&all, quantile, expected_us);
        }
        live.note(7_000);
        let later = Snapshot::of([&live].into_iter()).since(&all);
        check(&later, 0.5, 7.0);
        let copy = Live::default();
        copy.set(live.counts().iter().chain(&live.counts()));
        assert_eq!(Snapshot::of([&copy].into_iter()), Snapshot::of([&live, &live].into_iter()));
        assert_eq!((all.count(), later.count(), later.since(&later).quantile_us(0.5)), (10_000, 1, None));
    }

    #[test]
    fn no_latency_is_out_of_bounds() {
        let check = |latency_ns: u64, expected: usize| assert_eq!(bucket(latency_ns), expected, "{latency_ns}");
        check(0, 0);
        check(1_024, 0);
        check(1_152, 1);
        check(2_048, 8);
        check(u64::MAX, BUCKETS - 1);
    }
}
