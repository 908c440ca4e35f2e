mod figures;
mod follower;
mod sources;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::{
    clock::Moment,
    event::{EventId, Start, new_epoch},
    gap::{Gap, GapReason},
    share::{Account, HeldLimits, Limit, Owner},
    tests::{FormKind, check_forms},
    topic::{Pattern, Topic},
};

/// A default source without an event sink.
const SOURCE: SourceName = SourceName("test");

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn bus(reactors: usize, inbox_events_max: usize) -> (Bus, Vec<Arc<Counting>>) {
    bus_within(reactors, inbox_events_max, Arc::new(Budget::unlimited()))
}

fn bus_within(reactors: usize, inbox_events_max: usize, budget: Arc<Budget>) -> (Bus, Vec<Arc<Counting>>) {
    let wakers: Vec<Arc<Counting>> = (0..reactors).map(|_| Arc::default()).collect();
    let inboxes = wakers
        .iter()
        .map(|waker| Inbox::new(inbox_events_max, Arc::new(Notifier::new(Arc::clone(waker) as Arc<dyn Wake>))))
        .collect();
    let config = Config { reactors, epoch: 1000, payload_bytes_max: 100, budget, ..Config::default() };
    let source = SourcePort { name: SOURCE, is_default: true, sink: None, log: None };
    (Bus::new(config, inboxes, vec![source]), wakers)
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}

fn publish(bus: &Bus, name: &str, count: usize) {
    let mut feed = bus.feed();
    for number in 0..count {
        feed.publish(&topic(name), None, Bytes::from(number.to_string()), Moment(0)).expect("a good event");
    }
}

fn taken(bus: &Bus, reactor: usize) -> Vec<u64> {
    std::iter::from_fn(|| bus.inbox(reactor).next_event()).map(|message| message.event.position).collect()
}

#[test]
fn only_the_interested_get_mail_and_one_wake() {
    let (bus, wakers) = bus(3, 100);
    bus.attach(&topic("a"), 0);
    bus.attach(&topic("a"), 2);
    (0..3).for_each(|reactor| bus.inbox(reactor).notifier().prepare_park());
    publish(&bus, "a", 5);
    publish(&bus, "a", 1);
    assert_eq!(taken(&bus, 0), [1, 2, 3, 4, 5, 6]);
    assert!(taken(&bus, 1).is_empty());
    assert_eq!(taken(&bus, 2), [1, 2, 3, 4, 5, 6]);
    let wakes: Vec<usize> = wakers.iter().map(|waker| waker.0.load(Ordering::Relaxed)).collect();
    assert_eq!(wakes, [1, 0, 1], "once per sleep");
}

#[test]
fn attach_joins_history_and_mail_without_gap_or_duplicate() {
    let (bus, _) = bus(1, 100);
    publish(&bus, "a", 3);
    let snapshot = bus.attach(&topic("a"), 0);
    publish(&bus, "a", 2);
    let history: Vec<u64> = snapshot.events.iter().map(|event| event.position).collect();
    assert_eq!((history, snapshot.next, taken(&bus, 0)), (vec![1, 2, 3], 4, vec![4, 5]));
}

#[test]
fn a_full_inbox_becomes_a_resync() {
    let (bus, _) = bus(1, 4);
    let snapshot = bus.attach(&topic("a"), 0);
    publish(&bus, "a", 10);
    assert_eq!(taken(&bus, 0), [1, 2, 3, 4]);
    publish(&bus, "a", 1);
    assert!(taken(&bus, 0).is_empty(), "nothing past the hole");
    let marked = bus.inbox(0).take_resync();
    assert_eq!(marked.len(), 1, "marked once");
    let missed = bus.resync(&snapshot.state, 0, 5);
    let missed: Vec<u64> = missed.events.iter().map(|event| event.position).collect();
    assert_eq!(missed, [5, 6, 7, 8, 9, 10, 11]);
    publish(&bus, "a", 1);
    assert_eq!(taken(&bus, 0), [12], "events go on");
}

#[test]
fn refusals() {
    let (bus, _) = bus(1, 10);
    let check = |kind: Option<&str>, data: &'static [u8], expected: Option<PublishRefused>| {
        let outcome = bus.feed().publish(&topic("a"), kind, Bytes::from_static(data), Moment(0));
        assert_eq!(outcome.err(), expected);
    };
    check(None, b"fine", None);
    check(Some("kind"), "gr\u{fc}n".as_bytes(), None);
    check(None, b"\xff", Some(PublishRefused::NotUtf8));
    check(None, &[b'x'; 101], Some(PublishRefused::TooBig));
    check(Some("a\nb"), b"fine", Some(PublishRefused::BadKind));
    check(Some("gap"), b"fine", None);
    assert_eq!(
        bus.summary(&topic("a"), Moment(0)).map(|summary| summary.retained),
        Some(3),
        "refused events leave no trace"
    );
}

#[test]
fn a_topic_that_comes_back_goes_on_counting() {
    let (bus, _) = bus(1, 10);
    publish(&bus, "a", 3);
    bus.sweep(Moment(0) + Duration::from_secs(1000));
    assert!(bus.summary(&topic("a"), Moment(0)).is_none());
    publish(&bus, "a", 1);
    let ids: Vec<u64> = bus
        .history(&topic("a"), Start::First, 9, Moment(0))
        .expect("it is back")
        .events
        .iter()
        .map(|event| event.id.minor)
        .collect();
    assert_eq!(ids, [4]);
}

fn shown(bus: &Bus, name: &str, start: Start) -> Vec<String> {
    let page = bus.history(&topic(name), start, 99, Moment(0)).expect("it exists");
    let gap = page.gap.map(|gap| format!("[{} {} {}]", gap.from, gap.to, gap.reason));
    let show = |event: &Arc<crate::event::Event>| match event.gap {
        Some(gap) => format!("{}: {} {} {}", event.id, gap.from, gap.to, gap.reason),
        None => format!("{}: {}", event.id, event.payload_text()),
    };
    gap.into_iter().chain(page.events.iter().map(show)).collect()
}

#[test]
fn a_loss_stands_in_the_log_once_and_in_order() {
    let (bus, _) = bus(1, 10);
    bus.attach(&topic("a"), 0);
    publish(&bus, "a", 1);
    let lose_at = |now, reason| bus.feed().report_loss(&topic("a"), reason, Moment(now));
    lose_at(0, GapReason::SourceLost);
    lose_at(0, GapReason::SourceLost);
    publish(&bus, "a", 1);
    lose_at(0, GapReason::Overflow);
    assert_eq!(
        shown(&bus, "a", Start::First),
        ["1000-1: 0", "1000-2: 1000-1 1000-2 source_lost", "1000-3: 0", "1000-4: 1000-3 1000-4 overflow"]
    );
    assert_eq!(taken(&bus, 0), [1, 2, 3, 4]);
    assert_eq!(shown(&bus, "a", Start::After(EventId::new(9, 3)))[0], "[9-3 1000-0 epoch]");
    // Readers that came after the first loss get a gap for the second. While there is no room, one gap stands for all that
    // follow.
    lose_at(1, GapReason::SourceLost);
    lose_at(2, GapReason::SourceLost);
    assert_eq!(taken(&bus, 0), [5, 6]);
    (3..9).for_each(|now| lose_at(now, GapReason::Overflow));
    assert_eq!(taken(&bus, 0), [7]);
    publish(&bus, "a", 1);
    let tail = ["1000-8: 1000-7 1000-8 overflow", "1000-9: 0"];
    assert_eq!(shown(&bus, "a", Start::Last(2)), tail);
    (10..19).for_each(|now| lose_at(now, GapReason::Overflow));
    bus.sweep(Moment(19));
    bus.sweep(Moment(20));
    assert_eq!(taken(&bus, 0), [8, 9, 10, 11], "one at once, one for the rest when there is time");
    // An event whose payload is shared comes behind them as well.
    (20..29).for_each(|now| lose_at(now, GapReason::Overflow));
    let shared = bus.share(Bytes::from_static(b"x"), None).expect("room");
    assert!(bus.feed().publish_shared(&topic("a"), "k", &shared, "", Moment(29)).is_ok_and(|id| id.is_some()));
    let tail = ["1000-12: 1000-11 1000-12 overflow", "1000-13: x"];
    assert_eq!(shown(&bus, "a", Start::Last(2)), tail);
}

/// Readers of a topic that exists learn of what was lost for want of room. The gap entry may exceed the budget, and is charged.
#[test]
fn a_loss_for_want_of_room_is_reported_and_charged() {
    let budget = Arc::new(Budget::new(100_000));
    let (bus, _) = bus_within(1, 10, Arc::clone(&budget));
    publish(&bus, "a", 1);
    let rest = budget.try_charge(100_000 - budget.used()).expect("all that is left");
    bus.feed().report_loss(&topic("a"), GapReason::Overflow, Moment(0));
    let entry_bytes = budget.used() - 100_000;
    assert!((100..1000).contains(&entry_bytes), "{entry_bytes}");
    let log = ["1000-1: 0", "1000-2: 1000-1 1000-2 overflow"];
    assert_eq!(shown(&bus, "a", Start::First), log);
    drop(rest);
}

#[test]
fn a_broker_gives_the_ids() {
    let class = Class { log: LogKind::Broker, ..Class::default() };
    let bus = Bus::new(Config { default_class: class, ..Config::default() }, vec![], Vec::new());
    let id = |major, minor| EventId::new(major, minor);
    let feed = |id, data: &'static str| {
        bus.feed().publish_as(&topic("a"), id, None, Bytes::from_static(data.as_bytes()), Moment(0))
    };
    bus.begin_log(&topic("a"), id(2000, 5));
    assert_eq!(feed(id(2000, 6), "x"), Ok(true));
    assert_eq!(feed(id(2000, 6), "x"), Ok(false));
    assert_eq!(feed(id(2007, 0), "y"), Ok(true));
    let gap = Gap { from: id(2007, 0), to: id(2009, 3), reason: GapReason::Expired };
    bus.feed().report_gap(&topic("a"), gap, Moment(0));
    bus.feed().report_gap(&topic("a"), gap, Moment(0));
    assert_eq!(
        shown(&bus, "a", Start::After(id(2000, 5))),
        ["2000-6: x", "2007-0: y", "2009-3: 2007-0 2009-3 expired"]
    );
    bus.feed().restart_log(&topic("a"), id(7, 7), Moment(0));
    assert_eq!(feed(id(8, 0), "z"), Ok(true));
    let shown = shown(&bus, "a", Start::First);
    assert_eq!(shown, ["[0-0 7-6 expired]", "7-7: 2009-3 7-7 epoch", "8-0: z"]);
}

#[test]
fn a_repeat_under_the_same_key_delivers_nothing() {
    let (bus, _) = bus(1, 10);
    let once = |key: &str, name: &str| {
        bus.feed()
            .publish_once(key, &topic(name), None, Bytes::from_static(b"x"), Moment(0))
            .expect("a good event")
            .minor
    };
    assert_eq!([once("k", "a"), once("k", "a"), once("l", "a"), once("k", "b"), once("k", "a")], [1, 1, 2, 1, 1]);
}

#[test]
fn what_was_lost_on_those_let_in_early_is_told() {
    let (bus, _) = bus(1, 10);
    let (changes, _told) = crossbeam_channel::unbounded();
    bus.watch_interest(SOURCE, changes, Arc::new(Counting::default()));
    let snapshot = bus.attach(&topic("a"), 0);
    bus.admit_unconfirmed(&snapshot.state);
    bus.mark_live(&topic("a"), Moment(0));
    bus.mark_live(&topic("a"), Moment(0));
    assert_eq!(shown(&bus, "a", Start::First), ["1000-1: 1000-0 1000-1 source_lost"]);
}

#[test]
fn a_shared_payload_is_charged_once_until_the_last_of_its_events_is_gone() {
    let budget = Arc::new(Budget::new(1 << 20));
    let (bus, _) = bus_within(1, 10, Arc::clone(&budget));
    let shared = bus.share(Bytes::from(vec![b'x'; 100_000]), None).expect("room");
    let one = budget.used();
    (0..300).for_each(|number| {
        let (topic, tail) = (topic(&format!("t.{number}")), number.to_string());
        bus.feed().publish_shared(&topic, "kind", &shared, &tail, Moment(0)).expect("room");
    });
    drop(shared);
    let own = (budget.used() - one) / 300;
    assert!(one == 100_000 && (100..1500).contains(&own), "{one} {own}");
    let page = bus.history(&topic("t.299"), Start::First, 9, Moment(0)).expect("it exists");
    let event = &page.events[0];
    assert_eq!((event.payload().len(), event.payload_text().ends_with("x299")), (100_003, true));
    assert!(100_000 < event.weight_bytes(), "a log's bounds count all of it");
    drop(page);
    bus.sweep(Moment(0) + Duration::from_secs(1000));
    assert_eq!(budget.used(), 0);
}

/// A broadcast comes past the broker: where the broker's events do not arrive, a reader must see that something is missing.
#[test]
fn a_log_that_its_source_does_not_feed_takes_no_event_past_the_source() {
    let source = SourcePort { name: SOURCE, is_default: true, sink: Some(Box::new(Nowhere)), log: None };
    let bus = Bus::new(Config { epoch: 1000, ..Config::default() }, vec![], vec![source]);
    let (changes, _told) = crossbeam_channel::unbounded();
    bus.watch_interest(SOURCE, changes, Arc::new(Counting::default()));
    let shared = bus.share(Bytes::from_static(b"x"), None).expect("room");
    let send = |name: &str| bus.feed().publish_shared(&topic(name), "k", &shared, "", Moment(9)).expect("room");
    assert_eq!(send("a"), None, "nobody can have anything of it");
    bus.mark_live(&topic("a"), Moment(0));
    assert!(send("a").is_some());
    bus.mark_stale(&topic("a"));
    assert!(send("a").is_some(), "a pattern may feed it, and nothing is missing");
    bus.feed().report_loss(&topic("a"), GapReason::SourceLost, Moment(1));
    assert_eq!(send("a"), None);
    let expected = ["1000-1: x", "1000-2: x", "1000-3: 1000-2 1000-3 source_lost", "1000-4: 1000-3 1000-4 source_lost"];
    assert_eq!(shown(&bus, "a", Start::First), expected);
}

#[derive(Debug)]
struct Nowhere;

impl EventSink for Nowhere {
    fn publish(&self, _: Publication) {}
}

/// Epochs are greater than all ids of Redis: after an id of the hub's own, no entry of the stream would be newer.
#[test]
fn a_brokers_log_takes_no_id_of_the_hubs_own() {
    let class = Class { log: LogKind::Broker, ..Class::default() };
    let config =
        Config { epoch: new_epoch(Duration::from_secs(1_795_233_070), 7), default_class: class, ..Config::default() };
    let bus = Bus::new(config, vec![], Vec::new());
    let id = |minor| EventId::new(1_795_233_070_552, minor);
    let feed = |id| bus.feed().publish_as(&topic("a"), id, None, Bytes::from_static(b"x"), Moment(0));
    assert!(!bus.feed().gives_ids(&topic("a")));
    assert_eq!(feed(id(0)), Ok(true));
    bus.feed().report_loss(&topic("a"), GapReason::SourceLost, Moment(1));
    assert_eq!((feed(id(1)), bus.newest_id(&topic("a")), bus.losses_total()), (Ok(true), id(1), 0));
}

/// Also in one batch, whatever topic the last event was of.
#[test]
fn each_topic_has_the_ids_of_its_class() {
    let pattern = Pattern::parse("kept.*").expect("a good pattern");
    let classes = vec![(pattern, Class { log: LogKind::Broker, ..Class::default() })];
    let bus = Bus::new(Config { classes, ..Config::default() }, vec![], Vec::new());
    let (own, kept) = (topic("own"), topic("kept.a"));
    let mut feed = bus.feed();
    for _ in 0..2 {
        assert_eq!((feed.gives_ids(&own), feed.gives_ids(&kept)), (true, false));
        feed.publish(&own, None, Bytes::from_static(b"x"), Moment(0)).expect("room");
    }
    let id = EventId::new(7, 1);
    feed.publish_as(&kept, id, None, Bytes::from_static(b"x"), Moment(0)).expect("room");
    assert_eq!((feed.gives_ids(&own), feed.gives_ids(&kept)), (true, false));
}

#[test]
fn a_brokers_log_that_was_not_loaded_joins_on_to_nothing_older() {
    let id = |minor| EventId::new(5, minor);
    let gap = Gap { from: id(7), to: id(8), reason: GapReason::Expired };
    let check = |feed: fn(&mut Feed<'_>, &Topic, Gap), expected: EventId| {
        let class = Class { log: LogKind::Broker, ..Class::default() };
        let config = Config { default_class: class, ..Config::default() };
        let bus = Bus::new(config, vec![], Vec::new());
        feed(&mut bus.feed(), &topic("a"), gap);
        let gap_after = |id| bus.history(&topic("a"), Start::After(id), 9, Moment(0)).and_then(|page| page.gap);
        assert_eq!(gap_after(id(3)).map(|gap| gap.to), Some(expected));
        assert_eq!(gap_after(expected), None);
    };
    check(|feed, topic, gap| feed.report_gap(topic, gap, Moment(0)), id(7));
    let publish = |feed: &mut Feed<'_>, topic: &Topic, gap: Gap| {
        let is_new = feed.publish_as(topic, gap.to, None, Bytes::new(), Moment(0));
        assert_eq!(is_new, Ok(true));
    };
    check(publish, id(7));
}

#[test]
fn a_spent_budget_shortens_logs_and_then_refuses() {
    let budget = Arc::new(Budget::new(60_000));
    let (bus, _) = bus_within(1, 10, Arc::clone(&budget));
    let data = Bytes::from(vec![b'x'; 100]);
    let publish = |name: &str| bus.feed().publish(&topic(name), None, data.clone(), Moment(0));
    assert!((0..1000).all(|_| publish("a").is_ok()), "the log shortens instead");
    assert!(!budget.is_spent());
    let retained = bus.summary(&topic("a"), Moment(0)).expect("it exists").retained;
    assert!((1..100).contains(&retained), "{retained}");
    let refused = (0..1000).find_map(|number| publish(&format!("other.{number}")).err());
    assert_eq!(refused, Some(PublishRefused::NoRoom));
    assert!(budget.used() <= 60_000);
    bus.sweep(Moment(0) + Duration::from_secs(31));
    assert!(publish("a").is_ok(), "what was kept for the slow has grown old");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let budget = Arc::new(Budget::new(100_000));
    let (bus, _) = bus_within(1, 10, Arc::clone(&budget));
    publish(&bus, "a", 1);
    let fresh = |name: &str| bus.feed().publish(&topic(name), None, Bytes::from_static(b"x"), Moment(0));
    let first = fresh("lost").expect("there is room");
    bus.sweep(Moment(0) + Duration::from_secs(301));
    let rest = budget.try_charge(100_000 - budget.used()).expect("all that is left");
    let (topics, held) = (bus.topic_count(), budget.used());
    (0..100).for_each(|number| {
        assert_eq!(fresh(&format!("fresh.{number}")), Err(PublishRefused::NoRoom));
        let (name, id) = (topic(&format!("stream.{number}")), EventId::new(7, 1));
        assert_eq!(bus.feed().publish_as(&name, id, None, Bytes::new(), Moment(0)), Err(PublishRefused::NoRoom));
        assert!(bus.try_attach(&topic(&format!("listened.{number}")), 0, None).is_err());
        bus.feed().report_loss(&topic(&format!("lost.{number}")), GapReason::Overflow, Moment(0));
    });
    bus.feed().report_loss(&topic("lost"), GapReason::Overflow, Moment(0));
    assert_eq!((bus.topic_count(), budget.used()), (topics, held));
    drop(rest);
    // No reader is there for the gap; one that comes back gets it.
    assert_eq!(fresh("lost").map(|id| id.minor), Ok(first.minor + 2));
    assert_eq!(shown(&bus, "lost", Start::After(first))[0], format!("[{first} 1000-2 expired]"));
}

#[test]
fn what_a_tenant_holds_is_its_own_and_comes_back() {
    let budget = Arc::new(Budget::unlimited());
    let (bus, _) = bus_within(1, 10, Arc::clone(&budget));
    let account = Arc::new(Account::new("narrow", HeldLimits { bytes: 60_000, topics: 3, connections: usize::MAX }));
    let owner = Arc::new(Owner::new([Arc::clone(&account)]));
    let publish_for = |owner: Option<&Arc<Owner>>, name: &str| {
        let mut feed = bus.feed();
        feed.hold_for(owner.cloned());
        feed.publish(&topic(name), None, Bytes::from_static(&[b'x'; 100]), Moment(0)).map(drop)
    };
    (0..1000).for_each(|_| publish_for(None, "other").expect("nothing bounds it"));
    (0..1000).for_each(|_| publish_for(Some(&owner), "a").expect("its log shortens instead"));
    assert_eq!(bus.summary(&topic("other"), Moment(0)).map(|it| it.retained), Some(1000), "others keep theirs");
    assert!(bus.summary(&topic("a"), Moment(0)).is_some_and(|it| it.retained < 200));
    let refused = |outcome| match outcome {
        Err(PublishRefused::Quota(refused)) => Some((refused.rule, refused.limit)),
        _ => None,
    };
    ["b", "c"].into_iter().for_each(|name| publish_for(Some(&owner), name).expect("three topics are allowed"));
    assert_eq!(refused(publish_for(Some(&owner), "d")), Some(("narrow", Limit::TopicsHeld)));
    assert!(bus.try_attach(&topic("e"), 0, Some(&owner)).is_err());
    assert_eq!(
        refused((0..1000).find_map(|_| publish_for(Some(&owner), "b").err()).map_or(Ok(()), Err)),
        Some(("narrow", Limit::BytesHeld))
    );
    publish_for(None, "b").expect("only the tenant's share is spent");
    bus.sweep(Moment(0) + Duration::from_secs(1000));
    assert!(account.is_empty() && bus.topic_count() == 0, "{account:?}");
}

#[test]
fn topics_are_charged_and_their_logs_counted() {
    let budget = Arc::new(Budget::unlimited());
    let (bus, _) = bus_within(1, 10, Arc::clone(&budget));
    let snapshot = bus.attach(&topic("a"), 0);
    let of_topic = budget.used();
    assert!(400 < of_topic, "{of_topic}");
    (0..1000).for_each(|number| drop(bus.attach(&topic(&format!("b.{number}")), 0)));
    assert!(1000 * of_topic <= budget.used());
    publish(&bus, "a", 300);
    let retained: usize = bus.summaries(Moment(0)).iter().map(|summary| summary.retained_bytes).sum();
    assert_eq!((bus.topic_count(), bus.log_bytes()), (1001, retained));
    assert!(bus.topics().map(|state| state.topic.clone()).is_sorted(), "in the order of their names");
    bus.detach(&snapshot.state, 0);
    (0..1000).for_each(|number| bus.detach(&bus.attach(&topic(&format!("b.{number}")), 0).state, 0));
    drop((snapshot, taken(&bus, 0), bus.inbox(0).take_resync()));
    bus.sweep(Moment(0) + Duration::from_secs(1000));
    assert_eq!((bus.topic_count(), bus.log_bytes(), budget.used()), (0, 0, 0));
}

#[test]
fn concurrent_publishers_and_listeners_agree_on_one_order() {
    let (bus, _) = bus(2, 100_000);
    bus.attach(&topic("a"), 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| publish(&bus, "a", 2)));
        }
        scope.spawn(|| {
            let snapshot = bus.attach(&topic("a"), 1);
            let from_history = snapshot.events.last().map_or(0, |event| event.position);
            assert_eq!(snapshot.next, from_history + 1);
        });
    });
    let first = taken(&bus, 0);
    assert_eq!(first, (1..=4000).collect::<Vec<_>>());
    let second = taken(&bus, 1);
    assert_eq!(second, first[first.len() - second.len()..]);
}

/// A bridge and the hubs that it tells may be of several releases.
#[test]
fn the_form_of_the_command_that_reports_losses_is_kept() {
    let read = |parts: &[Vec<u8>]| {
        let (bus, _) = bus(1, 100);
        for name in ["a.1", "a.1.2", "b", "c"] {
            bus.attach(&topic(name), 0);
            publish(&bus, name, 2);
        }
        let command = topic(std::str::from_utf8(&parts[0]).expect("text"));
        bus.feed().publish(&command, None, Bytes::from(parts[1].clone()), Moment(5)).expect("commands are taken");
        let events = std::iter::from_fn(|| bus.inbox(0).next_event()).filter(|message| message.event.gap.is_some());
        let topics: Vec<String> = events.map(|message| message.event.topic.to_string()).collect();
        format!("of a.1, a.1.2, b and c there may be losses in {}", topics.join(" and "))
    };
    let command = vec![losses_topic().as_str().into(), losses_payload(["a.*", "c"]).to_vec()];
    check_forms(&FormKind { name: "losses", written: vec![("losses", command)], read: &read, extend: None });
}

#[test]
fn a_command_reports_losses_of_the_topics_there_are() {
    let (bus, _) = bus(1, 100);
    for name in ["a.1", "a.1.2", "b"] {
        bus.attach(&topic(name), 0);
        publish(&bus, name, 2);
    }
    let command = |payload: Bytes| {
        bus.feed().publish(&losses_topic(), None, payload, Moment(5)).expect("commands are taken");
        let events = std::iter::from_fn(|| bus.inbox(0).next_event());
        events
            .filter(|message| message.event.gap.is_some())
            .map(|message| message.event.topic.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(command(losses_payload(["a.*", "c"])), ["a.1"]);
    assert_eq!(
        command(losses_payload(["a.**", "b"])),
        ["a.1.2", "b"],
        "of two reports at one moment one stands for both"
    );
    for nothing in [&b"nonsense"[..], b"{}", b"[1]", b"[\"a..b\"]"] {
        assert_eq!(command(Bytes::from_static(nothing)), [""; 0]);
    }
    assert_eq!(bus.topic_count(), 3);
}
