//! What classes of topics, and `/ready`, ask of sources: those must be configured.

use std::{fmt, str::FromStr};

use super::{
    bridge::is_bridge,
    raw::RawConfig,
    resolve::{KeyError, has_store},
    topics::log_word,
};
use crate::{
    bus::{Class, LogKind, SourceName},
    source::{HUB_ALONE, PUBSUB_SOURCES, TopicClasses, nats::check_streams},
};

/// The source of a class's topics: the word of a server, or `hub`; empty: the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct TopicSource(pub(super) Option<SourceName>);

impl FromStr for TopicSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let known = PUBSUB_SOURCES.into_iter().chain([HUB_ALONE]).find(|source| source.0 == text);
        known.map(|source| Self(Some(source))).ok_or_else(|| "a source is `redis`, `nats` or `hub`".to_owned())
    }
}

impl fmt::Display for TopicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.map_or("", |source| source.0))
    }
}

impl TopicSource {
    /// `class` with this source, if its log is in memory: whoever keeps the log is the source of others.
    pub(super) fn of(self, class: &Class) -> Class {
        Class { source: class.source.or(self.0), ..class.clone() }
    }
}

pub(super) fn has_redis(raw: &RawConfig) -> bool {
    !raw.redis_url.is_empty() || raw.redis_url_file.is_some()
}

pub(super) fn has_nats(raw: &RawConfig) -> bool {
    !raw.nats_url.is_empty() || raw.nats_url_file.is_some()
}

/// Whether the server is configured that `source` is on, and how to name it.
fn server_of(source: SourceName, raw: &RawConfig) -> (bool, &'static str) {
    match source.0 {
        "redis" | "redis_stream" => (has_redis(raw), "a Redis server: name it with --redis (redis.url)"),
        "nats" | "jetstream" => (has_nats(raw), "a NATS server: name it with --nats (nats.url)"),
        _ => (true, ""),
    }
}

/// All classes, each with its source and the key to blame.
fn classes(raw: &RawConfig) -> impl Iterator<Item = (&'static str, &Class, TopicSource)> {
    let listed = raw.classes.iter().map(|class| ("topics.class", &class.class, class.source));
    listed.chain([("topics.log", &raw.default_class, TopicSource(None))])
}

/// A class needs the server that keeps its logs, or that its events come from.
pub(super) fn check_topic_sources(raw: &RawConfig, wrong: &mut Vec<KeyError>) {
    let mut complain = |key, message: String| {
        if !wrong.iter().any(|(known, said)| (*known, said) == (key, &message)) {
            wrong.push((key, message));
        }
    };
    for (key, class, TopicSource(source)) in classes(raw) {
        let word = log_word(class);
        if let Some((false, server)) = class.source.map(|name| server_of(name, raw)) {
            complain(key, format!("a log kept by {word} needs {server}"));
        }
        if let Some((false, server)) = source.map(|name| server_of(name, raw)) {
            complain(key, format!("a source of topics needs {server}"));
        }
        if class.source.is_some() && source.is_some() {
            complain(key, format!("a class with log = \"{word}\" has its source by that: leave out `source`"));
        }
    }
    let default = raw.default_source.0;
    if let Some((false, server)) = default.map(|name| server_of(name, raw)) {
        complain("topics.source", format!("the source {} needs {server}", raw.default_source));
    }
    if default.is_none() && has_redis(raw) && has_nats(raw) && !is_bridge(raw) {
        let message = "Redis and NATS are both set: say which of them has the topics whose class names no source (redis, nats or hub); \
             or, for a bridge between them, what it carries (bridge.map)";
        complain("topics.source", message.to_owned());
    }
}

/// The classes that JetStream is to keep must be such that it can.
pub(super) fn check_kept_by_jetstream(raw: &RawConfig, wrong: &mut Vec<KeyError>) {
    if has_nats(raw) {
        let listed = raw.classes.iter();
        let listed =
            listed.filter_map(|class| Some((class.matching.pattern()?.clone(), class.class.clone()))).collect();
        let classes = TopicClasses { default: raw.default_class.clone(), listed };
        wrong.extend(check_streams(&classes, &raw.jetstream, &raw.nats).err());
    }
}

/// A source in `ready.require` must be configured: else the hub would be ready without it.
pub(super) fn check_ready(raw: &RawConfig, wrong: &mut Vec<KeyError>) {
    let keeps = |name: &str| {
        let is_kept =
            |class: &Class| class.log == LogKind::Broker && class.source.is_some_and(|source| source.0 == name);
        classes(raw).any(|(_, class, _)| is_kept(class))
    };
    let sources = [
        ("redis", has_redis(raw), "redis.url is not set"),
        ("redis_stream", has_redis(raw) && keeps("redis_stream"), "no class of topics has log = \"redis-stream\""),
        ("nats", has_nats(raw), "nats.url is not set"),
        ("jetstream", has_nats(raw) && keeps("jetstream"), "no class of topics has log = \"jetstream\""),
        ("store", has_store(raw), "store.url is not set"),
        ("jwks", raw.auth.key_set.is_used(), "neither auth.jwks_url nor auth.discovery is set"),
    ];
    for name in raw.ready.require.iter().filter(|name| *name != "*") {
        match sources.iter().find(|(source, ..)| source == name) {
            Some((_, true, _)) => {}
            Some((_, false, why)) => wrong.push(("ready.require", format!("`{name}` is required, but {why}"))),
            None => {
                let names = sources.map(|(name, ..)| name).join(", ");
                wrong.push(("ready.require", format!("`{name}` is no source: there are {names}, and \"*\" for all")));
            }
        }
    }
}
