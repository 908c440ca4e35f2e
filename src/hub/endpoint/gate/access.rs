//! Authentication and rights: who sends a request, and what that client may do.

use std::sync::Arc;

use crate::{
    auth::{AccessDenied, Identity},
    bus::is_hub_command,
    close::Close,
    endpoint::{
        Answer, Context,
        gate::{audit, origin, overload},
    },
    label::RouteLabel,
    protocol::{
        AfterRefusal, Opening,
        http::{Request, Response},
    },
    topic::Topic,
    transport::Transport,
};

/// The cookie that signing in sets.
pub(in crate::endpoint) const COOKIE: &str = "fanfare_token";

/// The client's identity. `None` if the hub asks for no token and the requesting page may use such a hub. Counts a refusal.
pub(in crate::endpoint) fn identify(
    request: &Request,
    context: &Context<'_>,
) -> Result<Option<Arc<Identity>>, AccessDenied> {
    if !context.hub.auth.is_required() {
        let admitted = origin::admit_without_token(request, context.config).map(|()| None);
        return admitted.inspect_err(|denied| count_refusal(*denied, context));
    }
    identify_for_any_origin(request, context)
}

/// As [`identify`], for answers that pages of every origin may read at a hub that asks for no token.
pub(in crate::endpoint) fn identify_for_any_origin(
    request: &Request,
    context: &Context<'_>,
) -> Result<Option<Arc<Identity>>, AccessDenied> {
    let auth = &context.hub.auth;
    if !auth.is_required() {
        return Ok(None);
    }
    let identity = match credential(request) {
        _ if has_duplicate_credentials(request) => Err(AccessDenied::Invalid),
        Some(RequestCredential::Key(key)) => auth.identify_key(key).map(Some),
        Some(RequestCredential::Token(token)) => auth.identify(Some(token), context.token_origin(), context.now),
        Some(RequestCredential::Cookie(token)) => origin::admit_cookie(request, context.config)
            .and_then(|()| auth.identify(Some(token), context.token_origin(), context.now)),
        None => Err(AccessDenied::Missing),
    };
    if let (Ok(Some(identity)), Some(audited)) = (&identity, context.audited) {
        // The first check counts.
        let _ = audited.who.set(Arc::clone(identity));
    }
    identity.inspect_err(|denied| count_refusal(*denied, context))
}

/// Counts an answer that denies a right, whatever its form.
pub(in crate::endpoint) fn count_forbidden(answer: &Answer, context: &Context<'_>) {
    let is_refusal = match answer {
        Answer::Response(response) => response.status == 403,
        Answer::Ended { close, .. } => matches!(close, Close::Forbidden(_)),
        _ => false,
    };
    if is_refusal && context.hub.auth.is_required() {
        count_refusal(AccessDenied::Forbidden, context);
    }
}

/// The same of the response to a request of `identity` that took more than its first steps.
pub(crate) fn count_forbidden_work(
    response: &Response,
    route: RouteLabel,
    identity: Option<&Identity>,
    context: &Context<'_>,
) {
    if response.status == 403 && context.hub.auth.is_required() {
        context.hub.metrics.reactors[context.reactor].on_auth_failure(AccessDenied::Forbidden.failure());
        audit::record_refused_work(AccessDenied::Forbidden, route, identity, context);
    }
}

/// Makes `answer` close the connection if the connection has shown too many bad tokens. What the client sent after them is not
/// even read. Other clients behind the same proxy connect again.
pub(in crate::endpoint) fn close_after_bad_tokens(answer: Answer, context: &Context<'_>) -> Answer {
    let has_spent = || context.hub.auth.has_spent(context.connection(), context.now);
    match answer {
        Answer::Response(response) if matches!(response.status, 401 | 429) && has_spent() => {
            let waits = response.headers.iter().any(|(name, _)| *name == "Retry-After");
            let response = if waits { response } else { response.with("Retry-After", "1") };
            response.with("Connection", "close").into()
        }
        answer => answer,
    }
}

/// Counts a client that was refused, by reason, and records it.
pub(in crate::endpoint) fn count_refusal(denied: AccessDenied, context: &Context<'_>) {
    count_refusal_on(Transport::Http, denied, None, context);
}

/// The same of what was asked by a message on a connection that speaks `transport`.
pub(in crate::endpoint) fn count_refusal_on(
    transport: Transport,
    denied: AccessDenied,
    topic: Option<&Topic>,
    context: &Context<'_>,
) {
    context.hub.metrics.reactors[context.reactor].on_auth_failure(denied.failure());
    let topics: Vec<&str> = topic.iter().map(|topic| topic.as_str()).collect();
    audit::record_refusal(denied, transport, &topics, context);
}

/// A credential that a request shows.
#[derive(Clone, Copy, Debug)]
enum RequestCredential<'a> {
    /// An API key.
    Key(&'a str),
    /// A token, or an API key in its place.
    Token(&'a str),
    /// A token in the cookie, which the browser adds by itself.
    Cookie(&'a str),
}

/// The request's credential. Explicit ones come before the cookie. The first one decides: if it is not valid, no other is tried.
fn credential(request: &Request) -> Option<RequestCredential<'_>> {
    let header = || bearer(request).map(RequestCredential::Token);
    let key = || request.header_text("x-api-key").map(RequestCredential::Key);
    let query = || request.query("token").map(RequestCredential::Token);
    header().or_else(key).or_else(query).or_else(|| cookie(request).map(RequestCredential::Cookie))
}

/// Whether an explicit credential comes twice. A proxy may then have checked another one than the hub would (RFC 9110 section
/// 5.3, RFC 6750 section 2).
fn has_duplicate_credentials(request: &Request) -> bool {
    let is_twice = |name: &str| request.header_values(name).nth(1).is_some();
    is_twice("authorization") || is_twice("x-api-key") || request.query_values("token").nth(1).is_some()
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1). The scheme is case-insensitive (RFC 9110 section 11.1). Other
/// schemes are meant for a proxy.
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header_text("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start())
}

/// The token in the cookie (RFC 6265 section 4.2).
fn cookie(request: &Request) -> Option<&str> {
    let values = request.header_values("cookie").filter_map(|value| std::str::from_utf8(value).ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, token)| (name.trim() == COOKIE).then(|| token.trim()))
}

/// Whether the cookie is the request's only credential.
pub(in crate::endpoint) fn relies_on_cookie(request: &Request) -> bool {
    matches!(credential(request), Some(RequestCredential::Cookie(_)))
}

/// Whether the request shows a token or an API key explicitly, valid or not.
pub(in crate::endpoint) fn has_explicit_credential(request: &Request) -> bool {
    matches!(credential(request), Some(RequestCredential::Key(_) | RequestCredential::Token(_)))
}

/// Checks that `identity` may subscribe to `topic`.
pub(in crate::endpoint) fn may_subscribe(identity: Option<&Identity>, topic: &Topic) -> Result<(), AccessDenied> {
    identity.map_or(Ok(()), |identity| identity.may_subscribe(topic))
}

/// Checks that `identity` may publish to `topic`. No client may publish what hubs tell each other.
pub(in crate::endpoint) fn may_publish(identity: Option<&Identity>, topic: &Topic) -> Result<(), AccessDenied> {
    if is_hub_command(topic) {
        return Err(AccessDenied::Forbidden);
    }
    identity.map_or(Ok(()), |identity| identity.may_publish(topic))
}

/// The native API's response to a denied request (RFC 6750 section 3).
pub(in crate::endpoint) fn refuse(denied: AccessDenied) -> Response {
    let response = Response::error(denied.status(), denied.code(), &denied.to_string(), None);
    match denied {
        AccessDenied::ForeignPage | AccessDenied::ForeignHost => response,
        AccessDenied::Missing | AccessDenied::Cookie => response.with("WWW-Authenticate", "Bearer"),
        AccessDenied::Forbidden => response.with("WWW-Authenticate", "Bearer error=\"insufficient_scope\""),
        AccessDenied::Invalid | AccessDenied::Expired | AccessDenied::Revoked => {
            response.with("WWW-Authenticate", "Bearer error=\"invalid_token\"")
        }
        AccessDenied::TooMany | AccessDenied::KeysPending => response.with("Retry-After", "1"),
    }
}

/// The same for requests that may be WebSocket handshakes. A browser does not show a page the response to a refused handshake, so
/// the hub accepts it and closes the WebSocket with a code: 4401, or 1008 where signing in again would not help.
pub(in crate::endpoint) fn refuse_stream(request: &Request, denied: AccessDenied) -> Answer {
    if matches!(denied, AccessDenied::ForeignPage | AccessDenied::ForeignHost) {
        return refuse(denied).into();
    }
    if denied.is_temporary() {
        return overload::refuse_with_retry(request, denied.close(), refuse(denied));
    }
    match Opening::of_refusal(request, AfterRefusal::StayAway) {
        Some(opening) => Answer::ended(opening, denied.close()),
        None => refuse(denied).into(),
    }
}
