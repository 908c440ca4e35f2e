//! A relay between a bus and a broker that the test plays.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    bus::{self, Bus, Follower, Inbox, Notifier, PublishFailed, Wake},
    clock::Moment,
    gap::GapReason,
};

#[derive(Debug)]
struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

/// A broker that takes publications and answers when the test says.
#[derive(Debug, Default)]
struct Broker(Mutex<Vec<Publication>>);

impl EventSink for Broker {
    fn publish(&self, publication: Publication) {
        self.0.lock().expect("no panic before").push(publication);
    }
}

struct Bridge {
    bus: Bus,
    relay: Relay,
    broker: Broker,
    report: Report,
    outcomes: crossbeam_channel::Receiver<Outcome>,
    tally: Tally,
}

impl Bridge {
    fn new(inbox_events_max: usize, maps: &[&str]) -> Self {
        Self::with(inbox_events_max, maps, LossReport::Command)
    }

    fn with(inbox_events_max: usize, maps: &[&str], form: LossReport) -> Self {
        let maps: Vec<TopicMap> = maps.iter().map(|map| map.parse().expect("a map")).collect();
        let inbox = Inbox::new(inbox_events_max, Arc::new(Notifier::new(Arc::new(NoWaker))));
        let follower = Follower::new(maps.iter().map(|map| map.from().clone()).collect(), inbox);
        let bus = Bus::new(bus::Config::default(), Vec::new(), Vec::new()).with_follower(follower);
        let (sender, outcomes) = crossbeam_channel::unbounded();
        let report: Report = Arc::new(move |outcome| sender.send(outcome).expect("the test listens"));
        let config = BridgeConfig { maps, in_flight_max: 100, ..BridgeConfig::default() };
        let (relay, broker) = (Relay::new(&config, form), Broker::default());
        Self { bus, relay, broker, report, outcomes, tally: Tally::default() }
    }

    /// One that has told of its beginning.
    fn begun(inbox_events_max: usize, maps: &[&str]) -> Self {
        let mut bridge = Self::new(inbox_events_max, maps);
        bridge.relay.tell_losses(&bridge.broker, &bridge.report);
        bridge.answer(true);
        bridge
    }

    fn publish(&self, topic: &str, data: &'static str) {
        let topic = Topic::parse(topic).expect("a good name");
        self.bus.feed().publish(&topic, Some("kind"), Bytes::from_static(data.as_bytes()), Moment(1)).expect("room");
    }

    /// Takes all that the follower has.
    fn turn(&mut self) {
        let inbox = self.bus.follower_inbox().expect("it has a follower");
        loop {
            let message = self.relay.next_copied().or_else(|| inbox.next_event());
            if let Some(message) = message {
                self.relay.relay(message, &self.broker, &self.report, &mut self.tally);
                continue;
            }
            let behind = inbox.take_resync();
            if behind.is_empty() {
                return;
            }
            for state in behind {
                let next = self.relay.next_of(state.key);
                self.relay.take_copied(self.bus.resync_follower(&state, next));
            }
        }
    }

    /// What the broker has got, which it takes or refuses.
    fn answer(&mut self, takes: bool) -> Vec<String> {
        let publications = std::mem::take(&mut *self.broker.0.lock().expect("no panic before"));
        let mut texts = Vec::new();
        for Publication { topic, kind, data, reply, bridged, .. } in publications {
            let gap = bridged.and_then(|bridged| bridged.gap);
            let kind = gap.map(|gap| format!("gap {gap}").into()).or(kind);
            let kind = kind.map(|kind| format!(" {kind}")).unwrap_or_default();
            texts.push(format!("{topic}{kind} {}", String::from_utf8_lossy(&data)));
            reply(if takes { Ok(None) } else { Err(PublishFailed::Unknown) });
        }
        let outcomes: Vec<Outcome> = self.outcomes.try_iter().collect();
        outcomes.into_iter().for_each(|outcome| self.relay.settle(outcome, &mut self.tally));
        texts
    }
}

const LOSSES: &str = "fanfare.orders.losses";

#[test]
fn it_begins_with_a_loss_of_all_its_topics() {
    let mut bridge = Bridge::new(10, &["a.*=>b.*", "c"]);
    bridge.publish("a.1", "x");
    bridge.turn();
    assert_eq!(bridge.answer(true), [format!(r#"{LOSSES} ["b.*","c"]"#), "b.1 kind x".to_owned()]);
    bridge.publish("a.1", "y");
    bridge.publish("d", "z");
    bridge.turn();
    assert_eq!(bridge.answer(true), ["b.1 kind y"], "and says it once");
    assert_eq!(bridge.tally, Tally { relayed: 2, failed: 0, losses: 0, returned: 0 });
    assert!(bridge.relay.is_idle());
}

#[test]
fn a_loss_of_the_source_goes_out_where_it_happened() {
    let mut bridge = Bridge::begun(10, &["a.*"]);
    bridge.publish("a.1", "x");
    bridge.publish("a.2", "x");
    bridge.bus.feed().report_loss(&Topic::parse("a.1").expect("a good name"), GapReason::SourceLost, Moment(2));
    bridge.publish("a.1", "y");
    bridge.turn();
    assert_eq!(bridge.answer(true), ["a.1 kind x", "a.2 kind x", &format!(r#"{LOSSES} ["a.1"]"#), "a.1 kind y"]);
}

#[test]
fn what_failed_is_told_until_it_is_taken() {
    let mut bridge = Bridge::begun(10, &["a.*"]);
    bridge.publish("a.1", "x");
    bridge.turn();
    assert_eq!(bridge.answer(false), ["a.1 kind x"]);
    assert!(!bridge.relay.is_idle());
    for takes in [false, true] {
        bridge.relay.tell_losses(&bridge.broker, &bridge.report);
        assert_eq!(bridge.answer(takes), [format!(r#"{LOSSES} ["a.1"]"#)]);
    }
    assert!(bridge.relay.is_idle());
    assert_eq!(bridge.tally, Tally { relayed: 0, failed: 1, losses: 1, returned: 0 });
}

#[test]
fn many_losses_are_one_of_all() {
    let mut bridge = Bridge::begun(1000, &["a.*"]);
    (0..=LOSSY_TOPICS_MAX).for_each(|index| bridge.publish(&format!("a.{index}"), "x"));
    bridge.turn();
    bridge.answer(false);
    bridge.relay.tell_losses(&bridge.broker, &bridge.report);
    assert_eq!(bridge.answer(true), [format!(r#"{LOSSES} ["a.*"]"#)]);
}

#[test]
fn what_the_inbox_has_no_room_for_comes_from_the_log() {
    let mut bridge = Bridge::begun(2, &["a.*"]);
    for data in ["1", "2", "3", "4"] {
        bridge.publish("a.1", data);
    }
    bridge.publish("a.2", "5");
    bridge.turn();
    let expected = ["a.1 kind 1", "a.1 kind 2", "a.1 kind 3", "a.1 kind 4", "a.2 kind 5"];
    assert_eq!(bridge.answer(true), expected, "in order, once");
    assert_eq!(bridge.tally.losses, 0);
}

#[test]
fn what_the_log_has_dropped_is_told() {
    let retention = crate::log::Retention::default();
    let mut bridge = Bridge::begun(1, &["a.*"]);
    bridge.publish("a.1", "x");
    bridge.turn();
    let more = retention.lag.count + 10;
    (0..more).for_each(|_| bridge.publish("a.1", "y"));
    bridge.turn();
    let told = bridge.answer(true);
    assert_eq!(told[..3], ["a.1 kind x".to_owned(), "a.1 kind y".to_owned(), format!(r#"{LOSSES} ["a.1"]"#)]);
    assert!(told.len() < more, "{}", told.len());
    assert_eq!(bridge.tally.losses, 1);
}

#[test]
fn a_bridge_that_stands_by_passes_over() {
    let mut bridge = Bridge::begun(10, &["a.*"]);
    bridge.publish("a.1", "x");
    let message = bridge.bus.follower_inbox().and_then(Inbox::next_event).expect("there is one");
    bridge.relay.skip(&message);
    bridge.relay.lose_all(&mut bridge.tally);
    bridge.publish("a.1", "y");
    bridge.turn();
    assert_eq!(bridge.answer(true), [format!(r#"{LOSSES} ["a.*"]"#), "a.1 kind y".to_owned()]);
}

#[test]
fn names_that_the_other_side_cannot_have_are_counted() {
    let mut bridge = Bridge::begun(10, &[&format!("a.*=>{}.*", "x".repeat(250))]);
    bridge.publish("a.longer", "x");
    bridge.turn();
    assert_eq!(bridge.answer(true), [""; 0]);
    assert_eq!(bridge.tally, Tally { relayed: 0, failed: 1, losses: 0, returned: 0 });
}

#[test]
fn what_is_missing_stands_in_the_logs_of_the_other_side() {
    let mut bridge = Bridge::with(10, &["a.*=>b.*"], LossReport::InLogs);
    let patterns: Vec<String> =
        bridge.relay.wanted_topics().iter().flatten().map(|pattern| pattern.as_str().to_owned()).collect();
    assert_eq!(patterns, ["b.*"]);
    bridge.relay.tell_losses(&bridge.broker, &bridge.report);
    assert_eq!(bridge.answer(true), [""; 0], "nobody knows which topics there are");
    bridge.relay.take_topics(["b.1", "b.2"].map(|name| Topic::parse(name).expect("a good name")).into());
    assert!(bridge.relay.wanted_topics().is_none());
    bridge.publish("a.1", "x");
    bridge.turn();
    let gap = |topic: &str| format!("{topic} gap source_lost ");
    assert_eq!(bridge.answer(true), [gap("b.1"), gap("b.2"), "b.1 kind x".to_owned()]);
    bridge.publish("a.1", "y");
    bridge.bus.feed().report_loss(&Topic::parse("a.1").expect("a good name"), GapReason::SourceLost, Moment(2));
    bridge.publish("a.1", "z");
    bridge.turn();
    assert_eq!(bridge.answer(false), ["b.1 kind y".to_owned(), gap("b.1"), "b.1 kind z".to_owned()]);
    bridge.relay.tell_losses(&bridge.broker, &bridge.report);
    assert_eq!(bridge.answer(true), [gap("b.1")], "and once for all that failed");
    assert!(bridge.relay.is_idle());
}

#[test]
fn no_more_gaps_are_told_at_a_time_than_may_be_on_their_way() {
    let mut bridge = Bridge::with(10, &["a.*"], LossReport::InLogs);
    let topics: Vec<Topic> = (0..150).map(|index| Topic::parse(&format!("a.{index}")).expect("a good name")).collect();
    bridge.relay.take_topics(topics);
    let mut told = Vec::new();
    for _ in 0..2 {
        assert!(!bridge.relay.has_told());
        bridge.relay.tell_losses(&bridge.broker, &bridge.report);
        told.push(bridge.answer(true).len());
    }
    assert_eq!((told, bridge.relay.has_told()), (vec![100, 50], true));
}

#[test]
fn what_another_bridge_has_brought_stays_where_it_is() {
    for (chain, expected, returned) in [(false, vec!["a.1 kind y"], 1), (true, vec!["a.1 x", "a.1 kind y"], 0)] {
        let mut bridge = Bridge::begun(10, &["a.*"]);
        bridge.relay.chains = chain;
        let topic = Topic::parse("a.1").expect("a good name");
        let payload = crate::event::Payload { is_carried: true, ..Bytes::from_static(b"x").into() };
        bridge.bus.feed().publish(&topic, None, payload, Moment(1)).expect("room");
        bridge.publish("a.1", "y");
        bridge.turn();
        assert_eq!(bridge.answer(true), expected);
        assert_eq!((bridge.tally.returned, bridge.tally.losses), (returned, 0));
    }
}
