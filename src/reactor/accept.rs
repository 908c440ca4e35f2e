//! Accepting: with a budget, to the emptiest reactor, and so that the listener never dies.

use std::{io, time::Duration};

use super::{
    Reactor,
    connection::Connection,
    net::{Net, Ready},
    placement::{Accepted, Arrival},
};
use crate::{
    close::Close,
    endpoint::{Overload, Phase},
    metrics::Transport,
};

/// Connections accepted per listener and turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Connections accepted per listener before it is closed: as many as its queue may hold.
const LAST_ACCEPTS: usize = 4096;
/// When to try again after descriptors ran out. The edge that told of waiting connections is spent, so nothing else
/// would.
const EXHAUSTED_RETRY: Duration = Duration::from_millis(100);
/// Connections beyond the limit that are still answered with a refusal; those beyond are closed without a word.
const REFUSALS_AT_ONCE: usize = 256;
/// The same for one address, so that it cannot use up the room of all.
const REFUSALS_PER_ADDRESS: usize = 16;

impl<N: Net> Reactor<N> {
    /// Accepts from the listeners that the poll named and from those that have stopped early.
    pub(super) fn accept_waiting(&mut self) {
        let mut listeners = std::mem::take(&mut self.accept_again);
        if self.accept_retry.is_some_and(|retry| retry <= self.now) {
            self.accept_retry = None;
            listeners.extend(0..self.net.listener_count());
        }
        for event in &self.ready {
            if let Ready::Listener(listener) = *event
                && !listeners.contains(&listener)
            {
                listeners.push(listener);
            }
        }
        listeners.into_iter().for_each(|listener| self.accept_from(listener));
    }

    /// Accepts whoever waits, for the last time.
    pub(super) fn accept_all(&mut self) {
        self.accept_again.clear();
        self.accept_retry = None;
        for listener in 0..self.net.listener_count() {
            for _ in 0..LAST_ACCEPTS {
                let Ok((stream, peer)) = self.net.accept(listener) else { break };
                let admin = self.config.admin_listeners_from <= listener;
                // Not handed on: another reactor may have ended.
                self.placement.keep(self.index);
                self.admit(Accepted { stream, peer, admin });
            }
        }
    }

    fn accept_from(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.net.accept(listener) {
                Ok((stream, peer)) => {
                    let admin = self.config.admin_listeners_from <= listener;
                    if let Some(accepted) = self.placement.place(Accepted { stream, peer, admin }, self.index) {
                        self.admit(accepted);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer left while it waited (accept(2) names more such errors; all concern one connection).
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return self.on_exhausted(listener, &error),
            }
        }
        self.accept_again.push(listener);
    }

    /// No descriptor, or no memory, for one more: turn one away, so that peers are not left waiting, and try again soon.
    fn on_exhausted(&mut self, listener: usize, error: &io::Error) {
        self.net.shed(listener);
        self.metrics.on_shed();
        if self.accept_retry.is_none() {
            tracing::warn!(%error, "cannot accept: connections are turned away until descriptors are free");
        }
        self.accept_retry = Some(self.now + EXHAUSTED_RETRY);
    }

    /// Takes in a connection that another reactor has handed on.
    pub(super) fn take_arrival(&mut self, arrival: Arrival<N::Stream>) {
        match arrival {
            Arrival::Fresh(accepted) => self.admit(accepted),
            Arrival::Passed(passed) => self.take_passed(*passed),
        }
    }

    /// Takes a connection in.
    pub(super) fn admit(&mut self, accepted: Accepted<N::Stream>) {
        let Accepted { stream, peer, admin } = accepted;
        let open = self.placement.total();
        // Counted in any case, for it is uncounted in any case.
        let surplus = self.count_peer(peer);
        let overload = self.overload(0 < surplus, open);
        let flooded = REFUSALS_PER_ADDRESS < surplus || self.config.connections_max + REFUSALS_AT_ONCE < open;
        if flooded {
            self.metrics.on_shed();
        }
        if flooded || self.phase == Phase::Ending {
            self.uncount_peer(peer);
            self.placement.on_gone(self.index);
            return;
        }
        let now = self.now;
        let trusted = self.config.trusted.contains(peer);
        let session = self.first_session(trusted, admin, now);
        let connection = Connection { trusted, overload, ..Connection::new(stream, peer, admin, session, now) };
        let token = self.connections.insert(|_| connection);
        self.metrics.on_open(Transport::Http);
        let Some(connection) = self.connections.at(token.slot) else { return };
        match self.net.register(&mut connection.stream, token) {
            Ok(()) => self.rearm(token.slot),
            Err(error) => {
                tracing::warn!(%error, "cannot watch a connection");
                self.end(token.slot, Close::Internal("the connection cannot be watched"));
            }
        }
    }

    /// The limit that a connection is beyond which has just come as the one that makes it `open`.
    fn overload(&self, crowded: bool, open: usize) -> Option<Overload> {
        if self.config.connections_max < open {
            Some(Overload::Connections)
        } else if crowded {
            Some(Overload::Address)
        } else {
            self.hub.bus.budget().is_spent().then_some(Overload::Memory)
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkDown | NetworkUnreachable)
}
