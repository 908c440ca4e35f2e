//! Prometheus metrics of a subscriber.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::report::Report;

/// Bucket bounds in seconds, as existing dashboards expect them.
const BOUNDS_S: [f64; 7] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0];

/// The metrics, which the subscriber writes and Prometheus reads.
#[derive(Debug)]
pub(super) struct Figures {
    latency: Histogram,
    events: Counter<u64>,
    reconnects: Counter<u64>,
    gaps: Counter<u64>,
    duplicates: Counter<u64>,
    reordered: Counter<u64>,
    unfollowed: Counter<u64>,
    missing: Gauge<u64, AtomicU64>,
    streams: Gauge<u64, AtomicU64>,
}

impl Figures {
    /// Metrics at zero, and the registry to read them from.
    pub(super) fn new() -> (Self, Registry) {
        let figures = Self {
            latency: Histogram::new(BOUNDS_S),
            events: Counter::default(),
            reconnects: Counter::default(),
            gaps: Counter::default(),
            duplicates: Counter::default(),
            reordered: Counter::default(),
            unfollowed: Counter::default(),
            missing: Gauge::default(),
            streams: Gauge::default(),
        };
        let mut registry = Registry::default();
        let help = "From the time in an event to its receipt";
        registry.register("sse_latency_seconds", help, figures.latency.clone());
        let counters = [
            ("events", "Events received", &figures.events),
            ("reconnects", "Streams that came back after they were cut", &figures.reconnects),
            ("gaps", "Times that events were announced as missing", &figures.gaps),
            ("duplicates", "Events that had come before", &figures.duplicates),
            ("reordered", "Events that came after a later one of their source", &figures.reordered),
            ("unfollowed", "Events in which nobody looked for any of that: too many sources", &figures.unfollowed),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("fanfare_subscriber_{name}"), help, counter.clone());
        }
        // A gauge, as missing events may still arrive.
        let help = "Events that their sources have numbered and that have not come";
        registry.register("fanfare_subscriber_missing_events", help, figures.missing.clone());
        registry.register("fanfare_subscriber_streams", "Open streams", figures.streams.clone());
        (figures, registry)
    }

    /// Records an event's latency.
    pub(super) fn record(&self, latency_ms: f64) {
        self.latency.observe(latency_ms / 1e3);
    }

    /// Sets the metrics to the counts of `report`.
    pub(super) fn update(&self, report: &Report) {
        let counts = &report.counts;
        let counters = [
            (&self.events, report.received),
            (&self.reconnects, report.reconnects),
            (&self.gaps, report.gaps),
            (&self.duplicates, counts.duplicates),
            (&self.reordered, counts.reordered),
            (&self.unfollowed, counts.unfollowed),
        ];
        for (counter, count) in counters {
            counter.inner().store(count, Ordering::Relaxed);
        }
        self.missing.set(counts.missing);
        self.streams.set(report.open);
    }
}
