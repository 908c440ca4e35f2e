//! `fanfare produce` and `fanfare subscribe` print what the former system's document prints, line by line, but for figures and
//! the hub's port.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use crate::support::{hub::Hub, send_signal, stdout_of};

const PRODUCER: &str = "\
Starting Realtime Event Producer
Kvasir URL: http://localhost:8080
Sensors: Sensor1, Sensor2, Sensor3
Frequency: 5 Hz (200ms interval)
Duration: Infinite (press Ctrl+C to stop)

Generated 10 events (5.02 events/sec)
Generated 20 events (5.01 events/sec)
Generated 30 events (4.99 events/sec)
";

const SUBSCRIBER: &str = "\
📡 Starting Realtime SSE Subscriber
🔗 Kvasir URL: http://localhost:8080
Listening to: ALL sensors
⏰ Duration: Infinite (press Ctrl+C to stop)
Report interval: 10s

📨 Event #100: Sensor2 (45.32ms latency)
📨 Event #200: Sensor1 (52.18ms latency)

=== Latency Report ===
  Events received: 253
  Event rate: 5.02 events/sec
  Latency (avg): 48.73ms
  Latency (min): 12.45ms
  Latency (max): 234.67ms
  Latency (p50): 42.30ms
  Latency (p95): 87.12ms
  Latency (p99): 145.89ms
  Tail ratio (p99/p50): 3.45x
========================
";

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().expect("it was just built")
}

/// The hub as the document names it: by the name of this machine.
fn local_url(hub: &Hub) -> String {
    format!("http://localhost:{}", hub.address().rsplit_once(':').expect("it has a port").1)
}

/// `text` without what differs from run to run: each decimal number is a `#` with as many digits behind its point.
fn form(text: &str) -> String {
    let mut form = String::new();
    let mut letters = text.chars().peekable();
    let mut has_point = false;
    while let Some(letter) = letters.next() {
        let is_point = letter == '.' && form.ends_with('#') && letters.peek().is_some_and(char::is_ascii_digit);
        match letter {
            '0'..='9' if form.ends_with('#') && !has_point => {}
            '0'..='9' if has_point => form.push('d'),
            '0'..='9' => form.push('#'),
            _ => form.push(letter),
        }
        has_point = is_point || (has_point && letter.is_ascii_digit());
    }
    form
}

#[test]
fn a_producer_prints_the_documented_lines() {
    const FREQUENCY: f64 = 20.0;
    let hub = Hub::start();
    let mut producer = start(&["produce", "-f", "20", "-u", &local_url(&hub)]);
    let lines = BufReader::new(producer.stdout.take().expect("it was asked for")).lines();
    let said: Vec<String> = lines.take(PRODUCER.lines().count()).map(|line| line.expect("UTF-8")).collect();
    send_signal("INT", producer.id());
    producer.wait().expect("it is our child");
    assert_eq!(form(&(said.join("\n") + "\n")), form(PRODUCER));
    // The rate is right from the first line on. On a busy machine it is lower, and never higher.
    for (line, count) in said[6..].iter().zip([10, 20, 30]) {
        let rate = line.strip_prefix(&format!("Generated {count} events (")).and_then(|rest| rest.split(' ').next());
        let rate: f64 = rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        assert!((0.8 * FREQUENCY..=1.005 * FREQUENCY).contains(&rate), "{said:?}");
    }
}

#[test]
fn a_subscriber_prints_the_documented_lines() {
    let hub = Hub::start();
    let url = local_url(&hub);
    let subscriber = start(&["subscribe", "-u", &url, "--count", "253"]);
    hub.wait_for_listeners("pods.alice.changes", 1);
    stdout_of(&start(&["produce", "-f", "500", "-d", "0.506", "-u", &url]).wait_with_output().expect("our child"));
    let said = stdout_of(&subscriber.wait_with_output().expect("it is our child"));
    assert_eq!(form(&said), form(SUBSCRIBER));
}
