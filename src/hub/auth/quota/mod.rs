//! Quotas: limits for each tenant. A tenant is a subject, an API key, or the address of a client that shows neither. Pure: the
//! requester, the request and the time go in, and decisions come out.
//!
//! Without a rule the defaults apply to each tenant. If several rules bound the same thing the tightest decides; a default
//! applies only where no rule does. Anonymous clients on this machine, and proxies that do not name their clients, stand for
//! many clients: they are no tenants, and only rules for their address apply to them.
//!
//! The rules may change while the hub runs ([`Quotas::replace`]). What a tenant has used stays with a rule of the same name, or
//! with the same rule under another name; what it holds is recounted under the rules that apply now.

mod rules;
mod table;
mod tenants;

use core::net::IpAddr;
use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use rules::{QuotaRule, TenantSelector};
use table::{Cost, KnownRules, RuleId, RuleSet, RuleTable, members};
use tenants::{LiveOwner, Tenants};

use super::Identity;
use crate::{
    clock::Moment,
    network::client_network,
    share::{Account, HeldLimits, Limit, Owner, Owners, QuotaRefused, QuotaReservation},
    topic::Topic,
};

/// The configuration of quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaConfig {
    /// By [`Limit`], the limits of tenants where no rule applies. 0: no limit.
    pub default_limits: [usize; Limit::ALL.len()],
    /// Percentage of the memory budget that one tenant's events and topics may hold where no rule applies. 100: all of it.
    pub share_percent: usize,
    /// Tenants that are remembered. Further ones share the limits of one.
    pub tenants_max: usize,
    pub rules: Vec<QuotaRule>,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        let mut default_limits = [0; Limit::ALL.len()];
        default_limits[Limit::PublishPerSecond as usize] = 20_000;
        default_limits[Limit::BytesPerSecond as usize] = 64 << 20;
        Self { default_limits, share_percent: 25, tenants_max: 65_536, rules: Vec::new() }
    }
}

impl QuotaConfig {
    /// No limits.
    pub fn unlimited() -> Self {
        Self { default_limits: [0; Limit::ALL.len()], share_percent: 100, ..Self::default() }
    }
}

/// The client that a request is counted for.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// Its identity, if it has authenticated.
    pub identity: Option<&'a Identity>,
    /// Its address, unless that is a trusted proxy's.
    pub address: Option<IpAddr>,
}

/// A publication to be counted.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    pub topic: &'a Topic,
    pub bytes: usize,
}

/// The total cost of publications that are admitted together.
#[derive(Debug, Default)]
pub struct PublishTotals {
    /// The rules, and those of them that apply to the requester; `None` before the first publication. A batch that takes several
    /// turns is counted under the rules that it began with.
    rules: Option<(Arc<RuleTable>, RuleSet)>,
    /// The rules for each publication, as runs: the rules, and the number of publications up to the end of the run.
    sets: Vec<(RuleSet, usize)>,
    /// Events and bytes under each rule.
    counts: Vec<(u64, u64)>,
}

impl PublishTotals {
    /// The memory it takes, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.sets.capacity() * size_of::<(RuleSet, usize)>()
    }
}

/// All quotas of a hub, and the usage of each tenant.
#[derive(Debug)]
pub struct Quotas {
    table: RwLock<Arc<RuleTable>>,
    tenants: Tenants,
    budget_bytes: usize,
    generation: AtomicU64,
}

impl Quotas {
    /// With the rules of `config`, over a memory budget of `budget_bytes`.
    pub fn new(config: &QuotaConfig, budget_bytes: usize) -> Self {
        let table = RuleTable::new(config, budget_bytes, KnownRules::default(), 0);
        let (table, tenants) = (RwLock::new(Arc::new(table)), Tenants::new(config.tenants_max));
        Self { table, tenants, budget_bytes, generation: AtomicU64::new(0) }
    }

    /// No limits.
    pub fn unlimited() -> Self {
        Self::new(&QuotaConfig::unlimited(), usize::MAX)
    }

    /// Replaces the rules by those of `config`. A rule continues a former one of the same name, or else one for the same clients
    /// and topics: what its tenants have used stays, and drains at the new rate. What tenants hold is recounted under all rules
    /// that apply now. A tenant that holds more than a new limit is refused more, and loses nothing.
    ///
    /// Two things start at zero: a rule for topics that no rule named before, because the topics of held bytes are unknown; and
    /// what was taken while no rule bounded it (reactors count open streams again, see [`Quotas::generation`]). The budget does not
    /// change.
    pub fn replace(&self, config: &QuotaConfig, now: Moment) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let (known, generation) = (table.known.clone(), table.generation + 1);
        let next = Arc::new(RuleTable::new(config, self.budget_bytes, known, generation));
        let before = std::mem::replace(&mut *table, Arc::clone(&next));
        // Tenants are looked up under locks of their own, and these may wait for the table.
        drop(table);
        self.generation.store(generation, Ordering::Release);
        self.tenants.take_over(&before, &next, config.tenants_max, now);
        self.tenants.live_owners().iter().for_each(|live| self.recount(live, now));
    }

    /// The number of times the rules were replaced. After a change, the owner of open streams that no rule bounded calls
    /// [`Quotas::claim`] for them.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Counts a stream of `requester` that is open already, even beyond the limit. `None` if no rule bounds its streams.
    pub fn claim(&self, requester: Requester<'_>, now: Moment) -> Option<QuotaReservation> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.candidates(requester, &tenants) & table.bounding(Limit::Connections);
        (set != 0).then(|| QuotaReservation::open_connection(&self.owner(&table, requester, set, now)))
    }

    /// Recounts what an owner holds under the rules in force.
    fn recount(&self, live: &LiveOwner, now: Moment) {
        let Some(owner) = live.owner.upgrade() else { return };
        let table = self.table();
        let requester = Requester { identity: live.identity.as_deref(), address: live.address };
        let tenants = TenantIds::of(requester);
        let set = table.concerning_lists(table.candidates(requester, &tenants), &live.topic_lists);
        owner.set_accounts(self.accounts(&table, &tenants, set, now));
    }

    /// Adds a publication of `requester` to `tally`.
    pub fn add(&self, tally: &mut PublishTotals, requester: Requester<'_>, wanted: PublishRequest<'_>) {
        let (table, candidates) = tally.rules.get_or_insert_with(|| {
            let table = self.table();
            let candidates = table.candidates(requester, &TenantIds::of(requester));
            (table, candidates)
        });
        if *candidates == 0 {
            return;
        }
        let set = table.concerning(*candidates, wanted.topic);
        match tally.sets.last_mut() {
            Some((last, end)) if *last == set => *end += 1,
            last => {
                let before = last.map_or(0, |(_, end)| *end);
                tally.sets.push((set, before + 1));
            }
        }
        tally.counts.resize(table.rules.len(), (0, 0));
        for rule in members(set) {
            let (events, bytes) = &mut tally.counts[rule];
            if table.decides(rule, set, Limit::PublishPerSecond) {
                *events += 1;
            }
            if table.decides(rule, set, Limit::BytesPerSecond) {
                *bytes += wanted.bytes as u64;
            }
        }
    }

    /// Charges the publications in `tally` to the quotas of `requester`: all, or none if one is refused. Returns the owner of each
    /// event, in order; `None` if no share is bounded.
    pub fn admit(
        &self,
        requester: Requester<'_>,
        tally: &PublishTotals,
        now: Moment,
    ) -> Result<Option<Owners>, QuotaRefused> {
        let Some((table, candidates)) = tally.rules.as_ref().filter(|(_, candidates)| *candidates != 0) else {
            return Ok(None);
        };
        let tenants = TenantIds::of(requester);
        let costs = table.costs(&tally.counts);
        for (tenant, of_addresses) in [(&tenants.primary, false), (&tenants.address, true)] {
            let is_its = |cost: &&Cost| table.is_of_addresses(cost.rule) == of_addresses;
            let costs: Vec<Cost> = costs.iter().filter(is_its).copied().collect();
            if let Some(tenant) = tenant.as_ref().filter(|_| !costs.is_empty()) {
                self.tenants
                    .spend(tenant, &costs, now)
                    .map_err(|(rule, limit, wait)| refuse(table, rule, limit, wait))?;
            }
        }
        if candidates & table.holding() == 0 {
            return Ok(None);
        }
        let owner_of = |(set, end): &(RuleSet, usize)| (self.owner(table, requester, *set, now), *end);
        Ok(Some(tally.sets.iter().map(owner_of).collect()))
    }

    /// The owner of a topic that `requester` creates by subscribing; `None` if no share is bounded.
    pub(crate) fn topic_owner(&self, requester: Requester<'_>, topic: &Topic, now: Moment) -> Option<Arc<Owner>> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.concerning(table.candidates(requester, &tenants), topic);
        (set & table.holding() != 0).then(|| self.owner(&table, requester, set, now))
    }

    /// The owner of bytes that `requester` has sent and that belong to no topic yet, such as half a request; `None` if no share is
    /// bounded. Rules that name topics do not apply.
    pub fn sender(&self, requester: Requester<'_>, now: Moment) -> Option<Arc<Owner>> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.of_all_topics(table.candidates(requester, &tenants));
        (set & table.bounding(Limit::BytesHeld) != 0).then(|| self.owner(&table, requester, set, now))
    }

    /// Counts one more open stream of `requester`, released on drop. `None` if no rule bounds its streams.
    pub fn open(&self, requester: Requester<'_>, now: Moment) -> Result<Option<QuotaReservation>, QuotaRefused> {
        let mut reservation = None;
        self.reopen(requester, &mut reservation, now)?;
        Ok(reservation)
    }

    /// Transfers the open stream of `reservation` to `requester`: a client may authenticate after it has opened the stream. If
    /// `requester` may have no more streams, `reservation` does not change.
    pub fn reopen(
        &self,
        requester: Requester<'_>,
        reservation: &mut Option<QuotaReservation>,
        now: Moment,
    ) -> Result<(), QuotaRefused> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.candidates(requester, &tenants) & table.bounding(Limit::Connections);
        if set == 0 {
            *reservation = None;
            return Ok(());
        }
        let owner = self.owner(&table, requester, set, now);
        let held = match reservation {
            Some(reservation) => reservation.transfer_to(&owner),
            None => QuotaReservation::connection(&owner).map(|taken| *reservation = Some(taken)),
        };
        held.inspect_err(|refused| self.count(*refused))
    }

    /// Counts a refusal by the bus when a share was used up.
    pub fn count(&self, refused: QuotaRefused) {
        if let Some(rule) = self.table().rules.iter().find(|rule| rule.name == refused.rule) {
            rule.count(refused.limit);
        }
    }

    /// The number of refusals of each rule in force, by name and limit.
    pub fn refusals(&self) -> Vec<(&'static str, Limit, u64)> {
        let table = self.table();
        let of_rule = |rule: &table::Rule| Limit::ALL.map(|limit| (rule.name, limit, rule.refusals(limit)));
        table.rules.iter().flat_map(of_rule).collect()
    }

    /// The number of remembered tenants.
    pub(crate) fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    fn table(&self) -> Arc<RuleTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The owner for what the rules `set` of `table` apply to. Events of one tenant share an owner.
    fn owner(&self, table: &RuleTable, requester: Requester<'_>, set: RuleSet, now: Moment) -> Arc<Owner> {
        let tenants = TenantIds::of(requester);
        let keeper = tenants.primary.as_ref().or(tenants.address.as_ref());
        let key = (table.generation, set, tenants.address.clone().filter(|_| table.has_addresses(set)));
        if let Some(owner) = keeper.and_then(|keeper| self.tenants.kept_owner(keeper, &key)) {
            return owner;
        }
        let owner = Arc::new(Owner::new(self.accounts(table, &tenants, set, now)));
        if let Some(keeper) = keeper {
            let live = LiveOwner::new(&owner, requester, table.topic_lists(set));
            self.tenants.keep_owner(keeper, key, &owner, live.clone(), now);
            // The rules may have been replaced meanwhile, before the owner could be found there.
            if self.generation() != table.generation {
                self.recount(&live, now);
            }
        }
        owner
    }

    /// The accounts of those rules `set` of `table` that bound what is held.
    fn accounts(&self, table: &RuleTable, tenants: &TenantIds, set: RuleSet, now: Moment) -> Vec<Arc<Account>> {
        let has_say = |rule: usize| {
            let limits = [Limit::BytesHeld, Limit::TopicsHeld, Limit::Connections];
            limits.into_iter().any(|limit| table.decides(rule, set, limit))
        };
        let account = |index: usize| {
            let tenant = if table.is_of_addresses(index) { &tenants.address } else { &tenants.primary };
            let rule = &table.rules[index];
            // By the rules in force, whatever `table` is by now: a reload changes only the accounts that it finds.
            let make = || Account::new(rule.name, held_limits(&self.table(), rule.id));
            tenant.as_ref().map(|tenant| self.tenants.account(tenant, rule.id, now, make))
        };
        members(set).filter(|rule| has_say(*rule)).filter_map(account).collect()
    }
}

/// The limits on what is held under the rule `id` of `table`; none if the rule is not there.
fn held_limits(table: &RuleTable, id: RuleId) -> HeldLimits {
    let most = |limit| table.limit_of(id, limit).unwrap_or(usize::MAX);
    let [bytes, topics, connections] = [Limit::BytesHeld, Limit::TopicsHeld, Limit::Connections].map(most);
    HeldLimits { bytes, topics, connections }
}

/// Counts and returns a refusal by the rule at the index `rule` of `table`.
fn refuse(table: &RuleTable, rule: usize, limit: Limit, wait: Duration) -> QuotaRefused {
    let rule = &table.rules[rule];
    rule.count(limit);
    let retry_after_s = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    QuotaRefused { rule: rule.name, limit, retry_after_s }
}

/// The tenants that a requester counts as.
struct TenantIds {
    /// By identity, else by address. `None` if it stands for many clients.
    primary: Option<TenantId>,
    /// By address, whatever its identity: for rules about addresses.
    address: Option<TenantId>,
}

impl TenantIds {
    fn of(requester: Requester<'_>) -> Self {
        let address = requester.address.map(client_network).map(TenantId::Address);
        let primary = match requester.identity.filter(|identity| !identity.is_guest) {
            Some(identity) if identity.is_api_key => Some(TenantId::ApiKey(identity.subject.clone())),
            Some(identity) => Some(TenantId::Subject(identity.subject.clone())),
            None if requester.address.is_some_and(|address| address.to_canonical().is_loopback()) => None,
            None => address.clone(),
        };
        Self { primary, address }
    }
}

/// Identifies a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TenantId {
    /// The tokens of one subject.
    Subject(Box<str>),
    /// An API key, by its name.
    ApiKey(Box<str>),
    /// An address, or for IPv6 the network that one customer has.
    Address(IpAddr),
    /// All tenants for which the table had no room.
    Others,
}

#[cfg(test)]
mod tests;
