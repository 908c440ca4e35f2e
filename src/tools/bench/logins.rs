//! Password sign-ins beside the measured load: every second one with the right password.

use std::{collections::VecDeque, io, time::Duration};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::{
    histogram::{latency_histogram, nanoseconds},
    plan::{Plan, SignIn},
    progress::Progress,
    run::RunContext,
    subscriber::{SharedIo, Subscriber, stranger_index},
    wire::Wire,
    wire_event::WireEvent,
};
use crate::{
    clock::Moment,
    protocol::http::{Method, write_request},
};

/// Path of the sign-in request.
const PATH: &str = "/api/v1/auth/login";

/// The size of the read buffer.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// The longest wait in the poll.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Timeout of an attempt.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts to sign in, on a thread and a poll of their own. Each has a source address of its own, and each wrong one a name
/// of its own, so that limits per address or name do not spare the server the work.
#[derive(Debug)]
pub(super) struct Logins<'a> {
    poll: Poll,
    plan: &'a Plan,
    sign_in: &'a SignIn,
    /// In the order of their start; `None` for one that is over.
    attempts: VecDeque<Option<Attempt>>,
    /// The number of attempts that were removed from `attempts`: the first one's number.
    gone_count: usize,
    io: SharedIo,
    progress: &'a Progress,
    outcome: Attempts,
    next_arrival: Moment,
}

#[derive(Debug)]
struct Attempt {
    person: Subscriber,
    request: Vec<u8>,
}

/// Results of the attempts.
#[derive(Debug)]
pub(super) struct Attempts {
    pub began: u64,
    /// Signed in (200).
    pub accepted: u64,
    /// A wrong name or password (401).
    pub refused: u64,
    /// Refused by a limit (429, 503).
    pub turned_away: u64,
    /// Any other outcome.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// From connecting to the response, of attempts whose password was checked (200 and 401).
    pub answering: Histogram<u64>,
}

impl<'a> Logins<'a> {
    /// `progress` tells when to stop.
    pub(super) fn new(
        plan: &'a Plan,
        sign_in: &'a SignIn,
        context: &RunContext,
        progress: &'a Progress,
    ) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            plan,
            sign_in,
            attempts: VecDeque::new(),
            gone_count: 0,
            io: SharedIo {
                clock: context.clock,
                stamps: None,
                buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
                reply: Vec::new(),
            },
            progress,
            outcome: Attempts::new(),
            next_arrival: context.clock.now(),
        })
    }

    /// Signs in until `progress` is stopped.
    pub(super) fn run(mut self) -> io::Result<Attempts> {
        let mut events = Events::with_capacity(256);
        let interval = Duration::from_secs_f64(1.0 / self.sign_in.rate);
        while !self.progress.is_stopped() {
            let now = self.io.clock.now();
            while self.next_arrival <= now {
                self.begin_attempt();
                self.next_arrival = self.next_arrival + interval;
            }
            self.clear(now);
            match self.poll.poll(&mut events, Some(self.next_arrival.since(now).min(LOOK_INTERVAL))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.handle_event(event);
            }
        }
        Ok(self.outcome)
    }

    fn begin_attempt(&mut self) {
        let number = self.gone_count + self.attempts.len();
        let target = &self.plan.target;
        let opened = Subscriber::connect(target, stranger_index(number), &self.io, Wire::one_answer());
        let registered = opened.and_then(|mut person| {
            self.poll.registry().register(
                person.stream.socket_mut(),
                Token(number),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            Ok(Attempt { person, request: self.request(number) })
        });
        self.outcome.began += 1;
        self.attempts.push_back(registered.map_err(|error| self.outcome.fail(&error.to_string())).ok());
    }

    fn request(&self, number: usize) -> Vec<u8> {
        let SignIn { username, password, .. } = self.sign_in;
        let username = if number.is_multiple_of(2) { username } else { &format!("{username}-{number}") };
        let body = serde_json::json!({ "username": username, "password": password }).to_string();
        let headers = [("Content-Type", "application/json")];
        let mut request = Vec::new();
        write_request(Method::Post, &self.plan.target.host, PATH, &headers, body.as_bytes(), &mut request);
        request
    }

    /// Removes attempts that timed out or are over.
    fn clear(&mut self, now: Moment) {
        while let Some(first) = self.attempts.front() {
            match first {
                Some(attempt) if now.since(attempt.person.seen.began) < ANSWER_TIMEOUT => return,
                Some(_) => self.outcome.fail("not answered in time"),
                None => {}
            }
            self.attempts.pop_front();
            self.gone_count += 1;
        }
    }

    fn handle_event(&mut self, event: &mio::event::Event) {
        let Some(index) = event.token().0.checked_sub(self.gone_count) else { return };
        let Some(Some(Attempt { person, request })) = self.attempts.get_mut(index) else { return };
        let mut answer = None;
        let mut outcome = if event.is_writable() { person.ask(request) } else { Ok(()) };
        if outcome.is_ok() && event.is_readable() {
            outcome = person.read(&mut self.io, event.is_read_closed(), &mut |seen, received, event| {
                if let WireEvent::Response(status) = event {
                    answer = Some((status, received.read.since(seen.began)));
                }
            });
        }
        // A response counts even if the connection ends right behind it.
        match (answer, outcome) {
            (Some((status, span)), _) => self.outcome.count(status, span),
            (None, Err(error)) => self.outcome.fail(&error.to_string()),
            (None, Ok(())) => return,
        }
        // Dropping the socket closes it.
        self.attempts[index] = None;
    }
}

impl Attempts {
    fn new() -> Self {
        Self {
            began: 0,
            accepted: 0,
            refused: 0,
            turned_away: 0,
            failed: 0,
            first_failure: None,
            answering: latency_histogram(),
        }
    }

    fn count(&mut self, status: u16, span: Duration) {
        match status {
            200 => self.accepted += 1,
            401 => self.refused += 1,
            429 | 503 => self.turned_away += 1,
            _ => self.fail(&format!("the server answered {status}")),
        }
        if matches!(status, 200 | 401) {
            self.answering.saturating_record(nanoseconds(span));
        }
    }

    fn fail(&mut self, reason: &str) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| reason.to_owned());
    }
}
