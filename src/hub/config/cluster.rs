//! What a Redis Cluster cannot do for the hub, and one server can.

use super::{
    bridge::{is_bridge, is_from},
    raw::RawConfig,
};
use crate::{
    bus::LogKind,
    source::redis::{ClusterPubSub, RedisConfig},
};

/// Returns what the configuration asks of the cluster that it cannot do, by key.
pub(super) fn check_cluster(raw: &RawConfig, redis: Option<&RedisConfig>) -> Vec<(&'static str, String)> {
    let Some(redis) = redis.filter(|redis| redis.url.names_cluster()) else { return Vec::new() };
    let mut wrong = Vec::new();
    let streams =
        "topics with log = \"redis-stream\" need one Redis server, or sentinels, and redis.url names a cluster";
    if raw.default_class.log == LogKind::Broker {
        wrong.push(("topics.log", streams.to_owned()));
    } else if raw.classes.iter().any(|class| class.class.log == LogKind::Broker) {
        wrong.push(("topics.class", streams.to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::Class, source::redis::RedisUrl};

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
        let stream = || Class { log: LogKind::Broker, ..Class::default() };
        check(|_, _| {}, &[]);
        check(|raw, _| raw.default_class = Class { log: LogKind::Broker, ..Class::default() }, &["topics.log"]);
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
        assert!(check_cluster(&RawConfig { default_class: stream(), ..RawConfig::default() }, None).is_empty());
    }
}
