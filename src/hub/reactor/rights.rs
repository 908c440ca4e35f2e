//! Rights that change while streams are open. Every command asks whether its stream's rights are of the rules in force
//! ([`crate::auth::Auth::generation`]); when these change, every stream is looked at as well, some in each turn.

use std::{collections::HashMap, sync::Arc};

use super::{Reactor, net::Net};
use crate::{
    audit::{AuditKind, AuditLine},
    auth::{AccessDenied, Auth, Identity},
    close::Close,
    endpoint::STREAMS_USED_UP,
    index::{Slot, TopicIndex},
    protocol::PeerInput,
};

/// How much is looked at in a turn: a connection counts as one, and so does each of its topics. Closing takes longest: 256
/// connections that all end take a millisecond or so.
const LOOKS_PER_TURN: usize = 256;
/// The reason to a client whose stream carries a topic to which it has no right any more.
pub(super) const LOST_RIGHT: &str = "the token gives no right to a topic of this connection";

/// The look at all connections after the rules have changed.
#[derive(Debug, Default)]
pub(super) struct RightsReview {
    /// The rules under which all connections are looked at, or were.
    generation: u64,
    /// The slot at which the look goes on, while it is under way.
    next: Option<Slot>,
    /// What has become of identities, by the address of each, which is kept for as long: the streams of one token share one.
    renewed: HashMap<usize, Renewed, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Renewed {
    /// Holds the address.
    _before: Arc<Identity>,
    now: Result<Arc<Identity>, AccessDenied>,
}

impl RightsReview {
    /// Whether there are connections that have not been looked at.
    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// Begins anew if the rules have changed since the last look began.
    fn begin_if_due(&mut self, auth: &Auth) {
        let generation = auth.generation();
        if self.generation != generation {
            *self = Self { generation, next: Some(Slot::new(0)), ..Self::default() };
        }
    }

    /// What `identity` may do by now.
    fn renew(&mut self, identity: &Arc<Identity>, auth: &Auth) -> Result<Arc<Identity>, AccessDenied> {
        // A command may come before the turn's own look.
        self.begin_if_due(auth);
        let renew = || Renewed { _before: Arc::clone(identity), now: auth.renew(identity) };
        self.renewed.entry(Arc::as_ptr(identity).addr()).or_insert_with(renew).now.clone()
    }
}

impl<N: Net> Reactor<N> {
    /// Whether the rules have changed since all connections were looked at last.
    pub(super) fn must_review(&self) -> bool {
        self.review.generation != self.hub.auth.generation()
    }

    /// Looks at some of the connections if the rules have changed, and ends those that may not go on.
    pub(super) fn review_some(&mut self) {
        self.review.begin_if_due(&self.hub.auth);
        let Some(first) = self.review.next else { return };
        let (mut index, mut looks) = (first.get(), 0);
        while looks < LOOKS_PER_TURN && index < self.connections.slots() {
            let slot = Slot::new(index);
            looks += 1 + self.connections.peek(slot).map_or(0, |connection| connection.subscriptions.len());
            self.keeps_rights(slot);
            index += 1;
        }
        if index < self.connections.slots() {
            self.review.next = Some(Slot::new(index));
        } else {
            // Connections that come from now on are known by the rules in force.
            (self.review.next, self.review.renewed) = (None, HashMap::default());
        }
    }

    /// Whether the stream at `slot` still has the right to all that it carries, and its client to say something. Ends it if
    /// not. Costs next to nothing as long as the rules stay the same.
    pub(super) fn keeps_rights(&mut self, slot: Slot) -> bool {
        let Some(connection) = self.connections.at(slot) else { return false };
        let Some(identity) = &connection.identity else { return true };
        if identity.generation == self.hub.auth.generation() {
            return true;
        }
        let before = Arc::clone(identity);
        match self.renew_identity(slot, &before) {
            Ok(()) => true,
            Err(close) => {
                self.record_revocation(slot, &before, close);
                self.end(slot, close);
                false
            }
        }
    }

    /// The same before `input` is carried out: a command of a client whose time is over is not carried out either.
    pub(super) fn permits(&mut self, slot: Slot, input: &PeerInput) -> bool {
        if matches!(input, PeerInput::Command(_))
            && let Some(close) = self.denial(slot)
        {
            self.end(slot, close);
            return false;
        }
        self.keeps_rights(slot)
    }

    fn renew_identity(&mut self, slot: Slot, before: &Arc<Identity>) -> Result<(), Close> {
        let renewed = self.review.renew(before, &self.hub.auth).map_err(AccessDenied::close)?;
        if !self.may_keep(slot, &renewed) {
            return Err(Close::Forbidden(LOST_RIGHT));
        }
        // Quotas may go by the role.
        if renewed.role != before.role && self.stream_reservations.has(slot) {
            self.claim_stream(slot, Some(&renewed)).map_err(|_| STREAMS_USED_UP)?;
        }
        if let Some(connection) = self.connections.at(slot) {
            connection.identity = Some(renewed);
        }
        Ok(())
    }

    /// Whether `identity` may listen to all that the connection listens to, or replays. What it waits for is looked at when
    /// that begins ([`Self::keeps_right_to`]).
    pub(super) fn may_keep(&mut self, slot: Slot, identity: &Identity) -> bool {
        let Some(connection) = self.connections.at(slot) else { return false };
        let same = connection.identity.as_ref().is_some_and(|before| before.subscribe == identity.subscribe);
        if identity.is_admin() || (same && !connection.identity.as_ref().is_some_and(|before| before.is_admin())) {
            return true;
        }
        let mut topics: Vec<TopicIndex> =
            connection.subscriptions.iter().map(|subscription| subscription.topic).collect();
        topics.extend(self.replayed_topics(slot));
        topics.into_iter().all(|topic_index| {
            self.topics.at(topic_index).is_none_or(|topic| identity.may_subscribe(&topic.state.topic).is_ok())
        })
    }

    /// Whether the client at `slot` has the right to the topic, for which it has waited. Ends it if not.
    pub(super) fn keeps_right_to(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        if !self.keeps_rights(slot) {
            return false;
        }
        let Some(identity) = self.connections.at(slot).and_then(|connection| connection.identity.as_ref()) else {
            return true;
        };
        if self.topics.get(topic_index).is_none_or(|topic| identity.may_subscribe(&topic.state.topic).is_ok()) {
            return true;
        }
        let who = Arc::clone(identity);
        self.record_revocation(slot, &who, Close::Forbidden(LOST_RIGHT));
        self.end(slot, Close::Forbidden(LOST_RIGHT));
        false
    }

    /// The audit is told that `who`, the client at `slot`, may not go on.
    pub(super) fn record_revocation(&self, slot: Slot, who: &Identity, close: Close) {
        let connection = self.connections.peek(slot);
        let peer = connection.and_then(|connection| connection.peer);
        self.hub.audit.record(&AuditLine {
            reason: Some(match close {
                Close::Unauthenticated(_) => AccessDenied::Revoked.code(),
                other => other.label(),
            }),
            who: Some(who),
            peer: peer.filter(|peer| !self.config.trusted.contains(Some(*peer))),
            transport: connection.map(|connection| connection.transport),
            ..AuditLine::new(AuditKind::Revocation)
        });
    }
}
