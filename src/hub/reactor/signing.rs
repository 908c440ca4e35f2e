//! The identity of a stream, and until when it is valid.

use std::{collections::HashMap, sync::Arc};

use super::{Reactor, connection::Admission, net::Net, rights::LOST_RIGHT};
use crate::{
    auth::Identity,
    close::Close,
    endpoint::STREAMS_USED_UP,
    index::Slot,
    share::{QuotaRefused, QuotaReservation},
};

/// Connections looked at per turn after the rules of quotas were replaced.
const CLAIMED_PER_TURN: usize = 256;

/// What streams hold of their tenants' `connections`, where a quota bounds them.
#[derive(Debug)]
pub(super) struct StreamReservations {
    by_slot: HashMap<Slot, QuotaReservation, foldhash::fast::RandomState>,
    /// The rules by which streams were claimed last, and the connections yet to be looked at since.
    generation: u64,
    to_claim: Vec<Slot>,
}

impl StreamReservations {
    /// Nothing is held; the rules in force are of this generation.
    pub(super) fn new(generation: u64) -> Self {
        Self { by_slot: HashMap::default(), generation, to_claim: Vec::new() }
    }

    pub(super) fn keep(&mut self, slot: Slot, reservation: Option<QuotaReservation>) {
        if let Some(reservation) = reservation {
            self.by_slot.insert(slot, reservation);
        }
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// The stream holds nothing any more.
    pub(super) fn release(&mut self, slot: Slot) {
        self.by_slot.remove(&slot);
    }

    /// Whether connections are yet to be looked at.
    pub(super) fn is_under_way(&self) -> bool {
        !self.to_claim.is_empty()
    }
}

impl<N: Net> Reactor<N> {
    /// Why a stream may not go on, if it may not: the time of what its client has shown is over, or it never showed anything.
    pub(super) fn denial(&mut self, slot: Slot) -> Option<Close> {
        let now = self.now;
        let identity = self.connections.at(slot)?.identity.as_ref()?;
        match identity.has_expired(now) {
            false => None,
            true if identity.is_guest => Some(Close::Unauthenticated("no token came in time")),
            true => Some(Close::TokenExpired),
        }
    }

    /// From now on the connection is a stream of `identity`; `message` is the answer. A topic that `identity` has no right to ends
    /// it.
    pub(super) fn sign_in(&mut self, slot: Slot, identity: Arc<Identity>, message: &[u8]) {
        if !self.may_keep(slot, &identity) {
            self.record_revocation(slot, &identity, Close::Forbidden(LOST_RIGHT));
            return self.end(slot, Close::Forbidden(LOST_RIGHT));
        }
        if self.claim_stream(slot, Some(&identity)).is_err() {
            return self.end(slot, STREAMS_USED_UP);
        }
        if let Some(connection) = self.connections.at(slot) {
            connection.identity = Some(identity);
        }
        self.tell(slot, |session, outbox| session.write_command_answer(message, outbox));
        self.rearm(slot);
    }

    /// Counts the stream at `slot` among those that `identity` has open, and no more among those of the identity it had before. It is
    /// counted once however often this is called, until it ends.
    pub(super) fn claim_stream(&mut self, slot: Slot, identity: Option<&Identity>) -> Result<(), QuotaRefused> {
        let shared = self.shared();
        let requester = self.context(&shared, slot, Admission::ORDINARY, identity).requester();
        let mut reservation = self.stream_reservations.by_slot.remove(&slot);
        let claimed = shared.hub.quotas.reopen(requester, &mut reservation, self.now);
        self.stream_reservations.keep(slot, reservation);
        claimed
    }

    /// After the rules of quotas were replaced: counts some of the streams that are open and that nothing has bounded so far.
    pub(super) fn claim_some(&mut self) {
        let generation = self.hub.quotas.generation();
        if self.stream_reservations.generation != generation {
            (self.stream_reservations.generation, self.stream_reservations.to_claim) =
                (generation, self.connections.used());
        }
        let first = self.stream_reservations.to_claim.len().saturating_sub(CLAIMED_PER_TURN);
        for slot in self.stream_reservations.to_claim.split_off(first) {
            if self.is_stream(slot) && !self.stream_reservations.by_slot.contains_key(&slot) {
                let shared = self.shared();
                let identity = self.connections.peek(slot).and_then(|connection| connection.identity.clone());
                let requester = self.context(&shared, slot, Admission::ORDINARY, identity.as_deref()).requester();
                let reservation = shared.hub.quotas.claim(requester, self.now);
                self.stream_reservations.keep(slot, reservation);
            }
        }
    }

    /// Whether quotas count the connection at `slot`: not before it has a client.
    fn is_stream(&self, slot: Slot) -> bool {
        let session = self.connections.peek(slot).map(|connection| &connection.session);
        matches!(session, Some(Ok(session)) if session.has_client()) && !self.engines.is_probe(slot)
    }
}
