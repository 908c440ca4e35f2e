//! The follower.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{Bus, Config, Follower, Inbox, Notifier, Wake};
use crate::{
    clock::Moment,
    event::Event,
    gap::GapReason,
    topic::{Pattern, Topic},
};

#[derive(Debug)]
struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

fn bus(inbox_events_max: usize) -> Bus {
    let inbox = Inbox::new(inbox_events_max, Arc::new(Notifier::new(Arc::new(NoWaker))));
    let patterns = ["a.*", "b.**"].map(|text| Pattern::parse(text).expect("a pattern")).into();
    Bus::new(Config::default(), Vec::new(), Vec::new()).with_follower(Follower::new(patterns, inbox))
}

fn publish(bus: &Bus, topic: &str, data: &'static str) {
    let topic = Topic::parse(topic).expect("a good name");
    bus.feed().publish(&topic, None, Bytes::from_static(data.as_bytes()), Moment(1)).expect("there is room");
}

fn taken(bus: &Bus) -> Vec<String> {
    let inbox = bus.follower_inbox().expect("there is a follower");
    let events = std::iter::from_fn(|| inbox.next_event());
    let text = |event: &Event| match event.gap {
        Some(_) => "a hole".into(),
        None => String::from_utf8_lossy(&event.data).into_owned(),
    };
    events.map(|message| format!("{} {}", message.event.topic, text(&message.event))).collect()
}

#[test]
fn it_gets_what_is_under_its_patterns() {
    let bus = bus(10);
    for topic in ["a.1", "a", "a.1.2", "b.1.2", "c.1"] {
        publish(&bus, topic, "x");
    }
    let topic = Topic::parse("a.1").expect("a good name");
    bus.feed().report_loss(&topic, GapReason::SourceLost, Moment(2));
    assert_eq!(taken(&bus), ["a.1 x", "b.1.2 x", "a.1 a hole"], "in their order");
}

#[test]
fn it_copies_what_its_inbox_had_no_room_for() {
    let bus = bus(2);
    for data in ["1", "2", "3", "4"] {
        publish(&bus, "a.1", data);
    }
    publish(&bus, "b.1", "5");
    assert_eq!(taken(&bus), ["a.1 1", "a.1 2"]);
    let behind = bus.follower_inbox().expect("there is a follower").take_resync();
    let copied = behind
        .iter()
        .flat_map(|state| bus.resync_follower(state, if state.topic.as_str() == "a.1" { 3 } else { 1 }).events);
    assert_eq!(copied.map(|event| event.data.clone()).collect::<Vec<_>>(), ["3", "4", "5"]);
    publish(&bus, "a.1", "6");
    assert_eq!(taken(&bus), ["a.1 6"], "and then goes on");
}

#[test]
fn it_keeps_no_topic() {
    let bus = bus(10);
    let topic = Topic::parse("a.1").expect("a good name");
    drop(bus.attach(&topic, 0));
    let state = bus.snapshot(&bus.state(&topic)).state;
    bus.detach(&state, 0);
    bus.sweep(Moment(u64::MAX));
    assert_eq!(bus.topic_count(), 0);
}
