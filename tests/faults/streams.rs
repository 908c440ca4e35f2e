//! Topics whose log is a Redis Stream: whatever breaks, nothing is missing while the stream itself lasts.

use std::ops::Range;

use crate::{
    scene::{self, HASTY, Scene, nothing_is_missing},
    support::{
        hub::Hub,
        redis::RedisServer,
        send_signal,
        swarm::{Plan, Route},
        wait_until,
    },
};

/// Far more than what is published while anything is broken.
const STREAMS: [(&str, &str); 2] = [("topics.log", "redis-stream"), ("topics.history.count", "5000")];

/// Not 127.0.0.1: the port must be free again when the hub is, and outgoing connections take theirs from that address.
const LISTEN: &str = "127.0.0.3:0";

#[test]
fn a_killed_hub_has_lost_nothing() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let (flags, settings) = (["--redis", &server.url()], settings());
    let hub = Hub::start_at(LISTEN, &flags, &settings);
    let address = hub.address().to_owned();
    let scene = Scene::begin("again", &hub, Route::Stream(server.socket_path()));
    drop(hub);
    scene.publisher.wait_for_more(100);
    let _hub = Hub::start_at(&address, &flags, &settings);
    scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    nothing_is_missing(&scene.end());
}

#[test]
fn a_killed_hub_has_lost_nothing_that_it_acknowledged() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let (flags, settings) = (["--redis", &server.url()], settings());
    let hub = Hub::start_at(LISTEN, &flags, &settings);
    let address = hub.address().to_owned();
    let scene = Scene::begin("again", &hub, Route::Http(address.clone()));
    drop(hub);
    let _hub = Hub::start_at(&address, &flags, &settings);
    scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    let outcome = scene.end();
    nothing_is_missing(&outcome);
    outcome.ids_must_differ();
}

#[test]
fn subscribers_go_on_at_another_hub() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let (flags, settings) = (["--redis", &server.url()], settings());
    let (first, second) = (Hub::start_with(&flags, &settings), Hub::start_with(&flags, &settings));
    let scene = Scene::begin("move", &first, Route::Http(first.address().to_owned()));
    for hub in [&second, &first, &second] {
        scene.swarm.redirect(hub.address());
        scene.swarm.cut();
        scene.publisher.wait_for_more(50);
        scene.swarm.wait_until_open(scene::SUBSCRIBERS);
    }
    let outcome = scene.end();
    nothing_is_missing(&outcome);
    outcome.ids_must_differ();
}

#[test]
fn a_killed_server_that_kept_its_streams_has_lost_nothing() {
    let _machine = scene::share_the_machine();
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let hub = Hub::start_with(&["--redis", &server.url()], &settings());
    let scene = Scene::begin("kept", &hub, Route::Stream(server.socket_path()));
    server.kill();
    scene::wait_until_not_ready(&hub);
    server.restart();
    scene::wait_until_ready(&hub);
    let outcome = scene.end();
    assert_eq!(outcome.account.reconnects, 0, "{}", outcome.account);
    nothing_is_missing(&outcome);
}

#[test]
fn a_killed_server_that_kept_nothing_leaves_a_gap() {
    let _machine = scene::share_the_machine();
    let mut server = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &server.url()], &settings());
    let scene = Scene::begin("gone", &hub, Route::Stream(server.socket_path()));
    server.kill();
    scene::wait_until_not_ready(&hub);
    server.restart();
    scene::wait_until_ready(&hub);
    scene.end().all_are_told_once("epoch");
}

#[test]
fn a_server_that_stands_still_loses_nothing() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let patience = [("redis.ping_interval", "500ms"), ("redis.ping_timeout", "500ms")];
    let hub = Hub::start_with(&["--redis", &server.url()], &[&settings()[..], &patience].concat());
    let scene = Scene::begin("still", &hub, Route::Stream(server.socket_path()));
    send_signal("STOP", server.pid());
    scene::let_pass(scene::length(scene::STANDSTILL, scene::STANDSTILL_IN_FULL));
    send_signal("CONT", server.pid());
    scene::wait_until_ready(&hub);
    nothing_is_missing(&scene.end());
}

/// One of each ten of a thousand: six SSE, three `fanfare.v1`, one raw.
const STALLED: Range<usize> = 0..10;

#[test]
fn the_stalled_get_from_the_stream_what_the_log_has_dropped() {
    let _machine = scene::share_the_machine();
    let server = RedisServer::start();
    let short = [("topics.history.count", "10"), ("topics.lag.count", "20"), ("topics.policy", "close")];
    // How often a hub looks after those who take nothing.
    let often = [("sse.heartbeat", "1s"), ("websocket.ping_interval", "1s")];
    let settings = [&HASTY[..], &STREAMS[..1], &short, &often].concat();
    let hub = Hub::start_with(&["--redis", &server.url()], &settings);
    let plan = Plan { narrow: STALLED.collect(), ..Plan::mixed("behind", scene::SUBSCRIBERS, 10) };
    // Who adds to a stream without a bound does not trim it.
    let scene = Scene::with(plan, &hub, Route::Stream(server.socket_path()), 4000);
    scene.swarm.stall(STALLED);
    wait_until("the stalled are closed", || (closes_for_gaps(&hub) == STALLED.len() as u64).then_some(()));
    scene.swarm.release();
    let outcome = scene.end();
    // Only the raw one cannot say where it was.
    assert!(outcome.account.notified <= 1, "{}", outcome.account);
    let (stalled, others) = outcome.records.split_at(STALLED.end);
    // On a busy machine one may be sent away more than once.
    assert!(stalled.iter().all(|record| 1 <= record.reconnects), "{stalled:?}");
    assert!(others.iter().all(|record| record.reconnects == 0), "{}", outcome.account);
}

/// How many connections were closed because events are missing for them.
fn closes_for_gaps(hub: &Hub) -> u64 {
    let text = hub.get("/metrics").text();
    let closes = text.lines().filter(|line| line.starts_with("fanfare_closes_total{") && line.contains("\"gap\""));
    closes.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn settings() -> Vec<(&'static str, &'static str)> {
    [&HASTY[..], &STREAMS].concat()
}
