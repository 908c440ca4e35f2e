//! Quotas: how much of the hub one tenant may have. A tenant is a subject, an API key, or the address of whoever does not say
//! who it is. Pure: who asks, for what, and the moment come in, and decisions go out.
//!
//! Without any rule each tenant has the default share. Of several rules that bound the same thing the tightest decides, and the
//! default speaks only where none does. Whoever connects from this machine without saying who it is, and proxies that do not
//! name their clients, connect for many: they are no tenants, and only rules that name their address concern them.

//!
//! The rules may change while the hub runs ([`Quotas::replace`]). What a tenant has used goes with a rule's name, or with what
//! the rule is if only its name is another; what it holds is counted anew by the rules that concern it now.

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
    share::{Account, HeldLimits, Hold, Limit, Owner, Owners, QuotaRefused},
    topic::Topic,
};

/// What quotas are told by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaConfig {
    /// By [`Limit`], what each tenant may have that no rule says more of; 0: any number.
    pub default_limits: [usize; Limit::ALL.len()],
    /// Of the memory budget, in percent, the most that one tenant's events and topics hold where no rule says. 100: all of it.
    pub share_percent: usize,
    /// Tenants remembered at a time. More share what one may have.
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
    /// Nobody is bounded by anything.
    pub fn unlimited() -> Self {
        Self { default_limits: [0; Limit::ALL.len()], share_percent: 100, ..Self::default() }
    }
}

/// Whoever asks for something.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// Who it says it is.
    pub identity: Option<&'a Identity>,
    /// Its address, unless that is a trusted proxy's.
    pub address: Option<IpAddr>,
}

/// A publication that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    /// Where to.
    pub topic: &'a Topic,
    pub bytes: usize,
}

/// What publications that are asked for together take of their requester's quotas.
#[derive(Debug, Default)]
pub struct PublishTotals {
    /// The rules, and which of them concern the requester; `None` before the first publication. A batch that takes several turns is
    /// counted by the rules that it began with.
    rules: Option<(Arc<RuleTable>, RuleSet)>,
    /// Those that concern each publication: one entry for all in a row that the same concern, and how many came up to its end.
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

/// All quotas of a hub, and what each tenant has used of them.
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

    /// Nobody is bounded by anything.
    pub fn unlimited() -> Self {
        Self::new(&QuotaConfig::unlimited(), usize::MAX)
    }

    /// The rules are those of `config` from now on. A rule is the same as before if it has the same name, or else if it concerns
    /// the same clients and topics as one that is gone: what its tenants have used stays, and drains at the new rate. What tenants
    /// hold is counted by all rules that concern it now; whoever holds more than a new limit is refused more and loses nothing.
    ///
    /// Two things begin with nothing: a rule with topics that no rule has had, since nobody knows in which topics what is held
    /// was published; and what was taken while no rule bounded the like (open streams are counted again by the reactors, see
    /// [`Quotas::generation`]). The budget stays as it was.
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

    /// How often the rules were replaced. Who has streams open that nothing bounded claims them again when it changes
    /// ([`Quotas::claim`]).
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A stream of `requester` is open already: counts it, also if that is more than `requester` may have. `None`: nothing bounds how
    /// many it may have.
    pub fn claim(&self, requester: Requester<'_>, now: Moment) -> Option<Hold> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.candidates(requester, &tenants) & table.bounding(Limit::Connections);
        (set != 0).then(|| Hold::open_connection(&self.owner(&table, requester, set, now)))
    }

    /// What an owner holds is counted by the rules in force.
    fn recount(&self, live: &LiveOwner, now: Moment) {
        let Some(owner) = live.owner.upgrade() else { return };
        let table = self.table();
        let requester = Requester { identity: live.identity.as_deref(), address: live.address };
        let tenants = TenantIds::of(requester);
        let set = table.concerning_lists(table.candidates(requester, &tenants), &live.topic_lists);
        owner.set_accounts(self.accounts(&table, &tenants, set, now));
    }

    /// Adds one more publication of `requester` to those that are asked for.
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

    /// Takes what `requester` wants to publish from its quotas, all of it or, if it is refused, nothing. Returns for whom each event
    /// is held, in order; `None` for all of them if nobody's share is bounded.
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

    /// For whom a topic is held that `requester` begins by listening to it; `None`: nobody's share is bounded.
    pub(crate) fn topic_owner(&self, requester: Requester<'_>, topic: &Topic, now: Moment) -> Option<Arc<Owner>> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.concerning(table.candidates(requester, &tenants), topic);
        (set & table.holding() != 0).then(|| self.owner(&table, requester, set, now))
    }

    /// For whom bytes are held that `requester` has sent and that belong to no topic yet, such as half a request; `None`: nobody's
    /// share is bounded. Rules that name topics have no say.
    pub fn sender(&self, requester: Requester<'_>, now: Moment) -> Option<Arc<Owner>> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.of_all_topics(table.candidates(requester, &tenants));
        (set & table.bounding(Limit::BytesHeld) != 0).then(|| self.owner(&table, requester, set, now))
    }

    /// One more open stream of `requester`; `None`: nothing bounds how many it may have. It is given back when it is dropped.
    pub fn open(&self, requester: Requester<'_>, now: Moment) -> Result<Option<Hold>, QuotaRefused> {
        let mut hold = None;
        self.reopen(requester, &mut hold, now)?;
        Ok(hold)
    }

    /// The open stream that `hold` is counted by is `requester`'s from now on: a client may say who it is after it has opened the
    /// stream. If `requester` may have no more, `hold` stays as it is.
    pub fn reopen(&self, requester: Requester<'_>, hold: &mut Option<Hold>, now: Moment) -> Result<(), QuotaRefused> {
        let (table, tenants) = (self.table(), TenantIds::of(requester));
        let set = table.candidates(requester, &tenants) & table.bounding(Limit::Connections);
        if set == 0 {
            *hold = None;
            return Ok(());
        }
        let owner = self.owner(&table, requester, set, now);
        let held = match hold {
            Some(hold) => hold.pass_to(&owner),
            None => Hold::connection(&owner).map(|taken| *hold = Some(taken)),
        };
        held.inspect_err(|refused| self.count(*refused))
    }

    /// Counts a refusal that was found by somebody else: the bus, when a share was used up.
    pub fn count(&self, refused: QuotaRefused) {
        if let Some(rule) = self.table().rules.iter().find(|rule| rule.name == refused.rule) {
            rule.count(refused.limit);
        }
    }

    /// How often each rule in force has refused, by its name and limit.
    pub fn refusals(&self) -> Vec<(&'static str, Limit, u64)> {
        let table = self.table();
        let of_rule = |rule: &table::Rule| Limit::ALL.map(|limit| (rule.name, limit, rule.refusals(limit)));
        table.rules.iter().flat_map(of_rule).collect()
    }

    /// How many tenants are remembered.
    pub(crate) fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    fn table(&self) -> Arc<RuleTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For whom something is held that the rules `set` of `table` concern. Events of one tenant share one.
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

    /// The accounts of those of the rules `set` of `table` that have a say in what is held.
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

/// The most that may be held under the rule `id` of `table`: any number if it is not there.
fn held_limits(table: &RuleTable, id: RuleId) -> HeldLimits {
    let most = |limit| table.limit_of(id, limit).unwrap_or(usize::MAX);
    let [bytes, topics, connections] = [Limit::BytesHeld, Limit::TopicsHeld, Limit::Connections].map(most);
    HeldLimits { bytes, topics, connections }
}

/// A refusal by the rule at the index `rule` of `table`, counted.
fn refuse(table: &RuleTable, rule: usize, limit: Limit, wait: Duration) -> QuotaRefused {
    let rule = &table.rules[rule];
    rule.count(limit);
    let retry_after_s = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    QuotaRefused { rule: rule.name, limit, retry_after_s }
}

/// The tenants that an requester is.
struct TenantIds {
    /// By what it says it is, or else by its address. Nobody if it connects for many.
    primary: Option<TenantId>,
    /// By its address, whatever it says: for rules that concern addresses.
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

/// Who is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TenantId {
    /// The tokens of one subject.
    Subject(Box<str>),
    /// An API key, by its name.
    ApiKey(Box<str>),
    /// An address, or for IPv6 the network that one customer has.
    Address(IpAddr),
    /// All for whom there was no room in the table.
    Others,
}

#[cfg(test)]
mod tests;
