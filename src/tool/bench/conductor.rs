//! The order in which a run happens: connect, prove that everybody hears, warm up, measure, wait for the rest.

use std::{
    io,
    net::TcpStream,
    thread::{self, ScopedJoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    churn::{Churn, Visits},
    fleet::{Context, Fleet, Harvest},
    logins::{Attempts, Logins},
    options::{Load, Plan},
    payload::{PROBE, Stamp},
    progress::Progress,
    publisher::{Published, Publisher},
    schedule::Schedule,
    stalled::open_stalled,
    stamps::StampClock,
    storm::{self, Storm, raise_storm},
    window::{Edge, MemoryEdge},
};
use crate::clock::{Clock, Moment};

/// How long the subscribers may take to connect, and then to hear a probe.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// The distance of probes. Each is a broadcast to all subscribers.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How often the conductor looks whether it can go on.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// From the last probe to the first event: what is under way must have arrived, and the publishers must be awake.
const START_DELAY: Duration = Duration::from_millis(500);

/// Deliveries that do not come for so long after the last event are not waited for any longer.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// All that a run found out.
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
    /// How far the two clocks moved against each other, if both were used.
    pub drift: Option<Duration>,
    pub started: Duration,
}

/// One load on its way.
#[derive(Debug)]
pub(super) struct Voice {
    pub load: Load,
    pub schedule: Schedule,
    pub progress: Progress,
}

/// One load and what became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub voice: Voice,
    pub harvest: Harvest,
    /// Nothing if the run is idle.
    pub published: Option<Published>,
}

/// What is known when the subscribers have heard all.
struct Played {
    memory: [MemoryEdge; 2],
    window: [Edge; 2],
    visits: Option<Visits>,
    attempts: Option<Attempts>,
    storm: Option<Storm>,
    published: Vec<Published>,
}

/// Makes the run that `plan` describes.
pub(super) fn conduct(plan: &Plan) -> Result<Record, String> {
    pin(plan)?;
    let clock = Clock::start();
    let stamps = plan.takes_kernel_stamps.then(|| StampClock::calibrate(&clock));
    let started = unix_now();
    let context = Context { clock, stamps, run: started.subsec_micros() as u16 };
    let memory_before = MemoryEdge::read(plan).map_err(|error| format!("--server-pid: {error}"))?;
    let voices: Vec<Voice> = plan.loads.iter().map(|load| Voice::new(load, plan.is_idle)).collect();
    let (harvests, played) = perform(plan, &voices, &context)?;
    let mut published = played.published.into_iter();
    let outcomes = voices.into_iter().zip(harvests);
    let outcomes = outcomes.map(|(voice, harvest)| Outcome { voice, harvest, published: published.next() }).collect();
    let [memory_open, memory_after] = played.memory;
    Ok(Record {
        outcomes,
        memory: [memory_before, memory_open, memory_after],
        window: played.window,
        visits: played.visits,
        attempts: played.attempts,
        storm: played.storm,
        drift: stamps.map(|stamps| stamps.drift(&clock)),
        started,
    })
}

impl Voice {
    fn new(load: &Load, is_idle: bool) -> Self {
        let mut schedule = Schedule::new(&load.pace);
        if is_idle {
            schedule = Schedule { due: Vec::new(), measured: 0..0 };
        }
        Self { load: load.clone(), schedule, progress: Progress::default() }
    }
}

/// Runs the fleets beside everything else.
fn perform(plan: &Plan, voices: &[Voice], context: &Context) -> Result<(Vec<Harvest>, Played), String> {
    thread::scope(|scope| {
        let fleets: Vec<_> =
            fleets(plan, voices, context)?.into_iter().map(|fleet| scope.spawn(|| fleet.run())).collect();
        let played = play(plan, voices, context);
        // Whatever happened, the fleets are told to stop: the scope waits for them.
        voices.iter().for_each(|voice| voice.progress.stop());
        let harvests = fleets.into_iter().map(|fleet| match fleet.join() {
            Ok(harvest) => harvest.map_err(|error| error.to_string()),
            Err(_) => Err("a subscribers' thread panicked".to_owned()),
        });
        Ok((harvests.collect::<Result<_, _>>()?, played?))
    })
}

fn fleets<'a>(plan: &'a Plan, voices: &'a [Voice], context: &Context) -> Result<Vec<Fleet<'a>>, String> {
    let mut first_index = 0;
    let mut fleets = Vec::new();
    for Voice { load, schedule, progress, .. } in voices {
        let fleet = Fleet::new(plan, load, schedule, *context, progress, first_index);
        fleets.push(fleet.map_err(|error| error.to_string())?);
        first_index += load.subscribers;
    }
    Ok(fleets)
}

fn play(plan: &Plan, voices: &[Voice], context: &Context) -> Result<Played, String> {
    await_all(voices, OPEN_TIMEOUT, &context.clock, "connected", |progress| progress.open.now())?;
    // They stall as long as this lives.
    let _stalled: Vec<TcpStream> =
        open_stalled(plan, &plan.loads[0]).map_err(|error| format!("a stalled subscriber: {error}"))?;
    let memory_open = read_memory(plan)?;
    let publishers = if plan.is_idle { Vec::new() } else { prove(plan, voices, context)? };
    let over = Progress::default();
    thread::scope(|scope| {
        let (churn, logins) = (open_churn(plan, context, &over)?, open_logins(plan, context, &over)?);
        let churn = churn.map(|churn| scope.spawn(|| churn.run()));
        let logins = logins.map(|logins| scope.spawn(|| logins.run()));
        let measured = measure(plan, voices, publishers, context);
        over.stop();
        let visits = churn.map(|churn| bring_home(churn, "the visitors' thread")).transpose()?;
        let attempts = logins.map(|logins| bring_home(logins, "the thread of those who sign in")).transpose()?;
        let (window, published) = measured?;
        let memory_after = read_memory(plan)?;
        await_rest(plan, voices, 0, &context.clock);
        let storm = raise_storm(plan, &voices[0], context)?;
        if let (Some(missed), Some(_)) = (plan.storm, &storm) {
            await_rest(plan, voices, missed + storm::EVENTS_AFTER, &context.clock);
        }
        Ok(Played { memory: [memory_open, memory_after], window, visits, attempts, storm, published })
    })
}

fn open_churn<'a>(plan: &'a Plan, context: &Context, over: &'a Progress) -> Result<Option<Churn<'a>>, String> {
    let churn = (0.0 < plan.churn.rate).then(|| Churn::new(plan, context, over));
    churn.transpose().map_err(|error| error.to_string())
}

fn open_logins<'a>(plan: &'a Plan, context: &Context, over: &'a Progress) -> Result<Option<Logins<'a>>, String> {
    let logins = plan.sign_in.as_ref().map(|sign_in| Logins::new(plan, sign_in, context, over));
    logins.transpose().map_err(|error| error.to_string())
}

fn bring_home<T>(thread: ScopedJoinHandle<'_, io::Result<T>>, name: &str) -> Result<T, String> {
    let result = thread.join().map_err(|_| format!("{name} panicked"))?;
    result.map_err(|error| format!("{name}: {error}"))
}

/// Publishes probes until every subscriber has heard one: whoever misses an event after that has lost it.
fn prove(plan: &Plan, voices: &[Voice], context: &Context) -> Result<Vec<Publisher>, String> {
    let mut publishers = Vec::new();
    for voice in voices {
        let mut publisher = Publisher::connect(&plan.publish, &voice.load.topic, plan.size_bytes)
            .map_err(|error| format!("the publisher cannot connect: {error}"))?;
        let mut next_probe = context.clock.now();
        let condition = || -> Result<bool, String> {
            if next_probe <= context.clock.now() {
                next_probe = next_probe + PROBE_INTERVAL;
                let stamp = Stamp { run: context.run, sequence: PROBE, intended: context.clock.now() };
                publisher.send(&stamp).map_err(|error| format!("the publisher failed: {error}"))?;
            }
            check_closed(voice)?;
            Ok(voice.progress.ready.now() == voice.load.subscribers)
        };
        if !wait_until(PROBE_TIMEOUT, &context.clock, condition)? {
            let heard = voice.progress.ready.now();
            return Err(format!("only {heard} of {} subscribers of {} hear", voice.load.subscribers, voice.load.topic));
        }
        publishers.push(publisher);
    }
    Ok(publishers)
}

/// Follows the schedules, and reads the counters at both edges of the measured span.
fn measure(
    plan: &Plan,
    voices: &[Voice],
    publishers: Vec<Publisher>,
    context: &Context,
) -> Result<([Edge; 2], Vec<Published>), String> {
    let clock = &context.clock;
    let start = clock.now() + START_DELAY;
    thread::scope(|scope| {
        let publishers: Vec<_> = publishers
            .into_iter()
            .zip(voices)
            .map(|(publisher, voice)| scope.spawn(move || publisher.run(&voice.schedule, start, context.run, clock)))
            .collect();
        let progress = || voices.iter().map(|voice| &voice.progress);
        let edge = || Edge::read(plan, progress(), clock).map_err(|error| format!("--server-pid: {error}"));
        sleep_until(start + plan.warmup, clock);
        let first = edge();
        sleep_until(start + plan.warmup + plan.duration, clock);
        let window = [first?, edge()?];
        let published = publishers.into_iter().map(|publisher| publisher.join());
        let published = published.collect::<Result<_, _>>().map_err(|_| "a publisher's thread panicked".to_owned())?;
        Ok((window, published))
    })
}

/// Waits until all is delivered, `more` events beyond the schedules too, or nothing more seems to come.
fn await_rest(plan: &Plan, voices: &[Voice], more: u32, clock: &Clock) {
    let expected: u64 = voices.iter().map(|voice| voice.expected_deliveries(more)).sum();
    let (mut last_count, mut last_change) = (0, clock.now());
    let condition = || {
        let count = voices.iter().map(|voice| voice.progress.deliveries()).sum();
        if count != last_count {
            (last_count, last_change) = (count, clock.now());
        }
        Ok(expected <= count || SILENCE_MAX < clock.now().since(last_change))
    };
    // The condition never fails, and what is missing in the end is counted as lost.
    let _ = wait_until(plan.patience, clock, condition);
}

impl Voice {
    /// Every event to every subscriber, the warm-up's and `more` too.
    fn expected_deliveries(&self, more: u32) -> u64 {
        u64::from(self.schedule.event_count() + more) * u64::from(self.load.subscribers)
    }
}

fn await_all(
    voices: &[Voice],
    timeout: Duration,
    clock: &Clock,
    what: &str,
    count: fn(&Progress) -> u32,
) -> Result<(), String> {
    let is_done = || {
        voices.iter().try_for_each(check_closed)?;
        Ok(voices.iter().all(|voice| count(&voice.progress) == voice.load.subscribers))
    };
    if wait_until(timeout, clock, is_done)? {
        return Ok(());
    }
    let counts = voices.iter().map(|voice| format!("{} of {}", count(&voice.progress), voice.load.subscribers));
    Err(format!("only {} subscribers {what}", counts.collect::<Vec<_>>().join(", ")))
}

/// Before the measurement begins a connection that ends makes the run pointless.
fn check_closed(voice: &Voice) -> Result<(), String> {
    match voice.progress.first_failure() {
        Some(failure) => Err(format!("a subscriber of {}: {failure}", voice.load.topic)),
        None => Ok(()),
    }
}

/// Whether `condition` came true in time.
pub(super) fn wait_until(
    timeout: Duration,
    clock: &Clock,
    mut condition: impl FnMut() -> Result<bool, String>,
) -> Result<bool, String> {
    let deadline = clock.now() + timeout;
    while !condition()? {
        if deadline <= clock.now() {
            return Ok(false);
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(true)
}

fn sleep_until(moment: Moment, clock: &Clock) {
    thread::sleep(moment.since(clock.now()));
}

fn read_memory(plan: &Plan) -> Result<MemoryEdge, String> {
    MemoryEdge::read(plan).map_err(|error| format!("--server-pid: {error}"))
}

/// All threads begun later inherit it.
fn pin(plan: &Plan) -> Result<(), String> {
    match plan.pin {
        Some(core) if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) => {
            Err(format!("--pin: cannot run on core {core}"))
        }
        _ => Ok(()),
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
