//! Where a stream begins: `Last-Event-ID` and the query parameters of the same meaning, one place for each topic.

use fanfare::endpoint::Answer;
use fanfare_core::{
    event::{EventId, Start},
    fingerprint::Fingerprint,
    protocol::{http::percent_encode, sse},
};

use super::{hub, input::Input};

pub(super) const TOKENS: &[&str] = &[
    "first",
    "0",
    "live",
    "last:",
    "last:3",
    ",",
    "-",
    "1-2",
    "0-0",
    "1000-1",
    "~",
    "1-2~fedcba9876543210",
    "~1",
    "~0",
    "18446744073709551615",
    "18446744073709551616",
    "+",
    " ",
    "\t",
    "é",
];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let topic_count = 1 + usize::from(input.knob) % hub::TOPICS_MAX;
    check_text(topic_count, input.payload);
    check_vector(&input);
}

/// Every way to tell it means the same, and exactly what a plain reading says.
fn check_text(topic_count: usize, text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let expected = naive_starts(text, topic_count);
    let mut encoded = String::new();
    percent_encode(text, &mut encoded);
    // A query may say nothing in so many words; a header without a value is no header.
    for name in ["last_event_id", "lastEventId", "since"] {
        let query = format!("&{name}={encoded}");
        let told = starts(topic_count, &query, b"");
        assert_eq!(told.as_ref(), Some(&expected), "{query}");
        assert_eq!(
            told.flatten().map(words),
            expected.clone().map(words),
            "{query}: equal ids may have other fingerprints"
        );
    }
    // What surrounds a field's value is not part of it, and a line break would end it.
    if text.trim_matches([' ', '\t']) == text && !text.is_empty() && !text.contains(['\r', '\n']) {
        let header = format!("Last-Event-ID: {text}\r\n");
        let told = starts(topic_count, "&since=first", header.as_bytes());
        assert!(told.is_none() || told == Some(expected.clone()), "{header:?}: {told:?}");
    }
    if let Some(starts_told) = &expected {
        assert_eq!(naive_starts(&words(starts_told.clone()).join(","), topic_count), expected);
    }
}

/// The hub's answer: a start for each topic, or `Some(None)` for a refusal. `None`: no valid request.
fn starts(topic_count: usize, query: &str, header: &[u8]) -> Option<Option<Vec<Start>>> {
    let topics: Vec<String> = (0..topic_count).map(|index| format!("topic=t.{index}")).collect();
    let mut head = format!("GET /sse?{}{query} HTTP/1.1\r\nHost: h\r\n", topics.join("&")).into_bytes();
    head.extend_from_slice(header);
    head.extend_from_slice(b"\r\n");
    match hub::ask(&hub::build(100), &head, b"")? {
        Answer::Stream(open) => {
            let topics = open.topics;
            let is_whole = topics.iter().enumerate().all(|(index, (topic, _))| topic.as_str() == format!("t.{index}"));
            assert!(is_whole && topics.len() == topic_count, "{topics:?}");
            Some(Some(topics.into_iter().map(|(_, start)| start).collect()))
        }
        Answer::Response(response) => {
            assert_eq!(response.status, 400);
            Some(None)
        }
        other => panic!("{other:?}"),
    }
}

fn naive_starts(text: &str, topic_count: usize) -> Option<Vec<Start>> {
    let places: Vec<&str> = text.split(',').collect();
    if places.len() == 1 {
        return Some(vec![naive_start(text)?; topic_count]);
    }
    if places.len() != topic_count {
        return None;
    }
    places.into_iter().map(naive_start).collect()
}

fn naive_start(text: &str) -> Option<Start> {
    if let Some(count) = text.strip_prefix("last:") {
        return Some(Start::Last(number(count)?));
    }
    if let Some((major, minor)) = text.split_once('-') {
        let (minor, fingerprint) = match minor.split_once('~') {
            Some((minor, fingerprint)) => (minor, Some(naive_fingerprint(fingerprint)?)),
            None => (minor, None),
        };
        return Some(after(EventId::new(number(major)?, number(minor)?).with_fingerprint(fingerprint)));
    }
    match text {
        "first" | "0" => Some(Start::First),
        "live" => Some(Start::Live),
        _ => None,
    }
}

/// A number but zero, as Rust itself writes it.
fn naive_fingerprint(text: &str) -> Option<Fingerprint> {
    let number = u64::from_str_radix(text, 16).ok().filter(|number| *number != 0 && format!("{number:x}") == text)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{number:x} is a fingerprint")))
}

/// Before `0-0` there is nothing.
fn after(id: EventId) -> Start {
    if id == EventId::default() { Start::First } else { Start::After(id) }
}

fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn words(starts: Vec<Start>) -> Vec<String> {
    starts.iter().map(word).collect()
}

fn word(start: &Start) -> String {
    match start {
        Start::Live => "live".to_owned(),
        Start::First => "first".to_owned(),
        Start::Last(count) => format!("last:{count}"),
        Start::After(id) => id.to_string(),
    }
}

/// What the hub writes as the id of a stream over several topics brings the client back to these very places.
fn check_vector(input: &Input<'_>) {
    let numbers: Vec<u64> = input.payload.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
    let pairs = numbers.as_chunks::<2>().0.iter().take(hub::TOPICS_MAX);
    let fingerprint = |major: u64, minor: u64| format!("{:x}", major ^ minor.rotate_left(7)).parse().ok();
    let id = |[major, minor]: &[u64; 2]| EventId::new(*major, *minor).with_fingerprint(fingerprint(*major, *minor));
    let ids: Vec<EventId> = pairs.map(id).collect();
    if ids.is_empty() {
        return;
    }
    let mut line = Vec::new();
    sse::write_cursor_id(ids.iter().copied(), false, &mut line);
    let value = line.strip_prefix(b"id: ").and_then(|line| line.strip_suffix(b"\n")).expect("an id line");
    let header = [b"Last-Event-ID: ", value, b"\r\n"].concat();
    let expected: Vec<Start> = ids.iter().copied().map(after).collect();
    assert_eq!(starts(ids.len(), "", &header).flatten().map(words), Some(words(expected)));
}
