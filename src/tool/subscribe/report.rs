//! How long events took from `published_at_ms` in their payload to here. Both clocks are the machines' own, so across
//! machines the figures are as good as the clocks agree.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

/// The events so far.
#[derive(Debug)]
pub(super) struct Report {
    received: u64,
    /// In µs; holds only events that say when they were published.
    latencies: Histogram<u64>,
}

/// More counts as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

#[derive(Deserialize)]
struct Stamped {
    published_at_ms: Option<f64>,
}

impl Report {
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constants within the allowed bounds");
        Self { received: 0, latencies }
    }

    /// Counts an event that arrived `now`, a Unix time.
    pub(super) fn add(&mut self, data: &[u8], now: Duration) {
        self.received += 1;
        let stamped: Option<Stamped> = serde_json::from_slice(data).ok();
        let Some(published_ms) = stamped.and_then(|stamped| stamped.published_at_ms) else { return };
        let latency_us = (now.as_secs_f64() * 1e6 - published_ms * 1e3).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and bounded next")]
        self.latencies.saturating_record((latency_us as u64).clamp(1, LATENCY_US_MAX));
    }

    /// All of it in a few lines.
    pub(super) fn write(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = self.received as f64 / seconds.max(0.001);
        let counts = format!("Received: {} events in {seconds:.1} s ({rate:.1}/s)", self.received);
        if self.latencies.is_empty() {
            return format!("{counts}\nLatency: no event says published_at_ms");
        }
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)];
        let quantiles = quantiles.map(|(name, quantile)| {
            #[expect(clippy::cast_precision_loss, reason = "at most an hour of microseconds")]
            let milliseconds = self.latencies.value_at_quantile(quantile) as f64 / 1e3;
            format!("{name} {milliseconds:.1}")
        });
        format!("{counts}\nLatency (ms): {}", quantiles.join("  "))
    }
}
