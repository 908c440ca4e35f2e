//! The table of topics: found by name, and listed in the order of their names.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    ops::Bound,
    sync::{Arc, PoisonError},
};

use super::{
    TopicState,
    sync::{RwLock, RwLockWriteGuard},
};
use crate::topic::Topic;

/// Shards of the hash table. A shard that grows is copied under its lock, and publishers to its topics wait: with a million topics
/// each shard has a thousand.
const SHARDS: usize = 1024;

type TopicShard = HashMap<Topic, Arc<TopicState>, foldhash::fast::RandomState>;

/// All topics. Publishing to an existing topic reads one shard and not the ordered index, which changes only when a topic begins
/// or ends.
#[derive(Debug)]
pub(super) struct TopicMap {
    shards: Box<[RwLock<TopicShard>]>,
    hasher: foldhash::fast::RandomState,
    /// Every topic of the shards. Changed under the lock of the topic's shard.
    by_name: RwLock<BTreeMap<Topic, Arc<TopicState>>>,
}

impl Default for TopicMap {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            by_name: RwLock::default(),
        }
    }
}

impl TopicMap {
    /// The topic, if it exists.
    pub(super) fn find(&self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.shard(topic).read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// The topic. If it does not exist, `make` makes it or refuses.
    pub(super) fn find_or_insert<E>(
        &self,
        topic: &Topic,
        make: impl FnOnce() -> Result<TopicState, E>,
    ) -> Result<Arc<TopicState>, E> {
        let mut shard = self.write_shard(topic);
        if let Some(state) = shard.get(topic) {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(make()?);
        // The clone shares the name's allocation.
        shard.insert(state.topic.clone(), Arc::clone(&state));
        self.write_index().insert(state.topic.clone(), Arc::clone(&state));
        Ok(state)
    }

    pub(super) fn remove(&self, topic: &Topic) {
        let mut shard = self.write_shard(topic);
        shard.remove(topic);
        self.write_index().remove(topic);
    }

    /// The number of topics.
    pub(super) fn len(&self) -> usize {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The first `most` topics from `from` on, in the order of their names.
    pub(super) fn page(&self, from: Bound<&str>, most: usize) -> Vec<Arc<TopicState>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.range::<str, _>((from, Bound::Unbounded)).take(most).map(|(_, state)| Arc::clone(state)).collect()
    }

    /// The hash of the topic's name, the same until the process ends.
    pub(super) fn hash(&self, topic: &Topic) -> u64 {
        self.hasher.hash_one(topic)
    }

    fn shard(&self, topic: &Topic) -> &RwLock<TopicShard> {
        &self.shards[self.hash(topic) as usize % SHARDS]
    }

    fn write_shard(&self, topic: &Topic) -> RwLockWriteGuard<'_, TopicShard> {
        self.shard(topic).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_index(&self) -> RwLockWriteGuard<'_, BTreeMap<Topic, Arc<TopicState>>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner)
    }
}
