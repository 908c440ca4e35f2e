//! The hub on a Redis Cluster: sharded Pub/Sub, slots that move, masters that are lost.

use std::{
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use fanfare_core::protocol::{http::Method, resp::key_slot};

use crate::support::{
    OnDrop,
    http::HttpConnection,
    hub::Hub,
    redis::free_port,
    redis_cluster::RedisCluster,
    send_signal,
    sse::{Received, SseClient},
    wait_until,
};

/// Without default topics, and with waits that a test has time for.
pub(crate) const SETTINGS: [(&str, &str); 6] = [
    ("server.default_topics", ""),
    ("redis.backoff_min", "20ms"),
    ("redis.backoff_max", "200ms"),
    ("redis.ping_interval", "500ms"),
    ("redis.cluster_refresh", "100ms"),
    ("redis.publish_timeout", "10s"),
];

fn start_hub(url: &str) -> Hub {
    let hub = Hub::start_with(&["--redis", url], &SETTINGS);
    wait_for_ready(&hub, 0);
    hub
}

/// Waits until the hub is ready, and so many lines say what is degraded.
#[track_caller]
pub(crate) fn wait_for_ready(hub: &Hub, degraded: usize) -> Vec<String> {
    wait_until("the hub is ready", || {
        let ready = hub.get("/ready");
        let degraded_lines = ready.json()["degraded"].clone();
        let lines: Vec<String> = serde_json::from_value(degraded_lines).expect("a list of texts");
        (ready.status == 200 && lines.len() == degraded).then_some(lines)
    })
}

/// Publishes ascending numbers to each topic through the hub, until stopped.
pub(crate) struct Publisher<'a> {
    hub: &'a Hub,
    topics: &'a [String],
    pub(crate) stop: AtomicBool,
    /// For each topic the numbers that were accepted.
    accepted: Mutex<Vec<Vec<u64>>>,
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(hub: &'a Hub, topics: &'a [String]) -> Self {
        let accepted = Mutex::new(vec![Vec::new(); topics.len()]);
        Self { hub, topics, stop: AtomicBool::new(false), accepted }
    }

    pub(crate) fn run(&self) {
        thread::scope(|scope| {
            for index in 0..self.topics.len() {
                scope.spawn(move || self.run_topic(index));
            }
        });
    }

    fn run_topic(&self, index: usize) {
        for number in 1.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.hub.post(&format!("/publish/{}", self.topics[index]), number.to_string()).status == 200 {
                self.accepted.lock().expect("nobody panics here")[index].push(number);
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// What was accepted of one topic.
    pub(crate) fn accepted(&self, index: usize) -> Vec<u64> {
        self.accepted.lock().expect("nobody panics here")[index].clone()
    }

    fn count(&self, index: usize) -> usize {
        self.accepted.lock().expect("nobody panics here")[index].len()
    }

    #[track_caller]
    pub(crate) fn wait_for_more(&self, index: usize, more: usize) {
        let before = self.count(index);
        wait_until("events pass", || (before + more <= self.count(index)).then_some(()));
    }
}

/// Publishes ascending numbers in batches to `topic`, each of which has to be in order, until stopped.
fn publish_batches(hub: &Hub, topic: &str, stop: &AtomicBool) {
    for batch in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let event = |number: u64| format!(r#"{{"topic":"{topic}","type":"batch","data":{number}}}"#);
        let events: Vec<String> = (batch * 50..(batch + 1) * 50).map(event).collect();
        hub.post("/publish", format!("[{}]", events.join(",")));
    }
}

/// Several clients of each topic.
fn open_streams(hub: &Hub, topics: &[String]) -> Vec<(usize, SseClient)> {
    let of_topic = |index: usize| SseClient::open(hub, &format!("/sse?topic={}", topics[index]));
    (0..4 * topics.len()).map(|number| number % topics.len()).map(|index| (index, of_topic(index))).collect()
}

/// All numbers up to `end`, from gap to gap. They ascend, and every gap is one of the source.
fn read_to(stream: &mut SseClient, end: u64) -> Vec<Vec<u64>> {
    let mut runs = vec![Vec::new()];
    let mut last_of_batches = None;
    loop {
        let Received { kind, data, .. } = stream.next();
        let run = runs.last_mut().expect("there is one from the start");
        if kind == "gap" {
            assert!(data.contains(r#""reason":"source_lost""#), "{data}");
            runs.push(Vec::new());
            continue;
        }
        if kind == "once" {
            continue;
        }
        if kind == "batch" {
            let number = data.parse().expect("the publisher sends numbers");
            assert!(
                last_of_batches.replace(number).is_none_or(|last: u64| last < number),
                "{number} after {last_of_batches:?}"
            );
            continue;
        }
        let number = data.parse().expect("the publisher sends numbers");
        assert!(run.last().is_none_or(|last| *last < number), "{number} after {run:?}");
        run.push(number);
        if end <= number {
            return runs;
        }
    }
}

/// What was accepted was delivered, or is missing where a gap stands.
fn check_account(accepted: &[u64], runs: &[Vec<u64>]) {
    let delivered: Vec<u64> = runs.concat();
    assert!(delivered.windows(2).all(|pair| pair[0] < pair[1]), "in order and once: {delivered:?}");
    for run in runs {
        let [Some(first), Some(last)] = [run.first(), run.last()] else { continue };
        let missing: Vec<&u64> =
            accepted.iter().filter(|number| (first..=last).contains(number) && !run.contains(number)).collect();
        assert!(missing.is_empty(), "nobody was told of {missing:?}");
    }
    let last = accepted.last().expect("something was accepted");
    assert!(delivered.contains(last), "the end is there");
}

fn end_of(publisher: &Publisher<'_>, index: usize) -> (Vec<u64>, u64) {
    let accepted = publisher.accepted.lock().expect("nobody panics here")[index].clone();
    let last = *accepted.last().expect("something was accepted");
    (accepted, last)
}

pub(crate) fn post_once(hub: &Hub, topic: &str, key: &str, payload: &str) -> u16 {
    let mut http = HttpConnection::new(hub.connect());
    let headers = [("Idempotency-Key", key)];
    http.request(Method::Post, &format!("/publish/{topic}?type=once"), &headers, payload.as_bytes()).status
}

#[test]
fn each_topic_comes_from_the_master_of_its_slot() {
    let cluster = RedisCluster::start();
    // A node that is down, and one that is up: the others are found.
    let hub = start_hub(&format!("redis+cluster://127.0.0.2:{},{}", free_port(), cluster.address(4)));
    for shard in 0..3 {
        let topic = RedisCluster::topic_in(shard, 0);
        let mut stream = SseClient::open(&hub, &format!("/sse?topic={topic}"));
        assert_eq!(cluster.channels(shard), [topic.as_str()]);
        assert_eq!(hub.post(&format!("/publish/{topic}?type=k"), "from the hub").status, 200);
        let Received { kind, data, .. } = stream.next();
        assert_eq!((kind.as_str(), data.as_str()), ("k", "from the hub"));
        let receivers: u64 =
            redis::cmd("SPUBLISH").arg(&topic).arg("from outside").query(&mut cluster.connect(shard)).expect("a count");
        assert_eq!((receivers, stream.next_data().as_str()), (1, "from outside"));
        for (key, payload) in [("one", "first"), ("one", "again"), ("two", "second")] {
            assert_eq!(post_once(&hub, &topic, key, payload), 200, "{payload}");
        }
        assert_eq!([stream.next_data(), stream.next_data()], ["first", "second"], "each key once");
    }
    // What several hubs remember, they share.
    let topic = RedisCluster::topic_in(0, 0);
    let other = start_hub(&cluster.url());
    let mut stream = SseClient::open(&other, &format!("/sse?topic={topic}"));
    assert_eq!(post_once(&other, &topic, "two", "again"), 200);
    assert_eq!(hub.post(&format!("/publish/{topic}"), "end").status, 200);
    assert_eq!(stream.next_data(), "end");
    let batch =
        (0..200).map(|number| format!(r#"{{"topic":"{topic}","data":{number}}}"#)).collect::<Vec<_>>().join(",");
    assert_eq!(hub.post("/publish", format!("[{batch}]")).status, 200);
    let numbers: Vec<u64> = (0..200).map(|_| stream.next_data().parse().expect("a number")).collect();
    assert!(numbers.is_sorted(), "a batch is in order: {numbers:?}");
}

#[test]
fn the_publish_tool_finds_the_node_that_has_the_channel() {
    let cluster = RedisCluster::start();
    let hub = start_hub(&cluster.url());
    let publish = |url: &str, topic: &str, data: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["publish", "--redis", url, "--channel", topic, "--data", data]);
        let output = command.output().expect("the program was just built");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for shard in 0..3 {
        let topic = RedisCluster::topic_in(shard, 0);
        let mut stream = SseClient::open(&hub, &format!("/sse?topic={topic}"));
        // Through a node that has another shard, after one that is down.
        let url = format!("redis+cluster://127.0.0.2:{},{}", free_port(), cluster.address((shard + 1) % 3));
        let (is_done, said) = publish(&url, &topic, "from the tool");
        assert!(is_done && said.contains(&cluster.address(shard)) && said.contains("subscribed: 1"), "{said}");
        assert_eq!(stream.next_data(), "from the tool");
    }
    let (is_done, said) = publish(&format!("redis+cluster://me:secret@127.0.0.2:{}", free_port()), "t", "x");
    assert!(!is_done && said.contains("no node of the cluster can be reached") && !said.contains("secret"), "{said}");
}

/// A name that needs no name server: the system's resolver takes it for the address of our servers.
const NAME: &str = "127.2";

#[test]
fn nodes_may_be_called_by_names_and_want_a_login() {
    let options = ["--cluster-announce-hostname", NAME, "--cluster-preferred-endpoint-type", "hostname"];
    let user = ["--user", "hub", "on", ">secret", "~*", "&*", "+@all"];
    let cluster = RedisCluster::start_with(&[&options[..], &user].concat());
    let hub = start_hub(&format!("redis+cluster://hub:secret@{}", cluster.address(0)));
    for shard in 0..3 {
        let topic = RedisCluster::topic_in(shard, 0);
        let mut stream = SseClient::open(&hub, &format!("/sse?topic={topic}"));
        let clients: String = cluster.servers[shard].command(&["CLIENT", "LIST", "TYPE", "pubsub"]);
        assert!(clients.contains("user=hub") && clients.contains("name=fanfare-reader"), "{clients}");
        assert_eq!(hub.post(&format!("/publish/{topic}"), "x").status, 200);
        assert_eq!(stream.next_data(), "x");
    }
    let slot = key_slot(RedisCluster::topic_in(0, 0).as_bytes());
    let mut stream = SseClient::open(&hub, &format!("/sse?topic={}", RedisCluster::topic_in(0, 0)));
    cluster.begin_move(slot, 0, 1);
    cluster.finish_move(slot, 0, 1);
    wait_until("the topic is subscribed at its node", || (!cluster.channels(1).is_empty()).then_some(()));
    assert_eq!(hub.post(&format!("/publish/{}", RedisCluster::topic_in(0, 0)), "y").status, 200);
    assert_eq!([stream.next().kind, stream.next_data()], ["gap", "y"]);
}

#[test]
fn a_cluster_is_followed_over_tls() {
    let (cluster, url, folder) = RedisCluster::start_with_tls();
    let certificate = folder.path("redis.pem");
    let settings = [&SETTINGS[..], &[("redis.ca_file", certificate.as_str())]].concat();
    let hub = Hub::start_with(&["--redis", &url], &settings);
    wait_for_ready(&hub, 0);
    let topic = RedisCluster::topic_in(1, 0);
    let mut stream = SseClient::open(&hub, &format!("/sse?topic={topic}"));
    assert_eq!(hub.post(&format!("/publish/{topic}"), "x").status, 200);
    assert_eq!(stream.next_data(), "x");
    let slot = key_slot(topic.as_bytes());
    cluster.begin_move(slot, 1, 2);
    cluster.finish_move(slot, 1, 2);
    wait_until("the topic is subscribed at its node", || (!cluster.channels(2).is_empty()).then_some(()));
    assert_eq!(hub.post(&format!("/publish/{topic}"), "y").status, 200);
    assert_eq!([stream.next().kind, stream.next_data()], ["gap", "y"]);
}

#[test]
fn a_slot_that_no_node_has_is_waited_for() {
    let cluster = RedisCluster::start();
    let settings = [&SETTINGS[..5], &[("redis.publish_timeout", "300ms")]].concat();
    let hub = Hub::start_with(&["--redis", &cluster.url()], &settings);
    wait_for_ready(&hub, 0);
    let topic = RedisCluster::topic_in(0, 0);
    let mut stream = SseClient::open(&hub, &format!("/sse?topic={topic}"));
    let slot = key_slot(topic.as_bytes()).to_string();
    cluster.servers.iter().for_each(|server| server.command(&["CLUSTER", "DELSLOTS", &slot]));
    assert_eq!(wait_for_ready(&hub, 1), ["redis: topics in slots that no node has: 1"]);
    assert_eq!(hub.post(&format!("/publish/{topic}"), "x").status, 503);
    cluster.servers[1].command::<()>(&["CLUSTER", "ADDSLOTS", &slot]);
    wait_for_ready(&hub, 0);
    wait_until("the topic is subscribed at its node", || (!cluster.channels(1).is_empty()).then_some(()));
    wait_until("it can be published to", || (hub.post(&format!("/publish/{topic}"), "y").status == 200).then_some(()));
    assert_eq!([stream.next().kind, stream.next_data()], ["gap", "y"]);
}

#[test]
fn a_slot_that_moves_under_load_loses_nothing_untold() {
    let cluster = RedisCluster::start();
    let hub = start_hub(&cluster.url());
    let topics = [0, 1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut streams = open_streams(&hub, &topics);
    let publisher = Publisher::new(&hub, &topics);
    let slot = key_slot(topics[0].as_bytes());
    thread::scope(|scope| {
        scope.spawn(|| publisher.run());
        // Ends the publisher also if an assertion fails.
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        scope.spawn(|| publish_batches(&hub, &topics[0], &publisher.stop));
        publisher.wait_for_more(0, 20);
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            cluster.begin_move(slot, from, to);
            publisher.wait_for_more(0, 20);
            // A key that the node does not have may be at the other one: the publication waits for the end of the move.
            let (topic, hub) = (&topics[0], &hub);
            let idempotent = scope.spawn(move || post_once(hub, topic, &format!("move {from}"), "0"));
            cluster.finish_move(slot, from, to);
            assert_eq!(idempotent.join().expect("no panic"), 200);
            publisher.wait_for_more(0, 20);
            wait_until("the topic is subscribed at its node", || cluster.channels(to).contains(topic).then_some(()));
        }
        publisher.stop.store(true, Ordering::Relaxed);
    });
    wait_for_ready(&hub, 0);
    for topic in &topics {
        assert_eq!(hub.post(&format!("/publish/{topic}"), "1000000").status, 200);
    }
    for (index, stream) in &mut streams {
        let (index, (accepted, _)) = (*index, end_of(&publisher, *index));
        let runs = read_to(stream, 1_000_000);
        check_account(&[accepted, vec![1_000_000]].concat(), &runs);
        let expected = if index == 0 { 4..=7 } else { 1..=1 };
        assert!(
            expected.contains(&runs.len()),
            "a gap for each move of its slot, and none for topic {index}: {}",
            runs.len()
        );
    }
}

#[test]
fn a_master_that_is_killed_is_replaced_by_its_replica() {
    let mut cluster = RedisCluster::start();
    let hub = start_hub(&cluster.url());
    let topics = [0, 1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut streams = open_streams(&hub, &topics);
    let publisher = Publisher::new(&hub, &topics);
    thread::scope(|scope| {
        scope.spawn(|| publisher.run());
        let _stop = OnDrop(|| publisher.stop.store(true, Ordering::Relaxed));
        publisher.wait_for_more(0, 20);
        cluster.servers[0].kill();
        wait_until("the replica takes over", || cluster.is_master(3).then_some(()));
        wait_until("the topic is subscribed there", || cluster.channels(3).contains(&topics[0]).then_some(()));
        publisher.wait_for_more(0, 20);
        publisher.stop.store(true, Ordering::Relaxed);
    });
    wait_for_ready(&hub, 0);
    for (index, stream) in &mut streams {
        let (index, (accepted, last)) = (*index, end_of(&publisher, *index));
        let runs = read_to(stream, last);
        check_account(&accepted, &runs);
        assert_eq!(runs.len(), if index == 0 { 2 } else { 1 }, "one gap, and for its topics alone");
    }
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"redis\"}"), 1.0);
    // The old master comes back as a replica, and nobody minds.
    cluster.servers[0].restart();
    wait_until("it is a replica", || (!cluster.is_master(0)).then_some(()));
    assert_eq!(hub.post(&format!("/publish/{}", topics[0]), "end").status, 200);
    assert_eq!(streams[0].1.next_data(), "end");
}

#[test]
fn a_master_that_hangs_holds_up_its_own_topics_alone() {
    let cluster = RedisCluster::start();
    let settings = [&SETTINGS[..5], &[("redis.publish_timeout", "2s"), ("redis.ping_timeout", "10m")]].concat();
    let hub = Hub::start_with(&["--redis", &cluster.url()], &settings);
    wait_for_ready(&hub, 0);
    let [hanging, other] = [0, 1].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut of_hanging = SseClient::open(&hub, &format!("/sse?topic={hanging}"));
    let mut of_other = SseClient::open(&hub, &format!("/sse?topic={other}"));
    send_signal("STOP", cluster.servers[0].pid());
    let go_on = OnDrop(|| send_signal("CONT", cluster.servers[0].pid()));
    thread::scope(|scope| {
        let (hub, hanging) = (&hub, &hanging);
        let held = scope.spawn(move || hub.post(&format!("/publish/{hanging}"), "held").status);
        for number in 0..20 {
            assert_eq!(hub.post(&format!("/publish/{other}"), number.to_string()).status, 200);
            assert_eq!(of_other.next_data(), number.to_string());
        }
        assert!(!held.is_finished(), "it waits for the node that hangs");
        assert_eq!(held.join().expect("no panic"), 504, "it may have been published");
    });
    wait_until("the replica serves the topic", || cluster.channels(3).contains(&hanging).then_some(()));
    wait_until("it can be published to", || {
        (hub.post(&format!("/publish/{hanging}"), "after").status == 200).then_some(())
    });
    assert_eq!([of_hanging.next().kind, of_hanging.next_data()], ["gap", "after"]);
    // It goes on, finds that it is no master any more, and what it was sent reaches nobody.
    drop(go_on);
    wait_until("it is a replica", || (!cluster.is_master(0)).then_some(()));
    assert_eq!(hub.post(&format!("/publish/{hanging}"), "end").status, 200);
    let last = of_hanging.next();
    assert!(last.data == "end" || last.data == "held", "{last:?}");
    assert_eq!(hub.post(&format!("/publish/{other}"), "end").status, 200);
    assert_eq!(of_other.next_data(), "end", "no gap");
}

#[test]
fn a_lost_shard_is_named_and_concerns_its_topics_alone() {
    let mut cluster = RedisCluster::start();
    let hub = Hub::start_with(
        &["--redis", &cluster.url()],
        &[&SETTINGS[..5], &[("redis.publish_timeout", "300ms")]].concat(),
    );
    wait_for_ready(&hub, 0);
    let [lost, other] = [1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut of_lost = SseClient::open(&hub, &format!("/sse?topic={lost}"));
    let mut of_other = SseClient::open(&hub, &format!("/sse?topic={other}"));
    [4, 1].into_iter().for_each(|index| cluster.servers[index].kill());
    let lines = wait_for_ready(&hub, 1);
    let expected = format!("redis: the shard at {} (slots 5461-10922) is away: ", cluster.address(1));
    assert!(lines[0].starts_with(&expected), "{lines:?}");
    assert_eq!([hub.metric("fanfare_redis_shards"), hub.metric("fanfare_redis_shards_away")], [3.0, 1.0]);
    assert_eq!(hub.metric("fanfare_source_up{source=\"redis\"}"), 1.0);
    assert_eq!(hub.post(&format!("/publish/{lost}"), "x").status, 503);
    assert_eq!(hub.post(&format!("/publish/{other}"), "y").status, 200);
    assert_eq!(of_other.next_data(), "y");
    // A hub that starts now is ready as well, once it has tried.
    let second = start_degraded(&cluster.url());
    assert_eq!(second.post(&format!("/publish/{other}"), "z").status, 200);
    assert_eq!(of_other.next_data(), "z");
    cluster.servers[1].restart();
    [&hub, &second].into_iter().for_each(|hub| drop(wait_for_ready(hub, 0)));
    assert_eq!(hub.post(&format!("/publish/{lost}"), "back").status, 200);
    assert_eq!([of_lost.next().kind, of_lost.next_data()], ["gap", "back"]);
    [1, 2, 0, 3, 5].into_iter().for_each(|index| cluster.servers[index].kill());
    let ready = wait_until("all are away", || Some(hub.get("/ready")).filter(|ready| ready.status == 503));
    let reason = ready.json()["sources"]["redis"]["reason"].to_string();
    assert!((0..3).all(|index| reason.contains(&cluster.address(index))), "{reason}");
}

/// The master that the hub reads from.
fn reader_of(cluster: &RedisCluster, masters: &[usize]) -> Option<usize> {
    let is_read = |index: &usize| {
        let clients: String = cluster.servers[*index].command(&["CLIENT", "LIST"]);
        clients.contains("name=fanfare-reader")
    };
    masters.iter().copied().find(is_read)
}

#[test]
fn classic_channels_come_from_any_master_and_have_patterns() {
    let mut cluster = RedisCluster::start();
    let classic = [("redis.cluster_pubsub", "classic"), ("redis.subscribe", "p.*")];
    let hub = Hub::start_with(&["--redis", &cluster.url()], &[&SETTINGS[..], &classic].concat());
    wait_for_ready(&hub, 0);
    let topics = [0, 1, 2].map(|shard| RedisCluster::topic_in(shard, 0));
    let mut streams = topics.each_ref().map(|topic| SseClient::open(&hub, &format!("/sse?topic={topic}")));
    let mut by_pattern = SseClient::open(&hub, "/sse?topic=p.x");
    for (index, stream) in streams.iter_mut().enumerate() {
        let topic = &topics[index];
        // Through any node, a replica too.
        let publish = |node: usize, topic: &str| {
            redis::cmd("PUBLISH").arg(topic).arg("outside").query::<u64>(&mut cluster.connect(node)).expect("a count")
        };
        publish(index + 3, topic);
        assert_eq!(stream.next_data(), "outside");
        publish(index, "p.x");
        assert_eq!(by_pattern.next_data(), "outside");
        for (key, payload) in [("one", "first"), ("one", "again"), ("two", "second")] {
            assert_eq!(post_once(&hub, topic, key, payload), 200, "{payload}");
        }
        assert_eq!([stream.next_data(), stream.next_data()], ["first", "second"], "each key once");
    }
    let read = reader_of(&cluster, &[0, 1, 2]).expect("it reads from one of them");
    cluster.servers[read].kill();
    let others: Vec<usize> = (0..3).filter(|index| *index != read).collect();
    wait_until("the hub reads from another one", || reader_of(&cluster, &others));
    wait_for_ready(&hub, 0);
    for (topic, stream) in topics.iter().zip(&mut streams) {
        assert_eq!(hub.post(&format!("/publish/{topic}"), "after").status, 200);
        assert_eq!([stream.next().kind, stream.next_data()], ["gap", "after"], "{topic}");
    }
}

fn start_degraded(url: &str) -> Hub {
    let hub = Hub::start_with(&["--redis", url], &SETTINGS);
    wait_for_ready(&hub, 1);
    hub
}
