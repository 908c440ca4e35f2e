use std::{collections::HashSet, thread};

use serde_json::json;

use super::*;

/// Far longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(30);

fn message(delivery: Option<StreamItem>) -> String {
    match delivery {
        Some(StreamItem::Event(event)) => event.message.clone(),
        other => panic!("expected an event, not {other:?}"),
    }
}

fn send(broadcaster: &Broadcaster, stream: &str, messages: std::ops::Range<u64>) {
    for number in messages {
        broadcaster.broadcast(stream, "t", &number.to_string(), Value::Null);
    }
}

#[test]
fn one_stream_or_all() {
    let broadcaster = Broadcaster::new();
    let (mut one, mut other) = (broadcaster.subscribe("one"), broadcaster.subscribe("other"));
    assert_eq!(broadcaster.broadcast("one", "t", "first", json!({ "n": 1 })), 1);
    assert_eq!(broadcaster.broadcast("nobody", "t", "unheard", Value::Null), 0);
    assert_eq!(broadcaster.broadcast_to_all("t", "second", Value::Null), 2);
    let Some(StreamItem::Event(first)) = one.recv() else { panic!("it was sent") };
    assert_eq!((first.message.as_str(), first.stream_id.as_str(), &first.data), ("first", "one", &json!({ "n": 1 })));
    assert!(first.id.starts_with("evt_") && 1_700_000_000 < first.timestamp, "{first:?}");
    assert_eq!([message(one.recv()), message(other.recv())], ["second", "second"]);
    assert_eq!([one.try_recv(), other.try_recv()], [Err(TryRecvError::Empty), Err(TryRecvError::Empty)]);
    assert_eq!(one.recv_timeout(Duration::from_millis(1)), Err(TryRecvError::Empty));
}

#[test]
fn who_listens_to_what() {
    let broadcaster = Broadcaster::new();
    let clients: Vec<Client> = (0..11).map(|_| broadcaster.subscribe("a")).collect();
    let other = broadcaster.subscribe("b");
    assert_eq!(broadcaster.active_streams(), [("a".to_owned(), 11), ("b".to_owned(), 1)].into());
    assert_eq!((broadcaster.total_clients(), broadcaster.stream_count()), (12, 2));
    let listed: Vec<String> = broadcaster.stream_clients("a").into_iter().map(|client| client.id).collect();
    assert_eq!(listed, clients.iter().map(|client| client.id().to_owned()).collect::<Vec<_>>());
    assert_eq!(broadcaster.stream_clients("b"), [ClientInfo { id: other.id().into(), stream: other.stream().into() }]);
    assert!(broadcaster.stream_clients("c").is_empty());
    drop(clients);
    assert!(!broadcaster.is_stream_active("a") && broadcaster.is_stream_active("b"));
    assert!(broadcaster.unsubscribe(other.id()));
    assert!(!broadcaster.unsubscribe(other.id()), "it is no client any more");
    assert_eq!((broadcaster.total_clients(), broadcaster.stream_count()), (0, 0));
}

#[test]
fn a_slow_client_is_told_what_it_missed() {
    let check = |sent: u64, expected_missed: Option<u64>| {
        let broadcaster = Broadcaster::with_capacity(3);
        let mut slow = broadcaster.subscribe("s");
        send(&broadcaster, "s", 0..sent);
        if let Some(missed) = expected_missed {
            assert_eq!(slow.recv(), Some(StreamItem::Gap { missed }), "{sent}");
        }
        for number in expected_missed.unwrap_or_default()..sent {
            assert_eq!(message(slow.recv()), number.to_string());
        }
        assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    };
    check(0, None);
    check(3, None);
    check(4, Some(1));
    check(100, Some(97));
}

#[test]
fn what_was_sent_before_the_end_is_delivered() {
    let broadcaster = Broadcaster::with_capacity(3);
    let (mut leaving, staying) = (broadcaster.subscribe("s"), broadcaster.subscribe("s"));
    send(&broadcaster, "s", 0..2);
    broadcaster.unsubscribe(leaving.id());
    send(&broadcaster, "s", 2..3);
    assert_eq!(leaving.iter().map(|item| message(Some(item))).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!((leaving.recv(), leaving.try_recv()), (None, Err(TryRecvError::Disconnected)));
    let mut leaving = broadcaster.subscribe("s");
    send(&broadcaster, "s", 3..5);
    broadcaster.unsubscribe(leaving.id());
    send(&broadcaster, "s", 5..99);
    assert_eq!(leaving.iter().collect::<Vec<_>>(), [StreamItem::Gap { missed: 2 }], "but not of what came after");
    drop(staying);
    assert_eq!(broadcaster.stream_count(), 0);
}

#[test]
fn waiting_ends_with_the_subscription() {
    let check = |end: fn(Broadcaster, &str)| {
        let broadcaster = Broadcaster::new();
        let (mut client, mut timed) = (broadcaster.subscribe("s"), broadcaster.subscribe("s"));
        let (id, timed_id) = (client.id().to_owned(), timed.id().to_owned());
        let waiting = thread::spawn(move || client.recv());
        let timed = thread::spawn(move || timed.recv_timeout(TIMEOUT));
        end(broadcaster.clone(), &id);
        end(broadcaster, &timed_id);
        assert_eq!(waiting.join().expect("no panic"), None);
        assert_eq!(timed.join().expect("no panic"), Err(TryRecvError::Disconnected));
    };
    check(|broadcaster, id| assert!(broadcaster.unsubscribe(id)));
    check(|broadcaster, _| drop(broadcaster));
}

#[test]
fn many_producers_and_every_client_hears_each_in_order() {
    const PRODUCERS: u64 = 4;
    const EVENTS: u64 = 500;
    let broadcaster = Broadcaster::with_capacity((PRODUCERS * EVENTS) as usize);
    let clients: Vec<Client> = (0..3).map(|_| broadcaster.subscribe("s")).collect();
    let listen = |mut client: Client| {
        let hear = move || (0..PRODUCERS * EVENTS).map(|_| client.recv()).collect::<Vec<_>>();
        thread::spawn(hear)
    };
    let listening: Vec<_> = clients.into_iter().map(listen).collect();
    let produce = |producer: u64| {
        let broadcaster = broadcaster.clone();
        thread::spawn(move || {
            for n in 0..EVENTS {
                broadcaster.broadcast("s", &producer.to_string(), "", json!({ "n": n }));
            }
        })
    };
    (0..PRODUCERS).map(produce).collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("no panic"));
    let heard: Vec<Vec<Option<StreamItem>>> = listening.into_iter().map(|one| one.join().expect("no panic")).collect();
    assert!(heard.iter().all(|one| *one == heard[0]), "all hear the same in the same order");
    let (mut next, mut ids) = ([0; PRODUCERS as usize], HashSet::new());
    for item in &heard[0] {
        let Some(StreamItem::Event(event)) = item else { panic!("nothing is missing: {item:?}") };
        let producer: usize = event.kind.parse().expect("a number");
        assert_eq!(event.data["n"], next[producer]);
        next[producer] += 1;
        assert!(ids.insert(event.id.clone()), "{} twice", event.id);
    }
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let broadcaster = Broadcaster::with_capacity(8);
    let (mut stalled, mut reader) = (broadcaster.subscribe("s"), broadcaster.subscribe("s"));
    let producing = thread::spawn(move || send(&broadcaster, "s", 0..10_000));
    let (mut next, mut missed_by_reader) = (0, 0);
    while next < 10_000 {
        match reader.recv_timeout(TIMEOUT) {
            Ok(StreamItem::Event(event)) => {
                assert_eq!(event.message, next.to_string());
                next += 1;
            }
            Ok(StreamItem::Gap { missed }) => (next, missed_by_reader) = (next + missed, missed_by_reader + missed),
            Err(error) => panic!("{error:?} after {next}, {missed_by_reader} missed"),
        }
    }
    producing.join().expect("no panic");
    assert_eq!(stalled.recv(), Some(StreamItem::Gap { missed: 9_992 }));
    assert_eq!(stalled.stream.lock().events.len(), 8, "and costs no memory");
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let broadcaster = Broadcaster::new();
    let churn = |_| {
        let broadcaster = broadcaster.clone();
        thread::spawn(move || {
            for round in 0..200 {
                let mut client = broadcaster.subscribe("s");
                broadcaster.broadcast("s", "t", &round.to_string(), Value::Null);
                // Its own event at the latest, or that it has missed some of the others'.
                assert!(client.recv().is_some());
            }
        })
    };
    (0..4).map(churn).collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!((broadcaster.total_clients(), broadcaster.stream_count()), (0, 0));
}
