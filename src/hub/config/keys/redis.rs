//! The keys of the section `redis`: Redis Pub/Sub and Redis Streams.

use std::time::Duration;

use super::{Key, MILLISECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "redis.url",
          help: "Redis server: redis://[user:password@]host[:port][/db], rediss:// for TLS, unix:///path, \
                 redis+sentinel://[user:password@]host[:port],…/service[/db], or some nodes of a cluster: \
                 redis+cluster://[user:password@]host[:port],…. Empty: no Redis. A reload (SIGHUP) \
                 applies a changed login to new connections; a change of the server needs a restart.",
          field: |it| Field::Scalar(&mut it.redis_url) },
    Key { path: "redis.url_file",
          help: "File that holds the URL instead of redis.url, so that a password need not stand in the configuration. \
                 It is read again at SIGHUP, and when the server refuses the login, so a rotated password needs neither \
                 a reload nor a restart.",
          field: |it| Field::Scalar(&mut it.redis_url_file) },
    Key { path: "redis.ca_file",
          help: "Certificate authorities for rediss://, in PEM. Empty: those of the system.",
          field: |it| Field::Scalar(&mut it.redis.ca_file) },
    Key { path: "redis.certificate_file",
          help: "The hub's certificate chain for a Redis server that asks for client certificates, in PEM.",
          field: |it| Field::Scalar(&mut it.redis.certificate_file) },
    Key { path: "redis.key_file",
          help: "Private key for `certificate_file`, in PEM.",
          field: |it| Field::Scalar(&mut it.redis.key_file) },
    Key { path: "redis.sentinel_username",
          help: "User name for the sentinels themselves. Empty: their default user.",
          field: |it| Field::Scalar(&mut it.redis.sentinel_login.username) },
    Key { path: "redis.sentinel_password",
          help: "Password for the sentinels themselves. The login in redis.url is for the server.",
          field: |it| Field::Scalar(&mut it.redis.sentinel_login.password) },
    Key { path: "redis.sentinel_password_file",
          help: "File that holds the password for the sentinels. It is read again at SIGHUP, and when a sentinel \
                 refuses the login.",
          field: |it| Field::Scalar(&mut it.sentinel_password_file) },
    Key { path: "redis.sentinel_timeout",
          help: "How long each sentinel may take to name the master before the next one is asked; the same for each node of a \
                 cluster that is asked which node has which slots.",
          field: |it| Field::Duration { value: &mut it.redis.sentinel_timeout, min: MILLISECOND } },
    Key { path: "redis.cluster_pubsub",
          help: "Which Pub/Sub the hub uses on a cluster. sharded (SPUBLISH, SSUBSCRIBE): a message stays within the shard of its \
                 channel, and the cluster carries more with each shard; needs Redis 7.0, has no patterns. classic (PUBLISH, \
                 SUBSCRIBE): every node gets every message, whoever publishes it; what nodes lose between each other nobody \
                 is told. All programs on one cluster have to use the same.",
          field: |it| Field::Scalar(&mut it.redis.cluster_pubsub) },
    Key { path: "redis.cluster_refresh",
          help: "How often a cluster is asked which node has which slots while a node is away or a slot moves; otherwise every \
                 redis.ping_interval. Too long: the hub finds the node that takes over for a lost one late.",
          field: |it| Field::Duration { value: &mut it.redis.cluster_refresh, min: MILLISECOND } },
    Key { path: "redis.allow_replica",
          help: "Accept a server that is a replica: the hub reads from it and refuses publications (503). false: the \
                 hub is not ready while its server is a replica, because what is published there reaches no other \
                 server.",
          field: |it| Field::Flag(&mut it.redis.allow_replica) },
    Key { path: "redis.subscribe",
          help: "Channel patterns that stay subscribed without any reader, such as \"orders.*\".",
          field: |it| Field::ScalarList(&mut it.redis.subscribe) },
    Key { path: "redis.interest",
          help: "Subscribe to a topic's channel while the topic has readers. false: only redis.subscribe brings events.",
          field: |it| Field::Flag(&mut it.redis.interest) },
    Key { path: "redis.linger",
          help: "How long a channel stays subscribed after its topic's last reader has left.",
          field: |it| Field::Duration { value: &mut it.redis.linger, min: Duration::ZERO } },
    Key { path: "redis.connect_timeout",
          help: "How long connecting to Redis may take.",
          field: |it| Field::Duration { value: &mut it.redis.connect_timeout, min: MILLISECOND } },
    Key { path: "redis.backoff_min",
          help: "First pause before connecting to Redis again. It doubles after each failure, with jitter, up to \
                 redis.backoff_max.",
          field: |it| Field::Duration { value: &mut it.redis.backoff_min, min: MILLISECOND } },
    Key { path: "redis.backoff_max",
          help: "Longest pause before connecting to Redis again.",
          field: |it| Field::Duration { value: &mut it.redis.backoff_max, min: MILLISECOND } },
    Key { path: "redis.ping_interval",
          help: "How often the connection to Redis is checked by a PING.",
          field: |it| Field::Duration { value: &mut it.redis.ping_interval, min: MILLISECOND } },
    Key { path: "redis.ping_timeout",
          help: "How long a PING to Redis may stay unanswered before the hub closes the connection and connects again. \
                 Too short: a busy server counts as lost, and readers are sent a gap.",
          field: |it| Field::Duration { value: &mut it.redis.ping_timeout, min: MILLISECOND } },
    Key { path: "redis.mark_interval",
          help: "How often, while events come, the hubs on one Redis publish a mark on fanfare.probe.marks, from which all of \
                 them count: so a client resumes at another hub. The mark behind a subscription or a loss comes after a \
                 sixteenth; before it, a client is told a gap at another hub. 0s: there it always is.",
          field: |it| Field::Duration { value: &mut it.redis.mark_interval, min: Duration::ZERO } },
    Key { path: "redis.proof_age_max",
          help: "How long ago the last answered PING may be before /ready reports 503.",
          field: |it| Field::Duration { value: &mut it.redis.proof_age_max, min: MILLISECOND } },
    Key { path: "redis.read_buffer_bytes",
          help: "Size of the read buffer of the Redis connection. It grows for a larger message.",
          field: |it| Field::Size { value: &mut it.redis.read_buffer_bytes, min: 4096 } },
    Key { path: "redis.publish_queue_max",
          help: "Publications that may wait for Redis. Further ones are refused (503).",
          field: |it| Field::Count { value: &mut it.redis.publish_queue_max, min: 1 } },
    Key { path: "redis.publish_queue_bytes_max",
          help: "Bytes of the publications that may wait for Redis. Further ones are refused (503).",
          field: |it| Field::Size { value: &mut it.redis.publish_queue_bytes_max, min: 1024 } },
    Key { path: "redis.publish_timeout",
          help: "How long Redis may take to accept a publication before the client gets 503.",
          field: |it| Field::Duration { value: &mut it.redis.publish_timeout, min: MILLISECOND } },
    Key { path: "redis.stream_prefix",
          help: "Prefix of a topic's name in the key of its Redis Stream, for topics with log = \"redis-stream\". A hash tag, such as \
                 {app}, puts all streams into one slot of a Redis Cluster.",
          field: |it| Field::Scalar(&mut it.redis_stream.prefix) },
    Key { path: "redis.stream_poll",
          help: "How often the hub asks each master of a Redis Cluster for new entries of the streams that are read; with one server it \
                 waits for them. A longer time saves work at hub and masters, and entries come as much later; more than \
                 redis.ping_interval counts as that.",
          field: |it| Field::Duration { value: &mut it.redis_stream.poll, min: MILLISECOND } },
    Key { path: "redis.archive_queue_max",
          help: "Readers that may wait for events that only the Redis Stream still has. Further ones are refused and \
                 told to retry later (503).",
          field: |it| Field::Count { value: &mut it.redis_stream.archive_queue_max, min: 1 } },
    Key { path: "redis.archive_cache_bytes",
          help: "Memory for pages of Redis Streams read lately, which the next reader gets without asking Redis. 0: no \
                 cache.",
          field: |it| Field::Size { value: &mut it.redis_stream.archive_cache_bytes, min: 0 } },
];
