//! Nothing breaks: so nothing may be missing, and no gap be told.

use crate::{
    scene::{self, HASTY, Scene},
    support::{
        hub::Hub,
        swarm::{Dialect, Mark, Record, Route},
    },
};

#[test]
fn nothing_is_missing_where_nothing_breaks() {
    let _machine = scene::share_the_machine();
    let hub = Hub::start_with(&[], &HASTY);
    let scene = Scene::begin("calm", &hub, Route::Http(hub.address().to_owned()));
    let outcome = scene.end();
    assert_eq!(outcome.account.owed, outcome.account.delivered);
    assert_eq!((outcome.account.gaps.len(), outcome.account.reconnects, outcome.account.refusals), (0, 0, 0));
    outcome.ids_must_differ();
}

#[test]
fn nothing_is_missing_when_all_come_back() {
    let _machine = scene::share_the_machine();
    let hub = Hub::start_with(&[], &HASTY);
    let scene = Scene::begin("cut", &hub, Route::Http(hub.address().to_owned()));
    for _ in 0..3 {
        scene.swarm.cut();
        scene.publisher.wait_for_more(100);
    }
    let outcome = scene.end();
    assert_eq!(outcome.account.owed, outcome.account.delivered + outcome.account.unclaimed);
    assert_eq!(outcome.account.gaps.len(), 0);
    assert!(1000 <= outcome.account.reconnects);
    // Only those that are told no ids begin anew.
    let begins_anew = |record: &&Record| record.topics.iter().any(|(_, marks)| marks.contains(&Mark::Fresh));
    let anew = outcome.records.iter().filter(begins_anew);
    assert!(anew.into_iter().all(|record| record.dialect == Dialect::Raw));
}
