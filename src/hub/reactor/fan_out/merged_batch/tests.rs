use super::*;
use crate::{
    index::SubscriberIndex,
    reactor::tests::{Peer, TestReactor},
};

#[test]
fn a_group_has_a_batch_and_those_apart_have_another() {
    let check = |group: GroupIndex, expected: usize| assert_eq!(index_of(group), expected, "{group}");
    check(GroupIndex::new(0), 0);
    check(GroupIndex::new(3), 3);
    check(GroupIndex::new(BATCHES), 0);
    check(GroupIndex::new(BATCHES + 3), 3);
    check(APART, BATCHES);
}

#[test]
fn a_batch_is_for_those_at_its_cursors() {
    let check = |stands: &[Position], cursors: &[Position], expected: bool| {
        let subscription = |cursor: &Position| {
            let (topic, subscriber) = (TopicIndex::new(0), SubscriberIndex::new(0));
            Subscription { topic, subscriber, cursor: *cursor }
        };
        let subscriptions: Vec<Subscription> = stands.iter().map(subscription).collect();
        assert_eq!(stands_at(&subscriptions, cursors), expected, "{stands:?} {cursors:?}");
    };
    check(&[4, 5], &[4, 5], true);
    check(&[4, 5], &[4, 6], false);
    check(&[4, 5], &[5, 4], false);
    check(&[4, 5], &[4], false);
    check(&[4], &[4, 5], false);
}

#[test]
fn a_batch_is_forgotten_with_its_group() {
    let check = |forgotten: usize, expected: bool| {
        let (mut batches, group) = (MergedBatches::default(), GroupIndex::new(3));
        batches.batches[3].group = group;
        batches.forget(GroupIndex::new(forgotten));
        assert_eq!(batches.batches[3].group == APART, expected, "{forgotten}");
    };
    check(3, true);
    // One that has the same place for its batches.
    check(BATCHES + 3, false);
    check(4, false);
}

/// Topics of which a batch was made are known, each once, and not more than so many.
#[test]
fn a_batch_says_whose_events_it_carries() {
    let check = |count: usize, again: bool, expected: usize| {
        let mut test = TestReactor::new();
        let names: Vec<String> = (0..count).map(|index| format!("t{index}")).collect();
        let topics: Vec<&str> = names.iter().map(String::as_str).collect();
        let slots = [0, 1].map(|_| test.open_sse(&topics).0);
        topics.iter().for_each(|topic| test.publish(topic, "1"));
        test.reactor.take_inbox();
        slots.iter().take(1 + usize::from(again)).for_each(|slot| {
            // Another version, so that the batch is made once more.
            test.reactor.fan_out.frame_batches.batches.note_news();
            test.reactor.flush(*slot);
        });
        assert_eq!(
            test.reactor.fan_out.frame_batches.batches.carried.len(),
            expected,
            "{count} topics, again: {again}"
        );
    };
    check(2, false, 2);
    check(2, true, 2);
    check(CARRIED_MAX, false, CARRIED_MAX);
    check(CARRIED_MAX + 1, false, CARRIED_MAX);
}

/// A stream over two topics, and news of both: three events.
fn two_topics() -> (TestReactor, crate::index::Slot, Peer) {
    let mut test = TestReactor::new();
    let (slot, peer) = test.open_sse(&["skip.a", "latest.b"]);
    test.publish("skip.a", "one");
    test.publish("latest.b", "two");
    test.publish("skip.a", "three");
    (test, slot, peer)
}

/// However little room there is at first, all bytes come, in order and once, and each event is counted as delivered.
#[test]
fn a_short_write_loses_nothing() {
    let (mut test, _, peer) = two_topics();
    test.work();
    let whole = peer.take();
    let deliveries = |test: &TestReactor| {
        let totals = test.hub.metrics.totals(crate::metrics::Transport::Sse);
        (totals.deliveries, totals.delivered_bytes as usize)
    };
    assert_eq!(deliveries(&test), (3, whole.len()));
    let lead_bytes = whole.find("data").expect("it has data");
    let mut finished = [0; 2];
    for cut in 0..whole.len() {
        let (mut test, slot, peer) = two_topics();
        peer.make_room(cut);
        test.work();
        assert_eq!(peer.lock().to_client.len(), cut);
        let connection = test.connection(slot);
        finished[0] += usize::from(connection.unfinished.is_some());
        finished[1] += usize::from(!connection.outbox.is_empty());
        assert_eq!(connection.owed_bytes() == 0, connection.unfinished.is_none() && connection.outbox.is_empty());
        peer.make_room(usize::MAX);
        test.work();
        assert_eq!(peer.take(), whole, "cut at {cut}");
        // The id ahead of a frame that its connection finishes by itself is not counted.
        let (events, bytes) = deliveries(&test);
        assert!(events == 3 && (whole.len() - lead_bytes..=whole.len()).contains(&bytes), "cut at {cut}: {bytes}");
        assert_eq!(test.figure("fanfare_conflated_total"), 0, "cut at {cut}");
    }
    assert!(3 * 10 < finished[0], "most often what is left is of a shared frame: {finished:?}");
    assert!(3 * 10 < finished[1], "and else it is copied: {finished:?}");
}
