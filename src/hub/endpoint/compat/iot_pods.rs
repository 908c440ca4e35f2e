//! `/{pod}/events/changes`: the changes of a pod of sensors, published by POST and read as a stream.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;

use crate::{
    auth::{Identity, Requester},
    bus::{PublishFailed, PublishRefused, Receipt},
    endpoint::{
        Answer, CheckedEvent, CompatApi, Context, OpenStream, Route,
        batch::{Batch, BatchForm},
        error_form::ErrorForm,
        gate::{
            access,
            publish::{describe_failure, retry_fields},
        },
        native::{self, stream::resume_start},
        route::authenticated_route,
        work,
    },
    event::Payload,
    event::Start,
    label::RouteLabel,
    protocol::{
        SseOpening,
        http::{Method, Request, Response},
        json_values::BadJsonValue,
        sse::wants_initial_id,
    },
    topic::Topic,
};

pub(in crate::endpoint) static ROUTES: &[Route] = &[authenticated_route(
    "/{topic}/events/changes",
    RouteLabel::Pods,
    native::REFUSALS,
    &[(Method::Get, open_changes), (Method::Post, publish_changes)],
)
.of(CompatApi::IotPods, ErrorForm::NATIVE)];

/// `GET`: a stream of the changes, without event names. With `?receiveBacklog=true` the retained changes come first. A client
/// that names its last event goes on after that.
pub(in crate::endpoint) fn open_changes(request: &Request, pod: &str, context: &Context<'_>) -> Answer {
    let permitted = access::identify(request, context).map_err(access::refuse).and_then(|identity| {
        let topic = topic_of(pod)?;
        access::may_subscribe(identity.as_deref(), &topic).map_err(access::refuse)?;
        Ok((topic, identity))
    });
    let (topic, identity) = match permitted {
        Ok(permitted) => permitted,
        Err(response) => return response.into(),
    };
    let otherwise = match request.query("receiveBacklog") {
        Some("true" | "1" | "") => Start::First,
        _ => Start::Live,
    };
    let opening = SseOpening { wants_initial_id: wants_initial_id(request), ..SseOpening::default() };
    let topics = vec![(topic, resume_start(request, otherwise))];
    OpenStream { topics, identity, ..OpenStream::new(opening) }.into()
}

/// `POST`: publishes one event or an array of events, all of them or none.
pub(in crate::endpoint) fn publish_changes(request: &Request, pod: &str, context: &Context<'_>) -> Answer {
    let permitted = access::identify(request, context).map_err(access::refuse).and_then(|identity| {
        let topic = topic_of(pod)?;
        access::may_publish(identity.as_deref(), &topic).map_err(access::refuse)?;
        Ok((topic, identity))
    });
    let batch = permitted.and_then(|(topic, identity)| {
        if request.body.trim_ascii().is_empty() {
            return Err(Response::error(400, "bad_json", "the body is not JSON: it is empty", None));
        }
        let form = Changes { topic, identity, answer: Vec::new(), count: 0, failures: 0, failed: None };
        Batch::new(form, &request.body, context.now)
    });
    match batch {
        Ok(batch) => work::begin(batch, context),
        Err(response) => response.into(),
    }
}

/// A batch of one pod's changes. The response has the ids in the order of the events, `null` where a shared source gives none.
#[derive(Debug)]
struct Changes {
    topic: Topic,
    identity: Option<Arc<Identity>>,
    /// The response so far, as JSON without its last brackets. It is not joined at the end, because there may be hundreds of
    /// thousands of ids.
    answer: Vec<u8>,
    count: usize,
    failures: usize,
    /// The first failure.
    failed: Option<PublishFailed>,
}

const IDS_OPEN: &[u8] = b"{\"ids\":[";

impl BatchForm for Changes {
    const TAKES_LINES: bool = false;

    fn requester<'a>(&'a self, context: &Context<'a>) -> Requester<'a> {
        Requester { identity: self.identity.as_deref(), ..context.requester() }
    }

    fn check(&self, index: usize, entry: &str, context: &Context<'_>) -> Result<CheckedEvent, Response> {
        if !entry.starts_with('{') {
            let message = "an event is a JSON object, and several are an array of them";
            return Err(Response::error(400, "bad_json", message, Some(&entry_path(index))));
        }
        let data = Bytes::copy_from_slice(entry.as_bytes());
        check(index, &data, context)?;
        Ok(CheckedEvent { topic: self.topic.clone(), kind: None, payload: Payload::json(data), idempotency_key: None })
    }

    fn refuse(&self, index: Option<usize>, bad: &BadJsonValue) -> Response {
        let whose = index.map(|index| format!("{}: ", entry_path(index))).unwrap_or_default();
        let message = format!("the body is not JSON: {whose}{}", bad.message);
        Response::error(400, "bad_json", &message, None)
    }

    fn record(&mut self, _: &Topic, receipt: Receipt) {
        self.answer.extend_from_slice(if self.count == 0 { IDS_OPEN } else { b"," });
        self.count += 1;
        // Writing to a Vec cannot fail.
        let _ = match receipt {
            Ok(Some(id)) => write!(self.answer, "\"{id}\""),
            _ => write!(self.answer, "null"),
        };
        if let Err(failed) = receipt {
            self.failures += 1;
            self.failed.get_or_insert(failed);
        }
    }

    fn finish(&mut self) -> Response {
        let Some(failed) = self.failed else {
            let mut body = std::mem::take(&mut self.answer);
            if self.count == 0 {
                body.extend_from_slice(IDS_OPEN);
            }
            body.extend_from_slice(b"]}");
            return Response::json_text(if self.count == 0 { 200 } else { 201 }, body);
        };
        let (status, code, message) = describe_failure(failed);
        let published = self.count - self.failures;
        let response = match published {
            0 => Response::error(status, code, &message, None),
            _ => {
                let message = format!("{published} of {} events were published; of the others: {message}", self.count);
                Response::error(status, code, &message, None)
            }
        };
        retry_fields(response, failed)
    }

    fn held_bytes(&self) -> usize {
        self.answer.capacity()
    }
}

/// The topic of a pod. A pod's name is one segment of it: `a.b` would lie inside of `a`.
fn topic_of(pod: &str) -> Result<Topic, Response> {
    let bad = |message: &str| Response::error(400, "bad_pod", message, Some("pod"));
    if pod.contains(['.', '/']) {
        return Err(bad("the name of a pod has neither dots nor slashes"));
    }
    Topic::parse(&format!("pods.{pod}.changes")).map_err(|error| bad(&error.to_string()))
}

fn entry_path(index: usize) -> String {
    format!("[{index}]")
}

fn check(index: usize, event: &Bytes, context: &Context<'_>) -> Result<(), Response> {
    let refuse = |status, code, message| Response::error(status, code, message, Some(&entry_path(index)));
    context.hub.bus.check(None, event).map_err(|refused| match refused {
        PublishRefused::TooBig => refuse(413, "too_big", "the event is over the limit"),
        PublishRefused::NotUtf8 | PublishRefused::BadKind => refuse(400, "not_utf8", "the event must be UTF-8 text"),
        PublishRefused::NoRoom | PublishRefused::Quota(_) => {
            refuse(503, "overloaded", "the memory budget is spent; nothing was published")
        }
    })
}

#[cfg(test)]
mod tests;
