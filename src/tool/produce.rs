//! `fanfare produce`: sensors that tell a pod what they measure, one event at a time.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde::Serialize;

use super::client::{Client, HubUrl, describe_refusal};
use crate::{protocol::http::percent_encode, topic::Topic};

/// What to make up, and where to send it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare produce
  fanfare produce -f 100 -s 10 -d 60
  fanfare produce -f 10 -u http://hub:8080 --pod bob")]
pub struct Options {
    /// Events a second, of all sensors together
    #[arg(short, long, value_name = "HZ", default_value_t = 1.0, value_parser = parse_frequency)]
    frequency: f64,
    /// How many sensors take turns: Sensor1, Sensor2 and so on
    #[arg(short, long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sensors: u32,
    /// End after so many seconds [default: at Ctrl+C]
    #[arg(short, long, value_name = "SEC", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// The hub: http://host:port or unix:/path
    #[arg(short, long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: HubUrl,
    /// The pod whose changes these are
    #[arg(long, value_name = "NAME", default_value = "alice", value_parser = parse_pod)]
    pod: String,
    /// Say how far it is after every N events
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    progress: u64,
}

/// At most so many events a second; more than one connection can carry one at a time.
const FREQUENCY_MAX: f64 = 1e6;

fn parse_frequency(text: &str) -> Result<f64, String> {
    let frequency: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if 0.0 < frequency && frequency <= FREQUENCY_MAX {
        Ok(frequency)
    } else {
        Err("it must be above 0, and at most 1000000".into())
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim_end_matches('s').parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it must be above 0".into()),
    }
}

/// A pod is one segment of its topic's name.
pub(super) fn parse_pod(text: &str) -> Result<String, String> {
    if text.contains(['.', '/']) {
        return Err("the name of a pod has neither dots nor slashes".into());
    }
    let topic = Topic::parse(&format!("pods.{text}.changes"));
    topic.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// How long a wait lasts at most, so that Ctrl+C is heeded soon.
const GLANCE: Duration = Duration::from_millis(50);
/// How often failures are told at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// Produces until the duration or Ctrl+C ends it.
pub fn run(options: &Options) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop));
    handler.map_err(|error| format!("cannot wait for Ctrl+C: {error}"))?;
    match Producer::new(options, io::stdout()).produce(&stop) {
        // Whoever read our output has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

/// What one sensor says.
#[derive(Serialize)]
struct Measurement {
    sensor: String,
    value: f64,
    /// When it was measured, as a Unix time in ms.
    timestamp: f64,
    /// From 1 on, over all sensors.
    sequence: u64,
}

struct Producer<'o, W> {
    options: &'o Options,
    client: Client,
    path: String,
    start: Instant,
    generated: u64,
    failed: u64,
    complaint_due: Option<Instant>,
    output: W,
}

impl<'o, W: Write> Producer<'o, W> {
    fn new(options: &'o Options, output: W) -> Self {
        let mut path = "/".to_owned();
        percent_encode(&options.pod, &mut path);
        path.push_str("/events/changes");
        let client = Client::new(options.url.clone());
        Self { options, client, path, start: Instant::now(), generated: 0, failed: 0, complaint_due: None, output }
    }

    fn produce(&mut self, stop: &AtomicBool) -> io::Result<()> {
        self.write_banner()?;
        self.start = Instant::now();
        for index in 0.. {
            let due = due_after(index, self.options.frequency);
            if self.options.duration.is_some_and(|duration| duration <= due) || !self.wait_until(due, stop) {
                break;
            }
            self.send(index);
            if (index + 1) % self.options.progress == 0 {
                self.write_progress()?;
            }
        }
        // The last line once more, unless it just stood there.
        if (self.generated + self.failed) % self.options.progress != 0 || self.generated + self.failed == 0 {
            self.write_progress()?;
        }
        Ok(())
    }

    fn write_banner(&mut self) -> io::Result<()> {
        let Options { frequency, sensors, duration, url, .. } = self.options;
        let names: Vec<String> = (1..=*sensors).map(|number| format!("Sensor{number}")).collect();
        let duration = describe_duration(*duration);
        writeln!(self.output, "Starting Realtime Event Producer\nFanfare URL: {url}\nSensors: {}", names.join(", "))?;
        let interval_ms = 1000.0 / frequency;
        writeln!(self.output, "Frequency: {frequency} Hz ({interval_ms}ms interval)\nDuration: {duration}\n")?;
        self.output.flush()
    }

    fn write_progress(&mut self) -> io::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = self.generated as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        let failed = if self.failed == 0 { String::new() } else { format!(", {} failed", self.failed) };
        writeln!(self.output, "Generated {} events ({rate:.2} events/sec){failed}", self.generated)?;
        self.output.flush()
    }

    /// Waits for an event's place in the schedule, which is fixed from the start. Returns false if Ctrl+C came.
    fn wait_until(&self, due: Duration, stop: &AtomicBool) -> bool {
        while !stop.load(Ordering::Relaxed) {
            let left = due.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(GLANCE));
        }
        false
    }

    fn send(&mut self, index: u64) {
        let measurement = Measurement {
            sensor: format!("Sensor{}", index % u64::from(self.options.sensors) + 1),
            value: 20.0 + (rand::random::<f64>() * 1000.0).round() / 100.0,
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3,
            sequence: index + 1,
        };
        let body = serde_json::to_vec(&measurement).expect("a struct of texts and numbers has a JSON form");
        let done = self.client.post(&self.path, &body).and_then(|answer| match answer.status {
            200..=299 => Ok(()),
            _ => Err(describe_refusal(&answer)),
        });
        match done {
            Ok(()) => self.generated += 1,
            Err(error) => self.complain(&error),
        }
    }

    /// Counts an event that was not taken, and says why, now and then.
    fn complain(&mut self, error: &str) {
        self.failed += 1;
        let now = Instant::now();
        if self.complaint_due.is_none_or(|due| due <= now) {
            self.complaint_due = Some(now + COMPLAINT_INTERVAL);
            eprintln!("fanfare: an event was not taken ({} so far): {error}. Going on", self.failed);
        }
    }
}

/// When the event with this index is due, from the start on.
fn due_after(index: u64, frequency: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "nobody publishes more than 2^53 events")]
    Duration::try_from_secs_f64(index as f64 / frequency).unwrap_or(Duration::MAX)
}

/// How long it will run, for people.
pub(super) fn describe_duration(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "Infinite (press Ctrl+C to stop)".into(), |duration| format!("{}s", duration.as_secs_f64()))
}
