//! The master of a replicated Redis is killed, and three sentinels name another.

use crate::{
    scene::{self, HASTY, Outcome, Scene},
    support::{hub::Hub, sentinel::SentinelGroup, swarm::Route},
};

#[test]
fn a_failover_heals_by_itself_and_leaves_a_gap() {
    fail_over(&[]).all_are_told_once("source_lost");
}

#[test]
fn a_failover_of_streams_loses_nothing_that_was_replicated() {
    let outcome = fail_over(&[("topics.log", "redis-stream"), ("topics.history.count", "5000")]);
    // Replication is not waited for. What the new master lacks, it lacks for all, and all are told.
    match outcome.account.gaps.len() {
        0 => assert_eq!(outcome.account.owed, outcome.account.delivered + outcome.account.unclaimed),
        _ => assert_eq!(outcome.account.gaps.keys().collect::<Vec<_>>(), ["epoch"], "{}", outcome.account),
    }
}

/// The master is killed under a publisher that comes by way of the hub, which finds the new master itself.
fn fail_over(settings: &[(&str, &str)]) -> Outcome {
    let _machine = scene::share_the_machine();
    let mut group = SentinelGroup::start();
    let hub = Hub::start_with(&["--redis", &group.url()], &[&HASTY[..], settings].concat());
    scene::wait_until_ready(&hub);
    let scene = Scene::begin("failover", &hub, Route::Http(hub.address().to_owned()));
    group.master().kill();
    scene::wait_until_not_ready(&hub);
    assert_eq!(hub.get("/health").status, 200, "the hub itself is well");
    scene::wait_until_ready(&hub);
    scene.end()
}
