//! `fanfare subscribe`: its measurements, its logs, and its report.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;
use socket2::Socket;

use crate::support::{
    Folder, TIMEOUT,
    http::{HttpConnection, Response, exchange},
    hub::Hub,
    redis::free_address,
    relay::Relay,
    send_signal, stdout_of, wait_until,
};

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it was just built")
}

pub(crate) fn finish(child: Child) -> Output {
    child.wait_with_output().expect("it is our child")
}

#[test]
fn a_subscriber_measures_what_sensors_say() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let logs = folder.path("logs");
    let line = ["subscribe", "-u", hub.url(0), "-s", "Sensor2", "--count", "10", "--progress", "5", "--log-dir", &logs];
    let subscriber = start(&line);
    hub.wait_for_listeners("pods.alice.changes", 1);
    let produced = stdout_of(&finish(start(&["produce", "-f", "100", "-s", "2", "-d", "0.2", "-u", hub.url(0)])));
    assert!(produced.contains("Sensors: Sensor1, Sensor2\nFrequency: 100 Hz (10ms interval)"), "{produced}");
    assert!(produced.contains("\nGenerated 10 events (") && produced.contains("\nGenerated 20 events ("), "{produced}");
    let said = stdout_of(&finish(subscriber));
    assert!(said.contains("Event #5: Sensor2 (") && said.contains("  Events received: 10\n"), "{said}");
    assert!(said.contains("Tail ratio (p99/p50): "), "{said}");
    let log = std::fs::read_to_string(format!("{logs}/client-0001.log")).expect("it was written");
    assert_eq!(log.lines().count(), 10);
    let first: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["client"], &first["event"]["sensor"]), (&1.into(), &"Sensor2".into()));
    assert!(first["latency_ms"].is_f64() && first["received_at_ms"].is_f64(), "{first}");
}

/// The last report of a subscriber with `--json`.
#[track_caller]
fn last_report(output: &Output) -> Value {
    let said = stdout_of(output);
    serde_json::from_str(said.lines().last().expect("a report")).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[track_caller]
fn check_counts(report: &Value, expected: &[(&str, u64)]) {
    expected.iter().for_each(|(name, count)| assert_eq!(report[name], *count, "{name}: {report}"));
}

#[test]
fn an_interrupt_leaves_a_report_even_without_a_hub() {
    let folder = Folder::new();
    let logs = folder.path("logs");
    let child = start(&["subscribe", "-u", "http://127.0.0.1:1", "-r", "60", "--log-dir", &logs]);
    wait_until("it has begun", || std::fs::exists(format!("{logs}/client-0001.log")).ok()?.then_some(()));
    send_signal("INT", child.id());
    let output = finish(child);
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("=== Latency Report ===\n  Events received: 0\n"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("no stream was opened at http://127.0.0.1:1: "), "{complaint}");
}

#[test]
fn a_hub_that_is_never_there_is_tried_until_the_end() {
    let output = finish(start(&["subscribe", "-u", "http://127.0.0.1:1", "-d", "0.7", "-r", "0.7"]));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    let attempt = "no stream at http://127.0.0.1:1: cannot connect: Connection refused (os error 111); trying again";
    assert!(1 < complaint.matches(attempt).count(), "{complaint}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).matches("Latency Report").count(),
        1,
        "not one more: {output:?}"
    );
    let end = "Connection refused (os error 111). Is the hub running there?\n";
    assert!(complaint.ends_with(end), "{complaint}");
}

#[test]
fn an_interrupt_before_any_event() {
    let hub = Hub::start();
    for signal in ["INT", "TERM"] {
        let subscriber = start(&["subscribe", "-u", hub.url(0), "--json"]);
        hub.wait_for_listeners("pods.alice.changes", 1);
        send_signal(signal, subscriber.id());
        let report = last_report(&finish(subscriber));
        check_counts(&report, &[("events", 0), ("gaps", 0), ("missing", 0)]);
        assert!(report.get("p50_ms").is_none(), "nothing was measured: {report}");
        hub.wait_for_listeners("pods.alice.changes", 0);
    }
}

#[test]
fn a_report_is_a_line_of_json() {
    let hub = Hub::start();
    let mut subscriber = start(&["subscribe", "-u", hub.url(0), "--topic", "t", "--json", "-r", "0.1"]);
    let lines = BufReader::new(subscriber.stdout.take().expect("it was asked for")).lines();
    let mut reports = lines.map(|line| -> Value { serde_json::from_str(&line.expect("UTF-8")).expect("only JSON") });
    hub.wait_for_listeners("t", 1);
    stdout_of(&finish(start(&["publish", "--url", hub.url(0), "--topic", "t", "--count", "3"])));
    let is_there = |report: &Value| report["events"] == 3;
    let report = reports.find(is_there).expect("one of the next");
    assert_eq!((&report["is_last"], &report["streams_open"]), (&false.into(), &1.into()));
    assert!(report["p99_ms"].is_f64() && report["p99_ms"].as_f64() >= report["p50_ms"].as_f64(), "{report}");
    send_signal("TERM", subscriber.id());
    let last = reports.last().expect("the last one");
    assert_eq!((&last["is_last"], is_there(&last)), (&true.into(), true), "{last}");
    assert!(subscriber.wait().expect("it is our child").success());
}

#[test]
fn a_hub_that_restarts_is_a_gap_and_no_end() {
    let (address, retry) = (free_address(), [("sse.retry", "100ms")]);
    let hub = Hub::start_at(&address, &[], &retry);
    let url = format!("http://{address}");
    let subscriber = start(&["subscribe", "-u", &url, "--topic", "t", "--report", "60"]);
    let publish = || stdout_of(&finish(start(&["publish", "--url", &url, "--topic", "t", "--count", "3"])));
    hub.wait_for_listeners("t", 1);
    publish();
    wait_until("all are delivered", || (hub.stats()["deliveries"] == 3).then_some(()));
    drop(hub);
    let hub = Hub::start_at(&address, &[], &retry);
    hub.wait_for_listeners("t", 1);
    publish();
    wait_until("all are delivered", || (hub.stats()["deliveries"] == 3).then_some(()));
    send_signal("TERM", subscriber.id());
    let output = finish(subscriber);
    let said = stdout_of(&output);
    assert!(said.contains("  Events received: 6\n"), "{said}");
    assert!(said.ends_with("x\n  Reconnects: 1\n  Gaps: 1\n========================\n"), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("epoch"), "{output:?}");
}

#[test]
fn what_is_replayed_is_no_duplicate() {
    let hub = Hub::start_with(&[], &[("sse.retry", "100ms")]);
    let relay = Relay::start(hub.address());
    let url = format!("http://{}", relay.address());
    for transport in ["sse", "fanfare.v1"] {
        let line =
            ["subscribe", "-u", &url, "--topic", "t", "--transport", transport, "--count", "7", "-d", "30", "--json"];
        let subscriber = start(&line);
        let publish = |sequence: u64| hub.publish("t", format!(r#"{{"source":"s","sequence":{sequence}}}"#));
        hub.wait_for_listeners("t", 1);
        let third = r#"quence":3"#;
        let before = relay.passed_count(third);
        (1..=3).for_each(|sequence| drop(publish(sequence)));
        wait_until("three have passed", || (relay.passed_count(third) == before + 1).then_some(()));
        relay.cut();
        hub.wait_for_listeners("t", 0);
        (4..=6).for_each(|sequence| drop(publish(sequence)));
        relay.restore();
        hub.wait_for_listeners("t", 1);
        publish(7);
        let report = last_report(&finish(subscriber));
        let none = [("gaps", 0), ("duplicates", 0), ("reordered", 0), ("missing", 0)];
        check_counts(&report, &[&[("events", 7), ("reconnects", 1)], &none[..]].concat());
        hub.wait_for_listeners("t", 0);
    }
}

/// Starts a subscriber with metrics. Returns it and the address of the metrics.
pub(crate) fn start_with_metrics(hub: &Hub) -> (Child, String) {
    let mut subscriber = start(&["subscribe", "-u", hub.url(0), "--metrics", "127.0.0.1:0"]);
    let said = BufReader::new(subscriber.stdout.as_mut().expect("it was asked for")).lines();
    let address = said
        .map(|line| line.expect("UTF-8"))
        .find_map(|line| line.strip_prefix("Metrics: http://")?.strip_suffix("/metrics").map(str::to_owned));
    (subscriber, address.expect("the banner says where"))
}

pub(crate) fn connect(address: &str) -> Socket {
    let socket = Socket::from(TcpStream::connect(address).expect("somebody serves there"));
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    socket
}

fn ask(address: &str, method: Method, target: &str) -> Response {
    HttpConnection::new(connect(address)).request(method, target, &[], b"")
}

#[test]
fn prometheus_reads_a_subscriber() {
    let hub = Hub::start();
    let (subscriber, address) = start_with_metrics(&hub);
    hub.wait_for_listeners("pods.alice.changes", 1);
    for age_ms in [0, 20, 70, 200, 700, 1500, 3000, 9000] {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let event = format!(r#"{{"sensor":"S","timestamp":{}}}"#, now.as_millis() - age_ms);
        assert_eq!(hub.post("/alice/events/changes", event).status, 201);
    }
    let text = wait_until("all events are counted", || {
        let text = ask(&address, Method::Get, "/metrics").text();
        text.contains("\nfanfare_subscriber_events_total 8\n").then_some(text)
    });
    let bucket = |line: &str| line.strip_prefix("sse_latency_seconds_bucket{le=")?.split(' ').nth(1)?.parse().ok();
    let buckets: Vec<u64> = text.lines().filter_map(bucket).collect();
    assert_eq!(buckets.len(), 8, "{text}");
    assert!(buckets.is_sorted() && buckets[0] < 2 && buckets[7] == 8 && buckets[6] < 8, "{buckets:?}");
    for line in ["sse_latency_seconds_count 8", "fanfare_subscriber_streams 1", "# TYPE sse_latency_seconds histogram"]
    {
        assert!(text.contains(&format!("\n{line}\n")) || text.starts_with(line), "{line}: {text}");
    }
    send_signal("INT", subscriber.id());
    assert!(finish(subscriber).status.success());
}

#[test]
fn metrics_are_all_there_is_at_their_address() {
    let hub = Hub::start();
    let (subscriber, address) = start_with_metrics(&hub);
    let ours = ask(&address, Method::Get, "/metrics");
    assert_eq!(ours.status, 200);
    assert_eq!(ask(&address, Method::Get, "/").status, 404);
    let refused = ask(&address, Method::Post, "/metrics");
    assert_eq!((refused.status, refused.header("Allow")), (405, Some("GET, HEAD")));
    assert_eq!(HttpConnection::new(connect(&address)).request(Method::Head, "/metrics", &[], b"").body, b"");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(10_000));
    assert!(exchange(connect(&address), long.as_bytes()).starts_with("HTTP/1.1 431 "));
    assert!(exchange(connect(&address), b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    // A silent client holds a connection for some seconds, and there are few.
    let silent: Vec<Socket> = (0..16).map(|_| connect(&address)).collect();
    wait_until("no connection is left", || exchange(connect(&address), b"").is_empty().then_some(()));
    drop(silent);
    wait_until("there is one again", || {
        exchange(connect(&address), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .starts_with("HTTP/1.1 200 ")
            .then_some(())
    });
    let taken = finish(start(&["subscribe", "-u", hub.url(0), "--metrics", &address]));
    let complaint = String::from_utf8_lossy(&taken.stderr);
    assert!(
        taken.status.code() == Some(1) && complaint.contains(&address) && complaint.contains("in use"),
        "{complaint}"
    );
    send_signal("INT", subscriber.id());
    assert!(finish(subscriber).status.success());
}
