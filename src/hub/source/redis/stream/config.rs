//! The configuration of Redis Streams.

use std::time::Duration;

use crate::topic::Topic;

/// How the hub uses Redis Streams, besides what it does with Redis in general.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisStreamConfig {
    /// What stands before a topic's name in its stream's key.
    pub prefix: String,
    /// How often a cluster is asked for new entries.
    pub poll: Duration,
    /// Requests for older events that may wait for the archive's thread.
    pub archive_queue_max: usize,
    /// The size of the archive's cache of older events, in bytes.
    pub archive_cache_bytes: usize,
}

impl Default for RedisStreamConfig {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            poll: Duration::from_millis(20),
            archive_queue_max: 16_384,
            archive_cache_bytes: 16 << 20,
        }
    }
}

impl RedisStreamConfig {
    /// The key of the stream of `topic`.
    pub(super) fn key(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }
}

/// The bounds of the time for which the hub asks the broker to keep events.
const KEPT_MIN: Duration = Duration::from_secs(1);
const KEPT_MAX: Duration = Duration::from_secs(1 << 43);

/// How long the broker keeps an event that may get this old, in milliseconds: long enough for hubs to read it.
pub(super) fn kept_ms(age: Duration) -> u64 {
    u64::try_from(age.clamp(KEPT_MIN, KEPT_MAX).as_millis()).unwrap_or(u64::MAX)
}
