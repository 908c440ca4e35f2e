//! The phases of a run: connect, probe until every subscriber has received a probe, warm up, measure, wait for late
//! deliveries.

use std::{
    io,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    churn::{Churn, Visits},
    fleet::{Fleet, FleetResult},
    live::Snapshot,
    logins::{Attempts, Logins},
    payload::{PROBE, Stamp},
    plan::{EVENTS_AFTER_STORM, Plan},
    process::pin_to,
    progress::Progress,
    published::Published,
    publisher::Publisher,
    run::{LoadRun, RunContext},
    stalled::open_stalled,
    stamps::StampClock,
    storm::{Storm, run_storm},
    wait::wait_until,
    watch::Watch,
    window::{Edge, MemoryEdge},
    workers::{RunResult, WorkerSet, WorkerStats},
};
use crate::{
    client::MaybeTlsStream,
    clock::{Clock, Moment},
};

/// Timeouts for all subscribers to connect, and then to receive a probe.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval between probes. Each is a broadcast to all subscribers.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// The longest sleep of the conductor during warm-up and measurement.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Pause between the last probe and the first event, in which pending deliveries arrive and publishers start.
const START_DELAY: Duration = Duration::from_millis(500);

/// The conductor stops waiting for late deliveries after this long without one.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The measurements of a run.
#[derive(Debug)]
pub(super) struct Record {
    pub outcomes: Vec<Outcome>,
    /// Before the first connection, with all connected, and right after the measured span.
    pub memory: [MemoryEdge; 3],
    /// The beginning and the end of the measured span.
    pub window: [Edge; 2],
    pub visits: Option<Visits>,
    pub attempts: Option<Attempts>,
    pub storm: Option<Storm>,
    /// The worker processes; empty with one process.
    pub workers: Vec<WorkerStats>,
    /// Drift between the wall clock and the monotonic clock, if both were used.
    pub drift: Option<Duration>,
    pub started: Duration,
    /// Whether the user ended it early.
    pub is_interrupted: bool,
}

/// One load and its results.
#[derive(Debug)]
pub(super) struct Outcome {
    pub run: LoadRun,
    pub result: FleetResult,
    /// `None` if the run is idle.
    pub published: Option<Published>,
}

/// Results of the phases after the fleets have started.
struct RunPhases {
    memory: [MemoryEdge; 2],
    window: [Edge; 2],
    visits: Option<Visits>,
    attempts: Option<Attempts>,
    storm: Option<Storm>,
    published: Vec<Published>,
}

/// Performs the run that `plan` describes.
pub(super) fn conduct(plan: &Plan, watch: &Watch) -> Result<Record, String> {
    plan.own_core().map_or(Ok(()), pin_to)?;
    let clock = Clock::start();
    let stamps = plan.takes_kernel_stamps.then(|| StampClock::calibrate(&clock));
    let started = unix_now();
    let context = RunContext { clock, stamps, run: started.subsec_micros() as u16 };
    let memory_before = MemoryEdge::read(plan).map_err(|error| format!("--server-pid: {error}"))?;
    let runs: Vec<LoadRun> = plan.loads.iter().map(|load| LoadRun::new(load, plan.is_idle)).collect();
    let mut workers = WorkerSet::start(plan, &context)?;
    let (result, phases) = match workers.is_empty() {
        true => run_with_fleets(plan, &runs, &context, &mut workers, watch)?,
        false => {
            let phases = run_phases(plan, &runs, &context, &mut workers, watch)?;
            (workers.finish(&runs), phases)
        }
    };
    let mut published = phases.published.into_iter();
    let outcomes = runs.into_iter().zip(result.fleets);
    let outcomes = outcomes.map(|(run, result)| Outcome { run, result, published: published.next() }).collect();
    let [memory_open, memory_after] = phases.memory;
    Ok(Record {
        outcomes,
        memory: [memory_before, memory_open, memory_after],
        window: phases.window,
        visits: phases.visits.or(result.visits),
        attempts: phases.attempts,
        storm: phases.storm,
        workers: workers.stats(),
        drift: stamps.map(|stamps| stamps.drift(&clock)).max(result.drift),
        started,
        is_interrupted: watch.is_interrupted(),
    })
}

/// Runs the fleets in this process, on threads of their own.
fn run_with_fleets(
    plan: &Plan,
    runs: &[LoadRun],
    context: &RunContext,
    workers: &mut WorkerSet,
    watch: &Watch,
) -> Result<(RunResult, RunPhases), String> {
    thread::scope(|scope| {
        let fleets: Vec<_> =
            fleets(plan, runs, context)?.into_iter().map(|fleet| scope.spawn(|| fleet.run())).collect();
        let phases = run_phases(plan, runs, context, workers, watch);
        // Stop the fleets even after an error: the scope waits for them.
        runs.iter().for_each(|run| run.progress.stop());
        let results = fleets.into_iter().map(|fleet| match fleet.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("a subscribers' thread panicked".to_owned()),
        });
        Ok((RunResult { fleets: results.collect::<Result<_, _>>()?, visits: None, drift: None }, phases?))
    })
}

fn fleets<'a>(plan: &'a Plan, runs: &'a [LoadRun], context: &RunContext) -> Result<Vec<Fleet<'a>>, String> {
    let mut first_index = 0;
    let mut fleets = Vec::new();
    for LoadRun { load, schedule, progress, .. } in runs {
        let fleet = Fleet::new(plan, load, schedule, *context, progress, first_index);
        fleets.push(fleet.map_err(|error| error.to_string())?);
        first_index += load.subscribers;
    }
    Ok(fleets)
}

fn run_phases(
    plan: &Plan,
    runs: &[LoadRun],
    context: &RunContext,
    workers: &mut WorkerSet,
    watch: &Watch,
) -> Result<RunPhases, String> {
    await_open(runs, workers, &context.clock, watch)?;
    // The connections stall until this is dropped.
    let _stalled: Vec<MaybeTlsStream<TcpStream>> = stall(plan, workers)?;
    let memory_open = read_memory(plan)?;
    let publishers = if plan.is_idle { Vec::new() } else { probe(plan, runs, context, workers, watch)? };
    let over = Progress::default();
    thread::scope(|scope| {
        let (churn, logins) = (open_churn(plan, context, workers, &over)?, open_logins(plan, context, &over)?);
        let churn = churn.map(|churn| scope.spawn(|| churn.run()));
        let logins = logins.map(|logins| scope.spawn(|| logins.run()));
        let measured = measure(plan, runs, publishers, context, workers, watch);
        over.stop();
        workers.stop_churn();
        let visits = churn.map(|churn| join_thread(churn, "the visitors' thread")).transpose()?;
        let attempts = logins.map(|logins| join_thread(logins, "the thread of those who sign in")).transpose()?;
        let (window, published) = measured?;
        let memory_after = read_memory(plan)?;
        await_rest(plan, runs, 0, workers, &context.clock, watch);
        let storm = if watch.is_interrupted() { None } else { run_storm(plan, &runs[0], context)? };
        if let (Some(missed), Some(_)) = (plan.storm, &storm) {
            await_rest(plan, runs, missed + EVENTS_AFTER_STORM, workers, &context.clock, watch);
        }
        Ok(RunPhases { memory: [memory_open, memory_after], window, visits, attempts, storm, published })
    })
}

fn stall(plan: &Plan, workers: &mut WorkerSet) -> Result<Vec<MaybeTlsStream<TcpStream>>, String> {
    if !workers.is_empty() {
        return workers.stall().map(|()| Vec::new());
    }
    open_stalled(plan, &plan.loads[0]).map_err(|error| format!("a stalled subscriber: {error}"))
}

fn open_churn<'a>(
    plan: &'a Plan,
    context: &RunContext,
    workers: &mut WorkerSet,
    over: &'a Progress,
) -> Result<Option<Churn<'a>>, String> {
    if 0.0 < plan.churn.rate && !workers.is_empty() {
        return workers.start_churn().map(|()| None);
    }
    let churn = (0.0 < plan.churn.rate).then(|| Churn::new(plan, context, over));
    churn.transpose().map_err(|error| error.to_string())
}

fn open_logins<'a>(plan: &'a Plan, context: &RunContext, over: &'a Progress) -> Result<Option<Logins<'a>>, String> {
    let logins = plan.sign_in.as_ref().map(|sign_in| Logins::new(plan, sign_in, context, over));
    logins.transpose().map_err(|error| error.to_string())
}

fn join_thread<T>(thread: ScopedJoinHandle<'_, io::Result<T>>, name: &str) -> Result<T, String> {
    let result = thread.join().map_err(|_| format!("{name} panicked"))?;
    result.map_err(|error| format!("{name}: {error}"))
}

/// Publishes probes until every subscriber has received one. An event that a subscriber misses after that is lost.
fn probe(
    plan: &Plan,
    runs: &[LoadRun],
    context: &RunContext,
    workers: &mut WorkerSet,
    watch: &Watch,
) -> Result<Vec<Publisher>, String> {
    let mut publishers = Vec::new();
    for run in runs {
        let mut publisher = Publisher::connect(&plan.publish, &run.load.topic, plan.size_bytes)
            .map_err(|error| format!("the publisher cannot connect: {error}"))?;
        watch.begin();
        let mut next_probe = context.clock.now();
        let condition = || -> Result<bool, String> {
            if next_probe <= context.clock.now() {
                next_probe = next_probe + PROBE_INTERVAL;
                let stamp = Stamp { run: context.run, sequence: PROBE, intended: context.clock.now() };
                publisher.send(&stamp).map_err(|error| format!("the publisher failed: {error}"))?;
            }
            workers.poll(runs);
            workers.check_alive()?;
            check_closed(run)?;
            check_interrupted(watch)?;
            let (heard, all) = (run.progress.ready.now(), run.load.subscribers);
            watch.show("hearing", heard.into(), all.into(), || format!("{heard} of {all} heard a probe"));
            Ok(run.progress.ready.now() == run.load.subscribers)
        };
        if !wait_until(PROBE_TIMEOUT, &context.clock, condition)? {
            let heard = run.progress.ready.now();
            return Err(format!("only {heard} of {} subscribers of {} hear", run.load.subscribers, run.load.topic));
        }
        publishers.push(publisher);
    }
    Ok(publishers)
}

/// Follows the schedules, and reads the counters at both edges of the measured span.
fn measure(
    plan: &Plan,
    runs: &[LoadRun],
    publishers: Vec<Publisher>,
    context: &RunContext,
    workers: &mut WorkerSet,
    watch: &Watch,
) -> Result<([Edge; 2], Vec<Published>), String> {
    let clock = &context.clock;
    let start = clock.now() + START_DELAY;
    // Publishers' threads live until the last edge is read: the kernel's counters leave out the CPU time of ended threads.
    let is_read = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers: Vec<_> = publishers
            .into_iter()
            .zip(runs)
            .map(|(publisher, run)| {
                scope.spawn(|| {
                    let published = publisher.run(&run.schedule, start, context.run, clock, &run.progress);
                    while !is_read.load(Ordering::Acquire) {
                        thread::park();
                    }
                    published
                })
            })
            .collect();
        let is_warm = pass(("warming up", start), plan.warmup, runs, workers, clock, watch);
        let first = read_edge(plan, runs, workers, clock);
        let is_over = is_warm && pass(("measuring", start + plan.warmup), plan.duration, runs, workers, clock, watch);
        let last = read_edge(plan, runs, workers, clock);
        is_read.store(true, Ordering::Release);
        publishers.iter().for_each(|publisher| publisher.thread().unpark());
        let is_finished = || Ok(watch.is_interrupted() || publishers.iter().all(ScopedJoinHandle::is_finished));
        // A server that accepts events more slowly than they are due would block its publisher for ever.
        if !is_over || !wait_until(plan.timeout, clock, is_finished)? || watch.is_interrupted() {
            runs.iter().for_each(|run| run.progress.cut());
        }
        let published = publishers.into_iter().map(|publisher| publisher.join());
        let published = published.collect::<Result<_, _>>().map_err(|_| "a publisher's thread panicked".to_owned())?;
        if !is_warm {
            workers.check_alive()?;
            return Err("interrupted before the measured span began: nothing was measured".to_owned());
        }
        Ok(([first?, last?], published))
    })
}

/// Waits until all events are delivered, including `more` events after the schedules, or until deliveries stop.
fn await_rest(plan: &Plan, runs: &[LoadRun], more: u32, workers: &mut WorkerSet, clock: &Clock, watch: &Watch) {
    watch.begin();
    let expected: u64 = runs.iter().map(|run| run.expected_deliveries(more)).sum();
    let (mut last_count, mut last_change) = (0, clock.now());
    let condition = || {
        workers.poll(runs);
        let count = runs.iter().map(|run| run.progress.deliveries()).sum();
        if count != last_count {
            (last_count, last_change) = (count, clock.now());
        }
        watch.show("waiting", count, expected, || format!("{count} of {expected} deliveries"));
        Ok(expected <= count || SILENCE_MAX < clock.now().since(last_change))
    };
    // The condition never fails. Missing deliveries are counted as lost.
    let _ = wait_until(plan.timeout, clock, condition);
}

fn await_open(runs: &[LoadRun], workers: &mut WorkerSet, clock: &Clock, watch: &Watch) -> Result<(), String> {
    let all: u32 = runs.iter().map(|run| run.load.subscribers).sum();
    let open = || runs.iter().map(|run| run.progress.open.now()).sum::<u32>();
    watch.begin();
    let is_done = || {
        workers.poll(runs);
        workers.check_alive()?;
        runs.iter().try_for_each(check_closed)?;
        check_interrupted(watch)?;
        let count = open();
        watch.show("connecting", count.into(), all.into(), || format!("{count} of {all} subscribers"));
        Ok(count == all)
    };
    if wait_until(OPEN_TIMEOUT, clock, is_done)? {
        return Ok(());
    }
    let obstacles: String = runs.iter().map(|run| run.progress.obstacle()).collect();
    Err(format!("only {} of {all} subscribers are subscribed{obstacles}", open()))
}

fn check_interrupted(watch: &Watch) -> Result<(), String> {
    match watch.is_interrupted() {
        true => Err("interrupted before the measured span began: nothing was measured".to_owned()),
        false => Ok(()),
    }
}

/// Waits for the end of a phase and shows its progress. False if the user interrupted it or a worker died.
fn pass(
    (name, start): (&'static str, Moment),
    span: Duration,
    runs: &[LoadRun],
    workers: &mut WorkerSet,
    clock: &Clock,
    watch: &Watch,
) -> bool {
    let poll = || Snapshot::of(runs.iter().map(|run| &run.progress.live));
    let (mut last, mut last_at) = (poll(), clock.now());
    watch.begin();
    while clock.now() < start + span {
        workers.poll(runs);
        if watch.is_interrupted() || workers.death().is_some() {
            return false;
        }
        let elapsed = clock.now().since(start);
        watch.show(name, elapsed.as_millis() as u64, span.as_millis() as u64, || {
            let (now, at) = (poll(), clock.now());
            let note = describe(elapsed, span, &now.since(&last), at.since(last_at));
            (last, last_at) = (now, at);
            note
        });
        thread::sleep((start + span).since(clock.now()).min(WATCH_INTERVAL));
    }
    true
}

fn describe(elapsed: Duration, span: Duration, fresh: &Snapshot, fresh_span: Duration) -> String {
    let mut note = format!("{:.1} of {:.1} s", elapsed.as_secs_f64(), span.as_secs_f64());
    if let Some((p50_us, p99_us)) = fresh.quantile_us(0.5).zip(fresh.quantile_us(0.99)) {
        let rate_hz = fresh.count() as f64 / fresh_span.as_secs_f64().max(1e-3);
        note += &format!(", p50 {p50_us:.0}, p99 {p99_us:.0} µs, {rate_hz:.0}/s");
    }
    note
}

/// Fails if a connection has ended: before the measurement begins, that makes the run pointless.
fn check_closed(run: &LoadRun) -> Result<(), String> {
    match run.progress.first_failure() {
        Some(failure) => Err(format!("a subscriber of {}: {failure}", run.load.topic)),
        None => Ok(()),
    }
}

fn read_edge(plan: &Plan, runs: &[LoadRun], workers: &mut WorkerSet, clock: &Clock) -> Result<Edge, String> {
    workers.poll(runs);
    let progress = runs.iter().map(|run| &run.progress);
    Edge::read(plan, progress, workers, clock).map_err(|error| format!("--server-pid: {error}"))
}

fn read_memory(plan: &Plan) -> Result<MemoryEdge, String> {
    MemoryEdge::read(plan).map_err(|error| format!("--server-pid: {error}"))
}

pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
