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
    websocket::WebSocketClient,
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

fn gap(from: &str, to: &str, reason: &str) -> Value {
    json!({ "topic": "t.a", "from": from, "to": to, "reason": reason })
}

#[track_caller]
pub(crate) fn expect_gap(received: &Received) -> Value {
    assert_eq!(received.kind, "gap", "{received:?}");
    serde_json::from_str(&received.data).expect("a gap is told in JSON")
}

/// The same id with another sequence.
fn with_seq(id: &str, seq: u64) -> String {
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
fn take_numbers(stream: &mut SseClient, last: u64, count: u64) -> (u64, String) {
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

#[test]
fn what_was_removed_is_a_gap() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "history = { count = 5000 }\nlag = { count = 1 }", &[]);
    server.client().publish_all("t.a", (1..=100).map(|number| number.to_string()));
    let first = SseClient::open(&hub, "/sse?topic=t.a&last_event_id=first").next().id;
    drop(hub);
    let purged = server.request(&format!("$JS.API.STREAM.PURGE.{STREAM}"), r#"{"seq":61}"#);
    assert_eq!(purged["purged"], 60, "{purged}");
    let hub = hub_on(&server, "history = { count = 5000 }\nlag = { count = 1 }", &[]);
    let mut stream = resume(&hub, &with_seq(&first, 20));
    assert_eq!(expect_gap(&stream.next()), gap(&with_seq(&first, 20), &with_seq(&first, 60), "expired"));
    take_numbers(&mut stream, 60, 40);
    take_numbers(&mut resume(&hub, &with_seq(&first, 60)), 60, 40);
    let newer = resume(&hub, &with_seq(&first, 1000)).next();
    assert_eq!(expect_gap(&newer)["reason"], "epoch");
    let foreign = resume(&hub, "5-60").next();
    assert_eq!(expect_gap(&foreign)["reason"], "epoch");
}

/// Events of other topics are removed. A client of a topic that was quiet comes back with an id from before the oldest one that is left,
/// to a hub that has followed the stream since: it misses nothing, and is told of nothing.
#[test]
fn a_quiet_topic_has_no_gap() {
    let server = NatsServer::start_with_jetstream();
    let hubs = [0, 1].map(|_| hub_on(&server, "", &[]));
    // So that the hub follows the stream, and none of these topics.
    let mut other = SseClient::open(&hubs[1], "/sse?topic=t.other");
    let first = hubs[0].publish("t.b", "before");
    let last = hubs[0].publish("t.a", "before");
    let lost = hubs[0].publish("t.b", "lost");
    for number in 1..=10 {
        hubs[0].publish("t.other", number.to_string());
        assert_eq!(other.next_data(), number.to_string());
    }
    let purged = server.request(&format!("$JS.API.STREAM.PURGE.{STREAM}"), r#"{"seq":10}"#);
    assert_eq!(purged["purged"], 9, "{purged}");
    let mut quiet = resume(&hubs[1], &last);
    let told = SseClient::open_with(&hubs[1], "/sse?topic=t.b", &[("Last-Event-ID", &first)]).next();
    assert_eq!(expect_gap(&told)["from"], json!(first), "{told:?}");
    let mut kept = SseClient::open_with(&hubs[1], "/sse?topic=t.b", &[("Last-Event-ID", &lost)]);
    hubs[0].publish("t.a", "after");
    assert_eq!(quiet.next_data(), "after");
    hubs[0].publish("t.b", "after");
    assert_eq!(kept.next_data(), "after");
    // A hub that has not followed it knows nothing.
    let third = hub_on(&server, "", &[]);
    assert_eq!(expect_gap(&resume(&third, &last).next())["reason"], "expired");
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
    // The hub asks the server for a sign of life before or behind one of them.
    for body in ["3", "4", "5"] {
        let answer = hub.post("/publish/t.a", body);
        assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
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

/// A stream that was deleted, and made anew by the hub or by somebody else, is another one.
#[test]
fn a_stream_that_is_made_anew_is_a_gap() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "", &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let id = hub.publish("t.a", "1");
    assert_eq!(stream.next_data(), "1");
    let deleted = server.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "");
    assert_eq!(deleted["success"], true, "{deleted}");
    let told = expect_gap(&stream.next());
    assert_eq!((&told["from"], &told["reason"]), (&json!(id), &json!("epoch")));
    hub.publish("t.a", "2");
    assert_eq!(stream.next_data(), "2");
    // A reader that was away gets the gap as well, even from a hub that knows nothing of the time before.
    for hub in [&hub, &hub_on(&server, "", &[])] {
        let mut stream = resume(hub, &id);
        assert_eq!(expect_gap(&stream.next())["reason"], "epoch");
        assert_eq!(stream.next_data(), "2");
    }
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

/// Without JetStream the hub is not ready, says why, and refuses what it cannot keep.
#[test]
fn a_server_without_jetstream_is_named() {
    let server = NatsServer::start();
    let hub = unready_hub_on(&server, "", &[("nats.publish_timeout", "200ms")]);
    wait_until("readiness says why", || hub.get("/ready").text().contains("no JetStream answers").then_some(()));
    assert_eq!(hub.post("/publish/t.a", "x").status, 503);
    assert_eq!(hub.post("/publish/other", "x").status, 200, "core NATS is there");
}

/// A stream of that name that somebody made for something else.
#[test]
fn a_stream_that_does_not_fit_is_named_until_it_does() {
    let server = NatsServer::start_with_jetstream();
    let create = |subjects: &str| {
        server.request(
            &format!("$JS.API.STREAM.CREATE.{STREAM}"),
            &format!(
                r#"{{"name":"{STREAM}","subjects":[{subjects}],"retention":"limits","storage":"memory","max_age":0}}"#
            ),
        )
    };
    assert!(create("\"x.*\"")["error"].is_null());
    let hub = unready_hub_on(&server, "", &[("nats.publish_timeout", "200ms")]);
    let socket = WebSocketClient::open_v1(&hub, "/ws");
    socket.send(&json!({ "op": "subscribe", "topic": "t.a" }).to_string());
    wait_until("readiness names it", || hub.get("/ready").text().contains("keeps the subjects").then_some(()));
    assert_eq!(hub.post("/publish/t.a", "x").status, 503);
    let update =
        format!(r#"{{"name":"{STREAM}","subjects":["t.>"],"retention":"limits","storage":"memory","max_age":0}}"#);
    let updated = server.request(&format!("$JS.API.STREAM.UPDATE.{STREAM}"), &update);
    assert!(updated["error"].is_null(), "{updated}");
    wait_until("it is read", || (!hub.get("/ready").text().contains("keeps the subjects")).then_some(()));
    assert_eq!(hub.post("/publish/t.a", "x").status, 200);
}

/// What the server's permissions deny is named, told to readers, and heals.
#[test]
fn what_the_permissions_deny_is_named_until_they_allow_it() {
    let rights = |denied: &str| {
        format!(
            "authorization {{ users: [{{ user: hub, password: p, permissions: {{ publish: {{ deny: [{denied}] }} }} }}] }}"
        )
    };
    let server = NatsServer::start_with_jetstream_and(&rights("\"$JS.API.CONSUMER.>\", \"t.b\""));
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    fs::write(&file, "[[topics.class]]\nmatch = \"t.*\"\nlog = \"jetstream\"\n").expect("the folder is writable");
    let settings = [("nats.backoff_max", "100ms"), ("nats.ping_interval", "100ms"), ("server.default_topics", "")];
    let hub = Hub::start_with(&["--config", &file, "--nats", &server.url_as("hub:p@")], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let denied = hub.post("/publish/t.b", "x");
    assert_eq!((denied.status, denied.text().contains("access rules")), (503, true), "{}", denied.text());
    let id = hub.publish("t.a", "1");
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    socket.send(&json!({ "op": "subscribe", "topic": "t.a" }).to_string());
    wait_until("readiness names the topic", || {
        let ready = hub.get("/ready");
        (ready.status == 200 && ready.text().contains("$JS.API.CONSUMER.CREATE")).then_some(())
    });
    server.reload_jetstream(&rights("\"none\""));
    wait_until("it is read", || (!hub.get("/ready").text().contains("$JS.API.CONSUMER.CREATE")).then_some(()));
    assert_eq!(hub.post("/publish/t.b", "x").status, 200);
    let second = hub.publish("t.a", "2");
    assert_ne!(id, second);
    let event = std::iter::repeat_with(|| socket.next_json()).find(|message| message["data"] == 2);
    assert_eq!(event.map(|event| event["id"].clone()), Some(json!(second)));
}

/// Somebody changes the stream so that it keeps something else, and back. Who read on reads on, and nobody misses anything.
#[test]
fn a_stream_that_is_unfit_for_a_while_misses_nothing() {
    let server = NatsServer::start_with_jetstream();
    let hubs = [0, 1].map(|_| hub_on(&server, "", &[]));
    let mut stream = SseClient::open(&hubs[0], "/sse?topic=t.a");
    let mut id = String::new();
    for number in ["1", "2", "3"] {
        hubs[0].publish("t.a", number);
        let event = stream.next();
        assert_eq!(event.data, number);
        id = event.id;
    }
    let info = server.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "");
    let update = |subjects: &[&str]| {
        let mut config = info["config"].clone();
        config["subjects"] = json!(subjects);
        let answer = server.request(&format!("$JS.API.STREAM.UPDATE.{STREAM}"), &config.to_string());
        assert!(answer["error"].is_null(), "{answer}");
    };
    update(&["x.*"]);
    wait_until("readiness names it", || hubs[0].get("/ready").text().contains("keeps the subjects").then_some(()));
    update(&["t.*"]);
    server.client().publish_all("t.a", ["4", "5"]);
    for (number, seq) in [("4", 4), ("5", 5)] {
        assert_eq!(stream.next(), Received { id: with_seq(&id, seq), kind: String::new(), data: number.to_owned() });
    }
    let mut other = resume(&hubs[1], &id);
    assert_eq!([other.next_data(), other.next_data()], ["4", "5"]);
}

/// A server stops a consumer whose hub may not answer flow control.
#[test]
fn a_hub_that_may_not_answer_flow_control_reads_on() {
    let rights =
        "authorization { users: [{ user: hub, password: p, permissions: { publish: { deny: [\"$JS.FC.>\"] } } }] }";
    let server = NatsServer::start_with_jetstream_and(rights);
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    fs::write(&file, "[[topics.class]]\nmatch = \"t.*\"\nlog = \"jetstream\"\nlag = { bytes = \"100MiB\" }\n")
        .expect("the folder is writable");
    let settings = [("nats.ping_interval", "200ms"), ("server.default_topics", "")];
    let hub = Hub::start_with(&["--config", &file, "--nats", &server.url_as("hub:p@")], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let long = "x".repeat(20_000);
    let mut client = server.client_as("hub", "p");
    client.publish_all("t.a", (0..2000).map(|number| format!("{number} {long}")));
    for number in 0..2000 {
        let data = stream.next_data();
        assert!(data.starts_with(&format!("{number} ")), "{number}: {}", &data[..20]);
    }
}

/// A hub that has no room for what comes while it loads other topics connects again, and goes on behind what it took.
#[test]
fn a_hub_without_room_for_what_comes_misses_nothing() {
    const COUNT: usize = 400;
    let rights =
        "authorization { users: [{ user: hub, password: p, permissions: { publish: { deny: [\"$JS.FC.>\"] } } }] }";
    let server = NatsServer::start_with_jetstream_and(rights);
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    fs::write(&file, "[[topics.class]]\nmatch = \"t.*\"\nlog = \"jetstream\"\nlag = { bytes = \"100MiB\" }\n")
        .expect("the folder is writable");
    let settings = [
        ("nats.ping_interval", "200ms"),
        ("nats.backoff_min", "10ms"),
        ("nats.backoff_max", "20ms"),
        ("nats.backlog_bytes_max", "256KiB"),
        ("server.default_topics", ""),
    ];
    let hub = Hub::start_with(&["--config", &file, "--nats", &server.url_as("hub:p@")], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let long = "x".repeat(20_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.client_as("hub", "p");
            client.publish_all("t.a", (0..COUNT).map(|number| format!("{number} {long}")));
        });
        scope.spawn(|| (0..20).for_each(|number| drop(SseClient::open(&hub, &format!("/sse?topic=t.{number}")))));
        for number in 0..COUNT {
            let data = stream.next_data();
            assert!(data.starts_with(&format!("{number} ")), "{number}: {}", &data[..20]);
        }
    });
    // Each connection takes what it has room for.
    let reconnects = hub.metric("fanfare_source_reconnects_total{source=\"jetstream\"}");
    assert!(reconnects < COUNT as f64, "{reconnects} connections");
}

/// Who may publish to the hub's inbox does not make the hub publish elsewhere, nor end its connection.
#[test]
fn the_hub_answers_flow_control_alone() {
    let server = NatsServer::start_with_jetstream();
    let (sender, subjects) = std::sync::mpsc::channel();
    server.subscribe("_INBOX.fanfare.>", move |subject, headers, _| {
        if headers.is_some_and(|headers| headers.starts_with(b"NATS/1.0 100")) {
            let _ = sender.send(subject.to_owned());
        }
    });
    let hub = hub_on(&server, "", &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a&topic=pay.x");
    let inbox = subjects.recv_timeout(crate::support::TIMEOUT).expect("a consumer shows that it is there");
    let mut client = server.client();
    for (reply, header) in
        [("pay.x", "A: b"), ("pay.x", "Nats-Consumer-Stalled: pay.x"), ("a", "Nats-Consumer-Stalled: a b*")]
    {
        let block = format!("NATS/1.0 100 Idle Heartbeat\r\n{header}\r\n\r\n");
        client.send(format!("HPUB {inbox} {reply} {0} {0}\r\n{block}\r\n", block.len()).as_bytes());
    }
    let delete = format!("NATS/1.0 100\r\nNats-Consumer-Stalled: $JS.API.STREAM.DELETE.{STREAM}\r\n\r\n");
    client.send(format!("HPUB {inbox} {0} {0}\r\n{delete}\r\n", delete.len()).as_bytes());
    hub.publish("t.a", "1");
    assert_eq!(stream.next_data(), "1", "and nothing of another topic, and no gap");
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"jetstream\"}"), 0.0);
}

/// The newest messages are removed before the hub has read them, and none comes after: readers are told all the same, once.
#[test]
fn a_newest_message_that_is_removed_is_told() {
    let mut server = NatsServer::start_with_jetstream();
    // So that the hub is away for long enough.
    let hub = hub_on(&server, "", &[("nats.backoff_min", "2s"), ("nats.backoff_max", "2s")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let first = hub.publish("t.a", "1");
    assert_eq!(stream.next_data(), "1");
    server.kill();
    server.restart();
    wait_until("the stream is there", || {
        server.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")["error"].is_null().then_some(())
    });
    server.client().publish_all("t.a", ["2", "3"]);
    for seq in [2, 3] {
        let deleted = server.request(&format!("$JS.API.STREAM.MSG.DELETE.{STREAM}"), &format!(r#"{{"seq":{seq}}}"#));
        assert_eq!(deleted["success"], true, "{deleted}");
    }
    assert_eq!(expect_gap(&stream.next()), gap(&first, &with_seq(&first, 3), "expired"));
    wait_until("publishing works again", || (hub.post("/publish/t.a", "4").status == 200).then_some(()));
    assert_eq!(stream.next_data(), "4");
}
