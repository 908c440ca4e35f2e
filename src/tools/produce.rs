//! `fanfare produce`: publishes readings of made-up sensors to a pod, one event per request.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde::Serialize;

use super::{
    client::{AccessOptions, Client, HubUrl, describe_refusal, unshown},
    duration::{describe_duration, parse_seconds},
    pod::{DEFAULT_POD, DEFAULT_URL, parse_pod},
    publish::parse_rate,
    signals,
};
use crate::protocol::http::percent_encode;

/// Options of `fanfare produce`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare produce                          an event a second, from three sensors in turn
  fanfare produce -f 100 -s 10 -d 60       a hundred a second from ten sensors, for a minute
  fanfare produce -u http://hub:8080 --pod bob
  fanfare produce -u https://hub.example --token-file token     at a hub that requires a token, over TLS

Each event is a JSON object: source (a unique name of this run), sensor, sequence (of the sensor, from 0), value, timestamp
(scheduled time, in ms since 1970). Ctrl+C stops the command, which then prints a summary.")]
pub struct Options {
    /// Events per second, over all sensors together
    #[arg(short, long, value_name = "HZ", default_value_t = 1.0, value_parser = parse_rate, allow_negative_numbers = true)]
    frequency: f64,
    /// Number of sensors; events are theirs in turn
    #[arg(short, long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    sensors: u32,
    /// Stop after this many seconds [default: run until interrupted]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, allow_negative_numbers = true)]
    duration: Option<Duration>,
    /// URL of the hub: http://host:port, https://host:port or unix:/path
    #[arg(short, long, value_name = "URL", default_value = DEFAULT_URL, value_parser = unshown(str::parse::<HubUrl>))]
    url: HubUrl,
    /// Pod that the sensors belong to
    #[arg(long, value_name = "NAME", default_value = DEFAULT_POD, value_parser = parse_pod)]
    pod: String,
    /// Print a progress line every N events
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    progress: u64,
    #[command(flatten)]
    access: AccessOptions,
}

/// How often a wait checks for Ctrl+C.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A producer that ends further behind its schedule reports it.
const LATENESS_MAX: Duration = Duration::from_secs(1);

/// The most sensors that the banner names.
const NAMES_MAX: u32 = 10;

/// Produces until the duration or Ctrl+C ends it.
pub fn run(options: &Options) -> Result<(), String> {
    let stop = signals::catch()?;
    let done = Producer::new(options, io::stdout().lock())?.produce(&stop);
    // The reader of our output has closed it.
    done.or_else(|failure| match failure {
        Failure::Output(io::ErrorKind::BrokenPipe) => Ok(()),
        Failure::Output(kind) => Err(format!("cannot print: {kind}")),
        Failure::Hub(message) => Err(message),
    })
}

/// Why producing ended early.
#[derive(Debug)]
enum Failure {
    Hub(String),
    Output(io::ErrorKind),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error.kind())
    }
}

/// Why one event was not accepted.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The request itself is wrong, and so would be the next one.
    Final(String),
    /// The next event may be accepted.
    Passing(String),
}

struct Producer<'o, W> {
    options: &'o Options,
    client: Client,
    path: String,
    /// The unique name of this run, as others may have sensors of the same names.
    source: String,
    /// The time of the first event; the others follow at equal intervals.
    start: Instant,
    /// The same moment on the wall clock.
    start_unix: Duration,
    taken: u64,
    /// Events that were not accepted.
    failed: u64,
    /// Whether the last event failed: only changes are reported.
    is_failing: bool,
    /// The lateness of the last event.
    lateness: Duration,
    output: W,
}

#[derive(Serialize)]
struct Reading<'a> {
    source: &'a str,
    sensor: &'a str,
    /// The sensor's own sequence number.
    sequence: u64,
    value: f64,
    timestamp: f64,
}

impl<'o, W: Write> Producer<'o, W> {
    fn new(options: &'o Options, output: W) -> Result<Self, String> {
        let mut path = "/".to_owned();
        percent_encode(&options.pod, &mut path);
        path.push_str("/events/changes");
        Ok(Self {
            options,
            client: Client::new(options.access.hub(&options.url)?),
            path,
            source: format!("producer-{:08x}", rand::random::<u32>()),
            start: Instant::now(),
            start_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            taken: 0,
            failed: 0,
            is_failing: false,
            lateness: Duration::ZERO,
            output,
        })
    }

    fn produce(mut self, stop: &AtomicBool) -> Result<(), Failure> {
        writeln!(self.output, "{}\n", banner(self.options))?;
        self.output.flush()?;
        let mut number = 0;
        while self.await_turn(number, stop) {
            self.publish(number)?;
            number += 1;
        }
        if !self.taken.is_multiple_of(self.options.progress) || self.taken == 0 {
            self.print_progress()?;
        }
        if LATENESS_MAX < self.lateness {
            let (late_s, frequency) = (self.lateness.as_secs_f64(), self.options.frequency);
            let reason = format!("events were taken more slowly than {frequency} a second");
            writeln!(io::stderr(), "fanfare: {late_s:.1} s behind the schedule at the end: {reason}")?;
        }
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::Hub(format!("{failed} of {number} events were not taken"))),
        }
    }

    /// When the event with this number, counted from 0, is due. The schedule is fixed from the start: a slow hub does not
    /// slow it down.
    fn due(&self, number: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "nobody produces more than 2^53 events")]
        Duration::try_from_secs_f64(number as f64 / self.options.frequency).unwrap_or(Duration::MAX)
    }

    /// Waits until the event is due; false if the run is over.
    fn await_turn(&self, number: u64, stop: &AtomicBool) -> bool {
        let due = self.due(number);
        if self.options.duration.is_some_and(|duration| duration <= due) {
            return false;
        }
        loop {
            let rest = due.saturating_sub(self.start.elapsed());
            if stop.load(Ordering::Relaxed) || rest.is_zero() {
                return !stop.load(Ordering::Relaxed);
            }
            thread::sleep(rest.min(LOOK_INTERVAL));
        }
    }

    fn publish(&mut self, number: u64) -> Result<(), Failure> {
        self.lateness = self.start.elapsed().saturating_sub(self.due(number));
        let sensors = u64::from(self.options.sensors);
        let (sensor, sequence) = (format!("Sensor{}", number % sensors + 1), number / sensors);
        let timestamp = round((self.start_unix + self.due(number)).as_secs_f64() * 1e3, 1e3);
        let reading = Reading { source: &self.source, sensor: &sensor, sequence, value: wave(sequence), timestamp };
        let payload = serde_json::to_vec(&reading).expect("a struct of texts and numbers has a JSON form");
        match self.send(&payload) {
            Ok(()) => self.note_taken(),
            Err(Refusal::Passing(reason)) => self.note_failed(&reason),
            Err(Refusal::Final(reason)) => Err(Failure::Hub(format!("{reason} ({} events were taken)", self.taken))),
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let answer = self.client.post(&self.path, payload).map_err(Refusal::Passing)?;
        match answer.status {
            200..300 => Ok(()),
            // Too many, or not now (RFC 9110 section 15.5.9, RFC 6585 section 4).
            408 | 429 | 500.. => Err(Refusal::Passing(describe_refusal(&answer))),
            _ => Err(Refusal::Final(describe_refusal(&answer))),
        }
    }

    fn note_taken(&mut self) -> Result<(), Failure> {
        self.taken += 1;
        if std::mem::take(&mut self.is_failing) {
            writeln!(io::stderr(), "fanfare: the hub takes events again; {} were not taken", self.failed)?;
        }
        if self.taken.is_multiple_of(self.options.progress) {
            self.print_progress()?;
        }
        Ok(())
    }

    fn note_failed(&mut self, reason: &str) -> Result<(), Failure> {
        self.failed += 1;
        if !std::mem::replace(&mut self.is_failing, true) {
            writeln!(io::stderr(), "fanfare: {reason}; going on with the next events")?;
        }
        Ok(())
    }

    /// Accepted events per second after `elapsed`. Each event stands for the interval after it: ten events at intervals of a
    /// second have a rate of 1, although only nine seconds lie between the first and the last.
    fn rate(&self, elapsed: Duration) -> f64 {
        let span = elapsed.max(self.due(self.taken + self.failed));
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let taken = self.taken as f64;
        if span.is_zero() { 0.0 } else { taken / span.as_secs_f64() }
    }

    fn print_progress(&mut self) -> io::Result<()> {
        let rate = self.rate(self.start.elapsed());
        writeln!(self.output, "Generated {} events ({rate:.2} events/sec)", self.taken)?;
        self.output.flush()
    }
}

/// The lines before the first event. Programs read them, so labels such as `Kvasir URL` stay as documented.
fn banner(options: &Options) -> String {
    let Options { url, frequency, sensors, .. } = options;
    let names: Vec<String> = (1..=(*sensors).min(NAMES_MAX)).map(|number| format!("Sensor{number}")).collect();
    let more = if *sensors <= NAMES_MAX { String::new() } else { format!(" … Sensor{sensors}") };
    let pod = if options.pod == DEFAULT_POD { String::new() } else { format!(" (pod {})", options.pod) };
    let duration = describe_duration(options.duration);
    let interval_ms = round(1e3 / frequency, 1e3);
    format!(
        "Starting Realtime Event Producer\nKvasir URL: {url}{pod}\nSensors: {}{more}\n\
         Frequency: {frequency} Hz ({interval_ms}ms interval)\nDuration: {duration}",
        names.join(", "),
    )
}

/// A temperature that rises and falls once in 60 events of a sensor.
fn wave(sequence: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "below 60")]
    let angle = (sequence % 60) as f64 / 60.0 * std::f64::consts::TAU;
    round(21.0 + 4.0 * angle.sin(), 1e2)
}

/// Rounds `number` to a multiple of `1 / parts`.
fn round(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        CommandLine::parse_from(["produce"].iter().chain(arguments)).options
    }

    #[test]
    fn banners() {
        let check = |arguments: &[&str], expected: &str| assert_eq!(banner(&options(arguments)), expected);
        check(
            &["-f", "5"],
            "Starting Realtime Event Producer\nKvasir URL: http://localhost:8080\n\
             Sensors: Sensor1, Sensor2, Sensor3\nFrequency: 5 Hz (200ms interval)\n\
             Duration: Infinite (press Ctrl+C to stop)",
        );
        check(
            &["-f", "1500", "-s", "11", "-d", "2.5", "-u", "hub:80", "--pod", "bob"],
            "Starting Realtime Event Producer\nKvasir URL: http://hub:80 (pod bob)\n\
             Sensors: Sensor1, Sensor2, Sensor3, Sensor4, Sensor5, Sensor6, Sensor7, Sensor8, Sensor9, Sensor10 … Sensor11\n\
             Frequency: 1500 Hz (0.667ms interval)\nDuration: 2.5 seconds",
        );
    }

    #[test]
    fn the_schedule_is_fixed_and_has_an_end() {
        let options = options(&["-f", "1000", "-d", "0.003"]);
        let producer = Producer::new(&options, Vec::new()).expect("nothing is asked for");
        let never = AtomicBool::new(false);
        let sent = (0..).take_while(|&number| producer.await_turn(number, &never)).count();
        assert_eq!(sent, 3, "due at 0, 1 and 2 ms");
        assert_eq!(producer.due(2), Duration::from_millis(2));
        assert!(!producer.await_turn(0, &AtomicBool::new(true)), "told to stop");
    }

    #[test]
    fn rates() {
        let check = |frequency: &str, (taken, failed): (u64, u64), elapsed_ms: u64, expected: f64| {
            let options = options(&["-f", frequency]);
            let mut producer = Producer::new(&options, Vec::new()).expect("nothing is asked for");
            (producer.taken, producer.failed) = (taken, failed);
            let rate = producer.rate(Duration::from_millis(elapsed_ms));
            assert!(
                (rate - expected).abs() < 0.005,
                "{rate}, not {expected}: {taken} at {frequency} in {elapsed_ms} ms"
            );
        };
        // On time, from the first line on: nine intervals lie between ten events.
        check("5", (1, 0), 1, 5.0);
        check("5", (10, 0), 1802, 5.0);
        check("5", (20, 0), 3801, 5.0);
        // Of what the hub took, not of what was meant.
        check("5", (10, 10), 3802, 2.5);
        check("1000", (10, 0), 100, 100.0);
        check("5", (0, 10), 1802, 0.0);
        check("5", (0, 0), 0, 0.0);
    }
}
