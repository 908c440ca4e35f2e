//! `/{pod}/events/changes`: what changes in a pod of sensors, in by POST and out as a stream.

use bytes::Bytes;
use serde_json::{json, value::RawValue};

use super::{
    Answer, Context, OpenSse, access,
    overload::tells_place,
    publish::{Outgoing, describe_failure, publish_then},
    stream::place_cursor,
};
use crate::{
    bus::{PublishRefused, Receipt},
    event::Start,
    protocol::http::{Method, Request, Response},
    topic::Topic,
};

/// In [`crate::metrics::ROUTE_LABELS`].
const LABEL: &str = "pods";

/// `GET`: the changes as they come, without names; with `?receiveBacklog=true` those retained first. Whoever tells which it
/// saw last goes on behind that one.
pub(super) fn open_changes(request: &Request, pod: &str, context: &Context<'_>) -> Answer {
    let permitted = access::identify(request, context).map_err(access::refuse).and_then(|identity| {
        let topic = topic_of(pod)?;
        access::may_subscribe(identity.as_deref(), &topic).map_err(access::refuse)?;
        Ok((topic, identity))
    });
    let (topic, identity) = match permitted {
        Ok(permitted) => permitted,
        Err(response) => return response.into(),
    };
    if request.method == Method::Head {
        return Response::empty(200).with("Content-Type", "text/event-stream").into();
    }
    let otherwise = match request.query("receiveBacklog") {
        Some("true" | "1" | "") => Start::First,
        _ => Start::Live,
    };
    OpenSse {
        topics: vec![(topic, place_cursor(request, otherwise))],
        tells_place: tells_place(request),
        identity,
        ..OpenSse::default()
    }
    .into()
}

/// `POST`: one event, or an array of them, of which all are published or none.
pub(super) fn publish_changes(request: &Request, pod: &str, context: &Context<'_>) -> Answer {
    let permitted = access::identify(request, context).map_err(access::refuse).and_then(|identity| {
        let topic = topic_of(pod)?;
        access::may_publish(identity.as_deref(), &topic).map_err(access::refuse)?;
        Ok(topic)
    });
    let parsed = permitted.and_then(|topic| {
        let events = parse_events(&request.body)?;
        events.iter().enumerate().try_for_each(|(index, event)| check(index, event, context))?;
        Ok((topic, events))
    });
    match parsed {
        Ok((_, events)) if events.is_empty() => Response::json(200, &json!({ "ids": [] })).into(),
        Ok((topic, events)) => {
            let outgoing = |data| Outgoing { topic: topic.clone(), kind: None, data, idempotency_key: None };
            publish_then(events.into_iter().map(outgoing).collect(), LABEL, context, describe_receipts)
        }
        Err(response) => response.into(),
    }
}

/// A pod is one segment of its topic's name: `a.b` would be a place inside of `a`.
fn topic_of(pod: &str) -> Result<Topic, Response> {
    let bad = |message: &str| Response::error(400, "bad_pod", message, Some("pod"));
    if pod.contains(['.', '/']) {
        return Err(bad("the name of a pod has neither dots nor slashes"));
    }
    Topic::parse(&format!("pods.{pod}.changes")).map_err(|error| bad(&error.to_string()))
}

/// The events of a body, each an object, verbatim.
fn parse_events(body: &[u8]) -> Result<Vec<Bytes>, Response> {
    let bad = |message: String, field: Option<&str>| Response::error(400, "bad_json", &message, field);
    let not_json = |error: serde_json::Error| bad(format!("the body is not JSON: {error}"), None);
    let events: Vec<&RawValue> = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(body).map_err(not_json)?,
        _ => vec![serde_json::from_slice(body).map_err(not_json)?],
    };
    if let Some(index) = events.iter().position(|event| !event.get().starts_with('{')) {
        return Err(bad("an event is a JSON object, and several are an array of them".to_owned(), Some(&place(index))));
    }
    Ok(events.into_iter().map(|event| Bytes::copy_from_slice(event.get().as_bytes())).collect())
}

fn place(index: usize) -> String {
    format!("[{index}]")
}

fn check(index: usize, event: &Bytes, context: &Context<'_>) -> Result<(), Response> {
    let refuse = |status, code, message| Response::error(status, code, message, Some(&place(index)));
    context.hub.bus.check(None, event).map_err(|refused| match refused {
        PublishRefused::TooBig => refuse(413, "too_big", "the event is over the limit"),
        PublishRefused::NotUtf8 | PublishRefused::BadKind => refuse(400, "not_utf8", "the event must be UTF-8 text"),
        PublishRefused::NoRoom => refuse(503, "overloaded", "the memory budget is spent; nothing was published"),
    })
}

/// The ids in the order of the events; `null` where the source that all hubs share does not give any.
fn describe_receipts(receipts: &[Receipt]) -> Response {
    match receipts.iter().find_map(|receipt| receipt.err()) {
        None => {
            let text = |receipt: &Receipt| receipt.ok().flatten().map(|id| id.to_string());
            Response::json(201, &json!({ "ids": receipts.iter().map(text).collect::<Vec<_>>() }))
        }
        Some(failed) => {
            let (status, code, message) = describe_failure(failed);
            let response = Response::error(status, code, message, None);
            if status == 503 { response.with("Retry-After", "1") } else { response }
        }
    }
}

#[cfg(test)]
mod tests;
