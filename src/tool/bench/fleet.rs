//! All subscribers of one topic, on one thread and one poll.

use std::{io, net::SocketAddr, time::Duration};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, event::Event};

use super::{
    options::{Load, Plan, Transport},
    payload::{PROBE, Stamp},
    process,
    progress::Progress,
    schedule::Schedule,
    stamps::StampClock,
    subscriber::{Desk, Seen, Subscriber},
    tally::{Received, Tally, latency_histogram, nanoseconds},
    wire::{self, Heard, Wire},
};
use crate::clock::Clock;

/// How many connections are opened at the same time: few enough for any listener's backlog.
const OPENING_MAX: u32 = 64;

/// How much one read takes.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How many readiness events one wait takes.
const EVENTS_PER_WAIT: usize = 1024;

/// How often the fleet looks whether it shall stop, when nothing else happens.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// The subscribers of one load.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    poll: Poll,
    target: SocketAddr,
    transport: Transport,
    size: u32,
    request: Vec<u8>,
    subscribers: Vec<Option<Subscriber>>,
    desk: Desk,
    ledger: Ledger<'a>,
    /// Where this load's subscribers begin among all: decides their source addresses.
    first_index: u32,
    event_count: u32,
}

/// What the subscribers' messages are entered into.
#[derive(Debug)]
struct Ledger<'a> {
    tally: Tally,
    progress: &'a Progress,
    run: u16,
    delivery_count: u64,
    /// From the beginning of a connection to the answer to its request.
    opening: Histogram<u64>,
}

/// What all parts of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub clock: Clock,
    pub stamps: Option<StampClock>,
    /// The number in this run's stamps.
    pub run: u16,
}

/// What a fleet brings home.
#[derive(Debug)]
pub(super) struct Harvest {
    pub tally: Tally,
    /// From the beginning of a connection to the answer to its request.
    pub opening: Histogram<u64>,
}

impl<'a> Fleet<'a> {
    /// Prepares; nothing is connected yet.
    pub(super) fn new(
        plan: &Plan,
        load: &Load,
        schedule: &Schedule,
        context: Context,
        progress: &'a Progress,
        first_index: u32,
    ) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            target: plan.target.address,
            transport: load.transport,
            size: load.subscribers,
            request: wire::request(plan, load),
            subscribers: Vec::with_capacity(load.subscribers as usize),
            desk: Desk {
                clock: context.clock,
                stamps: context.stamps,
                buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
                reply: Vec::new(),
            },
            ledger: Ledger {
                tally: Tally::new(schedule.measured.clone(), load.subscribers),
                progress,
                run: context.run,
                delivery_count: 0,
                opening: latency_histogram(),
            },
            first_index,
            event_count: schedule.event_count(),
        })
    }

    /// Connects all, and reads until told to stop.
    pub(super) fn run(mut self) -> io::Result<Harvest> {
        self.ledger.progress.set_thread(process::own_thread());
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        while !self.ledger.progress.is_stopped() {
            self.open_some();
            match self.poll.poll(&mut events, Some(STOP_INTERVAL)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.attend(event);
            }
        }
        Ok(self.into_harvest())
    }

    fn open_some(&mut self) {
        let progress = self.ledger.progress;
        while (self.subscribers.len() as u32) < self.size {
            let started = self.subscribers.len() as u32;
            if OPENING_MAX <= started.saturating_sub(progress.open.now() + progress.closed.now()) {
                return;
            }
            let opened = self.open(started);
            self.subscribers.push(opened.map_err(|error| progress.fail(&error.to_string())).ok());
        }
    }

    fn open(&self, index: u32) -> io::Result<Subscriber> {
        let wire = Wire::new(self.transport);
        let mut subscriber = Subscriber::connect(self.target, self.first_index + index, &self.desk, wire)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut subscriber.socket, Token(index as usize), interest)?;
        Ok(subscriber)
    }

    fn attend(&mut self, event: &Event) {
        let slot = event.token().0;
        let Some(subscriber) = self.subscribers[slot].as_mut() else { return };
        let ledger = &mut self.ledger;
        let mut outcome = Ok(());
        if event.is_writable() {
            outcome = subscriber.ask(&self.request);
        }
        if outcome.is_ok() && event.is_readable() {
            outcome = subscriber.read(&mut self.desk, event.is_read_closed(), &mut |seen, received, heard| {
                ledger.enter(seen, received, heard);
            });
            ledger.progress.set_deliveries(ledger.delivery_count);
        }
        if let Err(error) = outcome {
            self.lose(slot, &error);
        }
    }

    /// A connection ended early: what it will miss is lost.
    fn lose(&mut self, slot: usize, error: &io::Error) {
        self.ledger.progress.fail(&error.to_string());
        if let Some(subscriber) = self.subscribers[slot].take() {
            self.ledger.tally.faults.lost += u64::from(subscriber.seen.order.missing(self.event_count));
        }
    }

    fn into_harvest(mut self) -> Harvest {
        for subscriber in self.subscribers.iter().flatten() {
            self.ledger.tally.faults.lost += u64::from(subscriber.seen.order.missing(self.event_count));
        }
        Harvest { tally: self.ledger.tally, opening: self.ledger.opening }
    }
}

impl Ledger<'_> {
    #[inline]
    fn enter(&mut self, seen: &mut Seen, received: Received, heard: Heard<'_>) {
        let message = match heard {
            Heard::Open => return self.note_open(received.read.since(seen.began)),
            Heard::Message(message) => message,
        };
        let Some(stamp) = Stamp::find(message).filter(|stamp| stamp.run == self.run) else {
            return self.note_foreign(message);
        };
        if stamp.sequence == PROBE {
            return self.note_probe(seen);
        }
        self.delivery_count += 1;
        self.tally.faults.count(seen.order.note(stamp.sequence));
        self.tally.record(stamp.sequence, stamp.intended, received);
    }

    fn note_open(&mut self, span: Duration) {
        self.progress.open.raise();
        self.opening.saturating_record(nanoseconds(span));
    }

    fn note_probe(&self, seen: &mut Seen) {
        if !std::mem::replace(&mut seen.is_ready, true) {
            self.progress.ready.raise();
        }
    }

    /// Words of `fanfare.v1` that are no events are expected.
    fn note_foreign(&mut self, message: &[u8]) {
        if message.starts_with(br#"{"op":"event""#) || !message.starts_with(br#"{"op":"#) {
            self.tally.faults.foreign += 1;
        }
    }
}
