//! What peers have sent and not finished: the share of the memory budget that it counts against, besides the budget itself.
//!
//! A request's sender is known from its head, a message's from its stream. What no head names yet (requests that wait behind an
//! unanswered one) counts for the client's address. Clients on this host and proxies that do not name their clients
//! have no share: for them the budget alone holds.

use std::{collections::HashMap, sync::Arc};

use super::{
    Reactor,
    connection::{Admission, Connection},
    inbound::HELD_BYTES_SPARED,
    net::Net,
};
use crate::{
    auth::Requester,
    bus::PublishFailed,
    close::Close,
    endpoint::{self, Answer, BodySender, EngineRefusal},
    index::Slot,
    label::RouteLabel,
    protocol::{
        SessionId,
        http::{Request, ServerSession},
    },
    share::{ByteReservation, Owner, QuotaRefused},
};

/// What peers hold of their shares with what they have not finished. Few connections have any.
#[derive(Debug, Default)]
pub(super) struct Senders {
    by_slot: HashMap<Slot, ByteReservation, foldhash::fast::RandomState>,
}

impl Senders {
    pub(super) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// What the peer holds is another's from now on, if it holds something.
    pub(super) fn take(&mut self, slot: Slot) -> Option<ByteReservation> {
        self.by_slot.remove(&slot)
    }

    /// The peer holds nothing any more.
    pub(super) fn release(&mut self, slot: Slot) {
        self.by_slot.remove(&slot);
    }
}

impl<N: Net> Reactor<N> {
    /// The head of a request has come, and not all of its body. Refuses the request if its head is reason enough; else finds the
    /// share that the body counts against, and goes on reading.
    pub(super) fn take_body(&mut self, slot: Slot) {
        self.take_client_of_head(slot);
        let shared = self.shared();
        let Some(connection) = self.connections.peek(slot) else { return };
        let context = self.context(&shared, slot, connection.admission(), None);
        let Some(request) = self.begun(slot) else { return };
        let sender = match endpoint::admit_body(request, &context) {
            Ok(sender) => sender,
            Err((route, answer)) => return self.answer_head(slot, route, answer),
        };
        match sender {
            BodySender::Client(identity) => {
                let requester = Requester { identity: identity.as_deref(), ..context.requester() };
                self.expect_body(slot, usize::MAX, Some(requester));
            }
            // It may hold what any stranger may: as much as a head.
            BodySender::Anonymous => self.expect_body(slot, self.config.limits.http.head_bytes_max, None),
            BodySender::Session { sid, route, headers } => self.expect_payload(slot, route, sid, headers),
        }
    }

    /// The body at `slot` is for the session `sid`, whose client pays for it.
    fn expect_payload(&mut self, slot: Slot, route: RouteLabel, sid: SessionId, headers: Vec<(&'static str, String)>) {
        if sid.reactor() != self.index && sid.reactor() < self.placement.reactors() {
            // Whose session it is is known there.
            return self.pass_on(slot, route, sid.reactor(), None);
        }
        let Some(session) = self.engines.find(sid) else {
            self.keep_fields(slot, headers);
            return self.answer_head(slot, route, EngineRefusal::UnknownSession.response().into());
        };
        let shared = self.shared();
        let identity = self.connections.peek(session).and_then(|connection| connection.identity.clone());
        let requester = self.context(&shared, session, Admission::ORDINARY, identity.as_deref()).requester();
        self.expect_body(slot, usize::MAX, Some(requester));
    }

    /// Reads on, up to a body of `bytes_max` bytes, for which `requester` pays.
    fn expect_body(&mut self, slot: Slot, bytes_max: usize, requester: Option<Requester<'_>>) {
        if let Some(Err(refused)) = requester.map(|requester| self.charge_body(slot, requester)) {
            return self.refuse_sender(slot, refused);
        }
        let Some(connection) = self.connections.at(slot) else { return };
        let Some((session, outbox)) = connection.speaks() else { return };
        let Some(requests) = session.requests_mut() else { return };
        match requests.expect_body(bytes_max, outbox) {
            Ok(()) => self.mark_dirty(slot),
            Err(close) => self.end(slot, close),
        }
    }

    /// From now on `requester` pays for the body at `slot` as it comes. A body that will not fit is refused before it is sent; one
    /// that is smaller than what any peer may hold is not worth a look at the shares.
    fn charge_body(&mut self, slot: Slot, requester: Requester<'_>) -> Result<(), QuotaRefused> {
        let Some(requests) = self.requests(slot) else { return Ok(()) };
        let (announced, arrived_bytes) = (requests.announced_bytes(), requests.held_bytes());
        if announced.is_some_and(|bytes| bytes <= HELD_BYTES_SPARED as u64) {
            return Ok(());
        }
        let Some(owner) = self.hub.quotas.sender(requester, self.now) else { return Ok(()) };
        let announced_bytes = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
        let mut reservation = ByteReservation::new(owner);
        reservation.try_resize(announced_bytes.max(arrived_bytes))?;
        reservation.try_resize(arrived_bytes)?;
        self.senders.by_slot.insert(slot, reservation);
        Ok(())
    }

    /// Brings up to date what the peer at `slot` holds of its share: `held_bytes` of what it has not finished.
    pub(super) fn settle_sender(&mut self, slot: Slot, held_bytes: usize) {
        let is_body = self.begun(slot).is_some();
        if held_bytes == 0 && !is_body {
            self.senders.release(slot);
            return;
        }
        if !is_body && HELD_BYTES_SPARED < held_bytes && !self.senders.by_slot.contains_key(&slot) {
            let Some(owner) = self.owner_of_stream(slot) else { return };
            self.senders.by_slot.insert(slot, ByteReservation::new(owner));
        }
        if let Some(reservation) = self.senders.by_slot.get_mut(&slot)
            && let Err(refused) = reservation.try_resize(held_bytes)
        {
            self.refuse_sender(slot, refused);
        }
    }

    /// Who pays for messages of the stream at `slot`, or for requests that wait for an answer to an earlier one.
    fn owner_of_stream(&self, slot: Slot) -> Option<Arc<Owner>> {
        let identity = self.connections.peek(slot)?.identity.clone();
        let shared = self.shared();
        let requester = self.context(&shared, slot, Admission::ORDINARY, identity.as_deref()).requester();
        self.hub.quotas.sender(requester, self.now)
    }

    /// There is no room in the share of the peer at `slot` for what it has begun to send.
    fn refuse_sender(&mut self, slot: Slot, refused: QuotaRefused) {
        let shared = self.shared();
        shared.hub.quotas.count(refused);
        let Some(connection) = self.connections.peek(slot) else { return };
        let context = self.context(&shared, slot, connection.admission(), None);
        match self.begun(slot).map(|request| endpoint::refuse_body(request, PublishFailed::Quota(refused), &context)) {
            Some((route, answer)) => self.answer_head(slot, route, answer),
            None => self.end(slot, SHARE_USED_UP),
        }
    }

    /// Answers the request at `slot` although its body has not come, and ends the connection.
    fn answer_head(&mut self, slot: Slot, route: RouteLabel, answer: Answer) {
        self.senders.release(slot);
        let Some(requests) = self.connections.at(slot).and_then(Connection::requests_mut) else { return };
        if let Some(request) = requests.give_up_body() {
            self.take_answer(slot, route, &request, answer);
        }
    }

    /// The request at `slot` whose body has not come.
    pub(super) fn begun(&self, slot: Slot) -> Option<&Request> {
        self.requests(slot)?.begun()
    }

    fn requests(&self, slot: Slot) -> Option<&ServerSession> {
        self.connections.peek(slot)?.session.as_ref().ok()?.requests()
    }
}

/// How a stream ends whose client has no room left for the message that it sends.
const SHARE_USED_UP: Close = Close::TryLater("the client's share of the hub's memory has no room for this message");
