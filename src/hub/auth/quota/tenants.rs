//! The usage of tenants, in a table of bounded size.

use core::net::IpAddr;
use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Identity, Requester, TenantId, held_limits,
    table::{Cost, RuleId, RuleSet, RuleTable},
};
use crate::{
    bucket::TokenBucket,
    clock::Moment,
    share::{Account, Limit, Owner},
    topic::Pattern,
};

/// Parts of the table with a lock each, so that publishers seldom wait for each other.
const SHARDS: usize = 16;
/// Tenants that are examined for each new one, and forgotten if they are idle. Two would keep the table small; the others help when
/// it is full.
const LOOKS: usize = 8;
/// Owners kept for a tenant. They differ by the rules that concern a topic, so mostly there is one.
const OWNERS_MAX: usize = 8;

/// All tenants that have used something recently, or hold something. A tenant with empty buckets that holds nothing is forgotten,
/// because a new entry would be the same. When the table is full and no tenant may be forgotten, new ones are counted together.
#[derive(Debug)]
pub(super) struct Tenants {
    shards: [Mutex<Shard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    /// A reload may change it.
    most_per_shard: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<TenantId, usize, foldhash::fast::RandomState>,
    tenants: Vec<Tenant>,
    /// The tenant that is examined next.
    hand: usize,
}

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    /// One for each rule that has been applied.
    meters: Vec<Meter>,
    owners: Vec<(OwnerKey, Arc<Owner>)>,
    /// All owners that hold something, and some that no longer do.
    live: Vec<LiveOwner>,
    /// The length of `live` at which the next addition first removes owners that are gone.
    live_max: usize,
}

/// An owner, and what decides which rules concern it.
#[derive(Clone, Debug)]
pub(super) struct LiveOwner {
    pub(super) owner: Weak<Owner>,
    /// The parts of its identity that rules use.
    pub(super) identity: Option<Arc<Identity>>,
    /// Its address when it was seen first.
    pub(super) address: Option<IpAddr>,
    /// The lists of topics of the rules under which it holds something.
    pub(super) topic_lists: Box<[Box<[Pattern]>]>,
}

impl LiveOwner {
    pub(super) fn new(owner: &Arc<Owner>, requester: Requester<'_>, topic_lists: Box<[Box<[Pattern]>]>) -> Self {
        let known = |identity: &Identity| {
            let Identity { subject, role, is_guest, is_api_key, .. } = identity;
            let (subject, role) = (subject.clone(), role.clone());
            Arc::new(Identity { subject, role, is_guest: *is_guest, is_api_key: *is_api_key, ..Identity::default() })
        };
        let (owner, identity) = (Arc::downgrade(owner), requester.identity.map(known));
        Self { owner, identity, address: requester.address, topic_lists }
    }

    /// Whether the owner holds something.
    fn is_needed(&self) -> bool {
        self.owner.upgrade().is_some_and(|owner| !owner.is_empty())
    }
}

/// The generation of the table, the rules, and the tenant by address if a rule for addresses applies.
type OwnerKey = (u64, RuleSet, Option<TenantId>);

/// What a tenant has used under one rule.
#[derive(Debug)]
struct Meter {
    rule: RuleId,
    publishes: TokenBucket,
    bytes: TokenBucket,
    account: Option<Arc<Account>>,
}

impl Tenants {
    pub(super) fn new(most: usize) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self { shards: Default::default(), hasher, most_per_shard: per_shard(most).into() }
    }

    /// Replaces the rules `before` by `next`, and the limit on tenants by `most`. Visits every tenant, with its shard locked.
    pub(super) fn take_over(&self, before: &RuleTable, next: &RuleTable, most: usize, now: Moment) {
        self.most_per_shard.store(per_shard(most), Ordering::Relaxed);
        let renamed = before.renamed(next);
        for shard in &self.shards {
            for tenant in &mut lock(shard).tenants {
                tenant.owners.clear();
                tenant.meters.retain(|meter| renamed.iter().all(|(_, fresh)| meter.rule != *fresh));
                tenant.meters.retain_mut(|meter| {
                    let fresh = renamed.iter().find(|(gone, _)| *gone == meter.rule).map(|(_, fresh)| *fresh);
                    meter.take_over(before, next, fresh, now);
                    let is_held = meter.account.as_ref().is_some_and(|account| !account.is_empty());
                    is_held || next.find(meter.rule).is_some()
                });
            }
        }
    }

    /// All owners that hold something, and perhaps others.
    pub(super) fn live_owners(&self) -> Vec<LiveOwner> {
        let of_shard = |shard: &Mutex<Shard>| -> Vec<LiveOwner> {
            lock(shard).tenants.iter().flat_map(|tenant| tenant.live.iter().cloned()).collect()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// The number of tenants.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).tenants.len()).sum()
    }

    /// Adds all `costs` to the buckets of `id`, or none. The error has the refusing rule, its limit, and the time to wait.
    pub(super) fn spend(&self, id: &TenantId, costs: &[Cost], now: Moment) -> Result<(), (usize, Limit, Duration)> {
        let mut shard = self.shard(id);
        let tenant = shard.tenant(id, self.most_per_shard(), now);
        let mut refused: Option<(usize, Limit, Duration)> = None;
        for cost in costs {
            let meter = tenant.meter(cost.id);
            let parts = [
                (Limit::PublishPerSecond, meter.publishes, cost.publishes),
                (Limit::BytesPerSecond, meter.bytes, cost.bytes),
            ];
            for (limit, bucket, cost_of) in parts.into_iter().filter(|(.., cost)| !cost.is_zero()) {
                // The error names the rule with the longest wait.
                if let Err(wait) = bucket.check(cost_of, now)
                    && refused.is_none_or(|(.., longest)| longest < wait)
                {
                    refused = Some((cost.rule, limit, wait));
                }
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        for cost in costs {
            let meter = tenant.meter(cost.id);
            meter.publishes.fill(cost.publishes, now);
            meter.bytes.fill(cost.bytes, now);
        }
        Ok(())
    }

    /// The account of `id` under `rule`, made by `make` if there is none.
    pub(super) fn account(
        &self,
        id: &TenantId,
        rule: RuleId,
        now: Moment,
        make: impl FnOnce() -> Account,
    ) -> Arc<Account> {
        let mut shard = self.shard(id);
        let meter = shard.tenant(id, self.most_per_shard(), now).meter(rule);
        Arc::clone(meter.account.get_or_insert_with(|| Arc::new(make())))
    }

    /// The owner that was kept with `id` under `key`.
    pub(super) fn kept_owner(&self, id: &TenantId, key: &OwnerKey) -> Option<Arc<Owner>> {
        let shard = self.shard(id);
        let tenant = &shard.tenants[*shard.places.get(id)?];
        tenant.owners.iter().find(|(known, _)| known == key).map(|(_, owner)| Arc::clone(owner))
    }

    pub(super) fn keep_owner(&self, id: &TenantId, key: OwnerKey, owner: &Arc<Owner>, live: LiveOwner, now: Moment) {
        let mut shard = self.shard(id);
        let tenant = shard.tenant(id, self.most_per_shard(), now);
        tenant.add_live(live);
        let owners = &mut tenant.owners;
        if owners.len() == OWNERS_MAX {
            owners.remove(0);
        }
        owners.push((key, Arc::clone(owner)));
    }

    fn most_per_shard(&self) -> usize {
        self.most_per_shard.load(Ordering::Relaxed)
    }

    fn shard(&self, id: &TenantId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(id) as usize % SHARDS])
    }
}

fn per_shard(most: usize) -> usize {
    most.div_ceil(SHARDS).max(1)
}

/// A poisoned lock is used on: a panic ends the process anyway.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn tenant(&mut self, id: &TenantId, most: usize, now: Moment) -> &mut Tenant {
        let place = match self.places.get(id) {
            Some(place) => *place,
            None => {
                self.forget_idle(now);
                let is_full = most <= self.tenants.len();
                let id = if is_full { &TenantId::Others } else { id };
                // One entry beyond the bound, shared by all others.
                match self.places.get(id) {
                    Some(place) => *place,
                    None => self.add(id.clone()),
                }
            }
        };
        &mut self.tenants[place]
    }

    fn add(&mut self, id: TenantId) -> usize {
        self.places.insert(id.clone(), self.tenants.len());
        let (meters, owners, live) = Default::default();
        self.tenants.push(Tenant { id, meters, owners, live, live_max: OWNERS_MAX });
        self.tenants.len() - 1
    }

    /// Examines the next tenants in turn, and forgets those that are idle.
    fn forget_idle(&mut self, now: Moment) {
        for _ in 0..LOOKS.min(self.tenants.len()) {
            if self.tenants.len() <= self.hand {
                self.hand = 0;
            }
            if !self.tenants[self.hand].is_idle(now) {
                self.hand += 1;
                continue;
            }
            let gone = self.tenants.swap_remove(self.hand);
            self.places.remove(&gone.id);
            if let Some(moved) = self.tenants.get(self.hand) {
                self.places.insert(moved.id.clone(), self.hand);
            }
            if self.tenants.is_empty() {
                return;
            }
        }
    }
}

impl Tenant {
    fn meter(&mut self, rule: RuleId) -> &mut Meter {
        let place = self.meters.iter().position(|meter| meter.rule == rule).unwrap_or_else(|| {
            let (publishes, bytes) = Default::default();
            self.meters.push(Meter { rule, publishes, bytes, account: None });
            self.meters.len() - 1
        });
        &mut self.meters[place]
    }

    /// Adds an owner. Whenever the list has doubled, owners that are gone are removed first, so that each costs one or two visits.
    fn add_live(&mut self, live: LiveOwner) {
        if self.live_max <= self.live.len() {
            // An owner that still exists may come to hold something.
            self.live.retain(|live| live.owner.strong_count() != 0);
            self.live_max = OWNERS_MAX.max(2 * self.live.len());
        }
        self.live.push(live);
    }

    /// Whether a new entry would be the same.
    fn is_idle(&self, now: Moment) -> bool {
        !self.live.iter().any(LiveOwner::is_needed)
            && self.meters.iter().all(|meter| {
                let holds_nothing = meter.account.as_ref().is_none_or(|account| account.is_empty());
                holds_nothing && meter.publishes.level(now).is_zero() && meter.bytes.level(now).is_zero()
            })
    }
}

impl Meter {
    /// Applies the rules `next`: the buckets drain at the new rate, and the account has the new limits. `fresh`: the rule that
    /// replaces the meter's rule under another name. Its account is made anew.
    fn take_over(&mut self, before: &RuleTable, next: &RuleTable, fresh: Option<RuleId>, now: Moment) {
        let former = self.rule;
        if let Some(fresh) = fresh {
            (self.rule, self.account) = (fresh, None);
        }
        let parts = [(Limit::PublishPerSecond, &mut self.publishes), (Limit::BytesPerSecond, &mut self.bytes)];
        for (limit, bucket) in parts {
            match (before.limit_of(former, limit), next.limit_of(self.rule, limit)) {
                (Some(former), Some(most)) => bucket.change_rate(former as u64, most as u64, now),
                _ => *bucket = TokenBucket::default(),
            }
        }
        if let Some(account) = &self.account {
            account.set_limits(held_limits(next, self.rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_000_000_000);

    fn tenant() -> Tenant {
        let (meters, owners, live) = Default::default();
        Tenant { id: TenantId::Others, meters, owners, live, live_max: OWNERS_MAX }
    }

    fn rule() -> RuleId {
        RuleTable::new(&super::super::QuotaConfig::unlimited(), 1000, Default::default(), 0).rules[0].id
    }

    fn live(owner: &Arc<Owner>) -> LiveOwner {
        LiveOwner::new(owner, Requester { identity: None, address: None }, Box::default())
    }

    #[test]
    fn a_tenant_is_idle_that_has_used_nothing_lately_and_holds_nothing() {
        let later = NOW + Duration::from_secs(1);
        let check = |prepare: &dyn Fn(&mut Tenant), expected: [bool; 2]| {
            let mut tenant = tenant();
            prepare(&mut tenant);
            assert_eq!([NOW, later].map(|now| tenant.is_idle(now)), expected, "{tenant:?}");
        };
        let second = Duration::from_secs(1);
        check(&|_| {}, [true; 2]);
        check(&|tenant| assert!(tenant.meter(rule()).account.is_none()), [true; 2]);
        check(&|tenant| tenant.meter(rule()).publishes.fill(second, NOW), [false, true]);
        check(&|tenant| tenant.meter(rule()).bytes.fill(second, NOW), [false, true]);
        let owner = Arc::new(Owner::new(Vec::new()));
        check(&|tenant| tenant.add_live(live(&owner)), [true; 2]);
        assert_eq!(owner.try_take_bytes(1), Ok(()));
        check(&|tenant| tenant.add_live(live(&owner)), [false; 2]);
    }

    /// A busy tenant does not keep those after it from being examined.
    #[test]
    fn idle_tenants_are_forgotten_in_turn() {
        let mut shard = Shard::default();
        for number in 0..4 * LOOKS {
            shard.add(TenantId::Subject(number.to_string().into()));
        }
        let is_busy = |number: usize| number < 3 || number == 20;
        for (number, tenant) in shard.tenants.iter_mut().enumerate().filter(|(number, _)| is_busy(*number)) {
            tenant.meter(rule()).publishes.fill(Duration::from_secs(1), NOW);
            assert!(!tenant.is_idle(NOW), "{number}");
        }
        let left = |shard: &Shard| shard.tenants.len();
        shard.forget_idle(NOW);
        assert_eq!(left(&shard), 4 * LOOKS - (LOOKS - 3), "three of them are busy");
        (0..6).for_each(|_| shard.forget_idle(NOW));
        assert_eq!(left(&shard), 4, "the busy ones are left, however often they are looked at");
        for (place, tenant) in shard.tenants.iter().enumerate() {
            assert_eq!(shard.places.get(&tenant.id), Some(&place));
        }
        shard.forget_idle(NOW + Duration::from_secs(1));
        assert_eq!((left(&shard), shard.places.len()), (0, 0));
    }

    /// The list is not searched for each new owner.
    #[test]
    fn owners_are_looked_through_when_as_many_again_have_come() {
        let (mut tenant, gone) = (tenant(), || live(&Arc::new(Owner::new(Vec::new()))));
        (0..OWNERS_MAX).for_each(|_| tenant.add_live(gone()));
        assert_eq!((tenant.live.len(), tenant.live_max), (OWNERS_MAX, OWNERS_MAX));
        tenant.add_live(gone());
        assert_eq!((tenant.live.len(), tenant.live_max), (1, OWNERS_MAX), "the others are forgotten");
        let kept: Vec<_> = (0..2 * OWNERS_MAX).map(|_| Arc::new(Owner::new(Vec::new()))).collect();
        kept.iter().for_each(|owner| tenant.add_live(live(owner)));
        assert_eq!((tenant.live.len(), tenant.live_max), (2 * OWNERS_MAX, 4 * (OWNERS_MAX - 1)));
    }

    #[test]
    fn owners_that_are_gone_are_forgotten_and_others_not() {
        let mut tenant = tenant();
        let kept: Vec<_> = (0..20).map(|_| Arc::new(Owner::new(Vec::new()))).collect();
        kept.iter().for_each(|owner| tenant.add_live(live(owner)));
        for _ in 0..1000 {
            tenant.add_live(live(&Arc::new(Owner::new(Vec::new()))));
            assert!(tenant.live.len() <= 2 * (kept.len() + OWNERS_MAX), "{}", tenant.live.len());
        }
        for owner in &kept {
            assert!(tenant.live.iter().any(|live| live.owner.ptr_eq(&Arc::downgrade(owner))));
        }
    }
}
