use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use crossbeam_channel::unbounded;

use crate::{
    bus::{EventSink, Interest, Publication, SourceName, SourcePort},
    fingerprint::{Mark, Sequence, digest},
    reactor::tests::{NoWaker, TestReactor, sse},
    topic::Topic,
};

#[derive(Debug)]
struct NoSink;

impl EventSink for NoSink {
    fn publish(&self, _: Publication) {}
}

/// What a client gets that comes from another hub behind the event `seen`, while the source has brought `before` of the events
/// `1`, `2` and so on, and the rest of `count` later.
#[test]
fn a_client_that_is_ahead_of_the_source_waits_for_it() {
    let check = |seen: u32, before: u32, count: u32, waits: bool, expected: &[&str]| {
        let name = SourceName("broker");
        let port = SourcePort { name, is_default: true, sink: Some(Box::new(NoSink)), log: None };
        let mut test = TestReactor::with_sources(vec![port]);
        let (changes, interest) = unbounded();
        let bus = Arc::clone(&test.hub.bus);
        bus.watch_interest(name, changes, Arc::new(NoWaker));
        let topic = Topic::parse("t").expect("a good name");
        let _first = test.connect(&sse(&["t"], ""));
        bus.mark_live(&topic, test.clock.now());
        test.work();
        let begin = Mark::begin(1);
        let mark = begin.next(b"server", b"nonce");
        let now = test.clock.now();
        let publish = |numbers: RangeInclusive<u32>| {
            let mut feed = bus.feed();
            feed.read_behind(begin);
            feed.begin_sequence(&topic);
            feed.read_behind(mark);
            for number in numbers {
                let data = Bytes::from(number.to_string());
                feed.publish(&topic, None, data, now).expect("there is room");
            }
        };
        let mut other = Sequence::Since(begin);
        let fingerprints: Vec<_> =
            (1..=seen).map(|number| other.take(mark, &topic, digest(number.to_string().as_bytes()))).collect();
        let last = fingerprints.last().copied().flatten().expect("it has a fingerprint");
        publish(1..=before);
        assert_eq!(interest.try_iter().count(), 1);
        let (_, peer) = test.connect(&sse(&["t"], &format!("Last-Event-ID: 77-{seen}~{last}\r\n")));
        let is_asked = interest.try_iter().collect::<Vec<_>>() == [Interest::Wanted(topic.clone())];
        assert_eq!((is_asked, peer.take().is_empty()), (waits, waits), "{seen} of {before}");
        publish(before + 1..=count);
        bus.mark_live(&topic, test.clock.now());
        test.work();
        let text = peer.take();
        let shown: Vec<&str> =
            text.lines().filter(|line| line.starts_with("data:") || line.starts_with("event:")).collect();
        assert!(shown.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{seen} of {before}: {text}");
        assert_eq!(shown.len(), expected.len(), "{seen} of {before}: {text}");
        assert_eq!(interest.try_iter().count(), 0, "the source is asked once");
    };
    check(2, 1, 4, true, &["data: 3", "data: 4"]);
    check(2, 2, 2, false, &[]);
    check(2, 3, 4, false, &["data: 4"]);
    // The other hub read what will never come here.
    check(5, 1, 3, true, &["event: gap", "data: {\"topic\":\"t\",\"from\":\"77-5~"]);
}
