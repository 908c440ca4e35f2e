//! A follower: one thread that gets all events of the topics under its patterns, subscribers or not. The bridge is one.
//!
//! Like a reactor it has an inbox of its own, and copies what it lacks from the log after the inbox was full. Unlike a reactor it
//! has no interest: it neither keeps a topic alive nor makes a source subscribe. Its source must be configured to bring the topics.

use std::sync::{Arc, atomic::Ordering};

use super::{Attachment, Bus, EventMessage, Inbox, TopicState, topic::Core, topics::lock};
use crate::{
    event::{Event, Position},
    topic::{Pattern, Topic},
};

/// The follower of a bus.
#[derive(Debug)]
pub(crate) struct Follower {
    patterns: Vec<Pattern>,
    inbox: Inbox,
}

/// How far the follower is with a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Followed {
    /// It does not follow the topic.
    #[default]
    No,
    /// It gets each event.
    Yes,
    /// Its inbox was full. It gets no events of the topic until it has copied the log.
    Behind,
}

impl Follower {
    /// A follower of the topics under `patterns`, whose thread reads `inbox`.
    pub(crate) fn new(patterns: Vec<Pattern>, inbox: Inbox) -> Self {
        Self { patterns, inbox }
    }

    /// What `topic` begins with.
    pub(super) fn begin(&self, topic: &Topic) -> Followed {
        if self.patterns.iter().any(|pattern| pattern.matches(topic)) { Followed::Yes } else { Followed::No }
    }

    /// Hands over an event, under the lock of `core`. True if the thread is to be notified.
    pub(super) fn take(&self, bus: &Bus, state: &Arc<TopicState>, core: &mut Core, event: &Arc<Event>) -> bool {
        if core.followed != Followed::Yes {
            return false;
        }
        if !self.inbox.put_event(EventMessage { key: state.key, event: Arc::clone(event) }) {
            core.followed = Followed::Behind;
            self.inbox.put_resync(Arc::clone(state));
            bus.resyncs.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

impl Bus {
    /// The same bus with a follower. To be called before there are topics.
    pub(crate) fn with_follower(mut self, follower: Follower) -> Self {
        self.follower = Some(follower);
        self
    }

    /// The inbox of the follower, if there is one.
    pub(crate) fn follower_inbox(&self) -> Option<&Inbox> {
        self.follower.as_ref().map(|follower| &follower.inbox)
    }

    /// The events of `state` from `next` on, after the follower's inbox was full: as [`Bus::resync`] for a reactor.
    pub(crate) fn resync_follower(&self, state: &Arc<TopicState>, next: Position) -> Attachment {
        let mut core = lock(&state.core);
        core.followed = Followed::Yes;
        Attachment::of(state, &core, next)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        bus::{self, Notifier, Wake},
        clock::Moment,
        gap::GapReason,
    };

    #[derive(Debug)]
    struct NoWaker;

    impl Wake for NoWaker {
        fn wake(&self) {}
    }

    fn bus(inbox_events_max: usize) -> Bus {
        let inbox = Inbox::new(inbox_events_max, Arc::new(Notifier::new(Arc::new(NoWaker))));
        let patterns = ["a.*", "b.**"].map(|text| Pattern::parse(text).expect("a pattern")).into();
        Bus::new(bus::Config::default(), Vec::new(), Vec::new()).with_follower(Follower::new(patterns, inbox))
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
        let state = bus.copy(&bus.state(&topic)).state;
        bus.detach(&state, 0);
        bus.sweep(Moment(u64::MAX));
        assert_eq!(bus.topic_count(), 0);
    }
}
