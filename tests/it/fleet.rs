//! Hubs on one broker know of each other.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub, nats::NatsServer, redis::RedisServer, redis_cluster::RedisCluster, send_signal, sse::SseClient,
    wait_until,
};

const CHANNEL: &str = "fanfare.orders.hubs";
/// So often that no test waits long, and so seldom that no hub is forgotten on a busy machine.
const QUICK: (&str, &str) = ("fleet.heartbeat", "2s");

fn hub_on(broker: [&str; 2], settings: &[(&str, &str)]) -> Hub {
    let hub = Hub::start_with(&broker, settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

fn fleet(hub: &Hub) -> Vec<Value> {
    hub.stats()["fleet"].as_array().expect("a list").clone()
}

/// The ids of the hubs that `hub` knows, its own first.
fn ids(hub: &Hub) -> Vec<String> {
    fleet(hub).iter().map(|other| other["id"].as_str().expect("a text").to_owned()).collect()
}

/// Hubs on the broker know each other; one that drains says so, and is gone at once when it has ended.
#[track_caller]
fn check_on(broker: [&str; 2]) {
    let seldom = [("fleet.heartbeat", "5m"), ("drain.delay", "5m")];
    let [patient, quick, third] = [&seldom[..], &[QUICK], &seldom].map(|settings| hub_on(broker, settings));
    let _stream = SseClient::open(&quick, "/sse?topic=t");
    let expected = fleet(&quick)[0].clone();
    let seen = wait_until("the figures of another hub", || {
        let all = fleet(&patient);
        all.into_iter().find(|other| other["id"] == expected["id"] && other["connections"] != 0)
    });
    let members = ["name", "version", "draining"];
    assert_eq!(members.map(|name| &seen[name]), members.map(|name| &expected[name]), "{seen}");
    assert_eq!(expected["version"], env!("CARGO_PKG_VERSION"));
    // It sends no further heartbeat in time, but what it says because it ends.
    let id = ids(&third)[0].clone();
    send_signal("TERM", third.pid());
    for hub in [&quick, &patient] {
        wait_until("the third hub drains", || {
            fleet(hub).iter().any(|other| other["id"] == id.as_str() && other["draining"] == true).then_some(())
        });
    }
    assert!(third.terminate().success());
    for hub in [&quick, &patient] {
        wait_until("the third hub is gone", || (!ids(hub).contains(&id)).then_some(()));
        assert_eq!(hub.metric("fanfare_fleet_rejected_heartbeats_total"), 0.0);
    }
}

#[test]
fn hubs_on_one_redis_know_of_each_other() {
    let server = RedisServer::start();
    check_on(["--redis", &server.url()]);
}

#[test]
fn hubs_on_one_cluster_know_of_each_other() {
    let cluster = RedisCluster::start();
    check_on(["--redis", &format!("redis+cluster://{}", cluster.address(0))]);
}

#[test]
fn hubs_on_one_nats_know_of_each_other() {
    let server = NatsServer::start();
    check_on(["--nats", &server.url_as("")]);
}

/// A rolling upgrade: the next version says more, the former one less, and somebody else speaks there, too.
#[test]
fn a_hub_lists_hubs_of_other_versions_and_drops_the_rest() {
    let server = RedisServer::start();
    let hub = hub_on(["--redis", &server.url()], &[("fleet.heartbeat", "5m"), ("fleet.hubs_max", "2")]);
    let say = |text: &str| server.command::<u64>(&["PUBLISH", CHANNEL, text]);
    let newer = json!({ "id": "a", "name": "n", "version": "9.9.9", "topics": 2, "zones": ["x", { "y": 1 }] });
    assert_eq!(say(&newer.to_string()), 1);
    let nested = "[".repeat(100_000);
    for text in [r#"{"id":"b"}"#, "junk", &nested, r#"{"id":"c"}"#, r#"{"id":"b","connections":4}"#] {
        say(text);
    }
    let listed = wait_until("the last message", || {
        let listed = fleet(&hub);
        (listed.last()?["connections"] == 4).then_some(listed)
    });
    assert_eq!(listed.len(), 3, "{listed:?}");
    let (newer, older) = (&listed[1], &listed[2]);
    assert_eq!((&newer["id"], &newer["version"], &newer["topics"]), (&json!("a"), &json!("9.9.9"), &json!(2)));
    assert_eq!((&older["id"], &older["version"], &older["draining"]), (&json!("b"), &json!(""), &json!(false)));
    let rejected = hub.metric("fanfare_fleet_rejected_heartbeats_total");
    assert_eq!((rejected, hub.metric("fanfare_fleet_hubs")), (3.0, 3.0));
    // They are no events: no client may send one, and no log has any.
    assert_eq!(hub.stats()["events_received"], 0);
    assert_eq!(hub.post(&format!("/publish/{CHANNEL}"), "{}").status, 403);
    assert_eq!(hub.get(&format!("/topics/{CHANNEL}/history")).json()["events"], json!([]));
}

#[test]
fn a_hub_alone_lists_itself() {
    let server = RedisServer::start();
    let silent = hub_on(["--redis", &server.url()], &[("fleet.heartbeat", "0s")]);
    assert!(!server.channels().iter().any(|channel| channel == CHANNEL), "{:?}", server.channels());
    for hub in [Hub::start(), silent] {
        assert_eq!(ids(&hub).len(), 1);
        assert_eq!((&fleet(&hub)[0]["draining"], hub.metric("fanfare_fleet_hubs")), (&json!(false), 1.0));
    }
}
