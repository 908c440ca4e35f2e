//! How much is recorded: so many lines of a kind in a second, and a client's requests once in a while.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    time::Duration,
};

use super::{AuditConfig, AuditKind};
use crate::{
    bucket::{TokenBucket, cost},
    clock::Moment,
};

#[derive(Debug, Default)]
pub(super) struct Limits {
    /// One for each kind: refusals, which anybody can cause, take no room from the others.
    buckets: [TokenBucket; AuditKind::ALL.len()],
    /// When clients were recorded, by a hash of who they are. Another client with the same hash, one in 2^64, goes unrecorded.
    clients: HashMap<u64, Moment>,
    hash: RandomState,
}

impl Limits {
    /// Whether a line of `kind` may be written now.
    pub(super) fn take(&mut self, kind: AuditKind, config: &AuditConfig, now: Moment) -> bool {
        let Some(per_second) = config.per_second_max(kind) else { return true };
        let (bucket, cost) = (&mut self.buckets[kind as usize], cost(1, per_second as u64));
        let has_room = bucket.check(cost, now).is_ok();
        if has_room {
            bucket.fill(cost, now);
        }
        has_room
    }

    /// Whether `client` was not recorded within `span`. From now on it was. At most `clients_max` are remembered: when further ones
    /// come, those that are remembered are recorded again.
    pub(super) fn is_first(&mut self, client: impl Hash, (span, clients_max): (Duration, usize), now: Moment) -> bool {
        let client = self.hash.hash_one(client);
        if self.clients.get(&client).is_some_and(|at| now.since(*at) < span) {
            return false;
        }
        if clients_max <= self.clients.len() && !self.clients.contains_key(&client) {
            self.clients.clear();
        }
        self.clients.insert(client, now);
        true
    }
}
