//! Who asks, and whether it may.

use std::sync::Arc;

use crate::{
    auth::{Denied, Identity},
    bus::is_hub_command,
    close::Close,
    endpoint::{
        Answer, Context, OpenWebSocket,
        gate::{origin, overload},
    },
    protocol::{
        Dialect, FANFARE_V1,
        http::{Request, Response},
        websocket,
    },
    topic::Topic,
};

/// The cookie that a login sets.
pub(in crate::endpoint) const COOKIE: &str = "fanfare_token";

/// Whose request it is; `None` where nobody has to say so, and the page that asks may use that. A refusal is counted.
pub(in crate::endpoint) fn identify(request: &Request, context: &Context<'_>) -> Result<Option<Arc<Identity>>, Denied> {
    if !context.hub.auth.is_required() {
        let admitted = origin::admit_without_token(request, context.config).map(|()| None);
        return admitted.inspect_err(|denied| count_refusal(*denied, context));
    }
    identify_for_any_origin(request, context)
}

/// The same for what every page may read where nobody has to say who it is.
pub(in crate::endpoint) fn identify_for_any_origin(
    request: &Request,
    context: &Context<'_>,
) -> Result<Option<Arc<Identity>>, Denied> {
    let auth = &context.hub.auth;
    if !auth.is_required() {
        return Ok(None);
    }
    let identity = match credential(request) {
        _ if has_duplicate_credentials(request) => Err(Denied::Invalid),
        Some(Credential::Key(key)) => auth.identify_key(key).map(Some),
        Some(Credential::Token(token)) => auth.identify(Some(token), context.token_origin(), context.now),
        Some(Credential::Cookie(token)) => origin::admit_cookie(request, context.config)
            .and_then(|()| auth.identify(Some(token), context.token_origin(), context.now)),
        None => Err(Denied::Missing),
    };
    identity.inspect_err(|denied| count_refusal(*denied, context))
}

/// Counts an answer that says that the client has no right, whatever form it has.
pub(in crate::endpoint) fn count_forbidden(answer: &Answer, context: &Context<'_>) {
    let is_refusal = match answer {
        Answer::Response(response) => response.status == 403,
        Answer::Ended { close, .. } => matches!(close, Close::Forbidden(_)),
        _ => false,
    };
    if is_refusal && context.hub.auth.is_required() {
        count_refusal(Denied::Forbidden, context);
    }
}

/// `answer`, after which a connection ends that has shown too many tokens that are not good. What it has sent behind them is then
/// not even read; whoever shares it, behind a proxy, goes on by another one.
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

/// Counts a client that was not let in, or not to what it asked for.
pub(in crate::endpoint) fn count_refusal(denied: Denied, context: &Context<'_>) {
    context.hub.metrics.reactors[context.reactor].on_auth_failure(denied.failure());
}

/// What a client shows.
#[derive(Clone, Copy, Debug)]
enum Credential<'a> {
    /// An API key.
    Key(&'a str),
    /// A token, or an API key in its place.
    Token(&'a str),
    /// A token that the browser has sent along by itself.
    Cookie(&'a str),
}

/// What is shown on purpose comes before the cookie. The first decides: one that is not valid is not made up for by another.
fn credential(request: &Request) -> Option<Credential<'_>> {
    let header = || bearer(request).map(Credential::Token);
    let key = || request.header_text("x-api-key").map(Credential::Key);
    let query = || request.query("token").map(Credential::Token);
    header().or_else(key).or_else(query).or_else(|| cookie(request).map(Credential::Cookie))
}

/// Whether a credential that is shown on purpose comes twice, so that whoever stands before the hub may have looked at another
/// one than the hub would (RFC 9110 section 5.3, RFC 6750 section 2).
fn has_duplicate_credentials(request: &Request) -> bool {
    let is_twice = |name: &str| request.header_values(name).nth(1).is_some();
    is_twice("authorization") || is_twice("x-api-key") || request.query_values("token").nth(1).is_some()
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1). The scheme is compared without regard to case (RFC 9110
/// section 11.1); other schemes are meant for somebody before the hub.
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header_text("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start())
}

/// The token of the cookie (RFC 6265 section 4.2).
fn cookie(request: &Request) -> Option<&str> {
    let values = request.header_values("cookie").filter_map(|value| std::str::from_utf8(value).ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, token)| (name.trim() == COOKIE).then(|| token.trim()))
}

/// Whether the cookie is all that the request shows.
pub(in crate::endpoint) fn relies_on_cookie(request: &Request) -> bool {
    matches!(credential(request), Some(Credential::Cookie(_)))
}

/// Whether the request shows something on purpose: a token or an API key, whether or not it is good.
pub(in crate::endpoint) fn has_explicit_credential(request: &Request) -> bool {
    matches!(credential(request), Some(Credential::Key(_) | Credential::Token(_)))
}

/// Whether `identity` may listen to `topic`.
pub(in crate::endpoint) fn may_subscribe(identity: Option<&Identity>, topic: &Topic) -> Result<(), Denied> {
    identity.map_or(Ok(()), |identity| identity.may_subscribe(topic))
}

/// Whether `identity` may publish to `topic`. What hubs tell each other is nobody's else.
pub(in crate::endpoint) fn may_publish(identity: Option<&Identity>, topic: &Topic) -> Result<(), Denied> {
    if is_hub_command(topic) {
        return Err(Denied::Forbidden);
    }
    identity.map_or(Ok(()), |identity| identity.may_publish(topic))
}

/// The native API's answer to a request that is denied (RFC 6750 section 3).
pub(in crate::endpoint) fn refuse(denied: Denied) -> Response {
    let response = Response::error(denied.status(), denied.code(), &denied.to_string(), None);
    match denied {
        Denied::ForeignPage | Denied::ForeignHost => response,
        Denied::Missing | Denied::Cookie => response.with("WWW-Authenticate", "Bearer"),
        Denied::Forbidden => response.with("WWW-Authenticate", "Bearer error=\"insufficient_scope\""),
        Denied::Invalid | Denied::Expired | Denied::Revoked => {
            response.with("WWW-Authenticate", "Bearer error=\"invalid_token\"")
        }
        Denied::TooMany => response.with("Retry-After", "1"),
    }
}

/// The same where a WebSocket is asked for: a browser keeps to itself what else a handshake was answered, so it is accepted
/// and closed with a code that says why (4401, or 1008 where signing in again would not help).
pub(in crate::endpoint) fn refuse_stream(request: &Request, denied: Denied) -> Answer {
    if matches!(denied, Denied::ForeignPage | Denied::ForeignHost) {
        return refuse(denied).into();
    }
    if denied == Denied::TooMany {
        return overload::refuse_with_retry(request, denied.close(), refuse(denied));
    }
    let Ok(accepted) = websocket::accept(request, &[FANFARE_V1]) else { return refuse(denied).into() };
    let dialect = if accepted.protocol.is_some() { Dialect::FanfareV1 } else { Dialect::Raw };
    let open = OpenWebSocket { accepted, dialect, topics: Vec::new(), identity: None, hold: None };
    Answer::Ended { stream: Box::new(open.into()), close: denied.close() }
}
