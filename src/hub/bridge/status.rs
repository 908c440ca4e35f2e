//! The status of a bridge: written by its thread, read by `/ready`, `/metrics` and `/stats`.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

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
    pub(super) last_event: AtomicU64,
}

impl BridgeStatus {
    pub(super) fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
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
        stands_by.then(|| "bridge: another one has the lease, this one stands by".to_owned()).into_iter().collect()
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
            Figure::gauge(
                "fanfare_bridge_active",
                "1 while this bridge carries events, 0 while another one has the lease",
                u64::from(!self.stands_by.load(Ordering::Relaxed)),
            ),
        ]
    }
}
