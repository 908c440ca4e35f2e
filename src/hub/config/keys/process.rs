//! The keys of the sections `log`, `audit`, `drain`, `fleet`, `demo`: the log, the audit, shutting down, other hubs, and the demonstration.

use std::time::Duration;

use super::{Key, MILLISECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "log.level",
          help: "Level: error, warn, info or debug, or directives for each module such as \
                 \"info,fanfare::source=debug\".",
          field: |it| Field::Scalar(&mut it.log.level) },
    Key { path: "log.format",
          help: "Format of a line: text or json.",
          field: |it| Field::Scalar(&mut it.log.format) },
    Key { path: "log.access",
          help: "Log each answered request at level info: client, method, path, status, bytes of the body, and seconds. \
                 Queries and header fields are left out, because they may hold tokens.",
          field: |it| Field::Flag(&mut it.log.access) },
    Key { path: "log.connections",
          help: "Log each connection that ends at level info: client, identity, up to 16 topics, bytes that the client \
                 has acknowledged (not on unix sockets), seconds, and the reason.",
          field: |it| Field::Flag(&mut it.log.connections) },

    Key { path: "audit.to",
          help: "File that lines of the audit are appended to, beside the configuration's own unless it begins with a slash. SIGHUP \
                 opens it again, as logrotate asks. \"stderr\": standard error. Empty: there is no audit.",
          field: |it| Field::Scalar(&mut it.audit.to) },
    Key { path: "audit.leave_out",
          help: "What the audit leaves out: kinds of lines (sign_in, refusal, revocation, admin) and members (peer, subject, \
                 username, token_id, topics), for example where a law forbids to keep addresses.",
          field: |it| Field::ScalarList(&mut it.audit.leave_out) },
    Key { path: "audit.lines_per_second_max",
          help: "Sign-ins in a second that the audit records, and as many revocations. Further ones are counted, and the next line \
                 says how many are missing. After a restart all clients sign in again.",
          field: |it| Field::Count { value: &mut it.audit.lines_per_second_max, min: 1 } },
    Key { path: "audit.refusals_per_second_max",
          help: "Refusals in a second that the audit records. Anybody can cause them, so this bounds how fast strangers fill the disk: \
                 100 lines a second are some 2 GB a day. Further ones are counted, and the next line says how many are missing.",
          field: |it| Field::Count { value: &mut it.audit.refusals_per_second_max, min: 1 } },
    Key { path: "audit.queue_bytes_max",
          help: "Memory for lines of the audit that wait for a slow disk. Further ones are counted, and the next line says how many \
                 are missing; nobody waits for the disk.",
          field: |it| Field::Size { value: &mut it.audit.queue_bytes_max, min: 1024 } },
    Key { path: "audit.text_bytes_max",
          help: "Bytes of one text in the audit, such as a subject. Longer ones are cut, and the line says so (\"cut\": true).",
          field: |it| Field::Count { value: &mut it.audit.text_bytes_max, min: 16 } },
    Key { path: "audit.repeat_after",
          help: "How long the audit passes over further requests of a client that shows the same credential from the same address. \
                 Streams are recorded each time. 0s: each request is recorded.",
          field: |it| Field::Duration { value: &mut it.audit.repeat_after, min: Duration::ZERO } },
    Key { path: "audit.clients_max",
          help: "Clients that audit.repeat_after remembers. When more come, all are recorded again.",
          field: |it| Field::Count { value: &mut it.audit.clients_max, min: 1 } },

    Key { path: "drain.delay",
          help: "How long after a SIGTERM /ready reports 503 while the hub goes on serving, so that proxies stop \
                 sending clients. SIGINT skips the delay.",
          field: |it| Field::Duration { value: &mut it.drain.delay, min: Duration::ZERO } },
    Key { path: "drain.window",
          help: "Period after drain.delay over which connections are closed, so that clients do not all reconnect at \
                 once.",
          field: |it| Field::Duration { value: &mut it.drain.window, min: Duration::ZERO } },

    Key { path: "fleet.heartbeat",
          help: "How often the hub tells the other hubs on its broker that it runs, on the channel fanfare.orders.hubs. \
                 /stats shows each hub until it has been silent for three of these intervals, so all hubs need the same \
                 value. 0s: this hub neither tells the others nor listens to them.",
          field: |it| Field::Duration { value: &mut it.fleet.heartbeat, min: Duration::ZERO } },
    Key { path: "fleet.hubs_max",
          help: "Other hubs remembered at a time. Heartbeats of further ones are dropped and counted.",
          field: |it| Field::Count { value: &mut it.fleet.hubs_max, min: 1 } },

    Key { path: "demo.enabled",
          help: "Generate events for the streams of /api/v1/events and /api/v1/broadcast-demo.",
          field: |it| Field::Flag(&mut it.demo_enabled) },
    Key { path: "demo.default_interval",
          help: "Average interval between generated events of the stream `default`.",
          field: |it| Field::Duration { value: &mut it.demo.default_interval, min: MILLISECOND } },
    Key { path: "demo.system_interval",
          help: "Average interval between generated events of the stream `system`.",
          field: |it| Field::Duration { value: &mut it.demo.system_interval, min: MILLISECOND } },
    Key { path: "demo.user_activity_interval",
          help: "Average interval between generated events of the stream `user-activity`.",
          field: |it| Field::Duration { value: &mut it.demo.user_activity_interval, min: MILLISECOND } },
    Key { path: "demo.notifications_interval",
          help: "Average interval between generated events of the stream `notifications`.",
          field: |it| Field::Duration { value: &mut it.demo.notifications_interval, min: MILLISECOND } },
    Key { path: "demo.custom_interval",
          help: "Average interval between generated events of streams of other names, which are started by request.",
          field: |it| Field::Duration { value: &mut it.demo.custom_interval, min: MILLISECOND } },
    Key { path: "demo.streams_max",
          help: "Streams with generated events. Starting another is refused (409).",
          field: |it| Field::Count { value: &mut it.demo.streams_max, min: 1 } },
    Key { path: "demo.queue_max",
          help: "Requests to start, stop, pause or resume a stream that may wait. Further ones are refused (503).",
          field: |it| Field::Count { value: &mut it.demo.queue_max, min: 1 } },
    Key { path: "demo.lease",
          help: "How long a hub that has died keeps another one on the same Redis or NATS from generating the streams that run \
                 from the start. The lease is the key fanfare.lease.generators of the Redis server; hubs on NATS settle it \
                 among themselves on the subject fanfare.orders.lease.generators, and the first one generates nothing for so \
                 long. 0s: this hub asks nobody, and two hubs double every event.",
          field: |it| Field::Duration { value: &mut it.demo.lease, min: Duration::ZERO } },
];
