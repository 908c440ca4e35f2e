//! PostgreSQL is killed, stands still, or is restarted while several clients ingest: what was acknowledged is stored
//! exactly once, and published.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::{
    scene,
    support::{http::HttpConnection, hub::Hub, postgres::PostgresServer, sse::SseClient, wait_until},
};

const CLIENTS: u32 = 8;
const WELL: &str = "FAULT";
/// Acknowledgements before the fault, and after it.
const ENOUGH: u64 = 200;

/// A reading: the client, and its place among that client's.
type Reading = (u32, u32);

/// What the clients were told.
#[derive(Debug, Default)]
struct Account {
    /// With the number it was given.
    acknowledged: BTreeMap<Reading, i64>,
    refused: BTreeSet<Reading>,
    unknown: BTreeSet<Reading>,
}

#[test]
fn a_killed_server_loses_and_doubles_nothing() {
    let account = run(&[("store.patience", "20s")], |server| {
        server.kill();
        server.restart();
    });
    assert!(account.unknown.is_empty() && account.refused.is_empty(), "the hub was patient: {account:?}");
}

#[test]
fn a_server_restarted_again_and_again_loses_and_doubles_nothing() {
    run(&[("store.patience", "20s")], |server| {
        for _ in 0..if scene::in_full() { 10 } else { 3 } {
            server.stop();
            server.restart();
        }
    });
}

#[test]
fn a_server_that_stands_still_loses_and_doubles_nothing() {
    run(&[("store.patience", "20s"), ("store.write_timeout", "500ms")], |server| {
        server.suspend();
        scene::let_pass(scene::length(scene::STANDSTILL, scene::STANDSTILL_IN_FULL));
        server.resume();
    });
}

#[test]
fn an_impatient_hub_refuses_and_stores_nothing_of_it() {
    let account = run(&[("store.patience", "300ms"), ("store.write_timeout", "300ms")], |server| {
        server.suspend();
        scene::let_pass(scene::STANDSTILL);
        server.resume();
        server.kill();
        server.restart();
    });
    assert!(!account.refused.is_empty(), "it was away for longer than anybody waits");
}

/// Ingests from several clients while `fault` happens to the server, and settles the account.
fn run(settings: &[(&str, &str)], fault: impl FnOnce(&mut PostgresServer)) -> Account {
    let _machine = scene::share_the_machine();
    let mut server = PostgresServer::start();
    let hasty = [("store.backoff_min", "20ms"), ("store.backoff_max", "100ms"), ("store.republish_after", "500ms")];
    // Everything is kept, so that a subscriber sees all of it at the end.
    let roomy = [("topics.history.count", "1000000"), ("topics.history.bytes", "256MiB")];
    let hub = Hub::start_with(&["--store", &server.url()], &[&hasty[..], &roomy, settings].concat());
    scene::wait_until_ready(&hub);
    let (account, acknowledged, is_over) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (hub, account, acknowledged, is_over) = (&hub, &account, &acknowledged, &is_over);
            scope.spawn(move || ingest(client, hub, account, acknowledged, is_over));
        }
        let wait_for_more = || {
            let before = acknowledged.load(Ordering::Relaxed);
            wait_until("readings are acknowledged", || {
                (before + ENOUGH <= acknowledged.load(Ordering::Relaxed)).then_some(())
            });
        };
        // Whatever fails here, the clients must come to an end.
        let _end = crate::support::OnDrop(|| is_over.store(true, Ordering::Relaxed));
        wait_for_more();
        fault(&mut server);
        wait_for_more();
    });
    let account = account.into_inner().expect("no client has failed");
    settle(&account, &server, &hub);
    account
}

/// One reading after the other, until all is over.
fn ingest(client: u32, hub: &Hub, account: &Mutex<Account>, acknowledged: &AtomicU64, is_over: &AtomicBool) {
    let mut connection = HttpConnection::new(hub.connect());
    for place in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let body = json!({ "well_id": WELL, "torque": client, "gor": place }).to_string();
        let answer = connection.request(Method::Post, "/api/v1/telemetry/ingest", &[], body.as_bytes());
        let mut account = account.lock().expect("no client has failed");
        match answer.status {
            201 | 202 => {
                let told = answer.json();
                assert_eq!(told["stored"], true, "{told}");
                account.acknowledged.insert((client, place), told["telemetry_id"].as_i64().expect("a number"));
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            503 => {
                assert!(answer.header("Retry-After").is_some());
                account.refused.insert((client, place));
            }
            504 => drop(account.unknown.insert((client, place))),
            status => panic!("{status}: {}", answer.text()),
        }
    }
}

/// Every reading that was acknowledged is there, once, with the number that was told; none that was refused is.
fn settle(account: &Account, server: &PostgresServer, hub: &Hub) {
    let rows = server.sql("select torque::int, gor::int, telemetry_id from fanfare.telemetry");
    let mut stored = BTreeMap::new();
    for row in rows.lines() {
        let mut columns = row.split('|').map(|column| column.parse::<i64>().expect("a number"));
        let mut next = || columns.next().expect("three columns");
        let reading = (next() as u32, next() as u32);
        assert_eq!(stored.insert(reading, next()), None, "{reading:?} is there twice");
    }
    for (reading, id) in &account.acknowledged {
        assert_eq!(stored.get(reading), Some(id), "{reading:?} was acknowledged");
    }
    for (reading, id) in &stored {
        assert!(!account.refused.contains(reading), "{reading:?} was refused, and is there as {id}");
        assert!(account.acknowledged.contains_key(reading) || account.unknown.contains(reading), "{reading:?}");
    }
    let Account { acknowledged, refused, unknown } = account;
    let found = unknown.iter().filter(|reading| stored.contains_key(reading)).count();
    eprintln!(
        "{} acknowledged and stored once, {} refused and not stored, {} unknown of which {found} stored",
        acknowledged.len(),
        refused.len(),
        unknown.len()
    );
    wait_until("everything is marked as published", || {
        (server.sql("select count(*) from fanfare.outbox where published_at is null") == "0").then_some(())
    });
    all_are_published(&stored, hub);
}

/// A subscriber that reads from the beginning gets each stored reading once.
fn all_are_published(stored: &BTreeMap<Reading, i64>, hub: &Hub) {
    let mut stream = SseClient::open(hub, &format!("/sse?topic=wells.{WELL}&since=first"));
    let mut missing: BTreeSet<i64> = stored.values().copied().collect();
    while !missing.is_empty() {
        let payload: Value = serde_json::from_str(&stream.next_data()).expect("JSON");
        let id = payload["data"]["telemetry_id"].as_i64().expect("a number");
        assert!(missing.remove(&id), "{id} came twice, or was never stored");
    }
}
