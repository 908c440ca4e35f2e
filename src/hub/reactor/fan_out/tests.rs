use std::io;

use super::*;
use crate::{
    event::EventId,
    metrics::Transport,
    reactor::{
        state::{BEHIND, BLOCKED, FROM_HISTORY},
        tests::{Peer, TestReactor},
    },
};

/// Streams over `topics`.
fn open_streams(test: &mut TestReactor, count: usize, topics: &[&str]) -> Vec<Peer> {
    (0..count).map(|_| test.open_sse(topics).1).collect()
}

/// How many of `peers` have been written to since the last time.
fn count_written(peers: &[Peer]) -> usize {
    peers.iter().filter(|peer| !peer.take().is_empty()).count()
}

/// How many connections are written to in each of the next turns: those to the topic `skip.a` and those to `skip.b`, or to both. A turn
/// has a slice of 256 visits for fresh news, and one for a round that is under way; both are cut short after half a millisecond.
#[test]
fn a_turn_has_two_slices() {
    let check = |counts: [usize; 3], write_us: u64, look_us: u64, expected: &[usize]| {
        let mut test = TestReactor::new();
        let [first, second, both] = counts;
        let mut peers = open_streams(&mut test, first, &["skip.a"]);
        peers.extend(open_streams(&mut test, second, &["skip.b"]));
        peers.extend(open_streams(&mut test, both, &["skip.a", "skip.b"]));
        if 0 < first + both {
            test.publish("skip.a", "1");
        }
        if 0 < second {
            test.publish("skip.b", "1");
        }
        test.clock.write_time.set(Duration::from_micros(write_us));
        test.clock.look_time.set(Duration::from_micros(look_us));
        let mut found = Vec::new();
        for _ in expected {
            test.turn();
            found.push(count_written(&peers));
        }
        assert_eq!(found, expected, "{counts:?}, {write_us} and {look_us} microseconds");
    };
    check([600, 0, 0], 0, 0, &[512, 88, 0]);
    check([0, 0, 600], 0, 0, &[512, 88, 0]);
    // What the first topic leaves of the slice is the second one's.
    check([200, 400, 0], 0, 0, &[512, 88, 0]);
    // Nothing is left: the second one is fresh in the next turn, and goes on in the same.
    check([300, 300, 0], 0, 0, &[300, 300, 0]);
    // The clock is looked at after sixteen visits.
    check([100, 0, 0], 100, 0, &[32, 16, 16, 16, 16, 4]);
    check([0, 0, 100], 100, 0, &[32, 16, 16, 16, 16, 4]);
    // The time is over when the first topic is done.
    check([1, 1, 0], 500, 0, &[1, 1, 0]);
    check([1, 1, 0], 499, 0, &[2, 0]);
    // However late it is, a slice visits somebody.
    check([40, 0, 0], 0, 600, &[32, 8, 0]);
}

/// A lap that finds nobody to write to takes time all the same.
#[test]
fn a_slice_that_only_looks_ends_too() {
    let mut test = TestReactor::new();
    let peers = open_streams(&mut test, 100, &["skip.a", "skip.b"]);
    test.publish("skip.a", "1");
    test.publish("skip.b", "1");
    test.turn();
    assert_eq!(count_written(&peers), 100, "the lap of one topic brings the other's news, too");
    assert!(test.topic("skip.b").completed == test.topic("skip.b").ring.next(), "and both laps are over");
    test.publish("skip.a", "2");
    test.reactor.take_inbox();
    let slots = test.reactor.connections.used();
    slots.iter().for_each(|slot| test.reactor.flush(*slot));
    assert_eq!(count_written(&peers), 100, "they have it before the lap");
    test.clock.look_time.set(Duration::from_micros(300));
    test.reactor.now = test.clock.now();
    test.reactor.run_laps();
    assert!(test.topic("skip.a").subscribers.is_pending(), "one slice is not enough");
}

/// What becomes of a connection whose peer cannot be written to: in a lap, over one topic or over two, and when its own bytes are written.
#[test]
fn a_write_that_fails_ends_a_connection_or_blocks_it() {
    let check = |topics: &[&str], is_own: bool, error: io::ErrorKind, expected: bool| {
        let mut test = TestReactor::new();
        let (slot, peer) = test.open_sse(topics);
        peer.lock().error = Some(error);
        if is_own {
            test.connection(slot).outbox.put(b":\n");
            test.reactor.mark_dirty(slot);
        } else {
            test.publish(topics[0], "1");
        }
        test.turn();
        let is_blocked =
            test.reactor.connections.at(slot).is_some_and(|it| it.state.is_open() && it.state.has(BLOCKED));
        let is_gone = test.reactor.connections.at(slot).is_none();
        assert_eq!((is_blocked, is_gone), (expected, !expected), "{topics:?}, own: {is_own}, {error:?}");
    };
    for (topics, is_own) in [(&["skip.a"][..], false), (&["skip.a", "skip.b"], false), (&["skip.a"], true)] {
        check(topics, is_own, io::ErrorKind::WouldBlock, true);
        check(topics, is_own, io::ErrorKind::BrokenPipe, false);
        check(topics, is_own, io::ErrorKind::ConnectionReset, false);
    }
}

/// What is delivered to a connection counts at once; how long it took counts unless it is history.
#[test]
fn deliveries_are_counted_and_news_is_measured() {
    let check = |topics: &[&str], flags: u16, deliveries: u64, latencies: u64| {
        let mut test = TestReactor::new();
        // The group of the second stream is not the first one, and so are its batches.
        test.open_sse(&["skip.x", "skip.y"]);
        let (slot, _) = test.open_sse(topics);
        (1..=3).for_each(|_| test.publish(topics[0], r#"{"key":"k"}"#));
        test.connection(slot).state.set(flags);
        test.reactor.take_inbox();
        test.reactor.flush(slot);
        let totals = test.hub.metrics.totals(Transport::Sse);
        assert_eq!((totals.deliveries, totals.latencies.count()), (deliveries, latencies), "{topics:?}, {flags:b}");
        test.connection(slot).state.clear(FROM_HISTORY | BEHIND);
        test.work();
        test.publish(topics[0], "1");
        test.work();
        let totals = test.hub.metrics.totals(Transport::Sse);
        assert_eq!((totals.deliveries, totals.latencies.count()), (deliveries + 1, latencies + 1), "{topics:?} later");
    };
    for topics in [&["skip.a"][..], &["skip.a", "skip.b"]] {
        check(topics, 0, 3, 3);
        check(topics, FROM_HISTORY, 3, 0);
        check(topics, FROM_HISTORY | BEHIND, 3, 0);
    }
    for topics in [&["latest.a"][..], &["latest.a", "skip.b"]] {
        check(topics, 0, 3, 3);
        check(topics, BEHIND, 1, 1);
        check(topics, FROM_HISTORY | BEHIND, 1, 0);
    }
}

/// Events left out because a newer one of the same key follows are counted, for news and for history.
#[test]
fn conflated_events_are_counted() {
    let check = |topics: &[&str], flags: u16, expected: u64| {
        let mut test = TestReactor::new();
        let (slot, peer) = test.open_sse(topics);
        for key in ["k", "k", "k", "other", "k"] {
            test.publish("latest.a", &format!(r#"{{"key":"{key}"}}"#));
        }
        test.connection(slot).state.set(flags);
        test.reactor.take_inbox();
        test.reactor.flush(slot);
        test.work();
        let events = peer.take().matches("data: ").count() as u64;
        assert_eq!((events, test.figure("fanfare_conflated_total")), (5 - expected, expected), "{topics:?}, {flags:b}");
    };
    for topics in [&["latest.a"][..], &["latest.a", "skip.b"]] {
        check(topics, 0, 0);
        check(topics, BEHIND, 3);
        check(topics, FROM_HISTORY | BEHIND, 3);
        check(topics, FROM_HISTORY, 0);
    }
}

/// Two streams of one group are at the same place, and one of them is behind: it gets the newest event of each key, and the other all
/// of them, whichever comes first.
#[test]
fn only_whoever_is_behind_gets_the_newest_alone() {
    for behind in 0..2 {
        let mut test = TestReactor::new();
        let streams = [(); 2].map(|()| test.open_sse(&["latest.a", "skip.b"]));
        (0..3).for_each(|_| test.publish("latest.a", r#"{"key":"k"}"#));
        test.reactor.take_inbox();
        test.connection(streams[behind].0).state.set(BEHIND);
        streams.iter().for_each(|(slot, _)| test.reactor.flush(*slot));
        let counts = streams.map(|(_, peer)| peer.take().matches("data: ").count());
        assert_eq!((counts[behind], counts[1 - behind]), (1, 3));
    }
}

/// One visit writes 64 frames at most.
#[test]
fn a_visit_has_so_many_frames() {
    for topics in [&["a"][..], &["a", "b"]] {
        let mut test = TestReactor::new();
        let (_, peer) = test.open_sse(topics);
        peer.lock().writes.clear();
        (0..65).for_each(|_| test.publish("a", "1"));
        test.work();
        let (text, first) = (peer.take(), peer.lock().writes[0]);
        let counts = [&text[..first], &text[first..]].map(|part| part.matches("data: ").count());
        assert_eq!(counts, [64, 1], "{topics:?}");
    }
}

/// A client that is known by an id that the log does not know has frames of its own until it has had an event.
#[test]
fn a_client_with_an_id_of_its_own_is_apart() {
    let id = |minor: u64| EventId::new(7, minor);
    for is_behind in [false, true] {
        let mut test = TestReactor::new();
        // Somebody has to listen, or the topics have no log.
        test.open_sse(&["broker.a"]);
        test.open_sse(&["broker.b"]);
        for topic in ["broker.a", "broker.b"] {
            [10, 20].into_iter().for_each(|minor| test.append(topic, id(minor), "1"));
        }
        test.work();
        let topics = ["broker.a", "broker.b"];
        let (_, plain) = test.open_sse(&topics);
        assert_eq!(test.reactor.fan_out.grouped(), 1);
        let odd = [21, 22].map(|first| {
            let (slot, peer) = test.open_sse(&topics);
            let topic_index = test.topic_index("broker.a");
            let (session, _) = test.connection(slot).speaks().expect("it is open");
            session.start_after(topic_index, id(first));
            test.reactor.regroup(slot);
            (slot, peer)
        });
        assert_eq!(test.reactor.fan_out.grouped(), 1, "two are apart");
        [&plain, &odd[0].1, &odd[1].1].into_iter().for_each(|peer| drop(peer.take()));
        if is_behind {
            odd.iter().for_each(|(_, peer)| peer.make_room(0));
        }
        test.append("broker.b", id(30), "news");
        test.work();
        odd.iter().for_each(|(_, peer)| peer.make_room(usize::MAX));
        test.work();
        for ((_, peer), first) in odd.iter().zip([21, 22]) {
            let text = peer.take();
            assert!(text.contains(&format!("id: {},{}\n", id(first), id(30))), "{first}: {text}");
        }
        assert_eq!(test.reactor.fan_out.grouped(), 1, "the id is still their own");
        if is_behind {
            odd.iter().for_each(|(_, peer)| peer.make_room(0));
        }
        test.append("broker.a", id(40), "news");
        test.work();
        odd.iter().for_each(|(_, peer)| peer.make_room(usize::MAX));
        test.work();
        assert_eq!(test.reactor.fan_out.grouped(), 3, "all stand at an id of the log");
    }
}

/// A topic may get the index of one that is no more. What was put together for that one's subscribers is not sent to its own.
#[test]
fn frames_of_a_topic_that_is_no_more_are_forgotten() {
    let topic_index = TopicIndex::new(0);
    let mut test = TestReactor::new();
    let (_, peer) = test.open_sse(&["skip.a"]);
    test.publish("skip.a", "old");
    test.work();
    assert!(peer.take().contains("old"));
    let metrics = crate::metrics::ReactorMetrics::default();
    let (ring, format) = (&test.topic("skip.a").ring, crate::frame::Format::WebSocketRaw);
    let from = ring.oldest();
    for is_added in [true, false] {
        let mut fan_out = FanOut::default();
        assert!(fan_out.frame_batches.gather(topic_index, ring, format.into(), from, &metrics).is_some());
        assert!(fan_out.frame_batches.has_frames_of(topic_index));
        fan_out.rounds.cool_down(topic_index);
        assert!(fan_out.is_cooling_down(topic_index) && !fan_out.is_cooling_down(TopicIndex::new(1)));
        if is_added {
            fan_out.on_topic_added()
        } else {
            fan_out.on_topic_removed(topic_index)
        }
        assert!(!fan_out.frame_batches.has_frames_of(topic_index), "added: {is_added}");
        assert_eq!(fan_out.is_cooling_down(topic_index), is_added);
    }
}
