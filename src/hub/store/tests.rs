//! The pure parts: addresses, records, positions.

mod forms;

use std::time::Duration;

use super::*;
use crate::{
    budget::Budget,
    share::{Account, HeldLimits, Owner},
    topic::Topic,
};

#[test]
fn addresses_are_read_and_shown_without_the_password() {
    let check = |text: &str, shown: &str, is_tls: bool| {
        let url = StoreUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((url.to_string().as_str(), url.is_tls()), (shown, is_tls), "{text}");
        assert!(!format!("{url:?}").contains("geheim"));
    };
    check("postgres://esp:geheim@db:5433/wells", "postgres://esp:***@db:5433/wells", false);
    check("postgresql://esp@db/wells?sslmode=require", "postgres://esp@db:5432/wells", true);
    check("postgres://esp@db/wells?sslmode=verify-full", "postgres://esp@db:5432/wells", true);
    check("postgres://esp@db/wells?sslmode=prefer", "postgres://esp@db:5432/wells", false);
    check("postgres:///wells?host=/run/postgresql", "postgres:///run/postgresql/wells", false);
    check("postgres://a:1,b:2/wells", "postgres://a:1,b:2/wells", false);
}

#[test]
fn other_texts_are_no_addresses() {
    let check = |text: &str, why: &str| {
        let error = StoreUrl::parse(text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    };
    check("", "postgres://");
    check("mysql://db/wells", "postgres://");
    check("host=db dbname=wells", "postgres://");
    check("postgres:///wells", "no host");
    check("postgres://db:port/wells", "port");
    check("postgres://db/wells?colour=red", "colour");
}

fn record(kind: Kind, body: &str) -> Record {
    Record {
        key: None,
        kind,
        well_id: "W-1".into(),
        topic: Topic::parse("wells.W-1").expect("a good name"),
        time_us: 0,
        received_us: 1_763_634_600_250_000,
        body: body.into(),
    }
}

#[test]
fn events_have_the_documented_form() {
    let check = |kind: Kind, body: &str, id: Option<i64>, expected: &str| {
        let payload = record(kind, body).payload(id);
        assert_eq!(std::str::from_utf8(&payload).expect("text"), expected);
        serde_json::from_slice::<serde_json::Value>(&payload).expect("JSON");
    };
    let head = r#""timestamp":"2025-11-20T10:30:00Z","well_id":"W-1","#;
    check(
        Kind::Telemetry,
        r#"{"timestamp":"t","pip":2.5}"#,
        Some(7),
        &format!(r#"{{"event":"telemetry_update",{head}"data":{{"telemetry_id":7,"timestamp":"t","pip":2.5}}}}"#),
    );
    check(
        Kind::Telemetry,
        r#"{"timestamp":"t"}"#,
        None,
        &format!(r#"{{"event":"telemetry_update",{head}"data":{{"telemetry_id":null,"timestamp":"t"}}}}"#),
    );
    check(Kind::Alert, r#"{"type":"x"}"#, Some(7), &format!(r#"{{"event":"alert",{head}"alert":{{"type":"x"}}}}"#));
    check(
        Kind::Diagnostic,
        r#"{"a":[]}"#,
        Some(7),
        &format!(r#"{{"event":"diagnostic_update",{head}"diagnostic":{{"a":[]}}}}"#),
    );
}

#[test]
fn kinds_have_codes() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of_code(kind.code()), Some(kind));
    }
    assert_eq!(Kind::of_code(3), None);
    assert_eq!(Kind::of_code(-1), None);
}

#[test]
fn times_are_written_as_rfc_3339_has_them() {
    let check = |time_us, expected: &str| assert_eq!(write_time(time_us), expected);
    check(0, "1970-01-01T00:00:00Z");
    check(1_763_634_600_000_000, "2025-11-20T10:30:00Z");
    check(1_763_634_600_000_001, "2025-11-20T10:30:00.000001Z");
}

#[test]
fn places_are_read_as_they_are_written() {
    for place in [ReadingCursor { time_us: 0, record_id: 1 }, ReadingCursor { time_us: u64::MAX, record_id: i64::MAX }]
    {
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    for text in ["", "-", "1", "1-", "-1", "+1-1", "1-+1", "1--1", "1-1-1", "18446744073709551616-1", "a-b", " 1-1"] {
        assert_eq!(text.parse::<ReadingCursor>(), Err(()), "{text:?}");
    }
}

/// Waiting records count against their sender's share until they are stored or refused.
#[test]
fn what_waits_is_held_for_its_owner() {
    let weight = record(Kind::Alert, "{}").weight_bytes();
    let limits = HeldLimits { bytes: 5 * weight, topics: usize::MAX, connections: usize::MAX };
    let [first, second] = ["first", "second"].map(|rule| Arc::new(Account::new(rule, limits)));
    let owner = |account: &Arc<Account>| Arc::new(Owner::new([Arc::clone(account)]));
    let (first_owner, second_owner) = (owner(&first), owner(&second));
    let budget = Arc::new(Budget::new(100 * weight));
    let config = Config { queue_rows_max: 5, ..Config::default() };
    let status = Arc::new(StoreStatus::new(Duration::from_secs(1)));
    let (backlog, queued) = backlog::queue(&config, Arc::clone(&budget), Clock::start(), status);
    let records = |count: usize| vec![record(Kind::Alert, "{}"); count];
    let held = || [first.bytes(), second.bytes(), budget.used()].map(|bytes| bytes / weight);

    let owners = [(&first_owner, 2), (&second_owner, 3)].map(|(owner, end)| (Arc::clone(owner), end));
    let taken = backlog.hold(&records(3), Some(owners.into_iter().collect())).expect("there is room");
    assert_eq!(held(), [2, 1, 3]);
    backlog.push(records(3), taken, Box::new(drop));
    assert_eq!(held(), [2, 1, 3]);
    let all_first = |count: usize| Some([(Arc::clone(&first_owner), count)].into_iter().collect());
    let refused = backlog.hold(&records(4), all_first(4));
    assert!(matches!(refused, Err(ChargeRefused::Quota(refused)) if refused.rule == "first"), "{refused:?}");
    // A request without room in the queue holds nothing, and one without an owner no part of a share.
    let taken = backlog.hold(&records(3), all_first(3)).expect("there is room");
    assert_eq!(held(), [5, 1, 6]);
    backlog.push(records(3), taken, Box::new(drop));
    let taken = backlog.hold(&records(2), None).expect("there is room");
    backlog.push(records(2), taken, Box::new(drop));
    assert_eq!(held(), [2, 1, 5]);
    while let Ok(submission) = queued.try_recv() {
        submission.answer(Ok(Vec::new()));
    }
    assert_eq!(held(), [0; 3]);
    assert!(first.is_empty() && second.is_empty());
}
