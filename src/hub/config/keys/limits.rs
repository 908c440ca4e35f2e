//! The keys of the sections `limits`, `quota`: limits of clients and tenants.

use super::{Key, MILLISECOND};
use crate::{
    config::{field::Field, raw::RawConfig},
    share::Limit,
};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "limits.head_bytes_max",
          help: "Size of a request's head: request line and header fields. Larger ones are refused (431).",
          field: |it| Field::Size { value: &mut it.limits.http.head_bytes_max, min: 256 } },
    Key { path: "limits.headers_max",
          help: "Header fields of a request. Requests with more are refused (431).",
          field: |it| Field::Count { value: &mut it.limits.http.headers_max, min: 1 } },
    Key { path: "limits.body_bytes_max",
          help: "Size of a request's body. Larger ones are refused (413).",
          field: |it| Field::Size { value: &mut it.limits.http.body_bytes_max, min: 1 } },
    Key { path: "limits.head_timeout",
          help: "How long a client may take to send a request's head before it is refused (408).",
          field: |it| Field::Duration { value: &mut it.limits.http.head_timeout, min: MILLISECOND } },
    Key { path: "limits.body_timeout",
          help: "How long a client may pause while it sends a request's body before it is refused (408).",
          field: |it| Field::Duration { value: &mut it.limits.http.body_timeout, min: MILLISECOND } },
    Key { path: "limits.body_total_timeout",
          help: "How long a client may take to send a request's body in all before it is refused (408).",
          field: |it| Field::Duration { value: &mut it.limits.http.body_total_timeout, min: MILLISECOND } },
    Key { path: "limits.idle_timeout",
          help: "Close a connection that has had no request for this long.",
          field: |it| Field::Duration { value: &mut it.limits.http.idle_timeout, min: MILLISECOND } },
    Key { path: "limits.topics_per_connection_max",
          help: "Topics that one connection may subscribe to. More are refused (400).",
          field: |it| Field::Count { value: &mut it.limits.topics_per_connection_max, min: 1 } },
    Key { path: "limits.topics_per_page_max",
          help: "Topics in one answer of GET /topics, unless the client asks for fewer. Each costs a reactor about \
                 three microseconds, over several turns.",
          field: |it| Field::Count { value: &mut it.limits.topics_per_page_max, min: 1 } },
    Key { path: "limits.message_bytes_max",
          help: "Size of a WebSocket message from a client. A larger one ends the connection (close code 1009).",
          field: |it| Field::Size { value: &mut it.limits.websocket.message_bytes_max, min: 1 } },
    Key { path: "limits.fragments_max",
          help: "Frames that one WebSocket message from a client may consist of. More end the connection (close code \
                 1009).",
          field: |it| Field::Small { value: &mut it.limits.websocket.fragments_max, min: 1 } },
    Key { path: "limits.pong_bytes_max",
          help: "Leave a client's pings unanswered while more than this waits to be sent to it.",
          field: |it| Field::Size { value: &mut it.limits.websocket.pong_bytes_max, min: 1 } },
    Key { path: "limits.messages_per_second",
          help: "WebSocket messages per second from one client. Further ones are ignored and answered with an error.",
          field: |it| Field::Small { value: &mut it.limits.rate.messages_per_second, min: 1 } },
    Key { path: "limits.rate_limit_patience",
          help: "How long a client may exceed limits.messages_per_second without a pause before it is disconnected \
                 (close code 1008).",
          field: |it| Field::Duration { value: &mut it.limits.rate.cutoff_timeout, min: MILLISECOND } },
    Key { path: "limits.event_bytes_max",
          help: "Size of one event's payload. Larger publications are refused (413); a larger message from Redis is \
                 dropped and counted.",
          field: |it| Field::Size { value: &mut it.limits.event_bytes_max, min: 1 } },
    Key { path: "limits.objects_per_request_max",
          help: "Readings, alerts or diagnostics in one request. Requests with more are refused (413).",
          field: |it| Field::Count { value: &mut it.limits.objects_per_request_max, min: 1 } },
    Key { path: "limits.idempotency_window",
          help: "How long the hub remembers the idempotency key of a publication. A repetition within this time is not \
                 published again.",
          field: |it| Field::Duration { value: &mut it.limits.idempotency_window, min: MILLISECOND } },
    Key { path: "limits.outbox_bytes_max",
          help: "Answers that may wait for one client to read them. Beyond it the hub takes no further requests of an \
                 HTTP connection until the client has read, and closes a stream.",
          field: |it| Field::Size { value: &mut it.limits.outbox_bytes_max, min: 1024 } },
    Key { path: "limits.closing_timeout",
          help: "How long a connection that is being closed may make no progress in taking its last bytes; ten times \
                 this in all.",
          field: |it| Field::Duration { value: &mut it.limits.closing_timeout, min: MILLISECOND } },
    Key { path: "limits.unsent_timeout",
          help: "Close a stream when its peer's host has sent no TCP acknowledgement for this long. A slow reader still \
                 acknowledges and is not affected.",
          field: |it| Field::Duration { value: &mut it.limits.unsent_timeout, min: MILLISECOND } },
    Key { path: "limits.inbox_events_max",
          help: "Events that may wait for one reactor. Beyond it the reactor reads them from the topics' histories \
                 instead, which costs more.",
          field: |it| Field::Count { value: &mut it.limits.inbox_events_max, min: 1 } },
    Key { path: "limits.tenant_publish_per_second",
          help: "Publications per second of one tenant: a token's subject, an API key, or the address of a client that \
                 shows neither. Further ones are refused (429). Anonymous clients on this machine, and proxies that do \
                 not name their clients, are no tenants. A [[quota]] that sets publish_per_second replaces this limit. \
                 0: no limit.",
          field: |it| Field::Count { value: &mut it.quotas.default_limits[Limit::PublishPerSecond as usize], min: 0 } },
    Key { path: "limits.tenant_bytes_per_second",
          help: "Bytes of payload per second that one tenant may publish. More are refused (429). A [[quota]] that sets \
                 bytes_per_second replaces this limit. 0: no limit.",
          field: |it| Field::Size { value: &mut it.quotas.default_limits[Limit::BytesPerSecond as usize], min: 0 } },
    Key { path: "limits.tenant_budget_percent",
          help: "Percentage of server.memory_budget that the events and topics of one tenant may hold. Above half of it \
                 the tenant's own logs keep fewer events; when it is used up, the tenant is refused (429). A [[quota]] \
                 that sets bytes_held replaces this limit. 100: all of it.",
          field: |it| Field::Count { value: &mut it.quotas.share_percent, min: 1 } },
    Key { path: "limits.tenants_max",
          help: "Tenants that the hub remembers. One that holds nothing and has used nothing for a second is forgotten. \
                 When the table is full, new tenants share the limits of one.",
          field: |it| Field::Count { value: &mut it.quotas.tenants_max, min: 1 } },

    Key { path: "quota",
          help: "Limits for tenants. If several rules bound the same thing, the tightest decides.",
          field: |it| Field::Quotas(&mut it.quotas.rules) },
];
