//! What the audit is told: clients that sign in, and clients that are refused.

use core::net::IpAddr;

use crate::{
    audit::{Audit, AuditKind, AuditLine},
    auth::{AccessDenied, Identity},
    endpoint::{Answer, Context},
    label::{AuthFailure, RouteLabel},
    protocol::http::Response,
    topic::Topic,
    transport::Transport,
};

/// A request with a good credential has been answered with `answer`. A stream is recorded each time, other requests once in a while.
pub(in crate::endpoint) fn record_answer(answer: &Answer, context: &Context<'_>) {
    let Some(audited) = context.audited else { return };
    match answer {
        Answer::Stream(open) => {
            let Some(who) = open.identity.as_deref().filter(|who| !who.is_guest) else { return };
            let topics = open.topics.iter().map(|(topic, _)| topic.as_str()).collect();
            let line = sign_in(who, open.opening.transport(), context);
            context.hub.audit.record(&AuditLine { topics, ..line });
        }
        // There is another line for it.
        Answer::Ended { .. } | Answer::Response(Response { status: 401 | 403, .. }) => {}
        _ => {
            if let Some(who) = audited.who.get() {
                context.hub.audit.record_request(&sign_in(who, Transport::Http, context));
            }
        }
    }
}

/// A client has signed in on a connection that is a stream already.
pub(in crate::endpoint) fn record_sign_in(who: &Identity, transport: Transport, context: &Context<'_>) {
    context.hub.audit.record(&sign_in(who, transport, context));
}

/// A user of the hub's own login has got a new token for the one it had.
pub(in crate::endpoint) fn record_refresh(who: &Identity, context: &Context<'_>) {
    let line = sign_in(who, Transport::Http, context);
    context.hub.audit.record(&AuditLine { credential: Some("refresh"), ..line });
}

/// A client has done something to the hub.
pub(in crate::endpoint) fn record_act(action: &str, who: Option<&Identity>, topic: &Topic, context: &Context<'_>) {
    let line = AuditLine { who, topics: vec![topic.as_str()], ..line(AuditKind::Admin, Transport::Http, context) };
    context.hub.audit.record(&AuditLine { action: Some(action), ..line });
}

/// Records how a login with a password ends, on whatever thread.
#[derive(Clone, Debug)]
pub(in crate::endpoint) struct LoginRecorder {
    audit: Audit,
    /// `None` for a name that no user has: it may be a password in the wrong field.
    user: Option<String>,
    peer: Option<IpAddr>,
}

impl LoginRecorder {
    /// For `user`, who sends the request of `context`.
    pub(in crate::endpoint) fn new(user: &str, context: &Context<'_>) -> Self {
        let audit = context.hub.audit.clone();
        let is_known = audit.is_on() && context.hub.auth.is_user(user);
        Self { audit, user: is_known.then(|| user.to_owned()), peer: context.peer }
    }

    /// The user has signed in, or is refused for this reason.
    pub(in crate::endpoint) fn record(&self, refused: Option<AuthFailure>) {
        let kind = if refused.is_none() { AuditKind::SignIn } else { AuditKind::Refusal };
        self.audit.record(&AuditLine {
            reason: refused.map(AuthFailure::label),
            credential: Some("password"),
            subject: self.user.as_deref(),
            peer: self.peer,
            transport: Some(Transport::Http),
            route: Some(RouteLabel::Auth),
            ..AuditLine::new(kind)
        });
    }
}

/// A client is refused on a connection that speaks `transport`. `topics`: what it asked for, where the request does not say so.
pub(super) fn record_refusal(denied: AccessDenied, transport: Transport, topics: &[&str], context: &Context<'_>) {
    let is_let_in = matches!(denied, AccessDenied::Missing | AccessDenied::Cookie)
        && context.audited.is_some_and(|audited| audited.may_sign_in_later.get());
    if is_let_in || !context.hub.audit.is_on() {
        return;
    }
    let who = context.identity.or_else(|| context.audited?.who.get().map(|who| &**who));
    let asked = context.audited.map(|audited| audited.topics()).unwrap_or_default();
    let topics = if topics.is_empty() { asked } else { topics.to_vec() };
    let line = AuditLine { reason: Some(denied.code()), who, topics, ..line(AuditKind::Refusal, transport, context) };
    context.hub.audit.record(&line);
}

/// The request of `who` is refused after more than its first steps.
pub(super) fn record_refused_work(
    denied: AccessDenied,
    route: RouteLabel,
    who: Option<&Identity>,
    context: &Context<'_>,
) {
    if context.hub.audit.is_on() {
        let line = AuditLine { route: Some(route), ..line(AuditKind::Refusal, Transport::Http, context) };
        context.hub.audit.record(&AuditLine { reason: Some(denied.code()), who, ..line });
    }
}

fn sign_in<'a>(who: &'a Identity, transport: Transport, context: &Context<'a>) -> AuditLine<'a> {
    AuditLine { who: Some(who), ..line(AuditKind::SignIn, transport, context) }
}

fn line<'a>(kind: AuditKind, transport: Transport, context: &Context<'a>) -> AuditLine<'a> {
    let route = context.audited.map(|audited| audited.route);
    AuditLine { peer: context.peer, transport: Some(transport), route, ..AuditLine::new(kind) }
}
