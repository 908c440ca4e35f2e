//! A route as data: a path, who may use it, in which form it refuses, and what each method does.

use super::{Answer, CompatApi, Context, error_form::ErrorForm};
use crate::{
    auth::Denied,
    bus::PublishFailed,
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
    /// Whether it lets in whoever comes, or its handlers ask for a token themselves; else the client has to have shown who it is.
    pub(super) requires_identity: bool,
    /// Who may send bodies to it.
    pub(super) body_senders: BodySenders,
    /// Whether pages of every origin may read what is answered, as its API has it documented.
    pub(super) any_origin: bool,
    /// Of which compatibility API it is, if of one: where that is off, the route is none.
    pub(super) compat: Option<CompatApi>,
    /// The form of what the hub refuses there.
    pub(super) errors: ErrorForm,
    /// Whether a stream that is opened there only to refuse it ends with an `error` event of the API's own kind.
    pub(super) has_refusal_event: bool,
    pub(super) methods: &'static [(Method, Handler)],
}

/// Who may send bodies to a route.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodySenders {
    /// Everybody: the route asks nobody for a token.
    Anyone,
    /// Clients that show a good token, where tokens are asked for; others are refused in these words.
    Authenticated(&'static BodyRefusals),
    /// The client of an Engine.IO session that the query names.
    Session,
}

/// How an API words what it refuses before it reads the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyRefusals {
    /// The client shows no good token.
    pub denied: fn(&Request, Denied, &Context<'_>) -> Answer,
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

    /// For operators: no answer names a topic or a user, so that probes need no token.
    pub(super) const fn admin(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Self {
        Self { admin: true, ..Self::new(pattern, label, methods) }
    }

    /// The same, whose answers pages of every origin may read, without the cookies of their users.
    pub(super) const fn for_any_origin(self) -> Self {
        Self { any_origin: true, ..self }
    }

    /// The same, whose handlers ask for a token and refuse in words of their own, before and after the body.
    pub(super) const fn authenticated_by_handler(self, refusals: &'static BodyRefusals) -> Self {
        Self { body_senders: BodySenders::Authenticated(refusals), ..self }
    }

    /// The same, of a compatibility API whose errors have this form.
    pub(super) const fn of(self, api: CompatApi, errors: ErrorForm) -> Self {
        Self { compat: Some(api), errors, ..self }
    }

    /// The same, whose errors have another form than the native API's.
    pub(super) const fn with_errors(self, errors: ErrorForm) -> Self {
        Self { errors, ..self }
    }

    /// The same, whose refusals are also told by an `error` event to browsers.
    pub(super) const fn with_refusal_event(self) -> Self {
        Self { has_refusal_event: true, ..self }
    }

    /// The same, whose bodies are for Engine.IO sessions.
    pub(super) const fn for_sessions(self) -> Self {
        Self { body_senders: BodySenders::Session, ..self }
    }

    /// Whether there is such a route at the listener that the request of `context` came through.
    pub(super) fn is_served(&self, context: &Context<'_>) -> bool {
        (!context.config.admin_apart || self.admin == context.admin)
            && self.compat.is_none_or(|api| context.config.compat.has(api))
    }

    /// What stands in `path` for the `{topic}` of the route, if they match.
    pub(super) fn match_path<'path>(&self, path: &'path str) -> Option<&'path str> {
        match self.pattern.split_once("{topic}") {
            None => (self.pattern == path).then_some(""),
            Some((before, after)) => path.strip_prefix(before)?.strip_suffix(after).filter(|topic| !topic.is_empty()),
        }
    }
}

/// The route of `pattern`, counted as `label`, whose handlers need `refusals` to say who is not let in.
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

/// A route that lets in whoever comes, or whose handlers ask for a token in a way of their own.
pub const fn public_route(pattern: &'static str, label: RouteLabel, methods: &'static [(Method, Handler)]) -> Route {
    Route::new(pattern, label, methods)
}
