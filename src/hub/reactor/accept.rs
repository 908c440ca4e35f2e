//! Accepting: with a budget, to the emptiest reactor, and so that the listener never dies.

use std::{collections::VecDeque, io, ops::Range, time::Duration};

use super::{
    Reactor,
    connection::{Connection, Via},
    net::{Net, Token},
    placement::{Accepted, Arrival, Share},
    state::Life,
};
use crate::{
    clock::Moment,
    close::Close,
    endpoint::{Overload, ShutdownPhase},
    index::Slot,
    metrics::Transport,
    outbox::Outbox,
    protocol::write_unread_refusal,
};

/// Connections accepted per listener and turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Connections accepted per listener before it is closed, over all turns: as many as its queue may hold.
const LAST_ACCEPTS: usize = 4096;
/// When to try again after descriptors ran out. The edge that reported waiting connections is spent, and no other follows.
const EXHAUSTED_RETRY: Duration = Duration::from_millis(100);
/// Connections beyond the limit of one address that are still answered with a refusal; those beyond are closed without a word.
const REFUSALS_PER_ADDRESS: usize = 16;

/// Where accepting goes on.
#[derive(Debug, Default)]
pub(super) struct Acceptor {
    /// Listeners that may have more.
    again: Vec<usize>,
    /// When to try all of them again: one had no descriptors left.
    retry: Option<Moment>,
    /// Set while the hub shuts down and the listeners are not closed yet.
    last: Option<LastAccepts>,
    /// Connections beyond the limit, in the order in which they came. Some may be gone already.
    refused: VecDeque<Token>,
}

impl Acceptor {
    /// How long until it goes on.
    pub(super) fn next_wait(&self, now: Moment) -> Option<Duration> {
        if !self.again.is_empty() || self.last.is_some() {
            return Some(Duration::ZERO);
        }
        self.retry.map(|retry| retry.since(now))
    }

    /// Whether listeners are accepted from for the last time.
    pub(super) fn is_closing(&self) -> bool {
        self.last.is_some()
    }
}

/// The listeners are about to be closed: where accepting for the last time goes on.
#[derive(Debug)]
struct LastAccepts {
    listener: usize,
    /// Those from here on go on.
    until: usize,
    /// How many more the listener may have waiting.
    left: usize,
}

impl<N: Net> Reactor<N> {
    /// Accepts from the listeners that the poll named and from those that have stopped early.
    pub(super) fn accept_waiting(&mut self) {
        if self.acceptor.last.is_some() {
            return self.accept_last();
        }
        let mut listeners = std::mem::take(&mut self.acceptor.again);
        if self.acceptor.retry.is_some_and(|retry| retry <= self.now) {
            self.acceptor.retry = None;
            listeners.extend(0..self.net.listener_count());
        }
        for listener in self.turn.ready_listeners() {
            if !listeners.contains(&listener) {
                listeners.push(listener);
            }
        }
        listeners.into_iter().for_each(|listener| self.accept_from(listener));
    }

    /// The hub shuts down: the connections that wait in a listener's queue are accepted, a turn's worth in each turn, and then these
    /// listeners are closed. A connection that still waited would be reset with its listener, and a request on it lost.
    pub(super) fn begin_last_accepts(&mut self, listeners: Range<usize>) {
        self.acceptor.again.clear();
        self.acceptor.retry = None;
        let Range { start: listener, end: until } = listeners;
        self.acceptor.last = Some(LastAccepts { listener, until, left: LAST_ACCEPTS });
    }

    /// How many listeners are for the public; the others are for administration.
    pub(super) fn public_listeners(&self) -> usize {
        self.config.admin_listeners_from.min(self.net.listener_count())
    }

    fn accept_last(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(LastAccepts { listener, until, left }) = self.acceptor.last else { return };
            if until <= listener {
                self.acceptor.last = None;
                // An edge may have reported a connection at a listener that goes on.
                self.acceptor.again.extend(until..self.net.listener_count());
                self.net.stop_listening(until);
                return self.accept_waiting();
            }
            let goes_on = 0 < left && self.accept_one_last(listener);
            self.acceptor.last = Some(if goes_on {
                LastAccepts { listener, until, left: left - 1 }
            } else {
                LastAccepts { listener: listener + 1, until, left: LAST_ACCEPTS }
            });
        }
    }

    /// Returns whether there may be more.
    fn accept_one_last(&mut self, listener: usize) -> bool {
        match self.net.accept(listener) {
            Ok((stream, peer)) => {
                let admin = self.config.admin_listeners_from <= listener;
                // Not handed on: another reactor may have ended.
                self.placement.keep(self.index, Share::of_listener(admin));
                // The phase was announced to the connections that there were then; this one joins them.
                let slot = self.take_in(Accepted { stream, peer, admin });
                self.shutdown.include(slot);
                self.free_closed();
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if is_of_one_connection(&error) => true,
            Err(error) => {
                let goes_on = self.find_descriptor(listener, &error);
                self.acceptor.retry = None;
                goes_on
            }
        }
    }

    /// Accepts once more from the listeners for administration. Returns whether anybody had come.
    pub(super) fn accept_late(&mut self) -> bool {
        let before = self.connections.len();
        (self.public_listeners()..self.net.listener_count()).for_each(|listener| self.accept_from(listener));
        before < self.connections.len()
    }

    fn accept_from(&mut self, listener: usize) {
        let admin = self.config.admin_listeners_from <= listener;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.net.accept(listener) {
                Ok((stream, peer)) => {
                    let most = self.share_max(Share::of_listener(admin));
                    if self.shutdown.is_under_way() {
                        // Not handed on: another reactor may have ended.
                        self.placement.keep(self.index, Share::of_listener(admin));
                        self.take_in(Accepted { stream, peer, admin });
                    } else if let Some(accepted) =
                        self.placement.assign(Accepted { stream, peer, admin }, self.index, most)
                    {
                        self.admit(accepted);
                        // Who had to make room for it holds a descriptor until then.
                        self.free_closed();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer left while it waited (accept(2) names more such errors; all concern one connection).
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if !self.find_descriptor(listener, &error) => return,
                Err(_) => {}
            }
        }
        self.acceptor.again.push(listener);
    }

    /// No descriptor, or no memory, for one more: takes one from a connection that is refused anyway, or turns away the
    /// peer that waits first, so that no peer waits for an answer that does not come. Returns whether to go on.
    fn find_descriptor(&mut self, listener: usize, error: &io::Error) -> bool {
        if let Some(count) = self.placement.on_no_room(self.now) {
            tracing::warn!(%error, count, "connections are turned away: the process has no descriptor left for them");
        }
        if self.evict_refused(false) {
            self.free_closed();
            return true;
        }
        let mut refusal = Outbox::new();
        write_unread_refusal(Overload::Connections.close(), self.net.date(), &mut refusal);
        match self.net.shed(listener, refusal.pending()) {
            Ok(()) => {
                self.metrics.on_shed(1);
                true
            }
            // No peer waits: an edge reports the next one.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.acceptor.retry = Some(self.now + EXHAUSTED_RETRY);
                false
            }
        }
    }

    /// Takes in a connection that another reactor has handed on.
    pub(super) fn take_arrival(&mut self, arrival: Arrival<N::Stream>) {
        match arrival {
            Arrival::Fresh(accepted) => self.admit(accepted),
            Arrival::Passed(passed) => self.take_passed(*passed),
        }
    }

    /// Takes a connection in, unless the hub is about to end and the connection is not for administration.
    pub(super) fn admit(&mut self, accepted: Accepted<N::Stream>) {
        if ShutdownPhase::Ending <= self.shutdown.phase() && !accepted.admin {
            return self.placement.on_gone(self.index, Share::of_listener(accepted.admin));
        }
        self.take_in(accepted);
    }

    /// Takes a connection in, and returns its slot; `None` if its address has too many, even of refused ones.
    fn take_in(&mut self, accepted: Accepted<N::Stream>) -> Option<Slot> {
        let Accepted { stream, peer, admin } = accepted;
        let mut share = Share::of_listener(admin);
        let is_surplus = self.share_max(share) < self.placement.of_share(share);
        if is_surplus {
            self.placement.change_share(share, Share::Refused);
            share = Share::Refused;
            self.make_room_for_refusal();
        }
        // Counted in any case, for it is uncounted in any case.
        let surplus = self.count_peer(peer);
        let overload = self.overload(is_surplus, 0 < surplus);
        let flooded = REFUSALS_PER_ADDRESS < surplus;
        if flooded {
            self.metrics.on_shed(1);
        }
        if flooded {
            self.uncount_peer(peer);
            self.placement.on_gone(self.index, share);
            return None;
        }
        let now = self.now;
        let trusted = self.config.trusted.contains(peer);
        let session = self.first_session(trusted, admin, now);
        let via = if trusted { Via::Proxy } else { Via::Direct };
        let connection = Connection { via, overload, ..Connection::new(stream, peer, admin, session, now) };
        let token = self.connections.insert(|_| connection);
        self.admins += usize::from(admin);
        if is_surplus {
            self.acceptor.refused.push_back(token);
        }
        self.metrics.on_open(Transport::default());
        self.note_opened(token.slot);
        let connection = self.connections.at(token.slot)?;
        match self.net.register(&mut connection.stream, token) {
            Ok(()) => self.rearm(token.slot),
            Err(error) => {
                tracing::warn!(%error, "cannot watch a connection");
                self.end(token.slot, Close::Internal("the connection cannot be watched"));
            }
        }
        Some(token.slot)
    }

    /// The limit that a new connection is beyond: that of its share, that of its address, or that of the memory.
    fn overload(&self, is_surplus: bool, is_crowded: bool) -> Option<Overload> {
        if is_surplus {
            Some(Overload::Connections)
        } else if is_crowded {
            Some(Overload::Address)
        } else {
            self.hub.bus.budget().is_spent().then_some(Overload::Memory)
        }
    }

    /// The connections that a share may have over all reactors.
    fn share_max(&self, share: Share) -> usize {
        match share {
            Share::Served => self.config.connections_max,
            Share::Admin => self.config.admin_connections_max,
            Share::Refused => self.config.refusals_max,
        }
    }

    /// One more is refused: this reactor's part of the descriptors for that is a queue, which the first to come leaves first.
    /// So a newcomer, which may be a probe that asks for `/health`, is always heard.
    fn make_room_for_refusal(&mut self) {
        if let Some(count) = self.placement.on_no_room(self.now) {
            let limit = self.config.connections_max;
            tracing::warn!(count, limit, "connections are refused: the hub has all it may serve");
        }
        let most = (self.share_max(Share::Refused) / self.placement.reactors()).max(1);
        let connections = &mut self.connections;
        self.acceptor.refused.retain(|token| connections.named(*token).is_some());
        while most <= self.acceptor.refused.len() && self.evict_refused(true) {}
    }

    /// Closes one of the refused connections, the oldest of the first kind there is: one that has all of its refusal, one that
    /// has asked for nothing yet (it is refused now), or, if that is allowed, one that is still reading. False if there is none.
    fn evict_refused(&mut self, may_cut_off: bool) -> bool {
        let connections = &mut self.connections;
        let mut kind = |token: Token| match connections.named(token) {
            Some(connection) if Life::Lingering <= connection.state.life() => 0,
            Some(connection) if !connection.state.is_open() => 2,
            Some(_) => 1,
            None => 0,
        };
        let Some((kind, index)) =
            self.acceptor.refused.iter().enumerate().map(|(index, token)| (kind(*token), index)).min()
        else {
            return false;
        };
        if kind == 2 && !may_cut_off {
            return false;
        }
        let Some(token) = self.acceptor.refused.remove(index) else { return false };
        if self.connections.named(token).is_none() {
            return true;
        }
        if kind == 1 {
            self.metrics.on_shed(1);
            self.end(token.slot, Overload::Connections.close());
            self.flush(token.slot);
        }
        self.schedule_free(token.slot);
        true
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkDown | NetworkUnreachable)
}
