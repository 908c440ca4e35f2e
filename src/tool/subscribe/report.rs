//! How long events took from `published_at_ms` in their payload to here. Both clocks are the machines' own, so across
//! machines the figures are as good as the clocks agree.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The events so far.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) received: u64,
    /// Streams that came back after they were cut.
    pub(super) reconnects: u64,
    /// How often events are known to be missing.
    pub(super) gaps: u64,
    /// Of all latencies, in ms.
    sum_ms: f64,
    /// In µs; holds only events that say when they were published.
    latencies: Histogram<u64>,
}

/// More counts as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// When an event was made, by its own account.
#[derive(Deserialize)]
struct Stamped {
    published_at_ms: Option<Stamp>,
    timestamp: Option<Stamp>,
}

/// A Unix time in ms, or a moment as RFC 3339 has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stamp {
    Number(f64),
    Text(String),
}

impl Stamp {
    /// As a Unix time in ms.
    fn unix_ms(&self) -> Option<f64> {
        match self {
            Self::Number(unix_ms) => Some(*unix_ms),
            Self::Text(text) => {
                let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
                #[expect(clippy::cast_precision_loss, reason = "to the microsecond for centuries")]
                let unix_ms = moment.unix_timestamp_nanos() as f64 / 1e6;
                Some(unix_ms)
            }
        }
    }
}

impl Report {
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constants within the allowed bounds");
        Self { received: 0, reconnects: 0, gaps: 0, sum_ms: 0.0, latencies }
    }

    /// Counts an event that arrived `now`, a Unix time. Returns how long it took in ms, if it says when it was made; a
    /// clock that is ahead of ours makes that zero.
    pub(super) fn add(&mut self, data: &[u8], now: Duration) -> Option<f64> {
        self.received += 1;
        let stamped: Stamped = serde_json::from_slice(data).ok()?;
        let stamp = stamped.published_at_ms.or(stamped.timestamp)?;
        let latency_ms = (now.as_secs_f64() * 1e3 - stamp.unix_ms()?).max(0.0);
        self.sum_ms += latency_ms;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and bounded next")]
        self.latencies.saturating_record(((latency_ms * 1e3).round() as u64).clamp(1, LATENCY_US_MAX));
        Some(latency_ms)
    }

    /// All of it, as a block of lines.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn write(&self, elapsed: Duration) -> String {
        let rate = self.received as f64 / elapsed.as_secs_f64().max(0.001);
        let mut rows = vec![format!("Events received: {}", self.received), format!("Event rate: {rate:.2} events/sec")];
        if self.latencies.is_empty() {
            rows.push("Latency: no event says published_at_ms or timestamp".into());
        } else {
            let at = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
            let average = self.sum_ms / self.latencies.len() as f64;
            let (min, max) = (self.latencies.min() as f64 / 1e3, self.latencies.max() as f64 / 1e3);
            let figures =
                [("avg", average), ("min", min), ("max", max), ("p50", at(0.5)), ("p95", at(0.95)), ("p99", at(0.99))];
            rows.extend(figures.map(|(name, ms)| format!("Latency ({name}): {ms:.2}ms")));
            rows.push(format!("Tail ratio (p99/p50): {:.2}x", at(0.99) / at(0.5)));
        }
        // Only if there is anything to tell: the block is as it was documented.
        let told = [("Reconnects", self.reconnects), ("Gaps", self.gaps)];
        rows.extend(told.into_iter().filter(|row| 0 < row.1).map(|(name, count)| format!("{name}: {count}")));
        format!("\n=== Latency Report ===\n  {}\n========================", rows.join("\n  "))
    }
}
