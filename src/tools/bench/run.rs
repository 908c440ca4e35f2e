//! A run: what all of its parts share, and one load of it with its schedule and progress.

use super::{plan::Load, progress::Progress, schedule::Schedule, stamps::StampClock};
use crate::clock::Clock;

/// What all parts of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunContext {
    pub clock: Clock,
    pub stamps: Option<StampClock>,
    /// The number in this run's stamps.
    pub run: u16,
}

/// One load on its way.
#[derive(Debug)]
pub(super) struct LoadRun {
    pub load: Load,
    pub schedule: Schedule,
    pub progress: Progress,
}

impl LoadRun {
    pub(super) fn new(load: &Load, is_idle: bool) -> Self {
        let mut schedule = Schedule::new(&load.pace);
        if is_idle {
            schedule = Schedule { due: Vec::new(), measured: 0..0 };
        }
        Self { load: load.clone(), schedule, progress: Progress::default() }
    }

    /// Every event to every subscriber, the warm-up's and `more` too.
    pub(super) fn expected_deliveries(&self, more: u32) -> u64 {
        self.load.audience().deliveries(self.progress.event_end(self.schedule.event_count() + more))
    }
}
