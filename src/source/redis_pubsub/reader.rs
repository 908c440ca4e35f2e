//! The reader thread: one connection, one poll, one turn after another.
//!
//! A turn: poll → read the clock once → interest and socket → one [`Feed`] with all that came, so that
//! each reactor is woken at most once → commands and timers. Nothing in a turn waits but the poll, and the look-up of
//! the server's name while there is no connection.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::Receiver;
use mio::{Poll, Token};
use tracing::{info, warn};

use super::{
    Config, SourceStatus,
    backoff::Backoff,
    buffer::{Filled, ReadBuffer},
    connection::{Candidate, Connection, Dialer},
    intake::Intake,
    session::{Fault, Incoming, Session},
    subscriptions::{Notice, Subscriptions},
    throttle::Throttle,
};
use crate::{
    bus::{Bus, Feed, Interest, Wake},
    clock::{Clock, Moment},
};

const WAKER: Token = Token(0);
const LINK: Token = Token(1);

/// The slice asked of the scheduler: reading a burst takes less, and the thread shares its core with a busy reactor.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Owns the reader thread.
#[derive(Debug)]
pub struct ReaderHandle {
    alarm: Arc<Alarm>,
    thread: JoinHandle<()>,
}

impl ReaderHandle {
    /// Closes the connection and waits for the thread to end. Topics stay as they are: the hub is going down.
    pub fn stop(self) {
        self.alarm.stop.store(true, Ordering::Release);
        self.alarm.wake();
        if self.thread.join().is_err() {
            warn!("the Redis reader thread had panicked");
        }
    }
}

/// Interrupts the reader's poll, once per turn at most: an eventfd write costs the caller more than a delivery.
#[derive(Debug)]
struct Alarm {
    waker: mio::Waker,
    rung: AtomicBool,
    stop: AtomicBool,
}

impl Wake for Alarm {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            warn!("the Redis reader cannot be woken: {error}");
        }
    }
}

/// Starts the thread. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub fn start_reader(
    config: Config,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<SourceStatus>,
    pin: Option<core_affinity::CoreId>,
    short_slice: bool,
) -> io::Result<ReaderHandle> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    let alarm = Arc::new(Alarm { waker, rung: AtomicBool::new(false), stop: AtomicBool::new(false) });
    // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
    let (changes, interest) = crossbeam_channel::unbounded();
    let mut reader = Reader {
        dialer: Dialer::new(&config)?,
        link: Link::Down { retry: clock.now() },
        backoff: Backoff::new(config.backoff_min, config.backoff_max),
        subscriptions: Subscriptions::new(&config),
        intake: Intake::new(config.message_bytes_max, Arc::clone(&status)),
        buffer: ReadBuffer::new(config.read_buffer_bytes),
        failures: Throttle::default(),
        alarm: Arc::clone(&alarm),
        again: true,
        poll,
        interest,
        bus: Arc::clone(&bus),
        clock,
        status,
        config,
    };
    reader.status.set_proof_max_age(reader.config.ping_interval + reader.config.ping_timeout);
    reader.report_tally();
    bus.watch_interest(changes, Arc::clone(&alarm) as Arc<dyn Wake>);
    let thread = std::thread::Builder::new().name("redis-reader".to_owned()).spawn(move || {
        claim_processor(pin, short_slice);
        reader.run();
    })?;
    Ok(ReaderHandle { alarm, thread })
}

fn claim_processor(pin: Option<core_affinity::CoreId>, short_slice: bool) {
    if let Some(core) = pin
        && !core_affinity::set_for_current(core)
    {
        warn!("the Redis reader cannot be pinned to core {}", core.id);
    }
    if short_slice && let Err(error) = crate::os::request_short_slice(SHORT_SLICE) {
        warn!("the Redis reader gets no short scheduler slice: {error}");
    }
}

struct Reader {
    config: Config,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<SourceStatus>,
    poll: Poll,
    alarm: Arc<Alarm>,
    interest: Receiver<Interest>,
    dialer: Dialer,
    link: Link,
    backoff: Backoff,
    subscriptions: Subscriptions,
    intake: Intake,
    buffer: ReadBuffer,
    failures: Throttle,
    /// The socket may hold more without a further edge.
    again: bool,
}

/// How things stand with the server.
#[derive(Debug)]
enum Link {
    Down { retry: Moment },
    Dialing { connection: Connection, rest: VecDeque<Candidate>, deadline: Moment },
    Up { connection: Connection, session: Box<Session>, ready: bool },
}

impl Reader {
    fn run(&mut self) {
        let mut events = mio::Events::with_capacity(8);
        while !self.alarm.stop.load(Ordering::Acquire) {
            if let Err(error) = self.poll.poll(&mut events, Some(self.patience()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Only our own contradiction could cause it; the status shows that nothing is read any more.
                let now = self.clock.now();
                return self.fail(&Fault::Broken(format!("poll: {error}")), now);
            }
            let edge = events.iter().any(|event| event.token() == LINK);
            self.turn(edge, self.clock.now());
        }
    }

    /// How long the poll may wait.
    fn patience(&self) -> Duration {
        if self.again {
            return Duration::ZERO;
        }
        let link = match &self.link {
            Link::Down { retry } => *retry,
            Link::Dialing { deadline, .. } => *deadline,
            Link::Up { session, .. } => session.deadline(),
        };
        let deadline = self.subscriptions.deadline().map_or(link, |linger| linger.min(link));
        deadline.since(self.clock.now())
    }

    fn turn(&mut self, edge: bool, now: Moment) {
        let readable = edge || std::mem::take(&mut self.again);
        if let Err(fault) = self.drive_link(readable, now) {
            self.fail(&fault, now);
        }
        let changed = self.take_interest(now);
        if let Err(fault) = self.converse(now) {
            self.fail(&fault, now);
        }
        if changed {
            self.tell_bus(now);
        }
    }

    /// Everything that the socket's readiness and the link's timers ask for.
    fn drive_link(&mut self, readable: bool, now: Moment) -> Result<(), Fault> {
        match &mut self.link {
            Link::Down { retry } if *retry <= now => {
                let candidates = self.dialer.candidates().map_err(|error| Fault::Unreachable(error.to_string()))?;
                self.dial(candidates.into(), now)
            }
            Link::Down { .. } => Ok(()),
            Link::Dialing { .. } => self.finish_dialing(now),
            Link::Up { .. } if readable => self.receive(now),
            Link::Up { .. } => Ok(()),
        }
    }

    /// Tries one candidate after the other until an attempt is under way.
    fn dial(&mut self, mut rest: VecDeque<Candidate>, now: Moment) -> Result<(), Fault> {
        let mut failure = "the name has no address".to_owned();
        while let Some(candidate) = rest.pop_front() {
            match self.dialer.connect(&candidate, self.poll.registry(), LINK) {
                Ok(connection) => {
                    self.link = Link::Dialing { connection, rest, deadline: now + self.config.connect_timeout };
                    // A Unix socket is connected at once, and its edge may already have passed.
                    self.again = true;
                    return Ok(());
                }
                Err(error) => failure = error.to_string(),
            }
        }
        Err(Fault::Unreachable(failure))
    }

    fn finish_dialing(&mut self, now: Moment) -> Result<(), Fault> {
        let Link::Dialing { connection, rest, deadline } = &mut self.link else { return Ok(()) };
        let failure = match connection.poll_connected() {
            Ok(true) => {
                self.greet(now);
                return Ok(());
            }
            Ok(false) if now < *deadline => return Ok(()),
            Ok(false) => "no answer in time".to_owned(),
            Err(error) => error.to_string(),
        };
        if rest.is_empty() {
            return Err(Fault::Unreachable(failure));
        }
        let rest = std::mem::take(rest);
        self.dial(rest, now)
    }

    fn greet(&mut self, now: Moment) {
        let Link::Dialing { connection, .. } = std::mem::replace(&mut self.link, Link::Down { retry: now }) else {
            return;
        };
        let session = Box::new(Session::open(&self.config, rand::random(), now));
        self.link = Link::Up { connection, session, ready: false };
        self.again = true;
    }

    /// Reads what there is, up to a buffer full, and hands it to the bus as one batch.
    fn receive(&mut self, now: Moment) -> Result<(), Fault> {
        let Link::Up { connection, session, .. } = &mut self.link else { return Ok(()) };
        let filled = self.buffer.fill(|room| connection.read(room));
        let mut feed = self.bus.feed();
        let mut batch = Batch {
            session,
            config: &self.config,
            subscriptions: &mut self.subscriptions,
            intake: &mut self.intake,
            bus: &self.bus,
            status: &self.status,
            received: 0,
            answers: false,
        };
        let parsed = batch.parse(&mut self.buffer, &mut feed, now);
        let (received, answers) = (batch.received, batch.answers);
        drop(feed);
        if 0 < received {
            self.status.on_events(received, now);
        }
        if answers {
            self.report_tally();
        }
        parsed?;
        match filled {
            Filled::Drained => Ok(()),
            Filled::Full => {
                self.again = true;
                Ok(())
            }
            Filled::End => Err(Fault::Closed),
            Filled::Failed(error) => Err(Fault::Broken(error.to_string())),
        }
    }

    /// True if there were changes.
    fn take_interest(&mut self, now: Moment) -> bool {
        // Before the queue is looked at: whoever puts something in afterwards rings again.
        if !self.alarm.rung.swap(false, Ordering::AcqRel) && self.subscriptions.deadline().is_none_or(|due| now < due) {
            return false;
        }
        for change in self.interest.try_iter() {
            match change {
                Interest::Wanted(topic) => self.subscriptions.want(topic),
                Interest::Unwanted(topic) => self.subscriptions.unwant(&topic, now),
            }
        }
        self.subscriptions.expire(now);
        true
    }

    /// Sends what is due and checks that the server is alive.
    fn converse(&mut self, now: Moment) -> Result<(), Fault> {
        let Link::Up { connection, session, ready } = &mut self.link else { return Ok(()) };
        session.poll_commands(&mut self.subscriptions, now);
        connection.send(session.outgoing()).map_err(|error| Fault::Broken(error.to_string()))?;
        if let Some(took) = session.take_proof() {
            self.status.on_proof(took, now);
        }
        if session.is_ready() && !*ready {
            *ready = true;
            self.backoff.reset();
            self.status.reader().on_connected(now);
            info!("connected to {}", self.config.url);
        }
        session.check_deadlines(now)
    }

    /// Takes the link down; the next attempt waits.
    fn fail(&mut self, fault: &Fault, now: Moment) {
        let delay = self.backoff.next_delay(rand::random());
        let was_ready = matches!(self.link, Link::Up { ready: true, .. });
        self.link = Link::Down { retry: now + delay };
        self.buffer.clear();
        self.again = false;
        self.status.reader().on_failure(&fault.to_string(), now);
        self.subscriptions.on_disconnected();
        self.tell_bus(now);
        if let Some(suppressed) = self.failures.admit(now).or_else(|| was_ready.then_some(0)) {
            warn!(
                suppressed,
                "no connection to {}: {fault}; next attempt in {} ms",
                self.config.url,
                delay.as_millis()
            );
        }
    }

    fn tell_bus(&mut self, now: Moment) {
        let mut feed = self.bus.feed();
        tell(&self.bus, &mut feed, &mut self.subscriptions, &self.status, now);
        drop(feed);
        self.report_tally();
    }

    fn report_tally(&self) {
        self.status.set_subscriptions(self.subscriptions.tally());
    }
}

/// What is needed to hand one buffer full on.
struct Batch<'a> {
    session: &'a mut Session,
    config: &'a Config,
    subscriptions: &'a mut Subscriptions,
    intake: &'a mut Intake,
    bus: &'a Bus,
    status: &'a SourceStatus,
    received: u64,
    answers: bool,
}

impl Batch<'_> {
    fn parse(&mut self, buffer: &mut ReadBuffer, feed: &mut Feed<'_>, now: Moment) -> Result<(), Fault> {
        let mut parsed = 0;
        let outcome = loop {
            let rest = buffer.unparsed().get(parsed..).unwrap_or_default();
            match self.session.receive(rest, &self.config.url, self.subscriptions, now) {
                Ok(Some((incoming, consumed))) => {
                    self.handle(incoming, feed, now);
                    parsed += consumed;
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        buffer.consume(parsed);
        outcome
    }

    fn handle(&mut self, incoming: Incoming<'_>, feed: &mut Feed<'_>, now: Moment) {
        match incoming {
            Incoming::Message { channel, payload } => {
                self.received += u64::from(self.intake.take(channel, payload, feed, now));
            }
            Incoming::TooBig { channel } => self.intake.refuse_oversize(channel, feed, now),
            Incoming::Nothing => {}
            Incoming::Answer => {
                self.answers = true;
                tell(self.bus, feed, self.subscriptions, self.status, now);
            }
        }
    }
}

/// Passes on what the subscriptions have to say.
fn tell(bus: &Bus, feed: &mut Feed<'_>, subscriptions: &mut Subscriptions, status: &SourceStatus, now: Moment) {
    for notice in subscriptions.take_notices() {
        match notice {
            Notice::Live(topic) => bus.mark_live(&topic),
            Notice::Stale(topic) => bus.mark_stale(&topic),
            Notice::Lost(topic) => {
                feed.report_loss(&topic, now);
                status.on_loss();
            }
            Notice::LostUnder(index) => {
                let summaries = bus.summaries();
                let topics = summaries.iter().map(|summary| &summary.topic);
                for topic in topics.filter(|topic| subscriptions.patterns().carried(index, topic)) {
                    feed.report_loss(topic, now);
                    status.on_loss();
                }
            }
            Notice::Denied(name) => warn!("the server's access rules forbid to subscribe to `{name}`"),
        }
    }
}
