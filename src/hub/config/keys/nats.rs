//! The keys of the section `nats`.

use std::time::Duration;

use super::{Key, MILLISECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "nats.url",
          help: "NATS servers, with commas between them: nats://[user:password@|token@]host[:port], or tls:// to refuse a \
                 server without TLS. The hub connects to one of them. Empty: no NATS. A reload (SIGHUP) applies a changed \
                 login to new connections; a change of the servers needs a restart.",
          field: |it| Field::Scalar(&mut it.nats_url) },
    Key { path: "nats.url_file",
          help: "File that holds the URLs instead of nats.url, so that a password need not stand in the configuration. It \
                 is read again at SIGHUP, and when a server refuses the login.",
          field: |it| Field::Scalar(&mut it.nats_url_file) },
    Key { path: "nats.user",
          help: "User name for NATS, with nats.password or nats.password_file, if nats.url holds no login.",
          field: |it| Field::Scalar(&mut it.nats_auth.user) },
    Key { path: "nats.password",
          help: "Password of nats.user.",
          field: |it| Field::Scalar(&mut it.nats_auth.password) },
    Key { path: "nats.password_file",
          help: "File that holds the password of nats.user. It is read again at SIGHUP, and when a server refuses the login.",
          field: |it| Field::Scalar(&mut it.nats_auth.password_file) },
    Key { path: "nats.token",
          help: "Token for NATS servers that ask for one, if nats.url holds no login.",
          field: |it| Field::Scalar(&mut it.nats_auth.token) },
    Key { path: "nats.token_file",
          help: "File that holds the token. It is read again at SIGHUP, and when a server refuses the login.",
          field: |it| Field::Scalar(&mut it.nats_auth.token_file) },
    Key { path: "nats.nkey_file",
          help: "File that holds the seed of an NKey (SU…), for servers that know its public key. It is read again at \
                 SIGHUP, and when a server refuses the login.",
          field: |it| Field::Scalar(&mut it.nats_auth.nkey_file) },
    Key { path: "nats.credentials_file",
          help: "Credentials file (.creds): a JWT and the seed of its NKey. It is read again at SIGHUP, and when a server \
                 refuses the login.",
          field: |it| Field::Scalar(&mut it.nats_auth.credentials_file) },
    Key { path: "nats.ca_file",
          help: "Certificate authorities for NATS servers with TLS, in PEM. Empty: those of the system.",
          field: |it| Field::Scalar(&mut it.nats.ca_file) },
    Key { path: "nats.certificate_file",
          help: "The hub's certificate chain for a NATS server that asks for client certificates, in PEM.",
          field: |it| Field::Scalar(&mut it.nats.certificate_file) },
    Key { path: "nats.key_file",
          help: "Private key for nats.certificate_file, in PEM.",
          field: |it| Field::Scalar(&mut it.nats.key_file) },
    Key { path: "nats.subscribe",
          help: "Subjects that stay subscribed without any reader, such as \"orders.*\" or \"orders.>\". \">\" also brings \
                 what other clients publish to each other's inboxes.",
          field: |it| Field::ScalarList(&mut it.nats.subscribe) },
    Key { path: "nats.interest",
          help: "Subscribe to a topic's subject while the topic has readers. false: only nats.subscribe brings events.",
          field: |it| Field::Flag(&mut it.nats.interest) },
    Key { path: "nats.linger",
          help: "How long a subject stays subscribed after its topic's last reader has left.",
          field: |it| Field::Duration { value: &mut it.nats.linger, min: Duration::ZERO } },
    Key { path: "nats.inbox_prefix",
          help: "Prefix of the subjects PREFIX.fanfare.> to which the hub publishes and subscribes to have its commands \
                 confirmed and delivery proven. The server's permissions have to allow both.",
          field: |it| Field::Scalar(&mut it.nats.inbox_prefix) },
    Key { path: "nats.connect_timeout",
          help: "How long connecting to one NATS server may take.",
          field: |it| Field::Duration { value: &mut it.nats.connect_timeout, min: MILLISECOND } },
    Key { path: "nats.backoff_min",
          help: "First pause before connecting to NATS again. It doubles after each failure, with jitter, up to \
                 nats.backoff_max.",
          field: |it| Field::Duration { value: &mut it.nats.backoff_min, min: MILLISECOND } },
    Key { path: "nats.backoff_max",
          help: "Longest pause before connecting to NATS again, and before asking again for a subject that the server's \
                 permissions deny.",
          field: |it| Field::Duration { value: &mut it.nats.backoff_max, min: MILLISECOND } },
    Key { path: "nats.ping_interval",
          help: "How often the hub publishes a nonce to its inbox, which proves that the server delivers.",
          field: |it| Field::Duration { value: &mut it.nats.ping_interval, min: MILLISECOND } },
    Key { path: "nats.ping_timeout",
          help: "How long a nonce may stay away, with nothing else coming, before the hub closes the connection and \
                 connects again. Too short: a busy server counts as lost, and readers are sent a gap.",
          field: |it| Field::Duration { value: &mut it.nats.ping_timeout, min: MILLISECOND } },
    Key { path: "nats.proof_age_max",
          help: "How long ago the last nonce that came back may be before /ready reports 503.",
          field: |it| Field::Duration { value: &mut it.nats.proof_age_max, min: MILLISECOND } },
    Key { path: "nats.read_buffer_bytes",
          help: "Size of the read buffer of the NATS connection. It grows for a larger message.",
          field: |it| Field::Size { value: &mut it.nats.read_buffer_bytes, min: 4096 } },
    Key { path: "nats.backlog_bytes_max",
          help: "Bytes of events from JetStream that may wait while the hub asks for something else, such as the newest part of \
                 another topic. With more the hub connects again and goes on behind the last event that it took. Too small: it \
                 does so again and again in a burst.",
          field: |it| Field::Size { value: &mut it.nats.backlog_bytes_max, min: 1024 } },
    Key { path: "nats.header_bytes_max",
          help: "Bytes that the headers of a message may have. Readers of the topic are sent a gap in place of a message with \
                 more.",
          field: |it| Field::Size { value: &mut it.nats.header_bytes_max, min: 1024 } },
    Key { path: "nats.publish_queue_max",
          help: "Publications that may wait for NATS. Further ones are refused (503).",
          field: |it| Field::Count { value: &mut it.nats.publish_queue_max, min: 1 } },
    Key { path: "nats.publish_queue_bytes_max",
          help: "Bytes of the publications that may wait for NATS. Further ones are refused (503).",
          field: |it| Field::Size { value: &mut it.nats.publish_queue_bytes_max, min: 1024 } },
    Key { path: "nats.publish_timeout",
          help: "How long NATS may take to accept a publication before the client gets 503, or 504 if the publication was \
                 sent.",
          field: |it| Field::Duration { value: &mut it.nats.publish_timeout, min: MILLISECOND } },
    Key { path: "nats.stream_prefix",
          help: "Prefix of the names of the JetStream streams that keep classes of topics with log = \"jetstream\". The rest \
                 is the class's pattern, with `-` for each dot, ANY for `*`, ALL for `**`, and `_` for `/` and `:`.",
          field: |it| Field::Scalar(&mut it.jetstream.stream_prefix) },
    Key { path: "nats.stream_replicas",
          help: "How many servers keep a stream that the hub makes. A stream that there is stays as it is.",
          field: |it| Field::Count { value: &mut it.jetstream.replicas, min: 1 } },
    Key { path: "nats.stream_in_memory",
          help: "Make streams that are kept in memory and not in files.",
          field: |it| Field::Flag(&mut it.jetstream.in_memory) },
    Key { path: "nats.stream_bytes_max",
          help: "Size of a stream that the hub makes, whose oldest events go when it is full. 0: as large as the server \
                 allows.",
          field: |it| Field::Size { value: &mut it.jetstream.stream_bytes_max, min: 0 } },
    Key { path: "nats.domain",
          help: "JetStream domain to use, such as that of a leaf node. Empty: that of the server.",
          field: |it| Field::Scalar(&mut it.jetstream.domain) },
    Key { path: "nats.archive_queue_max",
          help: "Readers that may wait for events that only JetStream still has. Further ones are refused and told to \
                 retry later (503).",
          field: |it| Field::Count { value: &mut it.jetstream.archive_queue_max, min: 1 } },
    Key { path: "nats.archive_cache_bytes",
          help: "Memory for pages of JetStream read lately, which the next reader gets without asking NATS. 0: no cache.",
          field: |it| Field::Size { value: &mut it.jetstream.archive_cache_bytes, min: 0 } },
    Key { path: "nats.quiet_topics",
          help: "Topics of each JetStream class of which the hub remembers when the last event came, in 24 bytes each. A reader \
                 of a topic that was quiet is not sent a gap then because the stream has removed older events of other topics. \
                 Too few: some are. 0: all are.",
          field: |it| Field::Count { value: &mut it.jetstream.quiet_topics, min: 0 } },
];
