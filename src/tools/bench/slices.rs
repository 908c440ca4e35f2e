//! The measured window in slices, and a distribution as a curve: a report keeps both for charts.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::schedule::{Pace, Schedule};

/// Bounds of the number of slices of a window, which is one per second: neither too few to see anything, nor too many to
/// distinguish.
const SLICES_MIN: u64 = 20;
const SLICES_MAX: u64 = 100;

/// Steps of a curve each time the distance to 100 % halves.
const CURVE_TICKS: u32 = 8;

/// The assignment of measured events to slices of the window.
#[derive(Clone, Debug)]
pub(super) struct Slicing {
    pub width: Duration,
    pub count: usize,
    /// The slice of each measured event, in order.
    pub of_events: Vec<u16>,
}

/// Latencies of the events that were due in one slice.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Slice {
    /// Where it begins in the window, in seconds.
    pub start_s: f64,
    pub deliveries: u64,
    /// Per delivery until the client's read returned, in microseconds.
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Point {
    /// The share of the deliveries, up to 1,
    pub quantile: f64,
    /// that took so long or less.
    pub latency_us: f64,
}

impl Slicing {
    /// Cuts the measured span of `schedule`.
    pub(super) fn new(schedule: &Schedule, pace: &Pace) -> Self {
        let count = pace.duration.as_secs().clamp(SLICES_MIN, SLICES_MAX);
        let width = (pace.duration / count as u32).max(Duration::from_nanos(1));
        let measured = schedule.measured.start as usize..schedule.measured.end as usize;
        let slice = |due: &Duration| {
            let index = due.saturating_sub(pace.warmup).as_nanos() / width.as_nanos();
            // The width is rounded down, so the last event may lie beyond the last slice.
            index.min(u128::from(count) - 1) as u16
        };
        Self { width, count: count as usize, of_events: schedule.due[measured].iter().map(slice).collect() }
    }

    /// The slices that `histograms` hold, in nanoseconds.
    pub(super) fn report(&self, histograms: &[Histogram<u64>]) -> Vec<Slice> {
        let slice = |(index, histogram): (usize, &Histogram<u64>)| Slice {
            start_s: index as f64 * self.width.as_secs_f64(),
            deliveries: histogram.len(),
            p50: histogram.value_at_quantile(0.5) as f64 / 1e3,
            p99: histogram.value_at_quantile(0.99) as f64 / 1e3,
            max: histogram.max() as f64 / 1e3,
        };
        histograms.iter().enumerate().map(slice).collect()
    }
}

/// The distribution in `histogram`, which is in nanoseconds: dense where it matters, and ending at its maximum.
pub(super) fn curve(histogram: &Histogram<u64>) -> Vec<Point> {
    let steps = histogram.iter_quantiles(CURVE_TICKS);
    let point = |quantile: f64, latency_ns: u64| Point { quantile, latency_us: latency_ns as f64 / 1e3 };
    steps.map(|step| point(step.quantile_iterated_to(), step.value_iterated_to().min(histogram.max()))).collect()
}
