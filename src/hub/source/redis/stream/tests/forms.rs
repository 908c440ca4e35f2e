//! What hubs of several releases write into one stream, and the keys they look for.

use super::*;
use crate::{
    source::redis::{lease, memory_key},
    tests::{FormKind, check_forms, part, text},
};

/// What is published: a type, an idempotency key, and what a bridge says of it.
fn words(kind: Option<&str>, once: Option<&str>, bridged: Option<Bridged>) -> Vec<Bytes> {
    let mut classes = TopicClasses::default();
    classes.default.retention.history = Bounds { count: 100, bytes: usize::MAX, age: Duration::from_secs(60) };
    let config = RedisStreamConfig { prefix: "p:".to_owned(), ..RedisStreamConfig::default() };
    let encoder = StreamEncoder { config, classes, idempotency_window: Duration::from_secs(3), is_in_cluster: false };
    let publication = Publication {
        topic: topic("a.b"),
        kind: kind.map(Box::from),
        data: Bytes::from_static(b"{\"n\":1}"),
        idempotency_key: once.map(Box::from),
        bridged: bridged.map(Box::new),
        reply: Box::new(drop),
    };
    encoder.request(&publication).arguments
}

/// What a bridge says of an entry, which comes from a log or not.
fn bridged(is_from_log: bool, gap: Option<GapReason>) -> Option<Bridged> {
    let carried = Carried { after: id(1), upto: id(2), is_broken: Arc::default() };
    Some(Bridged { origin: "nats:c".into(), gap, carried: is_from_log.then_some(carried) })
}

/// The fields of the entry, each with its value.
fn fields(words: Vec<Bytes>) -> Vec<Vec<u8>> {
    let first = words.iter().position(|word| ["type", "data", "carried", "gap"].iter().any(|name| word == name));
    words[first.expect("an entry")..].chunks(2).map(|field| field.join(&b' ')).collect()
}

#[test]
fn entries() {
    let read = |parts: &[Vec<u8>]| {
        let words: Vec<&[u8]> = parts
            .iter()
            .flat_map(|field| {
                let name = field.iter().position(|byte| *byte == b' ').expect("a field and its value");
                [&field[..name], &field[name + 1..]]
            })
            .collect();
        let entries = read_entries(Value::Array(vec![entry("7-1", &words)])).expect("an entry");
        match &entries[0].content {
            Ok(it) => {
                let by = if it.is_carried { "a bridge's event" } else { "an event" };
                format!("{by} with type {:?}, data {}", it.kind, String::from_utf8_lossy(&it.data))
            }
            Err(none) => format!("no event, but a gap `{}`; a bridge's: {}", none.reason().label(), none.is_carried()),
        }
    };
    let written = vec![
        ("an event without a type", fields(words(None, None, None))),
        ("an event with a type", fields(words(Some("made"), None, None))),
        ("a bridge's event", fields(words(Some("made"), None, bridged(false, None)))),
        ("a bridge's event out of a log", fields(words(None, None, bridged(true, None)))),
        ("a gap", fields(words(None, None, bridged(true, Some(GapReason::Expired))))),
        ("a gap of events that are lost", fields(words(None, None, bridged(false, Some(GapReason::SourceLost))))),
    ];
    let later = |parts: &mut Vec<Vec<u8>>| parts.extend([b"later \xFF".to_vec(), b"another ".to_vec()]);
    check_forms(&FormKind { name: "redis-entries", written, read: &read, extend: Some(&later) });
}

/// A hub that looks for another key has no idempotency, no lease and no place in a log in common with the others.
#[test]
fn keys() {
    let key = |words: Vec<Bytes>, index: usize| words[index].to_vec();
    let written = vec![
        ("a stream", part(key(words(None, None, None), 1))),
        ("the memory of an idempotency key", part(key(words(None, Some("k 1"), None), 2))),
        ("the same of a channel", part(memory_key("channel.a.b", "k 1"))),
        ("how far a log is carried", part(key(words(None, None, bridged(true, None)), 2))),
        ("the consumer group of streams that hubs have made", part(MARKER_GROUP)),
        ("a lease", part(lease::key("generators"))),
    ];
    let read = |parts: &[Vec<u8>]| format!("`{}`", text(parts));
    check_forms(&FormKind { name: "redis-keys", written, read: &read, extend: None });
}
