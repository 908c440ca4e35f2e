//! Named sources: interest, event sinks and logs at brokers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{super::*, Counting, SOURCE, bus, topic};
use crate::{clock::Moment, topic::Topic};

#[test]
fn interest_is_reported_at_first_and_last() {
    let (bus, _) = bus(2, 10);
    bus.attach(&topic("old"), 0);
    let (changes, reported) = crossbeam_channel::unbounded();
    bus.watch_interest(SOURCE, changes, Arc::new(Counting::default()));
    let first = bus.attach(&topic("a"), 0);
    bus.attach(&topic("a"), 1);
    assert!(!first.live);
    bus.detach(&first.state, 0);
    bus.detach(&first.state, 0);
    bus.detach(&first.state, 1);
    let reported: Vec<Interest> = reported.try_iter().collect();
    assert_eq!(
        reported,
        [Interest::Wanted(topic("old")), Interest::Wanted(topic("a")), Interest::Unwanted(topic("a"))]
    );
}

#[test]
fn a_confirmed_topic_is_reported_to_the_interested() {
    let (bus, _) = bus(2, 10);
    let (changes, _reported) = crossbeam_channel::unbounded();
    bus.watch_interest(SOURCE, changes, Arc::new(Counting::default()));
    let snapshot = bus.attach(&topic("a"), 1);
    bus.mark_live(&topic("a"), Moment(0));
    assert!(bus.inbox(0).next_control().is_none());
    assert!(matches!(bus.inbox(1).next_control(), Some(ControlMessage::Live(key)) if key == snapshot.state.key));
    assert!(bus.attach(&topic("a"), 0).live);
}

/// Keeps the topics that it was given.
#[derive(Clone, Debug, Default)]
struct Recording(Arc<Mutex<Vec<Topic>>>);

impl EventSink for Recording {
    fn publish(&self, publication: Publication) {
        self.0.lock().expect("no panic before").push(publication.topic);
    }
}

impl Archive for Recording {
    fn fetch(&self, request: ArchiveRequest) {
        self.0.lock().expect("no panic before").push(request.topic);
    }
}

/// Any number of sources, each with topics of its own, and a log at the hub or at its broker.
#[test]
fn a_topic_has_the_source_that_its_class_names() {
    const NAMES: [SourceName; 3] = [SourceName("default"), SourceName("kept"), SourceName("other")];
    let sinks = NAMES.map(|name| (name, Recording::default()));
    let archive = Recording::default();
    let ports = sinks.iter().map(|(name, sink)| SourcePort {
        name: *name,
        is_default: *name == NAMES[0],
        sink: Some(Box::new(sink.clone())),
        log: (*name == NAMES[1]).then(|| BrokerLog { word: "broker-log", archive: Box::new(archive.clone()) }),
    });
    let class = |pattern: &str, source, log| {
        (Pattern::parse(pattern).expect("a good pattern"), Class { source: Some(source), log, ..Class::default() })
    };
    let classes = vec![class("kept.*", NAMES[1], LogKind::Broker), class("other.*", NAMES[2], LogKind::Memory)];
    let bus = Bus::new(Config { classes, ..Config::default() }, vec![], ports.collect());
    let topics = ["plain.a", "kept.a", "other.a"].map(topic);
    let interests = NAMES.map(|name| {
        let (changes, interest) = crossbeam_channel::unbounded();
        bus.watch_interest(name, changes, Arc::new(Counting::default()));
        interest
    });
    for (index, topic) in topics.iter().enumerate() {
        assert!(!bus.attach(topic, 0).live, "{topic}: its source has not confirmed it");
        let interest: Vec<Interest> = interests.iter().flat_map(|interest| interest.try_iter()).collect();
        assert_eq!(interest, [Interest::Wanted(topic.clone())]);
        let sink = bus.event_sink(topic).expect("each source has one");
        let data = Bytes::from_static(b"x");
        let reply = Box::new(drop);
        sink.publish(Publication {
            topic: topic.clone(),
            kind: None,
            data,
            idempotency_key: None,
            bridged: None,
            reply,
        });
        assert_eq!(*sinks[index].1.0.lock().expect("no panic before"), std::slice::from_ref(topic), "and no other's");
    }
    let words = topics.each_ref().map(|topic| bus.summary(topic, Moment(0)).expect("it exists").log_word);
    assert_eq!(words, ["memory", "broker-log", "memory"]);
    assert_eq!(topics.each_ref().map(|topic| bus.archive(topic).is_some()), [false, true, false]);
    assert_eq!(topics.each_ref().map(|topic| bus.ids_differ_per_hub(&bus.class(topic))), [true, false, true]);
}
