//! Counters and histograms of each reactor, merged when they are read.
//!
//! Each reactor owns a [`ReactorMetrics`] that only it writes, so recording is a load and a store. Labels never carry a topic or
//! a user, so the number of series is fixed at start.

mod exposition;
mod histogram;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use exposition::{Maxima, QuotaFigures};
pub use histogram::Histogram;
pub(crate) use histogram::Snapshot;

pub use crate::transport::Transport;

use crate::{
    clock::{Clock, Moment},
    close::{self, Close},
    gap::GapReason,
    label::{AuthFailure, RouteLabel, StatusLabel},
};

/// The counters of one reactor. Only the reactor writes them.
#[derive(Debug, Default)]
// Two cache lines, because processors prefetch pairs: reactors never share one.
#[repr(align(128))]
pub struct ReactorMetrics {
    by_transport: [TransportMetrics; Transport::ALL.len()],
    requests: RequestCounters,
    turns: Histogram,
    /// Event accepted → written to the last subscriber of this reactor.
    last_subscriber: Histogram,
    publish_durations: Histogram,
    messages_in: AtomicU64,
    websocket_errors: AtomicU64,
    overflows: AtomicU64,
    gaps: [AtomicU64; GapReason::ALL.len()],
    auth_failures: [AtomicU64; AuthFailure::ALL.len()],
    conflated: AtomicU64,
    accepts_shed: AtomicU64,
    lagging: AtomicU64,
    last_turn: AtomicU64,
}

/// Counters of answered requests, one for each route and status.
#[derive(Debug)]
struct RequestCounters(Box<[AtomicU64]>);

impl Default for RequestCounters {
    fn default() -> Self {
        let count = RouteLabel::ALL.len() * StatusLabel::COUNT;
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }
}

impl RequestCounters {
    fn counter(&self, route: RouteLabel, status: StatusLabel) -> &AtomicU64 {
        &self.0[route as usize * StatusLabel::COUNT + status.index()]
    }
}

#[derive(Debug, Default)]
struct TransportMetrics {
    open: AtomicU64,
    connects: AtomicU64,
    closes: [AtomicU64; close::LABELS.len()],
    deliveries: AtomicU64,
    delivered_bytes: AtomicU64,
    latencies: Histogram,
}

impl ReactorMetrics {
    /// Counts a new connection of `transport`.
    pub(crate) fn on_open(&self, transport: Transport) {
        let metrics = &self.by_transport[transport as usize];
        histogram::add(&metrics.open, 1);
        histogram::add(&metrics.connects, 1);
    }

    /// Counts a connection that came from another reactor.
    pub(crate) fn on_arrive(&self, transport: Transport) {
        histogram::add(&self.by_transport[transport as usize].open, 1);
    }

    /// Counts a connection that went to another reactor, or became part of another connection.
    pub(crate) fn on_depart(&self, transport: Transport) {
        histogram::add(&self.by_transport[transport as usize].open, u64::MAX);
    }

    /// Counts a change of transport.
    pub(crate) fn on_upgrade(&self, from: Transport, to: Transport) {
        histogram::add(&self.by_transport[from as usize].open, u64::MAX);
        self.on_open(to);
    }

    /// Counts the end of a connection.
    pub(crate) fn on_close(&self, transport: Transport, close: Close) {
        let metrics = &self.by_transport[transport as usize];
        histogram::add(&metrics.open, u64::MAX);
        histogram::add(&metrics.closes[close.index()], 1);
        let is_error = !matches!(close, Close::Done | Close::PeerClosed(_) | Close::PeerGone | Close::Restart);
        if matches!(transport, Transport::WebSocket | Transport::SocketIo) && is_error {
            self.on_websocket_error();
        }
    }

    /// Counts a WebSocket connection or a Socket.IO session that ended with an error, or a session refused by its namespace.
    pub(crate) fn on_websocket_error(&self) {
        histogram::add(&self.websocket_errors, 1);
    }

    /// Counts `frames` frames, of `bytes` bytes together, handed to the kernel.
    #[inline]
    pub(crate) fn on_delivered(&self, transport: Transport, frames: u64, bytes: u64) {
        let metrics = &self.by_transport[transport as usize];
        histogram::add(&metrics.deliveries, frames);
        histogram::add(&metrics.delivered_bytes, bytes);
    }

    /// Records that `times` deliveries took `latency`, from the event's acceptance to the kernel.
    #[inline]
    pub(crate) fn on_latency(&self, transport: Transport, latency: Duration, times: u64) {
        self.by_transport[transport as usize].latencies.record(latency, times);
    }

    /// Records how long after its acceptance an event was written to the reactor's last subscriber.
    pub(crate) fn on_last_subscriber(&self, latency: Duration) {
        self.last_subscriber.record(latency, 1);
    }

    /// Counts a request for `route` answered with `status`.
    pub(crate) fn on_request(&self, route: RouteLabel, status: u16) {
        histogram::add(self.requests.counter(route, StatusLabel::new(status)), 1);
    }

    /// Records how long a publication took from the request to its answer.
    pub(crate) fn on_publish(&self, duration: Duration) {
        self.publish_durations.record(duration, 1);
    }

    /// Counts a WebSocket message of a client.
    pub(crate) fn on_message(&self) {
        histogram::add(&self.messages_in, 1);
    }

    /// Counts a reader that fell off its log.
    pub(crate) fn on_overflow(&self) {
        histogram::add(&self.overflows, 1);
    }

    /// Counts a gap that one reader got for itself.
    pub(crate) fn on_gap(&self, reason: GapReason) {
        histogram::add(&self.gaps[reason as usize], 1);
    }

    /// Counts a client that was refused. Any thread may call this.
    pub(crate) fn on_auth_failure(&self, failure: AuthFailure) {
        self.auth_failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `count` events that a reader did not get because a newer one of the same key followed.
    pub(crate) fn on_conflated(&self, count: u64) {
        histogram::add(&self.conflated, count);
    }

    /// Counts a connection closed at once because the process had no descriptors left.
    pub(crate) fn on_shed(&self) {
        histogram::add(&self.accepts_shed, 1);
    }

    /// Sets how many connections wait for their peer to read.
    pub(crate) fn set_lagging(&self, count: usize) {
        self.lagging.store(count as u64, Ordering::Relaxed);
    }

    /// Records a turn.
    pub(crate) fn on_turn(&self, began: Moment, ended: Moment) {
        self.turns.record(ended.since(began), 1);
        self.last_turn.store(ended.0, Ordering::Relaxed);
    }

    /// When the last turn ended.
    pub(crate) fn last_turn(&self) -> Moment {
        Moment(self.last_turn.load(Ordering::Relaxed))
    }

    /// Open connections of all transports.
    pub fn open(&self) -> u64 {
        self.by_transport.iter().map(|metrics| metrics.open.load(Ordering::Relaxed)).sum()
    }
}

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

/// The figures of one transport over all reactors.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransportTotals {
    /// Open connections.
    pub open: u64,
    /// Connections opened since the start.
    pub(crate) connects: u64,
    /// Connections closed since the start, by [`close::LABELS`].
    pub closes: [u64; close::LABELS.len()],
    /// Events handed to the kernel.
    pub deliveries: u64,
    /// The bytes of these events, with framing.
    pub(crate) delivered_bytes: u64,
    /// Event accepted → handed to the kernel.
    pub latencies: Snapshot,
}

impl Metrics {
    /// The figures of `transport` over all reactors.
    pub(crate) fn totals(&self, transport: Transport) -> TransportTotals {
        let mut totals = TransportTotals::default();
        for reactor in &self.reactors {
            let metrics = &reactor.by_transport[transport as usize];
            totals.open = totals.open.wrapping_add(metrics.open.load(Ordering::Relaxed));
            totals.connects += metrics.connects.load(Ordering::Relaxed);
            totals.deliveries += metrics.deliveries.load(Ordering::Relaxed);
            totals.delivered_bytes += metrics.delivered_bytes.load(Ordering::Relaxed);
            for (sum, closes) in totals.closes.iter_mut().zip(&metrics.closes) {
                *sum += closes.load(Ordering::Relaxed);
            }
            metrics.latencies.merge_into(&mut totals.latencies);
        }
        totals
    }

    /// Event accepted → handed to the kernel, over all transports and reactors.
    pub(crate) fn latencies(&self) -> Snapshot {
        let mut total = Snapshot::default();
        for reactor in &self.reactors {
            reactor.by_transport.iter().for_each(|metrics| metrics.latencies.merge_into(&mut total));
        }
        total
    }

    /// The reactors that have not ended a turn for `timeout`. A healthy one ends a turn at least once a second.
    pub(crate) fn stuck_reactors(&self, now: Moment, timeout: Duration) -> Vec<usize> {
        let stuck = |reactor: &ReactorMetrics| timeout < now.since(reactor.last_turn());
        (0..self.reactors.len()).filter(|index| stuck(&self.reactors[*index])).collect()
    }

    fn sum(&self, counter: impl Fn(&ReactorMetrics) -> &AtomicU64) -> u64 {
        self.reactors.iter().map(|reactor| counter(reactor).load(Ordering::Relaxed)).sum()
    }
}
