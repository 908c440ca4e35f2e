//! The thread of all subscribers: one poll, one buffer.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, Waker, event::Event};

use super::{
    Command, Plan, Record, Shared,
    client::{Arrival, Client},
    lock,
    payload::latency_histogram,
};

/// How many connections are made at the same time: few enough for any listener's backlog.
const OPENING_MAX: usize = 128;

/// The interval at which timers and goals are checked.
const TICK: Duration = Duration::from_millis(10);

const WAKE: Token = Token(usize::MAX);

/// All subscribers.
#[derive(Debug)]
pub(super) struct Fleet {
    plan: Plan,
    target: SocketAddr,
    shared: Arc<Shared>,
    poll: Poll,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    is_finished: bool,
}

impl Fleet {
    /// A fleet without connections. The waker makes it read its commands.
    pub(super) fn new(plan: Plan, target: SocketAddr, shared: Arc<Shared>) -> (Self, Waker) {
        let poll = Poll::new().expect("descriptors are at hand");
        let waker = Waker::new(poll.registry(), WAKE).expect("descriptors are at hand");
        let clients = plan.subscribers.iter().map(|(dialect, topics)| Client::new(*dialect, topics)).collect();
        let buffer = vec![0; 64 * 1024].into_boxed_slice();
        (Self { plan, target, shared, poll, clients, buffer, is_finished: false }, waker)
    }

    /// Runs until [`Command::Finish`].
    pub(super) fn run(mut self) -> Vec<Record> {
        let mut events = Events::with_capacity(1024);
        let mut tick = Instant::now();
        while !self.is_finished && !self.shared.ended.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.expect("the poll is open"),
            }
            let mut latency = latency_histogram();
            for event in &events {
                self.handle_event(event, &mut latency);
            }
            self.hand_over(&latency);
            let commands = std::mem::take(&mut *lock(&self.shared.commands));
            commands.into_iter().for_each(|send_command| self.run_command(send_command));
            if TICK <= tick.elapsed() {
                tick = Instant::now();
                self.connect_due(tick);
                self.report();
            }
        }
        self.clients.into_iter().map(|client| client.record).collect()
    }

    fn handle_event(&mut self, event: &Event, latency: &mut Histogram<u64>) {
        let slot = event.token().0;
        if event.token() == WAKE || !self.clients[slot].is_connected() {
            return;
        }
        let asked = if event.is_writable() { self.clients[slot].ask(&self.plan) } else { Ok(()) };
        match asked {
            Ok(()) if event.is_readable() || event.is_read_closed() || event.is_error() => self.read(slot, latency),
            Ok(()) => {}
            Err(_) => self.clients[slot].disconnect(&self.plan),
        }
    }

    fn read(&mut self, slot: usize, latency: &mut Histogram<u64>) {
        let client = &mut self.clients[slot];
        let is_measured = !client.was_stalled;
        let now_us = self.plan.origin.elapsed_us();
        let mut arrived = |arrival: Arrival| {
            if is_measured {
                latency.saturating_record(now_us.saturating_sub(arrival.sent_us));
            }
        };
        if client.read(&self.plan, &mut self.buffer, &mut arrived).is_err() {
            client.disconnect(&self.plan);
        }
    }

    fn run_command(&mut self, send_command: Command) {
        match send_command {
            Command::Stall(who) => self.clients[who].iter_mut().for_each(|client| {
                client.is_stalled = true;
                client.was_stalled = true;
            }),
            Command::Release => self.release(),
            Command::Redirect(target) => self.target = target,
            Command::Cut => {
                for client in self.clients.iter_mut().filter(|client| client.is_connected()) {
                    client.disconnect(&self.plan);
                }
            }
            Command::Finish => self.is_finished = true,
        }
    }

    /// Reads what arrived while the client was stalled: its readiness edges were ignored.
    fn release(&mut self) {
        let mut latency = latency_histogram();
        for slot in 0..self.clients.len() {
            if std::mem::take(&mut self.clients[slot].is_stalled) {
                self.read(slot, &mut latency);
            }
        }
    }

    fn connect_due(&mut self, now: Instant) {
        let opening = self.clients.iter().filter(|client| client.is_connected() && !client.is_open()).count();
        let mut room = OPENING_MAX.saturating_sub(opening);
        for slot in 0..self.clients.len() {
            let client = &mut self.clients[slot];
            if room == 0 || client.is_connected() || client.is_stalled || now < client.due {
                continue;
            }
            room -= 1;
            let is_narrow = self.plan.narrow.contains(&slot);
            let registry = self.poll.registry();
            let begun = client
                .connect(self.target, is_narrow)
                .and_then(|socket| registry.register(socket, Token(slot), Interest::READABLE | Interest::WRITABLE));
            if begun.is_err() {
                client.disconnect(&self.plan);
            }
        }
    }

    fn report(&self) {
        let open = self.clients.iter().filter(|client| client.is_open()).count();
        self.shared.open.store(open, Ordering::Release);
        let goal = lock(&self.shared.goal);
        let has_seen = |client: &&Client| {
            let mut seen = client.record.topics.iter().zip(&client.last_numbers);
            seen.all(|((topic, _), number)| goal.get(topic).is_none_or(|last| last <= number))
        };
        let seen = self.clients.iter().filter(has_seen).count();
        self.shared.behind.store(self.clients.len() - seen, Ordering::Release);
        self.shared.checks.fetch_add(1, Ordering::AcqRel);
    }

    fn hand_over(&self, latency: &Histogram<u64>) {
        if !latency.is_empty() {
            let mut shared = lock(&self.shared.latency);
            shared.get_or_insert_with(latency_histogram).add(latency).expect("both have the same bounds");
        }
    }
}
