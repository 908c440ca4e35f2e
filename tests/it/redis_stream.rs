//! Topics kept in Redis Streams: a client resumes at any hub, whichever process was restarted.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    OnDrop,
    http::HttpConnection,
    hub::Hub,
    redis::RedisServer,
    run_program, send_signal,
    sse::{Received, SseClient},
    stdout_of, wait_until,
    websocket::WebSocketClient,
};

/// A hub that keeps all topics in streams of `server`.
pub(crate) fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("topics.log", "redis-stream"),
        // The tests choose ids themselves, which are then of the year 1970.
        ("topics.history.age", "1000000h"),
        ("redis.linger", "100ms"),
        ("redis.backoff_min", "20ms"),
        ("redis.backoff_max", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    let hub = Hub::start_with(&["--redis", &server.url()], &all);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

/// Adds an entry as any other program would.
fn add(server: &RedisServer, id: &str, fields: &[&str]) -> String {
    let mut words = vec!["XADD", "t", id];
    words.extend_from_slice(fields);
    server.command(&words)
}

/// Resumes after the id `last`.
pub(crate) fn resume(hub: &Hub, last: &str) -> SseClient {
    SseClient::open_with(hub, "/sse?topic=t", &[("Last-Event-ID", last)])
}

fn gap(from: &str, to: &str, reason: &str) -> Value {
    json!({ "topic": "t", "from": from, "to": to, "reason": reason })
}

#[track_caller]
fn expect_gap(received: &Received) -> Value {
    assert_eq!(received.kind, "gap", "{received:?}");
    serde_json::from_str(&received.data).expect("a gap is JSON")
}

#[test]
fn what_is_published_is_an_entry_with_the_id_that_redis_gave() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("redis.stream_prefix", "hub:")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let id = hub.publish("t", "payload");
    assert_eq!((stream.next()), Received { id: id.clone(), kind: String::new(), data: "payload".to_owned() });
    let typed = hub.post("/publish/t?type=made", r#"{"n":1}"#).json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(stream.next(), Received { id: typed.clone(), kind: "made".to_owned(), data: r#"{"n":1}"#.to_owned() });
    let port = server.port().to_string();
    let listed = stdout_of(&run_program(
        "redis-cli",
        "redis-tools",
        &["-h", server.host(), "-p", &port, "--no-raw", "XRANGE", "hub:t", "-", "+"],
    ));
    let words = [&id, "data", "payload", &typed, "type", "made"];
    assert!(words.iter().all(|word| listed.contains(*word)), "{listed}");
    assert_eq!(hub.metric("fanfare_source_up{source=\"redis_stream\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_events_received_total{source=\"redis_stream\"}"), 2.0);
}

#[test]
fn entries_of_other_programs_are_events() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[]);
    add(&server, "5-1", &["data", "before anybody listened"]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t&last_event_id=first");
    assert_eq!(stream.next_data(), "before anybody listened");
    add(&server, "5-2", &["temperature", "21", "place", "the \"hall\""]);
    assert_eq!(stream.next_data(), r#"{"temperature":"21","place":"the \"hall\""}"#);
    let mut connection = server.connect();
    let add_bytes = |connection: &mut redis::Connection, id: &str, data: &[u8]| {
        redis::cmd("XADD").arg("t").arg(id).arg("data").arg(data).query::<String>(connection).expect("an id");
    };
    add_bytes(&mut connection, "5-3", b"\xff\xfe");
    add_bytes(&mut connection, "5-4", b"good");
    assert_eq!(expect_gap(&stream.next()), gap("5-2", "5-3", "source_lost"));
    assert_eq!(stream.next(), Received { id: "5-4".to_owned(), kind: String::new(), data: "good".to_owned() });
}

/// How often the server was given a command.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let figures: String = server.command(&["INFO", "commandstats"]);
    let of = format!("cmdstat_{command}:calls=");
    let line = figures.lines().find_map(|line| line.strip_prefix(of.as_str()));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// Publishes numbers from 1 on, each through the next of `hubs` that takes it, until stopped; returns the last.
fn publish_numbers(hubs: &[&Hub], stop: &AtomicBool) -> u64 {
    let mut connections: Vec<HttpConnection> = hubs.iter().map(|hub| HttpConnection::new(hub.connect())).collect();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let index = number as usize % connections.len();
        let body = number.to_string();
        let answer = connections[index].request(Method::Post, "/publish/t", &[], body.as_bytes());
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
fn readers_resume_at_any_hub_while_events_are_published() {
    let server = RedisServer::start();
    let settings = [("topics.history.count", "1000000"), ("topics.lag.count", "20")];
    // The hub's own log is short, so that a resumption begins in the archive.
    let hubs =
        [hub_on(&server, &settings), hub_on(&server, &[("topics.history.bytes", "4KiB"), settings[0], settings[1]])];
    // Each publication sets what the stream keeps.
    let other = hub_on(&server, &settings);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let first = SseClient::open(&hubs[0], "/sse?topic=t");
        let publisher = scope.spawn(|| publish_numbers(&[&hubs[0], &other], &stop));
        let (mut stream, mut last, mut id) = (first, 0, String::new());
        // A client that cannot keep up is disconnected, and resumes.
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

/// A client unsubscribes and subscribes again, further back, before the broker has answered for the first subscription.
#[test]
fn a_page_of_the_log_goes_to_the_subscription_that_requested_it() {
    let server = RedisServer::start();
    let mut pipeline = redis::pipe();
    for number in 1..=300 {
        pipeline.cmd("XADD").arg("t").arg(format!("7-{number}")).arg("data").arg(number).ignore();
    }
    pipeline.query::<()>(&mut server.connect()).expect("Redis takes the entries");
    // The hub's own log has the last ten.
    let hub = hub_on(&server, &[("topics.history.count", "10")]);
    let _reader = SseClient::open(&hub, "/sse?topic=t");
    let mut client = WebSocketClient::open_v1(&hub, "/ws");
    let mut ask = |command: Value, expected: &str| {
        let answer = client.ask(&command);
        assert_eq!(answer["op"], expected, "{answer}");
    };
    send_signal("STOP", server.pid());
    ask(json!({ "op": "subscribe", "topic": "t", "since": "7-280", "ref": 1 }), "subscribed");
    ask(json!({ "op": "unsubscribe", "topic": "t", "ref": 2 }), "unsubscribed");
    ask(json!({ "op": "subscribe", "topic": "t", "since": "7-5", "ref": 3 }), "subscribed");
    send_signal("CONT", server.pid());
    for number in 6..=300 {
        let event = client.next_json();
        assert_eq!(event["id"], format!("7-{number}"), "{event}");
    }
}

#[test]
fn a_killed_hub_comes_back_without_a_gap() {
    let server = RedisServer::start();
    let settings = [("topics.history.count", "100000")];
    let steady = hub_on(&server, &settings);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let mut hub = hub_on(&server, &settings);
        let mut streams: Vec<SseClient> = (0..20).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
        let publisher = scope.spawn(|| publish_numbers(&[&steady], &stop));
        for _ in 0..2 {
            let mut places = Vec::new();
            for (index, stream) in streams.iter_mut().enumerate() {
                let first: u64 = stream.next_data().parse().expect("a number");
                places.push(take_numbers(stream, first, 10 + index as u64));
            }
            // Dropping the hub kills it.
            drop(hub);
            hub = hub_on(&server, &settings);
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
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "10"), ("topics.lag.count", "1")]);
    let mut connection = server.connect();
    let mut pipeline = redis::pipe();
    for number in 1..=1000 {
        pipeline.cmd("XADD").arg("t").arg(format!("7-{number}")).arg("data").arg(number.to_string()).ignore();
    }
    pipeline.query::<()>(&mut connection).expect("Redis takes the entries");
    let mut stream = resume(&hub, "7-5");
    assert_eq!(take_numbers(&mut stream, 5, 995).1, "7-1000");
    let many: Vec<SseClient> = (1..=50).map(|number| resume(&hub, &format!("7-{number}"))).collect();
    for (mut stream, last) in many.into_iter().zip(1..) {
        take_numbers(&mut stream, last, 1000 - last);
    }
    // Four pages each. Most of them were already read for another client.
    let looks = calls(&server, "xrange");
    assert!(looks < 60, "{looks} looks at the stream for 51 readers");
    let history = hub.get("/topics/t/history?since=7-990").json();
    assert_eq!((history["events"].as_array().map(Vec::len), &history["gap"]), (Some(10), &json!(null)));
    let last = hub.get("/topics/t/history?since=last:3").json();
    assert_eq!((&last["events"][0]["id"], &last["events"][2]["data"]), (&json!("7-998"), &json!(1000)));
}

#[test]
fn what_was_trimmed_is_a_gap() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "10")]);
    (1..=100).for_each(|number| drop(add(&server, &format!("7-{number}"), &["data", &number.to_string()])));
    server.command::<u64>(&["XTRIM", "t", "MAXLEN", "40"]);
    let mut stream = resume(&hub, "7-20");
    assert_eq!(expect_gap(&stream.next()), gap("7-20", "7-60", "expired"));
    take_numbers(&mut stream, 60, 40);
    take_numbers(&mut resume(&hub, "7-60"), 60, 40);
    // More at once than the stream keeps, so it is trimmed before it can be read.
    let mut connection = server.connect();
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for number in 101..=160 {
        let id = format!("7-{number}");
        pipeline.cmd("XADD").arg("t").arg("MAXLEN").arg(25).arg(id).arg("data").arg(number.to_string()).ignore();
    }
    pipeline.query::<()>(&mut connection).expect("Redis takes the entries");
    assert_eq!(expect_gap(&stream.next()), gap("7-100", "7-135", "expired"));
    take_numbers(&mut stream, 135, 25);
    let newer = resume(&hub, "9-1").next();
    assert_eq!(expect_gap(&newer)["reason"], "epoch");
}

#[test]
fn a_restart_of_redis_that_keeps_its_data_is_no_gap() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    hub.publish("t", "1");
    server.kill();
    wait_until("readiness fails", || (hub.get("/ready").status == 503).then_some(()));
    server.restart();
    wait_until("publishing works again", || (hub.post("/publish/t", "2").status == 200).then_some(()));
    assert_eq!([stream.next_data(), stream.next_data()], ["1", "2"]);
}

#[test]
fn a_restart_of_redis_that_loses_its_data_is_a_gap() {
    let mut server = RedisServer::start();
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let id = hub.publish("t", "1");
    assert_eq!(stream.next_data(), "1");
    server.kill();
    server.restart();
    let gap = expect_gap(&stream.next());
    assert_eq!((&gap["from"], &gap["reason"]), (&json!(id), &json!("epoch")));
    wait_until("publishing works again", || (hub.post("/publish/t", "2").status == 200).then_some(()));
    assert_eq!(stream.next_data(), "2");
    // A client that was disconnected gets the gap as well, even from a hub that was started later.
    for hub in [&hub, &hub_on(&server, &[])] {
        let mut stream = resume(hub, &id);
        assert_eq!(expect_gap(&stream.next())["reason"], "epoch");
        let event = std::iter::repeat_with(|| stream.next()).find(|event| event.kind != "gap");
        assert_eq!(event.map(|event| event.data).as_deref(), Some("2"));
    }
}

#[test]
fn five_hundred_streams_are_read_at_once() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[]);
    let targets = (0..5).map(|part| {
        let topics: Vec<String> = (0..100).map(|topic| format!("topic=t{part}.{topic}")).collect();
        format!("/sse?{}", topics.join("&"))
    });
    let mut streams: Vec<SseClient> = targets.map(|target| SseClient::open(&hub, &target)).collect();
    let mut connection = server.connect();
    let mut pipeline = redis::pipe();
    for topic in 0..500 {
        let key = format!("t{}.{}", topic / 100, topic % 100);
        pipeline.cmd("XADD").arg(key).arg("*").arg("data").arg(topic).ignore();
    }
    pipeline.query::<()>(&mut connection).expect("Redis takes the entries");
    for (part, stream) in streams.iter_mut().enumerate() {
        let mut received: Vec<usize> = (0..100).map(|_| stream.next_data().parse().expect("a number")).collect();
        received.sort_unstable();
        assert_eq!(received, (part * 100..part * 100 + 100).collect::<Vec<usize>>());
    }
}

#[test]
fn a_repeat_at_another_hub_delivers_nothing() {
    let server = RedisServer::start();
    // The same on Pub/Sub: there are no ids, but a repeated publication delivers nothing either.
    for log in ["redis-stream", "memory"] {
        // So that publications that are sent again do not wait for the next ping.
        let settings = [("topics.log", log), ("redis.ping_interval", "1h"), ("redis.proof_age_max", "3h")];
        let hubs = [hub_on(&server, &settings), hub_on(&server, &settings)];
        let mut stream = SseClient::open(&hubs[0], "/sse?topic=t");
        let publish = |hub: &Hub, key: &str, body: &str| {
            let mut connection = HttpConnection::new(hub.connect());
            let answer = connection.request(Method::Post, "/publish/t", &[("Idempotency-Key", key)], body.as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()["id"].clone()
        };
        let first = publish(&hubs[0], log, "first");
        assert_eq!(publish(&hubs[1], log, "a repeat"), first);
        server.command::<String>(&["SCRIPT", "FLUSH"]);
        assert_eq!(publish(&hubs[0], log, "another repeat"), first);
        publish(&hubs[1], &format!("{log} other"), "second");
        assert_eq!([stream.next_data(), stream.next_data()], ["first", "second"], "{log}");
    }
}

#[test]
fn a_topic_without_subscribers_for_a_while_misses_nothing() {
    let server = RedisServer::start();
    for linger in ["1ms", "10s"] {
        let hub = hub_on(&server, &[("redis.linger", linger), ("topics.history.count", "7")]);
        server.command::<u64>(&["DEL", "t"]);
        let mut number = 0;
        let mut add_some = |count: u64| {
            for _ in 0..count {
                number += 1;
                add(&server, &format!("7-{number}"), &["data", &number.to_string()]);
            }
        };
        add_some(1);
        let (mut last, mut id) = (1, "7-1".to_owned());
        for round in 1..=40 {
            let mut stream = resume(&hub, &id);
            add_some(5);
            (last, id) = take_numbers(&mut stream, last, 5);
            drop(stream);
            if round % 2 == 1 {
                hub.wait_for_listeners("t", 0);
                add_some(round);
                let mut stream = resume(&hub, &id);
                (last, id) = take_numbers(&mut stream, last, round);
            }
        }
    }
}
