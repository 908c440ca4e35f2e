//! `fanfare bridge` between a real Redis and a real NATS server: which events cross, how losses are reported, and which bridge is
//! active.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Folder,
    hub::Hub,
    nats::NatsServer,
    redis::{RedisServer, free_port},
    redis_cluster::RedisCluster,
    send_signal,
    sse::SseClient,
    stdout_of, wait_until,
};

/// A bridge. It answers health checks as a hub does.
fn bridge(from: &str, to: &str, maps: &[&str], settings: &[(&str, &str)]) -> Hub {
    bridge_with(from, to, maps, &[], settings)
}

/// The same with further flags.
pub(crate) fn bridge_with(from: &str, to: &str, maps: &[&str], flags: &[&str], settings: &[(&str, &str)]) -> Hub {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bridge", "--listen", "127.0.0.1:0", "--from", from, "--to", to]);
    command.args(maps.iter().flat_map(|map| ["--map", map])).args(flags);
    let mut all = vec![("bridge.lease", "600ms"), ("nats.backoff_max", "200ms"), ("redis.backoff_max", "200ms")];
    all.extend_from_slice(settings);
    let bridge = Hub::spawn(command, &all);
    wait_until("the bridge is ready", || (bridge.get("/ready").status == 200).then_some(()));
    bridge
}

fn is_active(bridge: &Hub) -> bool {
    bridge.metric("fanfare_bridge_active") == 1.0
}

pub(crate) fn wait_until_active(bridge: &Hub) {
    wait_until("the bridge carries events", || is_active(bridge).then_some(()));
}

fn hub_on_nats(server: &NatsServer) -> Hub {
    let hub = Hub::start_with(&["--nats", &server.url_as("")], &[("nats.backoff_max", "200ms")]);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

/// Runs `start`, which starts a bridge to `far`, and waits until it carries events and `far` has told the reader of `topic`, which the bridge
/// writes to, that something may be missing. Streams that are opened from then on are not told.
fn started(far: &Hub, topic: &str, start: impl FnOnce() -> Hub) -> Hub {
    let mut witness = SseClient::open(far, &format!("/sse?topic={topic}"));
    let bridge = start();
    wait_until_active(&bridge);
    assert_eq!(next(&mut witness, 1), [("gap".to_owned(), "source_lost".to_owned())]);
    bridge
}

/// The types and payloads of the next events. A gap is shown by its reason.
fn next(stream: &mut SseClient, count: usize) -> Vec<(String, String)> {
    let shown = |kind: String, data: String| match kind.as_str() {
        "gap" if data.contains("source_lost") => (kind, "source_lost".to_owned()),
        _ => (kind, data),
    };
    (0..count).map(|_| stream.next()).map(|event| shown(event.kind, event.data)).collect()
}

fn plain(payloads: &[&str]) -> Vec<(String, String)> {
    payloads.iter().map(|payload| (String::new(), (*payload).to_owned())).collect()
}

#[test]
fn events_cross_in_order_with_their_types() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start());
    let (near, far) = (Hub::start_with(&["--redis", &redis.url()], &[]), hub_on_nats(&nats));
    let maps = ["conversations.*", "a.**=>b.**"];
    let bridge = started(&far, "b.witness", || bridge(&redis.url(), &nats.url_as(""), &maps, &[]));
    let mut stream = SseClient::open(&far, "/sse?topic=conversations.7&topic=b.x.y");
    for payload in ["1", "2", "3"] {
        redis.command::<u32>(&["PUBLISH", "conversations.7", payload]);
    }
    assert_eq!(next(&mut stream, 3), plain(&["1", "2", "3"]));
    assert_eq!(near.post("/publish/a.x.y?type=made", r#"{"n":1}"#).status, 200);
    assert_eq!(next(&mut stream, 1), [("made".to_owned(), r#"{"n":1}"#.to_owned())]);
    // Topics that no map names do not cross, nor do topics that only the wildcard of Redis covers.
    let mut others = SseClient::open(&far, "/sse?topic=other&topic=conversations.7.deep&topic=conversations.8");
    for channel in ["other", "conversations.7.deep", "conversations.8"] {
        redis.command::<u32>(&["PUBLISH", channel, channel]);
    }
    assert_eq!(next(&mut others, 1), plain(&["conversations.8"]));
    wait_until("all are counted", || (bridge.metric("fanfare_bridge_events_total") == 5.0).then_some(()));
    assert_eq!(bridge.metric("fanfare_bridge_failures_total"), 0.0);
}

#[test]
fn events_cross_the_other_way() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start());
    let (near, far) = (hub_on_nats(&nats), Hub::start_with(&["--redis", &redis.url()], &[]));
    wait_until("the hub is ready", || (far.get("/ready").status == 200).then_some(()));
    let maps = ["wells.*=>w.*.raw"];
    let _bridge = started(&far, "w.0.raw", || bridge(&nats.url_as(""), &redis.url(), &maps, &[]));
    let mut stream = SseClient::open(&far, "/sse?topic=w.7.raw");
    nats.publish("wells.7", "plain");
    assert_eq!(near.post("/publish/wells.7?type=made", "typed").status, 200);
    assert_eq!(next(&mut stream, 2), [(String::new(), "plain".to_owned()), ("made".to_owned(), "typed".to_owned())]);
}

#[test]
fn a_redis_cluster_may_be_at_either_end() {
    let (cluster, nats) = (RedisCluster::start(), NatsServer::start());
    let far = Hub::start_with(&["--redis", &cluster.url()], &[]);
    wait_until("the hub is ready", || (far.get("/ready").status == 200).then_some(()));
    let to_cluster = started(&far, "wells.0", || bridge(&nats.url_as(""), &cluster.url(), &["wells.*"], &[]));
    let mut stream = SseClient::open(&far, "/sse?topic=wells.1&topic=wells.2&topic=wells.3");
    for well in ["1", "2", "3"] {
        nats.publish(&format!("wells.{well}"), well);
        assert_eq!(next(&mut stream, 1), plain(&[well]));
    }
    let beside_nats = hub_on_nats(&nats);
    // Both ask the cluster for the same lease.
    drop(to_cluster);
    let classic = [("redis.cluster_pubsub", "classic")];
    let _bridge = started(&beside_nats, "a.0", || bridge(&cluster.url(), &nats.url_as(""), &["a.*"], &classic));
    let mut stream = SseClient::open(&beside_nats, "/sse?topic=a.1");
    cluster.servers[5].command::<u32>(&["PUBLISH", "a.1", "x"]);
    assert_eq!(next(&mut stream, 1), plain(&["x"]));
}

#[test]
fn a_bridge_that_begins_says_that_something_may_be_missing() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start());
    let far = hub_on_nats(&nats);
    let start = || bridge(&redis.url(), &nats.url_as(""), &["a.*"], &[]);
    let first = start();
    wait_until_active(&first);
    let mut stream = SseClient::open(&far, "/sse?topic=a.1");
    redis.command::<u32>(&["PUBLISH", "a.1", "before"]);
    assert_eq!(next(&mut stream, 1), plain(&["before"]));
    send_signal("KILL", first.pid());
    drop(first);
    redis.command::<u32>(&["PUBLISH", "a.1", "lost"]);
    let second = start();
    wait_until_active(&second);
    assert_eq!(next(&mut stream, 1), [("gap".to_owned(), "source_lost".to_owned())]);
    redis.command::<u32>(&["PUBLISH", "a.1", "after"]);
    assert_eq!(next(&mut stream, 1), plain(&["after"]));
}

#[test]
fn of_two_bridges_one_carries_and_the_other_takes_over() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start());
    let far = hub_on_nats(&nats);
    let mut bridges = [(); 2].map(|()| bridge(&redis.url(), &nats.url_as(""), &["a.*"], &[]));
    wait_until("one of them is active", || bridges.iter().any(is_active).then_some(()));
    let mut stream = SseClient::open(&far, "/sse?topic=a.1");
    let payloads: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for payload in &payloads {
        redis.command::<u32>(&["PUBLISH", "a.1", payload]);
    }
    let expected: Vec<&str> = payloads.iter().map(String::as_str).collect();
    assert_eq!(next(&mut stream, 50), plain(&expected), "each once");
    bridges.sort_by_key(is_active);
    let [standby, active] = bridges;
    assert!(!is_active(&standby), "not both");
    let status = standby.get("/ready").text();
    assert!(status.contains("stands by"), "{status}");
    send_signal("KILL", active.pid());
    drop(active);
    wait_until_active(&standby);
    redis.command::<u32>(&["PUBLISH", "a.1", "after"]);
    assert_eq!(next(&mut stream, 2), [("gap".to_owned(), "source_lost".to_owned()), plain(&["after"])[0].clone()]);
    // A bridge that shuts down in order gives the lease back at once.
    let third = bridge(&redis.url(), &nats.url_as(""), &["a.*"], &[("bridge.lease", "1h")]);
    assert!(standby.terminate().success());
    drop(third);
}

#[test]
fn what_comes_while_the_other_side_is_away_waits() {
    let (redis, mut nats) = (RedisServer::start(), NatsServer::start());
    let bridge = bridge(&redis.url(), &nats.url_as(""), &["a.*"], &[]);
    wait_until_active(&bridge);
    nats.kill();
    wait_until("the bridge sees it", || (bridge.get("/ready").status == 503).then_some(()));
    for payload in ["1", "2", "3"] {
        redis.command::<u32>(&["PUBLISH", "a.1", payload]);
    }
    // They are in the bridge's queue and log. A subscriber that is there as soon as the server is gets them all.
    let (sender, received) = std::sync::mpsc::channel();
    nats.restart();
    nats.subscribe("a.*", move |_, _, payload| drop(sender.send(String::from_utf8_lossy(payload).into_owned())));
    redis.command::<u32>(&["PUBLISH", "a.1", "4"]);
    let last = wait_until("the last", || received.try_iter().find(|payload| payload == "4"));
    assert_eq!(last, "4");
    wait_until("all are counted", || (bridge.metric("fanfare_bridge_events_total") == 4.0).then_some(()));
    assert_eq!(bridge.metric("fanfare_bridge_failures_total"), 0.0);
}

#[test]
fn what_is_no_bridge_is_refused() {
    let check = |arguments: &[&str], expected: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.arg("bridge").args(arguments);
        let said = Hub::refusal(command);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    };
    let (redis, nats) = ("redis://u:s3cret@127.0.0.1:1", "nats://u:s3cret@127.0.0.1:1");
    check(&["--from", redis, "--to", redis, "--map", "a"], "leads nowhere");
    check(&["--from", "http://u:s3cret@h", "--to", nats, "--map", "a"], "--from is neither");
    check(&["--from", redis, "--to", nats, "--map", "a.*=>b"], "same wildcards");
    check(&["--from", redis, "--to", nats, "--map", "a..b"], "empty segment");
    check(&["--from", "redis", "--to", nats, "--map", "a"], "redis.url is not set");
    check(&["--from", redis, "--to", nats], "bridge.map");
}

/// System 002: load generator, Redis, bridge, NATS, a leaf node, two hubs, Server-Sent Events.
#[test]
fn the_whole_chain_of_a_leaf_node() {
    let redis = RedisServer::start();
    let leaves = free_port();
    let nats = NatsServer::start_with(&format!("leafnodes {{ host: \"127.0.0.1\", port: {leaves} }}"));
    let remote = format!("leafnodes {{ reconnect: 1, remotes: [ {{ url: \"nats://127.0.0.1:{leaves}\" }} ] }}");
    let mut leaf = NatsServer::start_with(&remote);
    let hubs = [hub_on_nats(&leaf), hub_on_nats(&leaf)];
    let bridge = bridge(&redis.url(), &nats.url_as(""), &["conversations.*"], &[]);
    wait_until_active(&bridge);
    // The first event comes behind what a bridge says when it begins: that something may be missing.
    let first = hubs.each_ref().map(|hub| SseClient::open(hub, "/sse?topic=conversations.first"));
    for hub in &hubs {
        wait_until("an event crosses", || {
            redis.command::<u32>(&["PUBLISH", "conversations.first", "x"]);
            let history = hub.get("/topics/conversations.first/history").json();
            history["events"].as_array().is_some_and(|events| !events.is_empty()).then_some(())
        });
    }
    drop(first);
    let folder = Folder::new();
    for hub in &hubs {
        let (address, report) = (redis.url(), folder.path("report.json"));
        let line =
            ["load", "-c", "3", "-t", "20", "-d", "5", "--quiet", "-r", &address, "-s", hub.url(0), "--json", &report];
        stdout_of(&Command::new(env!("CARGO_BIN_EXE_fanfare")).args(line).output().expect("it was just built"));
        let report = std::fs::read_to_string(&report).expect("it has written its report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(
            (&report["published"]["tokens_published"], &report["is_complete"]),
            (&60.into(), &true.into()),
            "{report}"
        );
        let received = json!({ "tokens_received": 60, "tokens_lost": 0, "duplicates": 0, "out_of_order": 0, "misdelivered": 0, "foreign": 0, "gaps": 0 });
        assert_eq!(report["received"], received, "{report}");
    }
    // The leaf is cut off for some time. Events of that time are missing, and reported as missing.
    let mut streams = hubs.each_ref().map(|hub| SseClient::open(hub, "/sse?topic=conversations.7"));
    redis.command::<u32>(&["PUBLISH", "conversations.7", "before"]);
    streams.iter_mut().for_each(|stream| assert_eq!(next(stream, 1), plain(&["before"])));
    leaf.kill();
    redis.command::<u32>(&["PUBLISH", "conversations.7", "lost"]);
    leaf.restart();
    for stream in &mut streams {
        assert_eq!(next(stream, 1), [("gap".to_owned(), "source_lost".to_owned())]);
    }
    // The hubs are back at the leaf, and it is back at its server.
    let after = || redis.command::<u32>(&["PUBLISH", "conversations.7", "after"]);
    wait_until("the leaf brings events again", || {
        after();
        (hubs[0].stats()["events_received"].as_u64() >= Some(62)).then_some(())
    });
    streams.iter_mut().for_each(|stream| assert_eq!(next(stream, 1), plain(&["after"])));
}
