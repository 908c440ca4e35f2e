//! A client of Redis Pub/Sub goes on at another hub on the same server with the id of its last event.

use serde_json::json;

use crate::support::{
    hub::Hub,
    redis::RedisServer,
    sse::{Received, SseClient},
    wait_until,
    websocket::WebSocketClient,
};

/// A hub whose marks come often.
fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("redis.mark_interval", "5ms"),
        ("redis.backoff_min", "5ms"),
        ("redis.backoff_max", "20ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    let hub = Hub::start_with(&["--redis", &server.url()], &all);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

fn publish(server: &RedisServer, topic: &str, payload: &str) {
    server.command::<u64>(&["PUBLISH", topic, payload]);
}

/// Publishes the same payload to `topic` until both hubs know the place of the newest event; its ids there.
fn publish_until_marked(server: &RedisServer, topic: &str, streams: &mut [SseClient; 2]) -> [String; 2] {
    wait_until("both hubs have read marks", || {
        publish(server, topic, "same");
        let ids = streams.each_mut().map(|stream| stream.next().id);
        ids.iter().all(|id| id.contains('~')).then_some(ids)
    })
}

fn open_both(hubs: &[Hub; 2], topic: &str) -> [SseClient; 2] {
    hubs.each_ref().map(|hub| SseClient::open(hub, &format!("/sse?topic={topic}")))
}

/// The payload of an event, or the reason of a gap.
fn shown(Received { kind, data, .. }: Received) -> String {
    match kind.as_str() {
        "gap" => serde_json::from_str::<serde_json::Value>(&data).expect("JSON")["reason"].to_string(),
        _ => data,
    }
}

#[test]
fn a_client_gets_what_it_missed_once_however_often_payloads_repeat() {
    let server = RedisServer::start();
    let hubs = [hub_on(&server, &[]), hub_on(&server, &[])];
    let mut streams = open_both(&hubs, "t");
    for (from, to) in [(0, 1), (1, 0)] {
        let last = publish_until_marked(&server, "t", &mut streams)[from].clone();
        for payload in ["same", "same", "same", "other"] {
            publish(&server, "t", payload);
        }
        // At once: the other hub may have read less by now.
        let mut by_header = SseClient::open_with(&hubs[to], "/sse?topic=t", &[("Last-Event-ID", &last)]);
        let mut by_query = SseClient::open(&hubs[to], &format!("/sse?topic=t&last_event_id={last}"));
        let mut socket = WebSocketClient::open_v1(&hubs[to], "/ws");
        socket.ask(&json!({ "op": "subscribe", "topic": "t", "since": last }));
        let missed = ["same", "same", "same", "other"];
        assert_eq!([(); 4].map(|()| shown(by_header.next())), missed);
        assert_eq!([(); 4].map(|()| shown(by_query.next())), missed);
        let messages = [(); 4].map(|()| socket.next_json());
        assert_eq!(messages.each_ref().map(|it| it["data"].as_str().unwrap_or_default()), missed, "{messages:?}");
        streams.iter_mut().for_each(|stream| (0..4).for_each(|_| _ = stream.next()));
        let page = hubs[to].get(&format!("/topics/t/history?since={last}"));
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        assert_eq!((page["gap"].is_null(), page["events"].as_array().map(Vec::len)), (true, Some(4)), "{page}");
    }
}

/// The id of a stream over several topics has the ids of all of them.
#[test]
fn a_stream_over_several_topics_goes_on_in_each() {
    let server = RedisServer::start();
    let hubs = [hub_on(&server, &[]), hub_on(&server, &[])];
    let (mut of_a, mut of_b) = (open_both(&hubs, "a"), open_both(&hubs, "b"));
    publish_until_marked(&server, "a", &mut of_a);
    publish_until_marked(&server, "b", &mut of_b);
    let mut both = SseClient::open(&hubs[0], "/sse?topic=a&topic=b");
    publish(&server, "b", "first");
    let last = both.next().id;
    assert_eq!(last.matches('~').count(), 2, "{last}");
    publish(&server, "a", "second");
    publish(&server, "b", "third");
    assert_eq!([shown(of_a[1].next()), shown(of_b[1].next()), shown(of_b[1].next())], ["second", "first", "third"]);
    let mut again = SseClient::open_with(&hubs[1], "/sse?topic=a&topic=b", &[("Last-Event-ID", &last)]);
    let mut missed = [shown(again.next()), shown(again.next())];
    missed.sort();
    assert_eq!(missed, ["second", "third"]);
}

#[test]
fn nothing_is_matched_that_the_other_hub_has_not_read_whole() {
    let server = RedisServer::start();
    let hubs = [hub_on(&server, &[]), hub_on(&server, &[])];
    let mut streams = open_both(&hubs, "t");
    let before = publish_until_marked(&server, "t", &mut streams)[0].clone();
    assert!(0 < server.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]));
    wait_until("both hubs are there again", || {
        publish(&server, "t", "same");
        (server.command::<(String, u64)>(&["PUBSUB", "NUMSUB", "t"]).1 == 2).then_some(())
    });
    // Until the end comes, each stream has gaps, and perhaps an event before or between them.
    publish(&server, "t", "behind");
    for stream in &mut streams {
        let received: Vec<String> =
            std::iter::from_fn(|| Some(shown(stream.next())).filter(|it| it != "behind")).collect();
        assert!(received.iter().any(|it| it == "\"source_lost\""), "{received:?}");
    }
    // The event before the loss is found, and the loss is told behind it.
    let mut back = SseClient::open_with(&hubs[1], "/sse?topic=t", &[("Last-Event-ID", &before)]);
    let received: Vec<String> = std::iter::from_fn(|| Some(shown(back.next())).filter(|it| it != "behind")).collect();
    assert!(received.iter().any(|it| it == "\"source_lost\""), "{received:?}");
    assert!(!received.iter().any(|it| it == "\"epoch\""), "{received:?}");
    // A hub that subscribed later has no such event, whatever it has.
    let late = hub_on(&server, &[]);
    let mut stream = SseClient::open(&late, "/sse?topic=t");
    publish(&server, "t", "same");
    assert_eq!(stream.next_data(), "same");
    let mut there = SseClient::open_with(&late, "/sse?topic=t", &[("Last-Event-ID", &before)]);
    publish(&server, "t", "end");
    assert_eq!([shown(there.next()), shown(there.next())], ["\"epoch\"", "end"]);
}

#[test]
fn without_marks_an_id_means_nothing_to_another_hub() {
    let server = RedisServer::start();
    let hubs = [(); 2].map(|()| hub_on(&server, &[("redis.mark_interval", "0s")]));
    let mut streams = open_both(&hubs, "t");
    publish(&server, "t", "first");
    let ids = streams.each_mut().map(|stream| stream.next().id);
    assert!(!ids[0].contains('~'), "{ids:?}");
    let mut there = SseClient::open_with(&hubs[1], "/sse?topic=t", &[("Last-Event-ID", &ids[0])]);
    publish(&server, "t", "end");
    assert_eq!([shown(there.next()), shown(there.next())], ["\"epoch\"", "end"]);
}

/// A server that nobody publishes to is left in peace.
#[test]
fn an_idle_server_gets_no_marks() {
    let server = RedisServer::start();
    let hub =
        hub_on(&server, &[("redis.mark_interval", "1ms"), ("fleet.heartbeat", "0s"), ("redis.ping_interval", "50ms")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    publish(&server, "t", "x");
    stream.next();
    let published = || {
        let stats: String = server.command(&["INFO", "commandstats"]);
        let calls = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(name)?.split(',').next()?.parse().ok());
            line.unwrap_or(0_u64)
        };
        (calls("cmdstat_publish:calls="), calls("cmdstat_role:calls="))
    };
    // As many publications as probes, each of which has its question.
    let mut last = published();
    wait_until("ten probes", || {
        let now = published();
        let has_marks = now.1 - last.1 < now.0 - last.0;
        if has_marks {
            last = now;
        }
        (last.1 + 10 <= now.1).then_some(())
    });
}
