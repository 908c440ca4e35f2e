//! `GET /topics…`: what the logs hold.

use serde_json::{Value, json};

use super::{Answer, Context, parse_topic, stream::parse_start};
use crate::{
    bus::TopicSummary,
    event::{Event, EventId},
    log::{Policy, Start},
    protocol::http::{Request, Response},
};

/// Events in one answer of the history, unless fewer are asked for.
const HISTORY_LIMIT: usize = 1000;

pub(super) fn list_topics(_: &Request, _: &str, context: &Context<'_>) -> Answer {
    let mut summaries = context.hub.bus.summaries(context.now);
    summaries.sort_by(|one, other| one.topic.cmp(&other.topic));
    let topics: Vec<Value> = summaries.iter().map(describe).collect();
    Response::json(200, &json!({ "topics": topics })).into()
}

pub(super) fn show_topic(_: &Request, name: &str, context: &Context<'_>) -> Answer {
    match parse_topic(name, "topic") {
        Ok(topic) => match context.hub.bus.summary(&topic, context.now) {
            Some(summary) => Response::json(200, &describe(&summary)).into(),
            None => unknown_topic(),
        },
        Err(response) => response.into(),
    }
}

pub(super) fn show_history(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    let topic = match parse_topic(name, "topic") {
        Ok(topic) => topic,
        Err(response) => return response.into(),
    };
    let start = match request.query("since").map(parse_start) {
        None => Start::First,
        Some(Some(start)) => start,
        Some(None) => {
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
    match context.hub.bus.history(&topic, start, limit, context.now) {
        Some(events) => {
            let events: Vec<Value> = events.iter().map(|event| describe_event(event)).collect();
            Response::json(200, &json!({ "topic": topic.as_str(), "events": events })).into()
        }
        None => unknown_topic(),
    }
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
        "policy": match summary.class.policy { Policy::Close => "close" },
        "history": { "count": history.count, "bytes": history.bytes, "age_s": history.age.as_secs() },
    })
}

fn id_text(id: Option<EventId>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// The payload as the JSON it is, else as a string: what `fanfare.v1` does.
fn describe_event(event: &Event) -> Value {
    let data = serde_json::from_slice(&event.data).unwrap_or_else(|_| Value::from(event.text()));
    json!({ "id": event.id.to_string(), "type": event.kind, "data": data })
}
