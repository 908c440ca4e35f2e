//! Streams of JetStream that do not fit, and servers that have none or permit too little: what is wrong is named, and it heals.

use std::fs;

use serde_json::json;

use crate::{
    jetstream::{STREAM, hub_on, resume, unready_hub_on, with_seq},
    support::{
        Folder,
        hub::Hub,
        nats::NatsServer,
        sse::{Received, SseClient},
        wait_until,
        websocket::WebSocketClient,
    },
};

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
