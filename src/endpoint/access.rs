//! Who asks, and whether it may.

use std::sync::Arc;

use super::Context;
use crate::{
    auth::{Denied, Identity},
    protocol::http::{Request, Response},
    topic::Topic,
};

/// Whose request it is; `None` where nobody has to say so.
pub(super) fn identify(request: &Request, context: &Context<'_>) -> Result<Option<Arc<Identity>>, Denied> {
    context.hub.auth.identify(bearer(request), context.now)
}

/// The token of a request: `Authorization: Bearer`, or `?token=`.
fn bearer(request: &Request) -> Option<&str> {
    let header = request.header_text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    header.or_else(|| request.query("token"))
}

/// Whether `identity` may listen to `topic`.
pub(super) fn may_subscribe(identity: Option<&Identity>, topic: &Topic) -> Result<(), Denied> {
    let allowed = identity.is_none_or(|identity| identity.subscribe.allow(topic));
    if allowed { Ok(()) } else { Err(Denied::Forbidden) }
}

/// Whether `identity` may publish to `topic`.
pub(super) fn may_publish(identity: Option<&Identity>, topic: &Topic) -> Result<(), Denied> {
    let allowed = identity.is_none_or(|identity| identity.publish.allow(topic));
    if allowed { Ok(()) } else { Err(Denied::Forbidden) }
}

/// The native API's answer to a request that is denied (RFC 6750 section 3).
pub(super) fn refuse(denied: Denied) -> Response {
    let response = Response::error(denied.status(), denied.code(), &denied.to_string(), None);
    match denied {
        Denied::Missing => response.with("WWW-Authenticate", "Bearer"),
        Denied::Forbidden => response.with("WWW-Authenticate", "Bearer error=\"insufficient_scope\""),
        Denied::Invalid | Denied::Expired | Denied::Revoked => {
            response.with("WWW-Authenticate", "Bearer error=\"invalid_token\"")
        }
    }
}
