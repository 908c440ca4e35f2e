//! NATS is killed, or a hub on it, while a thousand listen: core NATS leaves a gap, and JetStream loses nothing.

use std::fs;

use crate::{
    scene::{self, Scene, nothing_is_missing},
    support::{
        Folder,
        hub::Hub,
        nats::NatsServer,
        swarm::{Plan, Route},
        wait_until,
    },
};

/// Settings with which a hub finds out soon, and comes back soon.
const HASTY: [(&str, &str); 6] = [
    ("nats.backoff_min", "20ms"),
    ("nats.backoff_max", "200ms"),
    ("nats.ping_interval", "200ms"),
    ("nats.publish_timeout", "1s"),
    ("server.reactors", "2"),
    ("sse.retry", "200ms"),
];

/// Not 127.0.0.1: the port must be free again when the hub is, and outgoing connections take theirs from that address.
const LISTEN: &str = "127.0.0.3:0";

/// How many come back at once.
const MANY: usize = 2000;

/// A hub that keeps the topics `prefix.*` in JetStream, with far more than what is published while anything is broken.
fn hub_at(address: &str, server: &NatsServer, prefix: &str) -> Hub {
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    let text = format!("[[topics.class]]\nmatch = \"{prefix}.*\"\nlog = \"jetstream\"\nhistory = {{ count = 5000 }}\n");
    fs::write(&file, text).expect("the folder is writable");
    let hub = Hub::start_at(address, &["--config", &file, "--nats", &server.url_as("")], &HASTY);
    scene::wait_until_ready(&hub);
    hub
}

/// All subscribers of a killed hub come to another one, which had nobody before.
#[test]
fn subscribers_of_a_killed_hub_go_on_at_another() {
    let _machine = scene::share_the_machine();
    let server = NatsServer::start_with_jetstream();
    let (first, second) = (hub_at(LISTEN, &server, "move"), hub_at(LISTEN, &server, "move"));
    let scene = Scene::with(Plan::mixed("move", MANY, 10), &first, Route::Http(second.address().to_owned()), 0);
    scene.swarm.redirect(second.address());
    drop(first);
    scene.publisher.wait_for_more(100);
    scene.swarm.wait_until_open(MANY);
    let outcome = scene.end();
    outcome.ids_must_differ();
    nothing_is_missing(&outcome);
}

#[test]
fn a_killed_jetstream_that_kept_its_streams_has_lost_nothing() {
    let _machine = scene::share_the_machine();
    let mut server = NatsServer::start_with_jetstream();
    let hub = hub_at(LISTEN, &server, "kept");
    let scene = Scene::begin("kept", &hub, Route::Http(hub.address().to_owned()));
    server.kill();
    scene::wait_until_not_ready(&hub);
    server.restart();
    scene::wait_until_ready(&hub);
    let outcome = scene.end();
    assert_eq!(outcome.account.reconnects, 0, "{}", outcome.account);
    nothing_is_missing(&outcome);
}

/// What one hub publishes meanwhile reaches the other only while both are connected.
#[test]
fn a_killed_core_nats_leaves_a_gap() {
    let _machine = scene::share_the_machine();
    let mut server = NatsServer::start();
    let flags = ["--nats", &server.url_as("")];
    let slow = [("nats.backoff_min", "1s"), ("nats.backoff_max", "1s")];
    let hub = Hub::start_with(&flags, &[&HASTY[..], &slow].concat());
    let publisher = Hub::start_with(&flags, &HASTY);
    scene::wait_until_ready(&publisher);
    let scene = Scene::begin("killed", &hub, Route::Http(publisher.address().to_owned()));
    server.kill();
    scene::wait_until_not_ready(&hub);
    server.restart();
    scene::wait_until_ready(&publisher);
    scene::wait_until_ready(&hub);
    wait_until("the hub is subscribed again", || (10 <= server.subjects().len()).then_some(()));
    scene.end().all_are_told_once("source_lost");
}
