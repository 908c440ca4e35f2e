//! The hub shuts down: when each connection ends, how long the reactor waits for it, and when the reactor is at its end.

use std::time::Duration;

use rand::RngExt;

use super::{Reactor, net::Net, state::Life};
use crate::{clock::Moment, close::Close, endpoint::ShutdownPhase, index::Slot};

/// Connections per turn that a phase is announced to: each is read once more, a system call.
const DRAINED_PER_TURN: usize = 256;
/// How long connections may take for their last bytes in the phase in which all of them end at once.
const END_TIME: Duration = Duration::from_millis(50);
/// How long the process waits at its end for the request of a peer that has just connected to a listener for administration, and
/// for that peer to take the answer.
const LEAVE_TIME: Duration = Duration::from_millis(100);

/// How far the shutdown has come.
#[derive(Debug)]
pub(super) struct Shutdown {
    phase: ShutdownPhase,
    /// Connections to which the phase is yet to be announced.
    to_drain: Vec<Slot>,
    /// When the last stream is to have ended, once the hub drains.
    drain_ends: Moment,
    /// When the connections that are still there in the last phases are cut off.
    cut_off_at: Option<Moment>,
    /// Whether some were, in this phase.
    has_cut_off: bool,
}

impl Shutdown {
    /// It has not begun.
    pub(super) fn new(now: Moment) -> Self {
        Self {
            phase: ShutdownPhase::Serving,
            to_drain: Vec::new(),
            drain_ends: now,
            cut_off_at: None,
            has_cut_off: false,
        }
    }

    pub(super) fn phase(&self) -> ShutdownPhase {
        self.phase
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.phase != ShutdownPhase::Serving
    }

    /// When the last stream is to have ended.
    pub(super) fn drain_ends(&self) -> Moment {
        self.drain_ends
    }

    /// A connection has come after the phase began: the phase is announced to it with the others.
    pub(super) fn include(&mut self, slot: Option<Slot>) {
        self.to_drain.extend(slot);
    }

    /// How long until it goes on.
    pub(super) fn next_wait(&self, now: Moment) -> Option<Duration> {
        if self.to_drain.is_empty() { self.cut_off_at.map(|at| at.since(now)) } else { Some(Duration::ZERO) }
    }
}

impl<N: Net> Reactor<N> {
    /// The hub shuts down: the public's listeners accept the connections that wait already, and close. Each connection ends in its time
    /// while the hub drains, and at once while it ends. The listeners for administration go on until all reactors end.
    pub(super) fn enter_phase(&mut self, phase: ShutdownPhase) {
        if self.shutdown.phase == ShutdownPhase::Serving {
            self.begin_last_accepts(0..self.public_listeners());
        }
        (self.shutdown.phase, self.shutdown.drain_ends) = (phase, self.now + self.config.drain_window);
        self.shutdown.cut_off_at = (phase == ShutdownPhase::Leaving).then(|| self.now + LEAVE_TIME);
        self.shutdown.has_cut_off = false;
        self.shutdown.to_drain = self.connections.used();
    }

    /// Announces the phase to some of the connections that were open when it began.
    pub(super) fn drain_some(&mut self) {
        for _ in 0..DRAINED_PER_TURN {
            let Some(slot) = self.shutdown.to_drain.pop() else { break };
            let is_admin = self.connections.at(slot).is_some_and(|connection| connection.admin);
            match self.shutdown.phase {
                ShutdownPhase::Serving => {}
                ShutdownPhase::Draining | ShutdownPhase::Ending if is_admin => {}
                ShutdownPhase::Draining => self.drain(slot),
                ShutdownPhase::Ending => self.end_for_restart(slot),
                ShutdownPhase::Leaving => self.take_leave(slot),
            }
        }
        if self.shutdown.phase == ShutdownPhase::Ending
            && self.shutdown.to_drain.is_empty()
            && self.shutdown.cut_off_at.is_none()
        {
            self.shutdown.cut_off_at = Some(self.now + END_TIME.min(self.config.linger));
        }
    }

    /// The process is about to end: requests for administration are answered, and idle connections are not waited for.
    fn take_leave(&mut self, slot: Slot) {
        // A request may have arrived by now.
        self.read(slot, true);
        let Some(connection) = self.connections.at(slot) else { return };
        match &connection.session {
            // A peer that has just connected is about to ask.
            Ok(session) if session.is_fresh() => {}
            Ok(session) if session.is_idle() => self.end(slot, Close::Done),
            Ok(_) => {}
            Err(_) if connection.state.life() == Life::Lingering => self.schedule_free(slot),
            Err(_) => {}
        }
    }

    /// In the last phases, once their time is over: frees the connections that are still there, whatever their peers have taken
    /// of the last bytes.
    pub(super) fn cut_off(&mut self) {
        if self.shutdown.cut_off_at.is_none_or(|at| self.now < at) {
            return;
        }
        let (phase, is_last, now) =
            (self.shutdown.phase, std::mem::replace(&mut self.shutdown.has_cut_off, true), self.now);
        for slot in self.connections.used() {
            let Some(connection) = self.connections.at(slot) else { continue };
            let stays = match phase {
                ShutdownPhase::Ending => connection.admin,
                // A connection that has come since is about to ask, or to be answered.
                _ => !is_last && now < connection.written + LEAVE_TIME,
            };
            if !stays {
                self.end_for_restart(slot);
                self.flush(slot);
                self.schedule_free(slot);
            }
        }
        self.flush_dirty();
        self.end_broken();
        self.free_closed();
        self.shutdown.cut_off_at = match phase {
            // Those that other reactors still pass on have as much time.
            ShutdownPhase::Ending => Some(now + END_TIME),
            _ => (!is_last).then(|| now + LEAVE_TIME),
        };
    }

    /// Whether this reactor is at its end. One with listeners for administration is when all are: until then it answers every request,
    /// and its listeners close at once when it ends, so that no connection is accepted that is never read.
    pub(super) fn has_finished(&mut self) -> bool {
        if self.shutdown.phase == ShutdownPhase::Serving {
            return false;
        }
        let is_cut_off = self.shutdown.phase == ShutdownPhase::Leaving && self.shutdown.cut_off_at.is_none();
        let works = self.shutdown.phase < ShutdownPhase::Ending && !self.works.is_empty();
        let is_settled = !self.acceptor.is_closing() && self.placement.is_empty(self.index) && !works;
        self.placement.set_drained(self.index, is_settled && self.connections.len() == self.admins);
        let has_admin = self.public_listeners() < self.net.listener_count();
        let is_empty = is_settled && self.connections.len() == 0;
        let has_left = is_empty && (!has_admin || self.shutdown.phase == ShutdownPhase::Leaving && !self.accept_late());
        let have_all_left = self.placement.set_left(self.index, has_left);
        let ends = is_cut_off || has_left && (!has_admin || have_all_left);
        if ends {
            self.net.stop_listening(self.net.listener_count());
        }
        ends
    }

    /// Idle connections end at once, requests that have begun are answered, and streams end one by one over the window,
    /// so that their clients do not all come back in the same moment.
    fn drain(&mut self, slot: Slot) {
        // A request may have arrived with the signal.
        self.read(slot, true);
        let Some(connection) = self.connections.at(slot) else { return };
        match &connection.session {
            // A peer that has just connected is about to ask.
            Ok(session) if session.is_fresh() => {
                let timeout = self.config.linger.min(self.config.drain_window);
                self.timers.arm(slot, self.now + timeout);
            }
            Ok(session) if session.is_idle() => self.end(slot, Close::Done),
            Ok(session) if !session.is_stream() => self.rearm(slot),
            Ok(_) => {
                let share = self.random.random_range(0.0..1.0);
                self.timers.arm(slot, self.now + self.config.drain_window.mul_f64(share));
            }
            Err(_) => {}
        }
    }

    /// A connection's time has come while the hub shuts down.
    pub(super) fn end_for_restart(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        match &connection.session {
            // To a peer that has asked for nothing there is nothing to say.
            Ok(session) if session.is_idle() => self.end(slot, Close::Done),
            Ok(_) => self.end(slot, Close::Restart),
            Err(_) => {}
        }
    }
}
