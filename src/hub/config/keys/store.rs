//! The keys of the sections `store`, `ready`: the database, and readiness.

use std::time::Duration;

use super::{Key, MILLISECOND, SECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "store.url",
          help: "PostgreSQL database: postgres://[user[:password]@]host[:port]/database. With ?sslmode=require the \
                 connection is encrypted and the server's certificate verified; without it nothing is encrypted. Empty: \
                 no store. A reload (SIGHUP) applies a changed login to new connections; a change of the database needs \
                 a restart.",
          field: |it| Field::Scalar(&mut it.store_url) },
    Key { path: "store.url_file",
          help: "File that holds the URL instead of store.url, so that a password need not stand in the configuration. \
                 It is read again at SIGHUP, and when the server refuses the login.",
          field: |it| Field::Scalar(&mut it.store_url_file) },
    Key { path: "store.ca_file",
          help: "Certificate authorities for sslmode=require, in PEM. Empty: those of the system.",
          field: |it| Field::Scalar(&mut it.store.ca_file) },
    Key { path: "store.queue_rows_max",
          help: "Rows that may wait to be stored. Further ones are refused (503).",
          field: |it| Field::Count { value: &mut it.store.queue_rows_max, min: 1 } },
    Key { path: "store.queue_bytes_max",
          help: "Bytes of the rows that may wait to be stored. Further rows are refused (503).",
          field: |it| Field::Size { value: &mut it.store.queue_bytes_max, min: 1024 } },
    Key { path: "store.batch_rows_max",
          help: "Rows in one transaction, which takes what has queued up. All rows of a request are in the same \
                 transaction.",
          field: |it| Field::Count { value: &mut it.store.batch_rows_max, min: 1 } },
    Key { path: "store.patience",
          help: "How long a row may wait while the database is unavailable before its request fails (503). Once the \
                 database has been unavailable for that long, new requests fail at once.",
          field: |it| Field::Duration { value: &mut it.store.queue_timeout, min: MILLISECOND } },
    Key { path: "store.write_timeout",
          help: "How long one transaction may take before the hub closes the connection to the database.",
          field: |it| Field::Duration { value: &mut it.store.write_timeout, min: MILLISECOND } },
    Key { path: "store.connect_timeout",
          help: "How long connecting to the database may take.",
          field: |it| Field::Duration { value: &mut it.store.connect_timeout, min: MILLISECOND } },
    Key { path: "store.backoff_min",
          help: "First pause before connecting to the database again. It doubles after each failure, with jitter, up to \
                 store.backoff_max.",
          field: |it| Field::Duration { value: &mut it.store.backoff_min, min: MILLISECOND } },
    Key { path: "store.backoff_max",
          help: "Longest pause before connecting to the database again.",
          field: |it| Field::Duration { value: &mut it.store.backoff_max, min: MILLISECOND } },
    Key { path: "store.ping_interval",
          help: "How often an idle connection to the database is checked. After three such intervals without an answer \
                 /ready reports 503.",
          field: |it| Field::Duration { value: &mut it.store.ping_interval, min: MILLISECOND } },
    Key { path: "store.republish_after",
          help: "Publish rows that have been stored for this long without having been published, because a hub or a \
                 broker stopped in between.",
          field: |it| Field::Duration { value: &mut it.store.republish_after, min: MILLISECOND } },
    Key { path: "store.idempotency_window",
          help: "How long the database remembers idempotency keys.",
          field: |it| Field::Duration { value: &mut it.store.idempotency_window, min: SECOND } },
    Key { path: "store.readers",
          help: "Threads that read stored telemetry, each with a connection to the database.",
          field: |it| Field::Count { value: &mut it.store.readers, min: 1 } },
    Key { path: "store.read_queue_max",
          help: "Requests that may wait for a thread that reads stored telemetry. Further ones are refused (503).",
          field: |it| Field::Count { value: &mut it.store.read_queue_max, min: 1 } },
    Key { path: "store.read_timeout",
          help: "How long reading stored telemetry may take before the request fails (504).",
          field: |it| Field::Duration { value: &mut it.store.read_timeout, min: MILLISECOND } },

    Key { path: "ready.require",
          help: "Sources that /ready needs: redis, redis_stream, store, or \"*\" for all that are configured. Without \
                 one of them /ready reports 503. Problems of the others are reported as degraded.",
          field: |it| Field::ScalarList(&mut it.ready.require) },
    Key { path: "ready.delay",
          help: "How long after its required sources deliver for the first time the hub is ready. Meanwhile it hears what clients \
                 of other hubs hear, so that they can go on here: with redis.subscribe = [\"*\"] in a rolling restart, \
                 for example 5s.",
          field: |it| Field::Duration { value: &mut it.ready.delay, min: Duration::ZERO } },
];
