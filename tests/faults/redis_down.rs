//! Redis is killed, or stands still, while a thousand listen to Pub/Sub topics.

use crate::{
    scene::{self, HASTY, Outcome, Scene},
    support::{hub::Hub, redis::RedisServer, send_signal, swarm::Route, wait_until},
};

#[test]
fn a_killed_server_leaves_a_gap() {
    let _machine = scene::share_the_machine();
    let mut server = RedisServer::start();
    // The publisher is back before the hub is: what it publishes meanwhile is what the hub must own up to.
    let settings = [("redis.backoff_min", "1s"), ("redis.backoff_max", "1s")];
    let hub = Hub::start_with(&["--redis", &server.url()], &[&HASTY[..], &settings].concat());
    let scene = Scene::begin("killed", &hub, Route::Redis(server.socket_path()));
    server.kill();
    scene::wait_until_not_ready(&hub);
    server.restart();
    scene::wait_until_ready(&hub);
    let outcome = scene.end();
    assert!(0 < outcome.account.announced, "the publisher was back before the hub");
    outcome.all_are_told_once("source_lost");
}

#[test]
fn a_server_that_stands_still_and_is_given_up_leaves_a_gap() {
    let outcome = stand_still(&[("redis.ping_interval", "500ms"), ("redis.ping_timeout", "500ms")]);
    assert!(0 < outcome.account.announced, "what was published into the standstill went to a connection given up");
    outcome.all_are_told_once("source_lost");
}

#[test]
fn a_server_that_stands_still_and_is_waited_for_loses_nothing() {
    let outcome = stand_still(&[("redis.ping_interval", "1s"), ("redis.ping_timeout", "60s")]);
    assert_eq!(outcome.account.owed, outcome.account.delivered);
    assert_eq!(outcome.account.gaps.len(), 0, "all came, if late");
}

/// Redis stops for a while under the publisher, with the hub's patience as `settings` have it.
fn stand_still(settings: &[(&str, &str)]) -> Outcome {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &server.url()], &[&HASTY[..], settings].concat());
    let scene = Scene::begin("still", &hub, Route::Redis(server.socket_path()));
    send_signal("STOP", server.pid());
    scene::let_pass(scene::length(scene::STANDSTILL, scene::STANDSTILL_IN_FULL));
    send_signal("CONT", server.pid());
    scene::wait_until_ready(&hub);
    scene.end()
}

#[test]
fn a_topic_that_nobody_listened_to_leaves_a_gap() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &server.url()], &[&HASTY[..], &[("redis.linger", "0s")]].concat());
    let scene = Scene::begin("left", &hub, Route::Redis(server.socket_path()));
    // Nobody accepts there.
    scene.swarm.redirect("127.0.0.4:9");
    scene.swarm.cut();
    wait_until("the hub listens to none of the channels", || {
        server.channels().iter().all(|channel| !channel.starts_with("left.")).then_some(())
    });
    scene.publisher.wait_for_more(50);
    scene.swarm.redirect(hub.address());
    scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    let outcome = scene.end();
    assert!(0 < outcome.account.announced, "the publisher went on while nobody listened");
    outcome.all_who_know_their_place_are_told_once("source_lost");
}
