//! Events in by HTTP: one body as one payload, and batches, of which all or nothing is published.

use bytes::Bytes;
use fanfare::{
    endpoint::{Answer, Hub},
    event::Event,
    log::Start,
    protocol::http::Response,
    topic::Topic,
};
use serde_json::Value;

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
        assert_eq!(answer["id"], Value::from(format!("{}-1", hub::EPOCH_MS)));
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
    let expected = naive_batch(body).expect("what is accepted is what the form says");
    let answers: Vec<Value> = serde_json::from_slice(&response.body).expect("the answer is an array");
    assert_eq!(answers.len(), expected.len());
    assert_eq!(hub.bus.received_total(), expected.len() as u64);
    for (answer, entry) in answers.iter().zip(&expected) {
        assert_eq!(answer["topic"].as_str(), Some(&*entry.topic));
    }
    check_histories(&hub, &expected, &answers);
    Some(expected)
}

/// Each topic holds its part of the batch in order, under the ids that were answered.
fn check_histories(hub: &Hub, expected: &[Entry], answers: &[Value]) {
    let mut topics: Vec<&str> = expected.iter().map(|entry| &*entry.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    for topic in topics {
        let part: Vec<&Entry> = expected.iter().filter(|entry| &*entry.topic == topic).collect();
        let retained = retained(hub, topic);
        // A newcomer is shown no more than the newest.
        let from = part.len() - retained.len();
        assert!(retained.iter().eq(part[from..].iter().copied()), "{retained:?} of {part:?}");
        let ids = answers.iter().filter(|answer| answer["topic"] == topic).map(|answer| answer["id"].clone());
        assert!(ids.eq((1..=part.len()).map(|minor| Value::from(format!("{}-{minor}", hub::EPOCH_MS)))), "{answers:?}");
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
    let events = hub.bus.history(&topic, Start::First, usize::MAX, hub::NOW).expect("it was published to");
    events.iter().map(|event| Entry::of(event)).collect()
}

/// Read a second time, by way of one value per entry. Right for what is well-formed; never asked about anything else.
fn naive_batch(body: &[u8]) -> Option<Vec<Entry>> {
    #[derive(serde::Deserialize)]
    struct Written {
        topic: Value,
        #[serde(rename = "type")]
        kind: Option<Value>,
        data: Box<serde_json::value::RawValue>,
    }
    let written: Vec<Written> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).ok()?
    } else {
        serde_json::Deserializer::from_slice(body).into_iter().collect::<Result<_, _>>().ok()?
    };
    let entry = |entry: Written| {
        let kind = entry.kind.as_ref().and_then(Value::as_str).map(Box::from);
        Some(Entry {
            topic: entry.topic.as_str()?.into(),
            kind,
            data: Bytes::from(Box::<str>::from(entry.data).into_string()),
        })
    };
    written.into_iter().map(entry).collect()
}
