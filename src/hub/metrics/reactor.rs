//! What each reactor counts, and the families that `/metrics` makes of it.
//!
//! A counter without labels is a row of `counters`. Anything else is a field of [`ReactorMetrics`], a method that records, and a
//! family in `reactor_rows`, all in this file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Histogram, Metrics, Snapshot, Transport,
    family::{Family, Value},
    histogram,
};
use crate::{
    clock::Moment,
    close::{self, Close},
    gap::GapReason,
    label::{AuthFailure, RouteLabel, StatusLabel},
};

/// Makes the counters without labels. A row has the field, the method that counts, the name and the help text of the family.
macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident, $method:ident: $name:literal, $help:literal;)*) => {
        #[derive(Debug, Default)]
        struct Counters {
            $($field: AtomicU64,)*
        }

        impl ReactorMetrics {
            $(
                $(#[$doc])*
                pub(crate) fn $method(&self, count: u64) {
                    histogram::add(&self.counters.$field, count);
                }
            )*
        }

        impl Counters {
            fn rows(reactors: &[Arc<ReactorMetrics>]) -> Vec<Family> {
                let sum = |counter: fn(&Self) -> &AtomicU64| {
                    reactors.iter().map(|reactor| counter(&reactor.counters).load(Ordering::Relaxed)).sum()
                };
                vec![$(Family::counter($name, $help).of(sum(|counters| &counters.$field)),)*]
            }
        }
    };
}

counters! {
    /// Counts WebSocket messages of clients.
    messages_in, on_messages: "fanfare_websocket_messages_received", "Messages that came from WebSocket clients";
    /// Counts readers that fell off their log.
    overflows, on_overflows: "fanfare_overflows", "Times a reader fell off its log";
    /// Counts events that a reader did not get because a newer one of the same key followed.
    conflated, on_conflated:
        "fanfare_conflated", "Events not sent to readers that were behind, because a newer one of the same key followed";
    /// Counts connections closed at once because the process had no descriptors left.
    accepts_shed, on_shed:
        "fanfare_accepts_shed",
        "Connections closed without an answer, because no descriptors were left or far too many connections came";
}

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
    pub(super) publish_durations: Histogram,
    counters: Counters,
    pub(super) websocket_errors: AtomicU64,
    gaps: [AtomicU64; GapReason::ALL.len()],
    auth_failures: [AtomicU64; AuthFailure::ALL.len()],
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

    /// Counts a gap that one reader got for itself.
    pub(crate) fn on_gap(&self, reason: GapReason) {
        histogram::add(&self.gaps[reason as usize], 1);
    }

    /// Counts a client that was refused. Any thread may call this.
    pub(crate) fn on_auth_failure(&self, failure: AuthFailure) {
        self.auth_failures[failure as usize].fetch_add(1, Ordering::Relaxed);
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

    pub(super) fn sum(&self, counter: impl Fn(&ReactorMetrics) -> &AtomicU64) -> u64 {
        self.reactors.iter().map(|reactor| counter(reactor).load(Ordering::Relaxed)).sum()
    }

    pub(super) fn transport_rows(&self) -> Vec<Family> {
        let mut open = Family::gauge("fanfare_connections", "Open connections");
        let mut connects = Family::counter("fanfare_connects", "Connections opened");
        let mut closes = Family::counter("fanfare_closes", "Connections closed, by reason");
        let mut deliveries = Family::counter("fanfare_deliveries", "Events handed to the kernel, per connection");
        let mut bytes =
            Family::counter("fanfare_delivered_bytes", "Bytes of the events handed to the kernel, with framing");
        let mut seconds = Family::histogram(
            "fanfare_delivery_seconds",
            "From the acceptance of an event to its hand-over to the kernel",
        );
        for transport in Transport::ALL {
            let totals = self.totals(transport);
            let labels = || vec![("transport", transport.label().to_owned())];
            open.add(labels(), Value::Number(totals.open));
            connects.add(labels(), Value::Number(totals.connects));
            for (reason, count) in close::LABELS.iter().zip(totals.closes) {
                let mut with_reason = labels();
                with_reason.push(("reason", (*reason).to_owned()));
                closes.add(with_reason, Value::Number(count));
            }
            deliveries.add(labels(), Value::Number(totals.deliveries));
            bytes.add(labels(), Value::Number(totals.delivered_bytes));
            seconds.add(labels(), Value::Histogram(Box::new(totals.latencies)));
        }
        vec![open, connects, closes, deliveries, bytes, seconds]
    }

    pub(super) fn reactor_rows(&self) -> Vec<Family> {
        let mut turns = Family::histogram("fanfare_reactor_turn_seconds", "One turn of a reactor, without its sleep");
        let mut open = Family::gauge("fanfare_reactor_connections", "Open connections of a reactor");
        let mut last = Snapshot::default();
        for (index, reactor) in self.reactors.iter().enumerate() {
            let labels = || vec![("reactor", index.to_string())];
            let mut snapshot = Snapshot::default();
            reactor.turns.merge_into(&mut snapshot);
            turns.add(labels(), Value::Histogram(Box::new(snapshot)));
            open.add(labels(), Value::Number(reactor.open()));
            reactor.last_subscriber.merge_into(&mut last);
        }
        let mut gaps =
            Family::counter("fanfare_gaps", "Gaps of single readers; losses of sources are in fanfare_losses");
        for reason in GapReason::ALL {
            let count = self.sum(|reactor| &reactor.gaps[reason as usize]);
            gaps.add(vec![("reason", reason.label().to_owned())], Value::Number(count));
        }
        let mut denied =
            Family::counter("fanfare_auth_failures", "Requests refused for want of a valid credential or of a right");
        for failure in AuthFailure::ALL {
            let count = self.sum(|reactor| &reactor.auth_failures[failure as usize]);
            denied.add(vec![("reason", failure.label().to_owned())], Value::Number(count));
        }
        let mut rows = vec![
            turns,
            open,
            self.request_row(),
            denied,
            Family::histogram(
                "fanfare_publish_to_last_subscriber_seconds",
                "From the acceptance of an event to its hand-over for the last subscriber of a reactor",
            )
            .with(Vec::new(), Value::Histogram(Box::new(last))),
            Family::gauge("fanfare_lagging_connections", "Connections whose peer reads too slowly")
                .of(self.sum(|reactor| &reactor.lagging)),
            gaps,
        ];
        rows.extend(Counters::rows(&self.reactors));
        rows
    }

    /// Only pairs of route and status that occurred: most never do.
    fn request_row(&self) -> Family {
        let mut requests = Family::counter("fanfare_http_requests", "Requests answered");
        for route in RouteLabel::ALL {
            for status in (0..StatusLabel::COUNT).map(StatusLabel::at) {
                let count = self.sum(|reactor| reactor.requests.counter(route, status));
                if 0 < count {
                    let labels = vec![("route", route.label().to_owned()), ("code", status.to_string())];
                    requests.add(labels, Value::Number(count));
                }
            }
        }
        requests
    }
}
