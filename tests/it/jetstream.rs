//! Topics kept by JetStream: a reader goes on at any hub, whatever was restarted.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Folder, OnDrop,
    http::HttpConnection,
    hub::Hub,
    nats::NatsServer,
    sse::{Received, SseClient},
    wait_until,
};

/// The stream of the class of [`hub_on`].
pub(crate) const STREAM: &str = "fanfare-t-ANY";

/// A hub that keeps the topics `t.*` on `server`.
pub(crate) fn hub_on(server: &NatsServer, class: &str, settings: &[(&str, &str)]) -> Hub {
    let hub = unready_hub_on(server, class, settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

pub(crate) fn unready_hub_on(server: &NatsServer, class: &str, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("nats.linger", "100ms"),
        ("nats.backoff_min", "20ms"),
        ("nats.backoff_max", "200ms"),
        ("nats.ping_interval", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    let text = format!("[[topics.class]]\nmatch = \"t.*\"\nlog = \"jetstream\"\n{class}\n");
    fs::write(&file, text).expect("the folder is writable");
    Hub::start_with(&["--config", &file, "--nats", &server.url_as("")], &all)
}

/// Comes back with the id `last`.
pub(crate) fn resume(hub: &Hub, last: &str) -> SseClient {
    SseClient::open_with(hub, "/sse?topic=t.a", &[("Last-Event-ID", last)])
}

pub(crate) fn gap(from: &str, to: &str, reason: &str) -> Value {
    json!({ "topic": "t.a", "from": from, "to": to, "reason": reason })
}

#[track_caller]
pub(crate) fn expect_gap(received: &Received) -> Value {
    assert_eq!(received.kind, "gap", "{received:?}");
    serde_json::from_str(&received.data).expect("a gap is told in JSON")
}

/// The same id with another sequence.
pub(crate) fn with_seq(id: &str, seq: u64) -> String {
    format!("{}-{seq}", id.split_once('-').expect("an id has two parts").0)
}

/// Publishes numbers from 1 on, each through the next of `hubs`, until stopped; returns the last.
fn publish_numbers(hubs: &[&Hub], stop: &AtomicBool) -> u64 {
    let mut connections: Vec<HttpConnection> = hubs.iter().map(|hub| HttpConnection::new(hub.connect())).collect();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let index = number as usize % connections.len();
        let body = number.to_string();
        let answer = connections[index].request(Method::Post, "/publish/t.a", &[], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    number
}

/// Takes the next `count` numbers, which must go on from `last`; returns the last number and its id.
#[track_caller]
pub(crate) fn take_numbers(stream: &mut SseClient, last: u64, count: u64) -> (u64, String) {
    let mut id = String::new();
    for number in last + 1..=last + count {
        let event = stream.next();
        assert_eq!(event.data, number.to_string(), "{event:?}");
        id = event.id;
    }
    (last + count, id)
}

#[test]
fn what_is_published_is_a_message_with_the_id_of_the_stream() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "history = { count = 50, age = \"1h\" }", &[]);
    let info = server.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "");
    let config = &info["config"];
    assert_eq!((&config["subjects"], &config["max_msgs_per_subject"]), (&json!(["t.*"]), &json!(16384)), "{info}");
    assert_eq!((&config["max_age"], &config["num_replicas"]), (&json!(3_600_000_000_000_u64), &json!(1)), "{info}");
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let id = hub.publish("t.a", "payload");
    assert_eq!(stream.next(), Received { id: id.clone(), kind: String::new(), data: "payload".to_owned() });
    let typed = hub.post("/publish/t.a?type=made", r#"{"n":1}"#).json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(stream.next(), Received { id: typed.clone(), kind: "made".to_owned(), data: r#"{"n":1}"#.to_owned() });
    assert_eq!([&id, &typed], [&with_seq(&typed, 1), &with_seq(&typed, 2)]);
    assert_eq!(hub.get("/topics/t.a").json()["log"], "jetstream");
    assert_eq!(hub.metric("fanfare_source_up{source=\"jetstream\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_events_received_total{source=\"jetstream\"}"), 2.0);
    // Topics of no class are core NATS' as before.
    let mut plain = SseClient::open(&hub, "/sse?topic=other");
    server.publish("other", "plain");
    assert_eq!(plain.next_data(), "plain");
}

#[test]
fn messages_of_other_clients_are_events() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "", &[("limits.event_bytes_max", "64KiB")]);
    let mut client = server.client();
    client.publish_all("t.a", ["before anybody listened"]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a&last_event_id=first");
    let first = stream.next();
    assert_eq!(first.data, "before anybody listened");
    client.publish_with("t.a", &[("Event-Type", "made")], "typed");
    assert_eq!(
        stream.next(),
        Received { id: with_seq(&first.id, 2), kind: "made".to_owned(), data: "typed".to_owned() }
    );
    client.publish_all("t.a", [b"\xff\xfe".as_slice(), b"good", &[b'x'; 70_000], b"end"]);
    assert_eq!(expect_gap(&stream.next()), gap(&with_seq(&first.id, 2), &with_seq(&first.id, 3), "source_lost"));
    assert_eq!(stream.next_data(), "good");
    assert_eq!(expect_gap(&stream.next())["reason"], "source_lost");
    assert_eq!(stream.next_data(), "end");
}

#[test]
fn readers_resume_at_any_hub_while_events_are_published() {
    let server = NatsServer::start_with_jetstream();
    // What a hub keeps itself is short, so that a resumption begins in the archive.
    let class = "history = { count = 1000000, bytes = \"4KiB\" }\nlag = { count = 20 }";
    let hubs = [0, 1].map(|_| hub_on(&server, class, &[]));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let first = SseClient::open(&hubs[0], "/sse?topic=t.a");
        let publisher = scope.spawn(|| publish_numbers(&[&hubs[0], &hubs[1]], &stop));
        let (mut stream, mut last, mut id) = (first, 0, String::new());
        // Whoever cannot keep up is sent away, and comes back.
        let mut take = |stream: &mut SseClient, hub: &Hub, count: u64| {
            for number in last + 1..=last + count {
                let event = std::iter::repeat_with(|| stream.next_or_end().ok_or_else(|| *stream = resume(hub, &id)));
                let event = event.flatten().next().expect("it goes on without an end");
                assert_eq!(event.data, number.to_string(), "{event:?}");
                id = event.id;
            }
            last += count;
            (last, id.clone())
        };
        let (_, mut id) = take(&mut stream, &hubs[0], 100);
        for round in 0..20 {
            drop(stream);
            stream = resume(&hubs[round % 2], &id);
            (_, id) = take(&mut stream, &hubs[round % 2], 37);
        }
        stop.store(true, Ordering::Relaxed);
        let end = publisher.join().expect("the publisher ends");
        let (last, _) = take(&mut stream, &hubs[1], 0);
        take(&mut stream, &hubs[1], end - last);
    });
}

#[test]
fn a_killed_hub_comes_back_without_a_gap() {
    let server = NatsServer::start_with_jetstream();
    // All that is published while the hub is away.
    let class = "history = { count = 100000 }";
    let steady = hub_on(&server, class, &[]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let mut hub = hub_on(&server, class, &[]);
        let mut streams: Vec<SseClient> = (0..20).map(|_| SseClient::open(&hub, "/sse?topic=t.a")).collect();
        let publisher = scope.spawn(|| publish_numbers(&[&steady], &stop));
        for _ in 0..2 {
            let mut places = Vec::new();
            for (index, stream) in streams.iter_mut().enumerate() {
                let first: u64 = stream.next_data().parse().expect("a number");
                places.push(take_numbers(stream, first, 10 + index as u64));
            }
            // Dropped is killed.
            drop(hub);
            hub = hub_on(&server, class, &[]);
            streams = places.iter().map(|(_, id)| resume(&hub, id)).collect();
            for (stream, (last, _)) in streams.iter_mut().zip(&places) {
                take_numbers(stream, *last, 50);
            }
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().expect("the publisher ends");
    });
}

#[test]
fn what_the_hub_no_longer_holds_comes_from_the_stream() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "history = { count = 5000, bytes = \"1KiB\" }\nlag = { count = 1 }", &[]);
    server.client().publish_all("t.a", (1..=1000).map(|number| number.to_string()));
    let first = SseClient::open(&hub, "/sse?topic=t.a&last_event_id=first").next();
    assert_eq!(first.data, "1", "all that the stream has");
    let mut stream = resume(&hub, &with_seq(&first.id, 5));
    assert_eq!(take_numbers(&mut stream, 5, 995).1, with_seq(&first.id, 1000));
    let many: Vec<SseClient> = (1..=50).map(|number| resume(&hub, &with_seq(&first.id, number))).collect();
    for (mut stream, last) in many.into_iter().zip(1..) {
        take_numbers(&mut stream, last, 1000 - last);
    }
    let history = hub.get(&format!("/topics/t.a/history?since={}", with_seq(&first.id, 990))).json();
    assert_eq!((history["events"].as_array().map(Vec::len), &history["gap"]), (Some(10), &json!(null)));
    let last = hub.get("/topics/t.a/history?since=last:3").json();
    assert_eq!((&last["events"][0]["data"], &last["events"][2]["data"]), (&json!(998), &json!(1000)));
}

/// What the archive asked of the stream for one client is older than what the next client has.
#[test]
fn a_client_may_have_more_than_the_archive_has_seen() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "history = { count = 5000, bytes = \"1KiB\" }\nlag = { count = 1 }", &[]);
    server.client().publish_all("t.a", (1..=100).map(|number| number.to_string()));
    let mut first = SseClient::open(&hub, "/sse?topic=t.a&last_event_id=first");
    let (_, id) = take_numbers(&mut first, 0, 100);
    server.client().publish_all("t.a", (101..=400).map(|number| number.to_string()));
    let mut stream = resume(&hub, &with_seq(&id, 150));
    take_numbers(&mut stream, 150, 250);
}

#[test]
fn a_restart_of_nats_is_no_gap() {
    let mut server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "", &[("nats.proof_age_max", "400ms")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    hub.publish("t.a", "1");
    assert_eq!(stream.next_data(), "1");
    server.kill();
    wait_until("readiness fails", || (hub.get("/ready").status == 503).then_some(()));
    server.restart();
    wait_until("publishing works again", || (hub.post("/publish/t.a", "2").status == 200).then_some(()));
    assert_eq!(stream.next_data(), "2");
}

/// Whatever the hub awaits of a server that stands still, a publisher has its answer in time.
#[test]
fn a_server_that_stands_still_answers_no_publisher_late() {
    let server = NatsServer::start_with_jetstream();
    // Far beyond what the test's client waits for.
    let hub = hub_on(&server, "", &[("nats.publish_timeout", "300ms"), ("nats.ping_timeout", "10m")]);
    hub.publish("t.a", "1");
    server.freeze();
    wait_until("it stands still", || (hub.post("/publish/t.a", "2").status != 200).then_some(()));
    // The hub asks the server for a sign of life before or behind one of them. The other topic is core NATS'.
    for topic in ["t.a", "other", "t.a", "other", "t.a"] {
        let answer = hub.post(&format!("/publish/{topic}"), "3");
        assert!(matches!(answer.status, 503 | 504), "{topic}: {}", answer.text());
    }
    server.thaw();
    wait_until("publishing works again", || (hub.post("/publish/t.a", "6").status == 200).then_some(()));
}

/// Publications that the server has not acknowledged when it goes are sent again, and none comes twice.
#[test]
fn publications_outlive_the_connection() {
    let mut server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "", &[("nats.publish_timeout", "30s")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..8)
            .map(|publisher| {
                let hub = &hub;
                scope.spawn(move || {
                    (0..20).for_each(|number| drop(hub.publish("t.a", format!("{publisher}.{number}"))));
                })
            })
            .collect();
        for _ in 0..3 {
            server.kill();
            server.restart();
        }
        publishers.into_iter().for_each(|publisher| publisher.join().expect("each publication is taken"));
    });
    let mut received: Vec<String> = (0..160).map(|_| stream.next_data()).collect();
    for publisher in 0..8 {
        let of = format!("{publisher}.");
        let own: Vec<&String> = received.iter().filter(|data| data.starts_with(&of)).collect();
        let expected: Vec<String> = (0..20).map(|number| format!("{publisher}.{number}")).collect();
        assert!(own.iter().copied().eq(&expected), "{own:?}");
    }
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 160);
    let info = server.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "");
    assert_eq!(info["state"]["messages"], 160, "{info}");
}

#[test]
fn a_repeat_at_another_hub_delivers_nothing() {
    let server = NatsServer::start_with_jetstream();
    let hubs = [0, 1].map(|_| hub_on(&server, "", &[]));
    let mut stream = SseClient::open(&hubs[0], "/sse?topic=t.a");
    let publish = |hub: &Hub, topic: &str, body: &str| {
        let mut connection = HttpConnection::new(hub.connect());
        let target = format!("/publish/{topic}");
        let answer = connection.request(Method::Post, &target, &[("Idempotency-Key", "once")], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["id"].clone()
    };
    let first = publish(&hubs[0], "t.a", "first");
    assert_eq!(publish(&hubs[1], "t.a", "a repeat"), first);
    assert_ne!(publish(&hubs[1], "t.b", "another topic"), first);
    hubs[1].publish("t.a", "second");
    assert_eq!([stream.next_data(), stream.next_data()], ["first", "second"]);
}

#[test]
fn many_topics_are_read_at_once() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "", &[]);
    let mut client = server.client();
    (0..500).for_each(|topic| client.publish(&format!("t.{topic}"), format!("{topic} before")));
    let targets = (0..5).map(|part| {
        let topics: Vec<String> = (0..100).map(|topic| format!("topic=t.{}", part * 100 + topic)).collect();
        format!("/sse?{}&last_event_id=first", topics.join("&"))
    });
    let mut streams: Vec<SseClient> = targets.map(|target| SseClient::open(&hub, &target)).collect();
    (0..500).for_each(|topic| client.publish(&format!("t.{topic}"), format!("{topic} live")));
    for (part, stream) in streams.iter_mut().enumerate() {
        let mut received: Vec<String> = (0..200).map(|_| stream.next_data()).collect();
        received.sort();
        let topics = part * 100..part * 100 + 100;
        let mut expected: Vec<String> =
            topics.flat_map(|topic| ["before", "live"].map(|when| format!("{topic} {when}"))).collect();
        expected.sort();
        assert_eq!(received, expected);
    }
}

#[test]
fn a_topic_that_nobody_listened_to_for_a_while_misses_nothing() {
    let server = NatsServer::start_with_jetstream();
    for (name, linger) in [("t.short", "1ms"), ("t.long", "10s")] {
        let hub = hub_on(&server, "", &[("nats.linger", linger)]);
        let mut client = server.client();
        let mut number = 0;
        let mut add_some = |count: u64| {
            let numbers = (number + 1..=number + count).map(|number| number.to_string());
            number += count;
            client.publish_all(name, numbers);
        };
        let resume = |id: &str| SseClient::open(&hub, &format!("/sse?topic={name}&last_event_id={id}"));
        add_some(1);
        let (mut last, mut id) = (1, resume("first").next().id);
        for round in 1..=20 {
            let mut stream = resume(&id);
            add_some(5);
            (last, id) = take_numbers(&mut stream, last, 5);
            drop(stream);
            if round % 2 == 1 {
                hub.wait_for_listeners(name, 0);
                add_some(round);
                let mut stream = resume(&id);
                (last, id) = take_numbers(&mut stream, last, round);
            }
        }
    }
}
