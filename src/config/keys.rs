//! Every key there is, one row each. Reading, suggestions, `config default` and `config show` follow from these rows.

use std::{ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::share::Limit;

use super::{
    field::{Fault, Field},
    nearest::nearest,
    written::Written,
};

/// One key of a `T`.
#[derive(Debug)]
pub(super) struct Key<T: 'static> {
    /// Its name, with the names of the tables it stands in.
    pub(super) path: &'static str,
    /// What it does, for the comment above it.
    pub(super) help: &'static str,
    /// Where its value is kept.
    pub(super) field: fn(&mut T) -> Field<'_>,
}

/// What each section is about, in the order in which they are written.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("server", "Where the hub listens, with how many threads, and for how many."),
    ("admin", "A port of its own for health, readiness and metrics."),
    ("limits", "What one peer may ask for."),
    ("topics", "How long topics remember, and what becomes of slow readers."),
    ("redis", "Redis Pub/Sub and Streams. Without a URL the hub runs on its own in-process bus."),
    ("auth", "Who may do what. Tokens are JSON Web Tokens: `fanfare token` makes one."),
    ("users", "Users that sign in with a password, at POST /api/v1/auth/login."),
    ("store", "PostgreSQL, where telemetry is kept. Without a URL it is published only."),
    ("ready", "When the hub says that it is ready, at /ready."),
    ("proxy", "Proxies in front of the hub, and what they may say of their clients."),
    ("cors", "Which web pages may read."),
    ("sse", "Server-Sent Events."),
    ("websocket", "WebSocket."),
    ("socketio", "Socket.IO and Engine.IO, at /socket.io/."),
    ("esp", "The ESP IoT platform's API: wells, by Server-Sent Events and Socket.IO."),
    ("log", "The hub's own log, on standard error."),
    ("drain", "How the hub ends after a SIGTERM."),
    ("demo", "Events that nobody sent, for the event streaming service to show."),
];

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A row for each key, in the order in which they are written.
#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<Written>] = &[
    Key { path: "server.listen",
          help: "Addresses to listen at: \"host:port\" or \"unix:/path\".",
          field: |it| Field::Words(&mut it.server.listen) },
    Key { path: "server.hosts",
          help: "Names by which the hub may be asked for (Host) while auth.mode is none: \"hub.example\", \"*.hub.example\", or \
                 \"*\" for any. Loopback names and addresses, the addresses that it listens at, and names without a dot are \
                 always allowed; others are refused (403), so that no web page reaches the hub by a name of its own. A proxy \
                 that passes its public name on needs that name here. cors.allow_origins = [\"*\"] allows any as well.",
          field: |it| Field::Words(&mut it.server.hosts) },
    Key { path: "server.reactors",
          help: "Reactor threads. 0: as many as there are cores, or as `pin` lists.",
          field: |it| Field::Count { value: &mut it.server.reactors, min: 0 } },
    Key { path: "server.pin",
          help: "Pin each reactor to a core: true, false, or the cores to use, such as \"0,2-4\".",
          field: |it| Field::Pin(&mut it.server.pin) },
    Key { path: "server.max_connections",
          help: "Connections at a time. More are told to come back later. The hub lowers it at the start to what the process \
                 may have open (ulimit -n), and logs so.",
          field: |it| Field::Count { value: &mut it.server.max_connections, min: 1 } },
    Key { path: "server.max_refusals",
          help: "Connections beyond max_connections that are open at a time until their clients have read the refusal. When \
                 more come, the oldest of them is closed; too few, and slow clients see a closed connection instead.",
          field: |it| Field::Count { value: &mut it.server.max_refusals, min: 1 } },
    Key { path: "server.reserved_descriptors",
          help: "Descriptors that connections never take: for brokers, the database, log files, and files read at a reload.",
          field: |it| Field::Count { value: &mut it.server.reserved_descriptors, min: 1 } },
    Key { path: "server.max_connections_per_ip",
          help: "Connections at a time from one address, or from one client of a trusted proxy. 0: no limit.",
          field: |it| Field::Count { value: &mut it.server.max_connections_per_ip, min: 0 } },
    Key { path: "server.memory_budget",
          help: "What logs, answers and half-received requests may hold together. From half of it on logs shorten.",
          field: |it| Field::Size { value: &mut it.server.memory_budget, min: 1 << 20 } },
    Key { path: "server.default_topics",
          help: "What a WebSocket that names no topic listens to.",
          field: |it| Field::Words(&mut it.server.default_topics) },
    Key { path: "server.live_timeout",
          help: "How long a stream's opening waits for its source to confirm the topics.",
          field: |it| Field::Span { value: &mut it.server.live_timeout, min: MILLISECOND } },
    Key { path: "server.stuck_after",
          help: "A thread that has not finished a turn for so long is stuck: /health fails.",
          field: |it| Field::Span { value: &mut it.server.stuck_after, min: MILLISECOND } },
    Key { path: "server.insecure",
          help: "Allow an address that other machines reach, although nobody is asked who they are.",
          field: |it| Field::Flag(&mut it.server.insecure) },
    Key { path: "server.socket_owner",
          help: "User that owns the unix sockets in server.listen: a name or a number. Empty: the user the hub runs as. Another user \
                 needs a hub that starts as root.",
          field: |it| Field::Word(&mut it.server.socket.owner) },
    Key { path: "server.socket_group",
          help: "Group of the unix sockets in server.listen: a name or a number. Empty: the group the hub runs as.",
          field: |it| Field::Word(&mut it.server.socket.group) },
    Key { path: "server.socket_mode",
          help: "Permissions of the unix sockets in server.listen, such as \"0660\": whoever may write may connect. Empty: as the \
                 umask leaves them.",
          field: |it| Field::Word(&mut it.server.socket.mode) },

    Key { path: "admin.listen",
          help: "Addresses for /health, /ready and /metrics. Empty: they stay with the rest.",
          field: |it| Field::Words(&mut it.admin.listen) },
    Key { path: "admin.max_connections",
          help: "Connections at a time to these addresses. They are not counted in server.max_connections.",
          field: |it| Field::Count { value: &mut it.admin.max_connections, min: 1 } },
    Key { path: "admin.socket_owner",
          help: "User that owns the unix sockets in admin.listen: a name or a number. Empty: the user the hub runs as. Another user \
                 needs a hub that starts as root.",
          field: |it| Field::Word(&mut it.admin.socket.owner) },
    Key { path: "admin.socket_group",
          help: "Group of the unix sockets in admin.listen: a name or a number. Empty: the group the hub runs as.",
          field: |it| Field::Word(&mut it.admin.socket.group) },
    Key { path: "admin.socket_mode",
          help: "Permissions of the unix sockets in admin.listen, such as \"0660\": whoever may write may connect. Empty: as the \
                 umask leaves them.",
          field: |it| Field::Word(&mut it.admin.socket.mode) },

    Key { path: "limits.head_bytes_max",
          help: "Request line and headers (431).",
          field: |it| Field::Size { value: &mut it.limits.http.head_bytes_max, min: 256 } },
    Key { path: "limits.headers_max",
          help: "Header fields of a request (431).",
          field: |it| Field::Count { value: &mut it.limits.http.headers_max, min: 1 } },
    Key { path: "limits.body_bytes_max",
          help: "A request's body (413).",
          field: |it| Field::Size { value: &mut it.limits.http.body_bytes_max, min: 1 } },
    Key { path: "limits.head_timeout",
          help: "How long a request's head may take (408).",
          field: |it| Field::Span { value: &mut it.limits.http.head_timeout, min: MILLISECOND } },
    Key { path: "limits.body_timeout",
          help: "How long a request's body may stand still (408).",
          field: |it| Field::Span { value: &mut it.limits.http.body_timeout, min: MILLISECOND } },
    Key { path: "limits.body_total_timeout",
          help: "How long a request's body may take altogether (408).",
          field: |it| Field::Span { value: &mut it.limits.http.body_total_timeout, min: MILLISECOND } },
    Key { path: "limits.idle_timeout",
          help: "How long a connection may stay open without a request.",
          field: |it| Field::Span { value: &mut it.limits.http.idle_timeout, min: MILLISECOND } },
    Key { path: "limits.topics_per_connection_max",
          help: "Topics on one connection (400).",
          field: |it| Field::Count { value: &mut it.limits.topics_per_connection_max, min: 1 } },
    Key { path: "limits.topics_per_page_max",
          help: "Topics in one answer of GET /topics, unless fewer are asked for. Each costs a reactor about three microseconds, over several turns.",
          field: |it| Field::Count { value: &mut it.limits.topics_per_page_max, min: 1 } },
    Key { path: "limits.message_bytes_max",
          help: "One WebSocket message from a client (close 1009).",
          field: |it| Field::Size { value: &mut it.limits.websocket.message_bytes_max, min: 1 } },
    Key { path: "limits.fragments_max",
          help: "Frames that one WebSocket message may be cut into (close 1009).",
          field: |it| Field::Small { value: &mut it.limits.websocket.fragments_max, min: 1 } },
    Key { path: "limits.pong_bytes_max",
          help: "Pings go unanswered while more than this waits for the client.",
          field: |it| Field::Size { value: &mut it.limits.websocket.pong_bytes_max, min: 1 } },
    Key { path: "limits.messages_per_second",
          help: "WebSocket messages a second from one client. More are ignored and answered with an error.",
          field: |it| Field::Small { value: &mut it.limits.rate.messages_per_second, min: 1 } },
    Key { path: "limits.rate_limit_patience",
          help: "How long a client may keep on sending too fast before it is closed (1008).",
          field: |it| Field::Span { value: &mut it.limits.rate.patience, min: MILLISECOND } },
    Key { path: "limits.event_bytes_max",
          help: "One event's payload (413). A larger one from Redis is dropped and counted.",
          field: |it| Field::Size { value: &mut it.limits.event_bytes_max, min: 1 } },
    Key { path: "limits.objects_per_request_max",
          help: "Readings, alerts or diagnostics in one request (413).",
          field: |it| Field::Count { value: &mut it.limits.objects_per_request_max, min: 1 } },
    Key { path: "limits.idempotency_window",
          help: "How long a publication's idempotency key is remembered.",
          field: |it| Field::Span { value: &mut it.limits.idempotency_window, min: MILLISECOND } },
    Key { path: "limits.outbox_bytes_max",
          help: "Answers that wait until one client reads them. Beyond it an HTTP connection's next requests wait as well, and \
                 a stream is closed.",
          field: |it| Field::Size { value: &mut it.limits.outbox_bytes_max, min: 1024 } },
    Key { path: "limits.closing_timeout",
          help: "How long a connection that ends may stand still before it has taken its last bytes. Ten times that in all.",
          field: |it| Field::Span { value: &mut it.limits.closing_timeout, min: MILLISECOND } },
    Key { path: "limits.unsent_timeout",
          help: "A stream is closed whose peer's machine acknowledges nothing for so long. One that only reads slowly does.",
          field: |it| Field::Span { value: &mut it.limits.unsent_timeout, min: MILLISECOND } },
    Key { path: "limits.inbox_events_max",
          help: "Events waiting for one reactor before it reads them from the topics' histories instead.",
          field: |it| Field::Count { value: &mut it.limits.inbox_events_max, min: 1 } },

    Key { path: "limits.tenant_publish_per_second",
          help: "Publications a second of one tenant: a token's subject, an API key, or the address of a client that shows neither. \
                 More are refused (429). Clients on this machine that do not say who they are, and proxies that do not name \
                 their clients, are no tenants. A [[quota]] that sets it replaces it. 0: no limit.",
          field: |it| Field::Count { value: &mut it.quotas.default_limits[Limit::PublishPerSecond as usize], min: 0 } },
    Key { path: "limits.tenant_bytes_per_second",
          help: "Bytes of payload a second of one tenant (429). A [[quota]] that sets it replaces it. 0: no limit.",
          field: |it| Field::Size { value: &mut it.quotas.default_limits[Limit::BytesPerSecond as usize], min: 0 } },
    Key { path: "limits.tenant_budget_percent",
          help: "How much of server.memory_budget the events and topics of one tenant may hold, in percent. From half of that on \
                 its own logs shorten, and those of others do not; then it is refused (429). A [[quota]] that sets bytes_held \
                 replaces it. 100: all of it.",
          field: |it| Field::Count { value: &mut it.quotas.share_percent, min: 1 } },
    Key { path: "limits.tenants_max",
          help: "Tenants remembered at a time. One that used nothing for a second and holds nothing is forgotten. When the table is \
                 full, newcomers share what one may have.",
          field: |it| Field::Count { value: &mut it.quotas.tenants_max, min: 1 } },
    Key { path: "quota",
          help: "What a tenant may have at most. Of several rules that bound the same thing the tightest decides.",
          field: |it| Field::Quotas(&mut it.quotas.rules) },

    Key { path: "topics.history.count",
          help: "Events kept for replay. Count, bytes and age all bound it.",
          field: |it| Field::Count { value: &mut it.default_class.retention.history.count, min: 0 } },
    Key { path: "topics.history.bytes",
          help: "Bytes kept for replay.",
          field: |it| Field::Size { value: &mut it.default_class.retention.history.bytes, min: 0 } },
    Key { path: "topics.history.age",
          help: "How old an event may get that is kept for replay.",
          field: |it| Field::Span { value: &mut it.default_class.retention.history.age, min: MILLISECOND } },
    Key { path: "topics.lag.count",
          help: "Events that a slow reader may fall behind before the policy speaks. They are kept for it.",
          field: |it| Field::Count { value: &mut it.default_class.retention.lag.count, min: 1 } },
    Key { path: "topics.lag.bytes",
          help: "Bytes that it may fall behind.",
          field: |it| Field::Size { value: &mut it.default_class.retention.lag.bytes, min: 1 } },
    Key { path: "topics.lag.age",
          help: "How long it may fall behind.",
          field: |it| Field::Span { value: &mut it.default_class.retention.lag.age, min: MILLISECOND } },
    Key { path: "topics.policy",
          help: "What becomes of a reader that has fallen further behind: close, skip or latest.",
          field: |it| Field::Word(&mut it.default_class.policy) },
    Key { path: "topics.key",
          help: "For latest: where the key stands in a JSON payload, such as \"/sensor\". Empty: the event's type.",
          field: |it| Field::Word(&mut it.default_class.key) },
    Key { path: "topics.priority",
          help: "Which topics go first when several have news: lower before higher.",
          field: |it| Field::Signed(&mut it.default_class.priority) },
    Key { path: "topics.log",
          help: "Who keeps the log: memory, or redis-stream.",
          field: |it| Field::Word(&mut it.default_class.log) },
    Key { path: "topics.class",
          help: "Classes of topics that differ from this; the first whose pattern matches decides.",
          field: |it| Field::Classes { classes: &mut it.classes, base: &it.default_class } },

    Key { path: "redis.url",
          help: "redis://[user:password@]host[:port][/db], rediss:// for TLS, unix:///path, or \
                 redis+sentinel://[user:password@]host[:port],…/service[/db]. Empty: no Redis.",
          field: |it| Field::Word(&mut it.redis_url) },
    Key { path: "redis.url_file",
          help: "A file that holds the URL, for one with a password in it.",
          field: |it| Field::Word(&mut it.redis_url_file) },
    Key { path: "redis.ca_file",
          help: "Authorities to trust for rediss://, in PEM, instead of the system's.",
          field: |it| Field::Word(&mut it.redis.ca_file) },
    Key { path: "redis.certificate_file",
          help: "The hub's own certificate chain, in PEM, where the server asks for one.",
          field: |it| Field::Word(&mut it.redis.certificate_file) },
    Key { path: "redis.key_file",
          help: "The key to it, in PEM.",
          field: |it| Field::Word(&mut it.redis.key_file) },
    Key { path: "redis.sentinel_username",
          help: "The login at the sentinels themselves, where they ask for one. Empty: their default user.",
          field: |it| Field::Word(&mut it.redis.sentinel_login.username) },
    Key { path: "redis.sentinel_password",
          help: "The password to it. The URL's own login is the server's.",
          field: |it| Field::Word(&mut it.redis.sentinel_login.password) },
    Key { path: "redis.sentinel_password_file",
          help: "A file that holds that password.",
          field: |it| Field::Word(&mut it.sentinel_password_file) },
    Key { path: "redis.sentinel_timeout",
          help: "How long each sentinel may take to say where the master is.",
          field: |it| Field::Span { value: &mut it.redis.sentinel_timeout, min: MILLISECOND } },
    Key { path: "redis.allow_replica",
          help: "Accept a server that is a replica. The hub then reads from it, and refuses publications (503). false: such \
                 a hub is not ready, for what is published at a replica reaches nobody else.",
          field: |it| Field::Flag(&mut it.redis.allow_replica) },
    Key { path: "redis.subscribe",
          help: "Channel patterns that stay subscribed, whoever listens, such as \"orders.*\".",
          field: |it| Field::Words(&mut it.redis.subscribe) },
    Key { path: "redis.interest",
          help: "Subscribe to a topic's channel while somebody listens to the topic.",
          field: |it| Field::Flag(&mut it.redis.interest) },
    Key { path: "redis.linger",
          help: "How long a channel stays subscribed after its last listener.",
          field: |it| Field::Span { value: &mut it.redis.linger, min: Duration::ZERO } },
    Key { path: "redis.connect_timeout",
          help: "How long connecting may take.",
          field: |it| Field::Span { value: &mut it.redis.connect_timeout, min: MILLISECOND } },
    Key { path: "redis.backoff_min",
          help: "The first pause before connecting again. It doubles each time, with jitter, up to backoff_max.",
          field: |it| Field::Span { value: &mut it.redis.backoff_min, min: MILLISECOND } },
    Key { path: "redis.backoff_max",
          help: "The longest such pause.",
          field: |it| Field::Span { value: &mut it.redis.backoff_max, min: MILLISECOND } },
    Key { path: "redis.ping_interval",
          help: "How often the connection is probed.",
          field: |it| Field::Span { value: &mut it.redis.ping_interval, min: MILLISECOND } },
    Key { path: "redis.ping_timeout",
          help: "How long a probe may stay unanswered before the connection counts as dead.",
          field: |it| Field::Span { value: &mut it.redis.ping_timeout, min: MILLISECOND } },
    Key { path: "redis.proof_age_max",
          help: "How long ago the last answered probe may be before /ready says 503.",
          field: |it| Field::Span { value: &mut it.redis.proof_age_max, min: MILLISECOND } },
    Key { path: "redis.read_buffer_bytes",
          help: "The reader's buffer. It grows for a larger message.",
          field: |it| Field::Size { value: &mut it.redis.read_buffer_bytes, min: 4096 } },
    Key { path: "redis.publish_queue_max",
          help: "Publications waiting for Redis. More are refused (503).",
          field: |it| Field::Count { value: &mut it.redis.publish_queue_max, min: 1 } },
    Key { path: "redis.publish_queue_bytes_max",
          help: "What those may weigh together.",
          field: |it| Field::Size { value: &mut it.redis.publish_queue_bytes_max, min: 1024 } },
    Key { path: "redis.publish_timeout",
          help: "How long a publication may take (503).",
          field: |it| Field::Span { value: &mut it.redis.publish_timeout, min: MILLISECOND } },

    Key { path: "redis.stream_prefix",
          help: "What stands before a topic's name in the key of its stream, for topics with log = \"redis-stream\".",
          field: |it| Field::Word(&mut it.redis_stream.prefix) },
    Key { path: "redis.archive_queue_max",
          help: "Readers waiting for events older than the hub's own logs. More are told to come back.",
          field: |it| Field::Count { value: &mut it.redis_stream.archive_queue_max, min: 1 } },
    Key { path: "redis.archive_cache_bytes",
          help: "What was read of streams lately and is kept for the next reader.",
          field: |it| Field::Size { value: &mut it.redis_stream.archive_cache_bytes, min: 0 } },

    Key { path: "auth.mode",
          help: "none: whoever comes may do everything. jwt: by a token or an API key.",
          field: |it| Field::Word(&mut it.auth.mode) },
    Key { path: "auth.algorithms",
          help: "What tokens may be signed with: HS256, HS384, HS512, RS256, ES256, EdDSA. The first signs the hub's own.",
          field: |it| Field::Words(&mut it.auth.algorithms) },
    Key { path: "auth.secret",
          help: "The secret of HS256, HS384 and HS512: 32, 48 or 64 bytes at least.",
          field: |it| Field::Word(&mut it.auth_files.secret) },
    Key { path: "auth.secret_file",
          help: "A file that holds it: a text, without the white space around it, or raw bytes, of which each counts.",
          field: |it| Field::Word(&mut it.auth_files.secret_file) },
    Key { path: "auth.public_key_file",
          help: "The key that checks RS256, ES256 or EdDSA, in PEM.",
          field: |it| Field::Word(&mut it.auth_files.public_key_file) },
    Key { path: "auth.private_key_file",
          help: "The key that goes with it, in PEM, where the hub makes tokens itself.",
          field: |it| Field::Word(&mut it.auth_files.private_key_file) },
    Key { path: "auth.jwks_file",
          help: "Several such public keys, as a JSON Web Key Set.",
          field: |it| Field::Word(&mut it.auth_files.jwks_file) },
    Key { path: "auth.issuer",
          help: "Who must have made a token (`iss`). Empty: anybody who has the key.",
          field: |it| Field::Word(&mut it.auth.issuer) },
    Key { path: "auth.audience",
          help: "For whom a token must be (`aud`). Empty: for anybody.",
          field: |it| Field::Word(&mut it.auth.audience) },
    Key { path: "auth.leeway",
          help: "How far the clocks of those who make tokens may be apart from the hub's.",
          field: |it| Field::Span { value: &mut it.auth.leeway, min: Duration::ZERO } },
    Key { path: "auth.deny_file",
          help: "A TOML file of what is refused although it is valid: jti = [\"…\"] names tokens, sub = [\"…\"] subjects of tokens, \
                 users and API keys. Read anew at SIGHUP; their open streams end within a second. It may be empty. The hub's \
                 own tokens have a jti.",
          field: |it| Field::Word(&mut it.auth_files.deny_file) },
    Key { path: "auth.token_bytes_max",
          help: "The longest token (401).",
          field: |it| Field::Size { value: &mut it.auth.token_bytes_max, min: 64 } },
    Key { path: "auth.cache_bytes",
          help: "What tokens that were checked lately may occupy, so that they are not checked again.",
          field: |it| Field::Size { value: &mut it.auth.cache_bytes, min: 0 } },
    Key { path: "auth.token_ttl",
          help: "How long a token is valid that the hub makes.",
          field: |it| Field::Span { value: &mut it.auth.token_ttl, min: SECOND } },
    Key { path: "auth.session_age_max",
          help: "For how long after the password a user's token may be replaced by a fresh one.",
          field: |it| Field::Span { value: &mut it.auth.session_age_max, min: SECOND } },
    Key { path: "auth.token_failures_max",
          help: "Tokens with a wrong signature that one address (IPv6: one /64 network) may show within a second. More are \
                 refused unchecked (429), except tokens that were checked lately. Loopback addresses and trusted proxies are \
                 not counted. 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.token_failures_max, min: 0 } },
    Key { path: "auth.token_failures_per_connection_max",
          help: "Tokens that one connection may show within a second although they are not valid, whatever its address. The last is \
                 answered 429 and ends the connection. It bounds clients that auth.token_failures_max does not: those on this \
                 machine, and behind a proxy that does not name them. 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.token_failures_per_connection_max, min: 0 } },
    Key { path: "auth.refreshes_max",
          help: "Fresh tokens that one user may be given within a second, at POST /api/v1/auth/refresh (429). 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.refreshes_max, min: 0 } },
    Key { path: "auth.sign_in_timeout",
          help: "How long a WebSocket of fanfare.v1 that comes without a token may take to send one (4401).",
          field: |it| Field::Span { value: &mut it.auth.sign_in_timeout, min: MILLISECOND } },
    Key { path: "auth.login_failures_max",
          help: "Failed logins of one user from one address, after which there are no more for a while (429).",
          field: |it| Field::Count { value: &mut it.auth.login_failures_max, min: 1 } },
    Key { path: "auth.login_failures_per_address_max",
          help: "Failed logins from one address (IPv6: one /64 network) with any user names, after which that address is \
                 refused (429). Users who signed in from the address before are not affected. Loopback addresses and trusted \
                 proxies are not counted. 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.login_failures_per_address_max, min: 0 } },
    Key { path: "auth.login_failures_per_user_max",
          help: "Failed logins of one user from all addresses together, after which the user can sign in only from addresses \
                 of earlier sign-ins (429 elsewhere). 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.login_failures_per_user_max, min: 0 } },
    Key { path: "auth.login_failure_window",
          help: "Time for which failed logins count, and for which further ones are refused.",
          field: |it| Field::Span { value: &mut it.auth.login_failure_window, min: SECOND } },
    Key { path: "auth.login_address_memory",
          help: "Time for which the hub remembers from which addresses (16 at most) a user signed in. Failures of strangers do \
                 not lock the user out there. A restart forgets them. 0s: remember none.",
          field: |it| Field::Span { value: &mut it.auth.login_address_memory, min: Duration::ZERO } },
    Key { path: "auth.login_threads",
          help: "Threads that check passwords.",
          field: |it| Field::Count { value: &mut it.auth.login_threads, min: 1 } },
    Key { path: "auth.login_queue_max",
          help: "Logins that may wait for them. Beyond it those are refused (503) whose address has tried most.",
          field: |it| Field::Count { value: &mut it.auth.login_queue_max, min: 1 } },
    Key { path: "auth.login_wait_max",
          help: "Longest time a login may wait for them before it is refused (503).",
          field: |it| Field::Span { value: &mut it.auth.login_wait_max, min: MILLISECOND } },
    Key { path: "auth.cookie",
          help: "Set a cookie at each login. Else only at one that asks for it by \"cookie\": true.",
          field: |it| Field::Flag(&mut it.auth.cookie) },
    Key { path: "auth.cookie_secure",
          help: "Send the cookie over TLS only. Browsers take localhost for that, too.",
          field: |it| Field::Flag(&mut it.auth.cookie_secure) },
    Key { path: "auth.cookie_same_site",
          help: "strict: no request from another site carries the cookie. lax: a link that leads here does.",
          field: |it| Field::Word(&mut it.auth.cookie_same_site) },

    Key { path: "users.file",
          help: "A file of [[user]] tables: username, password (by `fanfare hash-password`), role, subscribe, publish.",
          field: |it| Field::Word(&mut it.auth_files.users_file) },
    Key { path: "api_keys",
          help: "Services that show a key of their own instead of a token.",
          field: |it| Field::ApiKeys(&mut it.api_keys) },
    Key { path: "store.url",
          help: "postgres://[user[:password]@]host[:port]/database. With ?sslmode=require the connection is encrypted and the \
                 server's certificate verified; without it is plain. Empty: no store.",
          field: |it| Field::Word(&mut it.store_url) },
    Key { path: "store.url_file",
          help: "A file that holds the URL, for one with a password in it.",
          field: |it| Field::Word(&mut it.store_url_file) },
    Key { path: "store.ca_file",
          help: "Authorities to trust for sslmode=require, in PEM, instead of the system's.",
          field: |it| Field::Word(&mut it.store.ca_file) },
    Key { path: "store.queue_rows_max",
          help: "Rows waiting to be stored. More are refused (503).",
          field: |it| Field::Count { value: &mut it.store.queue_rows_max, min: 1 } },
    Key { path: "store.queue_bytes_max",
          help: "What those may weigh together.",
          field: |it| Field::Size { value: &mut it.store.queue_bytes_max, min: 1024 } },
    Key { path: "store.batch_rows_max",
          help: "Rows of one transaction; what has piled up goes together. A request's rows are never parted.",
          field: |it| Field::Count { value: &mut it.store.batch_rows_max, min: 1 } },
    Key { path: "store.patience",
          help: "How long a row waits for a database that is away (503). After that, new ones are refused at once.",
          field: |it| Field::Span { value: &mut it.store.patience, min: MILLISECOND } },
    Key { path: "store.write_timeout",
          help: "How long one transaction may take before the connection is given up.",
          field: |it| Field::Span { value: &mut it.store.write_timeout, min: MILLISECOND } },
    Key { path: "store.connect_timeout",
          help: "How long connecting may take.",
          field: |it| Field::Span { value: &mut it.store.connect_timeout, min: MILLISECOND } },
    Key { path: "store.backoff_min",
          help: "The first pause before connecting again. It doubles each time, with jitter, up to backoff_max.",
          field: |it| Field::Span { value: &mut it.store.backoff_min, min: MILLISECOND } },
    Key { path: "store.backoff_max",
          help: "The longest such pause.",
          field: |it| Field::Span { value: &mut it.store.backoff_max, min: MILLISECOND } },
    Key { path: "store.ping_interval",
          help: "How often an idle connection is probed. After three without an answer /ready says 503.",
          field: |it| Field::Span { value: &mut it.store.ping_interval, min: MILLISECOND } },
    Key { path: "store.republish_after",
          help: "What is stored for so long and not published, since a hub or a broker went away, is published.",
          field: |it| Field::Span { value: &mut it.store.republish_after, min: MILLISECOND } },
    Key { path: "store.idempotency_window",
          help: "How long the database remembers idempotency keys.",
          field: |it| Field::Span { value: &mut it.store.idempotency_window, min: SECOND } },
    Key { path: "store.readers",
          help: "Threads that read back.",
          field: |it| Field::Count { value: &mut it.store.readers, min: 1 } },
    Key { path: "store.read_queue_max",
          help: "Requests waiting for them. More are refused (503).",
          field: |it| Field::Count { value: &mut it.store.read_queue_max, min: 1 } },
    Key { path: "store.read_timeout",
          help: "How long one of them may take (504).",
          field: |it| Field::Span { value: &mut it.store.read_timeout, min: MILLISECOND } },

    Key { path: "ready.require",
          help: "Sources without which /ready says 503: redis, redis_stream, store; or \"*\", all there are. What is wrong with \
                 the others is listed as degraded.",
          field: |it| Field::Words(&mut it.ready.require) },

    Key { path: "proxy.trusted",
          help: "Proxies by address or network, such as \"10.0.0.0/8\"; \"unix\": those at a unix socket. The client is whom \
                 X-Forwarded-For names, or without that Forwarded, and counts for max_connections_per_ip.",
          field: |it| Field::Words(&mut it.proxy.trusted.0) },
    Key { path: "proxy.proxy_protocol",
          help: "Their connections begin with a PROXY protocol header, version 1 or 2, except at admin.listen.",
          field: |it| Field::Flag(&mut it.proxy.proxy_protocol) },
    Key { path: "proxy.header_bytes_max",
          help: "Such a header (400).",
          field: |it| Field::Size { value: &mut it.proxy.limits.header_bytes_max, min: 232 } },

    Key { path: "cors.allow_origins",
          help: "Other origins whose pages may use the hub: \"https://example.org\", \"https://*.example.org\", or \"*\" for any. \
                 Pages of the hub's own origin and of loopback origins always may, and with auth.mode = jwt every page that \
                 shows a token or an API key. With auth.mode = none, \"*\" lets any page that somebody here visits read and \
                 publish.",
          field: |it| Field::Words(&mut it.cors.allow_origins) },
    Key { path: "cors.allow_credentials",
          help: "Let pages send cookies along. Each origin must then be named.",
          field: |it| Field::Flag(&mut it.cors.allow_credentials) },

    Key { path: "sse.heartbeat",
          help: "How long a stream may be silent before it gets a comment.",
          field: |it| Field::Span { value: &mut it.sse.heartbeat, min: SECOND } },
    Key { path: "sse.retry",
          help: "How long a browser that lost its stream waits before it comes back, and up to half as much more.",
          field: |it| Field::Span { value: &mut it.sse.retry, min: MILLISECOND } },

    Key { path: "websocket.ping_interval",
          help: "How long a connection may be silent before it gets a ping.",
          field: |it| Field::Span { value: &mut it.websocket.ping_interval, min: SECOND } },
    Key { path: "websocket.pong_timeout",
          help: "How long a ping may stay unanswered before the client counts as gone. One that still has to read is waited for.",
          field: |it| Field::Span { value: &mut it.websocket.pong_timeout, min: SECOND } },

    Key { path: "socketio.ping_interval",
          help: "How long after its last answer a client is pinged again.",
          field: |it| Field::Span { value: &mut it.engine.ping_interval, min: MILLISECOND } },
    Key { path: "socketio.ping_timeout",
          help: "How long a client may leave a ping unanswered.",
          field: |it| Field::Span { value: &mut it.engine.ping_timeout, min: MILLISECOND } },
    Key { path: "socketio.max_payload",
          help: "The most bytes in one message or one request of a client.",
          field: |it| Field::Size { value: &mut it.engine.payload_bytes_max, min: 1 } },
    Key { path: "socketio.max_packets",
          help: "Packets in one request of a client. 0: as many as socketio.max_payload has room for, and that many the official \
                 client sends. Beyond it the session ends (400).",
          field: |it| Field::Count { value: &mut it.engine.post_packets_max, min: 0 } },
    Key { path: "socketio.connect_max_payload",
          help: "The most bytes that a client shows to enter a namespace, such as its token, and the most that are held of its \
                 messages before.",
          field: |it| Field::Size { value: &mut it.engine.connect_bytes_max, min: 1 } },
    Key { path: "socketio.max_pending",
          help: "Sessions that long polling carries and whose client has entered no namespace; beyond it the oldest ends. They do \
                 not count for server.max_connections.",
          field: |it| Field::Count { value: &mut it.server.max_pending, min: 1 } },
    Key { path: "socketio.max_pending_per_ip",
          help: "The same for one address. 0: no limit.",
          field: |it| Field::Count { value: &mut it.server.max_pending_per_ip, min: 0 } },
    Key { path: "socketio.connect_timeout",
          help: "How long a client may take until it has entered a namespace.",
          field: |it| Field::Span { value: &mut it.engine.connect_timeout, min: MILLISECOND } },
    Key { path: "socketio.recovery",
          help: "For how long a client that lost its connection may come back and get what it missed. \"0s\": not at all. \
                 Events then have one argument more, by which it says where it was.",
          field: |it| Field::Span { value: &mut it.engine.recovery, min: Duration::ZERO } },
    Key { path: "esp.platform",
          help: "The platform's name, as clients are greeted with it.",
          field: |it| Field::Word(&mut it.esp.platform) },
    Key { path: "esp.heartbeat",
          help: "How often a well's stream gets a `heartbeat` event.",
          field: |it| Field::Span { value: &mut it.esp.heartbeat, min: SECOND } },
    Key { path: "esp.denied_retry",
          help: "How long a browser waits that was refused a well's stream. Its URL holds the token: soon would be in vain.",
          field: |it| Field::Span { value: &mut it.esp.denied_retry, min: MILLISECOND } },
    Key { path: "esp.namespaces",
          help: "Socket.IO namespaces that serve the platform's events.",
          field: |it| Field::Words(&mut it.esp.namespaces) },

    Key { path: "log.level",
          help: "error, warn, info, debug, or directives such as \"info,fanfare::source=debug\".",
          field: |it| Field::Word(&mut it.log.level) },
    Key { path: "log.format",
          help: "text or json.",
          field: |it| Field::Word(&mut it.log.format) },
    Key { path: "log.access",
          help: "Log each answered request at the level info: client, method, path, status, bytes of the body, and seconds. Queries and \
                 headers are left out, for they may carry tokens.",
          field: |it| Field::Flag(&mut it.log.access) },
    Key { path: "log.connections",
          help: "Log each connection that ends at the level info: client, identity, up to 16 topics, bytes that the client has \
                 acknowledged (not on unix sockets), seconds, and the reason.",
          field: |it| Field::Flag(&mut it.log.connections) },

    Key { path: "drain.delay",
          help: "After a SIGTERM /ready says 503 for so long, and all goes on: proxies have time to stop. SIGINT skips it.",
          field: |it| Field::Span { value: &mut it.drain.delay, min: Duration::ZERO } },
    Key { path: "drain.window",
          help: "Then: over how long connections are closed, so that not all come back at once.",
          field: |it| Field::Span { value: &mut it.drain.window, min: Duration::ZERO } },

    Key { path: "demo.enabled",
          help: "Make events up for the streams of /api/v1/events and /api/v1/broadcast-demo.",
          field: |it| Field::Flag(&mut it.demo_enabled) },
    Key { path: "demo.default_interval",
          help: "About how often there is one on the stream `default`.",
          field: |it| Field::Span { value: &mut it.demo.default_interval, min: MILLISECOND } },
    Key { path: "demo.system_interval",
          help: "The same for `system`.",
          field: |it| Field::Span { value: &mut it.demo.system_interval, min: MILLISECOND } },
    Key { path: "demo.user_activity_interval",
          help: "The same for `user-activity`.",
          field: |it| Field::Span { value: &mut it.demo.user_activity_interval, min: MILLISECOND } },
    Key { path: "demo.notifications_interval",
          help: "The same for `notifications`.",
          field: |it| Field::Span { value: &mut it.demo.notifications_interval, min: MILLISECOND } },
    Key { path: "demo.custom_interval",
          help: "The same for streams of other names, started by request.",
          field: |it| Field::Span { value: &mut it.demo.custom_interval, min: MILLISECOND } },
    Key { path: "demo.streams_max",
          help: "Streams that events are made up for at a time. No more are started (409).",
          field: |it| Field::Count { value: &mut it.demo.streams_max, min: 1 } },
    Key { path: "demo.queue_max",
          help: "Requests to start, stop, pause or resume that may wait. More are refused (503).",
          field: |it| Field::Count { value: &mut it.demo.queue_max, min: 1 } },
];

/// A key that a table sets.
#[derive(Debug)]
pub(super) struct Set<'t, T: 'static> {
    pub(super) key: &'static Key<T>,
    /// Where the key's name stands.
    pub(super) name: Range<usize>,
    pub(super) value: &'t Spanned<DeValue<'t>>,
}

/// All that `table` sets; what is not a key goes to `faults`.
pub(super) fn gather<'t, T>(
    keys: &'static [Key<T>],
    table: &'t DeTable<'t>,
    faults: &mut Vec<Fault>,
) -> Vec<Set<'t, T>> {
    let mut set = Vec::new();
    let mut pending = vec![(String::new(), table)];
    while let Some((prefix, table)) = pending.pop() {
        for (name, value) in table {
            let path = format!("{prefix}{}", name.get_ref());
            match (find(keys, &path), value.get_ref()) {
                (Found::Key(key), _) => set.push(Set { key, name: name.span(), value }),
                (Found::Table, DeValue::Table(inner)) => pending.push((format!("{path}."), inner)),
                (Found::Table, _) => faults.push(not_a_table(&path, value)),
                (Found::Nothing, _) => faults.push(Fault { span: name.span(), message: unknown(keys, &path) }),
            }
        }
    }
    set
}

/// What stands under a path.
enum Found<T: 'static> {
    Key(&'static Key<T>),
    Table,
    Nothing,
}

fn find<T>(keys: &'static [Key<T>], path: &str) -> Found<T> {
    if let Some(key) = keys.iter().find(|key| key.path == path) {
        return Found::Key(key);
    }
    let is_table = keys.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
    if is_table { Found::Table } else { Found::Nothing }
}

/// The key of `path`, or an error that names the one probably meant.
pub(super) fn find_key<T>(keys: &'static [Key<T>], path: &str) -> Result<&'static Key<T>, String> {
    match find(keys, path) {
        Found::Key(key) => Ok(key),
        Found::Table | Found::Nothing => Err(unknown(keys, path)),
    }
}

fn not_a_table(path: &str, value: &Spanned<DeValue<'_>>) -> Fault {
    Fault { span: value.span(), message: format!("`{path}` is a table of keys, not a value") }
}

fn unknown<T>(keys: &[Key<T>], path: &str) -> String {
    let depth = path.split('.').count();
    let known = keys.iter().filter_map(|key| prefix(key.path, depth));
    match nearest(path, known) {
        Some(near) => format!("unknown key `{path}`; did you mean `{near}`?"),
        None => format!("unknown key `{path}`; `fanfare config default` lists all keys"),
    }
}

/// The first `depth` names of `path`: a misspelt table is compared with tables.
fn prefix(path: &'static str, depth: usize) -> Option<&'static str> {
    let end = path.match_indices('.').nth(depth - 1).map_or(path.len(), |(at, _)| at);
    path.get(..end)
}
