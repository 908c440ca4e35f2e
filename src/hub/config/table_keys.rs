//! The keys of tables of which there may be several, one row each.

use super::{
    field::Field,
    keys::{Key, MILLISECOND},
    raw::{RawApiKey, RawClass},
};
use crate::{auth::QuotaRule, share::Limit};

/// The keys of one `[[topics.class]]` table.
#[rustfmt::skip]
pub(super) const CLASS_KEYS: &[Key<RawClass>] = &[
    Key { path: "match",
          help: "Topic names; `*` stands for one segment, `**` for the rest.",
          field: |it| Field::Scalar(&mut it.matching) },
    Key { path: "history.count",
          help: "As above.",
          field: |it| Field::Count { value: &mut it.class.retention.history.count, min: 0 } },
    Key { path: "history.bytes",
          help: "As above.",
          field: |it| Field::Size { value: &mut it.class.retention.history.bytes, min: 0 } },
    Key { path: "history.age",
          help: "As above.",
          field: |it| Field::Duration { value: &mut it.class.retention.history.age, min: MILLISECOND } },
    Key { path: "lag.count",
          help: "As above.",
          field: |it| Field::Count { value: &mut it.class.retention.lag.count, min: 1 } },
    Key { path: "lag.bytes",
          help: "As above.",
          field: |it| Field::Size { value: &mut it.class.retention.lag.bytes, min: 1 } },
    Key { path: "lag.age",
          help: "As above.",
          field: |it| Field::Duration { value: &mut it.class.retention.lag.age, min: MILLISECOND } },
    Key { path: "policy",
          help: "As above.",
          field: |it| Field::Scalar(&mut it.class.policy) },
    Key { path: "key",
          help: "As above.",
          field: |it| Field::Scalar(&mut it.class.key) },
    Key { path: "priority",
          help: "As above.",
          field: |it| Field::Signed(&mut it.class.priority) },
    Key { path: "log",
          help: "As above.",
          field: |it| Field::Scalar(&mut it.class) },
];

/// The keys of one `[[api_keys]]` table.
#[rustfmt::skip]
pub(super) const API_KEY_KEYS: &[Key<RawApiKey>] = &[
    Key { path: "name",
          help: "Whose key it is.",
          field: |it| Field::Scalar(&mut it.key.name) },
    Key { path: "key",
          help: "The key, sent as X-API-Key or as Authorization: Bearer.",
          field: |it| Field::Scalar(&mut it.key.secret) },
    Key { path: "key_file",
          help: "A file that holds it.",
          field: |it| Field::Scalar(&mut it.file) },
    Key { path: "role",
          help: "Its role; admin may do everything.",
          field: |it| Field::Scalar(&mut it.role) },
    Key { path: "subscribe",
          help: "Patterns of topics that it may listen to.",
          field: |it| Field::ScalarList(&mut it.key.subscribe) },
    Key { path: "publish",
          help: "Patterns of topics that it may publish to.",
          field: |it| Field::ScalarList(&mut it.key.publish) },
];

/// The keys of one `[[quota]]` table.
#[rustfmt::skip]
pub(super) const QUOTA_KEYS: &[Key<QuotaRule>] = &[
    Key { path: "name",
          help: "What refusals and metrics call the rule.",
          field: |it| Field::Scalar(&mut it.name) },
    Key { path: "who",
          help: "Whom it concerns, each by itself: \"sub:NAME\", \"role:NAME\", \"api_key:NAME\", \"address:10.0.0.0/8\" or \"*\".",
          field: |it| Field::Scalar(&mut it.who) },
    Key { path: "topics",
          help: "Patterns of the topics it concerns. Empty: all.",
          field: |it| Field::ScalarList(&mut it.topics) },
    Key { path: "publish_per_second",
          help: "Publications a second, and as many at once. 0: no limit.",
          field: |it| Field::Count { value: &mut it.limits[Limit::PublishPerSecond as usize], min: 0 } },
    Key { path: "bytes_per_second",
          help: "Bytes of payload a second, and as many at once. 0: no limit.",
          field: |it| Field::Size { value: &mut it.limits[Limit::BytesPerSecond as usize], min: 0 } },
    Key { path: "bytes_held",
          help: "Bytes that its events and topics hold. 0: no limit.",
          field: |it| Field::Size { value: &mut it.limits[Limit::BytesHeld as usize], min: 0 } },
    Key { path: "topics_held",
          help: "Topics that it has begun and that are not forgotten. 0: no limit.",
          field: |it| Field::Count { value: &mut it.limits[Limit::TopicsHeld as usize], min: 0 } },
    Key { path: "connections",
          help: "Streams it has open at a time: ServerConfig-Sent Events, WebSockets, and Socket.IO sessions whose client has entered a \
                 namespace. 0: no limit.",
          field: |it| Field::Count { value: &mut it.limits[Limit::Connections as usize], min: 0 } },
];
