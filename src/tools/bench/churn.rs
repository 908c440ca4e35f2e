//! Short-lived subscribers. Only the time from connecting to the granted request is measured.

use std::{collections::VecDeque, io, time::Duration};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::{
    histogram::{latency_histogram, nanoseconds},
    plan::{Load, Plan},
    progress::Progress,
    run::RunContext,
    subscriber::{SharedIo, Subscriber},
    wire::ClientProfile,
    wire_event::WireEvent,
};
use crate::{client::Credential, clock::Moment};

/// The size of the read buffer; its content is discarded.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// The longest wait in the poll.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The short-lived subscribers, on a thread and a poll of their own, so that they do not delay the measured ones.
#[derive(Debug)]
pub(super) struct Churn<'a> {
    poll: Poll,
    plan: &'a Plan,
    /// The profiles of each load and topic; visitors take the loads, and then the topics, in turn.
    profiles: Vec<Vec<ClientProfile>>,
    /// The credential in the current profiles.
    credential: Option<Credential>,
    /// In the order in which they connected and will disconnect.
    visitors: VecDeque<Subscriber>,
    /// The number of visitors that have left: the token of the first one here.
    gone_count: usize,
    io: SharedIo,
    progress: &'a Progress,
    visits: Visits,
    next_arrival: Moment,
}

/// Measurements of the short-lived subscribers.
#[derive(Debug)]
pub(super) struct Visits {
    /// Connections begun.
    pub began: u64,
    /// From the start of connecting to the granted request.
    pub opening: Histogram<u64>,
    /// Connections that failed, were refused, or were ended by the server.
    pub failed: u64,
    pub first_failure: Option<String>,
}

impl<'a> Churn<'a> {
    /// `progress` tells when to stop.
    pub(super) fn new(plan: &'a Plan, context: &RunContext, progress: &'a Progress) -> io::Result<Self> {
        let credential = credential(plan);
        Ok(Self {
            poll: Poll::new()?,
            plan,
            profiles: profiles(plan),
            credential,
            visitors: VecDeque::new(),
            gone_count: 0,
            io: SharedIo {
                clock: context.clock,
                stamps: None,
                buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
                reply: Vec::new(),
            },
            progress,
            visits: Visits { began: 0, opening: latency_histogram(), failed: 0, first_failure: None },
            next_arrival: context.clock.now(),
        })
    }

    /// Connects and disconnects until `progress` is stopped.
    pub(super) fn run(mut self) -> io::Result<Visits> {
        let mut events = Events::with_capacity(256);
        let interval = Duration::from_secs_f64(1.0 / self.plan.churn.rate);
        while !self.progress.is_stopped() {
            let now = self.io.clock.now();
            while self.next_arrival <= now {
                self.connect();
                self.next_arrival = self.next_arrival + interval;
            }
            while self.visitors.front().is_some_and(|visitor| self.plan.churn.stay <= now.since(visitor.seen.began)) {
                self.disconnect_first();
            }
            match self.poll.poll(&mut events, Some(self.next_arrival.since(now).min(LOOK_INTERVAL))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.handle_event(event);
            }
        }
        Ok(self.visits)
    }

    fn connect(&mut self) {
        let credential = credential(self.plan);
        if credential != self.credential {
            // The token was rotated.
            (self.profiles, self.credential) = (profiles(self.plan), credential);
        }
        let token = Token(self.gone_count + self.visitors.len());
        let wire = profile_of(&self.profiles, token.0).wire();
        let opened = Subscriber::connect(&self.plan.target, 0, &self.io, wire);
        let registered = opened.and_then(|mut visitor| {
            self.poll.registry().register(
                visitor.stream.socket_mut(),
                token,
                Interest::READABLE | Interest::WRITABLE,
            )?;
            Ok(visitor)
        });
        self.visits.began += 1;
        match registered {
            Ok(visitor) => self.visitors.push_back(visitor),
            Err(error) => self.visits.fail(&error),
        }
    }

    fn disconnect_first(&mut self) {
        // Dropping the socket closes it.
        self.visitors.pop_front();
        self.gone_count += 1;
    }

    /// Handles an event of a visitor's socket. A visitor whose connection failed stays in the queue until its time is over.
    fn handle_event(&mut self, event: &mio::event::Event) {
        let Some(index) = event.token().0.checked_sub(self.gone_count) else { return };
        let Some(visitor) = self.visitors.get_mut(index) else { return };
        let visits = &mut self.visits;
        let mut outcome = Ok(());
        if event.is_writable() {
            outcome = visitor.ask(&profile_of(&self.profiles, event.token().0).request);
        }
        if outcome.is_ok() && event.is_readable() {
            outcome = visitor.read(&mut self.io, event.is_read_closed(), &mut |seen, received, event| {
                if matches!(event, WireEvent::Opened) {
                    visits.opening.saturating_record(nanoseconds(received.read.since(seen.began)));
                }
            });
        }
        if let Err(error) = outcome {
            visits.fail(&error);
        }
    }
}

fn profiles(plan: &Plan) -> Vec<Vec<ClientProfile>> {
    plan.churn.loads.iter().map(|load| ClientProfile::of_load(plan, load)).collect()
}

/// The credential that all visitors use now.
fn credential(plan: &Plan) -> Option<Credential> {
    plan.churn.loads.first().and_then(Load::credential)
}

/// The profile of the visitor with this token.
fn profile_of(profiles: &[Vec<ClientProfile>], number: usize) -> &ClientProfile {
    let topics = &profiles[number % profiles.len()];
    &topics[number / profiles.len() % topics.len()]
}

impl Visits {
    fn fail(&mut self, error: &io::Error) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| error.to_string());
    }
}
