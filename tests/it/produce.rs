//! `fanfare produce`: its sensors' events reach the pod's readers, and its report is correct.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{hub::Hub, redis::free_address, send_signal, sse::SseClient, stdout_of, wait_until};

fn produce(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("produce").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    produce(arguments).output().expect("it was just built")
}

#[test]
fn readings_reach_the_pod_one_by_one() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/bob/events/changes");
    let said = stdout_of(&run(&["-u", hub.url(0), "--pod", "bob", "-f", "100", "-s", "2", "-d", "0.25"]));
    let readings: Vec<Value> =
        (0..25).map(|_| serde_json::from_str(&stream.next_data()).expect("a JSON object")).collect();
    for (sequence, reading) in readings.iter().enumerate() {
        assert_eq!(reading["sensor"], format!("Sensor{}", sequence % 2 + 1));
        assert_eq!(reading["sequence"], sequence / 2, "each sensor counts its own");
        assert_eq!(reading["source"], readings[0]["source"]);
        assert!(reading["value"].is_f64(), "{reading}");
    }
    let stamp = |index: usize| readings[index]["timestamp"].as_f64().expect("milliseconds");
    let span_ms = stamp(24) - stamp(0);
    assert!((239.9..240.1).contains(&span_ms), "events are stamped with when they were due: {span_ms}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "Starting Realtime Event Producer");
    assert_eq!(
        lines[2..5],
        ["Sensors: Sensor1, Sensor2", "Frequency: 100 Hz (10ms interval)", "Duration: 0.25 seconds"]
    );
    let received: Vec<&str> =
        lines[6..].iter().filter_map(|line| line.split_once(" events (").map(|it| it.0)).collect();
    assert_eq!(received, ["Generated 10", "Generated 20", "Generated 25"], "{said}");
}

#[test]
fn an_interrupted_producer_says_what_it_did() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/alice/events/changes");
    let producer = produce(&["-u", hub.url(0), "-f", "200", "--progress", "1000000"]).spawn().expect("just built");
    (0..3).for_each(|_| drop(stream.next_data()));
    send_signal("INT", producer.id());
    let output = producer.wait_with_output().expect("it is our child");
    let said = stdout_of(&output);
    let count: usize = said
        .lines()
        .find_map(|line| line.strip_prefix("Generated ")?.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    (3..count).for_each(|_| drop(stream.next_data()));
    wait_until("the hub has no more of them", || (hub.stats()["deliveries"] == count).then_some(()));
}

#[test]
fn refused_events_are_counted() {
    let output = run(&["-u", "http://127.0.0.1:1", "-f", "100", "-d", "0.05"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert_eq!(complaint.matches("Is the hub running there?").count(), 1, "reported once: {complaint}");
    assert!(complaint.ends_with("5 of 5 events were not taken\n"), "{complaint}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Generated 0 events"));
}

#[test]
fn a_refusal_that_would_repeat_itself_ends_it() {
    let hub = Hub::start_with(&[], &[("limits.body_bytes_max", "8B")]);
    let output = run(&["-u", hub.url(0), "-f", "100"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("the hub answered 413"), "{complaint}");
}

#[test]
fn a_hub_that_goes_and_comes_back() {
    let address = free_address();
    let hub = Hub::start_at(&address, &[], &[]);
    let url = format!("http://{address}");
    let mut producer = produce(&["-u", &url, "-f", "100", "--progress", "1"]).spawn().expect("just built");
    let mut said = BufReader::new(producer.stdout.take().expect("it was asked for")).lines();
    let mut complaints = BufReader::new(producer.stderr.take().expect("it was asked for")).lines();
    let next = |lines: &mut dyn Iterator<Item = std::io::Result<String>>, what: &str| {
        let line = lines.map(|line| line.expect("it writes UTF-8")).find(|line| line.contains(what));
        line.unwrap_or_else(|| panic!("it should say: {what}"))
    };
    next(&mut said, "Generated 3 events");
    drop(hub);
    assert!(next(&mut complaints, "fanfare: ").ends_with("; going on with the next events"));
    let hub = Hub::start_at(&address, &[], &[]);
    let again = next(&mut complaints, "the hub takes events again");
    let stream = SseClient::open(&hub, "/alice/events/changes").next_data();
    assert!(stream.contains("\"sensor\":\"Sensor"), "{stream}");
    send_signal("TERM", producer.id());
    let status = wait_until("the producer ends", || producer.try_wait().expect("it is our child"));
    assert_eq!(status.code(), Some(1), "not all were taken");
    // The last line reports as many as the lines before.
    let lost = again.split(' ').rev().nth(3).expect("a number");
    let end = next(&mut complaints, "events were not taken");
    assert!(end.starts_with(&format!("fanfare: {lost} of ")), "{again}: {end}");
    // Each event was either accepted or refused.
    let taken = said.last().expect("it says how many were taken").expect("it writes UTF-8");
    let count = |text: &str, index: usize| -> u64 {
        text.split(' ').nth(index).and_then(|it| it.parse().ok()).expect("a number")
    };
    assert_eq!(count(&taken, 1) + count(&end, 1), count(&end, 3), "{taken}: {end}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |arguments: &[&str], expected: &str| {
        let output = run(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    };
    for bad in ["0", "-5", "NaN", "inf", "1e999"] {
        check(&["-f", bad], "it must be from 0.000001 to 1000000");
    }
    check(&["-f", "fast"], "not a number");
    for bad in ["0", "-5"] {
        check(&["-d", bad], "it must be above 0: leave it out for no end");
    }
    check(&["-s", "0"], "0 is not in 1..");
    check(&["--pod", "a.b"], "neither dots nor slashes");
}

#[test]
fn a_producer_behind_its_schedule_reports_it() {
    let hub = Hub::start();
    let producer = produce(&["-u", hub.url(0), "-f", "1e6", "--progress", "1000"]).spawn().expect("just built");
    let start = Instant::now();
    wait_until("it is behind", || (Duration::from_millis(1500) < start.elapsed()).then_some(()));
    send_signal("INT", producer.id());
    let output = producer.wait_with_output().expect("it is our child");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.contains(" s behind the schedule at the end: "), "{complaint}");
}
