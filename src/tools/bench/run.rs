//! A run: what all of its parts share, and one load of it with its schedule and progress.

use super::{plan::Load, progress::Progress, schedule::Schedule, stamps::StampClock};
use crate::clock::Clock;

/// Clocks and run number, which all parts of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunContext {
    pub clock: Clock,
    pub stamps: Option<StampClock>,
    /// The run's number in payloads, which tells them from those of other runs.
    pub run: u16,
}

/// One load with its schedule and progress.
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

    /// The deliveries of all events to all their subscribers, including the warm-up and `more` events after the schedule.
    pub(super) fn expected_deliveries(&self, more: u32) -> u64 {
        self.load.audience().deliveries(self.progress.event_end(self.schedule.event_count() + more))
    }
}
