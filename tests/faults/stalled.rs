//! A few clients stop reading for a while: what they miss is theirs alone, and the others notice nothing.

use std::{fs, ops::Range, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    scene::{self, HASTY, Outcome, Scene},
    support::{
        Folder,
        hub::Hub,
        swarm::{Dialect, Mark, Plan, Record, Route},
    },
};

const STALL: Duration = Duration::from_secs(10);
const STALL_IN_FULL: Duration = Duration::from_secs(30);

/// With ten events a second this fills a stalled client's window within two seconds.
const PADDING_BYTES: usize = 2000;

/// Three classes of topics. Of the short ones twenty events are kept, and no more, whoever lags.
const CLASSES: &str = r#"
[[topics.class]]
match = "close.*"
policy = "close"
history = { count = 10 }
lag = { count = 20 }

[[topics.class]]
match = "skip.*"
policy = "skip"
history = { count = 10 }
lag = { count = 20 }
"#;

/// What the topics are called; each ten subscribers have the next one.
const TOPICS: [&str; 10] =
    ["long.0", "long.1", "long.2", "close.0", "close.1", "close.2", "skip.0", "skip.1", "skip.2", "skip.3"];

/// Of each class ten stall: six SSE (the first of them with two topics), three `fanfare.v1`, one raw.
const LONG: Range<usize> = 0..10;
const CLOSE: Range<usize> = 30..40;
const SKIP: Range<usize> = 60..70;

#[test]
fn what_the_stalled_miss_is_theirs_alone() {
    let outcome = stall();
    let records = &outcome.records;
    assert!(0 < outcome.account.announced, "{}", outcome.account);
    records[LONG].iter().for_each(|record| assert!(is_undisturbed(record), "the log was long enough: {record}"));
    records[CLOSE].iter().for_each(closed_and_told);
    records[SKIP].iter().for_each(told_in_band);
    let is_stalled = |index| [LONG, CLOSE, SKIP].iter().any(|range| range.contains(&index));
    let mut others = records.iter().enumerate().filter(|(index, _)| !is_stalled(*index));
    assert!(others.all(|(_, record)| is_undisturbed(record)), "{}", outcome.account);
}

/// Some clients stall for a while, and are released.
fn stall() -> Outcome {
    let _machine = scene::own_the_machine();
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, CLASSES).expect("the folder is ours");
    // The stalled are to find the close frame when they are back.
    let settings = [&HASTY[..], &[("limits.closing_timeout", "60s")]].concat();
    let hub = Hub::start_with(&["--config", &config], &settings);
    let narrow = [LONG, CLOSE, SKIP].into_iter().flatten().collect();
    let topics = TOPICS.map(str::to_owned).to_vec();
    let plan = Plan { narrow, topics, ..Plan::mixed("", scene::SUBSCRIBERS, TOPICS.len()) };
    let scene = Scene::with(plan, &hub, Route::Http(hub.address().to_owned()), PADDING_BYTES);
    scene.swarm.take_latency();
    scene.publisher.wait_for_more(200);
    let before = scene.swarm.take_latency();
    [LONG, CLOSE, SKIP].into_iter().for_each(|range| scene.swarm.stall(range));
    scene::let_pass(scene::length(STALL, STALL_IN_FULL));
    let during = scene.swarm.take_latency();
    scene.swarm.release();
    let outcome = scene.end();
    nobody_else_waits(&before, &during);
    outcome
}

/// Nobody may wait for the stalled: those wait for many seconds. On a busy machine the threads of the test are late
/// themselves, hence the allowance.
fn nobody_else_waits(before: &Histogram<u64>, during: &Histogram<u64>) {
    let percentiles = |histogram: &Histogram<u64>| [50.0, 99.0, 100.0].map(|at| histogram.value_at_percentile(at));
    let (before, during) = (percentiles(before), percentiles(during));
    eprintln!("from publishing to receiving, p50, p99 and max in µs: before {before:?}, during {during:?}");
    assert!(during[0] <= before[0] + 100_000, "p50 of the others: {during:?} µs, {before:?} before");
    assert!(during[1] <= before[1] + 1_000_000, "p99 of the others: {during:?} µs, {before:?} before");
}

/// The policy `close`: the connection ended, and who came back was told what is gone. A window as narrow as these have may
/// be too slow for the rest of a short log, too.
fn closed_and_told(record: &Record) {
    assert!(0 < record.reconnects, "{record}");
    let is_slow = |goodbye: &String| goodbye.starts_with("4408 ");
    assert!(record.dialect == Dialect::Sse || record.goodbyes.iter().any(is_slow), "{record}");
    assert!(record.topics.iter().any(|(_, marks)| marks.iter().any(Mark::is_gap)), "{record}");
}

/// The policy `skip`: the connection goes on behind a gap, except where it has no form for one but the close frame.
fn told_in_band(record: &Record) {
    assert_eq!(0 < record.reconnects, record.dialect == Dialect::Raw, "{record}");
    for (_, marks) in &record.topics {
        let mut gaps = marks.iter().filter(|mark| mark.is_gap());
        let is_overflow = |gap: &Mark| matches!(gap, Mark::Gap { reason, .. } if reason == "overflow");
        assert!(gaps.next().is_some_and(is_overflow), "{record}");
        assert!(record.dialect == Dialect::Raw || gaps.all(is_overflow), "{record}");
    }
}

/// All events, and nothing else, on one connection.
fn is_undisturbed(record: &Record) -> bool {
    let mut marks = record.topics.iter().flat_map(|(_, marks)| marks);
    record.reconnects == 0 && record.goodbyes.is_empty() && marks.all(|mark| matches!(mark, Mark::Event { .. }))
}
