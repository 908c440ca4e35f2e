//! Shares: what one tenant (a subject, an API key, an address) holds of the hub, against what a quota lets it hold.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::budget::Pressure;

/// What a quota bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Publications a second.
    PublishPerSecond,
    /// Bytes of payload a second.
    BytesPerSecond,
    /// Bytes of events and topics held.
    BytesHeld,
    /// Topics held.
    TopicsHeld,
    /// Open streams.
    Connections,
}

impl Limit {
    /// All of them, by index.
    pub const ALL: [Self; 5] =
        [Self::PublishPerSecond, Self::BytesPerSecond, Self::BytesHeld, Self::TopicsHeld, Self::Connections];

    /// Its key in a `[[quota]]` table, and its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::PublishPerSecond => "publish_per_second",
            Self::BytesPerSecond => "bytes_per_second",
            Self::BytesHeld => "bytes_held",
            Self::TopicsHeld => "topics_held",
            Self::Connections => "connections",
        }
    }
}

/// A refusal: whose rule, which of its limits, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaRefused {
    /// The rule's name. Rules last as long as the process.
    pub rule: &'static str,
    /// The limit that is reached.
    pub limit: Limit,
    /// In so many seconds there may be room again, at least one.
    pub retry_after_s: u32,
}

impl fmt::Display for QuotaRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, limit, retry_after_s } = self;
        write!(f, "quota `{rule}`: {} is used up; try again in {retry_after_s} s", limit.name())
    }
}

/// When to try again where nothing tells when something will be let go.
const HELD_RETRY_S: u32 = 2;

/// The most that a tenant may hold under one rule. `usize::MAX`: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLimits {
    /// Bytes of events and topics.
    pub bytes: usize,
    /// Topics.
    pub topics: usize,
    /// Open streams.
    pub connections: usize,
}

/// What a tenant holds under one rule. The limits may change meanwhile; what is held then stays.
#[derive(Debug)]
pub struct Account {
    /// The rule's name.
    pub rule: &'static str,
    bytes: Bounded,
    topics: Bounded,
    connections: Bounded,
}

/// A count, and its limit.
#[derive(Debug)]
struct Bounded {
    held: AtomicUsize,
    most: AtomicUsize,
}

impl Bounded {
    fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most: AtomicUsize::new(most) }
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn add(&self, count: usize) {
        self.held.fetch_add(count, Ordering::Relaxed);
    }

    fn subtract(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::Relaxed);
    }

    /// Adds `count` in any case, and says whether there was room for it.
    fn add_and_check(&self, count: usize) -> bool {
        let before = self.held.fetch_add(count, Ordering::Relaxed);
        count <= self.most().saturating_sub(before)
    }
}

impl Account {
    /// Nothing is held yet, under `rule`.
    pub fn new(rule: &'static str, limits: HeldLimits) -> Self {
        let [bytes, topics, connections] = [limits.bytes, limits.topics, limits.connections].map(Bounded::new);
        Self { rule, bytes, topics, connections }
    }

    /// From now on no more may be held than `limits` say. What is held already stays, also if that is more.
    pub fn set_limits(&self, limits: HeldLimits) {
        let HeldLimits { bytes, topics, connections } = limits;
        for (bounded, most) in [(&self.bytes, bytes), (&self.topics, topics), (&self.connections, connections)] {
            bounded.most.store(most, Ordering::Relaxed);
        }
    }

    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.held()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        [&self.bytes, &self.topics, &self.connections].iter().all(|bounded| bounded.held() == 0)
    }

    fn refuse(&self, limit: Limit) -> QuotaRefused {
        QuotaRefused { rule: self.rule, limit, retry_after_s: HELD_RETRY_S }
    }
}

/// For whom something is held: its accounts under all rules that concern it.
#[derive(Clone, Debug, Default)]
pub struct Owner(Box<[Arc<Account>]>);

impl Owner {
    /// With these accounts.
    pub fn new(accounts: impl IntoIterator<Item = Arc<Account>>) -> Self {
        Self(accounts.into_iter().collect())
    }

    /// Its accounts.
    pub fn accounts(&self) -> &[Arc<Account>] {
        &self.0
    }

    /// Takes `bytes` of each account, or of none, and says whose rule forbids it.
    pub fn try_take_bytes(&self, bytes: usize) -> Result<(), QuotaRefused> {
        self.try_take(bytes, Limit::BytesHeld, |account| &account.bytes)
    }

    /// Takes `bytes` in any case.
    pub fn take_bytes(&self, bytes: usize) {
        self.0.iter().for_each(|account| account.bytes.add(bytes));
    }

    /// Gives `bytes` back.
    pub fn return_bytes(&self, bytes: usize) {
        self.0.iter().for_each(|account| account.bytes.subtract(bytes));
    }

    /// How far its tightest account is used up.
    pub fn pressure(&self) -> Pressure {
        let of_account = |account: &Arc<Account>| Pressure { used: account.bytes.held(), limit: account.bytes.most() };
        self.0.iter().map(of_account).reduce(Pressure::or_tighter).unwrap_or_default()
    }

    fn try_take(&self, count: usize, limit: Limit, of: BoundedOf) -> Result<(), QuotaRefused> {
        for (index, account) in self.0.iter().enumerate() {
            if !of(account).add_and_check(count) {
                self.0[..=index].iter().for_each(|taken| of(taken).subtract(count));
                return Err(account.refuse(limit));
            }
        }
        Ok(())
    }
}

/// Which count of an account.
type BoundedOf = fn(&Account) -> &Bounded;

/// For whom each of many events is held, in order. What is held for the same in a row takes one entry.
#[derive(Clone, Debug)]
pub struct Owners(Vec<(Arc<Owner>, usize)>);

impl Owners {
    /// For whom the event of this index is held; `None`: there are not so many.
    pub fn of(&self, index: usize) -> Option<&Arc<Owner>> {
        let run = self.0.partition_point(|(_, end)| *end <= index);
        self.0.get(run).map(|(owner, _)| owner)
    }

    /// The memory it takes, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(Arc<Owner>, usize)>()
    }
}

impl FromIterator<(Arc<Owner>, usize)> for Owners {
    /// Of owners, each with the index behind the last event that is held for it.
    fn from_iter<I: IntoIterator<Item = (Arc<Owner>, usize)>>(runs: I) -> Self {
        Self(runs.into_iter().collect())
    }
}

/// A topic or a stream that an owner holds, given back when it is dropped.
#[derive(Debug)]
pub struct Hold {
    owner: Arc<Owner>,
    limit: Limit,
    of: BoundedOf,
}

impl Hold {
    /// One more topic.
    pub fn topic(owner: &Arc<Owner>) -> Result<Self, QuotaRefused> {
        Self::take(owner, Limit::TopicsHeld, |account| &account.topics)
    }

    /// One more open stream.
    pub fn connection(owner: &Arc<Owner>) -> Result<Self, QuotaRefused> {
        Self::take(owner, Limit::Connections, |account| &account.connections)
    }

    fn take(owner: &Arc<Owner>, limit: Limit, of: BoundedOf) -> Result<Self, QuotaRefused> {
        owner.try_take(1, limit, of)?;
        Ok(Self { owner: Arc::clone(owner), limit, of })
    }

    /// The same is held by `owner` from now on, if that may hold it; else by whom it was. An account of both counts it once, also
    /// meanwhile.
    pub fn pass_to(&mut self, owner: &Arc<Owner>) -> Result<(), QuotaRefused> {
        let accounts_beside = |of: &Owner, other: &Owner| {
            let is_other = |account: &&Arc<Account>| !other.0.iter().any(|known| Arc::ptr_eq(known, account));
            Owner::new(of.0.iter().filter(is_other).cloned())
        };
        accounts_beside(owner, &self.owner).try_take(1, self.limit, self.of)?;
        let left = accounts_beside(&self.owner, owner);
        left.0.iter().for_each(|account| (self.of)(account).subtract(1));
        self.owner = Arc::clone(owner);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.owner.0.iter().for_each(|account| (self.of)(account).subtract(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_account_decides_and_nothing_is_left_behind() {
        let account =
            |rule, bytes, topics, connections| Arc::new(Account::new(rule, HeldLimits { bytes, topics, connections }));
        let wide = account("wide", 1000, 2, usize::MAX);
        let narrow = account("narrow", 100, usize::MAX, 1);
        let owner = Arc::new(Owner::new([Arc::clone(&wide), Arc::clone(&narrow)]));
        assert_eq!(owner.try_take_bytes(100), Ok(()));
        assert_eq!(owner.try_take_bytes(1).map_err(|refused| refused.rule), Err("narrow"));
        assert_eq!((wide.bytes(), narrow.bytes()), (100, 100));
        assert_eq!((owner.pressure().used, owner.pressure().limit), (100, 100));
        let topics = [Hold::topic(&owner), Hold::topic(&owner)].map(|hold| hold.expect("two are allowed"));
        let refused = Hold::topic(&owner).expect_err("a third is not");
        assert_eq!((refused.rule, refused.limit), ("wide", Limit::TopicsHeld));
        let stream = Hold::connection(&owner).expect("one is allowed");
        assert_eq!(
            Hold::connection(&owner).expect_err("a second is not").to_string(),
            "quota `narrow`: connections is used up; try again in 2 s"
        );
        drop((topics, stream));
        owner.return_bytes(100);
        assert!(wide.is_empty() && narrow.is_empty());
    }

    #[test]
    fn a_hold_goes_to_another_owner_or_stays() {
        let most = |connections| HeldLimits { bytes: usize::MAX, topics: usize::MAX, connections };
        let account = |rule| Arc::new(Account::new(rule, most(1)));
        let [shared, first, second] = ["shared", "first", "second"].map(account);
        let owner = |accounts: &[&Arc<Account>]| Arc::new(Owner::new(accounts.iter().map(|it| Arc::clone(it))));
        let (before, after) = (owner(&[&shared, &first]), owner(&[&shared, &second]));
        let mut hold = Hold::connection(&before).expect("one is allowed");
        assert_eq!(hold.pass_to(&after), Ok(()), "the shared account counts it once");
        assert!(first.is_empty() && !second.is_empty() && !shared.is_empty());
        let other = Hold::connection(&owner(&[&first])).expect("it is free again");
        assert_eq!(hold.pass_to(&before).map_err(|refused| refused.rule), Err("first"));
        assert!(!second.is_empty() && !shared.is_empty(), "it stays where it was");
        drop((hold, other));
        assert!([shared, first, second].iter().all(|account| account.is_empty()));
    }
}
