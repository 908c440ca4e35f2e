//! Streams of JetStream that are restored from an older copy, and three servers of which one is killed.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use fanfare_core::protocol::http::Method;
use serde_json::json;

use crate::{
    jetstream::{STREAM, expect_gap, hub_on, resume},
    support::{
        Folder, OnDrop,
        http::HttpConnection,
        hub::Hub,
        nats::{NatsCluster, NatsServer},
        send_signal,
        sse::SseClient,
        wait_until,
    },
};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is writable");
    for entry in fs::read_dir(from).expect("it is there").map(|entry| entry.expect("it is readable")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("the folder is writable");
        }
    }
}

/// Replaces what the server keeps by an older copy, and adds `anew` to it before a hub can see it.
fn restore(server: &mut NatsServer, hub: &Hub, backup: &Path, anew: &[&str]) {
    send_signal("STOP", hub.pid());
    server.kill();
    let kept = server.file("streams");
    fs::remove_dir_all(&kept).expect("it is ours");
    copy(backup, Path::new(&kept));
    server.restart();
    wait_until("the stream is there", || {
        server.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")["error"].is_null().then_some(())
    });
    server.client().publish_all("t.a", anew);
    send_signal("CONT", hub.pid());
}

#[test]
fn a_stream_restored_from_an_older_copy_is_a_gap() {
    // Behind what was read, and beyond it.
    for anew in [&["4'"] as &[&str], &["4'", "5'", "6'", "7'"]] {
        let mut server = NatsServer::start_with_jetstream();
        let hub = hub_on(&server, "", &[]);
        let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
        ["1", "2", "3"].iter().for_each(|data| drop(hub.publish("t.a", data)));
        server.kill();
        let folder = Folder::new();
        let backup = folder.path("backup");
        copy(Path::new(&server.file("streams")), Path::new(&backup));
        server.restart();
        wait_until("publishing works again", || (hub.post("/publish/t.a", "4").status == 200).then_some(()));
        ["5", "6"].iter().for_each(|data| drop(hub.publish("t.a", data)));
        (1..=5).for_each(|number| assert_eq!(stream.next_data(), number.to_string()));
        let last = stream.next();
        assert_eq!(last.data, "6");
        restore(&mut server, &hub, Path::new(&backup), anew);
        let told = expect_gap(&stream.next());
        assert_eq!((&told["from"], &told["reason"]), (&json!(last.id), &json!("epoch")), "{anew:?}");
        let all: Vec<&str> = ["1", "2", "3"].iter().chain(anew).copied().collect();
        for data in &all {
            assert_eq!(stream.next_data(), *data, "{anew:?}");
        }
        // Whoever was away is told as well, at a hub that knows nothing of it.
        let fresh = hub_on(&server, "", &[]);
        let mut away = resume(&fresh, &last.id);
        assert_eq!(expect_gap(&away.next())["reason"], "epoch", "{anew:?}");
        for data in &all {
            assert_eq!(away.next_data(), *data, "{anew:?}");
        }
    }
}

/// Publishes numbers from 1 on, again and again under the same key until each is taken; returns the last.
fn publish_persistently(hub: &Hub, topic: &str, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (body, key) = (number.to_string(), format!("key {number}"));
        wait_until("it is taken", || {
            let mut connection = HttpConnection::new(hub.connect());
            let headers = [("Idempotency-Key", key.as_str())];
            let answer = connection.request(Method::Post, &format!("/publish/{topic}"), &headers, body.as_bytes());
            (answer.status == 200).then_some(())
        });
    }
    number
}

/// The server that leads the stream is killed while events are published at two hubs. All come, once and in order.
#[test]
fn a_leader_that_is_killed_loses_nothing() {
    let mut cluster = NatsCluster::start();
    let settings = [("nats.stream_replicas", "3"), ("nats.publish_timeout", "1s")];
    let hubs = [0, 1].map(|_| cluster_hub(&cluster, &settings));
    let mut streams: Vec<(SseClient, usize)> = (0..20)
        .map(|index| (SseClient::open(&hubs[index % 2], &format!("/sse?topic=t.{}", index / 2 % 2)), index / 2 % 2))
        .collect();
    let stop = AtomicBool::new(false);
    let lasts = thread::scope(|scope| {
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let publishers = [0, 1].map(|topic| {
            let (hub, stop) = (&hubs[topic], &stop);
            scope.spawn(move || publish_persistently(hub, &format!("t.{topic}"), stop))
        });
        let mut taken = [0; 20];
        let mut take = |streams: &mut Vec<(SseClient, usize)>, count: u64| {
            for ((stream, _), taken) in streams.iter_mut().zip(&mut taken) {
                for _ in 0..count {
                    *taken += 1;
                    let event = stream.next();
                    assert_eq!(event.data, taken.to_string(), "{event:?}");
                }
            }
        };
        take(&mut streams, 50);
        let killed = Instant::now();
        cluster.kill_leader(STREAM);
        take(&mut streams, 50);
        println!("50 events of two topics each had come {:?} after the leader was killed", killed.elapsed());
        stop.store(true, Ordering::Relaxed);
        let lasts = publishers.map(|publisher| publisher.join().expect("each is taken in the end"));
        for ((stream, topic), taken) in streams.iter_mut().zip(taken) {
            for number in taken + 1..=lasts[*topic] {
                assert_eq!(stream.next_data(), number.to_string());
            }
        }
        lasts
    });
    let info = cluster.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "");
    assert_eq!(info["state"]["messages"], lasts.iter().sum::<u64>(), "{info}");
}

fn cluster_hub(cluster: &NatsCluster, settings: &[(&str, &str)]) -> Hub {
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    let text = "[[topics.class]]\nmatch = \"t.*\"\nlog = \"jetstream\"\nhistory = { count = 100000 }\n";
    fs::write(&file, text).expect("the folder is writable");
    let mut all = vec![
        ("nats.backoff_min", "20ms"),
        ("nats.backoff_max", "200ms"),
        ("nats.ping_interval", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    let hub = Hub::start_with(&["--config", &file, "--nats", &cluster.urls()], &all);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}
