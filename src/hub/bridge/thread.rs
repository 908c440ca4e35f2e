//! The bridge's thread.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::{
    BridgeConfig,
    catalog::{Answer, Question, start_catalogs},
    logs_thread::LogWorker,
    relay::{LossReport, Outcome, Relay, Report, Tally},
    status::BridgeStatus,
};
use crate::{
    bus::{Bus, EventSink, Follower, Inbox, Notifier, Wake},
    clock::{Clock, Moment},
    metrics::SourceHealth,
    source::{Lease, LogCatalog},
};

/// Events that the follower's inbox has room for; beyond that the log is copied.
const INBOX_EVENTS_MAX: usize = 16_384;
/// How often the thread looks whether the other side is there, and whether it has the lease.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a question that was not answered waits to be asked again.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How often topics are forgotten that are no longer there.
const FORGET_INTERVAL: Duration = Duration::from_secs(30);
/// How long the end waits for what is on its way.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// The most events of a turn.
const TURN_EVENTS_MAX: usize = 1024;

/// A bridge that is about to start: its follower belongs to the bus.
#[derive(Debug)]
pub(crate) struct BridgePlan {
    pub(super) config: BridgeConfig,
    /// How many inboxes stand before the bridge's own, if it has one among those of the reactors.
    pub(super) reactors: usize,
    pub(super) notifier: Arc<Notifier>,
    pub(super) wakes: Receiver<()>,
    pub(super) status: Arc<BridgeStatus>,
}

/// A running bridge.
#[derive(Debug)]
pub(crate) struct BridgeHandle {
    stop: Arc<AtomicBool>,
    notifier: Arc<Notifier>,
    thread: JoinHandle<()>,
}

/// What a bridge stands between.
pub(crate) struct BridgeEnds {
    pub(crate) bus: Arc<Bus>,
    /// Where events go to, and the health of that source.
    pub(crate) sink: Box<dyn EventSink>,
    pub(crate) target: Arc<dyn SourceHealth>,
    /// Keeps others from doing the same; `None`: there are none.
    pub(crate) lease: Option<Box<dyn Lease>>,
    /// The logs at the end that events come from, if its broker keeps them.
    pub(crate) source_logs: Option<Box<dyn LogCatalog>>,
    /// The same where they go to.
    pub(crate) target_logs: Option<Box<dyn LogCatalog>>,
}

/// What the thread works with.
struct Worker {
    bus: Arc<Bus>,
    sink: Box<dyn EventSink>,
    target: Arc<dyn SourceHealth>,
    lease: Option<Box<dyn Lease>>,
    clock: Clock,
    plan: BridgePlan,
    stop: Arc<AtomicBool>,
    relay: Relay,
    report: Report,
    outcomes: Receiver<Outcome>,
    /// Where to ask which topics have logs.
    questions: Sender<Question>,
    answers: Receiver<Answer>,
    /// When to ask that, if it has to be known and is not under way.
    ask_at: Option<Moment>,
    /// Whether this bridge carries events now.
    is_active: bool,
    forget_at: Moment,
}

/// Wakes a thread that waits for a channel.
#[derive(Debug)]
struct ChannelWaker(Sender<()>);

impl Wake for ChannelWaker {
    fn wake(&self) {
        // A full channel has a wake-up that was not taken yet.
        let _ = self.0.try_send(());
    }
}

impl BridgePlan {
    pub(crate) fn new(config: &BridgeConfig, reactors: usize) -> Self {
        let (waker, wakes) = bounded(1);
        let notifier = Arc::new(Notifier::new(Arc::new(ChannelWaker(waker))));
        Self { config: config.clone(), reactors, notifier, wakes, status: Arc::default() }
    }

    /// The bus is to have this follower, if the bridge carries what is in no log.
    pub(crate) fn follower(&self) -> Option<Follower> {
        let inbox = || Inbox::new(INBOX_EVENTS_MAX, Arc::clone(&self.notifier));
        (!self.config.is_from_log()).then(|| Follower::new(self.config.patterns(), inbox()))
    }

    /// The bus is to have this inbox behind those of the reactors, if the bridge carries logs.
    pub(crate) fn inbox(&self) -> Option<Inbox> {
        self.config.is_from_log().then(|| Inbox::new(INBOX_EVENTS_MAX, Arc::clone(&self.notifier)))
    }

    pub(crate) fn health(&self) -> Arc<dyn SourceHealth> {
        Arc::clone(&self.status) as Arc<dyn SourceHealth>
    }

    /// Starts to carry events between `ends`.
    pub(crate) fn start(self, ends: BridgeEnds, clock: Clock) -> io::Result<BridgeHandle> {
        let (stop, notifier) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.notifier));
        if self.config.is_from_log() {
            let worker = LogWorker::new(self, ends, clock, Arc::clone(&stop))?;
            let thread = thread::Builder::new().name("bridge".to_owned()).spawn(move || worker.run())?;
            return Ok(BridgeHandle { stop, notifier, thread });
        }
        let (sender, outcomes) = unbounded();
        let waker = Arc::clone(&self.notifier);
        let report: Report = Arc::new(move |outcome| {
            // Fails only if the thread has ended.
            let _ = sender.send(outcome);
            waker.notify();
        });
        let BridgeEnds { bus, sink, target, lease, source_logs, target_logs } = ends;
        let (answer, answers) = unbounded();
        let waker = Arc::clone(&self.notifier);
        let reply = move |what| {
            let _ = answer.send(what);
            waker.notify();
        };
        let form = if target_logs.is_some() { LossReport::InLogs } else { LossReport::Command };
        let questions = start_catalogs(source_logs, target_logs, Box::new(reply))?;
        let relay = Relay::new(&self.config, form);
        let worker = Worker {
            bus,
            sink,
            target,
            is_active: lease.is_none(),
            lease,
            clock,
            stop: Arc::clone(&stop),
            relay,
            report,
            outcomes,
            questions,
            answers,
            ask_at: Some(clock.now()),
            forget_at: clock.now() + FORGET_INTERVAL,
            plan: self,
        };
        let thread = thread::Builder::new().name("bridge".to_owned()).spawn(move || worker.run())?;
        Ok(BridgeHandle { stop, notifier, thread })
    }
}

impl BridgeHandle {
    /// Carries what has come, waits for the answers, and ends.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.notifier.notify();
        // A panic has ended the process.
        let _ = self.thread.join();
    }
}

impl Worker {
    fn run(mut self) {
        let mut end_at = None;
        loop {
            let now = self.clock.now();
            let is_stopping = self.stop.load(Ordering::Acquire);
            let has_more = self.turn(now);
            if is_stopping {
                let end_at = *end_at.get_or_insert(now + END_TIMEOUT);
                if end_at <= now || !self.is_active || (!has_more && self.relay.is_idle()) {
                    return;
                }
            }
            if has_more {
                continue;
            }
            self.plan.notifier.prepare_park();
            if self.inbox().is_empty() && self.outcomes.is_empty() {
                // Woken, or it is time to look.
                let _ = self.plan.wakes.recv_timeout(LOOK_INTERVAL);
            }
            self.plan.notifier.unpark();
        }
    }

    fn inbox(&self) -> &Inbox {
        self.bus.follower_inbox().expect("the plan's follower belongs to the bus")
    }

    /// Does what there is to do, up to a bound. True if there is more that can be done at once.
    fn turn(&mut self, now: Moment) -> bool {
        let mut tally = Tally::default();
        let outcomes: Vec<Outcome> = self.outcomes.try_iter().collect();
        outcomes.into_iter().for_each(|outcome| self.relay.settle(outcome, &mut tally));
        self.take_answers(now);
        self.look_at_lease(now, &mut tally);
        let has_more = if !self.is_active { self.pass_over() } else { self.carry(now, &mut tally) };
        self.plan.status.count_all(tally, now);
        if self.forget_at <= now {
            self.forget_at = now + FORGET_INTERVAL;
            let bus = &self.bus;
            self.relay.forget(|key, topic| bus.has_topic_of(key, topic));
        }
        has_more
    }

    fn look_at_lease(&mut self, now: Moment, tally: &mut Tally) {
        let Some(lease) = &self.lease else { return };
        let has_lease = lease.is_held(now);
        if has_lease != self.is_active {
            tracing::info!(active = has_lease, "the lease of the bridge has changed hands");
            self.is_active = has_lease;
            if has_lease {
                self.relay.lose_all(tally);
            }
        }
        self.plan.status.stands_by.store(!has_lease, Ordering::Relaxed);
    }

    /// Another bridge carries the events.
    fn pass_over(&mut self) -> bool {
        for _ in 0..TURN_EVENTS_MAX {
            match self.next() {
                Some(message) => self.relay.skip(&message),
                None => return false,
            }
        }
        true
    }

    fn take_answers(&mut self, now: Moment) {
        for answer in self.answers.try_iter().collect::<Vec<_>>() {
            match answer {
                Answer::TargetTopics(Ok(topics)) => {
                    self.relay.take_topics(topics);
                    self.ask_at = Some(now);
                }
                Answer::TargetTopics(Err(error)) => {
                    tracing::warn!("which topics have a log on the other side is not known: {error}");
                    self.ask_at = Some(now + ASK_INTERVAL);
                }
                Answer::SourceTopics(_) | Answer::Carried(..) => {}
            }
        }
    }

    /// Asks which topics have logs on the other side, if that has to be known. False while it is not.
    fn knows_topics(&mut self, now: Moment) -> bool {
        let Some(patterns) = self.relay.wanted_topics() else { return true };
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            // Fails only if the thread has ended.
            let _ = self.questions.send(Question::TargetTopics(patterns));
        }
        false
    }

    fn carry(&mut self, now: Moment, tally: &mut Tally) -> bool {
        // What is on its way when the other side goes is lost; what is not waits in the log.
        if self.target.check(now).is_err() || !self.knows_topics(now) {
            return false;
        }
        if self.relay.has_room() {
            self.relay.tell_losses(&*self.sink, &self.report);
        }
        for _ in 0..TURN_EVENTS_MAX {
            if !self.relay.has_room() || !self.relay.has_told() {
                return false;
            }
            match self.next() {
                Some(message) => self.relay.relay(message, &*self.sink, &self.report, tally),
                None => return false,
            }
        }
        true
    }

    /// The next event: of what was copied, of the inbox, or of a log that the inbox had no room for.
    fn next(&mut self) -> Option<crate::bus::EventMessage> {
        if let Some(message) = self.relay.next_copied() {
            return Some(message);
        }
        let inbox = self.bus.follower_inbox()?;
        if let Some(message) = inbox.next_event() {
            return Some(message);
        }
        for state in inbox.take_resync() {
            let next = self.relay.next_of(state.key);
            self.relay.take_copied(self.bus.resync_follower(&state, next));
        }
        self.relay.next_copied()
    }
}
