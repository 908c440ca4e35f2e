//! The state of the store, for `/ready` and `/metrics`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::backlog::Load;
use crate::{
    clock::Moment,
    metrics::{Figure, Histogram, SourceHealth},
};

/// Written by the store's threads, read by any thread.
#[derive(Debug)]
pub(crate) struct StoreStatus {
    /// The maximum age of the last proof that the database answers.
    proof_age_max: Duration,
    load: Arc<Load>,
    rows: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
    republished: AtomicU64,
    unpublished: AtomicU64,
    reconnects: AtomicU64,
    batch_seconds: Histogram,
    publish_durations: Histogram,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The time of the last change of state.
    since: Moment,
    /// The present failure, if there is one.
    fault: Option<String>,
    last_answer: Moment,
    last_probe: Option<Duration>,
}

impl StoreStatus {
    /// For a database that has not been reached yet and is checked each `ping_interval`.
    pub(crate) fn new(ping_interval: Duration) -> Self {
        let state = State {
            since: Moment::default(),
            fault: Some("not connected yet".to_owned()),
            last_answer: Moment::default(),
            last_probe: None,
        };
        Self {
            proof_age_max: ping_interval * 3,
            load: Arc::default(),
            rows: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            republished: AtomicU64::new(0),
            unpublished: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            batch_seconds: Histogram::default(),
            publish_durations: Histogram::default(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn load(&self) -> Arc<Load> {
        Arc::clone(&self.load)
    }

    /// How long there has been no connection; `None` while there is one.
    pub(super) fn away_for(&self, now: Moment) -> Option<Duration> {
        let state = self.state();
        state.fault.is_some().then(|| now.since(state.since))
    }

    pub(super) fn on_connected(&self, now: Moment) {
        let mut state = self.state();
        state.last_answer = now;
        if state.fault.take().is_some() {
            state.since = now;
        }
    }

    /// The database has answered a request of the moment `asked`.
    pub(super) fn on_answer(&self, asked: Moment, now: Moment) {
        let mut state = self.state();
        state.last_answer = now;
        state.last_probe = Some(now.since(asked));
    }

    /// The connection was lost, or could not be made.
    pub(super) fn on_failure(&self, fault: &str, now: Moment) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.fault.replace(fault.to_owned()).is_none() {
            state.since = now;
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A batch of `rows` was committed. Called by the writer only.
    pub(super) fn on_batch(&self, rows: usize, span: Duration) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.batch_seconds.record(span, 1);
    }

    /// A row was published. Called by the writer only.
    pub(super) fn on_published(&self, took: Duration) {
        self.publish_durations.record(took, 1);
    }

    /// A request was refused, by the hub or by the database.
    pub(super) fn on_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Unpublished rows were found in the outbox.
    pub(super) fn on_republished(&self, rows: usize) {
        self.republished.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// A row could not be published after it was stored.
    pub(super) fn on_unpublished(&self) {
        self.unpublished.fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceHealth for StoreStatus {
    fn name(&self) -> &str {
        "store"
    }

    fn check(&self, now: Moment) -> Result<(), String> {
        let state = self.state();
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let age = now.since(state.last_answer);
        if self.proof_age_max < age {
            return Err(format!("no answer for {:.1} s", age.as_secs_f64()));
        }
        Ok(())
    }

    fn last_event(&self) -> Option<Moment> {
        None
    }

    fn received_total(&self) -> u64 {
        0
    }

    fn probe(&self) -> Option<Duration> {
        self.state().last_probe
    }

    fn reconnects_total(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    fn since(&self, now: Moment) -> Option<Moment> {
        let state = self.state();
        let silent = state.fault.is_none() && self.proof_age_max < now.since(state.last_answer);
        Some(if silent { state.last_answer } else { state.since })
    }

    fn publish_durations(&self) -> Option<&Histogram> {
        Some(&self.publish_durations)
    }

    fn figures(&self) -> Vec<Figure> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauge = |value: usize| value as u64;
        vec![
            Figure::gauge("fanfare_store_queue_rows", "Rows waiting to be stored", gauge(self.load.rows())),
            Figure::gauge("fanfare_store_queue_bytes", "What they weigh", gauge(self.load.bytes())),
            Figure::counter("fanfare_store_rows", "Rows committed, repeats included", count(&self.rows)),
            Figure::counter("fanfare_store_batches", "Transactions committed", count(&self.batches)),
            Figure::counter("fanfare_store_refused", "Requests that were not stored", count(&self.refused)),
            Figure::counter("fanfare_store_failures", "Connections that failed", count(&self.failures)),
            Figure::counter("fanfare_store_unpublished", "Rows stored, publishing failed", count(&self.unpublished)),
            Figure::counter("fanfare_store_republished", "Rows published out of the outbox", count(&self.republished)),
            Figure::histogram("fanfare_store_batch_seconds", "One transaction", &self.batch_seconds),
        ]
    }
}
