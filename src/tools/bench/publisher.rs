//! The publisher: sends each event when it is due, whether or not the server keeps up, and records its own lateness.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use rustix::event::{Timespec, poll};

use super::{
    histogram::nanoseconds,
    payload::{PROBE, Stamp},
    plan::{Publish, PublishTarget},
    post::Form,
    process,
    progress::Progress,
    publish_connection::PublishConnection,
    published::Published,
    schedule::Schedule,
    topics::Topics,
};
use crate::{
    clock::{Clock, Moment},
    os,
    protocol::{nats, resp},
    topic::Topic,
};

/// How often the publisher checks for answers at the end.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Timeout for answers after the last event.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout, from when the last event was due, for events that wait for the answers to others.
const WAITING_TIMEOUT: Duration = Duration::from_secs(30);

/// The most topics that are probed at once: a server need not accept thousands of events in one burst.
const PROBES_PER_BATCH: usize = 64;

/// After this many refusals and nothing else, the publisher gives up.
const REFUSALS_MAX: u64 = 3;

/// The longest sleep, so that the publisher notices soon that it must stop.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// The scheduler slice that the publisher requests: it shares a core with the subscribers' thread and must not wait for it.
const SLICE: Duration = Duration::from_micros(100);

/// The publisher of one load, on connections of its own.
#[derive(Debug)]
pub(super) struct Publisher {
    connections: Vec<PublishConnection>,
    /// One for each topic.
    envelopes: Vec<Envelope>,
    payload: Vec<u8>,
    size_bytes: usize,
    is_in_turn: bool,
    /// Which connection is next.
    next: usize,
    outcome: Published,
}

/// How a payload is wrapped.
#[derive(Debug)]
enum Envelope {
    Redis { channel: String },
    Nats { subject: nats::Subject, headers: Vec<(String, String)> },
    Http(Form),
}

impl Publisher {
    /// Connects to where `publish` says.
    pub(super) fn connect(publish: &Publish, topics: &Topics, size_bytes: usize) -> io::Result<Self> {
        let envelopes = topics.iter().map(|topic| Envelope::new(&publish.target, topic));
        let connections = (0..publish.connections).map(|_| PublishConnection::connect(&publish.target, size_bytes));
        Ok(Self {
            envelopes: envelopes.collect::<Result<_, _>>().map_err(io::Error::other)?,
            connections: connections.collect::<Result<_, _>>()?,
            payload: Vec::new(),
            size_bytes,
            is_in_turn: publish.is_in_turn,
            next: 0,
            outcome: Published::new(),
        })
    }

    /// Sends one event outside the schedule; a probe to all topics.
    pub(super) fn send(&mut self, stamp: &Stamp) -> io::Result<()> {
        let count = self.envelopes.len() as u32;
        let topics = match stamp.sequence {
            PROBE => 0..count,
            sequence => sequence % count..sequence % count + 1,
        };
        let batch_count = topics.len().div_ceil(PROBES_PER_BATCH);
        for (batch, first) in (1..).zip(topics.clone().step_by(PROBES_PER_BATCH)) {
            let batch_end = topics.end.min(first + PROBES_PER_BATCH as u32);
            (first..batch_end).try_for_each(|topic| self.offer(*stamp, topic, None))?;
            self.settle(batch < batch_count)?;
        }
        Ok(())
    }

    /// Sends until nothing is left, and, if `awaits_answers`, until all events are answered.
    fn settle(&mut self, awaits_answers: bool) -> io::Result<()> {
        let (mut deadline, mut known) = (Instant::now() + ANSWER_TIMEOUT, self.outcome.answered);
        loop {
            self.service(None)?;
            self.check_refusals()?;
            let is_unanswered = awaits_answers && self.outcome.answered < self.outcome.sent;
            if !self.is_pending() && !is_unanswered {
                return Ok(());
            }
            if known < self.outcome.answered {
                (deadline, known) = (Instant::now() + ANSWER_TIMEOUT, self.outcome.answered);
            }
            if deadline < Instant::now() {
                return Err(io::Error::other("the server neither answers nor takes more events"));
            }
            self.wait(SLEEP_MAX, PublishConnection::is_busy)?;
        }
    }

    /// Fails if the server has refused all events so far, as nothing would arrive.
    fn check_refusals(&self) -> io::Result<()> {
        let Published { answered, refused, .. } = self.outcome;
        match self.first_refusal() {
            Some(refusal) if REFUSALS_MAX <= refused && refused == answered => {
                Err(io::Error::other(format!("the server refuses all events: {refusal}")))
            }
            _ => Ok(()),
        }
    }

    fn first_refusal(&self) -> Option<&String> {
        self.connections.iter().find_map(|connection| connection.replies.first_refusal.as_ref())
    }

    /// Sends the events of `schedule`, which begins at `start`.
    pub(super) fn run(
        mut self,
        schedule: &Schedule,
        start: Moment,
        run: u16,
        clock: &Clock,
        progress: &Progress,
    ) -> Published {
        // On a kernel without these the publisher is later, which is recorded.
        let _ = os::request_short_slice(SLICE);
        let _ = process::wake_punctually();
        let outcome = self.follow(schedule, start, run, clock, progress);
        self.outcome.failure = outcome.err().map(|error| error.to_string());
        self.outcome.first_refusal = self.first_refusal().cloned();
        self.outcome
    }

    fn follow(
        &mut self,
        schedule: &Schedule,
        start: Moment,
        run: u16,
        clock: &Clock,
        progress: &Progress,
    ) -> io::Result<()> {
        let topics = self.envelopes.len() as u32;
        let waiting_end = start + schedule.due.last().copied().unwrap_or_default() + WAITING_TIMEOUT;
        let mut due = schedule.due.iter().map(|&due| start + due).zip(0u32..).peekable();
        loop {
            let now = clock.now();
            while let Some((intended, sequence)) = due.next_if(|&(intended, _)| intended <= now) {
                self.offer(Stamp { run, sequence, intended }, sequence % topics, Some(clock))?;
            }
            self.service(Some(clock))?;
            let next = due.peek();
            if (next.is_some() || self.is_pending()) && progress.is_cut() {
                let sequence = next.map_or_else(|| schedule.event_count(), |&(_, sequence)| sequence);
                return self.end_early(sequence, clock, progress);
            }
            let spare = next.map_or(SLEEP_MAX, |&(intended, _)| intended.since(clock.now()).min(SLEEP_MAX));
            match next {
                None if !self.is_pending() => return self.await_answers(clock),
                None if waiting_end < now => return Err(self.give_up()),
                _ if self.is_pending() => self.wait(spare, PublishConnection::is_pending)?,
                _ => thread::sleep(spare),
            }
        }
    }

    /// Gives an event that is due to the next connection. With several topics, each has one connection, which keeps its
    /// order.
    fn offer(&mut self, stamp: Stamp, topic: u32, clock: Option<&Clock>) -> io::Result<()> {
        let index = if self.envelopes.len() == 1 { self.next } else { topic as usize % self.connections.len() };
        self.next = (self.next + 1) % self.connections.len();
        let connection = &mut self.connections[index];
        if self.is_in_turn {
            connection.take_answers(&mut self.outcome)?;
            if 0 < connection.unanswered || connection.is_pending() {
                connection.queue(stamp, topic);
                return Ok(());
            }
        }
        self.append(index, &stamp, topic, clock);
        Ok(())
    }

    /// Reads from and writes to the connections that were used or have bytes left to send; without a schedule's clock, also
    /// those with unanswered events.
    fn service(&mut self, clock: Option<&Clock>) -> io::Result<()> {
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if connection.is_used || connection.is_pending() || (clock.is_none() && connection.is_busy()) {
                self.service_one(index, clock)?;
            }
        }
        Ok(())
    }

    fn service_one(&mut self, index: usize, clock: Option<&Clock>) -> io::Result<()> {
        loop {
            let connection = &mut self.connections[index];
            connection.is_used = false;
            connection.flush()?;
            connection.take_answers(&mut self.outcome)?;
            let Some((stamp, topic)) = connection.next_waiting() else { return Ok(()) };
            self.append(index, &stamp, topic, clock);
        }
    }

    /// Appends an event to a connection's output, and records its lateness if there is a clock.
    fn append(&mut self, index: usize, stamp: &Stamp, topic: u32, clock: Option<&Clock>) {
        self.payload.clear();
        stamp.write(self.size_bytes, &mut self.payload);
        let connection = &mut self.connections[index];
        self.envelopes[topic as usize].write(&self.payload, &mut connection.outgoing);
        connection.unanswered += 1;
        connection.is_used = true;
        self.outcome.sent += 1;
        if let Some(clock) = clock {
            self.outcome.lateness.saturating_record(nanoseconds(clock.now().since(stamp.intended)));
        }
    }

    /// Whether events are left that could not be sent yet.
    fn is_pending(&self) -> bool {
        self.connections.iter().any(PublishConnection::is_pending)
    }

    /// Waits until one of the connections that meet the condition is ready, for a limited time. [`Publisher::service`] must
    /// follow, as polling is level-triggered.
    fn wait(&self, timeout: Duration, is_so: fn(&PublishConnection) -> bool) -> io::Result<()> {
        let mut entries: Vec<_> =
            self.connections.iter().filter(|connection| is_so(connection)).map(PublishConnection::poll_entry).collect();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut entries, Some(&timeout)) {
            Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Sends the rest of the output; events that wait for the answers to others are dropped, as if they had never been due.
    fn end_early(&mut self, sequence: u32, clock: &Clock, progress: &Progress) -> io::Result<()> {
        let waiting = self.connections.iter().filter_map(PublishConnection::first_waiting);
        progress.set_event_end(waiting.chain([sequence]).min().unwrap_or(sequence));
        self.connections.iter_mut().for_each(PublishConnection::drop_waiting);
        let deadline = clock.now() + ANSWER_TIMEOUT;
        while self.is_pending() && clock.now() < deadline {
            self.wait(RETRY_INTERVAL, PublishConnection::is_pending)?;
            self.service(Some(clock))?;
        }
        self.await_answers(clock)
    }

    fn give_up(&self) -> io::Error {
        let count: usize = self.connections.iter().map(PublishConnection::waiting_count).sum();
        let waited_s = WAITING_TIMEOUT.as_secs();
        io::Error::other(format!(
            "{waited_s} s after the last event was due, {count} still waited for answers to others: the server is slower \
             than --rate, one event at a time; try more --publish-connections"
        ))
    }

    /// Waits until the server has answered all events, or for [`ANSWER_TIMEOUT`].
    pub(super) fn await_answers(&mut self, clock: &Clock) -> io::Result<()> {
        let deadline = clock.now() + ANSWER_TIMEOUT;
        while self.outcome.answered < self.outcome.sent && clock.now() < deadline {
            thread::sleep(RETRY_INTERVAL);
            (0..self.connections.len()).try_for_each(|index| self.service_one(index, Some(clock)))?;
        }
        Ok(())
    }
}

impl Envelope {
    fn new(index: &PublishTarget, topic: &Topic) -> Result<Self, String> {
        Ok(match index {
            PublishTarget::Redis(_) => Self::Redis { channel: topic.to_string() },
            PublishTarget::Nats(broker) => Self::Nats {
                subject: nats::Subject::parse(topic.as_str()).map_err(|bad| format!("the topic {topic}: {bad}"))?,
                headers: broker.headers.clone(),
            },
            PublishTarget::Http(post) => Self::Http(post.form(topic)?),
        })
    }

    fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Redis { channel } => resp::write_command(out, &[b"PUBLISH", channel.as_bytes(), payload]),
            Self::Nats { subject, headers } if headers.is_empty() => nats::write_publish(subject, None, payload, out),
            Self::Nats { subject, headers } => {
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                nats::write_publish_with_headers(subject, None, &headers, payload, out);
            }
            Self::Http(form) => form.write(payload, out),
        }
    }
}
