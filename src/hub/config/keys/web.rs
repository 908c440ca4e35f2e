//! The keys of the sections `proxy`, `cors`, `sse`, `websocket`, `socketio`, `esp`: proxies, pages and the protocols of clients.

use std::time::Duration;

use super::{Key, MILLISECOND, SECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "proxy.trusted",
          help: "Proxies whose `X-Forwarded-For`, `Forwarded` or PROXY header is trusted: addresses, networks such as \
                 \"10.0.0.0/8\", or \"unix\" for those at a unix socket. The client is the one that X-Forwarded-For \
                 names, or else Forwarded, and server.max_connections_per_ip applies to that client, not to the proxy.",
          field: |it| Field::ScalarList(&mut it.proxy.trusted.0) },
    Key { path: "proxy.proxy_protocol",
          help: "Require each connection of a trusted proxy to begin with a PROXY protocol header, version 1 or 2, \
                 except at admin.listen.",
          field: |it| Field::Flag(&mut it.proxy.proxy_protocol) },
    Key { path: "proxy.header_bytes_max",
          help: "Size of a PROXY protocol header. Connections with a larger one are refused (400).",
          field: |it| Field::Size { value: &mut it.proxy.limits.header_bytes_max, min: 232 } },

    Key { path: "cors.allow_origins",
          help: "Other origins whose pages may use the hub: \"https://example.org\", \"https://*.example.org\", or \
                 \"*\" for any. Pages of the hub's own origin and of loopback origins always may, and with auth.mode = \
                 jwt every page that shows a token or an API key. With auth.mode = none, \"*\" lets any page that \
                 somebody here visits read and publish.",
          field: |it| Field::ScalarList(&mut it.cors.allow_origins) },
    Key { path: "cors.allow_credentials",
          help: "Let pages of other origins send cookies. Each origin must then be listed in cors.allow_origins.",
          field: |it| Field::Flag(&mut it.cors.allow_credentials) },

    Key { path: "sse.heartbeat",
          help: "Send a comment on a stream that has been silent for this long. Longer than a proxy's read timeout: the \
                 proxy cuts silent streams.",
          field: |it| Field::Duration { value: &mut it.sse.heartbeat, min: SECOND } },
    Key { path: "sse.retry",
          help: "How long a browser waits before it reconnects a lost stream. The hub sends each browser up to half as \
                 much more, so that not all return at once.",
          field: |it| Field::Duration { value: &mut it.sse.retry, min: MILLISECOND } },

    Key { path: "websocket.ping_interval",
          help: "Send a ping on a connection that has been silent for this long.",
          field: |it| Field::Duration { value: &mut it.websocket.ping_interval, min: SECOND } },
    Key { path: "websocket.pong_timeout",
          help: "How long a ping may stay unanswered before the connection is closed. A client that has not yet read \
                 what was sent before the ping gets more time.",
          field: |it| Field::Duration { value: &mut it.websocket.pong_timeout, min: SECOND } },

    Key { path: "socketio.ping_interval",
          help: "How long after a client's last pong the hub sends the next ping.",
          field: |it| Field::Duration { value: &mut it.engine.ping_interval, min: MILLISECOND } },
    Key { path: "socketio.ping_timeout",
          help: "How long a client may leave a ping unanswered before its session ends.",
          field: |it| Field::Duration { value: &mut it.engine.ping_timeout, min: MILLISECOND } },
    Key { path: "socketio.max_payload",
          help: "Size of one message or one request body of a client. A larger one ends the session.",
          field: |it| Field::Size { value: &mut it.engine.payload_bytes_max, min: 1 } },
    Key { path: "socketio.max_packets",
          help: "Packets in one request body of a client. More end the session (400). 0: as many as \
                 socketio.max_payload has room for, which the official client may send.",
          field: |it| Field::Count { value: &mut it.engine.post_packets_max, min: 0 } },
    Key { path: "socketio.connect_max_payload",
          help: "Size of what a client shows to enter a namespace, such as its token, and of the messages that are held \
                 until it has entered one.",
          field: |it| Field::Size { value: &mut it.engine.connect_bytes_max, min: 1 } },
    Key { path: "socketio.max_pending",
          help: "Long-polling sessions whose client has not entered a namespace. When more are opened, the oldest ends. \
                 They do not count for server.max_connections.",
          field: |it| Field::Count { value: &mut it.server.max_pending, min: 1 } },
    Key { path: "socketio.max_pending_per_ip",
          help: "Long-polling sessions from one address whose client has not entered a namespace. 0: no limit.",
          field: |it| Field::Count { value: &mut it.server.max_pending_per_ip, min: 0 } },
    Key { path: "socketio.connect_timeout",
          help: "How long a client may take to enter a namespace before its session ends.",
          field: |it| Field::Duration { value: &mut it.engine.connect_timeout, min: MILLISECOND } },
    Key { path: "socketio.recovery",
          help: "How long a client that lost its connection may return and receive what it missed. Events then have one \
                 more argument, which tells the client its offset. \"0s\": no recovery.",
          field: |it| Field::Duration { value: &mut it.engine.recovery, min: Duration::ZERO } },

    Key { path: "esp.platform",
          help: "Name of the platform in the greeting that clients receive.",
          field: |it| Field::Scalar(&mut it.esp.platform) },
    Key { path: "esp.heartbeat",
          help: "How often a well's stream sends a `heartbeat` event.",
          field: |it| Field::Duration { value: &mut it.esp.heartbeat, min: SECOND } },
    Key { path: "esp.denied_retry",
          help: "How long a browser waits before it opens a well's stream again that was refused. Its URL holds the \
                 token, so an early attempt would be refused again.",
          field: |it| Field::Duration { value: &mut it.esp.denied_retry, min: MILLISECOND } },
    Key { path: "esp.namespaces",
          help: "Socket.IO namespaces that clients may enter, whether or not compat lists esp.",
          field: |it| Field::ScalarList(&mut it.esp.namespaces) },
];
