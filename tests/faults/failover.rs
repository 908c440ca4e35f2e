//! The master of a replicated Redis is killed, and three sentinels name another.

use crate::{
    scene::{self, HASTY, Scene},
    support::{hub::Hub, sentinel::SentinelGroup, swarm::Route},
};

#[test]
fn a_failover_heals_by_itself_and_leaves_a_gap() {
    let _machine = scene::share_the_machine();
    let mut group = SentinelGroup::start();
    let hub = Hub::start_with(&["--redis", &group.url()], &HASTY);
    scene::wait_until_ready(&hub);
    // By way of the hub, which finds the new master itself.
    let scene = Scene::begin("failover", &hub, Route::Http(hub.address().to_owned()));
    group.master().kill();
    scene::wait_until_not_ready(&hub);
    assert_eq!(hub.get("/health").status, 200, "the hub itself is well");
    scene::wait_until_ready(&hub);
    scene.end().all_are_told_once("source_lost");
}
