//! How connections end: the last words, the wait for the peer to take them, and the memory back.

use std::time::Duration;

use rand::RngExt;

use super::{
    Reactor,
    connection::{Admission, Connection, Via},
    net::Net,
    state::{BLOCKED, DETACHED, HELD, Life, PEER_ENDED, UNCOUNTED},
};
use crate::{
    close::Close,
    endpoint::{self, Phase},
    index::Slot,
    label::RouteLabel,
    protocol::{Ending, Session, close_reason, http::Response},
};

/// How far a connection has come whose time for its last bytes ran out before.
#[derive(Debug)]
pub(super) struct Linger {
    /// What it had not taken when it was looked at last.
    owed_bytes: usize,
    extensions: u32,
}

/// Connections told per turn that the hub shuts down: each is read once more, a system call.
const DRAINED_PER_TURN: usize = 256;
/// How long connections may take for their last bytes once all of them have been told that they end at once.
const END_TIME: Duration = Duration::from_millis(50);
/// How long the process waits at its end for the request of whoever has just connected to a listener for administration, and for
/// that one to take the answer.
const LEAVE_TIME: Duration = Duration::from_millis(100);
/// How often a peer may get more time for its last bytes: ten times what is configured, with the first.
const EXTENSIONS_MAX: u32 = 9;

impl<N: Net> Reactor<N> {
    /// Ends a connection for the reason `close`. Its subscriptions end now; what it is owed, and what tells it why, is
    /// still written.
    pub(super) fn end(&mut self, slot: Slot, close: Close) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.is_open() {
            if close == Close::PeerGone {
                // Nobody is left to take the last bytes.
                self.schedule_free(slot);
            }
            return;
        }
        let retry_ms = self.retry_ms();
        self.end_saying(slot, close, &close_reason(close, retry_ms));
    }

    /// The same for a connection that has not ended, with `reason` for a close frame.
    pub(super) fn end_saying(&mut self, slot: Slot, close: Close, reason: &str) {
        self.write_close(slot, close, reason);
        if let Some(connection) = self.connections.at(slot) {
            connection.session = Err(close);
        }
        self.leave(slot, close);
    }

    /// Ends a stream that was opened only to be refused.
    pub(super) fn end_refused(&mut self, slot: Slot, close: Close) {
        if let Some((session, outbox)) = self.connections.at(slot).and_then(Connection::speaks) {
            session.write_refusal(close, outbox);
        }
        self.end(slot, close);
    }

    /// Ends a connection whose session has ended itself.
    pub(super) fn close(&mut self, slot: Slot, close: Close) {
        let retry_ms = self.retry_ms();
        self.end_saying(slot, close, &close_reason(close, retry_ms));
    }

    /// The last bytes, as what the connection speaks has them.
    fn write_close(&mut self, slot: Slot, close: Close, reason: &str) {
        let retry_ms = self.retry_ms();
        let refusal = self.refuse_request(slot, close);
        let Some(connection) = self.connections.at(slot) else { return };
        let (transport, has_socket) = (connection.transport, !connection.state.has(DETACHED));
        let is_request = connection.session.as_ref().map_or(!transport.is_stream(), |session| !session.is_stream());
        let ending = Ending { close, reason, retry_ms, refusal, date: self.net.date(), has_socket };
        ending.write(&mut connection.session, transport, &mut connection.outbox);
        if let Some(status) = close.http_status().filter(|_| is_request && close != Close::PeerGone) {
            // The request was not read to its end, so nobody knows what it was for.
            self.count_request(slot, RouteLabel::Other, status, 0);
        }
    }

    /// The answer to a request of which no more is read, in the form of the API that it is for.
    fn refuse_request(&mut self, slot: Slot, close: Close) -> Option<Response> {
        let connection = self.connections.at(slot)?;
        let requests = connection.session.as_ref().ok().and_then(Session::requests)?;
        let Some(path) = requests.refused_path().map(str::to_owned) else { return Response::refusal(close) };
        let admission = Admission { overload: None, ..connection.admission() };
        let context = self.context((&self.hub, &self.endpoints.value), slot, admission, None);
        endpoint::refuse_request(&path, close, &context)
    }

    fn leave(&mut self, slot: Slot, close: Close) {
        self.note_ended(slot, close);
        self.unlisten_all(slot);
        self.holds.remove(&slot);
        self.senders.remove(&slot);
        self.leave_engine(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        tracing::debug!(
            peer = connection.peer.map(tracing::field::display),
            reason = close.label(),
            "a connection ends"
        );
        self.metrics.on_close(connection.transport, close);
        connection.state.clear(HELD);
        connection.state.enter(Life::Closing);
        self.wheel.arm(slot, self.now + self.config.linger);
        if close == Close::PeerGone {
            self.schedule_free(slot);
        } else {
            self.mark_dirty(slot);
        }
    }

    /// Once all is written: ends our direction, and waits for the peer to end its own, so that what is under way to it is
    /// not destroyed by a reset (RFC 9112 section 9.6).
    pub(super) fn finish_closing(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let owes = connection.unfinished.is_some() || !connection.outbox.is_empty();
        if owes || connection.state.life() != Life::Closing {
            return;
        }
        if connection.via != Via::Nobody && connection.transport.is_one_way() {
            self.net.reset_on_drop(&connection.stream, false);
        }
        self.net.end(&mut connection.stream);
        connection.state.enter(Life::Lingering);
        // Once the process ends the kernel delivers what was written.
        if connection.state.has(PEER_ENDED | DETACHED) || self.phase == Phase::Leaving {
            self.schedule_free(slot);
        }
    }

    /// The time for the last bytes is over. A peer that has taken some of them since gets as much time again.
    pub(super) fn on_closing_due(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let owed_bytes = connection.owed_bytes() + self.net.unacknowledged_bytes(&connection.stream);
        let farewell = self.farewells.entry(slot).or_insert(Linger { owed_bytes: usize::MAX, extensions: 0 });
        let goes_on = 0 < owed_bytes
            && owed_bytes < farewell.owed_bytes
            && farewell.extensions < EXTENSIONS_MAX
            && self.phase < Phase::Ending;
        *farewell = Linger { owed_bytes, extensions: farewell.extensions + 1 };
        if goes_on { self.wheel.arm(slot, self.now + self.config.linger) } else { self.schedule_free(slot) }
    }

    /// The connection is to be freed at the end of the turn.
    pub(super) fn schedule_free(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.at(slot)
            && connection.state.enter(Life::ToFree)
        {
            self.to_free.push(slot);
        }
    }

    /// Ends what was found broken or fallen while something else was under way.
    pub(super) fn end_broken(&mut self) {
        while !self.to_end.is_empty() || !self.stranded.is_empty() {
            while let Some(stranded) = self.stranded.pop() {
                self.on_stranded(stranded);
            }
            while let Some((slot, close)) = self.to_end.pop() {
                self.end(slot, close);
            }
            // Which may find more that are broken.
            self.flush_dirty();
        }
    }

    /// Frees what was closed. Nothing refers to these slots any more: subscriptions ended with the session.
    pub(super) fn free_closed(&mut self) {
        while let Some(slot) = self.to_free.pop() {
            self.forget_session(slot);
            self.wheel.disarm(slot);
            self.farewells.remove(&slot);
            // Its client may have signed in by a command behind the one that ended it.
            self.holds.remove(&slot);
            self.senders.remove(&slot);
            self.log_ended(slot);
            if let Some(connection) = self.connections.remove(slot) {
                self.admins -= usize::from(connection.admin);
                self.hub.bus.budget().adjust(connection.charged_bytes as usize, 0);
                if connection.state.has(BLOCKED) {
                    self.blocked -= 1;
                }
                if let Ok(session) = &connection.session {
                    debug_assert!(false, "freed without an end: {session:?}");
                }
                debug_assert!(connection.subscriptions.is_empty(), "freed with subscriptions");
                if !connection.state.has(UNCOUNTED) {
                    self.uncount_peer(connection.peer);
                    self.placement.on_gone(self.index, connection.share());
                }
            }
        }
    }

    /// The hub shuts down: the public's listeners take in who waits already, and close. Everybody's end comes in its time while the
    /// hub drains, and at once while it ends. The listeners for administration go on until all reactors end.
    pub(super) fn enter_phase(&mut self, phase: Phase) {
        if self.phase == Phase::Serving {
            self.begin_last_accepts(0..self.public_listeners());
        }
        (self.phase, self.drain_ends) = (phase, self.now + self.config.drain_window);
        self.cut_off_at = (phase == Phase::Leaving).then(|| self.now + LEAVE_TIME);
        self.has_cut_off = false;
        self.to_drain = self.connections.used();
    }

    /// Tells some of the connections that were open when the phase began.
    pub(super) fn drain_some(&mut self) {
        for _ in 0..DRAINED_PER_TURN {
            let Some(slot) = self.to_drain.pop() else { break };
            let is_admin = self.connections.at(slot).is_some_and(|connection| connection.admin);
            match self.phase {
                Phase::Serving => {}
                Phase::Draining | Phase::Ending if is_admin => {}
                Phase::Draining => self.drain(slot),
                Phase::Ending => self.end_for_restart(slot),
                Phase::Leaving => self.take_leave(slot),
            }
        }
        if self.phase == Phase::Ending && self.to_drain.is_empty() && self.cut_off_at.is_none() {
            self.cut_off_at = Some(self.now + END_TIME.min(self.config.linger));
        }
    }

    /// The process is about to end: administration that asks is answered, and who only stays connected is not waited for.
    fn take_leave(&mut self, slot: Slot) {
        // A request may have arrived by now.
        self.read(slot, true);
        let Some(connection) = self.connections.at(slot) else { return };
        match &connection.session {
            // Whoever has just connected is about to ask.
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
        if self.cut_off_at.is_none_or(|at| self.now < at) {
            return;
        }
        let (phase, is_last, now) = (self.phase, std::mem::replace(&mut self.has_cut_off, true), self.now);
        for slot in self.connections.used() {
            let Some(connection) = self.connections.at(slot) else { continue };
            let stays = match phase {
                Phase::Ending => connection.admin,
                // Who has come since is about to ask, or to be answered.
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
        self.cut_off_at = match phase {
            // Those that other reactors still pass on have as much time.
            Phase::Ending => Some(now + END_TIME),
            _ => (!is_last).then(|| now + LEAVE_TIME),
        };
    }

    /// Whether this reactor is at its end. One with listeners for administration is when all are: until then it answers whoever
    /// comes, and its listeners close at once when it ends, so that nobody is let in to whom nobody speaks.
    pub(super) fn has_finished(&mut self) -> bool {
        if self.phase == Phase::Serving {
            return false;
        }
        let is_cut_off = self.phase == Phase::Leaving && self.cut_off_at.is_none();
        let works = self.phase < Phase::Ending && !self.works.is_empty();
        let is_settled = self.last_accepts.is_none() && self.placement.is_empty(self.index) && !works;
        self.placement.set_drained(self.index, is_settled && self.connections.len() == self.admins);
        let has_admin = self.public_listeners() < self.net.listener_count();
        let is_empty = is_settled && self.connections.len() == 0;
        let has_left = is_empty && (!has_admin || self.phase == Phase::Leaving && !self.accept_late());
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
            // Whoever has just connected is about to ask.
            Ok(session) if session.is_fresh() => {
                let patience = self.config.linger.min(self.config.drain_window);
                self.wheel.arm(slot, self.now + patience);
            }
            Ok(session) if session.is_idle() => self.end(slot, Close::Done),
            Ok(session) if !session.is_stream() => self.rearm(slot),
            Ok(_) => {
                let share = self.random.random_range(0.0..1.0);
                self.wheel.arm(slot, self.now + self.config.drain_window.mul_f64(share));
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
