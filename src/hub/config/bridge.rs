//! What a bridge asks of the sources between which it stands.

use super::raw::RawConfig;
use crate::{
    bridge::BridgeConfig,
    source::{SourcesConfig, nats::NatsConfig, redis::RedisConfig},
    topic::Pattern,
};

/// What the sources of a bridge may be called.
const NAMES: [&str; 4] = ["redis", "redis_stream", "nats", "jetstream"];

/// Whether the hub is a bridge.
pub(super) fn is_bridge(raw: &RawConfig) -> bool {
    !raw.bridge.maps.is_empty()
}

/// Whether a bridge's events come from the source `name`.
pub(super) fn is_from(raw: &RawConfig, name: &str) -> bool {
    raw.bridge.from == name
}

/// Lets the source that events come from bring what the maps name, and the other one nothing: what came back from there would go
/// out there again. Returns what is wrong, by key.
pub(super) fn prepare_sources(raw: &RawConfig, sources: &mut SourcesConfig) -> Vec<(&'static str, String)> {
    if !is_bridge(raw) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (key, name) in [("bridge.from", &raw.bridge.from), ("bridge.to", &raw.bridge.to)] {
        if !NAMES.contains(&name.as_str()) {
            wrong.push((key, format!("`{name}` is no source of a bridge: there are {}", NAMES.join(", "))));
        }
    }
    let (from, to) = (&raw.bridge.from, &raw.bridge.to);
    if BridgeConfig::engine_of(from) == BridgeConfig::engine_of(to) {
        wrong.push(("bridge.to", format!("a bridge from `{from}` to `{to}` leads nowhere: it needs two servers")));
    }
    if raw.bridge.is_from_log() && !raw.bridge.is_to_log() {
        let why = "keeps no log, so nobody could tell after a restart how far the log was carried: use --stream for both ends";
        wrong.push(("bridge.to", format!("`{to}` {why}")));
    }
    for (key, name) in [("bridge.from", from), ("bridge.to", to)] {
        if name == "redis_stream" && sources.redis.as_ref().is_some_and(|redis| redis.url.names_cluster()) {
            wrong.push((
                key,
                "bridges do not carry streams of a Redis Cluster: name one server, or sentinels".to_owned(),
            ));
        }
    }
    for (url, is_there) in [("redis.url", sources.redis.is_some()), ("nats.url", sources.nats.is_some())] {
        if !is_there && wrong.is_empty() {
            wrong.push(("bridge.map", format!("a bridge needs both servers, and {url} is not set")));
        }
    }
    let patterns = raw.bridge.patterns();
    sources.redis = sources.redis.take().map(|redis| match raw.bridge.from == "redis" {
        true => RedisConfig { subscribe: patterns.iter().map(as_glob).collect(), interest: false, ..redis },
        false => RedisConfig { subscribe: Vec::new(), interest: false, ..redis },
    });
    sources.nats = sources.nats.take().map(|nats| match raw.bridge.from == "nats" {
        true => NatsConfig { subscribe: patterns.iter().map(as_subject).collect(), interest: false, ..nats },
        false => NatsConfig { subscribe: Vec::new(), interest: false, ..nats },
    });
    wrong
}

/// The pattern as Redis has them. It covers more: a `*` there stands for dots, too, so the follower looks again.
fn as_glob(pattern: &Pattern) -> String {
    pattern.as_str().replace("**", "*")
}

/// The pattern as NATS has them.
fn as_subject(pattern: &Pattern) -> String {
    match pattern.as_str().strip_suffix("**") {
        Some(before) => format!("{before}>"),
        None => pattern.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(maps: &[&str], from: &str, to: &str) -> RawConfig {
        let mut raw = RawConfig::default();
        raw.bridge.maps = maps.iter().map(|map| map.parse().expect("a map")).collect();
        (raw.bridge.from, raw.bridge.to) = (from.to_owned(), to.to_owned());
        raw
    }

    fn sources() -> SourcesConfig {
        let subscribe = vec!["other".to_owned()];
        SourcesConfig {
            redis: Some(RedisConfig { subscribe: subscribe.clone(), ..RedisConfig::default() }),
            nats: Some(NatsConfig { subscribe, ..NatsConfig::default() }),
            ..SourcesConfig::default()
        }
    }

    #[test]
    fn only_one_side_brings_events() {
        let check = |from: &str, to: &str, redis: &[&str], nats: &[&str]| {
            let mut sources = sources();
            assert_eq!(prepare_sources(&raw(&["a.*=>b.*", "c.**", "d"], from, to), &mut sources), []);
            let (of_redis, of_nats) = (sources.redis.expect("it was there"), sources.nats.expect("it was there"));
            assert_eq!(
                (of_redis.subscribe, of_redis.interest),
                (redis.iter().map(ToString::to_string).collect(), false)
            );
            assert_eq!((of_nats.subscribe, of_nats.interest), (nats.iter().map(ToString::to_string).collect(), false));
        };
        check("redis", "nats", &["a.*", "c.*", "d"], &[]);
        check("nats", "redis", &[], &["a.*", "c.>", "d"]);
        check("nats", "redis_stream", &[], &["a.*", "c.>", "d"]);
        check("jetstream", "redis_stream", &[], &[]);
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let check = |maps: &[&str], from: &str, to: &str, mut sources: SourcesConfig, expected: &[&str]| {
            let wrong = prepare_sources(&raw(maps, from, to), &mut sources);
            assert_eq!(wrong.iter().map(|(key, _)| *key).collect::<Vec<_>>(), expected, "{wrong:?}");
        };
        check(&[], "redis", "redis", sources(), &[]);
        check(&["a"], "redis", "redis", sources(), &["bridge.to"]);
        check(&["a"], "kafka", "nats", sources(), &["bridge.from"]);
        check(&["a"], "redis", "redis_stream", sources(), &["bridge.to"]);
        check(&["a"], "jetstream", "redis", sources(), &["bridge.to"]);
        check(&["a"], "redis_stream", "jetstream", sources(), &[]);
        check(&["a"], "nats", "redis_stream", sources(), &[]);
        check(&["a"], "redis", "nats", SourcesConfig::default(), &["bridge.map"]);
        check(&["a"], "redis", "nats", SourcesConfig { nats: None, ..sources() }, &["bridge.map"]);
    }
}
