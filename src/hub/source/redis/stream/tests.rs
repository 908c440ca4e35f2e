//! The parts that need no server.

mod forms;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;

use super::{
    STREAM_SOURCE,
    arrival::Arrival,
    config::RedisStreamConfig,
    encoder::{MARKER_GROUP, StreamEncoder, is_weighed},
    entry::{EntryContent, NoEvent, StreamEntry, read_entries, read_streams},
    link::{accept, elsewhere, find_unserved, is_down, transaction_answer},
    position::{Found as At, ReadPosition, StreamInfo, Verdict, read_is_made},
    shard::Shard,
    streams::{FollowedStreams, StreamStage, StreamTable},
    turn::{StreamPlace, StreamReader},
};
use crate::{
    bus::{Bridged, Bus, Carried, Publication, SourcePort},
    clock::{Clock, Moment},
    event::EventId,
    gap::GapReason,
    log::Bounds,
    protocol::resp::key_slot,
    source::{
        SourceStatus, TopicClasses,
        redis::{
            ClusterView, NodeAddress, PublishEncoder, RedisConfig,
            error_codes::{Elsewhere, Moved},
            slot_of_key,
        },
    },
    topic::Topic,
};

fn id(minor: u64) -> EventId {
    EventId::new(7, minor)
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}

fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::BulkString(text.as_ref().to_vec())
}

fn entry(id: &str, fields: &[&[u8]]) -> Value {
    Value::Array(vec![bulk(id), Value::Array(fields.iter().map(bulk).collect())])
}

#[test]
fn entries_become_events() {
    let check = |fields: &[&[u8]], expected: Result<(Option<&str>, &str), NoEvent>| {
        let read = read_entries(Value::Array(vec![entry("7-1", fields)])).expect("a well-formed answer");
        let content = expected.map(|(kind, data)| EntryContent {
            kind: kind.map(Box::from),
            data: Bytes::copy_from_slice(data.as_bytes()),
            is_carried: fields.contains(&&b"carried"[..]),
        });
        assert_eq!(read, [StreamEntry { id: id(1), content }], "{fields:?}");
    };
    check(&[b"data", b"x"], Ok((None, "x")));
    check(&[b"type", b"made", b"data", b"x"], Ok((Some("made"), "x")));
    check(&[b"data", b"x", b"other", b"\xff", b"type", b""], Ok((None, "x")));
    check(&[b"b", b"1", b"a", b"say \"hi\""], Ok((None, r#"{"b":"1","a":"say \"hi\""}"#)));
    check(&[b"a", b"1", b"b", b"2", b"a", b"3"], Ok((None, r#"{"b":"2","a":"3"}"#)));
    check(&[b"type", b"made"], Ok((None, r#"{"type":"made"}"#)));
    check(&[b"data", b"\xff"], Err(NoEvent::Unfit));
    check(&[b"a", b"\xff"], Err(NoEvent::Unfit));
    check(&[b"gap", b"expired", b"data", b"\xff"], Err(NoEvent::Gap(GapReason::Expired, false)));
    check(&[b"carried", b"x 1-1", b"gap", b"epoch", b"data", b"\xff"], Err(NoEvent::Gap(GapReason::SourceLost, true)));
    check(&[b"carried", b"x 1-1", b"data", b"x"], Ok((None, "x")));
    check(&[b"gap", b"expired", b"data", b"x"], Ok((None, "x")));
    check(&[b"type", b"gap", b"data", b"x"], Ok((Some("gap"), "x")));
    check(&[b"type", b"a\nb", b"data", b"x"], Err(NoEvent::Unfit));
}

#[test]
fn answers_in_both_versions_of_the_protocol() {
    let entries = || Value::Array(vec![entry("7-1", &[b"data", b"x"])]);
    let version_2 = Value::Array(vec![Value::Array(vec![bulk("k"), entries()])]);
    let version_3 = Value::Map(vec![(bulk("k"), entries())]);
    for answer in [version_2, version_3] {
        let streams = read_streams(answer).expect("a well-formed answer");
        assert_eq!((streams.len(), streams[0].0.as_slice(), streams[0].1.len()), (1, b"k".as_slice(), 1));
    }
    assert_eq!(read_streams(Value::Nil), Ok(Vec::new()));
    assert!(read_entries(Value::Array(vec![entry("no id", &[])])).is_err());
    for bad in [Value::Int(1), Value::Array(vec![Value::Int(1)])] {
        assert!(read_entries(bad.clone()).is_err() && read_streams(bad).is_err());
    }
}

/// A stream that was added to so often, and has the entries from `first` to `last`.
fn info(added: u64, first: u64, last: u64) -> StreamInfo {
    let length = if first == 0 { 0 } else { last - first + 1 };
    let first = (first != 0).then(|| id(first));
    StreamInfo { exists: true, length, last: id(last), first, deleted_max: EventId::default(), added: Some(added) }
}

/// A position where the tenth entry was read last.
fn tenth() -> ReadPosition {
    ReadPosition { last: id(10), content: Some(1), added: Some(10), newest: id(10), ..ReadPosition::default() }
}

#[test]
fn what_followed_a_place_is_whole_or_not() {
    let check = |position: ReadPosition, info: StreamInfo, held: &[u64], found: At, expected: Verdict| {
        let held: Vec<EventId> = held.iter().map(|minor| id(*minor)).collect();
        assert_eq!(position.judge(&info, &held, found), expected, "{position:?} {info:?} {held:?} {found:?}");
    };
    let (whole, replaced) = (Verdict::Whole, Verdict::Replaced);
    let expired = |to| Verdict::Expired { to: id(to) };
    check(tenth(), info(10, 1, 10), &[], At::Same, whole);
    check(tenth(), info(15, 3, 15), &[11, 12], At::Same, whole);
    // What was read before is trimmed, and nothing else.
    check(tenth(), info(15, 11, 15), &[11, 12], At::Nothing, whole);
    check(tenth(), info(10, 0, 10), &[], At::Nothing, whole);
    // What is in our hands may be trimmed since.
    check(tenth(), info(15, 13, 15), &[11, 12], At::Nothing, whole);
    check(tenth(), info(15, 0, 15), &[11, 12, 13, 14, 15], At::Nothing, whole);
    check(tenth(), info(15, 13, 15), &[], At::Nothing, expired(12));
    check(tenth(), info(20, 15, 20), &[13, 14], At::Nothing, expired(12));
    check(tenth(), info(15, 0, 15), &[], At::Nothing, expired(15));
    // Another stream under the same key.
    check(tenth(), StreamInfo::default(), &[], At::Nothing, replaced);
    check(tenth(), info(3, 1, 3), &[], At::Nothing, replaced);
    check(tenth(), info(5, 11, 15), &[11], At::Nothing, replaced);
    check(tenth(), info(12, 11, 20), &[11], At::Nothing, replaced);
    // The entry that was read is another one, or there is none although older ones are there.
    check(tenth(), info(15, 1, 15), &[11], At::Other, replaced);
    check(tenth(), info(15, 1, 15), &[11], At::Nothing, replaced);
    check(tenth(), info(20, 5, 20), &[], At::Nothing, replaced);
    let deleted = |info: StreamInfo, newest: u64| StreamInfo { deleted_max: id(newest), ..info };
    check(tenth(), deleted(info(15, 1, 15), 10), &[11], At::Nothing, whole);
    // As many entries up to the same id, or it was filled in another way; unless unread ones were deleted.
    check(tenth(), info(12, 1, 10), &[], At::Same, replaced);
    check(tenth(), deleted(info(12, 1, 10), 9), &[], At::Same, whole);
    // A server that does not count: a gap that may be empty rather than none that may be.
    let uncounted = |first, last| StreamInfo { added: None, ..info(0, first, last) };
    check(tenth(), uncounted(5, 15), &[11], At::Same, whole);
    check(tenth(), uncounted(11, 15), &[11], At::Nothing, expired(10));
    check(tenth(), uncounted(0, 10), &[], At::Nothing, whole);
    // Nothing was read and nothing was there.
    let fresh = ReadPosition { added: Some(0), ..ReadPosition::default() };
    check(fresh, StreamInfo::default(), &[], At::Nothing, whole);
    check(fresh, info(5, 1, 5), &[1], At::Nothing, whole);
    check(fresh, info(5, 4, 5), &[4], At::Nothing, expired(3));
    // Nothing of it was read, and it has what was.
    check(ReadPosition { added: Some(0), content: None, ..tenth() }, info(15, 5, 15), &[], At::Nothing, replaced);
}

#[test]
fn what_stands_at_a_place() {
    let read = |minor: u64, data: &str| {
        let answer = Value::Array(vec![entry(&format!("7-{minor}"), &[b"data", data.as_bytes()])]);
        read_entries(answer).expect("a well-formed answer").remove(0)
    };
    let mut position = ReadPosition::default();
    position.pass(id(10), read(10, "x").digest());
    let check = |position: ReadPosition, minor: u64, data: &str, expected: At| {
        assert_eq!(position.compare(Some(&read(minor, data))), expected, "{position:?} {minor} {data}");
    };
    check(position, 10, "x", At::Same);
    check(position, 10, "y", At::Other);
    check(position, 11, "x", At::Other);
    check(position, 9, "x", At::Nothing);
    check(ReadPosition { content: None, ..position }, 10, "y", At::Same);
    assert_eq!(position.compare(None), At::Nothing);
    assert_eq!(info(20, 15, 20).added_before(&[id(13), id(14), id(15)]), Some(12));
}

#[test]
fn streams_that_hubs_made_expire() {
    let made = ReadPosition { last: EventId::new(100_000, 0), is_made: true, ..ReadPosition::default() };
    let check = |position: ReadPosition, now_ms: u64, unread_ms: u64, expected: bool| {
        assert_eq!(position.has_expired(5000, now_ms, unread_ms), expected, "{position:?} {now_ms} {unread_ms}");
    };
    check(made, 105_000, 10, true);
    check(made, 104_999, 10, false);
    check(made, 105_000, 5000, false);
    check(ReadPosition { is_made: false, ..made }, 105_000, 10, false);
    let group = |name: &str| Value::Array(vec![bulk("name"), bulk(name), bulk("consumers"), Value::Int(0)]);
    assert!(read_is_made(Value::Array(vec![group("other"), group("fanfare")])));
    assert!(!read_is_made(Value::Array(vec![group("other")])) && !read_is_made(Value::Nil));
}

#[test]
fn what_is_missing_after_an_id() {
    let check_at = |info: StreamInfo, after: EventId, kept_ms: u64, expected: Option<(u64, GapReason)>| {
        let gap = info.gap_after(after, kept_ms, 1000).map(|gap| (gap.to, gap.reason));
        assert_eq!(gap, expected.map(|(to, reason)| (id(to), reason)), "{info:?} {after}");
    };
    let check = |info: StreamInfo, after: u64, expected| check_at(info, id(after), 5000, expected);
    check(info(100, 61, 100), 70, None);
    check(info(100, 61, 100), 60, None);
    check(info(100, 61, 100), 59, Some((60, GapReason::Expired)));
    check(info(100, 61, 100), 100, None);
    check(info(100, 61, 100), 101, Some((60, GapReason::Epoch)));
    // Nothing was ever trimmed, so the id is of a stream that was here before.
    check(info(40, 61, 100), 20, Some((60, GapReason::Epoch)));
    check(info(100, 0, 100), 20, Some((100, GapReason::Expired)));
    check(info(100, 0, 100), 100, None);
    // From the beginning, and from a moment before there was anything.
    let moment = EventId::new(6, u64::MAX);
    for start in [EventId::default(), moment] {
        check_at(info(40, 61, 100), start, 5000, None);
        check_at(info(100, 61, 100), start, 5000, Some((60, GapReason::Expired)));
        check_at(StreamInfo::default(), start, 5000, None);
    }
    // There may have been a stream between.
    check_at(info(40, 61, 100), moment, 1, Some((60, GapReason::Expired)));
    let gone = |after, kept_ms| StreamInfo::default().gap_after(after, kept_ms, 1000).map(|gap| gap.reason);
    assert_eq!(gone(id(3), 5000), Some(GapReason::Epoch));
    assert_eq!(gone(id(3), 500), Some(GapReason::Expired));
    assert_eq!(gone(moment, 500), Some(GapReason::Expired));
}

#[test]
fn streams_come_and_go() {
    let mut streams = FollowedStreams::new(Duration::from_secs(10));
    let (one, two) = (topic("one"), topic("two"));
    let at = |seconds: u64| Moment(seconds * 1_000_000_000);
    assert_eq!(streams.want(&one, "p:one".to_owned()), None);
    streams.want(&two, "p:two".to_owned());
    assert_eq!(streams.to_load(9, at(0)).len(), 2);
    assert_eq!(streams.to_load(1, at(0)).len(), 1);
    let position = ReadPosition { last: id(3), added: Some(3), newest: id(3), ..ReadPosition::default() };
    streams.set_stage(&one, StreamStage::Reading(position));
    streams.set_stage(&two, StreamStage::New { due: at(5), again: true });
    assert!(streams.to_load(9, at(4)).is_empty() && streams.is_again(&two) && !streams.is_again(&one));
    assert_eq!(streams.to_load(9, at(5)), [two]);
    assert_eq!(streams.topic_of(b"p:one"), Some(&one));
    assert_eq!(streams.reading().map(|(_, key, position)| (key, position)).collect::<Vec<_>>(), [("p:one", position)]);
    streams.unwant(&one, at(20));
    assert_eq!((streams.deadline(), streams.take_expired(at(29)).len()), (Some(at(30)), 0));
    assert_eq!(streams.want(&one, "p:one".to_owned()), Some(position), "back in time");
    assert_eq!(streams.deadline(), None);
    streams.unwant(&one, at(40));
    let expired = streams.take_expired(at(50));
    assert_eq!(
        expired.into_iter().map(|(topic, stream)| (topic, stream.stage)).collect::<Vec<_>>(),
        [(one, StreamStage::Reading(position))]
    );
    assert_eq!((streams.topic_of(b"p:one"), streams.counts()), (None, (1, 0)));
}

#[test]
fn a_stream_goes_from_one_reader_to_another() {
    let at = |seconds: u64| Moment(seconds * 1_000_000_000);
    let [mut from, mut to] = [(); 2].map(|()| FollowedStreams::new(Duration::from_secs(10)));
    let [read, new, stays] = ["read", "new", "stays"].map(topic);
    for topic in [&read, &new, &stays] {
        from.want(topic, format!("p:{topic}"));
    }
    let position = ReadPosition { last: id(3), newest: id(3), ..ReadPosition::default() };
    from.set_stage(&read, StreamStage::Reading(position));
    from.set_stage(&new, StreamStage::New { due: at(90), again: true });
    from.unwant(&read, at(1));
    let (before, other) = (from.version(), to.version());
    for (topic, stream) in from.release(|topic| *topic != stays) {
        to.adopt(topic, stream.due_at(at(2)));
    }
    assert!(before != from.version() && other != to.version(), "what is asked for is written anew");
    assert_eq!((from.counts(), from.topic_of(b"p:read")), ((1, 0), None));
    assert_eq!((to.counts(), to.topic_of(b"p:read"), to.position(&read)), ((2, 1), Some(&read), Some(position)));
    assert_eq!((to.take_arrived(), to.take_arrived()), (vec![read.clone()], vec![]), "to be checked, once");
    assert!(to.is_new(&new) && to.is_again(&new) && !from.is_new(&new));
    assert_eq!(to.to_load(9, at(2)), [new], "at once, whatever the former reader waited for");
    assert_eq!(to.take_expired(at(11)).len(), 1, "nobody came back in time");
    let unchanged = from.version();
    assert!(from.release(|_| false).is_empty() && from.version() == unchanged);
}

/// The reader asked for entries, and another one has the stream by the time that the answer comes, or has read on already.
#[test]
fn an_answer_for_a_stream_that_was_handed_over_is_dropped() {
    let port = SourcePort { name: STREAM_SOURCE, is_default: true, sink: None, log: None };
    let (redis, clock) = (RedisConfig::default(), Clock::start());
    let bus = Arc::new(Bus::new(crate::bus::Config::default(), Vec::new(), vec![port]));
    let table = StreamTable::new(redis.linger);
    let view = Arc::new(ClusterView::new(crossbeam_channel::bounded(1).0));
    let node = NodeAddress { host: "h".to_owned(), port: 1 };
    let mut reader = StreamReader::new(
        redis.clone(),
        RedisStreamConfig::default(),
        Arc::new(redis.directory().expect("no files")),
        StreamPlace::Shard(Shard::new(node, view, Arc::default(), Duration::from_millis(1))),
        table.clone(),
        Arc::clone(&bus),
        clock,
        Arc::new(SourceStatus::new(STREAM_SOURCE)),
    );
    let (topic, at) = (topic("t"), |last: u64| ReadPosition { last: id(last), newest: id(last), ..Default::default() });
    let arrival = || {
        let content = EntryContent { kind: None, data: Bytes::from_static(b"x"), is_carried: false };
        Arrival::new(topic.clone(), "t".to_owned(), at(1), vec![StreamEntry { id: id(2), content: Ok(content) }])
    };
    bus.begin_log(&topic, id(1));
    let mut deliver = |expected: u64| {
        reader.deliver(&mut table.lock(), vec![arrival()], clock.now());
        assert_eq!(bus.newest_id(&topic), id(expected));
    };
    deliver(1);
    table.lock().want(&topic, "t".to_owned());
    deliver(1);
    table.lock().set_stage(&topic, StreamStage::Reading(at(5)));
    deliver(1);
    table.lock().set_stage(&topic, StreamStage::Reading(at(1)));
    deliver(2);
    assert_eq!(table.lock().position(&topic).map(|position| position.last), Some(id(2)));
    deliver(2);
}

#[test]
fn refusals_of_nodes_of_a_cluster() {
    let error = |text: &str| redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).expect("an answer");
    let moved = Elsewhere::Moved(Moved { slot: 7, host: "h".to_owned(), port: 1 });
    let check = |text: &str, expected: Option<&Elsewhere>, is_cluster_down: bool| {
        let refused = accept(error(text)).expect_err("it is refused");
        assert_eq!((elsewhere(&refused).as_ref(), is_down(&refused)), (expected, is_cluster_down), "{text}");
        let is_about_slots = expected.is_some() || is_cluster_down;
        assert_eq!(find_unserved(&[Value::Nil, error(text)]).is_some(), is_about_slots, "{text}");
        let aborted = error("EXECABORT Transaction discarded because of previous errors.");
        let answers = [Value::Okay, error(text), aborted.clone()];
        let expected = if is_about_slots { error(text) } else { aborted };
        assert_eq!(transaction_answer(answers), expected, "{text}");
    };
    check("MOVED 7 h:1", Some(&moved), false);
    check("ASK 7 h:1", Some(&Elsewhere::Unserved), false);
    check("TRYAGAIN Multiple keys request during rehashing of slot", Some(&Elsewhere::Unserved), false);
    check("CLUSTERDOWN The cluster is down", None, true);
    check("WRONGTYPE Operation against a key holding the wrong kind of value", None, false);
    assert_eq!(transaction_answer([Value::Okay, Value::Array(Vec::new())]), Value::Array(Vec::new()));
}

#[test]
fn publications_are_entries() {
    let form = |count: usize, age: Duration| {
        let mut classes = TopicClasses::default();
        // So wide that no stream is weighed.
        classes.default.retention.history = Bounds { count, bytes: usize::MAX, age };
        let config = RedisStreamConfig { prefix: "p:".to_owned(), ..RedisStreamConfig::default() };
        StreamEncoder { config, classes, idempotency_window: Duration::from_secs(3), is_in_cluster: false }
    };
    let check = |count: usize, age: Duration, kind: Option<&str>, once: Option<&str>, expected: &str| {
        let request = form(count, age).request(&Publication {
            topic: topic("t"),
            kind: kind.map(Box::from),
            data: Bytes::from_static(b"x"),
            idempotency_key: once.map(Box::from),
            bridged: None,
            reply: Box::new(drop),
        });
        let words: Vec<&str> = request.arguments.iter().map(|word| std::str::from_utf8(word).expect("text")).collect();
        assert_eq!((words.join(" ").as_str(), request.script.is_some()), (expected, true));
    };
    let check_bridged = |gap: Option<GapReason>, is_carried: bool, expected: &str| {
        let id = |text: &str| text.parse().expect("an id");
        let (after, upto) = (id("1-2"), id("1-3"));
        let carried = Carried { after, upto, is_broken: Arc::default() };
        let bridged = Bridged { origin: "o:t".into(), gap, carried: is_carried.then_some(carried) };
        let request = form(100, Duration::from_secs(60)).request(&Publication {
            topic: topic("t"),
            kind: Some("made".into()),
            data: Bytes::from_static(b"x"),
            idempotency_key: None,
            bridged: Some(Box::new(bridged)),
            reply: Box::new(drop),
        });
        let words: Vec<String> = request.arguments.iter().map(|word| word.escape_ascii().to_string()).collect();
        assert_eq!(words.join(" "), expected);
    };
    let carried = "2 p:t fanfare.carried.p:t o:t 1-2 1-3 60000 100 0 3000 carried o:t 1-3";
    check_bridged(None, true, &format!("{carried} type made data x"));
    check_bridged(Some(GapReason::Expired), true, &format!(r"{carried} gap expired data \xff"));
    check_bridged(Some(GapReason::SourceLost), false, r"1 p:t 60000 100 0 3000 carried o:t gap source_lost data \xff");
    let minute = Duration::from_secs(60);
    check(100, minute, None, None, "1 p:t 60000 100 0 3000 data x");
    check(0, Duration::ZERO, Some("made"), None, "1 p:t 1000 0 0 3000 type made data x");
    check(5, Duration::MAX, None, Some("k 1"), "2 p:t fanfare.once.stream.p:t k 1 8796093022208000 5 0 3000 data x");
}

#[test]
fn what_remembers_a_key_is_in_the_slot_of_its_stream() {
    for prefix in ["", "p:", "{app}:", "x{app}"] {
        let config = RedisStreamConfig { prefix: prefix.to_owned(), ..RedisStreamConfig::default() };
        let (classes, idempotency_window) = (TopicClasses::default(), Duration::from_secs(3));
        let encoder = StreamEncoder { config, classes, idempotency_window, is_in_cluster: true };
        let (after, upto) = ("0-0".parse().expect("an id"), "1-1".parse().expect("an id"));
        let carried = Carried { after, upto, is_broken: Arc::default() };
        for carried in [None, Some(carried)] {
            let request = encoder.request(&Publication {
                topic: topic("t"),
                kind: None,
                data: Bytes::from_static(b"x"),
                idempotency_key: Some("} k{".into()),
                bridged: carried
                    .map(|carried| Box::new(Bridged { origin: "} o{".into(), carried: Some(carried), gap: None })),
                reply: Box::new(drop),
            });
            let [stream, memory] = [1, 2].map(|index| key_slot(&request.arguments[index]));
            assert_eq!((stream, stream), (memory, slot_of_key(prefix, &topic("t"))), "{prefix}");
        }
    }
}

#[test]
fn streams_are_weighed_as_often_as_they_grow() {
    let check = |payload: usize, bytes_max: usize, luck: f64, expected: bool| {
        assert_eq!(is_weighed(payload, bytes_max, luck), expected, "{payload} {bytes_max} {luck}");
    };
    check(1 << 16, 1 << 20, 0.999, true);
    check(1000, 1 << 20, 0.015, true);
    check(1000, 1 << 20, 0.017, false);
    check(0, 1 << 20, 0.0001, true);
    check(0, usize::MAX, 0.0001, false);
    check(0, 0, 0.999, true);
}
