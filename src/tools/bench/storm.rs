//! A storm: all connections but one are cut at once, events are published, and all subscribers reconnect at once and resume.

use std::{thread, time::Duration};

use super::{
    payload::Stamp,
    plan::{EVENTS_AFTER_STORM, Plan},
    process,
    progress::Command,
    publisher::Publisher,
    run::{LoadRun, RunContext},
    wait::wait_until,
    window::Edge,
    workers::WorkerSet,
};

/// Timeout for the subscribers to disconnect.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between the last missed event and the first reconnection, in which the server cleans up the cut connections.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// The kernel's counters around the reconnections of a storm.
#[derive(Debug)]
pub(super) struct Storm {
    pub window: [Edge; 2],
    /// Connections that found the listener's queue full; each was retried a second later.
    pub listen_overflows: u64,
}

/// Performs the storm that `plan` asks for. All earlier events must have been delivered.
pub(super) fn run_storm(plan: &Plan, run: &LoadRun, context: &RunContext) -> Result<Option<Storm>, String> {
    let Some(missed) = plan.storm else { return Ok(None) };
    let progress = &run.progress;
    let away_count = run.load.subscribers - 1;
    let mut publisher = Publisher::connect(&plan.publish, &run.load.topic, plan.size_bytes)
        .map_err(|error| format!("the publisher cannot connect: {error}"))?;
    progress.set_command(Command::Leave);
    expect(LEAVE_TIMEOUT, context, "not all subscribers left", || {
        away_count <= progress.away.now() + progress.closed.now()
    })?;
    let known = progress.deliveries();
    let first = run.schedule.event_count();
    publish(&mut publisher, first, missed, context)?;
    let has_arrived = || known + u64::from(missed) <= progress.deliveries();
    expect(plan.timeout, context, "the subscriber that stayed does not hear", has_arrived)?;
    thread::sleep(SETTLE_TIME);
    let edge = || {
        Edge::read(plan, std::iter::once(progress), &WorkerSet::default(), &context.clock)
            .map_err(|error| error.to_string())
    };
    let (before, overflows_before) = (edge()?, process::listen_overflows());
    progress.set_command(Command::Return);
    let is_over = || Ok(away_count <= progress.back.now() + progress.closed.now());
    // The events that a subscriber misses, because it is not back in time, count as lost.
    wait_until(plan.timeout, &context.clock, is_over)?;
    let window = [before, edge()?];
    let listen_overflows = process::listen_overflows() - overflows_before;
    publish(&mut publisher, first + missed, EVENTS_AFTER_STORM, context)?;
    Ok(Some(Storm { window, listen_overflows }))
}

fn publish(publisher: &mut Publisher, first: u32, count: u32, context: &RunContext) -> Result<(), String> {
    let mut events = first..first + count;
    let sent = events.try_for_each(|sequence| {
        let stamp = Stamp { run: context.run, sequence, intended: context.clock.now() };
        publisher.send(&stamp)
    });
    // Closing the connection before all answers have arrived could lose events.
    sent.and_then(|()| publisher.await_answers(&context.clock))
        .map_err(|error| format!("the publisher failed: {error}"))
}

fn expect(timeout: Duration, context: &RunContext, what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let came = wait_until(timeout, &context.clock, || Ok(is_so()))?;
    if came { Ok(()) } else { Err(what.to_owned()) }
}
