//! The hub's own API: streams, publishing, topics, `fanfare.v1`, signing in, and what operators ask for.

pub(super) mod command;
pub(super) mod fleet;
pub(super) mod health;
pub(super) mod pages;
pub(super) mod publish;
pub(super) mod query;
pub(super) mod sign_in;
pub(super) mod stream;
pub(super) mod topics;

use crate::{
    endpoint::{
        Route,
        compat::esp,
        gate::{access, publish::fail_response},
        route::{BodyRefusals, authenticated_route, public_route},
    },
    label::RouteLabel,
    protocol::http::{Method, Response},
    topic::Topic,
};

/// How the native API refuses a request before its body is read.
pub(super) const REFUSALS: &BodyRefusals = &BodyRefusals {
    denied: |request, denied, _| access::refuse_stream(request, denied),
    failed: |_, failed, _| fail_response(failed).into(),
};

pub(super) static ROUTES: &[Route] = &[
    authenticated_route("/sse", RouteLabel::Sse, REFUSALS, &[(Method::Get, stream::open_sse)]),
    public_route("/ws", RouteLabel::WebSocket, &[(Method::Get, stream::open_websocket)]),
    authenticated_route("/publish", RouteLabel::Publish, REFUSALS, &[(Method::Post, publish::publish_batch)]),
    authenticated_route("/publish/{topic}", RouteLabel::Publish, REFUSALS, &[(Method::Post, publish::publish_one)]),
    authenticated_route("/topics", RouteLabel::Topics, REFUSALS, &[(Method::Get, topics::list_topics)]),
    authenticated_route(
        "/topics/{topic}/history",
        RouteLabel::History,
        REFUSALS,
        &[(Method::Get, topics::show_history)],
    ),
    authenticated_route("/topics/{topic}", RouteLabel::Topics, REFUSALS, &[(Method::Get, topics::show_topic)]),
    authenticated_route("/stats", RouteLabel::Stats, REFUSALS, &[(Method::Get, health::show_stats)]),
    Route::admin("/stats", RouteLabel::Stats, &[(Method::Get, health::show_stats)]),
    Route::admin("/health", RouteLabel::Health, &[(Method::Get, health::show_health)]),
    Route::admin("/healthz", RouteLabel::Health, &[(Method::Get, health::show_health)]),
    Route::admin("/livez", RouteLabel::Health, &[(Method::Get, health::show_health)]),
    Route::admin("/ready", RouteLabel::Ready, &[(Method::Get, health::show_ready)]),
    Route::admin("/readyz", RouteLabel::Ready, &[(Method::Get, health::show_ready)]),
    Route::admin("/metrics", RouteLabel::Metrics, &[(Method::Get, health::show_metrics)]),
    public_route("/", RouteLabel::Index, &[(Method::Get, health::show_index)]),
];

/// The routes for signing in. They are the hub's own; their errors have the form of the ESP platform, whose document describes
/// them.
pub(super) static SIGN_IN_ROUTES: &[Route] = &[
    public_route("/api/v1/auth/login", RouteLabel::Auth, &[(Method::Post, sign_in::log_in)]).with_errors(esp::ERRORS),
    public_route("/api/v1/auth/logout", RouteLabel::Auth, &[(Method::Post, sign_in::log_out)]).with_errors(esp::ERRORS),
    public_route("/api/v1/auth/refresh", RouteLabel::Auth, &[(Method::Post, sign_in::refresh)])
        .authenticated_by_handler(REFUSALS)
        .with_errors(esp::ERRORS),
];

/// The topic that a query or a body names, or a 400 that says what is wrong.
pub(super) fn parse_topic(name: &str, field: &str) -> Result<Topic, Response> {
    Topic::parse(name).map_err(|bad| Response::error(400, "bad_topic", &bad.to_string(), Some(field)))
}

/// The topic that a path names, or a 400 that says what is wrong.
pub(super) fn parse_topic_in_path(name: &str) -> Result<Topic, Response> {
    Topic::parse_in_path(name).map_err(|bad| Response::error(400, "bad_topic", &bad.to_string(), Some("topic")))
}
