//! `fanfare subscribe` as an instrument: what it measures, logs, and says at the end.

use std::process::{Child, Command, Output, Stdio};

use crate::support::{Folder, hub::Hub, send_signal, stdout_of, wait_until};

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it was just built")
}

fn finish(child: Child) -> Output {
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
    let first: serde_json::Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["client"], &first["event"]["sensor"]), (&1.into(), &"Sensor2".into()));
    assert!(first["latency_ms"].is_f64() && first["received_at_ms"].is_f64(), "{first}");
}

#[test]
fn an_interrupt_leaves_a_report_even_without_a_hub() {
    let folder = Folder::new();
    let logs = folder.path("logs");
    let child = start(&["subscribe", "-u", "http://127.0.0.1:1", "-r", "60", "--log-dir", &logs]);
    wait_until("it has begun", || std::fs::exists(format!("{logs}/client-0001.log")).ok()?.then_some(()));
    send_signal("INT", child.id());
    let said = stdout_of(&finish(child));
    assert!(said.contains("=== Latency Report ===\n  Events received: 0\n"), "{said}");
}
