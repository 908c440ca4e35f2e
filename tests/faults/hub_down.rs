//! The hub itself is killed and started again, or its subscribers go to another one.

use crate::{
    scene::{self, HASTY, Scene},
    support::{hub::Hub, redis::RedisServer, swarm::Route},
};

/// Not 127.0.0.1: the port must be free again when the hub is, and outgoing connections take theirs from that address.
const LISTEN: &str = "127.0.0.3:0";

#[test]
fn a_killed_hub_owns_up_to_what_only_it_had() {
    let _machine = scene::share_the_machine();
    let hub = Hub::start_at(LISTEN, &[], &HASTY);
    let address = hub.address().to_owned();
    let scene = Scene::begin("epoch", &hub, Route::Http(address.clone()));
    drop(hub);
    let _hub = Hub::start_at(&address, &[], &HASTY);
    scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    let outcome = scene.end();
    outcome.all_who_know_their_place_are_told_once("epoch");
}

#[test]
fn a_killed_hub_owns_up_to_what_redis_published_meanwhile() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let flags = ["--redis", &server.url()];
    let hub = Hub::start_at(LISTEN, &flags, &HASTY);
    let address = hub.address().to_owned();
    let scene = Scene::begin("epoch", &hub, Route::Redis(server.socket_path()));
    drop(hub);
    scene.publisher.wait_for_more(50);
    let _hub = Hub::start_at(&address, &flags, &HASTY);
    scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    let outcome = scene.end();
    assert!(0 < outcome.account.announced, "the publisher went on while the hub was away");
    outcome.all_who_know_their_place_are_told_once("epoch");
}

#[test]
fn another_hub_does_not_know_the_ids_of_the_first() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let flags = ["--redis", &server.url()];
    let (first, second) = (Hub::start_with(&flags, &HASTY), Hub::start_with(&flags, &HASTY));
    let scene = Scene::begin("move", &first, Route::Redis(server.socket_path()));
    scene.swarm.redirect(second.address());
    scene.swarm.cut();
    scene.publisher.wait_for_more(50);
    scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    scene.end().all_who_know_their_place_are_told_once("epoch");
}
