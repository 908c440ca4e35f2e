//! Requests whose heads have come and whose bodies have not: who sends them, and whether the hub wants the body. Credentials stand
//! in the head, so a client that is refused is refused before the hub holds a body for it.

use std::sync::Arc;

use super::{
    Answer, Context, Route,
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

/// Who sends a body.
#[derive(Debug)]
pub(crate) enum BodySender {
    /// A client, by its token or else by its address.
    Client(Option<Arc<Identity>>),
    /// A client that has shown no token at a hub that asks for tokens, at a route that does not: it may send little.
    Anonymous,
    /// The client of an Engine.IO session.
    Session {
        /// The session.
        sid: SessionId,
        /// What the request is for.
        route: RouteLabel,
        /// Fields for the answer, should there be no such session.
        headers: Vec<(&'static str, String)>,
    },
}

/// Who sends the body of `request`, of which some is yet to come. `Err`: the answer, which no body can change, and what the
/// request was for.
pub(crate) fn admit_body(request: &Request, context: &Context<'_>) -> Result<BodySender, (RouteLabel, Answer)> {
    let wanted = if request.method == Method::Head { Method::Get } else { request.method };
    let handler_of =
        |route: &Route| route.methods.iter().find(|(method, _)| *method == wanted).map(|(_, handler)| *handler);
    let found = find_route(&request.path, context).filter(|_| context.overload.is_none());
    let Some((route, handler)) = found.and_then(|(route, _)| Some((route, handler_of(route)?))) else {
        // There is no such path or method, or the connection is beyond a limit.
        return Err(answer(request, context));
    };
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

/// The answer to `request`, for whose body there is no room, and what the request was for.
pub(crate) fn refuse_body(request: &Request, failed: PublishFailed, context: &Context<'_>) -> (RouteLabel, Answer) {
    let route = find_route(&request.path, context).map(|(route, _)| route);
    let refusals = match route.map(|route| route.body_senders) {
        Some(BodySenders::Authenticated(refusals)) => refusals,
        _ => native::REFUSALS,
    };
    finish(route, (refusals.failed)(request, failed, context), request, context)
}

/// The answer to a request for `path` that the hub reads no further, for the reason `close`; `None`: it ends without one.
pub(crate) fn refuse_request(path: &str, close: Close, context: &Context<'_>) -> Option<Response> {
    let refusal = Response::refusal(close)?;
    let form = find_route(path, context).map_or(ErrorForm::NATIVE, |(route, _)| route.errors);
    Some(form.put(refusal, unix_s(context)))
}
