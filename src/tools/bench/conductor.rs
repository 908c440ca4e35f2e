//! The order in which a run happens: connect, prove that everybody hears, warm up, measure, wait for the rest.

use std::{
    io,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    churn::{Churn, Visits},
    fleet::{Context, Fleet, Harvest},
    live::Snapshot,
    logins::{Attempts, Logins},
    payload::{PROBE, Stamp},
    plan::{Load, Plan},
    processes::{Catch, Crew, Portrait},
    progress::Progress,
    publisher::{Published, Publisher},
    schedule::Schedule,
    stalled::open_stalled,
    stamps::StampClock,
    storm::{self, Storm, raise_storm},
    watch::Watch,
    window::{Edge, MemoryEdge},
};
use crate::{
    clock::{Clock, Moment},
    tls::MaybeTlsStream,
};

/// How long the subscribers may take to connect, and then to hear a probe.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// The distance of probes. Each is a broadcast to all subscribers.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How often the conductor looks whether it can go on.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long the conductor sleeps at most while it only watches.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

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
    /// The client's further processes.
    pub crew: Vec<Portrait>,
    /// How far the two clocks moved against each other, if both were used.
    pub drift: Option<Duration>,
    pub started: Duration,
    /// Whether it ended early because somebody wanted that.
    pub is_interrupted: bool,
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
pub(super) fn conduct(plan: &Plan, watch: &Watch) -> Result<Record, String> {
    plan.own_core().map_or(Ok(()), pin_to)?;
    let clock = Clock::start();
    let stamps = plan.takes_kernel_stamps.then(|| StampClock::calibrate(&clock));
    let started = unix_now();
    let context = Context { clock, stamps, run: started.subsec_micros() as u16 };
    let memory_before = MemoryEdge::read(plan).map_err(|error| format!("--server-pid: {error}"))?;
    let voices: Vec<Voice> = plan.loads.iter().map(|load| Voice::new(load, plan.is_idle)).collect();
    let mut crew = Crew::start(plan, &context)?;
    let (catch, played) = match crew.is_empty() {
        true => perform(plan, &voices, &context, &mut crew, watch)?,
        false => {
            let played = play(plan, &voices, &context, &mut crew, watch)?;
            (crew.finish(&voices), played)
        }
    };
    let mut published = played.published.into_iter();
    let outcomes = voices.into_iter().zip(catch.harvests);
    let outcomes = outcomes.map(|(voice, harvest)| Outcome { voice, harvest, published: published.next() }).collect();
    let [memory_open, memory_after] = played.memory;
    Ok(Record {
        outcomes,
        memory: [memory_before, memory_open, memory_after],
        window: played.window,
        visits: played.visits.or(catch.visits),
        attempts: played.attempts,
        storm: played.storm,
        crew: crew.portraits(),
        drift: stamps.map(|stamps| stamps.drift(&clock)).max(catch.drift),
        started,
        is_interrupted: watch.is_interrupted(),
    })
}

impl Voice {
    pub(super) fn new(load: &Load, is_idle: bool) -> Self {
        let mut schedule = Schedule::new(&load.pace);
        if is_idle {
            schedule = Schedule { due: Vec::new(), measured: 0..0 };
        }
        Self { load: load.clone(), schedule, progress: Progress::default() }
    }
}

/// Runs the fleets beside everything else.
fn perform(
    plan: &Plan,
    voices: &[Voice],
    context: &Context,
    crew: &mut Crew,
    watch: &Watch,
) -> Result<(Catch, Played), String> {
    thread::scope(|scope| {
        let fleets: Vec<_> =
            fleets(plan, voices, context)?.into_iter().map(|fleet| scope.spawn(|| fleet.run())).collect();
        let played = play(plan, voices, context, crew, watch);
        // Whatever happened, the fleets are told to stop: the scope waits for them.
        voices.iter().for_each(|voice| voice.progress.stop());
        let harvests = fleets.into_iter().map(|fleet| match fleet.join() {
            Ok(harvest) => harvest.map_err(|error| error.to_string()),
            Err(_) => Err("a subscribers' thread panicked".to_owned()),
        });
        Ok((Catch { harvests: harvests.collect::<Result<_, _>>()?, visits: None, drift: None }, played?))
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

fn play(plan: &Plan, voices: &[Voice], context: &Context, crew: &mut Crew, watch: &Watch) -> Result<Played, String> {
    await_open(voices, crew, &context.clock, watch)?;
    // They stall as long as this lives.
    let _stalled: Vec<MaybeTlsStream<TcpStream>> = stall(plan, crew)?;
    let memory_open = read_memory(plan)?;
    let publishers = if plan.is_idle { Vec::new() } else { prove(plan, voices, context, crew, watch)? };
    let over = Progress::default();
    thread::scope(|scope| {
        let (churn, logins) = (open_churn(plan, context, crew, &over)?, open_logins(plan, context, &over)?);
        let churn = churn.map(|churn| scope.spawn(|| churn.run()));
        let logins = logins.map(|logins| scope.spawn(|| logins.run()));
        let measured = measure(plan, voices, publishers, context, crew, watch);
        over.stop();
        crew.leave();
        let visits = churn.map(|churn| bring_home(churn, "the visitors' thread")).transpose()?;
        let attempts = logins.map(|logins| bring_home(logins, "the thread of those who sign in")).transpose()?;
        let (window, published) = measured?;
        let memory_after = read_memory(plan)?;
        await_rest(plan, voices, 0, crew, &context.clock, watch);
        let storm = if watch.is_interrupted() { None } else { raise_storm(plan, &voices[0], context)? };
        if let (Some(missed), Some(_)) = (plan.storm, &storm) {
            await_rest(plan, voices, missed + storm::EVENTS_AFTER, crew, &context.clock, watch);
        }
        Ok(Played { memory: [memory_open, memory_after], window, visits, attempts, storm, published })
    })
}

fn stall(plan: &Plan, crew: &mut Crew) -> Result<Vec<MaybeTlsStream<TcpStream>>, String> {
    if !crew.is_empty() {
        return crew.stall().map(|()| Vec::new());
    }
    open_stalled(plan, &plan.loads[0]).map_err(|error| format!("a stalled subscriber: {error}"))
}

fn open_churn<'a>(
    plan: &'a Plan,
    context: &Context,
    crew: &mut Crew,
    over: &'a Progress,
) -> Result<Option<Churn<'a>>, String> {
    if 0.0 < plan.churn.rate && !crew.is_empty() {
        return crew.visit().map(|()| None);
    }
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
fn prove(
    plan: &Plan,
    voices: &[Voice],
    context: &Context,
    crew: &mut Crew,
    watch: &Watch,
) -> Result<Vec<Publisher>, String> {
    let mut publishers = Vec::new();
    for voice in voices {
        let mut publisher = Publisher::connect(&plan.publish, &voice.load.topic, plan.size_bytes)
            .map_err(|error| format!("the publisher cannot connect: {error}"))?;
        watch.begin();
        let mut next_probe = context.clock.now();
        let condition = || -> Result<bool, String> {
            if next_probe <= context.clock.now() {
                next_probe = next_probe + PROBE_INTERVAL;
                let stamp = Stamp { run: context.run, sequence: PROBE, intended: context.clock.now() };
                publisher.send(&stamp).map_err(|error| format!("the publisher failed: {error}"))?;
            }
            crew.look(voices);
            crew.check_alive()?;
            check_closed(voice)?;
            check_interrupted(watch)?;
            let (heard, all) = (voice.progress.ready.now(), voice.load.subscribers);
            watch.show("hearing", heard.into(), all.into(), || format!("{heard} of {all} heard a probe"));
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
    crew: &mut Crew,
    watch: &Watch,
) -> Result<([Edge; 2], Vec<Published>), String> {
    let clock = &context.clock;
    let start = clock.now() + START_DELAY;
    // Publishers stay until the last edge is read: what an ended thread has used is in no account of the kernel's.
    let is_read = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers: Vec<_> = publishers
            .into_iter()
            .zip(voices)
            .map(|(publisher, voice)| {
                scope.spawn(|| {
                    let published = publisher.run(&voice.schedule, start, context.run, clock, &voice.progress);
                    while !is_read.load(Ordering::Acquire) {
                        thread::park();
                    }
                    published
                })
            })
            .collect();
        let is_warm = pass(("warming up", start), plan.warmup, voices, crew, clock, watch);
        let first = read_edge(plan, voices, crew, clock);
        let is_over = is_warm && pass(("measuring", start + plan.warmup), plan.duration, voices, crew, clock, watch);
        let last = read_edge(plan, voices, crew, clock);
        is_read.store(true, Ordering::Release);
        publishers.iter().for_each(|publisher| publisher.thread().unpark());
        let is_finished = || Ok(watch.is_interrupted() || publishers.iter().all(ScopedJoinHandle::is_finished));
        // A server that takes events more slowly than they are due would hold its publisher for ever.
        if !is_over || !wait_until(plan.patience, clock, is_finished)? || watch.is_interrupted() {
            voices.iter().for_each(|voice| voice.progress.cut());
        }
        let published = publishers.into_iter().map(|publisher| publisher.join());
        let published = published.collect::<Result<_, _>>().map_err(|_| "a publisher's thread panicked".to_owned())?;
        if !is_warm {
            crew.check_alive()?;
            return Err("interrupted before the measured span began: nothing was measured".to_owned());
        }
        Ok(([first?, last?], published))
    })
}

/// Waits until all is delivered, `more` events beyond the schedules too, or nothing more seems to come.
fn await_rest(plan: &Plan, voices: &[Voice], more: u32, crew: &mut Crew, clock: &Clock, watch: &Watch) {
    watch.begin();
    let expected: u64 = voices.iter().map(|voice| voice.expected_deliveries(more)).sum();
    let (mut last_count, mut last_change) = (0, clock.now());
    let condition = || {
        crew.look(voices);
        let count = voices.iter().map(|voice| voice.progress.deliveries()).sum();
        if count != last_count {
            (last_count, last_change) = (count, clock.now());
        }
        watch.show("waiting", count, expected, || format!("{count} of {expected} deliveries"));
        Ok(expected <= count || SILENCE_MAX < clock.now().since(last_change))
    };
    // The condition never fails, and what is missing in the end is counted as lost.
    let _ = wait_until(plan.patience, clock, condition);
}

impl Voice {
    /// Every event to every subscriber, the warm-up's and `more` too.
    fn expected_deliveries(&self, more: u32) -> u64 {
        self.load.audience().deliveries(self.progress.event_end(self.schedule.event_count() + more))
    }
}

fn await_open(voices: &[Voice], crew: &mut Crew, clock: &Clock, watch: &Watch) -> Result<(), String> {
    let all: u32 = voices.iter().map(|voice| voice.load.subscribers).sum();
    let open = || voices.iter().map(|voice| voice.progress.open.now()).sum::<u32>();
    watch.begin();
    let is_done = || {
        crew.look(voices);
        crew.check_alive()?;
        voices.iter().try_for_each(check_closed)?;
        check_interrupted(watch)?;
        let count = open();
        watch.show("connecting", count.into(), all.into(), || format!("{count} of {all} subscribers"));
        Ok(count == all)
    };
    if wait_until(OPEN_TIMEOUT, clock, is_done)? {
        return Ok(());
    }
    let obstacles: String = voices.iter().map(|voice| voice.progress.obstacle()).collect();
    Err(format!("only {} of {all} subscribers are subscribed{obstacles}", open()))
}

fn check_interrupted(watch: &Watch) -> Result<(), String> {
    match watch.is_interrupted() {
        true => Err("interrupted before the measured span began: nothing was measured".to_owned()),
        false => Ok(()),
    }
}

/// Lets a span pass that has a name and a start, and shows how it goes; false if it was interrupted, or if one of the
/// client's processes died.
fn pass(
    (name, start): (&'static str, Moment),
    span: Duration,
    voices: &[Voice],
    crew: &mut Crew,
    clock: &Clock,
    watch: &Watch,
) -> bool {
    let look = || Snapshot::of(voices.iter().map(|voice| &voice.progress.live));
    let (mut last, mut last_at) = (look(), clock.now());
    watch.begin();
    while clock.now() < start + span {
        crew.look(voices);
        if watch.is_interrupted() || crew.death().is_some() {
            return false;
        }
        let elapsed = clock.now().since(start);
        watch.show(name, elapsed.as_millis() as u64, span.as_millis() as u64, || {
            let (now, at) = (look(), clock.now());
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

/// All counters, now.
fn read_edge(plan: &Plan, voices: &[Voice], crew: &mut Crew, clock: &Clock) -> Result<Edge, String> {
    crew.look(voices);
    let progress = voices.iter().map(|voice| &voice.progress);
    Edge::read(plan, progress, crew, clock).map_err(|error| format!("--server-pid: {error}"))
}

fn read_memory(plan: &Plan) -> Result<MemoryEdge, String> {
    MemoryEdge::read(plan).map_err(|error| format!("--server-pid: {error}"))
}

/// Runs on that core from now on: all threads begun later inherit it.
pub(super) fn pin_to(core: usize) -> Result<(), String> {
    match core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        true => Ok(()),
        false => Err(format!("--pin: cannot run on core {core}")),
    }
}

pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
