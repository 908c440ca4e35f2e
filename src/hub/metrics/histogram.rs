//! A histogram of durations that one thread writes and any thread reads, without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets for each power of two: a value is known to within 12.5 %.
const SPLITS: usize = 8;
const SPLIT_BITS: u32 = SPLITS.trailing_zeros();
/// From 1 µs to 2^26 µs, about 67 s. Longer durations fall into the last bucket.
const OCTAVES: usize = 26;
const BUCKETS: usize = SPLITS * OCTAVES;

/// A histogram of durations, whose buckets grow with the value.
///
/// Written with plain loads and stores, so only its owner may record. A reader may miss a value that is being recorded.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts `value` `times` times. Only the owning thread may call this.
    #[inline]
    pub fn record(&self, value: Duration, times: u64) {
        let value_ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        add(&self.buckets[bucket(value_ns / 1000)], times);
        add(&self.sum_ns, value_ns.saturating_mul(times));
    }

    /// Adds all recorded values to `total`.
    pub(crate) fn merge_into(&self, total: &mut Snapshot) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum_ns += self.sum_ns.load(Ordering::Relaxed);
    }
}

/// Adds to a counter that only this thread writes. A load and a store cost a tenth of an atomic addition.
#[inline]
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

fn bucket(value_us: u64) -> usize {
    if value_us < SPLITS as u64 {
        return value_us as usize;
    }
    let octave = value_us.ilog2() - SPLIT_BITS;
    let within = (value_us >> octave) as usize - SPLITS;
    (SPLITS * (octave as usize + 1) + within).min(BUCKETS - 1)
}

/// The smallest value, in µs, above `bucket`.
fn upper_us(bucket: usize) -> u64 {
    if bucket < SPLITS {
        return bucket as u64 + 1;
    }
    let octave = bucket / SPLITS - 1;
    ((bucket % SPLITS + SPLITS + 1) as u64) << octave
}

/// Merged histograms at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl Snapshot {
    /// The number of values.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all values, in seconds.
    pub(crate) fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// The value that `fraction` of all values do not exceed, rounded up to the end of its bucket.
    pub(crate) fn quantile(&self, fraction: f64) -> Duration {
        let wanted = (self.count() as f64 * fraction).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if 0 < *count && wanted <= seen {
                return Duration::from_micros(upper_us(index));
            }
        }
        Duration::ZERO
    }

    /// For each of `bounds_us`, and for infinity: the bound in seconds, and how many values are below it. No value is misplaced
    /// if each bound is a multiple of an eighth of the power of two below it, for those are the edges of buckets.
    pub(crate) fn by_bounds(&self, bounds_us: &[u64]) -> Vec<(f64, u64)> {
        let mut counts: Vec<(f64, u64)> = bounds_us.iter().map(|bound| (*bound as f64 / 1e6, 0)).collect();
        counts.push((f64::INFINITY, 0));
        for (index, count) in self.buckets.iter().enumerate() {
            let bound = bounds_us.partition_point(|bound| *bound < upper_us(index));
            counts[bound].1 += count;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..4096).chain((12..40).map(|power| (1u64 << power) + 1)) {
            let index = bucket(value);
            assert!(value < upper_us(index) || index == BUCKETS - 1, "{value} in {index}");
            assert!(index == 0 || upper_us(index - 1) <= value, "{value} in {index}");
        }
    }

    #[test]
    fn quantiles() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.record(Duration::from_micros(us), 2));
        let mut total = Snapshot::default();
        histogram.merge_into(&mut total);
        assert_eq!(total.count(), 2000);
        assert!((total.sum_s() - 1.001).abs() < 1e-9);
        let check = |fraction: f64, exact_us: f64| {
            let found = total.quantile(fraction).as_micros() as f64;
            assert!(exact_us <= found && found <= exact_us * 1.13, "{fraction}: {found}");
        };
        check(0.5, 500.0);
        check(0.99, 990.0);
        check(1.0, 1000.0);
        assert_eq!(Snapshot::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn bounds_count_everything_once() {
        let histogram = Histogram::default();
        [1, 7, 8, 63, 64, 5000].iter().for_each(|us| histogram.record(Duration::from_micros(*us), 1));
        let mut total = Snapshot::default();
        histogram.merge_into(&mut total);
        assert_eq!(total.by_bounds(&[8, 64]), [(8e-6, 2), (64e-6, 2), (f64::INFINITY, 2)]);
    }
}
