//! What a Redis Cluster cannot do for the hub, and one server can.

use super::{
    bridge::{is_bridge, is_from},
    raw::RawConfig,
};
use crate::source::redis::{ClusterPubSub, RedisConfig};

/// Returns what the configuration asks of the cluster that it cannot do, by key.
pub(super) fn check_cluster(raw: &RawConfig, redis: Option<&RedisConfig>) -> Vec<(&'static str, String)> {
    let Some(redis) = redis.filter(|redis| redis.url.names_cluster()) else { return Vec::new() };
    let mut wrong = Vec::new();
    if let Some(why) = bad_prefix(&raw.redis_stream.prefix) {
        wrong.push(("redis.stream_prefix", why));
    }
    let is_sharded = redis.cluster_pubsub == ClusterPubSub::Sharded;
    if is_sharded && is_bridge(raw) && is_from(raw, "redis") {
        wrong.push((
            "bridge.from",
            "sharded channels of a Redis Cluster have no patterns: set redis.cluster_pubsub to \"classic\"".into(),
        ));
    } else if is_sharded && !redis.subscribe.is_empty() {
        wrong.push((
            "redis.subscribe",
            "sharded channels of a Redis Cluster have no patterns: leave this key out, or set redis.cluster_pubsub to \"classic\"".into(),
        ));
    }
    if redis.allow_replica {
        let why = "in a Redis Cluster the hub reads from masters only: leave this key out";
        wrong.push(("redis.allow_replica", why.to_owned()));
    }
    wrong
}

/// Braces are a hash tag, by which the cluster puts all streams into one slot, or nothing: what remembers an idempotency key has to be in
/// the slot of its stream.
fn bad_prefix(prefix: &str) -> Option<String> {
    let has_tag = prefix.split_once('{').is_some_and(|(before, rest)| {
        !before.contains('}') && rest.split_once('}').is_some_and(|(tag, _)| !tag.is_empty())
    });
    let why =
        "braces in keys of a Redis Cluster are a hash tag, such as {app}: close them, and put something between them";
    (prefix.contains(['{', '}']) && !has_tag).then(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::redis::RedisUrl;

    #[test]
    fn what_a_cluster_cannot_do_is_refused() {
        let check = |change: fn(&mut RawConfig, &mut RedisConfig), expected: &[&str]| {
            for (url, expected) in [("redis+cluster://h", expected), ("redis://h", &[])] {
                let mut raw = RawConfig::default();
                let url = RedisUrl::parse(url).expect("a good URL");
                let mut redis = RedisConfig { url, ..RedisConfig::default() };
                change(&mut raw, &mut redis);
                let wrong = check_cluster(&raw, Some(&redis));
                assert_eq!(wrong.iter().map(|(key, _)| *key).collect::<Vec<_>>(), expected);
            }
        };
        check(|_, _| {}, &[]);
        check(|raw, _| raw.redis_stream.prefix = "{app}:".to_owned(), &[]);
        check(|raw, _| raw.redis_stream.prefix = "{app".to_owned(), &["redis.stream_prefix"]);
        check(|raw, _| raw.redis_stream.prefix = "a{}".to_owned(), &["redis.stream_prefix"]);
        check(|raw, _| raw.redis_stream.prefix = "a}{b}".to_owned(), &["redis.stream_prefix"]);
        check(|_, redis| redis.subscribe = vec!["a.*".to_owned()], &["redis.subscribe"]);
        check(
            |_, redis| (redis.subscribe, redis.cluster_pubsub) = (vec!["a.*".to_owned()], ClusterPubSub::Classic),
            &[],
        );
        check(|_, redis| redis.allow_replica = true, &["redis.allow_replica"]);
        let of_bridge = |from: &str| {
            let mut raw = RawConfig::default();
            raw.bridge.maps = vec!["a.*".parse().expect("a map")];
            raw.bridge.from = from.to_owned();
            let url = RedisUrl::parse("redis+cluster://h").expect("a good URL");
            check_cluster(&raw, Some(&RedisConfig { url, ..RedisConfig::default() })).len()
        };
        assert_eq!([of_bridge("redis"), of_bridge("nats")], [1, 0]);
        assert!(check_cluster(&RawConfig::default(), None).is_empty());
    }
}
