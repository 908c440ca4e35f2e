//! The keys of the section `topics`: what topics keep.

use super::{Key, MILLISECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "topics.history.count",
          help: "Events kept for replay in each topic. Count, bytes and age each bound the history. 0: no history.",
          field: |it| Field::Count { value: &mut it.default_class.retention.history.count, min: 0 } },
    Key { path: "topics.history.bytes",
          help: "Bytes kept for replay in each topic.",
          field: |it| Field::Size { value: &mut it.default_class.retention.history.bytes, min: 0 } },
    Key { path: "topics.history.age",
          help: "Age up to which events are kept for replay.",
          field: |it| Field::Duration { value: &mut it.default_class.retention.history.age, min: MILLISECOND } },
    Key { path: "topics.lag.count",
          help: "Events that a slow reader may be behind before topics.policy applies. The topic keeps that many for \
                 slow readers.",
          field: |it| Field::Count { value: &mut it.default_class.retention.lag.count, min: 1 } },
    Key { path: "topics.lag.bytes",
          help: "Bytes that a slow reader may be behind before topics.policy applies.",
          field: |it| Field::Size { value: &mut it.default_class.retention.lag.bytes, min: 1 } },
    Key { path: "topics.lag.age",
          help: "How long a slow reader may be behind before topics.policy applies.",
          field: |it| Field::Duration { value: &mut it.default_class.retention.lag.age, min: MILLISECOND } },
    Key { path: "topics.policy",
          help: "What happens to a reader that is further behind than topics.lag allows. close: it is disconnected. \
                 skip: it is sent a gap and continues with the oldest event kept. latest: of each key it gets the \
                 newest event only.",
          field: |it| Field::Scalar(&mut it.default_class.policy) },
    Key { path: "topics.key",
          help: "For the policy latest: JSON pointer to the key in an event's payload, such as \"/sensor\". Empty: the \
                 event's type is the key.",
          field: |it| Field::Scalar(&mut it.default_class.key) },
    Key { path: "topics.priority",
          help: "Topics with a lower number are served first when several have new events.",
          field: |it| Field::Signed(&mut it.default_class.priority) },
    Key { path: "topics.log",
          help: "Where a topic's log is kept: memory; or redis-stream or jetstream, from which readers can resume after a \
                 restart and at any hub.",
          field: |it| Field::Scalar(&mut it.default_class) },
    Key { path: "topics.source",
          help: "Where the events of topics come from, and publications go, whose class names no source: redis, nats, or \
                 hub, which keeps them to itself. Empty: the server that is set; with both Redis and NATS set, it has to be \
                 said. A change needs a restart.",
          field: |it| Field::Scalar(&mut it.default_source) },
    Key { path: "topics.class",
          help: "Classes of topics whose settings differ from those above. The first class whose pattern matches \
                 decides.",
          field: |it| Field::Classes { classes: &mut it.classes, base: &it.default_class } },
];
