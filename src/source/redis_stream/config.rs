//! What the source is told to do.

use crate::{
    bus::Class,
    log::Bounds,
    topic::{Pattern, Topic},
};

/// How the hub uses Redis Streams, besides what it does with Redis in general.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What stands before a topic's name in its stream's key.
    pub prefix: String,
    /// Requests for older events that may wait for the archivist.
    pub archive_queue_max: usize,
    /// What older events the archivist may keep at hand, in bytes.
    pub archive_cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { prefix: String::new(), archive_queue_max: 16_384, archive_cache_bytes: 16 << 20 }
    }
}

impl Config {
    /// The key of the stream of `topic`.
    pub(super) fn key(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }
}

/// The classes of topics, as the bus has them.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// For topics that no pattern matches.
    pub default: Class,
    /// The first whose pattern matches decides.
    pub listed: Vec<(Pattern, Class)>,
}

impl Classes {
    /// How much of `topic` is to be kept.
    pub(super) fn history(&self, topic: &Topic) -> Bounds {
        let listed = self.listed.iter().find(|(pattern, _)| pattern.matches(topic));
        listed.map_or(&self.default, |(_, class)| class).retention.history
    }
}
