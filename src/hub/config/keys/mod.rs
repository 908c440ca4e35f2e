//! Every key, one row each. Parsing, suggestions, `config default` and `config show` follow from these rows.

mod auth;
mod bridge;
mod limits;
mod nats;
mod process;
mod redis;
mod server;
mod store;
mod topics;
mod web;

use std::time::Duration;

use super::{field::Field, raw::RawConfig};

/// One key of a table that is parsed into a `T`.
#[derive(Debug)]
pub(super) struct Key<T: 'static> {
    /// Its name, behind the names of the tables that it stands in, with dots between them.
    pub(super) path: &'static str,
    /// The comment above it in `config default`: what it does, its unit, and what a value that is too small or too large does.
    /// Each can be read alone.
    pub(super) help: &'static str,
    /// The field of `T` that it sets.
    pub(super) field: fn(&mut T) -> Field<'_>,
}

// Not derived: a key can be copied whether or not its `T` can.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

/// Each section and its comment, in the order of `config default`.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("server", "Addresses, threads and limits of the whole server."),
    ("admin", "A separate port for health, readiness and metrics."),
    ("limits", "Limits for each client, connection, request and message."),
    ("topics", "How many events topics keep, and what happens to slow readers."),
    ("redis", "Redis Pub/Sub and Redis Streams. Without a URL the hub uses its own in-process bus."),
    ("nats", "NATS and JetStream: topics are subjects of the same name. Without a URL there is none."),
    ("bridge", "A bridge from Redis to NATS or back; `fanfare bridge` sets these keys."),
    ("auth", "Authentication and authorization. Tokens are JSON Web Tokens; `fanfare token` makes one."),
    ("users", "Users who sign in with a password, at POST /api/v1/auth/login."),
    ("store", "PostgreSQL, where telemetry is stored. Without a URL telemetry is published only."),
    ("ready", "When /ready reports that the hub is ready."),
    ("proxy", "Trusted proxies in front of the hub."),
    ("cors", "Web pages of other origins that may use the hub."),
    ("sse", "Server-Sent Events."),
    ("websocket", "WebSocket."),
    ("socketio", "Socket.IO and Engine.IO, at /socket.io/."),
    ("esp", "The ESP IoT platform's API: wells, over Server-Sent Events and Socket.IO."),
    ("log", "The hub's own log, on standard error."),
    (
        "audit",
        "Who signed in, who was refused, and what operators did: a line of JSON each. docs/operations.md has its members.",
    ),
    ("drain", "How the hub shuts down after a SIGTERM."),
    ("fleet", "Other hubs on the same Redis or NATS."),
    ("demo", "Generated events for the streams of the event streaming service."),
];

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// All keys, in the order of `config default`.
pub(super) static KEYS: &[Key<RawConfig>] = &ALL;

const GROUPS: [&[Key<RawConfig>]; 10] = [
    server::KEYS,
    limits::KEYS,
    topics::KEYS,
    redis::KEYS,
    nats::KEYS,
    bridge::KEYS,
    auth::KEYS,
    store::KEYS,
    web::KEYS,
    process::KEYS,
];

static ALL: [Key<RawConfig>; count()] = concatenate();

const fn count() -> usize {
    let (mut sum, mut group) = (0, 0);
    while group < GROUPS.len() {
        sum += GROUPS[group].len();
        group += 1;
    }
    sum
}

/// The keys of all groups. A loop, since iterators do not run at compile time.
const fn concatenate() -> [Key<RawConfig>; count()] {
    let mut all = [GROUPS[0][0]; count()];
    let (mut next, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut index = 0;
        while index < GROUPS[group].len() {
            all[next] = GROUPS[group][index];
            next += 1;
            index += 1;
        }
        group += 1;
    }
    all
}

/// Whether the key at `path` is a value outside of all sections. Those come first in a file: TOML has no other place for them.
pub(super) fn is_of_no_section(path: &str) -> bool {
    !path.contains('.') && !matches!(path, "quota" | "api_keys")
}
