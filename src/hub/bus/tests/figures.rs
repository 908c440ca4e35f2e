//! What endpoints and metrics read of topics.

use std::ops::Bound;

use super::*;
use crate::{
    log::{Bounds, Policy, Retention},
    share::QuotaRefused,
};

fn id(minor: u64) -> EventId {
    EventId::new(1000, minor)
}

fn plain(data: &'static str) -> Bytes {
    Bytes::from_static(data.as_bytes())
}

#[test]
fn a_summary_has_the_ends_of_what_newcomers_get() {
    let (bus, _) = bus(1, 100);
    publish(&bus, "a", 5);
    bus.attach(&topic("a"), 0).state.subscriber_count.store(3, Ordering::Relaxed);
    let summary = bus.summary(&topic("a"), Moment(0)).expect("it exists");
    assert_eq!((summary.retained, summary.subscriber_count), (5, 3));
    assert_eq!((summary.oldest, summary.newest), (Some(id(1)), Some(id(5))));
    assert_eq!((bus.subscriber_count(&topic("a")), bus.subscriber_count(&topic("b"))), (3, 0));
    assert_eq!(summary.log_word, "memory");
    bus.attach(&topic("empty"), 0);
    let summary = bus.summary(&topic("empty"), Moment(0)).expect("it exists");
    assert_eq!((summary.retained, summary.oldest, summary.newest), (0, None, None));
}

#[test]
fn a_history_comes_in_pages() {
    let (bus, _) = bus(1, 100);
    publish(&bus, "a", 5);
    let check = |start: Start, limit: usize, minors: &[u64], next: Option<EventId>| {
        let page = bus.history(&topic("a"), start, limit, Moment(0)).expect("it exists");
        let found: Vec<u64> = page.events.iter().map(|event| event.id.minor).collect();
        assert_eq!((found.as_slice(), page.next, page.gap), (minors, next, None), "{start:?}, {limit}");
    };
    check(Start::First, 9, &[1, 2, 3, 4, 5], None);
    check(Start::First, 5, &[1, 2, 3, 4, 5], None);
    check(Start::First, 4, &[1, 2, 3, 4], Some(id(4)));
    check(Start::After(id(2)), 2, &[3, 4], Some(id(4)));
    check(Start::After(id(4)), 2, &[5], None);
    check(Start::After(id(2)), 0, &[], Some(id(2)));
    check(Start::Live, 2, &[], None);
    let gone = bus.history(&topic("a"), Start::After(EventId::new(7, 1)), 1, Moment(0));
    let gone = gone.expect("it exists");
    assert_eq!((gone.events.len(), gone.gap.map(|gap| gap.reason)), (1, Some(GapReason::Epoch)));
    assert!(bus.history(&topic("b"), Start::First, 9, Moment(0)).is_none());
}

/// However many there are, each comes once, in the order of names.
#[test]
fn topics_come_in_slices() {
    let (bus, _) = bus(1, 100);
    for count in [255, 256, 257, 512, 600] {
        let expected: Vec<String> = (0..count).map(|number| format!("a.{number:04}")).collect();
        expected.iter().for_each(|name| publish(&bus, name, 1));
        publish(&bus, "b", 1);
        let mut all: Vec<String> = bus.topics().map(|state| state.topic.to_string()).collect();
        assert_eq!(all.pop().as_deref(), Some("b"));
        assert_eq!(all, expected, "{count}");
        let mut visited = Vec::new();
        let outcome = bus.visit_topics("a.", |slice| {
            assert!(slice.len() <= 256);
            visited.extend(slice.iter().map(Topic::to_string));
            Ok::<(), ()>(())
        });
        assert_eq!((outcome, &visited), (Ok(()), &expected), "{count}");
        assert_eq!(bus.visit_topics("a.", |_| Err("enough")), Err("enough"));
        let page = bus.topics_from(Bound::Excluded("a.0009"), 3);
        let names: Vec<_> = page.iter().map(|state| state.topic.as_str()).collect();
        assert_eq!(names, ["a.0010", "a.0011", "a.0012"]);
    }
}

#[test]
fn what_happens_is_counted() {
    let (bus, _) = bus(1, 2);
    let counts = |bus: &Bus| {
        let events = (bus.received_total(), bus.reserved_kinds_total());
        (events, bus.losses_total(), bus.resyncs_total(), bus.wakeups_total())
    };
    assert_eq!(counts(&bus), ((0, 0), 0, 0, 0));
    bus.attach(&topic("a"), 0);
    bus.inbox(0).notifier().prepare_park();
    publish(&bus, "a", 2);
    assert_eq!(counts(&bus), ((2, 0), 0, 0, 1));
    publish(&bus, "a", 1);
    assert_eq!(counts(&bus), ((3, 0), 0, 1, 1), "the inbox is full, and its reactor awake");
    for kind in ["connected", "error", "order"] {
        bus.feed().publish(&topic("b"), Some(kind), plain("1"), Moment(0)).expect("a good event");
    }
    assert_eq!(bus.received_total(), 6);
    assert_eq!(bus.reserved_kinds_total(), 2, "no transport reserves `order`");
    bus.feed().report_loss(&topic("a"), GapReason::SourceLost, Moment(0));
    assert_eq!(bus.losses_total(), 1);
}

/// What has grown too old is no longer counted, and the rest still is.
#[test]
fn the_bytes_of_logs_are_those_of_what_is_left() {
    let (bus, _) = bus(1, 100);
    let second = |seconds| Moment(0) + Duration::from_secs(seconds);
    for (at, count) in [(0, 5), (200, 2)] {
        (0..count).for_each(|_| _ = bus.feed().publish(&topic("a"), None, plain("1"), second(at)).expect("room"));
    }
    let all = bus.log_bytes();
    bus.sweep(second(301));
    let left = bus.log_bytes();
    assert_eq!((bus.summary(&topic("a"), second(301)).map(|it| it.retained), left * 7), (Some(2), all * 2));
}

/// An end tells the caller that it need not come again, however few there are.
#[test]
fn a_sweep_ends_with_the_last_topic() {
    let (bus, _) = bus(1, 100);
    assert_eq!(bus.sweep_some(None, Moment(0)), None);
    publish(&bus, "a", 1);
    assert_eq!(bus.sweep_some(None, Moment(0)), None);
    (0..256).for_each(|number| publish(&bus, &format!("b.{number:03}"), 1));
    let last = bus.sweep_some(None, Moment(0));
    assert_eq!(last, Some(topic("b.254")), "256 of 257");
    assert_eq!(bus.sweep_some(last.as_ref(), Moment(0)), None);
}

#[test]
fn an_inbox_is_empty_without_messages_of_any_kind() {
    let check = |put: &dyn Fn(&Bus)| {
        let (bus, _) = bus(1, 1);
        assert!(bus.inbox(0).is_empty());
        put(&bus);
        assert!(!bus.inbox(0).is_empty());
    };
    check(&|bus| bus.inbox(0).complete(7, "done"));
    check(&|bus| {
        bus.attach(&topic("a"), 0);
        publish(bus, "a", 1);
    });
    check(&|bus| {
        bus.attach(&topic("a"), 0);
        publish(bus, "a", 2);
        assert!(taken(bus, 0) == [1], "the second one has no room");
    });
}

/// Whoever has got up by itself is woken by nobody.
#[test]
fn an_owner_that_is_awake_is_not_woken() {
    let (bus, wakers) = bus(1, 10);
    bus.attach(&topic("a"), 0);
    let notifier = bus.inbox(0).notifier();
    notifier.prepare_park();
    notifier.unpark();
    publish(&bus, "a", 1);
    assert_eq!(wakers[0].0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_source_refuses_a_topic_until_it_delivers_it() {
    let (bus, _) = bus(1, 10);
    let state = bus.attach(&topic("a"), 0).state;
    assert!(!state.is_refused());
    assert!(!bus.mark_refused(&topic("a")), "nobody was let in early");
    assert!(state.is_refused());
    bus.admit_unconfirmed(&state);
    assert!(bus.mark_refused(&topic("a")), "now somebody was");
    assert!(bus.take_unconfirmed(&topic("a")) && !bus.take_unconfirmed(&topic("a")), "once");
    bus.mark_live(&topic("a"), Moment(0));
    assert!(!state.is_refused());
    bus.admit_unconfirmed(&state);
    assert!(!bus.take_unconfirmed(&topic("a")), "the source had confirmed it");
}

#[test]
fn classes_are_replaced_for_topics_to_come() {
    let (bus, _) = bus(1, 10);
    publish(&bus, "before", 1);
    let count = |count| Bounds { count, bytes: 1 << 20, age: Duration::from_secs(60) };
    let retention = |most| Retention { history: count(most), lag: count(most) };
    let two = Class { retention: retention(2), ..Class::default() };
    let latest = Class { policy: Policy::Latest, key: Some("/k".into()), retention: retention(9), ..Class::default() };
    bus.replace_classes(two, vec![(Pattern::parse("latest.*").expect("a good pattern"), latest)]);
    publish(&bus, "after", 5);
    let retained = |name: &str| bus.summary(&topic(name), Moment(0)).map(|summary| summary.retained);
    assert_eq!(retained("after"), Some(2));
    // The key of an event, for readers that fall behind.
    let key = |kind: Option<&str>, data: &'static str| {
        bus.feed().publish(&topic("latest.a"), kind, plain(data), Moment(0)).expect("a good event");
        let page = bus.history(&topic("latest.a"), Start::Last(1), 1, Moment(0)).expect("it exists");
        page.events[0].key.clone().map(String::from)
    };
    assert_eq!(key(None, r#"{"k":7}"#), Some("7".to_owned()));
    assert_eq!(key(Some("order"), r#"{"j":7}"#), Some("order".to_owned()));
    assert_eq!(key(None, "text"), Some(String::new()));
    publish(&bus, "after", 1);
    let page = bus.history(&topic("after"), Start::Last(1), 1, Moment(0)).expect("it exists");
    assert_eq!(page.events[0].key, None);
}

#[test]
fn hub_commands_go_to_who_executes_them() {
    #[derive(Debug, Default)]
    struct Taken(std::sync::Mutex<Vec<(String, Bytes)>>);
    impl HubCommands for Taken {
        fn take(&self, _: &Topic, kind: Option<&str>, data: Bytes, _: &Bus, _: Moment) {
            self.0.lock().expect("no panic").push((kind.unwrap_or_default().to_owned(), data));
        }
    }
    let (bus, _) = bus(1, 10);
    let all = [Arc::new(Taken::default()), Arc::new(Taken::default())];
    let command = topic(&format!("{HUB_COMMANDS}drain"));
    let send = |kind: &str| assert!(bus.feed().publish(&command, Some(kind), plain("1"), Moment(0)).is_ok());
    send("before");
    for commands in &all {
        bus.add_hub_commands(Arc::clone(commands) as Arc<dyn HubCommands>);
    }
    send("after");
    publish(&bus, "fanfare.other", 1);
    for commands in &all {
        assert_eq!(*commands.0.lock().expect("no panic"), [("after".to_owned(), plain("1"))]);
    }
}

#[test]
fn a_publisher_is_told_what_was_wrong() {
    let all = [
        Refusal::Forbidden,
        Refusal::ReadOnly,
        Refusal::TooFewReplicas,
        Refusal::OutOfMemory,
        Refusal::Elsewhere,
        Refusal::NoStream,
        Refusal::Other,
    ];
    for refusal in all {
        assert!(refusal.text().ends_with("; nothing was published"), "{refusal:?}");
        assert_eq!(all.iter().filter(|other| other.text() == refusal.text()).count(), 1, "{refusal:?}");
    }
    let quota = QuotaRefused { rule: "a", limit: Limit::BytesHeld, retry_after_s: 2 };
    assert_eq!(PublishFailed::from(PublishRefused::Quota(quota)), PublishFailed::Quota(quota));
    assert_eq!(PublishFailed::from(PublishRefused::NoRoom), PublishFailed::NoRoom);
}
