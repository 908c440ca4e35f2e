//! Routes as data: a path, who may use it, the form of its errors, and a handler for each method.

use super::{Answer, CompatApi, Context, error_form::ErrorForm};
use crate::{
    auth::AccessDenied,
    bus::PublishFailed,
    label::RouteLabel,
    protocol::http::{Method, Request},
};

/// Answers a request. The text is what stands for `{topic}` in the path.
pub type Handler = fn(&Request, &str, &Context<'_>) -> Answer;

/// A route: a path pattern, what it counts as in the metrics, and a handler for each method. `{topic}` matches any text, slashes
/// included, up to what follows it in the pattern.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub(super) pattern: &'static str,
    pub(super) label: RouteLabel,
    pub(super) admin: bool,
    /// Whether a token is checked before the handler runs. If not, everybody may use the route, or its handlers check the token.
    pub(super) requires_identity: bool,
    /// Who may send a body to the route.
    pub(super) body_senders: BodySenders,
    /// Whether pages of every origin may read the answers, as the API's document promises.
    pub(super) any_origin: bool,
    /// The compatibility API that the route belongs to, if any. The route exists only while that API is served.
    pub(super) compat: Option<CompatApi>,
    /// The form of the hub's errors on this route.
    pub(super) errors: ErrorForm,
    /// Whether a stream that is opened only to be refused ends with the API's own `error` event.
    pub(super) has_refusal_event: bool,
    pub(super) methods: &'static [(Method, Handler)],
}

/// Who may send bodies to a route.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodySenders {
    /// Everybody: the route asks for no token.
    Anyone,
    /// Clients with a good token, if the hub asks for tokens. Others are refused in this form.
    Authenticated(&'static BodyRefusals),
    /// The client of the Engine.IO session that the query names.
    Session,
}

/// How an API refuses a request before its body is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyRefusals {
    /// The client shows no good token.
    pub denied: fn(&Request, AccessDenied, &Context<'_>) -> Answer,
    /// There is no room for the body.
    pub failed: fn(&Request, PublishFailed, &Context<'_>) -> Answer,
}

impl Route {
    const fn new(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Self {
        Self {
            pattern,
            label,
            admin: false,
            requires_identity: false,
            any_origin: false,
            compat: None,
            errors: ErrorForm::NATIVE,
            has_refusal_event: false,
            body_senders: BodySenders::Anyone,
            methods,
        }
    }

    /// A route for operators. Its answers name no topic and no user, so that probes need no token.
    pub(super) const fn admin(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Self {
        Self { admin: true, ..Self::new(pattern, label, methods) }
    }

    /// Lets pages of every origin read the answers, without cookies.
    pub(super) const fn for_any_origin(self) -> Self {
        Self { any_origin: true, ..self }
    }

    /// For handlers that check the token themselves. `refusals` are used before the body is read.
    pub(super) const fn authenticated_by_handler(self, refusals: &'static BodyRefusals) -> Self {
        Self { body_senders: BodySenders::Authenticated(refusals), ..self }
    }

    /// Makes the route part of a compatibility API, whose errors have this form.
    pub(super) const fn of(self, api: CompatApi, errors: ErrorForm) -> Self {
        Self { compat: Some(api), errors, ..self }
    }

    /// Gives the route's errors another form than the native API's.
    pub(super) const fn with_errors(self, errors: ErrorForm) -> Self {
        Self { errors, ..self }
    }

    /// Adds an `error` event for browsers to a refusal.
    pub(super) const fn with_refusal_event(self) -> Self {
        Self { has_refusal_event: true, ..self }
    }

    /// For bodies that belong to Engine.IO sessions.
    pub(super) const fn for_sessions(self) -> Self {
        Self { body_senders: BodySenders::Session, ..self }
    }

    /// Whether the route exists at the listener that the request of `context` came through.
    pub(super) fn is_served(&self, context: &Context<'_>) -> bool {
        (!context.config.admin_apart || self.admin == context.admin)
            && self.compat.is_none_or(|api| context.config.compat.has(api))
    }

    /// The text that stands for `{topic}` in `path`, if the path matches. Empty if the pattern has no `{topic}`.
    pub(super) fn match_path<'path>(&self, path: &'path str) -> Option<&'path str> {
        match self.pattern.split_once("{topic}") {
            None => (self.pattern == path).then_some(""),
            Some((before, after)) => path.strip_prefix(before)?.strip_suffix(after).filter(|topic| !topic.is_empty()),
        }
    }
}

/// A route that checks a token before its handlers run, and refuses with `refusals`.
pub(super) const fn authenticated_route(
    pattern: &'static str,
    label: RouteLabel,
    refusals: &'static BodyRefusals,
    methods: &'static [(Method, Handler)],
) -> Route {
    Route {
        requires_identity: true,
        body_senders: BodySenders::Authenticated(refusals),
        ..Route::new(pattern, label, methods)
    }
}

/// A route that everybody may use, or whose handlers check the token themselves.
pub const fn public_route(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Route {
    Route::new(pattern, label, methods)
}
