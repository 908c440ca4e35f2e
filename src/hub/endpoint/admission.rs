//! Admission: who sends a request's body, and whether the hub takes it. Credentials are in the head, so a client that is refused
//! is refused before the hub holds a body for it.

use std::sync::Arc;

use super::{
    Answer, AuditedRequest, Context, Route,
    dispatch::{answer, finish},
    error_form::{ErrorForm, unix_s},
    gate::access,
    native,
    route::BodySenders,
    routes::find_route,
};
use crate::{
    auth::Identity,
    bus::PublishFailed,
    close::Close,
    label::RouteLabel,
    protocol::{
        SessionId,
        http::{Method, Request, Response},
    },
};

/// The sender of a body, whose share of memory the body counts against.
#[derive(Debug)]
pub(crate) enum BodySender {
    /// A client, known by its token, or by its address if the hub asks for no token.
    Client(Option<Arc<Identity>>),
    /// A client without a token, at a route that asks for none, at a hub that asks for tokens. It may send little.
    Anonymous,
    /// The client of an Engine.IO session.
    Session {
        sid: SessionId,
        /// What the request counts as in the metrics.
        route: RouteLabel,
        /// Fields of the answer if the session does not exist.
        headers: Vec<(&'static str, String)>,
    },
}

/// The sender of the body of `request`, which has not arrived completely. `Err`: an answer that no body can change, and what the
/// request counts as in the metrics.
pub(crate) fn admit_body(request: &Request, context: &Context<'_>) -> Result<BodySender, (RouteLabel, Answer)> {
    let wanted = if request.method == Method::Head { Method::Get } else { request.method };
    let handler_of =
        |route: &Route| route.methods.iter().find(|(method, _)| *method == wanted).map(|(_, handler)| *handler);
    let found = find_route(&request.path, context).filter(|_| context.overload.is_none());
    let Some((route, handler)) = found.and_then(|(route, _)| Some((route, handler_of(route)?))) else {
        // No such path or method, or the connection exceeds a limit.
        return Err(answer(request, context));
    };
    let audited = AuditedRequest::new(request, Some(route.label), "");
    let context = &Context { audited: context.hub.audit.is_on().then_some(&audited), ..*context };
    match route.body_senders {
        BodySenders::Anyone => Ok(by_address(context)),
        BodySenders::Authenticated(refusals) => {
            let refuse = |denied| finish(Some(route), (refusals.denied)(request, denied, context), request, context);
            access::identify(request, context).map(BodySender::Client).map_err(refuse)
        }
        BodySenders::Session => match finish(Some(route), handler(request, "", context), request, context) {
            (route, Answer::Engine(engine)) => match engine.kind.sid() {
                Some(sid) => Ok(BodySender::Session { sid, route, headers: engine.headers }),
                None => Ok(by_address(context)),
            },
            refused => Err(refused),
        },
    }
}

fn by_address(context: &Context<'_>) -> BodySender {
    if context.hub.auth.is_required() { BodySender::Anonymous } else { BodySender::Client(None) }
}

/// The answer to `request` when there is no room for its body, and what the request counts as in the metrics.
pub(crate) fn refuse_body(request: &Request, failed: PublishFailed, context: &Context<'_>) -> (RouteLabel, Answer) {
    let route = find_route(&request.path, context).map(|(route, _)| route);
    let refusals = match route.map(|route| route.body_senders) {
        Some(BodySenders::Authenticated(refusals)) => refusals,
        _ => native::REFUSALS,
    };
    finish(route, (refusals.failed)(request, failed, context), request, context)
}

/// The answer to a request for `path` of which the hub reads no more, because of `close`. `None`: the connection ends without an
/// answer.
pub(crate) fn refuse_request(path: &str, close: Close, context: &Context<'_>) -> Option<Response> {
    let refusal = Response::refusal(close)?;
    let form = find_route(path, context).map_or(ErrorForm::NATIVE, |(route, _)| route.errors);
    Some(form.put(refusal, unix_s(context)))
}
