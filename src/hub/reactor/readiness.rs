//! What the poll has reported, and the connections that stopped early: in which order they go on in a turn.

use std::{collections::VecDeque, time::Duration};

use super::{
    Reactor,
    net::{Net, Ready, Token},
    state::{DIRTY, OVER_QUOTA, READ_AGAIN},
};
use crate::{clock::Moment, index::Slot};

/// For how long, in each turn, connections are read that the poll has just reported. The rest goes on in the next.
const FRESH_TIME: Duration = Duration::from_millis(1);
/// For how long, in each turn, connections go on that stopped early.
const AGAIN_TIME: Duration = Duration::from_micros(500);

/// The connections that have something to do in this turn or the next.
#[derive(Debug, Default)]
pub(super) struct TurnLists {
    /// What the poll has reported.
    ready: Vec<Ready>,
    /// Connections that stopped early, in the order in which they go on.
    read_again: VecDeque<Token>,
    /// Connections to be flushed before the reactor sleeps.
    dirty: Vec<Slot>,
}

impl TurnLists {
    /// A turn begins. The list takes what the poll reports.
    pub(super) fn begin(&mut self) -> &mut Vec<Ready> {
        self.ready.clear();
        &mut self.ready
    }

    /// Whether connections go on in the next turn.
    pub(super) fn has_more(&self) -> bool {
        !self.read_again.is_empty()
    }

    /// The listeners at which a peer waits.
    pub(super) fn ready_listeners(&self) -> impl Iterator<Item = usize> {
        self.ready.iter().filter_map(|event| match event {
            Ready::Listener(listener) => Some(*listener),
            Ready::Notifier | Ready::Connection { .. } => None,
        })
    }

    /// Whether all are flushed.
    pub(super) fn is_flushed(&self) -> bool {
        self.dirty.is_empty()
    }
}

impl<N: Net> Reactor<N> {
    /// Connections become ready for more: first those that the poll reports, so that a client that asks little is served at once,
    /// then those that stopped early, in turn and for [`AGAIN_TIME`] together. A client that has more than a turn's worth, or is over
    /// its quota, thus has a part of each turn and never the whole of it, however many connections it has.
    pub(super) fn take_readiness(&mut self) {
        for slot in self.outcomes.take_write_again() {
            self.flush(slot);
        }
        // A connection that stops early from here on has had its part of this turn.
        let waiting = self.turn.read_again.len();
        let ready = std::mem::take(&mut self.turn.ready);
        let deadline = self.net.now() + FRESH_TIME;
        for event in &ready {
            if let Ready::Connection { token, readable, writable, ending } = *event
                && self.connections.named(token).is_some()
            {
                if writable {
                    self.unblock(token.slot);
                }
                if readable || ending {
                    self.read_fresh(token, ending, deadline);
                }
            }
        }
        self.turn.ready = ready;
        let deadline = self.net.now() + AGAIN_TIME;
        for _ in 0..waiting {
            let Some(token) = self.turn.read_again.pop_front() else { return };
            if let Some(connection) = self.connections.named(token) {
                connection.state.clear(READ_AGAIN);
                self.continue_reading(token.slot);
            }
            if deadline <= self.net.now() {
                return;
            }
        }
    }

    /// The poll has reported something to read.
    fn read_fresh(&mut self, token: Token, ending: bool, deadline: Moment) {
        let Some(connection) = self.connections.named(token) else { return };
        let state = connection.state;
        if state.has(READ_AGAIN) {
            // It is on its way, and the end, if it waits, is found there.
        } else if state.has(OVER_QUOTA) || deadline <= self.net.now() {
            self.read_later(token.slot);
        } else {
            self.read(token.slot, ending);
        }
    }

    /// The connection goes on in its turn: no edge reports what it has left.
    pub(super) fn read_later(&mut self, slot: Slot) {
        let token = self.connections.token(slot);
        if let Some(connection) = self.connections.at(slot)
            && !connection.state.has(READ_AGAIN)
        {
            connection.state.set(READ_AGAIN);
            self.turn.read_again.push_back(token);
        }
    }

    /// The peer has made room.
    fn unblock(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.at(slot)
            && self.outcomes.unblock(&mut connection.state)
        {
            self.flush(slot);
        }
    }

    pub(super) fn flush_dirty(&mut self) {
        while let Some(slot) = self.turn.dirty.pop() {
            if let Some(connection) = self.connections.at(slot) {
                connection.state.clear(DIRTY);
                self.flush(slot);
            }
        }
    }

    /// Puts the connection on the list of those to be flushed before the reactor sleeps.
    pub(super) fn mark_dirty(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.at(slot)
            && !connection.state.has(DIRTY)
        {
            connection.state.set(DIRTY);
            self.turn.dirty.push(slot);
        }
    }
}
