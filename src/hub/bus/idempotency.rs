//! Idempotent publishing into the hub's own logs: the first publication under a key is delivered, and a repeat gets its id.
//!
//! A broker makes the publications that travel through it idempotent itself, for all hubs at once.

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

/// The keys of the window, in shards so that publishers seldom wait for each other. They are charged to the memory budget, which
/// is their only bound: forgetting a key early would deliver a repeat.
#[derive(Debug)]
pub(super) struct IdempotencyKeys {
    shards: [Mutex<KeyShard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    window: Duration,
    budget: Arc<Budget>,
}

/// One key, with its shard locked: between [`LockedKey::find`] and [`LockedKey::insert`] nobody else publishes under it.
#[derive(Debug)]
pub(super) struct LockedKey<'keys> {
    shard: MutexGuard<'keys, KeyShard>,
    key: TopicAndKey,
    window: Duration,
    budget: &'keys Arc<Budget>,
}

type TopicAndKey = (Topic, Box<str>);

#[derive(Debug, Default)]
struct KeyShard {
    /// The id and the time of the first publication under each key. Entries older than the window do not count.
    ids: HashMap<Arc<TopicAndKey>, (EventId, Moment), foldhash::fast::RandomState>,
    /// The keys in order of arrival, oldest first.
    ages: VecDeque<(Moment, Arc<TopicAndKey>, Charge)>,
}

const SHARDS: usize = 16;
/// The weight of an entry besides its text, in bytes: its slots in the map and the queue.
const ENTRY_BYTES: usize = 160;
/// Keys forgotten at each lookup, on a publisher's thread. More than the one that a publication adds, so that they cannot pile up.
const FORGOTTEN_PER_LOOK: usize = 8;
/// Keys that the sweep forgets under one lock: about ten microseconds.
const FORGOTTEN_PER_LOCK: usize = 256;

impl IdempotencyKeys {
    pub(super) fn new(window: Duration, budget: Arc<Budget>) -> Self {
        Self { shards: Default::default(), hasher: foldhash::fast::RandomState::default(), window, budget }
    }

    /// Locks `key` of `topic`, and with it the other keys of its shard.
    pub(super) fn lock(&self, topic: &Topic, key: &str) -> LockedKey<'_> {
        let key = (topic.clone(), key.into());
        let shard = self.hasher.hash_one(&key) as usize % SHARDS;
        LockedKey { shard: lock(&self.shards[shard]), key, window: self.window, budget: &self.budget }
    }

    /// Forgets all keys older than the window. Its time grows with their number, so a reactor's thread must not call it; a
    /// publisher waits for [`FORGOTTEN_PER_LOCK`] of them at most.
    pub(super) fn sweep(&self, now: Moment) {
        for shard in &self.shards {
            while lock(shard).forget(FORGOTTEN_PER_LOCK, self.window, now) == FORGOTTEN_PER_LOCK {}
        }
    }
}

impl LockedKey<'_> {
    /// The id of the first publication under the key, if it was within the window.
    pub(super) fn find(&mut self, now: Moment) -> Option<EventId> {
        self.shard.forget(FORGOTTEN_PER_LOOK, self.window, now);
        let (id, since) = self.shard.ids.get(&self.key)?;
        (now.since(*since) <= self.window).then_some(*id)
    }

    /// Records the id of the publication under the key.
    pub(super) fn insert(mut self, id: EventId, now: Moment) {
        let charge = self.budget.charge(ENTRY_BYTES + self.key.1.len());
        let key = Arc::new(self.key);
        self.shard.ids.insert(Arc::clone(&key), (id, now));
        self.shard.ages.push_back((now, key, charge));
    }
}

/// Ignores poisoning, as `lock` of the topics does: a panic ends the process (`panic = "abort"`).
fn lock(shard: &Mutex<KeyShard>) -> MutexGuard<'_, KeyShard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeyShard {
    /// Forgets at most `most` of the keys that are older than the window. Returns how many.
    fn forget(&mut self, most: usize, window: Duration, now: Moment) -> usize {
        for count in 0..most {
            let Some((since, key, _)) = self.ages.front().filter(|(since, ..)| window < now.since(*since)) else {
                return count;
            };
            // The same key may have come again since.
            if self.ids.get(key).is_some_and(|(_, latest)| latest == since) {
                self.ids.remove(key);
            }
            self.ages.pop_front();
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_within_the_window_finds_the_first_id() {
        let budget = Arc::new(Budget::unlimited());
        let seen = IdempotencyKeys::new(Duration::from_secs(10), Arc::clone(&budget));
        let topic = |name| Topic::parse(name).expect("a good name");
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        let id = |minor| EventId::new(1, minor);
        let look = |name, key, seconds| seen.lock(&topic(name), key).find(at(seconds));
        seen.lock(&topic("a"), "k").insert(id(1), at(0));
        seen.lock(&topic("a"), "l").insert(id(2), at(5));
        assert_eq!(look("a", "k", 10), Some(id(1)));
        assert_eq!(look("b", "k", 10), None, "another topic");
        assert_eq!(look("a", "k", 11), None, "too late");
        assert_eq!(look("a", "l", 11), Some(id(2)));
        assert_eq!(budget.used(), ENTRY_BYTES + 1, "of the one within the window");
        seen.lock(&topic("a"), "four").insert(id(3), at(5));
        assert_eq!(budget.used(), ENTRY_BYTES + 1 + ENTRY_BYTES + 4);
        seen.sweep(at(100));
        assert_eq!(budget.used(), 0);
    }
    /// However many keys expire at once, one look forgets a few of them, one lock of the sweep a few hundred, and none that has
    /// expired is taken for a repeat.
    #[test]
    fn keys_that_expire_at_once_are_forgotten_in_parts() {
        const KEYS: u64 = 50_000;
        let budget = Arc::new(Budget::unlimited());
        let seen = IdempotencyKeys::new(Duration::from_secs(10), Arc::clone(&budget));
        let topic = Topic::parse("a").expect("a good name");
        let (first, later) = (Moment(0), Moment(11_000_000_000));
        let held = || seen.shards.iter().map(|shard| lock(shard).ages.len()).sum::<usize>();
        for number in 0..KEYS {
            seen.lock(&topic, &number.to_string()).insert(EventId::new(1, number), first);
        }
        assert_eq!(held(), KEYS as usize);
        for number in (0..KEYS).rev().take(100) {
            let (before, id) = (held(), EventId::new(2, number));
            let mut shard = seen.lock(&topic, &number.to_string());
            assert_eq!(shard.find(later), None, "the window is over, whether it was forgotten or not");
            shard.insert(id, later);
            assert_eq!(before - held() + 1, FORGOTTEN_PER_LOOK, "a look forgets so many, and no more");
        }
        let most = lock(&seen.shards[0]).forget(FORGOTTEN_PER_LOCK, seen.window, later);
        assert_eq!(most, FORGOTTEN_PER_LOCK, "one lock forgets so many, and no more");
        seen.sweep(later);
        assert_eq!(held(), 100, "those that have come again");
        for number in (0..KEYS).rev().take(100) {
            let id = seen.lock(&topic, &number.to_string()).find(later);
            assert_eq!(id, Some(EventId::new(2, number)), "the former entry took nothing along");
        }
        seen.sweep(Moment(30_000_000_000));
        assert_eq!((held(), budget.used()), (0, 0));
    }
}
