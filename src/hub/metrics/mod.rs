//! Counters and histograms per reactor, merged when somebody asks.
//!
//! Each reactor owns a [`ReactorMetrics`] that only it writes: recording is a load and a store. Labels never carry a
//! topic or a user, so the number of series is fixed at start.

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

/// One reactor's figures. Only its reactor writes them.
#[derive(Debug, Default)]
// Two cache lines each way: reactors never share one, not even by prefetch.
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

/// Requests answered: one counter for each route and each status.
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
    /// A connection began to speak `transport`.
    pub(crate) fn on_open(&self, transport: Transport) {
        let metrics = &self.by_transport[transport as usize];
        histogram::add(&metrics.open, 1);
        histogram::add(&metrics.connects, 1);
    }

    /// A connection that speaks `transport` came from another reactor.
    pub(crate) fn on_arrive(&self, transport: Transport) {
        histogram::add(&self.by_transport[transport as usize].open, 1);
    }

    /// A connection that speaks `transport` went to another reactor, or became part of another one.
    pub(crate) fn on_depart(&self, transport: Transport) {
        histogram::add(&self.by_transport[transport as usize].open, u64::MAX);
    }

    /// A connection that spoke `transport` now speaks another.
    pub(crate) fn on_upgrade(&self, from: Transport, to: Transport) {
        histogram::add(&self.by_transport[from as usize].open, u64::MAX);
        self.on_open(to);
    }

    /// A connection ended.
    pub(crate) fn on_close(&self, transport: Transport, close: Close) {
        let metrics = &self.by_transport[transport as usize];
        histogram::add(&metrics.open, u64::MAX);
        histogram::add(&metrics.closes[close.index()], 1);
        let is_error = !matches!(close, Close::Done | Close::PeerClosed(_) | Close::PeerGone | Close::Restart);
        if matches!(transport, Transport::WebSocket | Transport::SocketIo) && is_error {
            self.on_websocket_error();
        }
    }

    /// A WebSocket connection or a Socket.IO session ended by an error, or a session was refused its namespace.
    pub(crate) fn on_websocket_error(&self) {
        histogram::add(&self.websocket_errors, 1);
    }

    /// `frames` frames of `bytes` bytes in all were handed to the kernel.
    #[inline]
    pub(crate) fn on_delivered(&self, transport: Transport, frames: u64, bytes: u64) {
        let metrics = &self.by_transport[transport as usize];
        histogram::add(&metrics.deliveries, frames);
        histogram::add(&metrics.delivered_bytes, bytes);
    }

    /// `times` deliveries took `latency` from the event's acceptance.
    #[inline]
    pub(crate) fn on_latency(&self, transport: Transport, latency: Duration, times: u64) {
        self.by_transport[transport as usize].latencies.record(latency, times);
    }

    /// The last subscriber here was served so long after the event was accepted.
    pub(crate) fn on_last_subscriber(&self, latency: Duration) {
        self.last_subscriber.record(latency, 1);
    }

    /// A request for `route` was answered with `status`.
    pub(crate) fn on_request(&self, route: RouteLabel, status: u16) {
        histogram::add(self.requests.counter(route, StatusLabel::new(status)), 1);
    }

    /// An event was published through the hub, and its answer took so long.
    pub(crate) fn on_publish(&self, duration: Duration) {
        self.publish_durations.record(duration, 1);
    }

    /// A client's WebSocket message arrived.
    pub(crate) fn on_message(&self) {
        histogram::add(&self.messages_in, 1);
    }

    /// A reader fell off its log.
    pub(crate) fn on_overflow(&self) {
        histogram::add(&self.overflows, 1);
    }

    /// A reader got a gap of its own.
    pub(crate) fn on_gap(&self, reason: GapReason) {
        histogram::add(&self.gaps[reason as usize], 1);
    }

    /// A client was not let in. May be called on any thread.
    pub(crate) fn on_auth_failure(&self, failure: AuthFailure) {
        self.auth_failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// `count` events were not sent to a reader because a newer one of the same key followed.
    pub(crate) fn on_conflated(&self, count: u64) {
        histogram::add(&self.conflated, count);
    }

    /// A connection was closed at once because descriptors were exhausted.
    pub(crate) fn on_shed(&self) {
        histogram::add(&self.accepts_shed, 1);
    }

    /// `count` connections wait for their peer to read.
    pub(crate) fn set_lagging(&self, count: usize) {
        self.lagging.store(count as u64, Ordering::Relaxed);
    }

    /// A turn that began at `began` has ended at `ended`.
    pub(crate) fn on_turn(&self, began: Moment, ended: Moment) {
        self.turns.record(ended.since(began), 1);
        self.last_turn.store(ended.0, Ordering::Relaxed);
    }

    /// When the reactor last finished a turn.
    pub(crate) fn last_turn(&self) -> Moment {
        Moment(self.last_turn.load(Ordering::Relaxed))
    }

    /// Connections open here, of all transports.
    pub fn open(&self) -> u64 {
        self.by_transport.iter().map(|metrics| metrics.open.load(Ordering::Relaxed)).sum()
    }
}

/// The health of a source, for `/ready`, `/stats` and `/metrics`.
pub trait SourceHealth: Send + Sync + fmt::Debug {
    /// Its name, as labels use it.
    fn name(&self) -> &str;
    /// Whether it delivers; if not, what is wrong and since when, as far as it knows.
    fn check(&self, now: Moment) -> Result<(), String>;
    /// When its last event arrived.
    fn last_event(&self) -> Option<Moment>;
    /// Events it has delivered.
    fn received_total(&self) -> u64;
    /// How long its last proof of delivery took to come back, if there has been one.
    fn probe(&self) -> Option<Duration>;
    /// Times its connection was lost.
    fn reconnects_total(&self) -> u64;
    /// Since when [`SourceHealth::check`] says what it says at `now`, if the source knows.
    fn since(&self, _now: Moment) -> Option<Moment> {
        None
    }
    /// Times it may have lost events of a topic.
    fn losses_total(&self) -> u64 {
        0
    }
    /// What it does not do for single topics, although it delivers: one line each, few lines.
    fn degraded(&self, _now: Moment) -> Vec<String> {
        Vec::new()
    }
    /// Topics and patterns that its broker refuses to let it subscribe to, at present.
    fn refused_subscriptions(&self) -> u64 {
        0
    }
    /// Publications that its broker refused.
    fn refused_publications_total(&self) -> u64 {
        0
    }
    /// Messages that its broker sent on channels that were not subscribed, or no longer; they are dropped.
    fn unasked_total(&self) -> u64 {
        0
    }
    /// How long publications took that it made by itself, and that no reactor counts.
    fn publish_durations(&self) -> Option<&Histogram> {
        None
    }
    /// What it counts besides, for `/metrics`.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}

/// A figure of one source's own.
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
    /// Something that only grows. `_total` is appended to its name.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value: FigureValue::Counter(value) }
    }

    /// Something that comes and goes.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value: FigureValue::Gauge(value) }
    }

    /// How long something takes.
    pub fn histogram(name: &'static str, help: &'static str, histogram: &Histogram) -> Self {
        let mut snapshot = Snapshot::default();
        histogram.merge_into(&mut snapshot);
        Self { name, help, value: FigureValue::Histogram(Box::new(snapshot)) }
    }
}

/// Everything that is counted, from where the whole hub can be seen.
#[derive(Debug)]
pub struct Metrics {
    /// Per reactor, by index.
    pub reactors: Vec<Arc<ReactorMetrics>>,
    /// The sources.
    pub sources: Vec<Arc<dyn SourceHealth>>,
    /// The hub's clock.
    pub clock: Clock,
}

/// Figures of one transport over all reactors.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransportTotals {
    /// Open now.
    pub open: u64,
    /// Opened since the start.
    pub(crate) connects: u64,
    /// Closed since the start, by [`close::LABELS`].
    pub closes: [u64; close::LABELS.len()],
    /// Events handed to the kernel.
    pub deliveries: u64,
    /// Their bytes, framing included.
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

    /// Reactors that have not finished a turn for `timeout`: each looks at its clock at least once a second.
    pub(crate) fn stuck_reactors(&self, now: Moment, timeout: Duration) -> Vec<usize> {
        let stuck = |reactor: &ReactorMetrics| timeout < now.since(reactor.last_turn());
        (0..self.reactors.len()).filter(|index| stuck(&self.reactors[*index])).collect()
    }

    fn sum(&self, counter: impl Fn(&ReactorMetrics) -> &AtomicU64) -> u64 {
        self.reactors.iter().map(|reactor| counter(reactor).load(Ordering::Relaxed)).sum()
    }
}
