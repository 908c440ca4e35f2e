//! Quotas: how much of the hub one tenant may have. A tenant is a subject, an API key, or the address of whoever does not say
//! who it is. Pure: who asks, for what, and the moment come in, and decisions go out.
//!
//! Without any rule each tenant has the default share. Of several rules that bound the same thing the tightest decides, and the
//! default speaks only where none does. Whoever connects from this machine without saying who it is, and proxies that do not
//! name their clients, connect for many: they are no tenants, and only rules that name their address concern them.

mod rules;
mod tenants;

use core::net::IpAddr;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use rules::{QuotaRule, Who};
use tenants::Tenants;

use super::Identity;
use crate::{
    bucket,
    clock::Moment,
    share::{Account, Hold, Limit, Owner, QuotaRefused},
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
    /// The rules.
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

/// The name of the default, in refusals and metrics.
const DEFAULT_RULE: &str = "default";

/// Whoever asks for something.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Who it says it is.
    pub identity: Option<&'a Identity>,
    /// Its address, unless that is a trusted proxy's.
    pub address: Option<IpAddr>,
}

/// A publication that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where to.
    pub topic: &'a Topic,
    /// Its payload.
    pub bytes: usize,
}

/// What publications that are asked for together take of their asker's quotas.
#[derive(Debug, Default)]
pub struct Tally {
    /// The rules that concern the asker; `None` before the first publication.
    candidates: Option<RuleSet>,
    /// Those that concern each publication.
    sets: Vec<RuleSet>,
    /// Events and bytes under each rule.
    counts: Vec<(u64, u64)>,
}

impl Tally {
    /// The memory it takes, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.sets.capacity() * size_of::<RuleSet>()
    }
}

/// All quotas of a hub, and what each tenant has used of them.
#[derive(Debug)]
pub struct Quotas {
    /// The default first.
    rules: Vec<Rule>,
    /// By [`Limit`], the rules that bound it.
    bounding: [RuleSet; Limit::ALL.len()],
    /// Rules that concern addresses, whoever is there.
    of_addresses: RuleSet,
    tenants: Tenants,
    refusals: Vec<[AtomicU64; Limit::ALL.len()]>,
}

/// A rule in use.
#[derive(Debug)]
pub(super) struct Rule {
    /// Made once and kept for good: it stands in every refusal.
    name: &'static str,
    rule: QuotaRule,
}

/// Rules, one bit each, by index.
pub(super) type RuleSet = u64;

fn members(set: RuleSet) -> impl Iterator<Item = usize> {
    (0..RuleSet::BITS as usize).filter(move |rule| set >> rule & 1 == 1)
}

impl Quotas {
    /// With the rules of `config`, over a memory budget of `budget_bytes`.
    pub fn new(config: &QuotaConfig, budget_bytes: usize) -> Self {
        let mut limits = config.default_limits;
        if config.share_percent < 100 {
            let share = budget_bytes as u128 * config.share_percent as u128 / 100;
            limits[Limit::BytesHeld as usize] = usize::try_from(share).unwrap_or(usize::MAX).max(1);
        }
        let default = QuotaRule { name: DEFAULT_RULE.to_owned(), limits, ..QuotaRule::default() };
        let listed = config.rules.iter().take(QuotaRule::COUNT_MAX).cloned();
        let keep = |rule: QuotaRule| Rule { name: Box::leak(rule.name.clone().into_boxed_str()), rule };
        let rules: Vec<Rule> = std::iter::once(default).chain(listed).map(keep).collect();
        let which = |holds: &dyn Fn(&QuotaRule) -> bool| {
            let bits = rules.iter().enumerate().filter(|(_, it)| holds(&it.rule)).map(|(index, _)| 1 << index);
            bits.fold(0, |set: RuleSet, bit: RuleSet| set | bit)
        };
        let bounding = Limit::ALL.map(|limit| which(&|rule| rule.limit(limit).is_some()));
        let of_addresses = which(&|rule| matches!(rule.who, Who::Address(_)));
        let refusals = rules.iter().map(|_| Default::default()).collect();
        Self { bounding, of_addresses, tenants: Tenants::new(config.tenants_max), refusals, rules }
    }

    /// Nobody is bounded by anything.
    pub fn unlimited() -> Self {
        Self::new(&QuotaConfig::unlimited(), usize::MAX)
    }

    /// Adds one more publication of `asker` to those that are asked for.
    pub fn add(&self, tally: &mut Tally, asker: Asker<'_>, wanted: Wanted<'_>) {
        let candidates = *tally.candidates.get_or_insert_with(|| self.candidates(asker, &TenantIds::of(asker)));
        if candidates == 0 {
            return;
        }
        let set = self.concerning(candidates, wanted.topic);
        tally.sets.push(set);
        tally.counts.resize(self.rules.len(), (0, 0));
        for rule in members(set) {
            let (events, bytes) = &mut tally.counts[rule];
            if self.decides(rule, set, Limit::PublishPerSecond) {
                *events += 1;
            }
            if self.decides(rule, set, Limit::BytesPerSecond) {
                *bytes += wanted.bytes as u64;
            }
        }
    }

    /// Takes what `asker` wants to publish from its quotas, all of it or, if it is refused, nothing. Returns for whom each event
    /// is held, in order; `None` for all of them if nobody's share is bounded.
    pub fn admit(&self, asker: Asker<'_>, tally: &Tally, now: Moment) -> Result<Option<Vec<Arc<Owner>>>, QuotaRefused> {
        let Some(candidates) = tally.candidates.filter(|candidates| *candidates != 0) else { return Ok(None) };
        let tenants = TenantIds::of(asker);
        let costs = self.costs(&tally.counts);
        for (tenant, of_addresses) in [(&tenants.primary, false), (&tenants.address, true)] {
            let is_its = |cost: &&Cost| self.is_of_addresses(cost.rule) == of_addresses;
            let costs: Vec<Cost> = costs.iter().filter(is_its).copied().collect();
            if let Some(tenant) = tenant.as_ref().filter(|_| !costs.is_empty()) {
                self.tenants
                    .spend(tenant, &costs, now)
                    .map_err(|(rule, limit, wait)| self.refuse(rule, limit, wait))?;
            }
        }
        if candidates & self.holding() == 0 {
            return Ok(None);
        }
        let mut last: Option<(RuleSet, Arc<Owner>)> = None;
        let owner_of = |set: RuleSet| match &last {
            Some((known, owner)) if *known == set => Arc::clone(owner),
            _ => {
                let owner = self.owner(&tenants, set, now);
                last = Some((set, Arc::clone(&owner)));
                owner
            }
        };
        Ok(Some(tally.sets.iter().copied().map(owner_of).collect()))
    }

    /// For whom a topic is held that `asker` begins by listening to it; `None`: nobody's share is bounded.
    pub fn topic_owner(&self, asker: Asker<'_>, topic: &Topic, now: Moment) -> Option<Arc<Owner>> {
        let tenants = TenantIds::of(asker);
        let set = self.concerning(self.candidates(asker, &tenants), topic);
        (set & self.holding() != 0).then(|| self.owner(&tenants, set, now))
    }

    /// One more open stream of `asker`; `None`: nothing bounds how many it may have. It is given back when it is dropped.
    pub fn open(&self, asker: Asker<'_>, now: Moment) -> Result<Option<Hold>, QuotaRefused> {
        let tenants = TenantIds::of(asker);
        let set = self.candidates(asker, &tenants) & self.bounding[Limit::Connections as usize];
        if set == 0 {
            return Ok(None);
        }
        Hold::connection(&self.owner(&tenants, set, now)).map(Some).inspect_err(|refused| self.count(*refused))
    }

    /// Counts a refusal that was found by somebody else: the bus, when a share was used up.
    pub fn count(&self, refused: QuotaRefused) {
        if let Some(rule) = self.rules.iter().position(|rule| rule.name == refused.rule) {
            self.refusals[rule][refused.limit as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each rule has refused, by its name and limit.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, Limit, u64)> {
        self.rules.iter().zip(&self.refusals).flat_map(|(rule, counts)| {
            let counts = Limit::ALL.into_iter().zip(counts);
            counts.map(|(limit, count)| (rule.name, limit, count.load(Ordering::Relaxed)))
        })
    }

    /// How many tenants are remembered.
    pub fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    /// The rules that concern `asker` in some topic.
    fn candidates(&self, asker: Asker<'_>, tenants: &TenantIds) -> RuleSet {
        let concerns = |(index, rule): (usize, &Rule)| {
            let has_tenant = self.is_of_addresses(index) || tenants.primary.is_some();
            (has_tenant && rule.rule.who.concerns(asker.identity, asker.address)).then_some(1 << index)
        };
        self.rules.iter().enumerate().filter_map(concerns).fold(0, |set: RuleSet, bit: RuleSet| set | bit)
    }

    /// Those of `candidates` that concern `topic`.
    fn concerning(&self, candidates: RuleSet, topic: &Topic) -> RuleSet {
        let concerned = members(candidates).filter(|rule| self.rules[*rule].rule.concerns_topic(topic));
        concerned.fold(0, |set, rule| set | 1 << rule)
    }

    fn is_of_addresses(&self, rule: usize) -> bool {
        self.of_addresses >> rule & 1 == 1
    }

    /// The rules that bound what is held.
    fn holding(&self) -> RuleSet {
        self.bounding[Limit::BytesHeld as usize] | self.bounding[Limit::TopicsHeld as usize]
    }

    /// Whether, of the rules `set` that concern somebody, `rule` has a say in `limit`: the default has where no other does.
    fn decides(&self, rule: usize, set: RuleSet, limit: Limit) -> bool {
        let bounding = set & self.bounding[limit as usize];
        let listed = bounding & !1;
        (if listed == 0 { bounding } else { listed }) >> rule & 1 == 1
    }

    /// What so many events and bytes under each rule cost.
    fn costs(&self, counts: &[(u64, u64)]) -> Vec<Cost> {
        let taken = counts.iter().enumerate().filter(|(_, (events, bytes))| 0 < events + bytes);
        taken.map(|(rule, (events, bytes))| self.cost(rule, *events, *bytes)).collect()
    }

    fn cost(&self, rule: usize, events: u64, bytes: u64) -> Cost {
        let of = |limit, count: u64| {
            let most = self.rules[rule].rule.limit(limit);
            most.filter(|_| 0 < count).map_or(Duration::ZERO, |most| bucket::cost(count, most as u64))
        };
        Cost { rule, publishes: of(Limit::PublishPerSecond, events), bytes: of(Limit::BytesPerSecond, bytes) }
    }

    /// For whom something is held that the rules `set` concern. Events of one tenant share one.
    fn owner(&self, tenants: &TenantIds, set: RuleSet, now: Moment) -> Arc<Owner> {
        let is_shared = set & self.of_addresses != 0;
        let keeper = tenants.primary.as_ref().or(tenants.address.as_ref());
        let key = (set, tenants.address.clone().filter(|_| is_shared));
        if let Some(owner) = keeper.and_then(|keeper| self.tenants.kept_owner(keeper, &key)) {
            return owner;
        }
        let has_say = |rule: usize| {
            let limits = [Limit::BytesHeld, Limit::TopicsHeld, Limit::Connections];
            limits.into_iter().any(|limit| self.decides(rule, set, limit))
        };
        let account = |rule: usize| {
            let tenant = if self.is_of_addresses(rule) { &tenants.address } else { &tenants.primary };
            let make = || {
                let most = |limit| self.rules[rule].rule.limit(limit).unwrap_or(usize::MAX);
                let [bytes, topics] = [most(Limit::BytesHeld), most(Limit::TopicsHeld)];
                Account::new(self.rules[rule].name, bytes, topics, most(Limit::Connections))
            };
            tenant.as_ref().map(|tenant| self.tenants.account(tenant, rule, now, make))
        };
        let owner = Arc::new(Owner::new(members(set).filter(|rule| has_say(*rule)).filter_map(account)));
        if let Some(keeper) = keeper {
            self.tenants.keep_owner(keeper, key, &owner, now);
        }
        owner
    }

    fn refuse(&self, rule: usize, limit: Limit, wait: Duration) -> QuotaRefused {
        let retry_after_s = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        let refused = QuotaRefused { rule: self.rules[rule].name, limit, retry_after_s };
        self.count(refused);
        refused
    }
}

/// The tenants that an asker is.
struct TenantIds {
    /// By what it says it is, or else by its address. Nobody if it connects for many.
    primary: Option<TenantId>,
    /// By its address, whatever it says: for rules that concern addresses.
    address: Option<TenantId>,
}

impl TenantIds {
    fn of(asker: Asker<'_>) -> Self {
        let address = asker.address.map(network_of).map(TenantId::Address);
        let primary = match asker.identity.filter(|identity| !identity.is_guest) {
            Some(identity) if identity.is_api_key => Some(TenantId::ApiKey(identity.subject.clone())),
            Some(identity) => Some(TenantId::Subject(identity.subject.clone())),
            None if asker.address.is_some_and(|address| address.to_canonical().is_loopback()) => None,
            None => address.clone(),
        };
        Self { primary, address }
    }
}

/// What a request takes of a tenant's buckets under one rule, as the time they drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    rule: usize,
    publishes: Duration,
    bytes: Duration,
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

/// Whoever has one IPv6 address mostly has the 64 bits below as well.
fn network_of(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    if address.is_ipv4() { address } else { rules::masked(address, 64) }
}

#[cfg(test)]
mod tests;
