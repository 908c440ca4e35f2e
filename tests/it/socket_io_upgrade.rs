//! The upgrade of a Socket.IO session from polling to WebSocket, while events flow and when it fails.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use fanfare_core::protocol::{http::Method, websocket::client::write_masked_text};
use serde_json::json;

use crate::support::{
    OnDrop,
    http::HttpConnection,
    hub::Hub,
    socket_io::{CLOSE, Carried, Polled, SocketClient, sessions},
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

const IN_HASTE: (&str, &str) = ("limits.messages_per_second", "10000");

fn masked(packets: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| write_masked_text(packet.as_bytes(), [1, 2, 3, 4], &mut bytes));
    bytes
}

/// Publishes numbers to `t` until `done`, and then an end marker.
fn publish_until(hub: &Hub, done: &AtomicBool) -> usize {
    let mut publisher = HttpConnection::new(hub.connect());
    let mut publish = |payload: &str| publisher.request(Method::Post, "/publish/t", &[], payload.as_bytes()).status;
    let mut number = 0;
    while !done.load(Ordering::Relaxed) && number < 20_000 {
        assert_eq!(publish(&number.to_string()), 200);
        number += 1;
    }
    assert_eq!(publish("\"end\""), 200);
    number
}

/// Subscribes, upgrades after `events_before` events, and reads to the end. Returns the number of events.
fn follow(hub: &Hub, events_before: usize, carried: &AtomicUsize) -> usize {
    let mut client = Polled::open(hub).enter();
    client.subscribe("t");
    let mut numbers: Vec<serde_json::Value> = (0..events_before).map(|_| client.expect_event("message")).collect();
    let (mut client, early) = client.upgrade();
    for packet in early.iter().filter(|packet| packet.starts_with("42")) {
        let event: Vec<serde_json::Value> = serde_json::from_str(&packet[2..]).expect("an event");
        numbers.push(event[1].clone());
    }
    numbers.push(client.expect_event("message"));
    carried.fetch_add(1, Ordering::Relaxed);
    while numbers.last().is_some_and(|last| *last != "end") {
        numbers.push(client.expect_event("message"));
    }
    let first = numbers[0].as_u64().expect("a number");
    let numbers = &numbers[..numbers.len() - 1];
    assert!(numbers.iter().zip(first..).all(|(got, expected)| *got == expected), "{events_before}: {numbers:?}");
    numbers.len()
}

#[test]
fn events_come_once_and_in_order_while_clients_are_carried_over() {
    const CLIENTS: usize = 24;
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    let (carried, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        // Otherwise the publisher would go on if a client fails.
        let _done = OnDrop(|| done.store(true, Ordering::Relaxed));
        let publisher = scope.spawn(|| publish_until(&hub, &done));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let (hub, carried) = (&hub, &carried);
                    move || follow(hub, number * 3, carried)
                })
            })
            .collect();
        wait_until("all are carried over", || {
            let failed = clients.iter().any(|client| client.is_finished());
            (failed || carried.load(Ordering::Relaxed) == CLIENTS).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        let published = publisher.join().expect("it publishes");
        for client in clients {
            let count = client.join().expect("each has all events");
            assert!(0 < count && count <= published);
        }
    });
    wait_until("no session is left", || (sessions(&hub) == 0).then_some(()));
}

#[test]
fn what_no_poll_has_fetched_comes_over_the_websocket() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    let mut client = Polled::open(&hub).enter();
    client.subscribe("t");
    assert_eq!(client.post(&["42[\"ping\"]"; 40].join("\u{1e}")).status, 200);
    (0..40).for_each(|number| drop(hub.publish("t", number.to_string())));
    let mut carried = Carried::over(client.probe());
    carried.send("5");
    (0..40).for_each(|_| drop(carried.expect_event("pong")));
    (0..40).for_each(|number| assert_eq!(carried.expect_event("message"), number));
}

#[test]
fn what_follows_the_upgrade_in_one_segment_is_taken() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    for cut in [0, 3, 20] {
        let client = Polled::open(&hub).enter();
        let mut carried = Carried::over(client.probe());
        let bytes = masked(&["5", "42[\"ping\"]", "421[\"subscribe\",{\"topic\":\"t\"}]", "42[\"ping\"]"]);
        // The last part arrives after the session has been upgraded.
        carried.websocket.send_bytes(&bytes[..bytes.len() - cut]);
        carried.expect_event("pong");
        carried.websocket.send_bytes(&bytes[bytes.len() - cut..]);
        assert_eq!(carried.next_event().name, "subscribed");
        assert!(carried.next_packet().starts_with("431["));
        carried.expect_event("pong");
        hub.publish("t", "1");
        assert_eq!(carried.expect_event("message"), 1);
    }
}

#[test]
fn a_probe_that_is_given_up_leaves_the_session_to_its_polls() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    let mut client = Polled::open(&hub).enter();
    client.subscribe("t");
    for number in 0..6 {
        let opened = WebSocketClient::open_on(client.connect(), &client.probe_target(), &[]);
        let waiting = (number % 2 == 0).then(|| client.begin_poll());
        let probed = client.probe();
        if let Some(mut waiting) = waiting {
            assert_eq!(waiting.receive().text(), "6", "the poll is let go, so that nothing is on its way twice");
        }
        hub.publish("t", number.to_string());
        assert_eq!(client.expect_event("message"), number, "polls are served all the same");
        drop((opened, probed));
        client.emit("ping", &json!(null));
        client.expect_event("pong");
    }
    // And then the upgrade still works.
    let (mut client, _) = client.upgrade();
    hub.publish("t", "7");
    assert_eq!(client.expect_event("message"), 7);
}

#[test]
fn of_two_probes_one_carries_the_session() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    for is_first in [true, false] {
        let mut client = Polled::open(&hub).enter();
        client.subscribe("t");
        let mut idle = WebSocketClient::open_on(client.connect(), &client.probe_target(), &[]);
        let (first, second) = (client.probe(), client.probe());
        // The WebSocket that probed last counts, whatever happens to the other one.
        let carried = if is_first {
            drop(first);
            hub.publish("t", "0");
            assert_eq!(client.expect_event("message"), 0);
            second
        } else {
            first.send("5");
            let mut first = first;
            assert_eq!(first.close_code(), Some(1002));
            second
        };
        carried.send("5");
        carried.send("42[\"ping\"]");
        let mut carried = Carried::over(carried);
        carried.expect_event("pong");
        // A late one does not take over the session.
        idle.send("2probe");
        idle.send("5");
        assert!(matches!(idle.next(), Incoming::Close(Some(1002), _)));
        hub.publish("t", "1");
        assert_eq!(carried.expect_event("message"), 1);
        carried.send(CLOSE);
        carried.wait_for_end();
    }
}

#[test]
fn a_probe_of_a_session_that_is_gone_carries_no_other() {
    let hub = Hub::start_with(&["--reactors", "1"], &[IN_HASTE]);
    let client = Polled::open(&hub).enter();
    let mut stale = WebSocketClient::open_on(client.connect(), &client.probe_target(), &[]);
    assert_eq!(client.post(CLOSE).status, 200);
    wait_until("the session is gone", || (sessions(&hub) == 0 && client.poll().status == 400).then_some(()));
    let mut others: Vec<Polled> = (0..20).map(|_| Polled::open(&hub).enter()).collect();
    stale.send("2probe");
    assert!(matches!(stale.next(), Incoming::Close(Some(1002), _)), "its slot is another's by now");
    for other in &mut others {
        other.emit("ping", &json!(null));
        other.expect_event("pong");
    }
}

#[test]
fn what_is_no_probe_ends_only_the_websocket() {
    let hub = Hub::start_with(&["--reactors", "2"], &[IN_HASTE]);
    let mut client = Polled::open(&hub).enter();
    for words in [&["5"][..], &["40"], &["2"], &["2probe", "42[\"ping\"]"], &["1"], &[""]] {
        let mut websocket = WebSocketClient::open_on(client.connect(), &client.probe_target(), &[]);
        words.iter().for_each(|word| websocket.send(word));
        assert_eq!(websocket.close_code(), Some(1002), "{words:?}");
        client.emit("ping", &json!(null));
        client.expect_event("pong");
    }
}

#[test]
fn a_session_that_is_carried_takes_no_requests() {
    let hub = Hub::start_with(&["--reactors", "4"], &[]);
    let client = Polled::open(&hub).enter();
    let (target, probe_target) = (client.target(), client.probe_target());
    let (mut carried, _) = client.upgrade();
    carried.emit("ping", &json!(null));
    carried.expect_event("pong");
    assert_eq!(hub.get(&target).status, 400);
    assert_eq!(hub.post(&target, "42[\"ping\"]").status, 400);
    for _ in 0..8 {
        let mut second = WebSocketClient::open_on(hub.connect(), &probe_target, &[]);
        assert_eq!(second.close_code(), Some(1008), "it is opened, and closed at once");
    }
    carried.emit("ping", &json!(null));
    carried.expect_event("pong");
}

#[test]
fn a_websocket_that_dies_after_the_upgrade_ends_the_session() {
    let hub = Hub::start_with(&["--reactors", "4"], &[]);
    for _ in 0..8 {
        let client = Polled::open(&hub).enter();
        let target = client.target();
        let websocket = client.probe();
        websocket.send("5");
        drop(websocket);
        wait_until("the session has ended", || (sessions(&hub) == 0).then_some(()));
        assert_eq!(hub.get(&target).status, 400);
    }
}
