//! All subscribers of one load, on one thread and one poll.

mod reconnect;

use std::{io, time::Duration};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, event::Event};

use reconnect::DisconnectedClients;
pub(super) use reconnect::ReconnectStats;

use super::{
    histogram::{latency_histogram, nanoseconds},
    order::{Arrival, Order},
    payload::{PAYLOAD_BYTES_MIN, PROBE, Stamp},
    plan::{EVENTS_AFTER_STORM, Load, Plan},
    process,
    progress::Progress,
    run::RunContext,
    schedule::Schedule,
    slices::Slicing,
    subscriber::{Seen, SharedIo, Subscriber},
    tally::{Received, Tally},
    wire::ClientProfile,
    wire_event::WireEvent,
};

/// The most connections that are being opened at the same time: few enough for any listener's backlog.
const OPENING_MAX: u32 = 64;

/// The size of the read buffer.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// The most readiness events that one poll returns.
const EVENTS_PER_WAIT: usize = 1024;

/// How often an idle fleet checks whether to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// The subscribers of one load.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    poll: Poll,
    plan: &'a Plan,
    load: &'a Load,
    /// One for each topic.
    profiles: Vec<ClientProfile>,
    subscribers: Vec<Option<Subscriber>>,
    disconnected: DisconnectedClients,
    io: SharedIo,
    counters: FleetCounters<'a>,
    /// What the subscribers had received whose connections ended early.
    gone: Vec<Order>,
    /// The index of this load's first subscriber among all loads: it decides the source addresses.
    first_index: u32,
    /// The number of events of the run, including those of a storm.
    event_count: u32,
}

/// Counters that the subscribers' messages are added to.
#[derive(Debug)]
struct FleetCounters<'a> {
    tally: Tally,
    progress: &'a Progress,
    /// Set when the first subscriber reconnects after a storm.
    reconnect: Option<ReconnectStats>,
    run: u16,
    /// The number of topics; event n belongs to topic n modulo this.
    topics: u32,
    /// Texts of messages that are expected although they carry no event.
    ignored: &'a [String],
    /// From this length on a message may carry several events, which some servers join.
    joined_bytes_min: usize,
    delivery_count: u64,
    /// From the start of connecting to the granted request.
    opening: Histogram<u64>,
}

/// The measurements of a fleet.
#[derive(Debug)]
pub(super) struct FleetResult {
    pub tally: Tally,
    /// From the start of connecting to the granted request.
    pub opening: Histogram<u64>,
    pub reconnect: Option<ReconnectStats>,
}

impl<'a> Fleet<'a> {
    /// Makes a fleet without connections.
    pub(super) fn new(
        plan: &'a Plan,
        load: &'a Load,
        schedule: &Schedule,
        context: RunContext,
        progress: &'a Progress,
        first_index: u32,
    ) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            plan,
            load,
            profiles: ClientProfile::of_load(plan, load),
            subscribers: Vec::with_capacity(load.subscribers as usize),
            disconnected: DisconnectedClients::default(),
            io: SharedIo {
                clock: context.clock,
                stamps: context.stamps,
                buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
                reply: Vec::new(),
            },
            counters: FleetCounters {
                tally: Tally::new(schedule.measured.clone(), load.audience(), Slicing::new(schedule, &load.pace)),
                progress,
                reconnect: None,
                run: context.run,
                topics: load.topic.count(),
                ignored: &plan.ignored,
                joined_bytes_min: 2 * plan.size_bytes.max(PAYLOAD_BYTES_MIN),
                delivery_count: 0,
                opening: latency_histogram(),
            },
            gone: Vec::new(),
            first_index,
            event_count: schedule.event_count() + plan.storm.map_or(0, |missed| missed + EVENTS_AFTER_STORM),
        })
    }

    /// Connects all subscribers, and reads until the conductor stops the fleet.
    pub(super) fn run(mut self) -> io::Result<FleetResult> {
        self.counters.progress.set_thread(process::own_thread());
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        while !self.counters.progress.is_stopped() {
            self.open_some();
            let wait = self.follow_command(STOP_INTERVAL)?;
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.handle_event(event);
            }
        }
        Ok(self.into_result())
    }

    fn open_some(&mut self) {
        let progress = self.counters.progress;
        while (self.subscribers.len() as u32) < self.load.subscribers {
            let started = self.subscribers.len() as u32;
            if OPENING_MAX <= started.saturating_sub(progress.open.now() + progress.closed.now()) {
                return;
            }
            let opened = self.open(started);
            self.subscribers.push(opened.map_err(|error| progress.fail(&error.to_string())).ok());
        }
    }

    fn open(&self, index: u32) -> io::Result<Subscriber> {
        let wire = self.profiles[self.topic_of(index as usize)].wire();
        let target = &self.plan.target;
        let mut subscriber = Subscriber::connect(target, self.first_index + index, &self.io, wire)?;
        subscriber.seen.order = Order::of_topic(self.topic_of(index as usize) as u32);
        self.register(&mut subscriber, index as usize)?;
        Ok(subscriber)
    }

    fn register(&self, subscriber: &mut Subscriber, slot: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(subscriber.stream.socket_mut(), Token(slot), interest)
    }

    /// The subscriber's index among those of all loads.
    fn index_of(&self, slot: usize) -> u32 {
        self.first_index + slot as u32
    }

    /// The index of the subscriber's topic: subscribers take the topics in turn.
    fn topic_of(&self, slot: usize) -> usize {
        // Called for every event of a socket, so without a division where none is needed.
        if self.profiles.len() == 1 { 0 } else { (self.load.subscribers_before as usize + slot) % self.profiles.len() }
    }

    fn handle_event(&mut self, event: &Event) {
        let slot = event.token().0;
        let topic = self.topic_of(slot);
        let Some(subscriber) = self.subscribers[slot].as_mut() else { return };
        let counters = &mut self.counters;
        let mut outcome = Ok(());
        if event.is_writable() {
            outcome = subscriber.ask(self.disconnected.request(slot).unwrap_or(&self.profiles[topic].request));
        }
        if outcome.is_ok() && event.is_readable() {
            outcome = subscriber.read(&mut self.io, event.is_read_closed(), &mut |seen, received, event| {
                counters.record(seen, received, event);
            });
            counters.progress.set_deliveries(counters.delivery_count);
        }
        if let Err(error) = outcome {
            self.drop_subscriber(slot, &error);
        }
    }

    /// A connection ended early: the events it will miss are lost.
    fn drop_subscriber(&mut self, slot: usize, error: &io::Error) {
        self.counters.progress.fail(&error.to_string());
        if let Some(subscriber) = self.subscribers[slot].take() {
            self.gone.push(subscriber.seen.order);
        }
    }

    fn into_result(mut self) -> FleetResult {
        let end = self.counters.progress.event_end(self.event_count);
        let topics = self.counters.topics;
        let here = self.subscribers.iter().flatten().map(|subscriber| subscriber.seen.order);
        let missing: u64 = here
            .chain(self.disconnected.take_orders())
            .chain(self.gone)
            .map(|order| u64::from(order.missing(end, topics)))
            .sum();
        let FleetCounters { mut tally, opening, reconnect, .. } = self.counters;
        tally.faults.lost += missing;
        tally.cut(end);
        FleetResult { tally, opening, reconnect }
    }
}

impl FleetCounters<'_> {
    #[inline]
    fn record(&mut self, seen: &mut Seen, received: Received, event: WireEvent<'_>) {
        let message = match event {
            WireEvent::Opened => return self.note_open(received.read.since(seen.began)),
            WireEvent::Message(message) => message,
            WireEvent::Other(message) => return self.progress.remark(message),
            WireEvent::Awaiting(text) => return self.progress.set_awaited(text),
            // Only sign-ins send such requests.
            WireEvent::Response(_) => return,
        };
        let Some((stamp, rest)) = Stamp::find(message).filter(|(stamp, _)| stamp.run == self.run) else {
            return self.note_foreign(message);
        };
        self.deliver(seen, received, stamp);
        if self.joined_bytes_min <= message.len() {
            self.deliver_rest(seen, received, rest);
        }
    }

    /// Counts the further events of a message that joins several.
    #[cold]
    fn deliver_rest(&mut self, seen: &mut Seen, received: Received, mut rest: &[u8]) {
        while let Some((stamp, further)) = Stamp::find(rest).filter(|(stamp, _)| stamp.run == self.run) {
            self.deliver(seen, received, stamp);
            rest = further;
        }
    }

    #[inline]
    fn deliver(&mut self, seen: &mut Seen, received: Received, stamp: Stamp) {
        if stamp.sequence == PROBE {
            return self.note_probe(seen);
        }
        let arrival = seen.order.note(stamp.sequence, self.topics);
        self.tally.faults.count(arrival);
        if arrival == Arrival::Foreign {
            return;
        }
        self.delivery_count += 1;
        if let Some(reconnect) = &mut self.reconnect
            && reconnect.note(stamp.sequence, arrival, received.read)
        {
            self.progress.back.raise();
        }
        self.progress.live.note(nanoseconds(received.read.since(stamp.intended)));
        self.tally.record(stamp.sequence, stamp.intended, received);
    }

    fn note_open(&mut self, span: Duration) {
        self.progress.open.raise();
        let opening = self.reconnect.as_mut().map_or(&mut self.opening, |reconnect| &mut reconnect.opening);
        opening.saturating_record(nanoseconds(span));
    }

    fn note_probe(&self, seen: &mut Seen) {
        if !std::mem::replace(&mut seen.is_ready, true) {
            self.progress.ready.raise();
        }
    }

    /// Counts a message without an event as foreign, unless it is another operation of `fanfare.v1` or the plan ignores it.
    fn note_foreign(&mut self, message: &[u8]) {
        let contains = |text: &String| memchr::memmem::find(message, text.as_bytes()).is_some();
        let is_word = message.starts_with(br#"{"op":"#) && !message.starts_with(br#"{"op":"event""#);
        if !is_word && !self.ignored.iter().any(contains) {
            self.tally.faults.foreign += 1;
        }
    }
}
