//! What is due: requests that do not come, streams that have been silent, what has grown old.

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};

use super::{
    Config, Reactor,
    connection::Connection,
    net::Net,
    state::{BLOCKED, HELD, Life},
    wheel::Wheel,
};
use crate::{clock::Moment, close::Close, index::Slot, metrics::Transport, protocol::Session};

/// Connections looked at per turn because their time has come; a thousand heartbeats at once are a fan-out too.
const TIMERS_PER_TURN: usize = 256;
/// How often a stream is looked at whose peer does not read.
const GLANCE_INTERVAL: Duration = Duration::from_secs(1);
/// How often logs are looked over for what has grown too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The same while the memory budget is tight.
const TIGHT_SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// What is due when: a deadline for each connection, and the sweeps over the topics.
#[derive(Debug)]
pub(super) struct Timers {
    wheel: Wheel,
    /// Kept to spare the allocation.
    due: Vec<Slot>,
    /// When the last sweep began.
    swept: Moment,
    /// Where the sweep that is under way goes on.
    sweep_from: Option<usize>,
}

impl Timers {
    pub(super) fn new(now: Moment) -> Self {
        Self { wheel: Wheel::new(now), due: Vec::new(), swept: now, sweep_from: None }
    }

    /// Sets the deadline of the connection, instead of the one it has.
    pub(super) fn arm(&mut self, slot: Slot, deadline: Moment) {
        self.wheel.arm(slot, deadline);
    }

    /// Takes the deadline of the connection away.
    pub(super) fn disarm(&mut self, slot: Slot) {
        self.wheel.disarm(slot);
    }

    /// How long until something is due.
    pub(super) fn next_wait(&self, now: Moment) -> Option<Duration> {
        if self.sweep_from.is_some() { Some(Duration::ZERO) } else { self.wheel.next_wait(now) }
    }

    /// The connections whose time has come, [`TIMERS_PER_TURN`] at most. The list is to be given back.
    fn take_due(&mut self, now: Moment) -> Vec<Slot> {
        let mut due = std::mem::take(&mut self.due);
        due.clear();
        self.wheel.expire(now, TIMERS_PER_TURN, &mut due);
        due
    }

    /// Where the sweep goes on, if one is under way or due.
    fn next_sweep(&mut self, interval: Duration, now: Moment) -> Option<usize> {
        if self.sweep_from.is_none() && interval <= now.since(self.swept) {
            self.swept = now;
            self.sweep_from = Some(0);
        }
        self.sweep_from
    }
}

impl<N: Net> Reactor<N> {
    pub(super) fn run_timers(&mut self) {
        let due = self.timers.take_due(self.now);
        due.iter().for_each(|slot| self.on_due(*slot));
        self.timers.due = due;
        let interval = if self.hub.bus.budget().is_tight() { TIGHT_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if let Some(from) = self.timers.next_sweep(interval, self.now) {
            let (notable, next) = self.topics.sweep(from, self.hub.bus.budget(), self.now, self.config.live_timeout);
            self.timers.sweep_from = next;
            notable.into_iter().for_each(|topic_index| self.on_overdue(topic_index));
        }
    }

    /// The connection's time has come, for whatever it was waiting.
    fn on_due(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        match connection.state.life() {
            Life::Open => {}
            Life::Closing | Life::Lingering => return self.on_closing_due(slot),
            Life::ToFree => return,
        }
        match &connection.session {
            Ok(session)
                if !session.is_stream()
                    && self.shutdown.is_under_way()
                    && !connection.admin
                    && (session.is_idle() || self.shutdown.drain_ends() <= self.now) =>
            {
                self.end_for_restart(slot);
            }
            Ok(session) if !session.is_stream() => match request_deadline(connection, &self.config) {
                Some(deadline) if deadline <= self.now => {
                    let close = session.expire();
                    self.end(slot, close);
                }
                _ => self.rearm(slot),
            },
            // Streams have no other timer once the hub drains.
            Ok(_) if self.shutdown.is_under_way() => self.end_for_restart(slot),
            Ok(session) => {
                let keeps_time = session.keeps_time();
                match self.denial(slot) {
                    Some(close) => self.end(slot, close),
                    None if keeps_time => self.rearm(slot),
                    None => self.on_silence(slot),
                }
            }
            Err(_) => self.schedule_free(slot),
        }
    }

    /// A stream may have been silent for long enough: to the peer and to whatever lies between, a heartbeat shows that
    /// it is alive; a peer that does not read is looked at.
    fn on_silence(&mut self, slot: Slot) {
        if self.has_vanished(slot) {
            return self.end(slot, Close::PeerGone);
        }
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.state.has(BLOCKED) {
            if let Some(lagged) = self.is_given_up(slot) {
                return self.on_lagged(lagged);
            }
        } else if !connection.state.has(HELD) {
            self.keep_alive(slot);
        }
        self.rearm(slot);
    }

    /// Sends a heartbeat, if it is time for one.
    fn keep_alive(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.session.as_ref().is_ok_and(|session| session.heartbeat_due().is_some()) {
            return self.send_heartbeat_event(slot);
        }
        let interval = silence_max(&self.config, connection.transport);
        // The jitter makes a heartbeat due up to an eighth of the interval early.
        let quiet_time = interval - interval / 8;
        if quiet_time <= self.now.since(connection.written) {
            let now = self.now;
            if let Some((session, outbox)) = connection.speaks() {
                session.write_heartbeat(now, outbox);
            }
            connection.written = now;
            self.mark_dirty(slot);
        }
    }

    /// The same for a stream whose heartbeats are events.
    fn send_heartbeat_event(&mut self, slot: Slot) {
        let (resume_id, timestamp, now) = (self.stream_resume_id(slot), self.hub.timestamp(self.now), self.now);
        if let Some((session, outbox)) = self.connections.at(slot).and_then(Connection::speaks)
            && session.write_heartbeat_event(resume_id, &timestamp, now, outbox)
        {
            self.mark_dirty(slot);
        }
    }

    /// Whether the peer of a stream is gone without a word: its machine answers the kernel no more, or the peer no ping.
    fn has_vanished(&mut self, slot: Slot) -> bool {
        let Some(connection) = self.connections.at(slot) else { return false };
        let is_blocked = connection.state.has(BLOCKED);
        let (pong_timeout, now) = (self.config.pong_timeout, self.now);
        let is_late = |session: &mut Session| session.is_pong_late(is_blocked, pong_timeout, now);
        let pong_is_late = connection.session.as_mut().is_ok_and(is_late);
        pong_is_late || self.config.unsent_timeout <= self.net.unanswered_time(&connection.stream)
    }

    /// Sets the deadline that goes with what the connection does now.
    pub(super) fn rearm(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.is_open() {
            return;
        }
        let deadline = match &connection.session {
            Ok(session) if !session.is_stream() => {
                let ends = self.shutdown.is_under_way() && !connection.admin;
                let latest = ends.then_some(self.shutdown.drain_ends());
                let deadline = request_deadline(connection, &self.config);
                deadline.map(|deadline| latest.map_or(deadline, |latest| latest.min(deadline)))
            }
            // Its own deadlines are finer than the wheel's.
            Ok(session) if session.keeps_time() => connection.identity.as_ref().and_then(|identity| identity.expires),
            Ok(session) => {
                let silence_max = silence_max(&self.config, connection.transport);
                let heartbeat = session.heartbeat_due();
                let heartbeat =
                    heartbeat.unwrap_or_else(|| connection.written + jittered(silence_max, &mut self.random));
                let soonest = if connection.state.has(BLOCKED | HELD) { self.now + GLANCE_INTERVAL } else { self.now };
                let pong = session.pong_deadline(self.config.pong_timeout);
                let deadline = pong.map_or(heartbeat, |pong| pong.min(heartbeat)).max(soonest);
                let expires = connection.identity.as_ref().and_then(|identity| identity.expires);
                Some(expires.map_or(deadline, |expires| expires.min(deadline)))
            }
            Err(_) => None,
        };
        match deadline {
            Some(deadline) => self.timers.arm(slot, deadline),
            None => self.timers.disarm(slot),
        }
    }
}

/// When a connection for requests is to end, unless something happens before. One whose peer is reading an answer is not idle:
/// the time for the next request begins when the peer has taken the last of it, or takes no more.
fn request_deadline<S>(connection: &Connection<S>, config: &Config) -> Option<Moment> {
    let session = connection.session.as_ref().ok()?;
    let deadline = session.deadline(&config.limits)?;
    let is_reading = !connection.outbox.is_empty() && session.expire() == Close::Done;
    Some(if is_reading { deadline.max(connection.written + config.limits.http.idle_timeout) } else { deadline })
}

/// The longest silence on a stream of this kind.
fn silence_max(config: &Config, transport: Transport) -> Duration {
    if transport.is_one_way() { config.heartbeat_interval } else { config.ping_interval }
}

/// `span` shortened by up to an eighth, so that what began together does not stay together.
pub(super) fn jittered(span: Duration, random: &mut SmallRng) -> Duration {
    span - span.mul_f64(random.random_range(0.0..0.125))
}
