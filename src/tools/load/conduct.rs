//! A run from its first connection to its report.
//!
//! LIFECYCLE: open the streams → (both) probe until each conversation has received a probe → publish and receive → (both)
//! receive until all tokens have arrived, or none has for a while, or it takes longer than --duration → report. A signal
//! ends any phase; the report follows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    faults::{Fault, Faults},
    options::Plan,
    producer::{Outcome, Producer, ProducerEvent, topic},
    report::{Record, Report, banner},
    tally::Tally,
};
use crate::{
    client::{ClientEvent, ClientPool, ClientSpec, Transport},
    signals, stdio,
};

/// The longest wait of a turn, so that signals and events of the producer are handled soon.
const TURN_TIMEOUT: Duration = Duration::from_millis(20);
/// Timeout of opening all streams; the run then goes on without the rest.
const OPENING_TIME: Duration = Duration::from_secs(30);
/// Timeout for the conversations to receive a probe.
const PROBING_TIME: Duration = Duration::from_secs(30);
/// How often the probe is repeated in conversations that have not received it.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// A run ends when no token has arrived for this long after the last one was published.
const SILENCE: Duration = Duration::from_secs(3);
/// The same after a signal.
const SILENCE_STOPPED: Duration = Duration::from_millis(500);
/// How often progress is printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// The most pending events of the producer; beyond that it waits, and counts as late.
const NEWS_MAX: usize = 100_000;

/// Runs the load test. Fails only if the run could not begin.
pub(super) fn conduct(plan: &Plan) -> Result<Report, String> {
    let stop = signals::catch()?;
    if !plan.is_quiet {
        stdio::report(banner(plan));
    }
    let mut run = Run::new(plan, stop)?;
    run.conduct()?;
    Ok(run.report())
}

/// The state of a run.
struct Run<'p> {
    plan: &'p Plan,
    run: u64,
    /// Set by a signal.
    stop: Arc<AtomicBool>,
    /// Tells the producer to end.
    halt: Arc<AtomicBool>,
    pool: Option<ClientPool>,
    producer: Option<JoinHandle<Outcome>>,
    events: (Sender<ProducerEvent>, Receiver<ProducerEvent>),
    counters: LoadCounters,
    outcome: Option<Outcome>,
    /// The current phase, for messages.
    phase: &'static str,
    start: Instant,
    next_progress: Instant,
    /// How long tokens were published and received.
    measured: Duration,
    notes: Vec<String>,
}

/// Counters of a run.
#[derive(Debug)]
struct LoadCounters {
    tally: Tally,
    faults: Faults,
    /// When the last new token arrived.
    last_arrival: Instant,
    /// Publications to Redis channels without a subscriber.
    unheard: u64,
}

impl<'p> Run<'p> {
    fn new(plan: &'p Plan, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let run = rand::random();
        let pool = plan.mode.listens().then(|| ClientPool::open(&plan.sse, specs(plan))).transpose()?;
        let own_run = plan.mode.publishes().then_some(run);
        let now = Instant::now();
        let tally = Tally::new(own_run, plan.conversations);
        Ok(Self {
            plan,
            run,
            stop,
            halt: Arc::default(),
            pool,
            producer: None,
            events: crossbeam_channel::bounded(NEWS_MAX),
            counters: LoadCounters { tally, faults: Faults::default(), last_arrival: now, unheard: 0 },
            outcome: None,
            phase: "opening",
            start: now,
            next_progress: now + PROGRESS_INTERVAL,
            measured: Duration::ZERO,
            notes: Vec::new(),
        })
    }

    fn conduct(&mut self) -> Result<(), String> {
        if self.plan.mode.publishes() {
            if self.pool.is_some() && !self.open_streams()? {
                return Ok(());
            }
            let producer = match Producer::connect(self.plan, self.run, self.events.0.clone()) {
                Ok(producer) => producer,
                Err(reason) => {
                    self.counters.fault(Fault::Connect, &reason);
                    return Ok(());
                }
            };
            let Some(producer) = self.probe(producer)? else { return Ok(()) };
            self.begin(producer);
        }
        self.phase = "running";
        self.start = Instant::now();
        self.counters.last_arrival = self.start;
        // The work of opening streams delays no token.
        self.pool.as_mut().map(ClientPool::take_busy);
        let done = self.measure();
        self.measured = self.start.elapsed();
        self.end_producer();
        done
    }

    /// Waits until all streams are open or have failed. False if none is open.
    fn open_streams(&mut self) -> Result<bool, String> {
        let deadline = Instant::now() + OPENING_TIME.min(self.plan.duration);
        let all = u64::from(self.plan.conversations);
        let is_waiting = |pool: &ClientPool| pool.counts().open() + pool.counts().refused < all && !pool.is_finished();
        while self.pool.as_ref().is_some_and(is_waiting) && Instant::now() < deadline && !self.is_stopped() {
            self.turn()?;
        }
        let open = self.pool.as_ref().map_or(0, |pool| pool.counts().open());
        if open < all && !self.is_stopped() {
            self.note(format!("{} of {all} streams did not open: their tokens cannot arrive.", all - open));
        }
        Ok(0 < open)
    }

    /// Publishes probes until each open conversation has received one. `None` ends the run.
    fn probe(&mut self, mut producer: Producer) -> Result<Option<Producer>, String> {
        if self.pool.is_none() {
            return Ok(Some(producer));
        }
        let deadline = Instant::now() + PROBING_TIME;
        self.phase = "probing";
        let mut next = Instant::now();
        while self.counters.tally.probed() < self.counters.tally.opened_once() && !self.is_stopped() && next <= deadline
        {
            let mut unprobed = Vec::new();
            if next <= Instant::now() {
                next += PROBE_INTERVAL;
                unprobed = self.counters.tally.unprobed(self.run);
            }
            if let Err(reason) = producer.probe(&unprobed) {
                self.counters.fault(Fault::Publish, &reason);
                return Ok(None);
            }
            self.turn()?;
            // Tokens would be refused, too.
            if 0 < self.counters.faults.count(Fault::Refused) {
                return Ok(None);
            }
        }
        let (probed, all) = (self.counters.tally.probed(), self.plan.conversations);
        if probed < self.counters.tally.opened_once() && !self.is_stopped() {
            self.note(format!(
                "{} of {all} conversations did not hear a probe within {} s: does the hub get its events from where they are \
                 published?",
                u64::from(all) - probed,
                PROBING_TIME.as_secs()
            ));
        }
        Ok((0 < probed && !self.is_stopped()).then_some(producer))
    }

    fn begin(&mut self, producer: Producer) {
        let halt = Arc::clone(&self.halt);
        self.producer = Some(thread::spawn(move || producer.run(&halt)));
    }

    /// Publishes and receives until no more tokens are expected.
    fn measure(&mut self) -> Result<(), String> {
        let mut published_at = None;
        loop {
            self.turn()?;
            if self.is_stopped() {
                self.halt.store(true, Ordering::Relaxed);
            }
            if self.producer.as_ref().is_some_and(JoinHandle::is_finished) {
                self.end_producer();
                published_at = Some(Instant::now());
            }
            if self.is_over(published_at) {
                return Ok(());
            }
            if published_at.is_some_and(|it| self.arrivals_time() <= it.elapsed()) {
                self.note(format!(
                    "tokens still came {} s after the last one was published, and were not awaited any longer: those under way \
                     count as lost.",
                    self.arrivals_time().as_secs()
                ));
                return Ok(());
            }
        }
    }

    /// How long to wait for tokens after the last publication, even if they still arrive.
    fn arrivals_time(&self) -> Duration {
        self.plan.duration.max(SILENCE)
    }

    fn is_over(&self, published_at: Option<Instant>) -> bool {
        // Tokens that are under way when a signal comes are not lost.
        let silence = if self.is_stopped() { SILENCE_STOPPED } else { SILENCE };
        let is_silent = |since: Instant| silence <= since.max(self.counters.last_arrival).elapsed();
        let is_finished = self.pool.as_ref().is_some_and(ClientPool::is_finished);
        match (self.plan.mode.publishes(), published_at) {
            (true, None) => false,
            (true, Some(_)) if self.pool.is_none() || self.counters.tally.lost() == 0 => true,
            (true, Some(published_at)) => is_finished || is_silent(published_at),
            (false, _) => {
                let is_late = self.plan.duration <= self.start.elapsed();
                // Last, and only when nothing arrives: the check visits every conversation.
                let is_quiet =
                    || TURN_TIMEOUT <= self.counters.last_arrival.elapsed() && self.counters.tally.unended() == 0;
                let is_ended = || is_quiet() && (self.counters.tally.lost() == 0 || is_silent(self.start));
                self.is_stopped() || is_late || is_finished || is_ended()
            }
        }
    }

    /// One turn of the streams, or a pause without streams; then the producer's events.
    fn turn(&mut self) -> Result<(), String> {
        let counters = &mut self.counters;
        match &mut self.pool {
            Some(pool) => pool.turn(TURN_TIMEOUT, &mut |index, event, now| counters.take(index, &event, now))?,
            None => {
                if let Ok(event) = self.events.1.recv_timeout(TURN_TIMEOUT) {
                    counters.take_producer_event(self.run, event);
                }
            }
        }
        self.take_producer_events();
        let now = Instant::now();
        if self.next_progress <= now {
            self.next_progress = now + PROGRESS_INTERVAL;
            if !self.plan.is_quiet {
                stdio::report(self.progress());
            }
        }
        Ok(())
    }

    fn take_producer_events(&mut self) {
        for event in self.events.1.try_iter() {
            self.counters.take_producer_event(self.run, event);
        }
    }

    fn progress(&self) -> String {
        let counts = self.counters.tally.counts;
        let seconds = self.start.elapsed().as_secs();
        let mut parts = Vec::new();
        if self.plan.mode.publishes() {
            parts.push(match self.plan.repeats {
                true => format!("published {}", counts.published),
                false => format!("published {} of {}", counts.published, self.plan.token_sum()),
            });
        }
        if let Some(pool) = &self.pool {
            parts.push(format!("received {}", counts.received));
            parts.push(format!("streams {} of {}", pool.counts().open(), self.plan.conversations));
            let figures = self.counters.tally.latency.figures();
            parts.extend(figures.map(|it| format!("latency p50 {} ms, p99 {} ms", it.p50_ms, it.p99_ms)));
        }
        format!("{:8} {seconds:4} s: {}", self.phase, parts.join(", "))
    }

    /// Ends the producer, and handles its last events.
    fn end_producer(&mut self) {
        self.halt.store(true, Ordering::Relaxed);
        let Some(producer) = self.producer.take() else { return };
        // The producer waits for room in the channel.
        while !producer.is_finished() {
            if let Ok(event) = self.events.1.recv_timeout(TURN_TIMEOUT) {
                self.counters.take_producer_event(self.run, event);
            }
        }
        self.take_producer_events();
        match producer.join() {
            Ok(outcome) => self.outcome = Some(outcome),
            Err(_) => self.counters.fault(Fault::Publish, "the producer's thread panicked"),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn note(&mut self, text: String) {
        stdio::report(format_args!("fanfare load: {text}"));
        self.notes.push(text);
    }

    fn report(&mut self) -> Report {
        Report::new(&Record {
            plan: self.plan,
            tally: &self.counters.tally,
            streams: self.pool.as_mut().map(|pool| (pool.counts(), pool.take_busy())),
            outcome: self.outcome.as_ref(),
            faults: &self.counters.faults,
            notes: &self.notes,
            unheard: self.counters.unheard,
            measured: self.measured,
            is_interrupted: self.is_stopped(),
        })
    }
}

impl LoadCounters {
    /// Counts an error; the first of its kind is printed at once.
    fn fault(&mut self, fault: Fault, message: &str) {
        if self.faults.add(fault, message) {
            stdio::report(format_args!("fanfare load: {}: {message}", fault.name()));
        }
    }

    /// Counts an event of a stream; streams are counted from 0.
    fn take(&mut self, index: usize, event: &ClientEvent<'_>, now: Duration) {
        let conversation = u32::try_from(index + 1).unwrap_or(u32::MAX);
        match event {
            ClientEvent::Opened { .. } => self.tally.open(conversation, now),
            ClientEvent::Event { data, .. } => {
                if self.tally.receive(conversation, data, now) {
                    self.last_arrival = Instant::now();
                }
            }
            ClientEvent::Gap(_) => self.tally.note_gap(),
            ClientEvent::Notice(text) => self.fault(Fault::Notice, text),
            ClientEvent::Closed { reason, is_final: true, .. } => self.fault(Fault::StreamRefused, reason),
            ClientEvent::Closed { reason, was_open: true, .. } => self.fault(Fault::StreamCut, reason),
            ClientEvent::Closed { reason, .. } => self.fault(Fault::StreamFailed, reason),
        }
    }

    fn take_producer_event(&mut self, run: u64, event: ProducerEvent) {
        match event {
            ProducerEvent::Published { conversation, sequence, is_unheard } => {
                self.tally.publish(run, conversation, sequence);
                self.unheard += u64::from(is_unheard);
            }
            ProducerEvent::Refused(reason) => self.fault(Fault::Refused, &reason),
            ProducerEvent::Failed(reason) => self.fault(Fault::Publish, &reason),
        }
    }
}

/// One stream for each conversation.
fn specs(plan: &Plan) -> Vec<ClientSpec> {
    let spec = |conversation| {
        let topic = topic(conversation);
        let target = format!("/sse?topic={topic}");
        ClientSpec { target, topics: vec![topic], transport: Transport::Sse, since: None }
    };
    (1..=plan.conversations).map(spec).collect()
}
