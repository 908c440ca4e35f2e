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

/// What a tenant holds under one rule.
#[derive(Debug)]
pub struct Account {
    /// The rule's name.
    pub rule: &'static str,
    /// The most bytes it may hold; `usize::MAX`: any number.
    pub bytes_max: usize,
    /// The most topics; the same.
    pub topics_max: usize,
    /// The most open streams; the same.
    pub connections_max: usize,
    bytes: AtomicUsize,
    topics: AtomicUsize,
    connections: AtomicUsize,
}

impl Account {
    /// Nothing is held yet, under `rule`.
    pub fn new(rule: &'static str, bytes_max: usize, topics_max: usize, connections_max: usize) -> Self {
        let [bytes, topics, connections] = Default::default();
        Self { rule, bytes_max, topics_max, connections_max, bytes, topics, connections }
    }

    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        let held = [&self.bytes, &self.topics, &self.connections];
        held.iter().all(|count| count.load(Ordering::Relaxed) == 0)
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
        self.try_take(bytes, Limit::BytesHeld, |account| (&account.bytes, account.bytes_max))
    }

    /// Takes `bytes` in any case.
    pub fn take_bytes(&self, bytes: usize) {
        for account in &self.0 {
            account.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Gives `bytes` back.
    pub fn return_bytes(&self, bytes: usize) {
        for account in &self.0 {
            account.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// How far its tightest account is used up.
    pub fn pressure(&self) -> Pressure {
        let of_account = |account: &Arc<Account>| Pressure { used: account.bytes(), limit: account.bytes_max };
        self.0.iter().map(of_account).reduce(Pressure::or_tighter).unwrap_or_default()
    }

    fn try_take(
        &self,
        count: usize,
        limit: Limit,
        of: fn(&Account) -> (&AtomicUsize, usize),
    ) -> Result<(), QuotaRefused> {
        for (index, account) in self.0.iter().enumerate() {
            let (held, most) = of(account);
            let before = held.fetch_add(count, Ordering::Relaxed);
            if most.saturating_sub(before) < count {
                for taken in &self.0[..=index] {
                    of(taken).0.fetch_sub(count, Ordering::Relaxed);
                }
                return Err(account.refuse(limit));
            }
        }
        Ok(())
    }
}

/// A topic or a stream that an owner holds, given back when it is dropped.
#[derive(Debug)]
pub struct Hold {
    owner: Arc<Owner>,
    of: fn(&Account) -> (&AtomicUsize, usize),
}

impl Hold {
    /// One more topic.
    pub fn topic(owner: &Arc<Owner>) -> Result<Self, QuotaRefused> {
        Self::take(owner, Limit::TopicsHeld, |account| (&account.topics, account.topics_max))
    }

    /// One more open stream.
    pub fn connection(owner: &Arc<Owner>) -> Result<Self, QuotaRefused> {
        Self::take(owner, Limit::Connections, |account| (&account.connections, account.connections_max))
    }

    fn take(owner: &Arc<Owner>, limit: Limit, of: fn(&Account) -> (&AtomicUsize, usize)) -> Result<Self, QuotaRefused> {
        owner.try_take(1, limit, of)?;
        Ok(Self { owner: Arc::clone(owner), of })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for account in &self.owner.0 {
            (self.of)(account).0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_account_decides_and_nothing_is_left_behind() {
        let wide = Arc::new(Account::new("wide", 1000, 2, usize::MAX));
        let narrow = Arc::new(Account::new("narrow", 100, usize::MAX, 1));
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
}
