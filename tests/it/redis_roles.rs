//! Redis servers of the wrong kind: replicas, a master that becomes one, and a version that is too old.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    packages::old_redis_server,
    redis::{HOST, RedisServer},
    sse::SseClient,
    wait_until,
    websocket::WebSocketClient,
};

/// A hub on `server` that reconnects soon and checks the role often.
fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("redis.backoff_min", "20ms"),
        ("redis.backoff_max", "200ms"),
        ("redis.ping_interval", "200ms"),
        ("server.live_timeout", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    Hub::start_with(&["--redis", &server.url()], &all)
}

#[track_caller]
fn wait_for_status(hub: &Hub, status: u16) -> Value {
    wait_until(&format!("/ready says {status}"), || {
        let ready = hub.get("/ready");
        (ready.status == status).then(|| ready.json())
    })
}

/// Waits until `/ready` names the reason.
#[track_caller]
fn wait_for_reason(hub: &Hub, source: &str, expected: &str) {
    wait_until(expected, || {
        let ready = hub.get("/ready");
        let reason = ready.json()["sources"][source]["reason"].as_str()?.to_owned();
        (ready.status == 503 && reason.contains(expected)).then_some(())
    });
}

#[track_caller]
fn expect_refusal(hub: &Hub, topic: &str, text: &str) {
    let refused = hub.post(&format!("/publish/{topic}"), "x");
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "refused"), "{}", refused.text());
    assert!(refused.text().contains(text), "{}", refused.text());
}

fn demote(server: &RedisServer, master: &RedisServer) {
    server.command::<()>(&["REPLICAOF", HOST, &master.port().to_string()]);
}

fn promote(server: &RedisServer) {
    server.command::<()>(&["REPLICAOF", "NO", "ONE"]);
}

#[test]
fn a_replica_is_not_ready_and_publishes_nothing_until_it_is_the_master() {
    let master = RedisServer::start();
    for log in ["memory", "redis-stream"] {
        let replica = RedisServer::start_replica_of(&master, &[]);
        let hub = hub_on(&replica, &[("topics.log", log)]);
        wait_for_reason(&hub, "redis", "not a master but a replica");
        wait_until("publications are refused", || {
            (hub.post("/publish/t", "x").error_code() == "refused").then_some(())
        });
        expect_refusal(&hub, "t", "read-only");
        let mut socket = WebSocketClient::open_v1(&hub, "/ws");
        let answer = socket.ask(&json!({ "op": "publish", "topic": "t", "data": 1, "ref": 4 }));
        assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!("refused")), "{answer}");
        if log == "redis-stream" {
            wait_for_reason(&hub, "redis_stream", "not a master but a replica");
        }
        promote(&replica);
        wait_for_status(&hub, 200);
        let mut stream = SseClient::open(&hub, "/sse?topic=t");
        wait_until("it publishes", || (hub.post("/publish/t", "after").status == 200).then_some(()));
        assert_eq!(stream.next_data(), "after");
    }
}

/// No answer may confirm a publication.
fn check_demoted(hub: &Hub) {
    for number in 0..20 {
        let status = hub.post("/publish/t", format!("lost {number}")).status;
        assert!(matches!(status, 503 | 504), "{status} for publication {number} at a replica");
    }
    wait_until("they are refused", || (hub.post("/publish/t", "x").error_code() == "refused").then_some(()));
}

#[test]
fn a_master_that_becomes_a_replica_confirms_no_lost_publication() {
    let other = RedisServer::start();
    // A writable replica loses writes at the next synchronization with its master, also without an error.
    for (log, options) in [("memory", &[][..]), ("redis-stream", &[]), ("redis-stream", &["--replica-read-only", "no"])]
    {
        let server = RedisServer::start_with(options);
        let hub = hub_on(&server, &[("topics.log", log)]);
        wait_for_status(&hub, 200);
        let mut stream = SseClient::open(&hub, "/sse?topic=t");
        assert_eq!(hub.post("/publish/t", "before").status, 200);
        assert_eq!(stream.next_data(), "before");
        demote(&server, &other);
        check_demoted(&hub);
        wait_for_reason(&hub, "redis", "not a master but a replica");
        assert_eq!(hub.metric("fanfare_source_up{source=\"redis\"}"), 0.0);
        promote(&server);
        wait_for_status(&hub, 200);
        wait_until("it publishes", || (hub.post("/publish/t", "after").status == 200).then_some(()));
        let received: Vec<_> =
            std::iter::repeat_with(|| stream.next()).take_while(|event| event.data != "after").collect();
        // A stream without a gap has lost nothing.
        assert!(log != "memory" || received.iter().any(|event| event.kind == "gap"), "{received:?}");
    }
}

#[test]
fn a_replica_that_is_meant_is_read_from_and_refuses_publications() {
    let mut master = RedisServer::start();
    let replica = RedisServer::start_replica_of(&master, &[]);
    let hub = hub_on(&replica, &[("redis.allow_replica", "true")]);
    wait_for_status(&hub, 200);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    master.command::<u64>(&["PUBLISH", "t", "from the master"]);
    assert_eq!(stream.next_data(), "from the master");
    expect_refusal(&hub, "t", "read-only");
    // Alone it is a replica without a master.
    master.kill();
    wait_for_reason(&hub, "redis", "no connection to its master");
    master.restart();
    replica.wait_until_attached();
    wait_for_status(&hub, 200);
    wait_until("the stream is whole again", || {
        master.command::<u64>(&["PUBLISH", "t", "after"]);
        (stream.next().kind == "gap").then_some(())
    });
    promote(&replica);
    wait_until("a master publishes", || (hub.post("/publish/t", "own").status == 200).then_some(()));
}

#[test]
fn streams_are_read_from_a_replica_that_is_meant() {
    let master = RedisServer::start();
    let replica = RedisServer::start_replica_of(&master, &[]);
    let settings = [("redis.allow_replica", "true"), ("topics.log", "redis-stream"), ("server.live_timeout", "5s")];
    let hub = hub_on(&replica, &settings);
    wait_for_status(&hub, 200);
    let id: String = master.command(&["XADD", "t", "*", "data", "old"]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t&last_event_id=0-0");
    master.command::<String>(&["XADD", "t", "*", "data", "new"]);
    let events: Vec<_> = std::iter::repeat_with(|| stream.next()).filter(|event| event.kind != "gap").take(2).collect();
    assert_eq!((events[0].data.as_str(), events[0].id.as_str(), events[1].data.as_str()), ("old", id.as_str(), "new"));
    expect_refusal(&hub, "t", "read-only");
}

#[test]
fn a_user_who_may_not_use_role_learns_it_from_hello() {
    let master = RedisServer::start();
    let rules = ["--user", "hub", "on", ">secret", "~*", "&*", "+@all", "-role"];
    let replica = RedisServer::start_replica_of(&master, &rules);
    let url = replica.url_as("hub:secret@");
    let hub = Hub::start_with(&["--redis", &url], &[("redis.ping_interval", "200ms"), ("redis.backoff_max", "200ms")]);
    wait_for_reason(&hub, "redis", "not a master but a replica");
    promote(&replica);
    wait_for_status(&hub, 200);
    demote(&replica, &master);
    wait_for_reason(&hub, "redis", "not a master but a replica");
}

#[test]
fn what_redis_refuses_is_never_answered_with_200() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.log", "redis-stream"), ("redis.proof_age_max", "10m")]);
    wait_for_status(&hub, 200);
    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    expect_refusal(&hub, "t", "too few replicas");
    let batch = hub.post("/publish", r#"[{"topic":"t","data":1},{"topic":"u","data":2}]"#);
    assert_eq!(batch.status, 503, "{}", batch.text());
    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    expect_refusal(&hub, "t", "no memory");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(hub.post("/publish/t", "x").status, 200);
    assert_eq!(hub.metric("fanfare_source_refused_publications_total{source=\"redis_stream\"}"), 4.0);
}

#[test]
fn streams_need_redis_7_and_channels_do_not() {
    let server = RedisServer::start_program(old_redis_server());
    let hub = hub_on(&server, &[]);
    wait_for_status(&hub, 200);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.post("/publish/t", "x").status, 200);
    assert_eq!(stream.next_data(), "x");
    let hub = hub_on(&server, &[("topics.log", "redis-stream"), ("redis.publish_timeout", "300ms")]);
    wait_for_reason(&hub, "redis_stream", "need Redis 7.0 or later; this server is 6.2");
    assert_eq!(hub.post("/publish/t", "x").status, 503);
    assert_eq!(server.command::<u64>(&["EXISTS", "t"]), 0);
}

/// Such a node forwards publications, but has none of the other nodes' streams. An operator who configures it gets an error at
/// once.
#[test]
fn a_node_of_a_cluster_says_so() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let hub = hub_on(&server, &[]);
    let received = wait_until("it is reported", || {
        let degraded = hub.get("/ready").json()["degraded"].to_string();
        degraded.contains("a node of a Redis Cluster").then_some(degraded)
    });
    assert!(received.contains("MOVED") && received.contains("redis: "), "{received}");
}
