//! The publisher: sends each event when its schedule says, whether or not the server keeps up, and writes down how late
//! it was itself.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    options::Publish,
    payload::Stamp,
    post::Form,
    process,
    progress::Progress,
    replies::{Answer, Replies},
    schedule::Schedule,
    tally::{latency_histogram, nanoseconds},
    topics::Topics,
};
use crate::{
    clock::{Clock, Moment},
    os,
    protocol::{http, resp},
};

/// How long the publisher waits at most before it looks again at a connection that was full, and for answers at the end.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Answers that are not here this long after the last event are not awaited any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it sleeps at a time, to notice that it shall stop.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// The scheduler slice asked for: the publisher shares its core with the subscribers' thread, and must not wait for it.
const SLICE: Duration = Duration::from_micros(100);

/// One topic's publisher, on a connection of its own.
#[derive(Debug)]
pub(super) struct Publisher {
    socket: TcpStream,
    envelope: Envelope,
    outgoing: Vec<u8>,
    payload: Vec<u8>,
    size_bytes: usize,
    replies: Replies,
    outcome: Published,
}

/// How a payload is wrapped.
#[derive(Debug)]
enum Envelope {
    Redis { channel: String },
    Http(Form),
}

/// What the publisher did.
#[derive(Debug)]
pub(super) struct Published {
    /// Actual less intended send time, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Events sent, probes included.
    pub sent: u64,
    /// Events the server answered, whatever it said.
    pub answered: u64,
    /// Events the server refused.
    pub refused: u64,
    /// Why the connection ended early, if it did.
    pub failure: Option<String>,
}

impl Publisher {
    /// Connects to where `publish` says.
    pub(super) fn connect(publish: &Publish, topic: &Topics, size_bytes: usize) -> io::Result<Self> {
        let (target, envelope, replies) = match publish {
            Publish::Redis(target) => {
                (target, Envelope::Redis { channel: topic.of(0).to_string() }, Replies::Redis { held: Vec::new() })
            }
            Publish::Http(post) => (
                &post.target,
                Envelope::Http(post.form(topic.of(0)).map_err(io::Error::other)?),
                Replies::Http(Box::new(http::ResponseReader::new())),
            ),
        };
        let socket = TcpStream::connect(target.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let outcome = Published { lateness: latency_histogram(), sent: 0, answered: 0, refused: 0, failure: None };
        Ok(Self { socket, envelope, outgoing: Vec::new(), payload: Vec::new(), size_bytes, replies, outcome })
    }

    /// Sends one event outside the schedule.
    pub(super) fn send(&mut self, stamp: &Stamp) -> io::Result<()> {
        self.append(stamp);
        self.outcome.sent += 1;
        while self.flush()? {
            thread::sleep(RETRY_INTERVAL);
        }
        self.take_answers()
    }

    /// Sends the events of `schedule`, which begins at `start`, and tells what became of it.
    pub(super) fn run(
        mut self,
        schedule: &Schedule,
        start: Moment,
        run: u16,
        clock: &Clock,
        progress: &Progress,
    ) -> Published {
        // A kernel that knows neither only makes the publisher later, which is then written down.
        let _ = os::request_short_slice(SLICE);
        let _ = process::wake_punctually();
        let outcome = self.follow(schedule, start, run, clock, progress);
        self.outcome.failure = outcome.err().map(|error| error.to_string());
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
        let mut due = schedule.due.iter().map(|&due| start + due).zip(0u32..).peekable();
        loop {
            let now = clock.now();
            while let Some((intended, sequence)) = due.next_if(|&(intended, _)| intended <= now) {
                self.append(&Stamp { run, sequence, intended });
                self.outcome.sent += 1;
                self.outcome.lateness.saturating_record(nanoseconds(now.since(intended)));
            }
            let is_blocked = self.flush()?;
            self.take_answers()?;
            match due.peek() {
                Some(&(_, sequence)) if progress.is_cut() => {
                    progress.set_event_end(sequence);
                    return self.end_early(clock);
                }
                None if !is_blocked => return self.await_answers(clock),
                Some(&(intended, _)) if !is_blocked => thread::sleep(intended.since(clock.now()).min(SLEEP_MAX)),
                _ => thread::sleep(RETRY_INTERVAL),
            }
        }
    }

    /// Sends what was begun.
    fn end_early(&mut self, clock: &Clock) -> io::Result<()> {
        let deadline = clock.now() + ANSWER_TIMEOUT;
        while self.flush()? && clock.now() < deadline {
            self.take_answers()?;
            thread::sleep(RETRY_INTERVAL);
        }
        self.await_answers(clock)
    }

    fn append(&mut self, stamp: &Stamp) {
        self.payload.clear();
        stamp.write(self.size_bytes, &mut self.payload);
        match &mut self.envelope {
            Envelope::Redis { channel } => {
                resp::write_command(&mut self.outgoing, &[b"PUBLISH", channel.as_bytes(), &self.payload]);
            }
            Envelope::Http(form) => form.write(&self.payload, &mut self.outgoing),
        }
    }

    /// Writes what the socket takes; true if something is left.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn take_answers(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the server closed the publisher's connection")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let outcome = &mut self.outcome;
            let answers = self.replies.receive(&buffer[..count], &mut |told| {
                outcome.answered += 1;
                outcome.refused += u64::from(told == Answer::Refused);
            });
            answers.map_err(io::Error::other)?;
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Waits until the server has answered all that was sent, or is not going to.
    pub(super) fn await_answers(&mut self, clock: &Clock) -> io::Result<()> {
        let deadline = clock.now() + ANSWER_TIMEOUT;
        while self.outcome.answered < self.outcome.sent && clock.now() < deadline {
            thread::sleep(RETRY_INTERVAL);
            self.take_answers()?;
        }
        Ok(())
    }
}
