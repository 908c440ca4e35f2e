//! Streams of JetStream that deliver faster than the hub takes, and what their consumers may ask of the hub.

use std::{fs, thread};

use crate::{
    jetstream::{STREAM, hub_on},
    support::{Folder, hub::Hub, nats::NatsServer, sse::SseClient, wait_until},
};

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
