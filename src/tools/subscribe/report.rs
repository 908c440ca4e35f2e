//! Counts and latencies of events, from `published_at_ms` (or `timestamp`) in their payload to their arrival. Across
//! machines the latencies are only as exact as the clocks agree.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::sequences::Counts;

/// The interval of reports if none is given.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The events so far.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) received: u64,
    /// Streams that are open now.
    pub(super) open: u64,
    /// Streams that reconnected.
    pub(super) reconnects: u64,
    /// Gaps that the hub or the client announced.
    pub(super) gaps: u64,
    /// Counts by the events' own numbers and names.
    pub(super) counts: Counts,
    /// The sum of all latencies, in ms.
    sum_ms: f64,
    /// Latencies in µs, of events with a timestamp.
    latencies: Histogram<u64>,
}

/// The largest latency, in µs; larger ones count as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// The latencies of all events, in ms.
#[derive(Clone, Copy, Debug, Serialize)]
struct Latencies {
    avg_ms: f64,
    min_ms: f64,
    max_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    /// p99 divided by p50.
    tail_ratio: f64,
}

/// A report as one JSON object. Programs read it, so its names stay.
#[derive(Serialize)]
struct Line {
    is_last: bool,
    elapsed_s: f64,
    events: u64,
    events_per_s: f64,
    #[serde(flatten)]
    latencies: Option<Latencies>,
    streams_open: u64,
    reconnects: u64,
    gaps: u64,
    duplicates: u64,
    reordered: u64,
    missing: u64,
    unfollowed: u64,
}

impl Report {
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constants within the allowed bounds");
        Self { received: 0, open: 0, reconnects: 0, gaps: 0, counts: Counts::default(), sum_ms: 0.0, latencies }
    }

    /// Records a latency, in ms.
    pub(super) fn record(&mut self, latency_ms: f64) {
        self.sum_ms += latency_ms;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and bounded next")]
        self.latencies.saturating_record(((latency_ms * 1e3).round() as u64).clamp(1, LATENCY_US_MAX));
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn rate(&self, elapsed: Duration) -> f64 {
        self.received as f64 / elapsed.as_secs_f64().max(0.001)
    }

    /// `None` if no event had a timestamp.
    #[expect(clippy::cast_precision_loss, reason = "at most an hour of microseconds")]
    fn latencies(&self) -> Option<Latencies> {
        if self.latencies.is_empty() {
            return None;
        }
        let at = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Some(Latencies {
            avg_ms: self.sum_ms / self.latencies.len() as f64,
            min_ms: self.latencies.min() as f64 / 1e3,
            max_ms: self.latencies.max() as f64 / 1e3,
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            tail_ratio: at(0.99) / at(0.5),
        })
    }

    /// The report as a block of lines.
    pub(super) fn text(&self, elapsed: Duration) -> String {
        let rate = self.rate(elapsed);
        let mut rows = vec![format!("Events received: {}", self.received), format!("Event rate: {rate:.2} events/sec")];
        match self.latencies() {
            None => rows.push("Latency: no event says published_at_ms or timestamp".into()),
            Some(Latencies { avg_ms, min_ms, max_ms, p50_ms, p95_ms, p99_ms, tail_ratio }) => {
                let figures = [
                    ("avg", avg_ms),
                    ("min", min_ms),
                    ("max", max_ms),
                    ("p50", p50_ms),
                    ("p95", p95_ms),
                    ("p99", p99_ms),
                ];
                rows.extend(figures.map(|(name, ms)| format!("Latency ({name}): {ms:.2}ms")));
                rows.push(format!("Tail ratio (p99/p50): {tail_ratio:.2}x"));
            }
        }
        // Only if there are any: without them the block stays as documented.
        let counts = [
            ("Reconnects", self.reconnects),
            ("Gaps", self.gaps),
            ("Duplicates", self.counts.duplicates),
            ("Out of order", self.counts.reordered),
            ("Missing", self.counts.missing),
            ("Too many sources to look for any of that in", self.counts.unfollowed),
        ];
        rows.extend(counts.into_iter().filter(|row| 0 < row.1).map(|(name, count)| format!("{name}: {count}")));
        format!("\n=== Latency Report ===\n  {}\n========================", rows.join("\n  "))
    }

    /// The report as one line of JSON. Latencies are left out if no event had a timestamp.
    pub(super) fn json(&self, elapsed: Duration, is_last: bool) -> String {
        let Counts { duplicates, reordered, missing, unfollowed } = self.counts;
        let line = Line {
            is_last,
            elapsed_s: elapsed.as_secs_f64(),
            events: self.received,
            events_per_s: self.rate(elapsed),
            latencies: self.latencies(),
            streams_open: self.open,
            reconnects: self.reconnects,
            gaps: self.gaps,
            duplicates,
            reordered,
            missing,
            unfollowed,
        };
        serde_json::to_string(&line).expect("a struct of numbers has a JSON form")
    }
}
