//! The keys of the section `bridge`.

use std::time::Duration;

use super::Key;
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "bridge.map",
          help: "Topics to carry, such as \"conversations.*\", or \"a.*=>b.*\" to rename them: `*` stands for one \
                 segment, `**` (last) for the rest. The first entry that matches a topic decides. Empty: no bridge.",
          field: |it| Field::ScalarList(&mut it.bridge.maps) },
    Key { path: "bridge.from",
          help: "Source that the events come from: redis or nats, or, as logs, redis_stream or jetstream. Of a log every event is \
                 carried, from the oldest on, once and in order; the other end must be a log, too.",
          field: |it| Field::Scalar(&mut it.bridge.from) },
    Key { path: "bridge.to",
          help: "Source that the events go to: nats or redis, or, as logs, jetstream or redis_stream.",
          field: |it| Field::Scalar(&mut it.bridge.to) },
    Key { path: "bridge.lease",
          help: "How long a bridge that has died keeps others with the same map from taking over. The lease is a key of \
                 the Redis server. 0s: this bridge asks nobody, and a second one doubles every event.",
          field: |it| Field::Duration { value: &mut it.bridge.lease, min: Duration::ZERO } },
    Key { path: "bridge.chain",
          help: "Whether to carry on what another bridge has brought. false: it stays where it is, so that bridges in opposite \
                 directions do not carry events round in circles. true: this bridge is one more link of a chain.",
          field: |it| Field::Flag(&mut it.bridge.chain) },
    Key { path: "bridge.topics_interval",
          help: "How often a bridge that carries logs looks for new topics under its maps. A new topic's first events wait so \
                 long at most. Redis is asked by SCAN over all its keys.",
          field: |it| Field::Duration { value: &mut it.bridge.topics_interval, min: Duration::from_millis(10) } },
    Key { path: "bridge.in_flight_max",
          help: "Publications that may be unanswered at a time. Further events wait in the topics' logs.",
          field: |it| Field::Count { value: &mut it.bridge.in_flight_max, min: 1 } },
];
