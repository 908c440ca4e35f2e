//! From a request to its endpoint, and what the answers of all endpoints have in common.

use crate::{
    endpoint::{
        Answer, AuditedRequest, Context, Overload, Route,
        error_form::unix_s,
        gate::{access, audit, cors, fields, overload},
        routes::find_route,
    },
    label::RouteLabel,
    protocol::http::{Method, Request, Response},
};

/// Answers `request`. Returns the answer and what the request counts as in the metrics.
pub fn answer(request: &Request, context: &Context<'_>) -> (RouteLabel, Answer) {
    let found = find_route(&request.path, context);
    let (route, topic) = found.map(|(route, topic)| (route.label, topic)).unzip();
    let audited = AuditedRequest::new(request, route, topic.unwrap_or_default());
    let context = &Context { audited: context.hub.audit.is_on().then_some(&audited), ..*context };
    let answer = match (found, context.overload) {
        // Operators must see what is wrong with an overloaded hub.
        (Some((route, topic)), Some(Overload::Connections | Overload::Memory)) if route.admin => {
            overload::answer_and_close(dispatch(route, request, topic, context))
        }
        (_, Some(overload)) => overload::refuse(request, overload),
        (None, _) if matches!((request.method, &*request.path), (Method::Options, "*") | (Method::Connect, _)) => {
            answer_for_all(request)
        }
        (None, _) => {
            Response::error(404, "not_found", "there is nothing at this path; GET / lists what there is", None).into()
        }
        (Some((route, topic)), _) => dispatch(route, request, topic, context),
    };
    finish(found.map(|(route, _)| route), answer, request, context)
}

/// Adds to `answer` what all answers of `route` have in common. Returns it with the route's label.
pub(super) fn finish(
    route: Option<&Route>,
    answer: Answer,
    request: &Request,
    context: &Context<'_>,
) -> (RouteLabel, Answer) {
    access::count_forbidden(&answer, context);
    let answer = if request.method == Method::Head { show_head(answer) } else { answer };
    let answer = access::close_after_bad_tokens(answer, context);
    let answer = overload::refuse_over_quota(request, answer, context);
    let answer = overload::refuse_out_of_memory(request, answer, context.hub.bus.budget());
    let answer = overload::refuse_while_draining(request, answer, context.hub.phase());
    let answer = match (answer, route) {
        (Answer::Response(response), Some(route)) => route.errors.put(response, unix_s(context)).into(),
        (answer, _) => answer,
    };
    let answer = match answer {
        Answer::Ended { mut stream, close } if route.is_some_and(|route| route.has_refusal_event) => {
            stream.opening.expect_refusal();
            Answer::Ended { stream, close }
        }
        answer => answer,
    };
    audit::record_answer(&answer, context);
    let any_origin = route.is_some_and(|route| route.any_origin);
    let label = route.map_or(RouteLabel::Other, |route| route.label);
    (label, cors::allow(answer, request, context, any_origin))
}

/// Turns the answer to a GET into that to a HEAD. A stream's head is shown without opening the stream: nothing is subscribed to,
/// and no topic is made.
fn show_head(answer: Answer) -> Answer {
    let Answer::Stream(open) = answer else { return answer };
    let Some(mut response) = open.opening.head() else { return Answer::Stream(open) };
    response.headers.extend(open.headers);
    response.into()
}

/// Answers a request whose target is no path: `OPTIONS *`, which asks about the server as a whole (RFC 9110 section 9.3.7), and
/// CONNECT, which no route has.
fn answer_for_all(request: &Request) -> Answer {
    let response = match request.method {
        Method::Options => Response::empty(204),
        _ => Response::error(405, "method_not_allowed", "the hub is no proxy", None),
    };
    response.with("Allow", "GET, HEAD, POST, OPTIONS").into()
}

fn dispatch(route: &Route, request: &Request, topic: &str, context: &Context<'_>) -> Answer {
    if let Some(refused) = fields::refuse_unreadable(request) {
        return refused.into();
    }
    // A HEAD is answered as a GET without its content (RFC 9110 section 9.3.2). The HTTP session leaves the content out.
    let wanted = if request.method == Method::Head { Method::Get } else { request.method };
    match route.methods.iter().find(|(method, _)| *method == wanted) {
        Some((_, handler)) if !route.requires_identity => handler(request, topic, context),
        Some((_, handler)) => match access::identify(request, context) {
            Ok(identity) => handler(request, topic, &Context { identity: identity.as_deref(), ..*context }),
            Err(denied) => access::refuse_stream(request, denied),
        },
        None if request.method == Method::Options => {
            cors::preflight(request, &allowed(route), context, route.any_origin)
        }
        None => {
            let message = format!("{} is not among this path's methods: {}", request.method, allowed(route));
            Response::error(405, "method_not_allowed", &message, None).with("Allow", allowed(route)).into()
        }
    }
}

/// The methods of `route`, as the field `Allow` lists them.
fn allowed(route: &Route) -> String {
    let mut names: Vec<&str> = route.methods.iter().map(|(method, _)| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}
