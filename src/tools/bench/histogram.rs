//! Histograms of latencies, in nanoseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Bounds and precision of the histograms: 1 µs to 60 s, three digits, in nanoseconds.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// An empty histogram for latencies in nanoseconds.
pub(super) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds are in order")
}

/// A duration as a value of the histograms.
pub(super) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The counts of a latency histogram: pairs of a value, in nanoseconds, and its count. The conversion is exact, as all
/// histograms here have the same bounds and precision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Counts(Vec<(u64, u64)>);

impl Counts {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    pub(super) fn add_to(&self, histogram: &mut Histogram<u64>) {
        self.0.iter().for_each(|&(value, count)| histogram.saturating_record_n(value, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lose_nothing() {
        let mut histogram = latency_histogram();
        for value in [0, 1, 999, 1_000, 1_234_567, 59_999_999_999, u64::MAX] {
            histogram.saturating_record_n(value, value % 7 + 1);
        }
        let mut other = latency_histogram();
        let json = serde_json::to_string(&Counts::of(&histogram)).expect("numbers");
        serde_json::from_str::<Counts>(&json).expect("as written").add_to(&mut other);
        assert_eq!(other, histogram);
        assert_eq!((other.min(), other.max(), other.len()), (histogram.min(), histogram.max(), histogram.len()));
        Counts::of(&histogram).add_to(&mut other);
        assert_eq!(other.len(), 2 * histogram.len());
    }
}
