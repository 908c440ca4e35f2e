//! Messages between the processes of one client: lines of JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::{
    churn::Visits,
    fleet::FleetResult,
    histogram::{Counts, latency_histogram},
    progress::Progress,
    tally::TallyResult,
};

/// The first line to a worker: its part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct WorkerConfig {
    /// From 0.
    pub worker: u32,
    pub worker_count: u32,
    /// The start of the run's clock, in nanoseconds of the machine's monotonic clock. Timestamps count from there.
    pub origin_ns: u64,
    pub run: u16,
    /// Rate of the first topic, which differs in each step of a ladder.
    pub rate_hz: f64,
    pub core: Option<usize>,
}

/// A further line to a worker, which answers each with one line.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Report the state.
    State,
    /// Open the connections that never read.
    Stall,
    /// Start, and stop, the short-lived subscribers.
    StartChurn,
    StopChurn,
    /// Stop, and report the results. `ends` is the number of events of each load.
    Finish {
        ends: Vec<u32>,
    },
}

/// An answer of a worker.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The state of each load.
    State(Vec<State>),
    Done,
    WorkerResult(Box<WorkerResult>),
    /// The worker failed.
    Problem(String),
}

/// Progress of the subscribers of one load.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct State {
    pub open: u32,
    pub ready: u32,
    pub closed: u32,
    pub deliveries: u64,
    pub first_failure: Option<String>,
    /// The fleet's thread, as a folder under /proc.
    pub thread: Option<PathBuf>,
    /// The coarse latencies: number and count of each bucket that is not empty.
    pub live: Vec<(usize, u64)>,
}

/// The measurements of a worker.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct WorkerResult {
    /// The last state and the measurements, by load.
    pub states: Vec<State>,
    pub loads: Vec<LoadResult>,
    pub visits: Option<VisitsResult>,
    /// Drift between the wall clock and the monotonic clock.
    pub drift_ns: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct LoadResult {
    tally: TallyResult,
    opening: Counts,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct VisitsResult {
    began: u64,
    opening: Counts,
    failed: u64,
    first_failure: Option<String>,
}

impl State {
    pub(super) fn of(progress: &Progress) -> Self {
        Self {
            open: progress.open.now(),
            ready: progress.ready.now(),
            closed: progress.closed.now(),
            deliveries: progress.deliveries(),
            first_failure: progress.first_failure(),
            thread: progress.thread().cloned(),
            live: progress.live.counts(),
        }
    }

    /// Sets `progress` to the sum of all `states` of a load.
    pub(super) fn sum_up<'a>(states: impl Iterator<Item = &'a Self> + Clone, progress: &Progress) {
        progress.open.set(states.clone().map(|state| state.open).sum());
        progress.ready.set(states.clone().map(|state| state.ready).sum());
        progress.closed.set(states.clone().map(|state| state.closed).sum());
        progress.set_deliveries(states.clone().map(|state| state.deliveries).sum());
        progress.live.set(states.clone().flat_map(|state| &state.live));
        // The first failure stays.
        states.filter_map(|state| state.first_failure.as_ref()).for_each(|failure| progress.set_first_failure(failure));
    }
}

impl LoadResult {
    pub(super) fn of(result: &FleetResult) -> Self {
        Self { tally: result.tally.to_result(), opening: Counts::of(&result.opening) }
    }

    pub(super) fn add_to(&self, result: &mut FleetResult) {
        result.tally.add(&self.tally);
        self.opening.add_to(&mut result.opening);
    }
}

impl VisitsResult {
    pub(super) fn of(visits: &Visits) -> Self {
        let Visits { began, opening, failed, first_failure } = visits;
        Self { began: *began, opening: Counts::of(opening), failed: *failed, first_failure: first_failure.clone() }
    }

    pub(super) fn add_to(&self, visits: &mut Option<Visits>) {
        let visits = visits.get_or_insert_with(|| Visits {
            began: 0,
            opening: latency_histogram(),
            failed: 0,
            first_failure: None,
        });
        visits.began += self.began;
        visits.failed += self.failed;
        self.opening.add_to(&mut visits.opening);
        visits.first_failure = visits.first_failure.take().or_else(|| self.first_failure.clone());
    }
}
