//! Shares: what one tenant (a subject, an API key, an address) holds of the hub, and the most that quotas allow.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::budget::Pressure;

/// What a quota bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Publications per second.
    PublishPerSecond,
    /// Bytes of payload per second.
    BytesPerSecond,
    /// Bytes of events and topics held.
    BytesHeld,
    TopicsHeld,
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

/// A refusal by a quota rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaRefused {
    /// The rule's name. Names are kept as long as the process runs.
    pub rule: &'static str,
    /// The limit that is reached.
    pub limit: Limit,
    /// Seconds after which to try again; at least 1.
    pub retry_after_s: u32,
}

impl fmt::Display for QuotaRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, limit, retry_after_s } = self;
        write!(f, "quota `{rule}`: {} is used up; try again in {retry_after_s} s", limit.name())
    }
}

/// Seconds after which to try again where it is unknown when something will be released.
const HELD_RETRY_S: u32 = 2;

/// The most that a tenant may hold under one rule. `usize::MAX`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLimits {
    /// Bytes of events and topics.
    pub bytes: usize,
    pub topics: usize,
    pub connections: usize,
}

/// What a tenant holds under one rule. When the limits change, what is held stays.
#[derive(Debug)]
pub struct Account {
    /// The rule's name.
    pub rule: &'static str,
    bytes: BoundedCount,
    topics: BoundedCount,
    connections: BoundedCount,
}

/// A count with a limit.
#[derive(Debug)]
struct BoundedCount {
    held: AtomicUsize,
    most: AtomicUsize,
}

impl BoundedCount {
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

    /// Adds `count` even beyond the limit. Returns whether there was room.
    fn add_and_check(&self, count: usize) -> bool {
        let before = self.held.fetch_add(count, Ordering::Relaxed);
        count <= self.most().saturating_sub(before)
    }
}

impl Account {
    /// An empty account under `rule`.
    pub fn new(rule: &'static str, limits: HeldLimits) -> Self {
        let [bytes, topics, connections] = [limits.bytes, limits.topics, limits.connections].map(BoundedCount::new);
        Self { rule, bytes, topics, connections }
    }

    /// Replaces the limits. What is held already stays, even if it is more.
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

    fn of(&self, kind: HeldResource) -> &BoundedCount {
        match kind {
            HeldResource::Bytes => &self.bytes,
            HeldResource::Topics => &self.topics,
            HeldResource::Connections => &self.connections,
        }
    }

    fn refuse(&self, limit: Limit) -> QuotaRefused {
        QuotaRefused { rule: self.rule, limit, retry_after_s: HELD_RETRY_S }
    }
}

/// A tenant's accounts under all rules that apply to it. The owner also counts what it holds itself, because other rules may
/// apply later ([`Owner::set_accounts`]).
#[derive(Debug, Default)]
pub struct Owner {
    /// Locked for writing only while the rules change.
    accounts: RwLock<Box<[Arc<Account>]>>,
    held: [AtomicUsize; 3],
}

impl Owner {
    /// With these accounts.
    pub fn new(accounts: impl IntoIterator<Item = Arc<Account>>) -> Self {
        Self { accounts: RwLock::new(accounts.into_iter().collect()), held: Default::default() }
    }

    /// Moves what the owner holds from its present accounts to these. Accounts in both keep it.
    pub fn set_accounts(&self, accounts: impl IntoIterator<Item = Arc<Account>>) {
        let mut current = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        let next: Box<[Arc<Account>]> = accounts.into_iter().collect();
        for (kind, held) in HELD.into_iter().zip(&self.held) {
            let held = held.load(Ordering::Relaxed);
            next.iter().for_each(|account| account.of(kind).add(held));
            current.iter().for_each(|account| account.of(kind).subtract(held));
        }
        *current = next;
    }

    /// Whether the owner holds nothing.
    pub fn is_empty(&self) -> bool {
        self.held.iter().all(|held| held.load(Ordering::Relaxed) == 0)
    }

    fn accounts(&self) -> RwLockReadGuard<'_, Box<[Arc<Account>]>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Charges `bytes` to all accounts, or to none if one has no room: the error names its rule.
    pub fn try_take_bytes(&self, bytes: usize) -> Result<(), QuotaRefused> {
        self.try_take(bytes, HeldResource::Bytes)
    }

    /// Charges `bytes` even beyond the limits.
    pub(crate) fn take_bytes(&self, bytes: usize) {
        self.take(bytes, HeldResource::Bytes);
    }

    /// Gives `bytes` back.
    pub fn return_bytes(&self, bytes: usize) {
        self.give_back(bytes, HeldResource::Bytes);
    }

    /// The pressure of the tightest account.
    pub fn pressure(&self) -> Pressure {
        let of_account = |account: &Arc<Account>| Pressure { used: account.bytes.held(), limit: account.bytes.most() };
        self.accounts().iter().map(of_account).reduce(Pressure::or_tighter).unwrap_or_default()
    }

    fn try_take(&self, count: usize, kind: HeldResource) -> Result<(), QuotaRefused> {
        let accounts = self.accounts();
        for (index, account) in accounts.iter().enumerate() {
            if !account.of(kind).add_and_check(count) {
                accounts[..=index].iter().for_each(|taken| taken.of(kind).subtract(count));
                return Err(account.refuse(kind.limit()));
            }
        }
        self.held[kind as usize].fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn take(&self, count: usize, kind: HeldResource) {
        let accounts = self.accounts();
        accounts.iter().for_each(|account| account.of(kind).add(count));
        self.held[kind as usize].fetch_add(count, Ordering::Relaxed);
    }

    fn give_back(&self, count: usize, kind: HeldResource) {
        let accounts = self.accounts();
        accounts.iter().for_each(|account| account.of(kind).subtract(count));
        self.held[kind as usize].fetch_sub(count, Ordering::Relaxed);
    }
}

/// The resources that are held and released, unlike those that are counted per second.
#[derive(Clone, Copy, Debug)]
enum HeldResource {
    Bytes,
    Topics,
    Connections,
}

const HELD: [HeldResource; 3] = [HeldResource::Bytes, HeldResource::Topics, HeldResource::Connections];

impl HeldResource {
    fn limit(self) -> Limit {
        match self {
            Self::Bytes => Limit::BytesHeld,
            Self::Topics => Limit::TopicsHeld,
            Self::Connections => Limit::Connections,
        }
    }
}

/// The owner of each of many events, in order. A run of events with the same owner takes one entry.
#[derive(Clone, Debug)]
pub struct Owners(Vec<(Arc<Owner>, usize)>);

impl Owners {
    /// The owner of the event at `index`; `None` if there are not so many.
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
    /// Collects runs: each owner with the index behind its last event.
    fn from_iter<I: IntoIterator<Item = (Arc<Owner>, usize)>>(runs: I) -> Self {
        Self(runs.into_iter().collect())
    }
}

/// One topic or one open stream that an owner holds. Dropping it releases it.
#[derive(Debug)]
pub struct QuotaReservation {
    owner: Arc<Owner>,
    kind: HeldResource,
}

impl QuotaReservation {
    /// Reserves one more topic.
    pub fn topic(owner: &Arc<Owner>) -> Result<Self, QuotaRefused> {
        Self::try_take(owner, HeldResource::Topics)
    }

    /// Reserves one more open stream.
    pub fn connection(owner: &Arc<Owner>) -> Result<Self, QuotaRefused> {
        Self::try_take(owner, HeldResource::Connections)
    }

    /// Reserves a stream that is open already, even beyond the limit.
    pub fn open_connection(owner: &Arc<Owner>) -> Self {
        owner.take(1, HeldResource::Connections);
        Self { owner: Arc::clone(owner), kind: HeldResource::Connections }
    }

    fn try_take(owner: &Arc<Owner>, kind: HeldResource) -> Result<Self, QuotaRefused> {
        owner.try_take(1, kind)?;
        Ok(Self { owner: Arc::clone(owner), kind })
    }

    /// Moves the reservation to `owner`, if `owner` may hold one more; otherwise nothing changes. An account of both owners
    /// counts it once throughout.
    pub fn transfer_to(&mut self, owner: &Arc<Owner>) -> Result<(), QuotaRefused> {
        if Arc::ptr_eq(owner, &self.owner) {
            return Ok(());
        }
        let known = self.owner.accounts().clone();
        let is_known = |account: &Arc<Account>| known.iter().any(|known| Arc::ptr_eq(known, account));
        {
            let accounts = owner.accounts();
            let count = |account: &Account| account.of(self.kind).add_and_check(1);
            for (index, account) in accounts.iter().enumerate() {
                if !is_known(account) && !count(account) {
                    let taken = accounts[..=index].iter().filter(|taken| !is_known(taken));
                    taken.for_each(|taken| taken.of(self.kind).subtract(1));
                    return Err(account.refuse(self.kind.limit()));
                }
            }
            // An account of both would count it twice from here on, until the former owner has given it back.
            accounts.iter().filter(|account| is_known(account)).for_each(|account| account.of(self.kind).add(1));
            owner.held[self.kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        self.owner.give_back(1, self.kind);
        self.owner = Arc::clone(owner);
        Ok(())
    }
}

impl Drop for QuotaReservation {
    fn drop(&mut self) {
        self.owner.give_back(1, self.kind);
    }
}

/// A number of bytes that an owner holds, which may change. Dropping it releases them.
#[derive(Debug)]
pub struct ByteReservation {
    owner: Arc<Owner>,
    bytes: usize,
}

impl ByteReservation {
    /// Reserves no bytes of `owner` yet.
    pub fn new(owner: Arc<Owner>) -> Self {
        Self { owner, bytes: 0 }
    }

    /// Changes the number to `bytes`, if the owner's share has room; otherwise nothing changes. A smaller number always passes.
    pub fn try_resize(&mut self, bytes: usize) -> Result<(), QuotaRefused> {
        if self.bytes <= bytes {
            self.owner.try_take_bytes(bytes - self.bytes)?;
        } else {
            self.owner.return_bytes(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.owner.return_bytes(self.bytes);
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
        let topics = [QuotaReservation::topic(&owner), QuotaReservation::topic(&owner)]
            .map(|reservation| reservation.expect("two are allowed"));
        let refused = QuotaReservation::topic(&owner).expect_err("a third is not");
        assert_eq!((refused.rule, refused.limit), ("wide", Limit::TopicsHeld));
        let stream = QuotaReservation::connection(&owner).expect("one is allowed");
        assert_eq!(
            QuotaReservation::connection(&owner).expect_err("a second is not").to_string(),
            "quota `narrow`: connections is used up; try again in 2 s"
        );
        drop((topics, stream));
        owner.return_bytes(100);
        assert!(wide.is_empty() && narrow.is_empty());
    }

    #[test]
    fn a_byte_reservation_grows_while_there_is_room() {
        let limits = HeldLimits { bytes: 100, topics: usize::MAX, connections: usize::MAX };
        let account = Arc::new(Account::new("narrow", limits));
        let owner = Arc::new(Owner::new([Arc::clone(&account)]));
        let [mut first, mut second] = [ByteReservation::new(Arc::clone(&owner)), ByteReservation::new(owner)];
        assert_eq!((first.try_resize(60), second.try_resize(40)), (Ok(()), Ok(())));
        assert!(first.try_resize(61).is_err() && account.bytes() == 100);
        assert_eq!((first.try_resize(10), second.try_resize(90)), (Ok(()), Ok(())));
        drop(first);
        assert_eq!(account.bytes(), 90);
        account.set_limits(HeldLimits { bytes: 50, ..limits });
        assert!(second.try_resize(91).is_err() && second.try_resize(80).is_ok());
        drop(second);
        assert!(account.is_empty());
    }

    #[test]
    fn a_reservation_goes_to_another_owner_or_stays() {
        let most = |connections| HeldLimits { bytes: usize::MAX, topics: usize::MAX, connections };
        let account = |rule| Arc::new(Account::new(rule, most(1)));
        let [shared, first, second] = ["shared", "first", "second"].map(account);
        let owner = |accounts: &[&Arc<Account>]| Arc::new(Owner::new(accounts.iter().map(|it| Arc::clone(it))));
        let (before, after) = (owner(&[&shared, &first]), owner(&[&shared, &second]));
        let mut reservation = QuotaReservation::connection(&before).expect("one is allowed");
        assert_eq!(reservation.transfer_to(&after), Ok(()), "the shared account counts it once");
        assert!(first.is_empty() && !second.is_empty() && !shared.is_empty());
        let other = QuotaReservation::connection(&owner(&[&first])).expect("it is free again");
        assert_eq!(reservation.transfer_to(&before).map_err(|refused| refused.rule), Err("first"));
        assert!(!second.is_empty() && !shared.is_empty(), "it stays where it was");
        drop((reservation, other));
        assert!([shared, first, second].iter().all(|account| account.is_empty()));
    }
}
