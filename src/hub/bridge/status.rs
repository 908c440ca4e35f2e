//! The status of a bridge: written by its thread, read by `/ready`, `/metrics` and `/stats`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::relay::Tally;

use crate::{
    clock::Moment,
    metrics::{Figure, SourceHealth},
};

/// What a bridge has done.
#[derive(Debug, Default)]
pub(super) struct BridgeStatus {
    pub(super) stands_by: AtomicBool,
    pub(super) relayed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) losses: AtomicU64,
    pub(super) returned: AtomicU64,
    pub(super) last_event: AtomicU64,
    /// Topics whose logs are carried.
    pub(super) topics: AtomicU64,
    /// What keeps a bridge from carrying logs.
    troubles: Mutex<BTreeMap<Trouble, String>>,
}

/// A question that a broker does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Which topics have a log.
    Topics,
    /// How far one was carried.
    Places,
}

impl BridgeStatus {
    /// Counts what became of publications.
    pub(super) fn count_all(&self, tally: Tally, now: Moment) {
        for (counter, more) in [
            (&self.relayed, tally.relayed),
            (&self.failed, tally.failed),
            (&self.losses, tally.losses),
            (&self.returned, tally.returned),
        ] {
            counter.fetch_add(more, Ordering::Relaxed);
        }
        if 0 < tally.relayed {
            self.last_event.store(now.0.max(1), Ordering::Relaxed);
        }
    }

    /// Notes what is wrong; `None`: nothing is.
    pub(super) fn set_trouble(&self, trouble: Trouble, what: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => drop(troubles.insert(trouble, what)),
            None => drop(troubles.remove(&trouble)),
        }
    }
}

/// It is ready whenever its sources are, which say so themselves.
impl SourceHealth for BridgeStatus {
    fn name(&self) -> &str {
        "bridge"
    }

    fn check(&self, _: Moment) -> Result<(), String> {
        Ok(())
    }

    fn last_event(&self) -> Option<Moment> {
        let at = self.last_event.load(Ordering::Relaxed);
        (at != 0).then_some(Moment(at))
    }

    fn received_total(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }

    fn probe(&self) -> Option<Duration> {
        None
    }

    fn reconnects_total(&self) -> u64 {
        0
    }

    fn losses_total(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    fn degraded(&self, _: Moment) -> Vec<String> {
        let stands_by = self.stands_by.load(Ordering::Relaxed);
        let stands_by = stands_by.then(|| "bridge: another one has the lease, this one stands by".to_owned());
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        stands_by.into_iter().chain(troubles.values().map(|trouble| format!("bridge: {trouble}"))).collect()
    }

    fn figures(&self) -> Vec<Figure> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Figure::counter(
                "fanfare_bridge_events",
                "Events that the other side's broker has taken",
                load(&self.relayed),
            ),
            Figure::counter(
                "fanfare_bridge_failures",
                "Publications that failed or whose outcome is unknown, each told as a loss",
                load(&self.failed),
            ),
            Figure::counter(
                "fanfare_bridge_returned",
                "Events that were not carried because another bridge had brought them",
                load(&self.returned),
            ),
            Figure::gauge(
                "fanfare_bridge_topics",
                "Topics whose logs are carried; 0 at a bridge that carries none",
                load(&self.topics),
            ),
            Figure::gauge(
                "fanfare_bridge_active",
                "1 while this bridge carries events, 0 while another one has the lease",
                u64::from(!self.stands_by.load(Ordering::Relaxed)),
            ),
        ]
    }
}
