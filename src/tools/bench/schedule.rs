//! When events are due: fixed before the run begins, so that a slow server cannot slow the load down (open loop).

use std::{ops::Range, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Distribution of events over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Arrivals {
    /// At equal intervals.
    Even,
    /// At random times, as many independent publishers would send; the same times in every run.
    Poisson,
    /// In bursts of --burst-events, at equal intervals.
    Burst,
}

/// The parameters of a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub arrivals: Arrivals,
    /// Events per second, over all.
    pub rate: f64,
    /// How many events a burst has.
    pub burst_events: u32,
    /// Events in this first span are sent but not measured.
    pub warmup: Duration,
    /// The span that is measured.
    pub duration: Duration,
}

/// The due times of all events of a run.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Since the run's start, ascending; the index is the event's sequence number.
    pub due: Vec<Duration>,
    /// The sequence numbers of the events in the measured span.
    pub measured: Range<u32>,
}

impl Schedule {
    pub(super) fn new(pace: &Pace) -> Self {
        let due = due_times(pace);
        let warmup_count = due.partition_point(|&due| due < pace.warmup);
        let measured = u32::try_from(warmup_count).unwrap_or(u32::MAX)..u32::try_from(due.len()).unwrap_or(u32::MAX);
        Self { due, measured }
    }

    /// How many events there are.
    pub(super) fn event_count(&self) -> u32 {
        self.measured.end
    }
}

fn due_times(pace: &Pace) -> Vec<Duration> {
    let end = (pace.warmup + pace.duration).as_secs_f64();
    let expected_count = (end * pace.rate).round();
    match pace.arrivals {
        // Half an interval off, so that the edges of the measured span lie where nothing is under way.
        Arrivals::Even => {
            (0..expected_count as u32).map(|event| seconds((f64::from(event) + 0.5) / pace.rate)).collect()
        }
        Arrivals::Burst => (0..expected_count as u32)
            .map(|event| f64::from(event / pace.burst_events) + 0.5)
            .map(|burst| burst * f64::from(pace.burst_events) / pace.rate)
            .take_while(|&due| due < end)
            .map(seconds)
            .collect(),
        Arrivals::Poisson => poisson(pace.rate, end),
    }
}

fn poisson(rate: f64, end: f64) -> Vec<Duration> {
    let mut random = SmallRng::seed_from_u64(1);
    let mut due = 0.0;
    std::iter::from_fn(|| {
        // One minus, because a draw may be 0 but never 1.
        due -= (1.0 - random.random::<f64>()).ln() / rate;
        (due < end).then(|| seconds(due))
    })
    .collect()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_nanos((seconds * 1e9) as u64)
}
