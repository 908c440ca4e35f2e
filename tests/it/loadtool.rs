//! `fanfare load` reports the behaviour of hubs correctly: of a correct hub, and of one with known faults.

use std::{
    collections::HashMap,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Folder, TIMEOUT,
    faulty_hub::{FaultyHub, block},
    guarded::Guarded,
    hub::Hub,
    redis::{RedisServer, TlsRedis, free_address},
    relay::Relay,
    send_signal, wait_until,
};

fn load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("load").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Child {
    load(arguments).spawn().expect("it was just built")
}

/// The report at the end of a run.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
    pub(crate) complaint: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), text: text(&output.stdout), complaint: text(&output.stderr) }
    }

    /// The first number in the row of this name.
    #[track_caller]
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let rest = self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    /// Checks these rows, which are counts, in this order.
    #[track_caller]
    pub(crate) fn check(&self, code: i32, expected: &[(&str, u32)]) {
        let got: Vec<(&str, f64)> = expected.iter().map(|(name, _)| (*name, self.figure(name))).collect();
        let expected: Vec<(&str, f64)> = expected.iter().map(|&(name, count)| (name, count.into())).collect();
        assert_eq!(got, expected, "{self:#?}");
        assert_eq!(self.code, Some(code), "{self:#?}");
    }

    /// Checks that everything arrived, on so many streams.
    #[track_caller]
    pub(crate) fn check_complete(&self, streams: u32, tokens: u32) {
        self.check(
            0,
            &[
                ("Tokens Published", tokens),
                ("Tokens Received", tokens),
                ("Tokens Lost", 0),
                ("Duplicates", 0),
                ("Out of Order", 0),
                ("Gaps Announced", 0),
                ("Connections Opened", streams),
                ("Connections Closed", 0),
                ("Reconnects", 0),
                ("Errors", 0),
            ],
        );
        self.check_latency();
    }

    /// Checks that the report has no warnings, apart from one that the machine is busy.
    #[track_caller]
    fn check_no_notes(&self) {
        let is_of_hub = |line: &&str| line.starts_with("Note: ") && !line.contains("this client was a bottleneck");
        assert_eq!(self.text.lines().find(is_of_hub), None, "{self:#?}");
    }

    /// Checks that the percentiles ascend.
    #[track_caller]
    fn check_latency(&self) {
        let [min, avg, max, p50, p95, p99] =
            ["min", "avg", "max", "p50", "p95", "p99"].map(|name| self.figure(&format!("Latency ({name})")));
        assert!([min, p50, p95, p99, max].is_sorted() && min <= avg && avg <= max, "{self:#?}");
        assert!(0.0 < max && self.text.contains(" ms\n"), "{self:#?}");
    }
}

fn run(arguments: &[&str]) -> Said {
    Said::of(&load(arguments).output().expect("it was just built"))
}

/// Waits until the process has ended. If it does not, it is killed and the test fails.
#[track_caller]
fn end(mut child: Child) -> Said {
    let deadline = Instant::now() + TIMEOUT;
    // The output fits into the pipes.
    let is_over = |child: &mut Child| child.try_wait().expect("it is our child").is_some();
    while !is_over(&mut child) && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(5));
    }
    let is_late = !is_over(&mut child);
    let _ = child.kill();
    let said = Said::of(&child.wait_with_output().expect("it is our child"));
    assert!(!is_late, "it should have ended: {said:#?}");
    said
}

#[test]
fn through_redis() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    let hub = Hub::start_with(&["--redis", &redis.url_as(":secret@")], &[]);
    let address = format!("{}/2", redis.url_as(":secret@"));
    let said = run(&["-r", &address, "-s", hub.url(0), "-c", "20", "-t", "10", "-d", "20"]);
    said.check_complete(20, 200);
    assert!(!said.complaint.contains("secret") && !said.text.contains("secret"), "{said:#?}");
}

#[test]
fn through_redis_with_tls() {
    let redis = TlsRedis::start(&["--requirepass", "secret"]);
    let hub = Hub::start_with(&["--redis", &redis.plain.url_as(":secret@")], &[]);
    let url = redis.url(":secret@");
    let load = |more: &[&str]| {
        let said = run(&[&["-r", &url, "-s", hub.url(0), "-c", "3", "-t", "300", "-d", "1"], more].concat());
        assert!(!said.complaint.contains("secret") && !said.text.contains("secret"), "{said:#?}");
        said
    };
    load(&["--ca", &redis.certificate()]).check_complete(3, 900);
    load(&["--insecure-tls"]).check_complete(3, 900);
    let said = load(&["--ca", &redis.other_certificate()]);
    said.check(1, &[("Tokens Published", 0)]);
    let expected = format!("cannot use Redis at {}: ", redis.url(""));
    assert!(said.text.contains(&expected) && said.text.contains("--ca FILE"), "{said:#?}");
    let plain = redis.plain.url_as(":secret@").replace("redis:", "rediss:");
    let said = run(&["-m", "producer", "-r", &plain, "--insecure-tls"]);
    assert!(said.code == Some(1) && said.text.contains("cannot use Redis at rediss://"), "{said:#?}");
}

#[test]
fn through_the_hub_alone() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let path = folder.path("report.json");
    // With one dash, as in the documentation of the former system.
    let words =
        ["-mode", "both", "-sse", hub.url(0), "-conversations=7", "-tokens", "30", "-delay", "5", "-json", &path];
    run(&words).check_complete(7, 210);
    let report: Value = serde_json::from_slice(&std::fs::read(&path).expect("it was written")).expect("it is JSON");
    assert_eq!(report["published"]["tokens_published"], 210);
    assert_eq!(report["received"]["tokens_received"], 210);
    assert_eq!(report["is_complete"], true);
    assert!(0.0 < report["latency"]["p99_ms"].as_f64().expect("a number"), "{report}");
    // Without pauses everything is sent at once, and still nothing is lost.
    run(&["-s", hub.url(0), "-c", "3", "-t", "1000", "-d", "0"]).check_complete(3, 3000);
}

#[test]
fn producer_and_consumer_apart() {
    let redis = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let consumer = start(&["-m", "consumer", "-s", hub.url(0), "-c", "4", "--duration", "5m"]);
    let is_live = |id: u32| redis.channels().contains(&format!("conversations.{id}"));
    wait_until("the conversations are live", || (1..=4).all(is_live).then_some(()));
    (1..=4).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 1));
    let address = redis.url().trim_start_matches("redis://").to_owned();
    let said = run(&["-m", "producer", "-r", &address, "-c", "4", "-t", "25", "-d", "10"]);
    said.check(0, &[("Tokens Published", 100), ("Errors", 0)]);
    assert!(!said.text.contains("Received"), "{said:#?}");
    said.check_no_notes();
    // It learns that the producer is done, and does not wait until its time is over.
    let said = end(consumer);
    said.check(0, &[("Tokens Received", 100), ("Tokens Lost", 0), ("Connections Opened", 4), ("Errors", 0)]);
    said.check_latency();
    assert!(!said.text.contains("Published"), "{said:#?}");
    said.check_no_notes();
    // No subscriber is left.
    drop(hub);
    redis.wait_for_channels(&[]);
    let said = run(&["-m", "producer", "-r", &address, "-c", "1", "-t", "2"]);
    assert!(said.text.contains("nobody was subscribed at Redis to 2 tokens"), "{said:#?}");
}

/// The number of a token; 0 for what is none.
fn sequence(payload: &str) -> u64 {
    let payload: Value = serde_json::from_str(payload).expect("payloads are JSON");
    payload["sequence"].as_u64().unwrap_or_default()
}

/// Loses every tenth token, repeats the fifth twice, and swaps the seventh with the eighth and the seventeenth with the eighteenth.
fn faults() -> impl FnMut(&str, &str) -> Vec<String> {
    let mut held = HashMap::new();
    move |topic, payload| match sequence(payload) {
        number if 0 < number && number.is_multiple_of(10) => Vec::new(),
        5 => vec![block(payload); 3],
        7 | 17 => {
            held.insert(topic.to_owned(), block(payload));
            Vec::new()
        }
        8 | 18 => vec![block(payload), held.remove(topic).expect("the one before")],
        _ => vec![block(payload)],
    }
}

#[test]
fn every_fault_of_a_hub_is_found() {
    let hub = FaultyHub::start(Duration::ZERO, faults());
    let said = run(&["-s", &hub.url(), "-c", "3", "-t", "40", "-d", "5"]);
    // The fortieth is the last one. It is missed as well.
    let found = [
        ("Tokens Published", 120),
        ("Tokens Received", 108),
        ("Tokens Lost", 12),
        ("Duplicates", 6),
        ("Out of Order", 6),
        ("Gaps Announced", 0),
        ("Connections Opened", 3),
        ("Errors", 0),
    ];
    said.check(1, &found);
}

#[test]
fn a_consumer_alone_finds_them_as_well() {
    let hub = FaultyHub::start(Duration::ZERO, faults());
    let consumer = start(&["-m", "consumer", "-s", &hub.url(), "-c", "2", "--duration", "5m"]);
    let found = [("Tokens Received", 36), ("Tokens Lost", 4), ("Duplicates", 4), ("Out of Order", 4)];
    hub.wait_for_streams(2);
    run(&["-m", "producer", "-s", &hub.url(), "-c", "2", "-t", "20", "-d", "5"]).check(0, &[("Tokens Published", 40)]);
    end(consumer).check(1, &found);
}

#[test]
fn no_token_is_published_before_it_can_be_received() {
    let mut counts: HashMap<String, u32> = HashMap::new();
    // A hub whose subscriptions take effect late: the first two tokens of each topic are lost.
    let hub = FaultyHub::start(Duration::ZERO, move |topic, payload| {
        let count = counts.entry(topic.to_owned()).or_default();
        *count += 1;
        if *count <= 2 { Vec::new() } else { vec![block(payload)] }
    });
    run(&["-s", &hub.url(), "-c", "3", "-t", "5", "-d", "5"]).check_complete(3, 15);
}

#[test]
fn a_slow_hub_is_slow_and_nothing_else() {
    let hub = FaultyHub::start(Duration::from_millis(200), |_, payload| vec![block(payload)]);
    let said = run(&["-s", &hub.url(), "-c", "2", "-t", "20", "-d", "10"]);
    said.check_complete(2, 40);
    assert!(200.0 <= said.figure("Latency (min)"), "{said:#?}");
    assert!(200.0 <= said.figure("Latency (p50)"), "{said:#?}");
}

#[test]
fn what_else_comes_is_counted_apart() {
    let hub = FaultyHub::start(Duration::ZERO, |topic, payload| {
        let gap = "event: gap\ndata: {\"reason\":\"lagged\"}\n\n".to_owned();
        match sequence(payload) {
            2 => vec![gap, block(payload)],
            3 => vec![block("{\"another\":\"event\"}"), block(payload)],
            // A token of the other conversation.
            4 if topic == "conversations.1" => {
                vec![block(&payload.replace("\"conversation\":1", "\"conversation\":2"))]
            }
            _ => vec![block(payload)],
        }
    });
    let said = run(&["-s", &hub.url(), "-c", "2", "-t", "5", "-d", "5"]);
    let found =
        [("Tokens Lost", 1), ("Misdelivered", 1), ("Foreign Events", 2), ("Gaps Announced", 2), ("Duplicates", 0)];
    said.check(1, &found);
}

#[test]
fn streams_that_are_cut_come_back_for_what_they_missed() {
    let hub = Hub::start();
    let relay = Relay::start(hub.address());
    let through = format!("http://{}", relay.address());
    let child =
        start(&["-s", &through, "-publish-url", hub.url(0), "-c", "3", "-t", "150", "-d", "10", "--duration", "1m"]);
    let delivered = |count: u64| hub.stats()["deliveries"].as_u64().filter(|it| count <= *it);
    wait_until("the run is under way", || delivered(30));
    relay.cut();
    (1..=3).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 0));
    relay.restore();
    let said = end(child);
    let found = [
        ("Tokens Published", 450),
        ("Tokens Received", 450),
        ("Tokens Lost", 0),
        ("Duplicates", 0),
        ("Connections Opened", 6),
        ("Connections Closed", 3),
        ("Reconnects", 3),
    ];
    said.check(0, &found);
    assert!(said.text.contains("streams cut"), "{said:#?}");
}

#[test]
fn a_signal_leaves_a_report() {
    let hub = Hub::start();
    for (round, signal) in (1..).zip(["INT", "TERM"]) {
        let child = start(&["-s", hub.url(0), "-c", "2", "-t", "100000", "-d", "5", "--duration", "1h"]);
        wait_until("the run is under way", || (round * 40 <= hub.stats()["deliveries"].as_u64()?).then_some(()));
        // Twice: as `timeout` does, and as an impatient user.
        send_signal(signal, child.id());
        send_signal(signal, child.id());
        let said = end(child);
        let published = said.figure("Tokens Published");
        assert!(10.0 < published && published < 200_000.0, "{said:#?}");
        assert_eq!(said.figure("Tokens Received"), published, "{said:#?}");
        said.check(130, &[("Tokens Lost", 0), ("Errors", 0)]);
        assert!(said.text.ends_with("Interrupted: the run was ended early.\n"), "{said:#?}");
        (1..=2).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 0));
    }
}

#[test]
fn the_duration_ends_the_publishing() {
    let hub = Hub::start();
    let said = run(&["-s", hub.url(0), "-c", "2", "-t", "1000", "-d", "20", "--duration", "200ms"]);
    let published = said.figure("Tokens Published");
    assert!(0.0 < published && published <= 20.0, "due within 200 ms: {said:#?}");
    assert_eq!(said.figure("Tokens Received"), published, "{said:#?}");
    said.check(0, &[("Tokens Lost", 0)]);
    assert!(said.text.contains("of 2000 tokens were sent when --duration was over"), "{said:#?}");
}

#[test]
fn conversations_begin_anew_until_the_duration_is_over() {
    let redis = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let consumer = start(&["-m", "consumer", "-s", hub.url(0), "-c", "3", "--duration", "5m"]);
    (1..=3).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 1));
    let load = ["-r", &redis.url(), "-s", hub.url(0), "-c", "3", "-t", "5", "-d", "10", "-duration", "1s", "-repeat"];
    let said = run(&load);
    let published = said.figure("Tokens Published");
    assert!(150.0 < published && published <= 300.0, "{said:#?}");
    assert!(1.0 <= said.figure("Conversations Ended"), "{said:#?}");
    let ended = (published / 15.0).floor() * 3.0;
    assert!((ended..=ended + 3.0).contains(&said.figure("Conversations Ended")), "{said:#?}");
    assert_eq!(said.figure("Tokens Received"), published, "{said:#?}");
    said.check(0, &[("Tokens Lost", 0), ("Duplicates", 0), ("Out of Order", 0), ("Connections Opened", 3)]);
    // Another subscriber gets all tokens as well, and no end before the last one.
    let report = end(consumer);
    assert_eq!(report.figure("Tokens Received"), published, "{report:#?}");
    report.check(0, &[("Tokens Lost", 0), ("Duplicates", 0), ("Out of Order", 0)]);
}

#[test]
fn a_trickle_does_not_outlast_the_duration() {
    // All are published at once, and would arrive for a minute, without a pause.
    let hub = FaultyHub::start_slow(Duration::from_millis(300));
    let said = run(&["-s", &hub.url(), "-c", "1", "-t", "200", "-d", "0", "--duration", "1s"]);
    let (received, lost) = (said.figure("Tokens Received"), said.figure("Tokens Lost"));
    assert!(0.0 < received && 100.0 < lost && received + lost == 200.0, "{said:#?}");
    assert!(said.text.contains("tokens still came 3 s after the last one was published"), "{said:#?}");
    assert_eq!(said.code, Some(1), "{said:#?}");
}

#[test]
fn a_hub_may_close_what_is_idle() {
    let hub = Hub::start_with(&[], &[("limits.idle_timeout", "50ms")]);
    run(&["-s", hub.url(0), "-c", "1", "-t", "4", "-d", "300"]).check_complete(1, 4);
}

#[test]
fn a_redis_that_dies_is_reported() {
    let mut redis = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let child = start(&["-r", &redis.url(), "-s", hub.url(0), "-c", "2", "-t", "100000", "-d", "5"]);
    wait_until("the run is under way", || (20 <= hub.stats()["deliveries"].as_u64()?).then_some(()));
    redis.kill();
    let said = end(child);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(0.0 < said.figure("Tokens Received") && said.text.contains("  publishing:"), "{said:#?}");
}

#[test]
fn a_run_that_cannot_begin_reports_why() {
    let hub = Hub::start();
    let nobody = free_address();
    let check = |arguments: &[&str], expected: &str| {
        let said = run(arguments);
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.text.contains(expected) && said.text.starts_with("=== Load test"), "{said:#?}");
    };
    check(&["-m", "producer", "-r", &nobody], &format!("cannot use Redis at redis://{nobody}"));
    check(&["-m", "producer", "-r", hub.address()], "cannot use Redis at");
    check(&["-m", "producer", "-s", &nobody], &format!("cannot reach http://{nobody}"));
    check(&["-s", &nobody, "--duration", "500ms"], "5 of 5 streams did not open");
    check(&["-m", "consumer", "-s", hub.url(0), "--duration", "300ms"], "no token arrived");
    let said = run(&["-c", "0"]);
    assert!(said.code == Some(2) && said.text.is_empty(), "{said:#?}");
}

#[test]
fn a_hub_that_requires_tokens() {
    let guarded = Guarded::start("1h", &[], &[]);
    let url = guarded.hub.url(0);
    run(&["-s", url, "-c", "2", "-t", "5", "-d", "5", "--token", guarded.admin_token()]).check_complete(2, 10);
    let said = run(&["-s", url, "-c", "2", "-t", "5"]);
    said.check(1, &[("Connections Opened", 0), ("Tokens Published", 0)]);
    assert!(said.text.contains("streams refused"), "{said:#?}");
    let said = run(&["-m", "producer", "-s", url, "-c", "2", "-t", "5", "-d", "5"]);
    said.check(1, &[("Tokens Published", 0)]);
    assert!(said.text.contains("publications refused:") && said.text.contains("401"), "{said:#?}");
}
