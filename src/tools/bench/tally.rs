//! The measurements of one topic: of each delivery, and of each event as a whole.

use std::ops::Range;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    histogram::{Counts, latency_histogram, nanoseconds},
    order::Faults,
    slices::{Slice, Slicing},
    topics::Audience,
};
use crate::clock::Moment;

/// When a delivery reached the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    /// When the read that brought it returned.
    pub read: Moment,
    /// When the kernel had received the last byte of what that read brought.
    pub kernel: Option<Moment>,
}

/// The measurements of one topic.
#[derive(Debug)]
pub(super) struct Tally {
    /// Intended send to return of the client's read, per delivery: a histogram for each slice of the window.
    slices: Vec<Histogram<u64>>,
    slicing: Slicing,
    /// Intended send to arrival in the client's kernel, per delivery.
    pub kernel: Histogram<u64>,
    pub faults: Faults,
    measured: Range<u32>,
    audience: Audience,
    events: Vec<EventTally>,
}

/// One event's deliveries.
#[derive(Clone, Copy, Debug, Default)]
struct EventTally {
    intended: Moment,
    first: Moment,
    median: Moment,
    last: Moment,
    last_kernel: Moment,
    received_count: u32,
    /// The slice in which it is due.
    slice: u16,
}

/// A tally as a worker sends it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TallyResult {
    slices: Vec<Counts>,
    kernel: Counts,
    faults: Faults,
    /// For each event: its deliveries, when it was due, when the first and the last arrived, and the last in the kernel.
    events: Vec<(u32, u64, u64, u64, u64)>,
}

/// The distributions over events: one sample per event, however many receive it.
#[derive(Debug)]
pub(super) struct PerEvent {
    pub first: Histogram<u64>,
    pub median: Histogram<u64>,
    pub last: Histogram<u64>,
    pub last_kernel: Histogram<u64>,
    /// Events that not every subscriber received; they are in no histogram.
    pub incomplete: u32,
}

impl Tally {
    /// For events numbered `measured`, going to the subscribers of `audience`.
    pub(super) fn new(measured: Range<u32>, audience: Audience, slicing: Slicing) -> Self {
        let event = |&slice| EventTally { slice, ..EventTally::default() };
        Self {
            slices: (0..slicing.count).map(|_| latency_histogram()).collect(),
            kernel: latency_histogram(),
            faults: Faults::default(),
            events: slicing.of_events.iter().map(event).collect(),
            slicing,
            measured,
            audience,
        }
    }

    /// Counts a delivery, if its event is one of the measured.
    #[inline]
    pub(super) fn record(&mut self, sequence: u32, intended: Moment, received: Received) {
        if !self.measured.contains(&sequence) {
            return;
        }
        if let Some(kernel) = received.kernel {
            self.kernel.saturating_record(nanoseconds(kernel.since(intended)));
        }
        let median_place = self.audience.of(sequence).div_ceil(2);
        let event = &mut self.events[(sequence - self.measured.start) as usize];
        event.note(intended, received, median_place);
        self.slices[usize::from(event.slice)].saturating_record(nanoseconds(received.read.since(intended)));
    }

    /// Intended send to return of the client's read, per delivery.
    pub(super) fn read(&self) -> Histogram<u64> {
        let mut sum = latency_histogram();
        self.slices.iter().for_each(|slice| sum += slice);
        sum
    }

    /// The latencies by slice of the window.
    pub(super) fn slices(&self) -> Vec<Slice> {
        self.slicing.report(&self.slices)
    }

    /// How many events were measured.
    pub(super) fn event_count(&self) -> u32 {
        self.events.len() as u32
    }

    /// The schedule was cut short before event `end`: later ones there were none.
    pub(super) fn cut(&mut self, end: u32) {
        self.measured.end = self.measured.end.min(end).max(self.measured.start);
        self.events.truncate(self.measured.len());
        let last = self.events.last().map_or(0, |event| usize::from(event.slice) + 1);
        self.slices.truncate(last);
    }

    /// The tally as a worker sends it.
    pub(super) fn to_result(&self) -> TallyResult {
        let event = |event: &EventTally| {
            let EventTally { received_count, intended, first, last, last_kernel, .. } = event;
            (*received_count, intended.0, first.0, last.0, last_kernel.0)
        };
        TallyResult {
            slices: self.slices.iter().map(Counts::of).collect(),
            kernel: Counts::of(&self.kernel),
            faults: self.faults,
            events: self.events.iter().map(event).collect(),
        }
    }

    /// Adds the tally of other subscribers of the same events.
    pub(super) fn add(&mut self, result: &TallyResult) {
        self.slices.iter_mut().zip(&result.slices).for_each(|(slice, more)| more.add_to(slice));
        result.kernel.add_to(&mut self.kernel);
        self.faults.add(&result.faults);
        for (event, &(received_count, intended, first, last, last_kernel)) in self.events.iter_mut().zip(&result.events)
        {
            let more = EventTally {
                intended: Moment(intended),
                first: Moment(first),
                last: Moment(last),
                last_kernel: Moment(last_kernel),
                received_count,
                ..EventTally::default()
            };
            event.add(&more);
        }
    }

    /// The distributions over events.
    pub(super) fn per_event(&self) -> PerEvent {
        let mut sum = PerEvent::new();
        for (event, sequence) in self.events.iter().zip(self.measured.start..) {
            if event.received_count == self.audience.of(sequence) {
                sum.add(event);
            } else {
                sum.incomplete += 1;
            }
        }
        sum
    }
}

impl EventTally {
    #[inline]
    fn note(&mut self, intended: Moment, received: Received, median_place: u32) {
        self.received_count += 1;
        if self.received_count == 1 {
            self.intended = intended;
            self.first = received.read;
        }
        if self.received_count == median_place {
            self.median = received.read;
        }
        // One thread stamps them all, so the moments ascend; the kernel's do not, as sockets are not read in its order.
        self.last = received.read;
        self.last_kernel = self.last_kernel.max(received.kernel.unwrap_or_default());
    }
}

impl EventTally {
    /// Adds the deliveries of a worker. The median of the sum does not follow from the medians of its parts, and stays
    /// unknown.
    fn add(&mut self, more: &Self) {
        if more.received_count == 0 {
            return;
        }
        self.first = if self.received_count == 0 { more.first } else { self.first.min(more.first) };
        self.intended = more.intended;
        self.last = self.last.max(more.last);
        self.last_kernel = self.last_kernel.max(more.last_kernel);
        self.received_count += more.received_count;
    }
}

impl PerEvent {
    fn new() -> Self {
        Self {
            first: latency_histogram(),
            median: latency_histogram(),
            last: latency_histogram(),
            last_kernel: latency_histogram(),
            incomplete: 0,
        }
    }

    fn add(&mut self, event: &EventTally) {
        self.first.saturating_record(nanoseconds(event.first.since(event.intended)));
        if event.median != Moment::default() {
            self.median.saturating_record(nanoseconds(event.median.since(event.intended)));
        }
        self.last.saturating_record(nanoseconds(event.last.since(event.intended)));
        if event.last_kernel != Moment::default() {
            self.last_kernel.saturating_record(nanoseconds(event.last_kernel.since(event.intended)));
        }
    }
}
