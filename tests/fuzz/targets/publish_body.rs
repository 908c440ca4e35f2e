//! Events in by HTTP: one body as one payload, and batches, of which all or nothing is published.

use std::collections::HashMap;

use bytes::Bytes;
use fanfare::endpoint::{Answer, Hub, Step};
use fanfare_core::{
    event::{Event, Start},
    protocol::http::Response,
    topic::Topic,
};
use serde_json::{Value, value::RawValue};

use super::{hub, input::Input};

pub(super) const TOKENS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\n",
    "null",
    "1e9",
    "\"topic\":\"a\"",
    "\"topic\":\"b.c\"",
    "\"type\":\"t\"",
    "\"type\":null",
    "\"idempotency_key\":\"k\"",
    "\"type\":\"a\\nb\"",
    "\"data\":1",
    "\"data\":{\"k\":[1,2]}",
    "{\"topic\":\"a\",\"data\":\"x\"}",
    "\\u00e9",
    "\\ud800",
    "é",
    "\"\"",
];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let payload_bytes_max = [20, 200, 1 << 20][usize::from(input.knob % 3)];
    check_single(input.payload, payload_bytes_max);
    if let Some(events) = check_batch(input.payload, payload_bytes_max) {
        // The other form of the same batch, and the same batch written anew, are the same events.
        let lines: Vec<String> = events.iter().map(Entry::json).collect();
        let array = format!("[{}]", lines.join(","));
        assert_eq!(check_batch(array.as_bytes(), payload_bytes_max).as_ref(), Some(&events));
        assert_eq!(check_batch(lines.join("\n").as_bytes(), payload_bytes_max).as_ref(), Some(&events));
    }
}

/// The body is the payload, byte by byte.
fn check_single(body: &[u8], payload_bytes_max: usize) {
    let hub = hub::build(payload_bytes_max);
    let response = post(&hub, "/publish/a.b", body);
    let is_good = std::str::from_utf8(body).is_ok() && body.len() <= payload_bytes_max;
    assert_eq!(response.status == 200, is_good, "{response:?}");
    let retained = if is_good { retained(&hub, "a.b") } else { Vec::new() };
    if is_good {
        assert_eq!(retained, [Entry { topic: "a.b".into(), kind: None, data: Bytes::copy_from_slice(body) }]);
        let answer: Value = serde_json::from_slice(&response.body).expect("answers are JSON");
        assert_eq!(answer["id"], Value::from(format!("{}-1", hub::EPOCH)));
    } else {
        check_nothing_published(&hub, &response);
    }
}

/// What a batch published, if anything.
fn check_batch(body: &[u8], payload_bytes_max: usize) -> Option<Vec<Entry>> {
    let hub = hub::build(payload_bytes_max);
    let response = post(&hub, "/publish", body);
    if response.status != 200 {
        check_nothing_published(&hub, &response);
        return None;
    }
    let written = naive_batch(body).expect("what is accepted is what the form says");
    let answers: Vec<Value> = serde_json::from_slice(&response.body).expect("the answer is an array");
    let published = naive_publish(&written);
    let receipts =
        published.ids.iter().zip(&written).map(
            |(id, written)| serde_json::json!({ "id": format!("{}-{id}", hub::EPOCH), "topic": written.entry.topic }),
        );
    assert!(receipts.eq(answers), "{:?} for {written:?}", response.body.escape_ascii().to_string());
    assert_eq!(hub.bus.received_total(), published.entries.len() as u64);
    check_histories(&hub, &published.entries);
    Some(published.entries)
}

/// Each topic holds its part of the batch, in order.
fn check_histories(hub: &Hub, entries: &[Entry]) {
    let mut topics: Vec<&str> = entries.iter().map(|entry| &*entry.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    for topic in topics {
        let part: Vec<&Entry> = entries.iter().filter(|entry| &*entry.topic == topic).collect();
        let retained = retained(hub, topic);
        // A newcomer is shown no more than the newest.
        assert!(!retained.is_empty());
        assert!(retained.iter().eq(part[part.len() - retained.len()..].iter().copied()), "{retained:?} of {part:?}");
    }
}

fn check_nothing_published(hub: &Hub, response: &Response) {
    assert!(matches!(response.status, 400 | 413), "{response:?}");
    let answer: Value = serde_json::from_slice(&response.body).expect("refusals are JSON");
    assert!(answer["error"]["code"].is_string() && answer["error"]["message"].is_string(), "{answer}");
    assert_eq!(hub.bus.received_total(), 0);
    assert!(hub.bus.summaries(hub::NOW).is_empty(), "a refusal leaves no topic behind");
}

fn post(hub: &Hub, path: &str, body: &[u8]) -> Response {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    match hub::ask(hub, head.as_bytes(), body) {
        Some(Answer::Response(response)) => response,
        // A long batch, which takes several steps.
        Some(Answer::Work(mut open)) => loop {
            match open.work.step(&hub::context(hub)) {
                Step::More => {}
                Step::Waiting => panic!("nothing goes out through a source"),
                Step::Later => panic!("there is no database"),
                Step::Done(response) => return response,
            }
        },
        other => panic!("{other:?}"),
    }
}

/// An event as its publisher knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    topic: Box<str>,
    kind: Option<Box<str>>,
    data: Bytes,
}

impl Entry {
    fn of(event: &Event) -> Self {
        Self { topic: event.topic.as_str().into(), kind: event.kind.clone(), data: event.data.clone() }
    }

    /// As a publisher writes it: one line, so that it serves for both forms.
    fn json(&self) -> String {
        let data = std::str::from_utf8(&self.data).expect("JSON is text");
        let kind = Value::from(self.kind.as_deref());
        format!("{{\"type\":{kind},\"data\":{data},\"topic\":{}}}", Value::from(&*self.topic))
    }
}

fn retained(hub: &Hub, topic: &str) -> Vec<Entry> {
    let topic = Topic::parse(topic).expect("it was published to");
    let page = hub.bus.history(&topic, Start::First, usize::MAX, hub::NOW).expect("it was published to");
    page.events.iter().map(|event| Entry::of(event)).collect()
}

/// An entry of a batch.
#[derive(Debug)]
struct Written {
    entry: Entry,
    key: Option<String>,
}

/// What becomes of a batch.
struct Published {
    entries: Vec<Entry>,
    /// The minor part of the id of each entry of the batch.
    ids: Vec<usize>,
}

/// A repeat under the same key delivers nothing and gets the first id.
fn naive_publish(batch: &[Written]) -> Published {
    let mut entries: Vec<Entry> = Vec::new();
    let mut ids: Vec<usize> = Vec::new();
    for (index, written) in batch.iter().enumerate() {
        let is_same = |other: &Written| other.key == written.key && other.entry.topic == written.entry.topic;
        let first = batch[..index].iter().position(is_same).filter(|_| written.key.is_some());
        ids.push(first.map_or_else(
            || {
                entries.push(written.entry.clone());
                entries.iter().filter(|entry| entry.topic == written.entry.topic).count()
            },
            |first| ids[first],
        ));
    }
    Published { entries, ids }
}

/// Read a second time, by way of a value for each field. Right for what is well-formed; never asked about anything else.
fn naive_batch(body: &[u8]) -> Option<Vec<Written>> {
    let objects: Vec<HashMap<String, Box<RawValue>>> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).ok()?
    } else {
        serde_json::Deserializer::from_slice(body).into_iter().collect::<Result<_, _>>().ok()?
    };
    let written = |object: HashMap<String, Box<RawValue>>| {
        let text =
            |name: &str| object.get(name).and_then(|raw| serde_json::from_str::<Option<String>>(raw.get()).ok()?);
        let data = Bytes::copy_from_slice(object.get("data")?.get().as_bytes());
        // An empty type is none.
        let kind = text("type").filter(|kind| !kind.is_empty()).map(Into::into);
        let entry = Entry { topic: text("topic")?.into(), kind, data };
        Some(Written { entry, key: text("idempotency_key") })
    };
    objects.into_iter().map(written).collect()
}
