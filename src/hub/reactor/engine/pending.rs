//! Engine.IO sessions whose client has entered no namespace: any stranger can make them, so they have a share of
//! their own, in all and for each address, and take no connection's place. Where a share is full, the oldest makes room.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    close::Close,
    index::Slot,
    reactor::{
        Reactor,
        net::{Net, Token},
        placement::Share,
        state::{DETACHED, UNCOUNTED},
    },
};

/// The pending sessions of a reactor, by the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next: u64,
    by_age: BTreeMap<u64, (Token, Option<IpAddr>)>,
    by_address: BTreeSet<(Option<IpAddr>, u64)>,
}

impl Pending {
    /// Takes in a session: its number.
    fn insert(&mut self, token: Token, peer: Option<IpAddr>) -> u64 {
        self.next += 1;
        self.by_age.insert(self.next, (token, peer));
        self.by_address.insert((peer, self.next));
        self.next
    }

    fn remove(&mut self, number: u64) {
        if let Some((_, peer)) = self.by_age.remove(&number) {
            self.by_address.remove(&(peer, number));
        }
    }

    /// The oldest of all if there are `most` or more; else the oldest of `peer` if that has `most_of_peer` or more. Zero is no
    /// limit for a peer. Costs as much as the peer may have.
    fn surplus(&self, peer: Option<IpAddr>, most: usize, most_of_peer: usize) -> Option<Token> {
        if most <= self.by_age.len() {
            return self.by_age.values().next().map(|(token, _)| *token);
        }
        let of_peer = self.by_address.range((peer, 0)..=(peer, u64::MAX));
        let limited = 0 < most_of_peer && most_of_peer <= of_peer.clone().take(most_of_peer).count();
        let (_, number) = of_peer.clone().next().filter(|_| limited)?;
        self.by_age.get(number).map(|(token, _)| *token)
    }
}

impl<N: Net> Reactor<N> {
    /// Makes room for one more pending session of `peer`: sends the oldest away if a share is full. Shares are the hub's,
    /// divided among the reactors.
    pub(super) fn make_room_for_pending(&mut self, peer: Option<IpAddr>) {
        let share = |most: usize| most.div_ceil(self.placement.reactors());
        let (most, of_peer) = (share(self.config.pending_max), share(self.config.pending_per_ip_max));
        let of_peer = if self.config.trusted.contains(peer) { 0 } else { of_peer };
        if let Some(oldest) = self.engines.pending.surplus(peer, most.max(1), of_peer) {
            self.metrics.on_shed(1);
            self.end(oldest.slot, Close::Policy("too many sessions are in no namespace; the oldest goes first"));
            self.leave_pending(oldest.slot);
            // Its last bytes are not fetched any more, unless a poll waits for them: that one has them by now.
            self.schedule_free(oldest.slot);
        }
    }

    /// The session at `slot` has entered no namespace yet.
    pub(super) fn note_pending(&mut self, slot: Slot) {
        let token = self.connections.token(slot);
        let Some(peer) = self.connections.at(slot).map(|connection| connection.peer) else { return };
        let number = self.engines.pending.insert(token, peer);
        if let Some(entry) = self.engines.sessions.get_mut(&slot) {
            entry.pending = Some(number);
        }
    }

    /// The session at `slot` is pending no more.
    pub(super) fn leave_pending(&mut self, slot: Slot) {
        if let Some(number) = self.engines.sessions.get_mut(&slot).and_then(|entry| entry.pending.take()) {
            self.engines.pending.remove(number);
        }
    }

    /// The client at `slot` enters its first namespace: from now on it is a connection like any other. Else why it is not let in.
    pub(super) fn claim_connection(&mut self, slot: Slot) -> Result<(), &'static str> {
        let Some(connection) = self.connections.at(slot) else { return Ok(()) };
        if !connection.state.has(UNCOUNTED) {
            self.leave_pending(slot);
            return Ok(());
        }
        let (peer, share) = (connection.peer, connection.share());
        if self.config.connections_max <= self.placement.of_share(Share::Served) {
            return Err("the hub has all the connections it is configured to serve; try again later");
        }
        if 0 < self.count_peer(peer) {
            self.uncount_peer(peer);
            return Err("this address has all the connections it may have; try again later");
        }
        self.placement.keep(self.index, share);
        if let Some(connection) = self.connections.at(slot) {
            connection.state.clear(UNCOUNTED);
        }
        self.leave_pending(slot);
        Ok(())
    }

    /// Whether nothing is lost if the session at `slot` ends: requests carry it, and its client is in no namespace.
    pub(super) fn is_pending(&mut self, slot: Slot) -> bool {
        self.engines.sessions.get(&slot).is_some_and(|entry| entry.pending.is_some())
            && self.connections.at(slot).is_some_and(|connection| connection.state.has(DETACHED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let peer = |last: u8| Some(IpAddr::from([127, 0, 0, last]));
        let token = |slot: usize| Token { slot: Slot::new(slot), generation: 1 };
        let mut pending = Pending::default();
        let check = |pending: &Pending, who: u8, most: usize, of_peer: usize, expected: Option<usize>| {
            let surplus = pending.surplus(peer(who), most, of_peer).map(|token| token.slot.get());
            assert_eq!(surplus, expected, "{who}: {most} in all, {of_peer} for an address");
        };
        check(&pending, 1, 1, 1, None);
        let numbers = [(0, 2), (1, 1), (2, 1), (3, 3)].map(|(slot, who)| pending.insert(token(slot), peer(who)));
        assert_eq!(pending.by_age.len(), 4);
        check(&pending, 1, 5, 3, None);
        check(&pending, 1, 5, 0, None);
        check(&pending, 1, 5, 2, Some(1));
        check(&pending, 3, 5, 1, Some(3));
        check(&pending, 4, 5, 1, None);
        check(&pending, 4, 4, 1, Some(0));
        pending.remove(numbers[0]);
        pending.remove(numbers[1]);
        check(&pending, 4, 2, 1, Some(2));
        check(&pending, 1, 5, 1, Some(2));
        pending.remove(numbers[1]);
        assert_eq!(pending.by_age.len(), 2);
    }
}
