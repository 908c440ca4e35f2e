//! The reader's thread: one turn after another.
//!
//! A turn: poll → read the clock once → the socket → interest → commands and timers ([`ReaderLink`]).

use std::{io, sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use mio::{Poll, Token};

use super::{
    fault::Fault,
    link::{LinkKind, ReaderLink},
    waker::ReaderWaker,
};
use crate::{
    bus::{Bus, Interest},
    clock::{Clock, Moment},
    source::{
        SourceStatus,
        redis::{Directory, RedisConfig, ServerView},
    },
};

const LINK: Token = Token(1);

/// The reader thread's state.
pub(super) struct PubSubReader {
    clock: Clock,
    poll: Poll,
    waker: Arc<ReaderWaker>,
    interest: Receiver<Interest>,
    link: ReaderLink,
}

impl PubSubReader {
    /// A reader that dials in its first turn.
    pub(super) fn new(
        config: RedisConfig,
        directory: Directory,
        poll: Poll,
        waker: Arc<ReaderWaker>,
        interest: Receiver<Interest>,
        bus: Arc<Bus>,
        clock: Clock,
        status: Arc<SourceStatus>,
        view: Arc<ServerView>,
    ) -> Self {
        let link = ReaderLink::new(config, directory, LinkKind::Single, LINK, bus, status, view, clock.now());
        Self { clock, poll, waker, interest, link }
    }

    /// Runs until the waker is stopped.
    pub(super) fn run(&mut self) {
        let mut events = mio::Events::with_capacity(8);
        while !self.waker.is_stopped() {
            if let Err(error) = self.poll.poll(&mut events, Some(self.poll_timeout()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Only our own contradiction could cause it; the status shows that nothing is read any more.
                let now = self.clock.now();
                return self.link.fail(&Fault::Broken(format!("poll: {error}")), now);
            }
            let edge = events.iter().any(|event| event.token() == LINK);
            self.turn(edge, self.clock.now());
        }
    }

    /// How long the poll may wait for the socket or the waker.
    fn poll_timeout(&self) -> Duration {
        self.link.deadline().map_or(Duration::ZERO, |deadline| deadline.since(self.clock.now()))
    }

    fn turn(&mut self, edge: bool, now: Moment) {
        self.link.drive(self.poll.registry(), edge, now);
        // Before the queue is read: what is put in afterwards wakes the reader again.
        let changed = self.waker.take() || self.link.is_interest_due(now);
        if changed {
            self.link.take_interest(self.interest.try_iter(), now);
        }
        self.link.converse(now);
        if changed {
            self.link.report_to_bus(now);
        }
    }
}
