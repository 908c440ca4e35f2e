//! Idempotent publishing into the hub's own logs: the first publication under a key counts, a repeat gets its id.
//!
//! Publications that travel through a broker are made idempotent there, for all hubs at once.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    budget::{Budget, Charge},
    clock::Moment,
    event::EventId,
    topic::Topic,
};

/// The keys seen lately, in shards so that publishers seldom meet. What they weigh counts against the memory budget,
/// which is their only bound: to forget a key early would publish a repeat.
#[derive(Debug)]
pub(super) struct SeenKeys {
    shards: [Mutex<Shard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    window: Duration,
    budget: Arc<Budget>,
}

/// Some of the keys, locked: from the look until the entry nobody else publishes under them.
#[derive(Debug)]
pub(super) struct SeenShard<'seen> {
    shard: MutexGuard<'seen, Shard>,
    key: Key,
    window: Duration,
    budget: &'seen Arc<Budget>,
}

type Key = (Topic, Box<str>);

#[derive(Debug, Default)]
struct Shard {
    ids: HashMap<Arc<Key>, EventId, foldhash::fast::RandomState>,
    /// In the order of their coming.
    ages: VecDeque<(Moment, Arc<Key>, Charge)>,
}

const SHARDS: usize = 16;
/// What an entry is taken to weigh besides its text: two places in a table and a queue.
const ENTRY_BYTES: usize = 160;

impl SeenKeys {
    pub(super) fn new(window: Duration, budget: Arc<Budget>) -> Self {
        Self { shards: Default::default(), hasher: foldhash::fast::RandomState::default(), window, budget }
    }

    /// Locks the place of `key` in `topic`.
    pub(super) fn lock(&self, topic: &Topic, key: &str) -> SeenShard<'_> {
        let key = (topic.clone(), key.into());
        let shard = self.hasher.hash_one(&key) as usize % SHARDS;
        SeenShard { shard: lock(&self.shards[shard]), key, window: self.window, budget: &self.budget }
    }

    /// Forgets what is older than the window.
    pub(super) fn sweep(&self, now: Moment) {
        self.shards.iter().for_each(|shard| lock(shard).forget(self.window, now));
    }
}

impl SeenShard<'_> {
    /// The id of the first publication under the key, if that was within the window.
    pub(super) fn find(&mut self, now: Moment) -> Option<EventId> {
        self.shard.forget(self.window, now);
        self.shard.ids.get(&self.key).copied()
    }

    /// The publication under the key has this id.
    pub(super) fn insert(mut self, id: EventId, now: Moment) {
        let charge = self.budget.charge(ENTRY_BYTES + self.key.1.len());
        let key = Arc::new(self.key);
        self.shard.ids.insert(Arc::clone(&key), id);
        self.shard.ages.push_back((now, key, charge));
    }
}

/// As the bus locks its topics: whoever panicked with the lock brings the process down by itself.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn forget(&mut self, window: Duration, now: Moment) {
        while let Some((since, key, _)) = self.ages.front()
            && window < now.since(*since)
        {
            self.ids.remove(key);
            self.ages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_within_the_window_finds_the_first_id() {
        let budget = Arc::new(Budget::unlimited());
        let seen = SeenKeys::new(Duration::from_secs(10), Arc::clone(&budget));
        let topic = |name| Topic::parse(name).expect("a good name");
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        let id = |minor| EventId { major: 1, minor };
        let look = |name, key, seconds| seen.lock(&topic(name), key).find(at(seconds));
        seen.lock(&topic("a"), "k").insert(id(1), at(0));
        seen.lock(&topic("a"), "l").insert(id(2), at(5));
        assert_eq!(look("a", "k", 10), Some(id(1)));
        assert_eq!(look("b", "k", 10), None, "another topic");
        assert_eq!(look("a", "k", 11), None, "too late");
        assert_eq!(look("a", "l", 11), Some(id(2)));
        assert!(0 < budget.used());
        seen.sweep(at(100));
        assert_eq!(budget.used(), 0);
    }
}
