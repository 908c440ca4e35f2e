//! The rules in force at one time, and the tenants and topics that each applies to. A reload makes another table.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{QuotaConfig, QuotaRule, Requester, TenantIds, TenantSelector};
use crate::{
    bucket,
    share::Limit,
    topic::{Pattern, Topic},
};

/// The name of the default, in refusals and metrics.
const DEFAULT_RULE: &str = "default";

/// Rules, one bit each, by their index in one table.
pub(super) type RuleSet = u64;

/// The indices in `set`.
pub(super) fn members(set: RuleSet) -> impl Iterator<Item = usize> {
    (0..RuleSet::BITS as usize).filter(move |rule| set >> rule & 1 == 1)
}

/// A rule's name as a number. It is the same in all tables of a process, whatever the rule's index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleId(usize);

/// The names of all rules since the start, by [`RuleId`], with the refusals of each. A reload adds its new names, and none is
/// removed: refusals refer to names, and counters must not decrease.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownRules(Vec<(&'static str, Arc<Refusals>)>);

/// How often a rule has refused, by [`Limit`].
type Refusals = [AtomicU64; Limit::ALL.len()];

impl KnownRules {
    /// The rule named `name`. Adds it if it is new.
    fn rule(&mut self, name: &str) -> (RuleId, &'static str, Arc<Refusals>) {
        let index = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((Box::leak(Box::from(name)), Arc::default()));
            self.0.len() - 1
        });
        let (name, refusals) = &self.0[index];
        (RuleId(index), name, Arc::clone(refusals))
    }
}

/// A rule in force.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) name: &'static str,
    rule: QuotaRule,
    refusals: Arc<Refusals>,
}

impl Rule {
    /// Its value for `limit`, if it sets one.
    pub(super) fn limit(&self, limit: Limit) -> Option<usize> {
        self.rule.limit(limit)
    }

    /// Counts one more refusal.
    pub(super) fn count(&self, limit: Limit) {
        self.refusals[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has refused, since the process began.
    pub(super) fn refusals(&self, limit: Limit) -> u64 {
        self.refusals[limit as usize].load(Ordering::Relaxed)
    }
}

/// The rules in force, the default first.
#[derive(Debug)]
pub(super) struct RuleTable {
    /// The number of the table. A [`RuleSet`] is valid for one table only.
    pub(super) generation: u64,
    pub(super) rules: Vec<Rule>,
    pub(super) known: KnownRules,
    /// By [`Limit`], the rules that bound it.
    bounding: [RuleSet; Limit::ALL.len()],
    /// Rules that apply to addresses, whatever the client's identity.
    of_addresses: RuleSet,
}

/// The cost of a request in a tenant's buckets under one rule, as the time in which they drain it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// The rule's index in the table that made the cost.
    pub(super) rule: usize,
    pub(super) id: RuleId,
    pub(super) publishes: Duration,
    pub(super) bytes: Duration,
}

impl RuleTable {
    /// The rules of `config`, over a memory budget of `budget_bytes`.
    pub(super) fn new(config: &QuotaConfig, budget_bytes: usize, mut known: KnownRules, generation: u64) -> Self {
        let mut limits = config.default_limits;
        if config.share_percent < 100 {
            let share = budget_bytes as u128 * config.share_percent as u128 / 100;
            limits[Limit::BytesHeld as usize] = usize::try_from(share).unwrap_or(usize::MAX).max(1);
        }
        let default = QuotaRule { name: DEFAULT_RULE.to_owned(), limits, ..QuotaRule::default() };
        let listed = config.rules.iter().take(QuotaRule::COUNT_MAX).cloned();
        let keep = |rule: QuotaRule| {
            let (id, name, refusals) = known.rule(&rule.name);
            Rule { id, name, rule, refusals }
        };
        let rules: Vec<Rule> = std::iter::once(default).chain(listed).map(keep).collect();
        let which = |holds: &dyn Fn(&QuotaRule) -> bool| {
            let bits = rules.iter().enumerate().filter(|(_, it)| holds(&it.rule)).map(|(index, _)| 1 << index);
            bits.fold(0, |set: RuleSet, bit: RuleSet| set | bit)
        };
        let bounding = Limit::ALL.map(|limit| which(&|rule| rule.limit(limit).is_some()));
        let of_addresses = which(&|rule| matches!(rule.who, TenantSelector::Address(_)));
        Self { generation, rules, known, bounding, of_addresses }
    }

    /// The rule `id`, if it is in force.
    pub(super) fn find(&self, id: RuleId) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// What the rule `id` allows of `limit`; `None`: any number.
    pub(super) fn limit_of(&self, id: RuleId, limit: Limit) -> Option<usize> {
        self.find(id)?.limit(limit)
    }

    /// The rules that apply to `requester` in some topic.
    pub(super) fn candidates(&self, requester: Requester<'_>, tenants: &TenantIds) -> RuleSet {
        let concerns = |(index, rule): (usize, &Rule)| {
            let has_tenant = self.is_of_addresses(index) || tenants.primary.is_some();
            (has_tenant && rule.rule.who.concerns(requester.identity, requester.address)).then_some(1 << index)
        };
        self.rules.iter().enumerate().filter_map(concerns).fold(0, |set: RuleSet, bit: RuleSet| set | bit)
    }

    /// Those of `candidates` that apply to `topic`.
    pub(super) fn concerning(&self, candidates: RuleSet, topic: &Topic) -> RuleSet {
        let concerned = members(candidates).filter(|rule| self.rules[*rule].rule.concerns_topic(topic));
        concerned.fold(0, |set, rule| set | 1 << rule)
    }

    /// Those of `candidates` that apply to all topics.
    pub(super) fn of_all_topics(&self, candidates: RuleSet) -> RuleSet {
        let concerned = members(candidates).filter(|rule| self.rules[*rule].rule.topics.is_empty());
        concerned.fold(0, |set, rule| set | 1 << rule)
    }

    /// Those of `candidates` that apply to all topics, or to the same topics as one of `lists`.
    pub(super) fn concerning_lists(&self, candidates: RuleSet, lists: &[Box<[Pattern]>]) -> RuleSet {
        let is_known = |topics: &[Pattern]| topics.is_empty() || lists.iter().any(|list| **list == *topics);
        let concerned = members(candidates).filter(|rule| is_known(&self.rules[*rule].rule.topics));
        concerned.fold(0, |set, rule| set | 1 << rule)
    }

    /// The topics that the rules `set` name, a list for each rule that names some.
    pub(super) fn topic_lists(&self, set: RuleSet) -> Box<[Box<[Pattern]>]> {
        let lists =
            members(set).map(|rule| self.rules[rule].rule.topics.as_slice()).filter(|topics| !topics.is_empty());
        lists.map(Box::from).collect()
    }

    /// Rules of this table that are not in `next`, each with the rule there that differs only in its name.
    pub(super) fn renamed(&self, next: &Self) -> Vec<(RuleId, RuleId)> {
        let mut gone: Vec<&Rule> = self.rules.iter().filter(|rule| next.find(rule.id).is_none()).collect();
        let fresh = next.rules.iter().filter(|rule| self.find(rule.id).is_none());
        let former = |fresh: &Rule| {
            let is_it = |gone: &&Rule| gone.rule.who == fresh.rule.who && gone.rule.topics == fresh.rule.topics;
            let index = gone.iter().position(is_it)?;
            Some((gone.remove(index).id, fresh.id))
        };
        fresh.filter_map(former).collect()
    }

    pub(super) fn is_of_addresses(&self, rule: usize) -> bool {
        self.of_addresses >> rule & 1 == 1
    }

    /// Whether `set` has a rule for addresses.
    pub(super) fn has_addresses(&self, set: RuleSet) -> bool {
        set & self.of_addresses != 0
    }

    /// The rules that bound `limit`.
    pub(super) fn bounding(&self, limit: Limit) -> RuleSet {
        self.bounding[limit as usize]
    }

    /// The rules that bound what is held.
    pub(super) fn holding(&self) -> RuleSet {
        self.bounding(Limit::BytesHeld) | self.bounding(Limit::TopicsHeld)
    }

    /// Whether `rule` applies to `limit` for a tenant with the rules `set`: the default applies only where no other rule sets the
    /// limit.
    pub(super) fn decides(&self, rule: usize, set: RuleSet, limit: Limit) -> bool {
        let bounding = set & self.bounding(limit);
        let listed = bounding & !1;
        (if listed == 0 { bounding } else { listed }) >> rule & 1 == 1
    }

    /// The costs of these numbers of events and bytes, by rule.
    pub(super) fn costs(&self, counts: &[(u64, u64)]) -> Vec<Cost> {
        let taken = counts.iter().enumerate().filter(|(_, (events, bytes))| 0 < events + bytes);
        taken.map(|(rule, (events, bytes))| self.cost(rule, *events, *bytes)).collect()
    }

    fn cost(&self, rule: usize, events: u64, bytes: u64) -> Cost {
        let of = |limit, count: u64| {
            let most = self.rules[rule].limit(limit);
            most.filter(|_| 0 < count).map_or(Duration::ZERO, |most| bucket::cost(count, most as u64))
        };
        let (publishes, bytes) = (of(Limit::PublishPerSecond, events), of(Limit::BytesPerSecond, bytes));
        Cost { rule, id: self.rules[rule].id, publishes, bytes }
    }
}
