//! `fanfare subscribe` and `fanfare report` against a server with known faults: they report exactly those.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::support::{Folder, stdout_of};

/// Events that the source has made. The first and the last one arrive.
const EVENTS: u32 = 101;
/// Age of the last tenth of the events when they are sent, in ms.
const DELAY_MS: f64 = 300.0;

/// What arrives, in order: every 10th is lost, four come twice, two pairs are swapped.
fn deliveries() -> Vec<u32> {
    let mut numbers: Vec<u32> = (1..=EVENTS).filter(|number| number % 10 != 0).collect();
    for late in [41, 65] {
        let at = numbers.iter().position(|&number| number == late).expect("it is not lost");
        numbers.swap(at, at + 1);
    }
    for twice in [3, 28, 53, 78] {
        let at = numbers.iter().position(|&number| number == twice).expect("it is not lost");
        numbers.insert(at + 1, twice);
    }
    numbers
}

/// Serves the same faults to one subscriber after the other. Returns the URL. The thread ends with the process.
fn start_faulty_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    url
}

fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer).expect("a whole request");
        head.extend_from_slice(&buffer[..count]);
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1e3;
    let mut body = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_owned();
    for number in deliveries() {
        let delay_ms = if EVENTS - 10 < number { DELAY_MS } else { 0.0 };
        let stamp_ms = now_ms - delay_ms;
        let event = format!(
            r#"{{"event_id":"e{number}","source":"faulty","sequence":{number},"published_at_ms":{stamp_ms:.3}}}"#
        );
        write!(body, "id: 1-{number}\ndata: {event}\n\n").expect("a String takes every write");
    }
    stream.write_all(body.as_bytes()).expect("the subscriber reads");
    // Until the subscriber has left.
    while stream.read(&mut buffer).is_ok_and(|count| 0 < count) {}
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null()).output().expect("it was just built")
}

#[track_caller]
fn check(report: &Value, expected: &[(&str, u64)]) {
    expected.iter().for_each(|(name, count)| assert_eq!(report[name], *count, "{name}: {report}"));
}

/// All events were sent at once. However long it took to read them, the delayed ones took 300 ms more.
#[track_caller]
fn check_delay(p50_ms: &Value, p95_ms: &Value) {
    let [p50_ms, p95_ms] = [p50_ms, p95_ms].map(|figure| figure.as_f64().expect("a number of ms"));
    assert!((DELAY_MS * 0.99..DELAY_MS + 1000.0).contains(&(p95_ms - p50_ms)), "{p50_ms} {p95_ms}");
}

#[test]
fn faults_are_reported() {
    let (url, folder) = (start_faulty_server(), Folder::new());
    let logs = folder.path("logs");
    let count = deliveries().len().to_string();
    let line = ["subscribe", "-u", &url, "--topic", "t", "--count", &count, "--log-dir", &logs];
    let said = stdout_of(&run(&[&line[..], &["--json"]].concat()));
    let report: Value = serde_json::from_str(&said).expect("one line of JSON");
    check(&report, &[("events", 95), ("duplicates", 4), ("reordered", 2), ("missing", 10)]);
    check(&report, &[("gaps", 0), ("reconnects", 0), ("unfollowed", 0)]);
    check_delay(&report["p50_ms"], &report["p95_ms"]);

    let said = stdout_of(&run(&["report", &logs, "--events", "101", "--json"]));
    let report: Value = serde_json::from_str(&said).expect("one line of JSON");
    check(&report, &[("expected", 101), ("received", 91), ("dropped", 10), ("duplicated", 4), ("reordered", 2)]);
    check(&report, &[("missing", 10), ("cut_lines", 0)]);
    check_delay(&report["latency_ms"]["p50"], &report["latency_ms"]["p95"]);

    let said = stdout_of(&run(&line));
    assert!(said.contains("x\n  Duplicates: 4\n  Out of order: 2\n  Missing: 10\n====="), "{said}");
    let said = stdout_of(&run(&["report", &logs]));
    let expected = "Dropped deliveries: 0\nDuplicated deliveries: 4\nReordered deliveries: 2\nNumbers never seen: 10\n";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn percentiles_of_logs_are_true() {
    let folder = Folder::new();
    // 1 to 1,000 ms, each once, in no order and spread over ten clients.
    for client in 0..10_u64 {
        let line = |index: u64| {
            let latency_ms = (index * 10 + client) * 7 % 1000 + 1;
            format!(r#"{{"client":1,"received_at_ms":5,"latency_ms":{latency_ms},"event":{{"event_id":"e{index}"}}}}"#)
        };
        let lines: Vec<String> = (0..100).map(line).collect();
        std::fs::write(folder.path(&format!("c{client}.log")), lines.join("\n") + "\n").expect("the folder is ours");
    }
    let said = stdout_of(&run(&["report", &folder.path("")]));
    let (counts, latencies) = said.split_once("Latency (ms):\n").expect("there are latencies");
    assert!(
        counts.starts_with("Clients: 10\nEvents: 100\nExpected deliveries: 1000\nReceived deliveries: 1000\n"),
        "{said}"
    );
    let figures = latencies.lines().map(|line| line.split_once(": ").expect("a figure"));
    let figures: Vec<(&str, f64)> = figures.map(|(name, ms)| (name, ms.parse().expect("a number"))).collect();
    for ((name, ms), (expected, expected_ms)) in
        figures.iter().zip([("p50", 500.0), ("p95", 950.0), ("p99", 990.0), ("max", 1000.0)])
    {
        // Histograms keep three digits.
        assert!(*name == expected && (ms - expected_ms).abs() <= expected_ms / 1000.0, "{said}");
    }
    assert_eq!(figures.len(), 4);
}
