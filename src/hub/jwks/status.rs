//! How the fetching of the key set goes, for `/ready` and `/metrics`.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Moment,
    metrics::{Figure, SourceHealth},
};

/// Written by the thread that fetches, read by any thread.
#[derive(Debug, Default)]
pub(crate) struct KeySetStatus {
    fetches: AtomicU64,
    failures: AtomicU64,
    keys: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When a good set last came; `None`: never.
    fetched: Option<Moment>,
    /// When the first one came.
    since: Moment,
    /// What is wrong since then.
    fault: Option<String>,
}

impl KeySetStatus {
    /// A set with so many keys has come.
    pub(super) fn on_fetched(&self, keys: usize, now: Moment) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.keys.store(keys as u64, Ordering::Relaxed);
        let mut state = self.state();
        if state.fetched.replace(now).is_none() {
            state.since = now;
        }
        state.fault = None;
    }

    /// No good set has come.
    pub(super) fn on_failure(&self, fault: &str, now: Moment) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.fetched.is_none() && state.fault.is_none() {
            state.since = now;
        }
        state.fault = Some(fault.to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a source it delivers keys: it is up once it has any.
impl SourceHealth for KeySetStatus {
    fn name(&self) -> &str {
        "jwks"
    }

    fn check(&self, _: Moment) -> Result<(), String> {
        let state = self.state();
        match (state.fetched, &state.fault) {
            (Some(_), _) => Ok(()),
            (None, None) => Err("no key set has come yet".to_owned()),
            (None, Some(fault)) => Err(fault.clone()),
        }
    }

    fn last_event(&self) -> Option<Moment> {
        None
    }

    fn received_total(&self) -> u64 {
        0
    }

    fn probe(&self) -> Option<Duration> {
        None
    }

    fn reconnects_total(&self) -> u64 {
        0
    }

    fn since(&self, _: Moment) -> Option<Moment> {
        Some(self.state().since)
    }

    fn degraded(&self, now: Moment) -> Vec<String> {
        let state = self.state();
        let line = |(fetched, fault): (Moment, &String)| {
            format!("the key set is {} s old: {fault}", now.since(fetched).as_secs())
        };
        state.fetched.zip(state.fault.as_ref()).map(line).into_iter().collect()
    }

    fn figures(&self) -> Vec<Figure> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Figure::counter("fanfare_jwks_fetches", "Key sets fetched", count(&self.fetches)),
            Figure::counter("fanfare_jwks_failures", "Fetches that brought no good key set", count(&self.failures)),
            Figure::gauge("fanfare_jwks_keys", "Keys in use of the last good set", count(&self.keys)),
        ]
    }
}
