//! `fanfare report`: summarizes the logs of many subscribers. Each line of a log is one delivery, as `fanfare subscribe
//! --log-dir` writes it: `{"client":1,"received_at_ms":…,"latency_ms":…,"event":{…}}`.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{marks::Marks, sequences::Sequences};
use crate::stdio;

/// Options of `fanfare report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare report logs                      every *.log in the folder, one per client
  fanfare report logs --clients 50 --events 50
  fanfare report a.log b.log --json

Without --events, an event that no client received cannot be counted as dropped. Events with `source` and `sequence` still
reveal it: `Numbers never seen` counts, over all clients, the numbers that were skipped after the first one a client got.")]
pub struct Options {
    /// Log files, or folders of *.log files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Number of clients that subscribed [default: the number of logs]
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// Number of events published [default: the events that any client received]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Print the report as a JSON object
    #[arg(long)]
    json: bool,
}

/// Reads the logs and prints the report. Dropped events are no failure of the command.
pub fn run(options: &Options) -> Result<(), String> {
    let mut tally = Tally::new();
    for path in find_logs(&options.paths)? {
        let cannot_read = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let log = fs::File::open(&path).map_err(cannot_read)?;
        tally.read_log(&path, BufReader::new(log))?;
    }
    let report = tally.sum_up(options.clients, options.events)?;
    let text = match options.json {
        true => serde_json::to_string(&report).expect("a struct of numbers has a JSON form"),
        false => report.to_string(),
    };
    stdio::print(format_args!("{text}\n"))
}

/// The files among `paths`, and the `*.log` files of the folders, sorted by name.
fn find_logs(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut logs = Vec::new();
    for path in paths {
        if !path.is_dir() {
            logs.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        if found.is_empty() {
            return Err(format!("{} has no *.log: `fanfare subscribe --log-dir` writes them", path.display()));
        }
        found.sort();
        logs.append(&mut found);
    }
    Ok(logs)
}

/// One line of a log.
#[derive(Deserialize)]
struct Delivery<'a> {
    latency_ms: Option<f64>,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// The largest latency, in µs; larger ones count as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// All deliveries read so far.
#[derive(Debug)]
struct Tally {
    clients: u64,
    /// The index of each event, by its name.
    events: HashMap<String, usize>,
    /// Deliveries that were the first of their event at their client.
    received: u64,
    duplicated: u64,
    reordered: u64,
    /// Numbers of sources that clients never received, over all clients.
    missing: u64,
    /// Logs that end in the middle of a line, because their client was ended while it wrote.
    cut_lines: u64,
    latencies: Histogram<u64>,
}

/// The deliveries to one client.
#[derive(Default)]
struct Seen {
    /// By the event's index in [`Tally::events`].
    events: Vec<bool>,
    /// The newest timestamp among events without a sequence number.
    made_ms: f64,
    /// The events with a sequence number.
    sequences: Sequences,
}

impl Tally {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constants within the allowed bounds");
        Self {
            clients: 0,
            events: HashMap::new(),
            received: 0,
            duplicated: 0,
            reordered: 0,
            missing: 0,
            cut_lines: 0,
            latencies,
        }
    }

    /// Adds the log of another client; errors name `path`.
    fn read_log(&mut self, path: &Path, mut log: impl BufRead) -> Result<(), String> {
        self.clients += 1;
        let mut seen = Seen::default();
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            let place = || format!("{}:{number}", path.display());
            match log.read_line(&mut line).map_err(|error| format!("{}: {error}", place()))? {
                0 => break,
                _ if !line.ends_with('\n') => self.cut_lines += 1,
                _ if line.trim().is_empty() => {}
                _ => self.take_line(&line, &mut seen).map_err(|error| format!("{}: {error}", place()))?,
            }
        }
        let counts = seen.sequences.counts();
        self.reordered += counts.reordered;
        self.missing = self.missing.saturating_add(counts.missing);
        Ok(())
    }

    fn take_line(&mut self, line: &str, seen: &mut Seen) -> Result<(), String> {
        let delivery: Delivery<'_> =
            serde_json::from_str(line).map_err(|error| format!("no line of a subscriber's log: {error}"))?;
        // An event without `event_id` is identified by its whole payload.
        let (payload, next) = (delivery.event.get(), self.events.len());
        let marks = Marks::of(payload.as_bytes());
        let event = *self.events.entry(marks.event_id().unwrap_or(payload).to_owned()).or_insert(next);
        if seen.events.len() <= event {
            seen.events.resize(event + 1, false);
        }
        if std::mem::replace(&mut seen.events[event], true) {
            self.duplicated += 1;
            return Ok(());
        }
        self.received += 1;
        if marks.numbered().is_some() {
            seen.sequences.is_duplicate(0, &marks, "", payload.as_bytes());
        } else {
            let made_ms = marks.stamp_ms().unwrap_or(seen.made_ms);
            self.reordered += u64::from(made_ms < seen.made_ms);
            seen.made_ms = seen.made_ms.max(made_ms);
        }
        if let Some(latency_ms) = delivery.latency_ms {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast to an integer saturates"
            )]
            self.latencies.saturating_record(((latency_ms * 1e3).round() as u64).clamp(1, LATENCY_US_MAX));
        }
        Ok(())
    }

    /// The report, for the expected numbers of clients and events.
    fn sum_up(&self, clients: Option<u64>, events: Option<u64>) -> Result<Report, String> {
        let seen_events = self.events.len() as u64;
        let (clients, events) = (clients.unwrap_or(self.clients), events.unwrap_or(seen_events));
        if clients < self.clients {
            return Err(format!(
                "there are {} logs, more than --clients {clients}: remove those of other runs",
                self.clients
            ));
        }
        if events < seen_events {
            return Err(format!(
                "{seen_events} different events were received, more than --events {events}: are there logs of other runs?"
            ));
        }
        let expected = clients.saturating_mul(events);
        Ok(Report {
            clients,
            events,
            expected,
            received: self.received,
            dropped: expected - self.received,
            duplicated: self.duplicated,
            reordered: self.reordered,
            missing: self.missing,
            cut_lines: self.cut_lines,
            latency_ms: (!self.latencies.is_empty()).then(|| Latencies::of(&self.latencies)),
        })
    }
}

/// The figures of the report.
#[derive(Debug, Serialize)]
struct Report {
    clients: u64,
    events: u64,
    /// Expected deliveries: every event to every client.
    expected: u64,
    received: u64,
    dropped: u64,
    duplicated: u64,
    reordered: u64,
    missing: u64,
    cut_lines: u64,
    latency_ms: Option<Latencies>,
}

/// Latencies of all deliveries, in ms.
#[derive(Debug, Serialize)]
struct Latencies {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Latencies {
    fn of(latencies: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "at most an hour of microseconds")]
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Clients: {}\nEvents: {}", self.clients, self.events)?;
        writeln!(f, "Expected deliveries: {}\nReceived deliveries: {}", self.expected, self.received)?;
        writeln!(f, "Dropped deliveries: {}", self.dropped)?;
        let more = [
            ("Duplicated deliveries", self.duplicated),
            ("Reordered deliveries", self.reordered),
            ("Numbers never seen", self.missing),
            ("Lines cut off", self.cut_lines),
        ];
        for (name, count) in more.iter().filter(|(_, count)| 0 < *count) {
            writeln!(f, "{name}: {count}")?;
        }
        match &self.latency_ms {
            None => write!(f, "Latency: no event says when it was published"),
            Some(Latencies { p50, p95, p99, max }) => {
                write!(f, "Latency (ms):\np50: {p50:.1}\np95: {p95:.1}\np99: {p99:.1}\nmax: {max:.1}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
