//! Counters and histograms of each reactor, merged when they are read.
//!
//! Each reactor owns a [`ReactorMetrics`] that only it writes, so recording is a load and a store. Labels never carry a topic or
//! a user, so the number of series is fixed at start.

mod exposition;
mod family;
mod histogram;
mod reactor;

use std::{fmt, sync::Arc, time::Duration};

pub(crate) use exposition::{Maxima, QuotaFigures};
pub use histogram::Histogram;
pub(crate) use histogram::Snapshot;
pub use reactor::ReactorMetrics;

pub use crate::transport::Transport;

use crate::clock::{Clock, Moment};

/// The health of a source, for `/ready`, `/stats` and `/metrics`.
pub trait SourceHealth: Send + Sync + fmt::Debug {
    /// The source's name, as labels have it.
    fn name(&self) -> &str;
    /// Whether the source delivers. `Err`: what is wrong, and since when if that is known.
    fn check(&self, now: Moment) -> Result<(), String>;
    /// When its last event arrived.
    fn last_event(&self) -> Option<Moment>;
    /// Events delivered since the start.
    fn received_total(&self) -> u64;
    /// How long its last proof of delivery took, if there was one.
    fn probe(&self) -> Option<Duration>;
    /// How often its connection was lost.
    fn reconnects_total(&self) -> u64;
    /// Since when [`SourceHealth::check`] gives the result that it gives at `now`, if the source knows.
    fn since(&self, _now: Moment) -> Option<Moment> {
        None
    }
    /// How often it may have lost events of a topic.
    fn losses_total(&self) -> u64 {
        0
    }
    /// What does not work for single topics, although the source delivers: a few lines.
    fn degraded(&self, _now: Moment) -> Vec<String> {
        Vec::new()
    }
    /// The topics and patterns to which its broker refuses the subscription at present.
    fn refused_subscriptions(&self) -> u64 {
        0
    }
    /// Publications refused by its broker.
    fn refused_publications_total(&self) -> u64 {
        0
    }
    /// Messages dropped because their channel was not subscribed, or no longer.
    fn unasked_total(&self) -> u64 {
        0
    }
    /// Messages that were no event: on a channel that is no topic's name, not UTF-8, or too large.
    fn rejected_messages_total(&self) -> u64 {
        0
    }
    /// The durations of the publications that the source made by itself, which no reactor counts.
    fn publish_durations(&self) -> Option<&Histogram> {
        None
    }
    /// Further figures of the source, for `/metrics`.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}

/// A figure that only one source has.
#[derive(Debug)]
pub struct Figure {
    name: &'static str,
    help: &'static str,
    value: FigureValue,
}

#[derive(Debug)]
enum FigureValue {
    Counter(u64),
    Gauge(u64),
    Histogram(Box<Snapshot>),
}

impl Figure {
    /// A counter. `_total` is appended to its name.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value: FigureValue::Counter(value) }
    }

    /// A gauge.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value: FigureValue::Gauge(value) }
    }

    /// A histogram of durations.
    pub fn histogram(name: &'static str, help: &'static str, histogram: &Histogram) -> Self {
        let mut snapshot = Snapshot::default();
        histogram.merge_into(&mut snapshot);
        Self { name, help, value: FigureValue::Histogram(Box::new(snapshot)) }
    }
}

/// All counters of the hub.
#[derive(Debug)]
pub struct Metrics {
    /// The reactors' counters, by index.
    pub reactors: Vec<Arc<ReactorMetrics>>,
    pub sources: Vec<Arc<dyn SourceHealth>>,
    pub clock: Clock,
}

impl Metrics {
    /// The reactors that have not ended a turn for `timeout`. A healthy one ends a turn at least once a second.
    pub(crate) fn stuck_reactors(&self, now: Moment, timeout: Duration) -> Vec<usize> {
        let stuck = |reactor: &ReactorMetrics| timeout < now.since(reactor.last_turn());
        (0..self.reactors.len()).filter(|index| stuck(&self.reactors[*index])).collect()
    }
}
