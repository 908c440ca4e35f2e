//! `GET /topics…`: what the logs hold.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, Context, access, parse_topic};
use crate::{
    bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest, HistoryPage, Note, TopicSummary},
    clock::Moment,
    event::{Event, EventId, Start},
    gap::Gap,
    protocol::http::{Request, Response},
    topic::Topic,
};

/// Events in one answer of the history, unless fewer are asked for.
const HISTORY_LIMIT: usize = 1000;
/// Bytes of payload in one answer; the asker goes on behind the last event of it. One event always fits.
const HISTORY_BYTES_MAX: usize = 4 << 20;

/// All that the client may listen to.
pub(super) fn list_topics(_: &Request, _: &str, context: &Context<'_>) -> Answer {
    let mut summaries = context.hub.bus.summaries(context.now);
    summaries.retain(|summary| access::may_subscribe(context.identity, &summary.topic).is_ok());
    summaries.sort_by(|one, other| one.topic.cmp(&other.topic));
    let topics: Vec<Value> = summaries.iter().map(describe).collect();
    Response::json(200, &json!({ "topics": topics })).into()
}

pub(super) fn show_topic(_: &Request, name: &str, context: &Context<'_>) -> Answer {
    match permitted_topic(name, context) {
        Ok(topic) => match context.hub.bus.summary(&topic, context.now) {
            Some(summary) => Response::json(200, &describe(&summary)).into(),
            None => unknown_topic(),
        },
        Err(response) => response.into(),
    }
}

/// The topic `name`, if the client may listen to it.
fn permitted_topic(name: &str, context: &Context<'_>) -> Result<Topic, Response> {
    let topic = parse_topic(name, "topic")?;
    access::may_subscribe(context.identity, &topic).map_err(access::refuse)?;
    Ok(topic)
}

pub(super) fn show_history(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    let topic = match permitted_topic(name, context) {
        Ok(topic) => topic,
        Err(response) => return response.into(),
    };
    let start = match request.query("since").map(str::parse) {
        None => Start::First,
        Some(Ok(start)) => start,
        Some(Err(_)) => {
            return Response::error(400, "bad_event_id", "since takes an event id, first, 0 or last:N", Some("since"))
                .into();
        }
    };
    let limit = match request.query("limit").map(str::parse) {
        None => HISTORY_LIMIT,
        Some(Ok(limit)) => HISTORY_LIMIT.min(limit),
        Some(Err(_)) => {
            return Response::error(400, "bad_limit", "limit takes a whole number", Some("limit")).into();
        }
    };
    let bus = &context.hub.bus;
    if bus.budget().is_spent() {
        return no_room();
    }
    let shows_past = matches!(start, Start::After(_)) || !bus.class(&topic).retention.history.is_none();
    match bus.archive(&topic).filter(|_| shows_past) {
        Some(archive) => ask_archive(archive, &topic, start, limit, context),
        None => match bus.history(&topic, start, limit, context.now) {
            Some(page) => describe_history(&topic, &within_bytes(page)).into(),
            None => unknown_topic(),
        },
    }
}

/// The answer is made as a whole, and so holds memory of its own.
fn no_room() -> Answer {
    let response = Response::error(503, "overloaded", "the memory budget is spent; try again later", None);
    response.with("Retry-After", "2").into()
}

fn within_bytes(mut page: HistoryPage) -> HistoryPage {
    let mut bytes = 0;
    let fitting = page.events.iter().take_while(|event| {
        bytes += event.data.len() + event.tail.as_ref().map_or(0, |tail| tail.len());
        bytes <= HISTORY_BYTES_MAX
    });
    let fitting = fitting.count().max(1);
    if fitting < page.events.len() {
        page.next = Some(page.events[fitting - 1].id);
        page.events.truncate(fitting);
    }
    page
}

/// A broker keeps more than the hub, so it is asked; its answer comes as a note.
fn ask_archive(archive: &dyn Archive, topic: &Topic, start: Start, limit: usize, context: &Context<'_>) -> Answer {
    let (bus, reactor, token) = (Arc::clone(&context.hub.bus), context.reactor, context.token);
    let of = topic.clone();
    let reply = Box::new(move |page| bus.inbox(reactor).leave_note(Note::History { token, topic: of, page }));
    archive.fetch(ArchiveRequest {
        topic: topic.clone(),
        start,
        content: None,
        since: Moment::default(),
        upto: None,
        events_max: limit,
        bytes_max: HISTORY_BYTES_MAX,
        reply,
    });
    Answer::later()
}

/// The response to a request for a topic's history, once the archive has answered.
pub fn complete_history(topic: &Topic, page: Result<ArchivePage, ArchiveFailed>) -> Response {
    match page {
        Ok(ArchivePage { events, gap, is_complete }) => {
            let next = events.last().filter(|_| !is_complete).map(|last| last.id);
            describe_history(topic, &HistoryPage { events, gap, next })
        }
        Err(ArchiveFailed::QueueFull | ArchiveFailed::Unavailable) => {
            let message = "what the broker keeps of this topic cannot be read at present";
            Response::error(503, "unavailable", message, None).with("Retry-After", "1")
        }
    }
}

fn describe_history(topic: &Topic, page: &HistoryPage) -> Response {
    let events: Vec<Value> = page.events.iter().map(|event| describe_event(event)).collect();
    let gap = page.gap.map(describe_gap);
    let next = id_text(page.next);
    Response::json(200, &json!({ "topic": topic.as_str(), "gap": gap, "events": events, "next": next }))
}

fn unknown_topic() -> Answer {
    Response::error(404, "unknown_topic", "nothing was published to this topic lately and nobody listens to it", None)
        .into()
}

fn describe(summary: &TopicSummary) -> Value {
    let history = summary.class.retention.history;
    json!({
        "topic": summary.topic.as_str(),
        "listeners": summary.listeners,
        "retained": summary.retained,
        "retained_bytes": summary.retained_bytes,
        "oldest": id_text(summary.oldest),
        "newest": id_text(summary.newest),
        "policy": summary.class.policy.name(),
        "log": summary.class.log.name(),
        "history": { "count": history.count, "bytes": history.bytes, "age_s": history.age.as_secs() },
    })
}

fn id_text(id: Option<EventId>) -> Option<String> {
    id.map(|id| id.to_string())
}

fn describe_gap(gap: Gap) -> Value {
    json!({ "from": gap.from.to_string(), "to": gap.to.to_string(), "reason": gap.reason.label() })
}

/// The payload as the JSON it is, else as a string: what `fanfare.v1` does.
fn describe_event(event: &Event) -> Value {
    if let Some(gap) = event.gap {
        return json!({ "id": event.id.to_string(), "gap": describe_gap(gap) });
    }
    let text = event.payload_text();
    let data = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(&*text));
    json!({ "id": event.id.to_string(), "type": event.kind, "data": data })
}
