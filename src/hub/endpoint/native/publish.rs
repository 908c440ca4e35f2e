//! `POST /publish…`: publishing over HTTP.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    auth::{Identity, Requester},
    bus::{PublishFailed, PublishRefused, Receipt},
    endpoint::{
        Answer, CheckedEvent, Context,
        batch::{Batch, BatchForm},
        gate::{
            access,
            publish::{
                BAD_IDEMPOTENCY_KEY, BAD_KIND, IDEMPOTENCY_KEY_BYTES_MAX, RESERVED_KIND, describe_failure,
                fail_response, is_reserved, publish_then, retry_fields,
            },
        },
        native::{parse_topic, parse_topic_in_path, query::Parameters},
        work,
    },
    event::Payload,
    json::{self, LONG_TEXT_BYTES, Members, Syntax},
    label::RouteLabel,
    protocol::{
        http::{Request, Response},
        json_values::BadJsonValue,
    },
    topic::Topic,
};

/// The parameters of `POST /publish/{topic}`.
pub(in crate::endpoint) const PARAMETERS: Parameters = Parameters {
    of: "a publication",
    once: &["type"],
    several: &[],
    nearly: &[("type", "type"), ("types", "type")],
    synonyms: &[("eventtype", "type"), ("event", "type"), ("kind", "type")],
    is_strict: false,
};

/// Publishes the body, verbatim, as one event.
pub(in crate::endpoint) fn publish_one(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    let checked = parse_topic_in_path(name).and_then(|topic| {
        permit(&topic, context)?;
        PARAMETERS.check(request)?;
        let kind = request.query("type").filter(|kind| !kind.is_empty()).or_else(|| request.header_text("event-type"));
        let key = check_key(request.header_text("idempotency-key"), "Idempotency-Key")?;
        check(topic, kind, Bytes::copy_from_slice(&request.body).into(), key, "data", context)
    });
    let mut event = match checked {
        Ok(event) => event,
        Err(response) => return response.into(),
    };
    if request.body.len() <= LONG_TEXT_BYTES {
        return publish(event, context);
    }
    // A long payload is checked in steps here, because encoders that need to know whether it is JSON have no time to check it.
    let identity = context.identity.cloned();
    let text = std::str::from_utf8(&request.body).unwrap_or_default();
    work::check_first(text, context, move |_, checked, context| {
        event.payload.syntax = if checked.is_ok() { Syntax::Json } else { Syntax::Text };
        publish(event, &Context { identity: identity.as_ref(), ..*context })
    })
}

/// Publishes a JSON array, or one JSON object a line: all of them or none.
pub(in crate::endpoint) fn publish_batch(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let form = NativeBatch { identity: context.identity.cloned(), answers: Vec::new(), failed: None };
    match Batch::new(form, &request.body, context.now) {
        Ok(batch) => work::begin(batch, context),
        Err(response) => response.into(),
    }
}

/// Checks that the client may publish to `topic`.
fn permit(topic: &Topic, context: &Context<'_>) -> Result<(), Response> {
    access::may_publish(context.identity, topic).map_err(access::refuse)
}

/// An entry of a batch.
#[derive(Debug, Default, PartialEq)]
struct BatchEntry<'body> {
    topic: Option<Cow<'body, str>>,
    kind: Option<Cow<'body, str>>,
    /// JSON, verbatim.
    data: Option<&'body str>,
    idempotency_key: Option<Cow<'body, str>>,
}

impl<'body> BatchEntry<'body> {
    /// Reads `text`, which is JSON. An unknown field is refused: ignoring a misspelt `idempotency_key` would lose what it asks
    /// for.
    fn parse(text: &'body str) -> Result<Self, String> {
        let members = Members::of(text).ok_or("an entry is a JSON object")?;
        let (mut entry, mut scratch) = (Self::default(), String::new());
        let (mut kind, mut idempotency_key) = (None, None);
        for (name, value) in members {
            match json::decode_with(name, &mut scratch) {
                Some("topic") => put_once(&mut entry.topic, "topic", text_of(value, "topic")?)?,
                Some("type") => put_once(&mut kind, "type", text_or_null(value, "type")?)?,
                Some("data") => put_once(&mut entry.data, "data", value)?,
                Some("idempotency_key") => {
                    put_once(&mut idempotency_key, "idempotency_key", text_or_null(value, "idempotency_key")?)?;
                }
                _ => {
                    let shown = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES_MAX)];
                    let known = "`topic`, `type`, `data` and `idempotency_key`";
                    return Err(format!("unknown field {shown}: an entry has {known}"));
                }
            }
        }
        Ok(Self { kind: kind.flatten(), idempotency_key: idempotency_key.flatten(), ..entry })
    }
}

/// How much of an unknown field's name the response shows, in bytes. A name may be as long as a request.
const SHOWN_NAME_BYTES_MAX: usize = 128;

fn text_of<'body>(value: &'body str, name: &str) -> Result<Cow<'body, str>, String> {
    json::decode(value).ok_or_else(|| format!("`{name}` is a string"))
}

fn text_or_null<'body>(value: &'body str, name: &str) -> Result<Option<Cow<'body, str>>, String> {
    if value == "null" { Ok(None) } else { text_of(value, name).map(Some) }
}

fn put_once<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is given twice")),
    }
}

/// The batch of the native API. Its response has an object for each entry.
#[derive(Debug)]
struct NativeBatch {
    identity: Option<Identity>,
    /// The response so far, as JSON without its last bracket.
    answers: Vec<u8>,
    /// The first failure.
    failed: Option<PublishFailed>,
}

impl BatchForm for NativeBatch {
    const TAKES_LINES: bool = true;

    fn requester<'a>(&'a self, context: &Context<'a>) -> Requester<'a> {
        Requester { identity: self.identity.as_ref(), ..context.requester() }
    }

    fn check(&self, index: usize, entry: &str, context: &Context<'_>) -> Result<CheckedEvent, Response> {
        let bad = |message: String| self.refuse(Some(index), &BadJsonValue { message, at: 0 });
        let BatchEntry { topic, kind, data, idempotency_key } = BatchEntry::parse(entry).map_err(bad)?;
        let topic = topic.ok_or_else(|| bad("`topic` is missing".to_owned()))?;
        let data = data.ok_or_else(|| bad("`data` is missing".to_owned()))?;
        let topic = parse_topic(&topic, &format!("[{index}].topic"))?;
        let key = check_key(idempotency_key.as_deref(), &format!("[{index}].idempotency_key"))?;
        let payload = Payload::json(Bytes::copy_from_slice(data.as_bytes()));
        access::may_publish(self.identity.as_ref(), &topic).map_err(access::refuse)?;
        check(topic, kind.as_deref(), payload, key, &format!("[{index}]"), context)
    }

    fn refuse(&self, index: Option<usize>, bad: &BadJsonValue) -> Response {
        let path = index.map(|index| format!("[{index}]"));
        let whose = path.as_deref().map(|path| format!("{path}: ")).unwrap_or_default();
        let message = format!("the body is not what it should be: {whose}{}", bad.message);
        Response::error(400, "bad_json", &message, None)
    }

    fn record(&mut self, topic: &Topic, receipt: Receipt) {
        self.answers.push(if self.answers.is_empty() { b'[' } else { b',' });
        self.failed = self.failed.or_else(|| receipt.err());
        // Such a value is always JSON, and writing to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut self.answers, &describe_receipt(topic, receipt));
    }

    fn finish(&mut self) -> Response {
        let mut body = std::mem::take(&mut self.answers);
        if body.is_empty() {
            body.push(b'[');
        }
        body.push(b']');
        // Validation is all or nothing. If a source fails half-way, each entry has an outcome of its own.
        match self.failed {
            None => Response::json_text(200, body),
            Some(failed) => retry_fields(Response::json_text(describe_failure(failed).0, body), failed),
        }
    }

    fn held_bytes(&self) -> usize {
        self.answers.capacity()
    }
}

fn check_key(key: Option<&str>, field: &str) -> Result<Option<Box<str>>, Response> {
    match key {
        Some(key) if key.is_empty() || IDEMPOTENCY_KEY_BYTES_MAX < key.len() => {
            Err(Response::error(400, "bad_idempotency_key", BAD_IDEMPOTENCY_KEY, Some(field)))
        }
        key => Ok(key.map(Box::from)),
    }
}

fn check(
    topic: Topic,
    kind: Option<&str>,
    payload: Payload,
    idempotency_key: Option<Box<str>>,
    field: &str,
    context: &Context<'_>,
) -> Result<CheckedEvent, Response> {
    // An empty type is no type.
    let kind = kind.filter(|kind| !kind.is_empty());
    if is_reserved(kind) {
        return Err(Response::error(400, "bad_type", RESERVED_KIND, Some("type")));
    }
    match context.hub.bus.check(kind, &payload.data) {
        Ok(()) => Ok(CheckedEvent { topic, kind: kind.map(Box::from), payload, idempotency_key }),
        Err(PublishRefused::NotUtf8) => {
            Err(Response::error(400, "not_utf8", "the payload must be UTF-8 text", Some(field)))
        }
        Err(PublishRefused::TooBig) => {
            Err(Response::error(413, "too_big", "the payload is over the limit", Some(field)))
        }
        Err(PublishRefused::BadKind) => Err(Response::error(400, "bad_type", BAD_KIND, Some("type"))),
        Err(refused @ (PublishRefused::NoRoom | PublishRefused::Quota(_))) => Err(fail_response(refused.into())),
    }
}

fn publish(event: CheckedEvent, context: &Context<'_>) -> Answer {
    let topic = event.topic.clone();
    publish_then(vec![event], RouteLabel::Publish, context, move |receipts| match receipts {
        [Err(failed), ..] => fail_response(*failed),
        [receipt, ..] => Response::json(200, &describe_receipt(&topic, *receipt)),
        [] => Response::json(200, &Value::Null),
    })
}

fn describe_receipt(topic: &Topic, receipt: Receipt) -> Value {
    match receipt {
        Ok(id) => json!({ "id": id.map(|id| id.to_string()), "topic": topic.as_str() }),
        Err(failed) => {
            let (_, code, message) = describe_failure(failed);
            json!({ "error": { "code": code, "message": message }, "topic": topic.as_str() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_of_an_entry_comes_once() {
        let check = |text: &str, expected: Result<(Option<&str>, Option<&str>), &str>| {
            let parsed = BatchEntry::parse(text);
            let found = parsed.as_ref().map(|it| (it.kind.as_deref(), it.idempotency_key.as_deref()));
            match expected {
                Ok(fields) => assert_eq!(found, Ok(fields), "{text}"),
                Err(why) => assert!(found.as_ref().is_err_and(|said| said.contains(why)), "{text}: {found:?}"),
            }
        };
        check(r#"{"topic":"a","data":1}"#, Ok((None, None)));
        check(r#"{"topic":"a","type":"x","data":1,"idempotency_key":"k"}"#, Ok((Some("x"), Some("k"))));
        check(r#"{"topic":"a","type":null,"data":1,"idempotency_key":null}"#, Ok((None, None)));
        for value in [r#""y""#, "null"] {
            check(&format!(r#"{{"type":"x","type":{value}}}"#), Err("`type` is given twice"));
            check(&format!(r#"{{"type":null,"type":{value}}}"#), Err("`type` is given twice"));
            check(
                &format!(r#"{{"idempotency_key":{value},"idempotency_key":"k"}}"#),
                Err("`idempotency_key` is given twice"),
            );
        }
        check(r#"{"topic":"a","topic":"a"}"#, Err("`topic` is given twice"));
        check(r#"{"data":1,"data":1}"#, Err("`data` is given twice"));
        check(r#"{"type":1}"#, Err("`type` is a string"));
        check(r#"{"typ":"x"}"#, Err("unknown field"));
    }
}
