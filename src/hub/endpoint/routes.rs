//! The table of routes: which path is whose, by which methods, and who may send what to it.

use super::{
    Answer, Context,
    compat::{
        CompatApi,
        esp::{telemetry, wells},
        event_streams as events, iot_pods as pods,
    },
    gate::{
        admission::{NATIVE, Refusals, Senders},
        error_form::ErrorForm,
    },
    native::{health, publish, sign_in as auth, stream, topics},
    socket_io::engine_io,
};
use crate::{
    label::RouteLabel,
    protocol::http::{Method, Request},
};

/// Answers a request, given what stands for `{topic}` in its path.
pub type Handler = fn(&Request, &str, &Context<'_>) -> Answer;

/// One route: a path, what it counts as in the metrics, and what each method does. `{topic}` stands for the rest of the
/// path up to what follows it in the pattern; topic names may contain slashes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub(super) pattern: &'static str,
    pub(super) label: RouteLabel,
    pub(super) admin: bool,
    /// Whether it lets in whoever comes, or sees to it itself; else the client has to have shown who it is.
    pub(super) is_open: bool,
    /// Who may send bodies to it.
    pub(super) senders: Senders,
    /// Whether pages of every origin may read what is answered, as its API has it documented.
    pub(super) is_public: bool,
    /// Of which compatibility API it is, if of one: where that is off, the route is none.
    pub(super) compat: Option<CompatApi>,
    /// The form of what the hub refuses there.
    pub(super) errors: ErrorForm,
    pub(super) methods: &'static [(Method, Handler)],
}

/// The route of `pattern`, counted as `label`. Where clients have to say who they are,
/// its handlers see only those that have.
pub const fn route(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Route {
    Route {
        pattern,
        label,
        admin: false,
        is_open: false,
        is_public: false,
        compat: None,
        errors: ErrorForm::Native,
        senders: Senders::Known(NATIVE),
        methods,
    }
}

/// The same for a door that lets in whoever comes, or whose handlers ask in a way of their own.
pub const fn public_route(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Route {
    Route {
        pattern,
        label,
        admin: false,
        is_open: true,
        is_public: false,
        compat: None,
        errors: ErrorForm::Native,
        senders: Senders::Anybody,
        methods,
    }
}

/// The same for a door whose answers pages of every origin may read, without the cookies of their users.
const fn public_row(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Route {
    Route {
        pattern,
        label,
        admin: false,
        is_open: true,
        is_public: true,
        compat: None,
        errors: ErrorForm::Native,
        senders: Senders::Anybody,
        methods,
    }
}

/// The same for whoever looks after the hub: no answer names a topic or a user, so that probes need no token.
const fn admin_row(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Route {
    Route {
        pattern,
        label,
        admin: true,
        is_open: true,
        is_public: false,
        compat: None,
        errors: ErrorForm::Native,
        senders: Senders::Anybody,
        methods,
    }
}

impl Route {
    /// The same, whose handlers ask for a token and refuse in words of their own, before and after the body.
    const fn for_known(self, refusals: &'static Refusals) -> Self {
        Self { senders: Senders::Known(refusals), ..self }
    }

    /// The same, of a compatibility API.
    const fn of(self, api: CompatApi) -> Self {
        let errors = match api {
            CompatApi::EventStreams => ErrorForm::Events,
            CompatApi::Esp => ErrorForm::Esp,
            CompatApi::Broadcaster | CompatApi::IotPods => ErrorForm::Native,
        };
        Self { compat: Some(api), errors, ..self }
    }

    /// Whether there is such a route at the listener that the request of `context` came through.
    pub(super) fn is_served(&self, context: &Context<'_>) -> bool {
        (!context.config.admin_apart || self.admin == context.admin)
            && self.compat.is_none_or(|api| context.config.compat.has(api))
    }

    /// The same, whose errors have another form than the native API's.
    const fn with_errors(self, errors: ErrorForm) -> Self {
        Self { errors, ..self }
    }

    /// The same, whose bodies are for Engine.IO sessions.
    const fn for_sessions(self) -> Self {
        Self { senders: Senders::Session, ..self }
    }
}

/// Every route of the hub. The first route that matches decides.
pub(super) static ROUTES: &[Route] = &[
    route("/sse", RouteLabel::Sse, &[(Method::Get, stream::open_sse)]),
    public_route("/ws", RouteLabel::WebSocket, &[(Method::Get, stream::open_websocket)]),
    route("/publish", RouteLabel::Publish, &[(Method::Post, publish::publish_batch)]),
    route("/publish/{topic}", RouteLabel::Publish, &[(Method::Post, publish::publish_one)]),
    route("/topics", RouteLabel::Topics, &[(Method::Get, topics::list_topics)]),
    route("/topics/{topic}/history", RouteLabel::History, &[(Method::Get, topics::show_history)]),
    route("/topics/{topic}", RouteLabel::Topics, &[(Method::Get, topics::show_topic)]),
    public_route("/api/v1/events/broadcast", RouteLabel::Events, &[(Method::Post, events::broadcast)])
        .for_known(events::REFUSALS)
        .of(CompatApi::EventStreams),
    public_route("/api/v1/events/streams", RouteLabel::Events, &[(Method::Get, events::list_streams)])
        .of(CompatApi::EventStreams),
    public_route("/api/v1/events/stream/{topic}/start", RouteLabel::Events, &[(Method::Post, events::start_stream)])
        .for_known(events::REFUSALS)
        .of(CompatApi::EventStreams),
    public_route("/api/v1/events/stream/{topic}/stop", RouteLabel::Events, &[(Method::Post, events::stop_stream)])
        .for_known(events::REFUSALS)
        .of(CompatApi::EventStreams),
    public_route("/api/v1/events/stream/{topic}/pause", RouteLabel::Events, &[(Method::Post, events::pause_stream)])
        .for_known(events::REFUSALS)
        .of(CompatApi::EventStreams),
    public_route("/api/v1/events/stream/{topic}/resume", RouteLabel::Events, &[(Method::Post, events::resume_stream)])
        .for_known(events::REFUSALS)
        .of(CompatApi::EventStreams),
    public_row("/api/v1/events/stream/{topic}", RouteLabel::Events, &[(Method::Get, events::open_stream)])
        .of(CompatApi::EventStreams),
    public_route("/api/v1/broadcast-demo/broadcast", RouteLabel::Events, &[(Method::Post, events::broadcast)])
        .for_known(events::REFUSALS)
        .of(CompatApi::EventStreams),
    public_route("/api/v1/broadcast-demo/streams", RouteLabel::Events, &[(Method::Get, events::list_streams)])
        .of(CompatApi::EventStreams),
    public_route(
        "/api/v1/broadcast-demo/stream/{topic}/start",
        RouteLabel::Events,
        &[(Method::Post, events::start_stream)],
    )
    .for_known(events::REFUSALS)
    .of(CompatApi::EventStreams),
    public_route(
        "/api/v1/broadcast-demo/stream/{topic}/stop",
        RouteLabel::Events,
        &[(Method::Post, events::stop_stream)],
    )
    .for_known(events::REFUSALS)
    .of(CompatApi::EventStreams),
    public_route(
        "/api/v1/broadcast-demo/stream/{topic}/pause",
        RouteLabel::Events,
        &[(Method::Post, events::pause_stream)],
    )
    .for_known(events::REFUSALS)
    .of(CompatApi::EventStreams),
    public_route(
        "/api/v1/broadcast-demo/stream/{topic}/resume",
        RouteLabel::Events,
        &[(Method::Post, events::resume_stream)],
    )
    .for_known(events::REFUSALS)
    .of(CompatApi::EventStreams),
    public_row("/api/v1/broadcast-demo/stream/{topic}", RouteLabel::Events, &[(Method::Get, events::open_stream)])
        .of(CompatApi::EventStreams),
    public_route("/socket.io/", RouteLabel::SocketIo, SOCKET_IO).for_sessions(),
    public_route("/socket.io", RouteLabel::SocketIo, SOCKET_IO).for_sessions(),
    public_route("/api/v1/sse/stream/{topic}", RouteLabel::Wells, &[(Method::Get, wells::open_stream)])
        .of(CompatApi::Esp),
    public_route("/api/v1/auth/login", RouteLabel::Auth, &[(Method::Post, auth::log_in)]).with_errors(ErrorForm::Esp),
    public_route("/api/v1/auth/logout", RouteLabel::Auth, &[(Method::Post, auth::log_out)]).with_errors(ErrorForm::Esp),
    public_route("/api/v1/auth/refresh", RouteLabel::Auth, &[(Method::Post, auth::refresh)])
        .for_known(NATIVE)
        .with_errors(ErrorForm::Esp),
    public_route("/api/v1/telemetry/ingest", RouteLabel::Telemetry, &[(Method::Post, telemetry::ingest_telemetry)])
        .for_known(telemetry::REFUSALS)
        .of(CompatApi::Esp),
    public_route("/api/v1/telemetry/{topic}", RouteLabel::Telemetry, &[(Method::Get, telemetry::read_back)])
        .of(CompatApi::Esp),
    public_route("/api/v1/alerts", RouteLabel::Alerts, &[(Method::Post, telemetry::ingest_alerts)])
        .for_known(telemetry::REFUSALS)
        .of(CompatApi::Esp),
    public_route("/api/v1/diagnostics", RouteLabel::Diagnostics, &[(Method::Post, telemetry::ingest_diagnostics)])
        .for_known(telemetry::REFUSALS)
        .of(CompatApi::Esp),
    route("/stats", RouteLabel::Stats, &[(Method::Get, health::show_stats)]),
    admin_row("/stats", RouteLabel::Stats, &[(Method::Get, health::show_stats)]),
    admin_row("/health", RouteLabel::Health, &[(Method::Get, health::show_health)]),
    admin_row("/healthz", RouteLabel::Health, &[(Method::Get, health::show_health)]),
    admin_row("/livez", RouteLabel::Health, &[(Method::Get, health::show_health)]),
    admin_row("/ready", RouteLabel::Ready, &[(Method::Get, health::show_ready)]),
    admin_row("/readyz", RouteLabel::Ready, &[(Method::Get, health::show_ready)]),
    admin_row("/metrics", RouteLabel::Metrics, &[(Method::Get, health::show_metrics)]),
    route(
        "/{topic}/events/changes",
        RouteLabel::Pods,
        &[(Method::Get, pods::open_changes), (Method::Post, pods::publish_changes)],
    )
    .of(CompatApi::IotPods),
    public_route("/", RouteLabel::Index, &[(Method::Get, health::show_index)]),
];

const SOCKET_IO: &[(Method, Handler)] =
    &[(Method::Get, engine_io::open_socket_io), (Method::Post, engine_io::open_socket_io)];

/// The first route that matches `path` at this listener, and what stands for the `{topic}` of its pattern.
pub(super) fn find_route<'path>(path: &'path str, context: &Context<'_>) -> Option<(&'static Route, &'path str)> {
    context
        .hub
        .application
        .routes
        .iter()
        .filter(|route| route.is_served(context))
        .find_map(|route| Some((route, match_path(route.pattern, path)?)))
}

/// What stands in `path` for the `{topic}` of `pattern`, if they match.
fn match_path<'path>(pattern: &str, path: &'path str) -> Option<&'path str> {
    match pattern.split_once("{topic}") {
        None => (pattern == path).then_some(""),
        Some((before, after)) => path.strip_prefix(before)?.strip_suffix(after).filter(|topic| !topic.is_empty()),
    }
}
