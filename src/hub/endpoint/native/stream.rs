//! `GET /sse` and `GET /ws`: opening a stream of events.

use std::sync::Arc;

use crate::{
    auth::{AccessDenied, Identity},
    endpoint::{
        Answer, Context, OpenStream,
        gate::{access, origin},
        native::{parse_topic, query::Parameters},
    },
    event::{EventId, Start},
    protocol::{
        SseOpening, WebSocketOpening,
        http::{Request, Response},
        sse::wants_initial_id,
    },
    topic::Topic,
};

pub(in crate::endpoint) fn open_sse(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let identity = match access::identify(request, context) {
        Ok(identity) => identity,
        Err(denied) => return access::refuse_stream(request, denied),
    };
    let wanted = PARAMETERS.check(request).and_then(|()| requested_topics(request, context));
    let topics = match wanted.and_then(|topics| resume_starts(request, topics)) {
        Ok(topics) => topics,
        Err(response) => return response.into(),
    };
    let named = !matches!(request.query("named"), Some("0" | "false"));
    if let Some(denied) = denied(identity.as_deref(), &topics) {
        return access::refuse(denied).into();
    }
    let opening = SseOpening { named, wants_initial_id: wants_initial_id(request), ..SseOpening::default() };
    OpenStream { topics, identity, ..OpenStream::new(opening) }.into()
}

pub(in crate::endpoint) fn open_websocket(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let opening = match WebSocketOpening::accept(request) {
        Ok(opening) => opening,
        Err(refusal) => return refusal.response().into(),
    };
    if let Err(denied) = origin::may_connect(request, context) {
        return access::refuse(denied).into();
    }
    let has_commands = opening.dialect.has_commands();
    context.audited.iter().for_each(|audited| audited.may_sign_in_later.set(has_commands));
    let identity = match access::identify(request, context) {
        Ok(identity) => identity,
        // The client may sign in by a command.
        Err(AccessDenied::Missing | AccessDenied::Cookie) if has_commands => Some(guest(context)),
        Err(denied) => return access::refuse_stream(request, denied),
    };
    // With commands a client subscribes itself; default topics would surprise it.
    let named_in_url = request.query("topic").is_some();
    let topics = PARAMETERS.check(request).and_then(|()| match (has_commands, named_in_url) {
        (true, false) => Ok(Vec::new()),
        _ => requested_topics(request, context).and_then(|topics| resume_starts(request, topics)),
    });
    match topics {
        Ok(topics) => match denied(identity.as_deref(), &topics) {
            Some(denied) => access::refuse_stream(request, denied),
            None => OpenStream { topics, identity, ..OpenStream::new(opening) }.into(),
        },
        Err(response) => response.into(),
    }
}

fn guest(context: &Context<'_>) -> Arc<Identity> {
    Arc::new(Identity::guest(context.now + context.hub.auth.settings().sign_in_timeout))
}

/// Why `identity` may not subscribe to one of `topics`, if so.
fn denied(identity: Option<&Identity>, topics: &[(Topic, Start)]) -> Option<AccessDenied> {
    topics.iter().find_map(|(topic, _)| access::may_subscribe(identity, topic).err())
}

/// The parameters of a stream. Unknown names are ignored: proxies and analytics add some.
pub(in crate::endpoint) const PARAMETERS: Parameters = Parameters {
    of: "a stream",
    once: &["last_event_id", "lastEventId", "since", "named"],
    several: &["topic"],
    nearly: &[("topic", "topic"), ("topics", "topic"), ("lasteventid", "last_event_id"), ("since", "since")],
    synonyms: &[
        ("channel", "topic"),
        ("channels", "topic"),
        ("topicname", "topic"),
        ("topicid", "topic"),
        ("lastid", "last_event_id"),
        // Not a misspelling that is searched for: `name` is too common a word.
        ("named", "named"),
    ],
    is_strict: false,
};

/// The topics of the URL without duplicates, or the configured ones if the URL names none.
fn requested_topics(request: &Request, context: &Context<'_>) -> Result<Vec<Topic>, Response> {
    let mut topics: Vec<Topic> = Vec::new();
    for name in request.query_values("topic") {
        let topic = parse_topic(name, "topic")?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    if topics.is_empty() {
        topics.clone_from(&context.config.default_topics);
    }
    if topics.is_empty() {
        let message = format!("name a topic: {}?topic=NAME", request.path);
        return Err(Response::error(400, "missing_topic", &message, Some("topic")));
    }
    let most = context.config.topics_per_connection_max;
    if most < topics.len() {
        let message = format!("{} topics on one connection; at most {most} are allowed", topics.len());
        return Err(Response::error(400, "too_many_topics", &message, Some("topic")));
    }
    Ok(topics)
}

/// Stands for a last event id of another system. No log joins on to it, so the client gets a gap. A refusal would end a browser's
/// `EventSource` for good.
const FOREIGN_ID: Start = Start::After(EventId::new(0, 1));

/// Where a stream of one topic begins: after the client's last event id, or else at `otherwise`.
pub(in crate::endpoint) fn resume_start(request: &Request, otherwise: Start) -> Start {
    last_event_id(request).map_or(otherwise, |id| id.parse().unwrap_or(FOREIGN_ID))
}

/// The id of the last event that the client saw, as its field or its query says.
fn last_event_id(request: &Request) -> Option<&str> {
    let id = request.header_text("last-event-id").filter(|id| !id.is_empty());
    id.or_else(|| request.query("last_event_id")).or_else(|| request.query("lastEventId"))
}

/// Whether the client says which event it saw last.
pub(in crate::endpoint) fn has_last_event_id(request: &Request) -> bool {
    last_event_id(request).is_some()
}

/// Each topic with where it begins: after the client's last event id, or else with the next event.
fn resume_starts(request: &Request, topics: Vec<Topic>) -> Result<Vec<(Topic, Start)>, Response> {
    let Some(given) = last_event_id(request).or_else(|| request.query("since")) else {
        return Ok(topics.into_iter().map(|topic| (topic, Start::Live)).collect());
    };
    let starts: Vec<&str> = given.split(',').collect();
    // One value for all topics, or one id for each.
    let start = |index: usize| if starts.len() == 1 { starts.first() } else { starts.get(index) };
    let bad = || {
        let message = "give one event id per topic, joined by commas, or one of: first, 0, last:N";
        Response::error(400, "bad_event_id", message, Some("last_event_id"))
    };
    if starts.len() != 1 && starts.len() != topics.len() {
        return Err(bad());
    }
    let with_start = |(index, topic)| Some((topic, start(index)?.parse().ok()?));
    topics.into_iter().enumerate().map(with_start).collect::<Option<Vec<_>>>().ok_or_else(bad)
}
