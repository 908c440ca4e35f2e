use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::{clock::Moment, log::Start, topic::Topic};

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn bus(reactors: usize, inbox_events_max: usize) -> (Bus, Vec<Arc<Counting>>) {
    let wakers: Vec<Arc<Counting>> = (0..reactors).map(|_| Arc::default()).collect();
    let inboxes = wakers
        .iter()
        .map(|waker| Inbox::new(inbox_events_max, Arc::new(Doorbell::new(Arc::clone(waker) as Arc<dyn Wake>))))
        .collect();
    let config = Config {
        reactors,
        epoch_ms: 1000,
        payload_bytes_max: 100,
        ..Config::default()
    };
    (Bus::new(config, inboxes, Outlets::default()), wakers)
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

fn mail(bus: &Bus, reactor: usize) -> Vec<u64> {
    std::iter::from_fn(|| bus.inbox(reactor).next_mail()).map(|mail| mail.event.position).collect()
}

#[test]
fn only_the_interested_get_mail_and_one_wake() {
    let (bus, wakers) = bus(3, 100);
    bus.attach(&topic("a"), 0);
    bus.attach(&topic("a"), 2);
    (0..3).for_each(|reactor| bus.inbox(reactor).doorbell().lie_down());
    publish(&bus, "a", 5);
    publish(&bus, "a", 1);
    assert_eq!(mail(&bus, 0), [1, 2, 3, 4, 5, 6]);
    assert!(mail(&bus, 1).is_empty());
    assert_eq!(mail(&bus, 2), [1, 2, 3, 4, 5, 6]);
    let wakes: Vec<usize> = wakers.iter().map(|waker| waker.0.load(Ordering::Relaxed)).collect();
    assert_eq!(wakes, [1, 0, 1], "once per sleep");
}

#[test]
fn attach_joins_history_and_mail_without_gap_or_duplicate() {
    let (bus, _) = bus(1, 100);
    publish(&bus, "a", 3);
    let attachment = bus.attach(&topic("a"), 0);
    publish(&bus, "a", 2);
    let history: Vec<u64> = attachment.events.iter().map(|event| event.position).collect();
    assert_eq!((history, attachment.next, mail(&bus, 0)), (vec![1, 2, 3], 4, vec![4, 5]));
}

#[test]
fn a_full_inbox_becomes_a_resync() {
    let (bus, _) = bus(1, 4);
    let attachment = bus.attach(&topic("a"), 0);
    publish(&bus, "a", 10);
    assert_eq!(mail(&bus, 0), [1, 2, 3, 4]);
    publish(&bus, "a", 1);
    assert!(mail(&bus, 0).is_empty(), "nothing past the hole");
    let marked = bus.inbox(0).take_resync();
    assert_eq!(marked.len(), 1, "marked once");
    let missed: Vec<u64> = bus.resync(&attachment.state, 0, 5).iter().map(|event| event.position).collect();
    assert_eq!(missed, [5, 6, 7, 8, 9, 10, 11]);
    publish(&bus, "a", 1);
    assert_eq!(mail(&bus, 0), [12], "mail goes on");
}

#[test]
fn interest_is_told_at_first_and_last() {
    let (bus, _) = bus(2, 10);
    bus.attach(&topic("old"), 0);
    let (changes, told) = crossbeam_channel::unbounded();
    bus.watch_interest(changes, Arc::new(Counting::default()));
    let first = bus.attach(&topic("a"), 0);
    bus.attach(&topic("a"), 1);
    assert!(!first.live);
    bus.detach(&first.state, 0);
    bus.detach(&first.state, 0);
    bus.detach(&first.state, 1);
    let told: Vec<Interest> = told.try_iter().collect();
    assert_eq!(told, [Interest::Wanted(topic("old")), Interest::Wanted(topic("a")), Interest::Unwanted(topic("a"))]);
}

#[test]
fn a_confirmed_topic_is_told_to_the_interested() {
    let (bus, _) = bus(2, 10);
    let (changes, _told) = crossbeam_channel::unbounded();
    bus.watch_interest(changes, Arc::new(Counting::default()));
    let attachment = bus.attach(&topic("a"), 1);
    bus.mark_live(&topic("a"));
    assert!(bus.inbox(0).next_note().is_none());
    assert!(matches!(bus.inbox(1).next_note(), Some(Note::Live(key)) if key == attachment.state.key));
    assert!(bus.attach(&topic("a"), 0).live);
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
    assert_eq!(
        bus.summary(&topic("a"), Moment(0)).map(|summary| summary.retained),
        Some(2),
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
        .iter()
        .map(|event| event.id.minor)
        .collect();
    assert_eq!(ids, [4]);
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
            let attachment = bus.attach(&topic("a"), 1);
            let from_history = attachment.events.last().map_or(0, |event| event.position);
            assert_eq!(attachment.next, from_history + 1);
        });
    });
    let first = mail(&bus, 0);
    assert_eq!(first, (1..=4000).collect::<Vec<_>>());
    let second = mail(&bus, 1);
    assert_eq!(second, first[first.len() - second.len()..]);
}
