//! Topics kept in Redis Streams of a Redis Cluster: each stream is where the cluster has its slot, and goes on wherever that moves.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use fanfare_core::protocol::resp::key_slot;
use serde_json::Value;

use crate::{
    redis_cluster::{Publisher, SETTINGS, post_once, wait_for_ready},
    support::{
        OnDrop,
        hub::Hub,
        redis_cluster::RedisCluster,
        send_signal,
        sse::{Received, SseClient},
        wait_until,
    },
};

/// A hub that keeps all topics in streams of the cluster.
fn hub_on(cluster: &RedisCluster, settings: &[(&str, &str)]) -> Hub {
    let streams = [("topics.log", "redis-stream"), ("topics.history.age", "1000000h"), ("redis.linger", "100ms")];
    let hub = Hub::start_with(&["--redis", &cluster.url()], &[&SETTINGS[..], &streams, settings].concat());
    wait_for_ready(&hub, 0);
    hub
}

fn open(hub: &Hub, topic: &str) -> SseClient {
    SseClient::open(hub, &format!("/sse?topic={topic}"))
}

fn resume(hub: &Hub, topic: &str, last: &str) -> SseClient {
    SseClient::open_with(hub, &format!("/sse?topic={topic}"), &[("Last-Event-ID", last)])
}

/// The reason of a gap.
#[track_caller]
fn reason(received: &Received) -> String {
    assert_eq!(received.kind, "gap", "{received:?}");
    let gap: Value = serde_json::from_str(&received.data).expect("a gap is JSON");
    gap["reason"].as_str().expect("a gap has a reason").to_owned()
}

/// Adds an entry as any other program would, to the stream of `topic` at a node.
fn add(cluster: &RedisCluster, node: usize, topic: &str, id: &str, data: &str) -> String {
    redis::cmd("XADD").arg(topic).arg(id).arg("data").arg(data).query(&mut cluster.connect(node)).expect("an id")
}

#[test]
fn streams_of_all_shards_are_read_and_resumed_at_any_hub() {
    let cluster = RedisCluster::start();
    let hubs = [hub_on(&cluster, &[]), hub_on(&cluster, &[])];
    // Two in each shard: two slots of one node.
    let topics: Vec<String> = (0..6).map(|number| RedisCluster::topic_in(number % 3, number / 3)).collect();
    for topic in &topics {
        let mut stream = open(&hubs[0], topic);
        let first = hubs[0].publish(topic, "1");
        assert_eq!(stream.next(), Received { id: first.clone(), kind: String::new(), data: "1".to_owned() });
        drop(stream);
        let second = hubs[1].publish(topic, "2");
        let mut stream = resume(&hubs[1], topic, &first);
        assert_eq!(stream.next(), Received { id: second, kind: String::new(), data: "2".to_owned() });
        for (key, payload) in [("one", "3"), ("one", "again"), ("two", "4")] {
            assert_eq!(post_once(&hubs[0], topic, key, payload), 200, "{payload}");
        }
        assert_eq!(post_once(&hubs[1], topic, "two", "again"), 200);
        assert_eq!([stream.next_data(), stream.next_data()], ["3", "4"], "each key once, at whatever hub");
    }
    for hub in &hubs {
        assert_eq!(hub.metric("fanfare_source_up{source=\"redis_stream\"}"), 1.0);
        assert_eq!(hub.metric("fanfare_redis_stream_shards"), 3.0);
        assert_eq!(hub.metric("fanfare_source_losses_total{source=\"redis_stream\"}"), 0.0);
    }
    // A client of all of them, from before anything was published to them.
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let mut all = SseClient::open(&hubs[0], &format!("/sse?{}&last_event_id=first", query.join("&")));
    let mut received: Vec<String> = (0..24).map(|_| all.next_data()).collect();
    received.sort();
    assert_eq!(received, ["1", "2", "3", "4"].map(|data| vec![data; 6]).concat());
}

#[test]
fn an_entry_of_another_program_arrives_within_the_polling_time() {
    let cluster = RedisCluster::start();
    let hub = hub_on(&cluster, &[("redis.stream_poll", "20ms")]);
    let topics = [0, 1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut streams = topics.each_ref().map(|topic| open(&hub, topic));
    let mut longest: Vec<Duration> = Vec::new();
    for round in 0..20 {
        for (shard, stream) in streams.iter_mut().enumerate() {
            let began = Instant::now();
            add(&cluster, shard, &topics[shard], "*", &round.to_string());
            assert_eq!(stream.next_data(), round.to_string());
            longest.push(began.elapsed());
        }
    }
    longest.sort();
    // The machine may be busy; the half of them tells the interval.
    assert!(longest[longest.len() / 2] < Duration::from_millis(100), "{longest:?}");
}

#[test]
fn what_was_trimmed_is_a_gap_and_what_is_older_comes_from_the_shard() {
    let cluster = RedisCluster::start();
    let hub = hub_on(&cluster, &[("topics.history.count", "10"), ("topics.lag.count", "1")]);
    for (node, topic) in [0, 1, 2].map(|shard| (shard, RedisCluster::topic_in(shard, 0))) {
        let mut pipeline = redis::pipe();
        for number in 1..=300 {
            pipeline.cmd("XADD").arg(&topic).arg(format!("7-{number}")).arg("data").arg(number.to_string()).ignore();
        }
        pipeline.cmd("XTRIM").arg(&topic).arg("MAXLEN").arg(240).ignore();
        pipeline.query::<()>(&mut cluster.connect(node)).expect("Redis takes the entries");
        let mut stream = resume(&hub, &topic, "7-20");
        assert_eq!(reason(&stream.next()), "expired");
        for number in 61..=300 {
            assert_eq!(stream.next().id, format!("7-{number}"));
        }
        let history = hub.get(&format!("/topics/{topic}/history?since=7-290")).json();
        assert_eq!(history["events"].as_array().map(Vec::len), Some(10), "{history}");
        // The stream begins anew.
        redis::cmd("DEL").arg(&topic).query::<u64>(&mut cluster.connect(node)).expect("it is there");
        add(&cluster, node, &topic, "8-1", "new");
        assert_eq!((reason(&stream.next()).as_str(), stream.next_data().as_str()), ("epoch", "new"));
    }
}

/// All numbers up to `end`, from gap to gap: within each they ascend.
fn read_to(stream: &mut SseClient, end: u64) -> (Vec<Vec<u64>>, Vec<String>) {
    let (mut runs, mut reasons) = (vec![Vec::new()], Vec::new());
    loop {
        let received = stream.next();
        let run: &mut Vec<u64> = runs.last_mut().expect("there is one from the start");
        if received.kind == "gap" {
            reasons.push(reason(&received));
            runs.push(Vec::new());
            continue;
        }
        if received.kind == "once" {
            continue;
        }
        let number = received.data.parse().expect("the publisher sends numbers");
        assert!(run.last().is_none_or(|last| *last < number), "{number} after {run:?}");
        run.push(number);
        if number == end {
            return (runs, reasons);
        }
    }
}

#[test]
fn a_slot_that_moves_under_load_loses_nothing() {
    let cluster = RedisCluster::start();
    let hubs = [hub_on(&cluster, &[]), hub_on(&cluster, &[])];
    let topics = [0, 1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut streams: Vec<(usize, SseClient)> =
        (0..12).map(|number| (number % 3, open(&hubs[number % 2], &topics[number % 3]))).collect();
    let publisher = Publisher::new(&hubs[0], &topics);
    let slot = key_slot(topics[0].as_bytes());
    thread::scope(|scope| {
        scope.spawn(|| publisher.run());
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        publisher.wait_for_more(0, 20);
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            cluster.begin_move(slot, from, to);
            // The stream is still there, and is added to.
            publisher.wait_for_more(0, 20);
            let (topic, hub) = (&topics[0], &hubs[1]);
            let idempotent = scope.spawn(move || post_once(hub, topic, &format!("move {from}"), "0"));
            cluster.finish_move(slot, from, to);
            assert_eq!(idempotent.join().expect("no panic"), 200);
            publisher.wait_for_more(0, 20);
        }
        publisher.stop.store(true, Ordering::Relaxed);
    });
    hubs.iter().for_each(|hub| drop(wait_for_ready(hub, 0)));
    for topic in &topics {
        hubs[1].publish(topic, "1000000");
    }
    for (index, stream) in &mut streams {
        let (runs, reasons) = read_to(stream, 1_000_000);
        let expected = [publisher.accepted(*index), vec![1_000_000]].concat();
        assert_eq!((reasons, runs.concat()), (Vec::new(), expected), "every event once, and no gap");
    }
    for hub in &hubs {
        assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"redis_stream\"}"), 0.0, "no node was lost");
    }
}

#[test]
fn a_master_that_is_killed_loses_nothing_untold() {
    let mut cluster = RedisCluster::start();
    let hub = hub_on(&cluster, &[]);
    let topics = [0, 1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut streams: Vec<(usize, SseClient)> =
        (0..6).map(|number| (number % 3, open(&hub, &topics[number % 3]))).collect();
    let publisher = Publisher::new(&hub, &topics);
    thread::scope(|scope| {
        scope.spawn(|| publisher.run());
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        publisher.wait_for_more(0, 20);
        cluster.servers[0].kill();
        wait_until("the replica takes over", || cluster.is_master(3).then_some(()));
        publisher.wait_for_more(0, 20);
        publisher.stop.store(true, Ordering::Relaxed);
    });
    wait_for_ready(&hub, 0);
    for topic in &topics {
        hub.publish(topic, "1000000");
    }
    for (index, stream) in &mut streams {
        let (runs, reasons) = read_to(stream, 1_000_000);
        let delivered = runs.concat();
        let missing: Vec<u64> =
            publisher.accepted(*index).into_iter().filter(|number| !delivered.contains(number)).collect();
        assert!(missing.is_empty() || !reasons.is_empty(), "nobody was told of {missing:?}");
        assert!(*index == 0 || reasons.is_empty(), "{reasons:?} at a topic of another shard");
    }
    // The old master comes back as a replica, and nobody minds.
    cluster.servers[0].restart();
    wait_until("it is a replica", || (!cluster.is_master(0)).then_some(()));
    hub.publish(&topics[0], "end");
    assert_eq!(streams[0].1.next_data(), "end");
}

#[test]
fn what_a_failover_lost_is_a_gap() {
    let mut cluster = RedisCluster::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let hub = hub_on(&cluster, &[]);
    let [lost, other] = [0, 1].map(|shard| RedisCluster::topic_in(shard, 0));
    let (mut of_lost, mut of_other) = (open(&hub, &lost), open(&hub, &other));
    hub.publish(&lost, "1");
    assert_eq!(of_lost.next_data(), "1");
    let is_replicated = || cluster.servers[3].command::<u64>(&["DBSIZE"]) == 1;
    wait_until("the replica has it", || is_replicated().then_some(()));
    cluster.servers[3].kill();
    // The replica never gets this.
    hub.publish(&lost, "2");
    assert_eq!(of_lost.next_data(), "2");
    cluster.servers[0].kill();
    cluster.servers[3].restart();
    wait_until("the replica takes over", || cluster.is_master(3).then_some(()));
    assert_eq!(reason(&of_lost.next()), "epoch");
    assert_eq!(of_lost.next_data(), "1", "all that the stream has");
    wait_until("it can be published to", || (hub.post(&format!("/publish/{lost}"), "3").status == 200).then_some(()));
    assert_eq!(of_lost.next_data(), "3");
    hub.publish(&other, "x");
    assert_eq!(of_other.next_data(), "x", "no gap");
}

#[test]
fn a_lost_shard_is_named_and_concerns_its_topics_alone() {
    let mut cluster = RedisCluster::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let hub = hub_on(&cluster, &[("redis.publish_timeout", "300ms")]);
    let [lost, other] = [1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let (mut of_lost, mut of_other) = (open(&hub, &lost), open(&hub, &other));
    hub.publish(&lost, "before");
    assert_eq!(of_lost.next_data(), "before");
    [4, 1].into_iter().for_each(|index| cluster.servers[index].kill());
    let lines = wait_until("both sources name the shard", || {
        let ready = hub.get("/ready");
        let lines: Vec<String> = serde_json::from_value(ready.json()["degraded"].clone()).expect("a list of texts");
        (ready.status == 200 && lines.len() == 2).then_some(lines)
    });
    let expected = format!("redis_stream: the shard at {} (slots 5461-10922) is away: ", cluster.address(1));
    assert!(lines.iter().any(|line| line.starts_with(&expected)), "{lines:?}");
    assert_eq!(hub.metric("fanfare_redis_stream_shards_away"), 1.0);
    assert_eq!(hub.post(&format!("/publish/{lost}"), "x").status, 503);
    hub.publish(&other, "y");
    assert_eq!(of_other.next_data(), "y");
    cluster.servers[1].restart();
    wait_for_ready(&hub, 0);
    hub.publish(&lost, "back");
    assert_eq!(of_lost.next_data(), "back", "no gap: nothing was lost");
}

#[test]
fn a_master_that_hangs_holds_up_its_own_topics_alone() {
    let cluster = RedisCluster::start();
    let hub = hub_on(&cluster, &[("redis.ping_timeout", "10m"), ("redis.publish_timeout", "2s")]);
    let [hanging, other] = [0, 1].map(|shard| RedisCluster::topic_in(shard, 0));
    let (mut of_hanging, mut of_other) = (open(&hub, &hanging), open(&hub, &other));
    hub.publish(&hanging, "before");
    assert_eq!(of_hanging.next_data(), "before");
    send_signal("STOP", cluster.servers[0].pid());
    let go_on = OnDrop(|| send_signal("CONT", cluster.servers[0].pid()));
    for number in 0..20 {
        hub.publish(&other, number.to_string());
        assert_eq!(of_other.next_data(), number.to_string());
    }
    wait_until("the replica takes over", || cluster.is_master(3).then_some(()));
    wait_until("it can be published to", || {
        (hub.post(&format!("/publish/{hanging}"), "after").status == 200).then_some(())
    });
    let after = std::iter::repeat_with(|| of_hanging.next()).find(|event| event.data == "after");
    assert!(after.is_some());
    drop(go_on);
    wait_until("it is a replica", || (!cluster.is_master(0)).then_some(()));
}

#[test]
fn streams_are_read_over_tls() {
    let (_cluster, url, folder) = RedisCluster::start_with_tls();
    let certificate = folder.path("redis.pem");
    let streams = [("topics.log", "redis-stream"), ("redis.ca_file", certificate.as_str())];
    let hub = Hub::start_with(&["--redis", &url], &[&SETTINGS[..], &streams].concat());
    wait_for_ready(&hub, 0);
    let topic = RedisCluster::topic_in(1, 0);
    let mut stream = open(&hub, &topic);
    // More than one buffer, of the reader's and of the socket's.
    let large = "x".repeat(700_000);
    let [first, second] = ["1", "2"].map(|number| format!("{number}{large}"));
    for payload in [&first, &second] {
        hub.publish(&topic, payload);
        assert_eq!(stream.next_data(), *payload);
    }
}

#[test]
fn a_key_that_is_no_stream_concerns_its_topic_alone() {
    let cluster = RedisCluster::start();
    let hub = hub_on(&cluster, &[]);
    // At the same node.
    let [bad, good] = [0, 1].map(|number| RedisCluster::topic_in(0, number));
    let (mut of_bad, mut of_good) = (open(&hub, &bad), open(&hub, &good));
    hub.publish(&bad, "before");
    assert_eq!(of_bad.next_data(), "before");
    redis::cmd("SET").arg(&bad).arg("a text").exec(&mut cluster.connect(0)).expect("it is set");
    let lines = wait_for_ready(&hub, 1);
    assert!(lines[0].contains("WRONGTYPE") && lines[0].contains(&format!("key `{bad}`")), "{lines:?}");
    assert_eq!(reason(&of_bad.next()), "source_lost");
    hub.publish(&good, "x");
    assert_eq!(of_good.next_data(), "x");
    redis::cmd("DEL").arg(&bad).exec(&mut cluster.connect(0)).expect("it is gone");
    wait_for_ready(&hub, 0);
    hub.publish(&bad, "after");
    let after = std::iter::repeat_with(|| of_bad.next()).find(|event| event.kind != "gap");
    assert_eq!(after.map(|event| event.data).as_deref(), Some("after"));
    hub.publish(&good, "y");
    assert_eq!(of_good.next_data(), "y", "no gap");
}

/// The reader proves once in every ping interval that it can read, and reads then as well.
#[test]
fn a_long_polling_time_is_no_longer_than_the_ping_interval() {
    let cluster = RedisCluster::start();
    let hub = hub_on(&cluster, &[("redis.stream_poll", "1h")]);
    let topic = RedisCluster::topic_in(0, 0);
    let mut stream = open(&hub, &topic);
    for number in 0..3 {
        hub.publish(&topic, number.to_string());
        assert_eq!(stream.next_data(), number.to_string());
    }
}
