//! The keys of the sections `compat`, `server`, `admin`: what listens, and for how many clients.

use super::{Key, MILLISECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "compat",
          help: "Compatibility APIs to serve. broadcaster: a WebSocket that names no topic subscribes to \
                 events.critical (the default of server.default_topics, which is empty without broadcaster). \
                 event-streams: /api/v1/events and /api/v1/broadcast-demo. esp: wells (/api/v1/sse, /telemetry, \
                 /alerts, /diagnostics), and over Socket.IO the greeting and well_id. iot-pods: /POD/events/changes. \
                 Paths of an API that is not listed return 404, and nothing of it runs. Signing in and the native \
                 protocols are always served.",
          field: |it| Field::ScalarList(&mut it.compat.0) },

    Key { path: "server.listen",
          help: "Addresses to listen on: \"host:port\", \"unix:/path\", or \"systemd:NAME\" for the sockets of a systemd unit.",
          field: |it| Field::ScalarList(&mut it.server.listen) },
    Key { path: "server.hosts",
          help: "Host names that requests may use (header Host) while auth.mode is none: \"hub.example\", \
                 \"*.hub.example\", or \"*\" for any. Always allowed are loopback names and addresses, the addresses in \
                 server.listen, and names without a dot; other names are refused (403), so that no web page reaches the \
                 hub under a name of its own (DNS rebinding). Behind a proxy that passes on its public name, list that \
                 name. cors.allow_origins = [\"*\"] allows any name, too.",
          field: |it| Field::ScalarList(&mut it.server.hosts) },
    Key { path: "server.reactors",
          help: "Reactor threads. 0: one for each core, or for each core that `pin` lists. More threads than cores cost \
                 latency.",
          field: |it| Field::Count { value: &mut it.server.reactors, min: 0 } },
    Key { path: "server.pin",
          help: "Pin each reactor to a core: true, false, or the cores to use, such as \"0,2-4\".",
          field: |it| Field::Pin(&mut it.server.pin) },
    Key { path: "server.max_connections",
          help: "Open connections over all reactors. Further clients are refused and told to retry later (503). At \
                 start the hub lowers the limit to what the process may open (ulimit -n), and logs that.",
          field: |it| Field::Count { value: &mut it.server.max_connections, min: 1 } },
    Key { path: "server.max_refusals",
          help: "Connections beyond server.max_connections that stay open until their clients have read the refusal. \
                 When more arrive, the oldest is closed. Too small: slow clients see a closed connection instead of the \
                 refusal.",
          field: |it| Field::Count { value: &mut it.server.max_refusals, min: 1 } },
    Key { path: "server.reserved_descriptors",
          help: "File descriptors that connections never take: for brokers, the database, log files, and files read at \
                 a reload.",
          field: |it| Field::Count { value: &mut it.server.reserved_descriptors, min: 1 } },
    Key { path: "server.max_connections_per_ip",
          help: "Open connections from one address, or from one client of a trusted proxy. Further ones are refused \
                 (429). 0: no limit.",
          field: |it| Field::Count { value: &mut it.server.max_connections_per_ip, min: 0 } },
    Key { path: "server.memory_budget",
          help: "Memory for logs, waiting answers and half-received requests together. Above half of it logs keep fewer \
                 events; when it is used up, publications and new subscriptions are refused (503).",
          field: |it| Field::Size { value: &mut it.server.memory_budget, min: 1 << 20 } },
    Key { path: "server.default_topics",
          help: "Topics of a WebSocket connection that names none. Empty by default if compat does not list \
                 broadcaster.",
          field: |it| Field::ScalarList(&mut it.server.default_topics) },
    Key { path: "server.live_timeout",
          help: "How long opening a stream waits for its source to confirm the topics.",
          field: |it| Field::Duration { value: &mut it.server.live_timeout, min: MILLISECOND } },
    Key { path: "server.stuck_after",
          help: "A reactor that has not finished a turn for this long counts as stuck: /health fails.",
          field: |it| Field::Duration { value: &mut it.server.stuck_after, min: MILLISECOND } },
    Key { path: "server.insecure",
          help: "Allow addresses that other machines can reach although auth.mode is none: anybody who reaches them may \
                 read and publish.",
          field: |it| Field::Flag(&mut it.server.insecure) },
    Key { path: "server.socket_owner",
          help: "User that owns the unix sockets in server.listen: a name or a number. Empty: the user the hub runs as. \
                 Another user needs a hub that starts as root.",
          field: |it| Field::Scalar(&mut it.server.socket.owner) },
    Key { path: "server.socket_group",
          help: "Group of the unix sockets in server.listen: a name or a number. Empty: the group the hub runs as.",
          field: |it| Field::Scalar(&mut it.server.socket.group) },
    Key { path: "server.socket_mode",
          help: "Permissions of the unix sockets in server.listen, such as \"0660\": whoever may write may connect. \
                 Empty: as the umask leaves them.",
          field: |it| Field::Scalar(&mut it.server.socket.mode) },

    Key { path: "admin.listen",
          help: "Addresses for /health, /ready and /metrics alone. Empty: server.listen serves these paths.",
          field: |it| Field::ScalarList(&mut it.admin.listen) },
    Key { path: "admin.max_connections",
          help: "Open connections to admin.listen. They do not count for server.max_connections.",
          field: |it| Field::Count { value: &mut it.admin.max_connections, min: 1 } },
    Key { path: "admin.socket_owner",
          help: "User that owns the unix sockets in admin.listen: a name or a number. Empty: the user the hub runs as. \
                 Another user needs a hub that starts as root.",
          field: |it| Field::Scalar(&mut it.admin.socket.owner) },
    Key { path: "admin.socket_group",
          help: "Group of the unix sockets in admin.listen: a name or a number. Empty: the group the hub runs as.",
          field: |it| Field::Scalar(&mut it.admin.socket.group) },
    Key { path: "admin.socket_mode",
          help: "Permissions of the unix sockets in admin.listen, such as \"0660\": whoever may write may connect. \
                 Empty: as the umask leaves them.",
          field: |it| Field::Scalar(&mut it.admin.socket.mode) },
];
