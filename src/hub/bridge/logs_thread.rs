//! The thread of a bridge that carries logs. It attaches to the topics as a reactor does, with an inbox of its own: so the source
//! reads them, and what is new comes at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{
    catalog::{Answer, CarriedLog, Question, start_catalogs},
    logs::{LogIo, LogOutcome, LogRelay, LogReport, PageAsked},
    relay::Tally,
    status::Trouble,
    thread::{BridgeEnds, BridgePlan, LOOK_INTERVAL},
};
use crate::{
    bus::{
        ArchiveFailed, ArchivePage, ArchiveRequest, Bus, ControlMessage, EventSink, Inbox, Publication, TopicKey,
        TopicState,
    },
    clock::{Clock, Moment},
    event::{EventId, Position, Start},
    metrics::SourceHealth,
    source::{Lease, LogRateLimiter},
    topic::{Pattern, Topic},
};

/// How often the source's broker is made to remember how far logs are carried.
const REMEMBER_INTERVAL: Duration = Duration::from_millis(250);
/// How long the end waits for what is on its way.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// The most events of the inbox in a turn.
const TURN_EVENTS_MAX: usize = 1024;
/// One page of the archive.
const PAGE_EVENTS: usize = 512;
const PAGE_BYTES: usize = 512 * 1024;

/// What the thread works with.
pub(super) struct LogWorker {
    plan: BridgePlan,
    /// The inbox of this thread, among those of the reactors.
    index: usize,
    target: Arc<dyn SourceHealth>,
    lease: Option<Box<dyn Lease>>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    relay: LogRelay,
    io: LogEnds,
    states: HashMap<TopicKey, Arc<TopicState>>,
    outcomes: Receiver<LogOutcome>,
    answers: Receiver<Answer>,
    /// When to ask for the topics; `None` while that is under way.
    list_at: Option<Moment>,
    remember_at: Moment,
    complaints: LogRateLimiter,
    is_active: bool,
}

/// Where questions, requests and publications go.
struct LogEnds {
    bus: Arc<Bus>,
    index: usize,
    sink: Box<dyn EventSink>,
    questions: Sender<Question>,
    clock: Clock,
}

/// What the archive has answered.
struct PageAnswer {
    asked: PageAsked,
    page: Result<ArchivePage, ArchiveFailed>,
}

impl LogIo for LogEnds {
    fn publish(&mut self, publication: Publication) {
        self.sink.publish(publication);
    }

    fn fetch(&mut self, topic: &Topic, asked: PageAsked, start: Start, content: Option<u64>) {
        let (bus, index) = (Arc::clone(&self.bus), self.index);
        let reply = move |page| bus.inbox(index).complete(0, PageAnswer { asked, page });
        let Some(archive) = self.bus.archive(topic) else { return reply(Err(ArchiveFailed::Unavailable)) };
        archive.fetch(ArchiveRequest {
            topic: topic.clone(),
            start,
            content,
            // What was read before may end before an event that has come since.
            since: self.clock.now(),
            upto: None,
            events_max: PAGE_EVENTS,
            bytes_max: PAGE_BYTES,
            reply: Box::new(reply),
        });
    }

    // The thread that answers has ended only if this one has.
    fn ask_place(&mut self, log: CarriedLog) {
        let _ = self.questions.send(Question::Carried(log));
    }

    fn remember(&mut self, log: CarriedLog, upto: EventId) {
        let _ = self.questions.send(Question::Remember(log, upto));
    }
}

impl LogWorker {
    pub(super) fn new(
        plan: BridgePlan,
        ends: BridgeEnds,
        clock: Clock,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let BridgeEnds { bus, sink, target, lease, source_logs, target_logs } = ends;
        let (sender, outcomes) = unbounded();
        let waker = Arc::clone(&plan.notifier);
        let report: LogReport = Arc::new(move |outcome| {
            // Fails only if the thread has ended.
            let _ = sender.send(outcome);
            waker.notify();
        });
        let (answer, answers) = unbounded();
        let waker = Arc::clone(&plan.notifier);
        let reply = move |what| {
            let _ = answer.send(what);
            waker.notify();
        };
        let questions = start_catalogs(source_logs, target_logs, Box::new(reply))?;
        let (config, index, now) = (&plan.config, plan.reactors, clock.now());
        let relay = LogRelay::new(config, report);
        Ok(Self {
            index,
            target,
            is_active: lease.is_none(),
            lease,
            clock,
            stop,
            relay,
            io: LogEnds { bus, index, sink, questions, clock },
            states: HashMap::new(),
            outcomes,
            answers,
            list_at: Some(now),
            remember_at: now + REMEMBER_INTERVAL,
            complaints: LogRateLimiter::default(),
            plan,
        })
    }

    pub(super) fn run(mut self) {
        let mut end_at = None;
        loop {
            let now = self.clock.now();
            let is_stopping = self.stop.load(Ordering::Acquire);
            let has_more = self.turn(is_stopping, now);
            if is_stopping {
                let end_at = *end_at.get_or_insert(now + END_TIMEOUT);
                if end_at <= now || self.relay.is_idle() {
                    // The log is at its broker: whoever begins next goes on where this one ends.
                    return self.relay.remember(&mut self.io);
                }
            }
            if has_more {
                continue;
            }
            self.plan.notifier.prepare_park();
            if self.inbox().is_empty() && self.outcomes.is_empty() && self.answers.is_empty() {
                // Woken, or it is time to look.
                let _ = self.plan.wakes.recv_timeout(LOOK_INTERVAL);
            }
            self.plan.notifier.unpark();
        }
    }

    fn inbox(&self) -> &Inbox {
        self.io.bus.inbox(self.index)
    }

    /// Does what there is to do, up to a bound. True if there is more that can be done at once.
    fn turn(&mut self, is_stopping: bool, now: Moment) -> bool {
        let mut tally = Tally::default();
        for outcome in self.outcomes.try_iter().collect::<Vec<_>>() {
            self.relay.settle(outcome, &mut tally, now);
        }
        self.look_at_lease(now);
        self.take_controls(now);
        self.take_answers(now);
        let is_empty = self.take_events();
        self.list(now);
        // What is on its way when the other side goes is asked about; what is not waits at the source.
        let may_send = self.is_active && !is_stopping && self.target.check(now).is_ok();
        let has_more = may_send && self.relay.run(&mut self.io, now);
        if self.remember_at <= now {
            self.remember_at = now + REMEMBER_INTERVAL;
            self.relay.remember(&mut self.io);
        }
        tally.returned = self.relay.take_returned();
        self.plan.status.count_all(tally, now);
        self.plan.status.topics.store(self.relay.topic_count() as u64, Ordering::Relaxed);
        has_more || !is_empty
    }

    fn look_at_lease(&mut self, now: Moment) {
        let Some(lease) = &self.lease else { return };
        let has_lease = lease.is_held(now);
        if has_lease != self.is_active {
            tracing::info!(active = has_lease, "the lease of the bridge has changed hands");
            self.is_active = has_lease;
            self.relay.unplace_all();
        }
        self.plan.status.stands_by.store(!has_lease, Ordering::Relaxed);
    }

    fn take_controls(&mut self, now: Moment) {
        while let Some(message) = self.io.bus.inbox(self.index).next_control() {
            match message {
                ControlMessage::Live(key) => self.relay.unjoin(key),
                ControlMessage::Completion { content, .. } => {
                    if let Ok(answer) = content.downcast::<PageAnswer>() {
                        self.relay.take_page(answer.asked, &answer.page, now);
                    }
                }
            }
        }
    }

    /// True if the inbox has no more.
    fn take_events(&mut self) -> bool {
        let inbox = self.io.bus.inbox(self.index);
        for _ in 0..TURN_EVENTS_MAX {
            let Some(message) = inbox.next_event() else {
                for state in inbox.take_resync() {
                    // What it lacks is read from the broker.
                    self.io.bus.resync(&state, self.index, Position::MAX);
                    self.relay.unjoin(state.key);
                }
                return true;
            };
            self.relay.take_event(&message);
        }
        false
    }

    fn take_answers(&mut self, now: Moment) {
        for answer in self.answers.try_iter().collect::<Vec<_>>() {
            match answer {
                Answer::SourceTopics(Ok(topics)) => {
                    self.list_at = Some(now + self.plan.config.topics_interval);
                    self.follow(topics, now);
                    self.plan.status.set_trouble(Trouble::Topics, None);
                }
                Answer::SourceTopics(Err(error)) => {
                    self.list_at = Some(now + self.plan.config.topics_interval);
                    self.complain(Trouble::Topics, format!("which topics have a log is not known: {error}"), now);
                }
                Answer::Carried(topic, Ok(carried)) => {
                    self.relay.take_place(&topic, Some(carried), now);
                    self.plan.status.set_trouble(Trouble::Places, None);
                }
                Answer::Carried(topic, Err(error)) => {
                    self.relay.take_place(&topic, None, now);
                    let what = format!("how far the log of `{topic}` was carried is not known: {error}");
                    self.complain(Trouble::Places, what, now);
                }
                Answer::TargetTopics(_) => {}
            }
        }
    }

    fn complain(&mut self, trouble: Trouble, what: String, now: Moment) {
        if let Some(suppressed) = self.complaints.admit(now) {
            tracing::warn!(suppressed, "{what}");
        }
        self.plan.status.set_trouble(trouble, Some(what));
    }

    /// Asks which topics there are.
    fn list(&mut self, now: Moment) {
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            let _ = self.io.questions.send(Question::SourceTopics(self.plan.config.patterns()));
        }
    }

    /// These topics have a log. Those whose names the maps spell out are followed before they have one.
    fn follow(&mut self, found: Vec<Topic>, now: Moment) {
        let patterns = self.plan.config.patterns();
        let named = patterns.iter().filter(is_name).filter_map(|name| Topic::parse(name.as_str()).ok());
        let wanted: std::collections::BTreeSet<Topic> = found.into_iter().chain(named).collect();
        for key in self.relay.retain(|topic| wanted.contains(topic)) {
            if let Some(state) = self.states.remove(&key) {
                self.io.bus.detach(&state, self.index);
            }
        }
        for topic in wanted {
            if !self.relay.has(&topic)
                && let Some(target) = self.relay.target_of(&topic)
            {
                let state = self.io.bus.attach(&topic, self.index).state;
                self.relay.add(topic, state.key, target, now);
                self.states.insert(state.key, state);
            }
        }
    }
}

fn is_name(pattern: &&Pattern) -> bool {
    !pattern.as_str().contains('*')
}
