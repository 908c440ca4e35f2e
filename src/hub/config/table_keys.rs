//! The keys of the tables that may stand several times: `[[topics.class]]`, `[[auth.rule]]`, `[[api_keys]]`, `[[quota]]`.

use super::{
    field::Field,
    keys::{Key, MILLISECOND},
    raw::{RawApiKey, RawClass},
};
use crate::{
    auth::{ClaimRule, QuotaRule},
    share::Limit,
};

/// The keys of one `[[topics.class]]` table.
#[rustfmt::skip]
pub(super) const CLASS_KEYS: &[Key<RawClass>] = &[
    Key { path: "match",
          help: "Pattern of topic names: `*` stands for one segment, `**` for the rest.",
          field: |it| Field::Scalar(&mut it.matching) },
    Key { path: "history.count",
          help: "As topics.history.count, for topics of this class.",
          field: |it| Field::Count { value: &mut it.class.retention.history.count, min: 0 } },
    Key { path: "history.bytes",
          help: "As topics.history.bytes, for topics of this class.",
          field: |it| Field::Size { value: &mut it.class.retention.history.bytes, min: 0 } },
    Key { path: "history.age",
          help: "As topics.history.age, for topics of this class.",
          field: |it| Field::Duration { value: &mut it.class.retention.history.age, min: MILLISECOND } },
    Key { path: "lag.count",
          help: "As topics.lag.count, for topics of this class.",
          field: |it| Field::Count { value: &mut it.class.retention.lag.count, min: 1 } },
    Key { path: "lag.bytes",
          help: "As topics.lag.bytes, for topics of this class.",
          field: |it| Field::Size { value: &mut it.class.retention.lag.bytes, min: 1 } },
    Key { path: "lag.age",
          help: "As topics.lag.age, for topics of this class.",
          field: |it| Field::Duration { value: &mut it.class.retention.lag.age, min: MILLISECOND } },
    Key { path: "policy",
          help: "As topics.policy, for topics of this class.",
          field: |it| Field::Scalar(&mut it.class.policy) },
    Key { path: "key",
          help: "As topics.key, for topics of this class.",
          field: |it| Field::Scalar(&mut it.class.key) },
    Key { path: "priority",
          help: "As topics.priority, for topics of this class.",
          field: |it| Field::Signed(&mut it.class.priority) },
    Key { path: "log",
          help: "As topics.log, for topics of this class.",
          field: |it| Field::Scalar(&mut it.class) },
    Key { path: "source",
          help: "As topics.source, for topics of this class whose log is in memory.",
          field: |it| Field::Scalar(&mut it.source) },
];

/// The keys of one `[[auth.rule]]` table.
#[rustfmt::skip]
pub(super) const CLAIM_RULE_KEYS: &[Key<ClaimRule>] = &[
    Key { path: "claim",
          help: "Path of the claim, such as \"realm_access.roles\". Names of members may have dots.",
          field: |it| Field::Scalar(&mut it.claim) },
    Key { path: "value",
          help: "Value that the claim must have; of a list, one of its values; of `scope` and `scp`, one of the words. Empty: any \
                 but null, false and nothing.",
          field: |it| Field::Scalar(&mut it.value) },
    Key { path: "role",
          help: "Role of clients with that value. admin may do everything. The first rule that holds and has a role decides.",
          field: |it| Field::Scalar(&mut it.role) },
    Key { path: "subscribe",
          help: "Patterns of the topics that such clients may subscribe to. {sub} stands for what the claim `sub` says.",
          field: |it| Field::ScalarList(&mut it.subscribe) },
    Key { path: "publish",
          help: "Patterns of the topics that such clients may publish to. {sub} stands for what the claim `sub` says.",
          field: |it| Field::ScalarList(&mut it.publish) },
];

/// The keys of one `[[api_keys]]` table.
#[rustfmt::skip]
pub(super) const API_KEY_KEYS: &[Key<RawApiKey>] = &[
    Key { path: "name",
          help: "Name of the key's owner, which counts as its subject.",
          field: |it| Field::Scalar(&mut it.key.name) },
    Key { path: "key",
          help: "The key, which clients send as X-API-Key or as Authorization: Bearer.",
          field: |it| Field::Scalar(&mut it.key.secret) },
    Key { path: "key_file",
          help: "File that holds the key, instead of `key`.",
          field: |it| Field::Scalar(&mut it.file) },
    Key { path: "role",
          help: "Role of the key's owner. admin may do everything.",
          field: |it| Field::Scalar(&mut it.role) },
    Key { path: "subscribe",
          help: "Patterns of the topics that the key may subscribe to.",
          field: |it| Field::ScalarList(&mut it.key.subscribe) },
    Key { path: "publish",
          help: "Patterns of the topics that the key may publish to.",
          field: |it| Field::ScalarList(&mut it.key.publish) },
];

/// The keys of one `[[quota]]` table.
#[rustfmt::skip]
pub(super) const QUOTA_KEYS: &[Key<QuotaRule>] = &[
    Key { path: "name",
          help: "Name of the rule in refusals and metrics.",
          field: |it| Field::Scalar(&mut it.name) },
    Key { path: "who",
          help: "Tenants that the rule applies to, each by itself: \"sub:NAME\", \"role:NAME\", \
                 \"api_key:NAME\", \"address:10.0.0.0/8\" or \"*\".",
          field: |it| Field::Scalar(&mut it.who) },
    Key { path: "topics",
          help: "Patterns of the topics that the rule applies to. Empty: all.",
          field: |it| Field::ScalarList(&mut it.topics) },
    Key { path: "publish_per_second",
          help: "Publications per second; a burst may have as many. 0: no limit.",
          field: |it| Field::Count { value: &mut it.limits[Limit::PublishPerSecond as usize], min: 0 } },
    Key { path: "bytes_per_second",
          help: "Bytes of payload per second; a burst may have as many. 0: no limit.",
          field: |it| Field::Size { value: &mut it.limits[Limit::BytesPerSecond as usize], min: 0 } },
    Key { path: "bytes_held",
          help: "Bytes that a tenant's events and topics may hold. 0: no limit.",
          field: |it| Field::Size { value: &mut it.limits[Limit::BytesHeld as usize], min: 0 } },
    Key { path: "topics_held",
          help: "Topics that a tenant has created and the hub still keeps. 0: no limit.",
          field: |it| Field::Count { value: &mut it.limits[Limit::TopicsHeld as usize], min: 0 } },
    Key { path: "connections",
          help: "Open streams of a tenant: Server-Sent Events, WebSockets, and Socket.IO sessions whose client \
                 has entered a namespace. 0: no limit.",
          field: |it| Field::Count { value: &mut it.limits[Limit::Connections as usize], min: 0 } },
];
