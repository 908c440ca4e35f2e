//! `fanfare subscribe`: subscribes to topics and prints their events, or reports their latency.

mod banner;
mod measure;
mod metrics;
mod report;
mod scrape;
#[cfg(test)]
mod tests;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    client::{AccessOptions, Connection, HubAccess, HubUrl, Incoming, Received, Stream, StreamEnd, Transport, unshown},
    duration::parse_seconds,
    pod::{DEFAULT_POD, DEFAULT_URL, parse_pod},
    signals,
};
use crate::{protocol::http::percent_encode, topic::Topic};

/// Options of `fanfare subscribe`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare subscribe --topic orders.eu
  fanfare subscribe --topic events.critical --transport ws --report 5
  fanfare subscribe http://hub:8080 --topic a --topic b --count 100 --with-id
  fanfare subscribe https://hub.example --topic a --token-file token     at a hub that requires a token, over TLS
  fanfare subscribe --metrics 127.0.0.1:9101 --json

Latency is measured for events with `published_at_ms` or `timestamp`: a Unix time in ms, or RFC 3339. Events with
`sequence` and `source` or `sensor` are checked for duplicates and for missing or reordered numbers: each source, with its
sensor, must number its own events. A stream that is cut reconnects and resumes.")]
pub struct Options {
    /// URL of the hub: http://host:port, https://host:port or unix:/path [default: http://localhost:8080]
    #[arg(value_name = "URL", value_parser = unshown(str::parse::<HubUrl>))]
    place: Option<HubUrl>,
    /// URL of the hub, as a flag instead of an argument
    #[arg(short, long, value_name = "URL", conflicts_with = "place", value_parser = unshown(str::parse::<HubUrl>))]
    url: Option<HubUrl>,
    /// Topic to subscribe to; may be repeated. Without it, the changes of a pod are measured
    #[arg(long = "topic", value_name = "TOPIC", value_parser = Topic::parse)]
    topics: Vec<Topic>,
    /// Pod whose changes to subscribe to if there is no --topic
    #[arg(long, value_name = "NAME", default_value = DEFAULT_POD, value_parser = parse_pod, conflicts_with = "topics")]
    pod: String,
    /// Measure, and count only the events of the sensor ID
    #[arg(short, long, value_name = "ID")]
    sensor: Option<String>,
    /// Number of streams to open; with more than one, they are measured together
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_clients)]
    clients: usize,
    /// Measure, and write each client's events to DIR/client-0001.log and so on
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Measure, and create FILE once all streams are open
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// When measuring, print every Nth event
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    progress: u64,
    /// Transport of the events
    #[arg(long, value_enum, default_value_t = Transport::Sse)]
    transport: Transport,
    /// Resume after the event with this id
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    /// Measure: every this many seconds print latencies instead of events, by the timestamp in each event
    #[arg(short, long = "report-interval", visible_alias = "report", value_name = "SECONDS", value_parser = parse_seconds,
          allow_negative_numbers = true)]
    report: Option<Duration>,
    /// Measure, and print reports as lines of JSON and nothing else
    #[arg(long)]
    json: bool,
    /// Measure, and serve Prometheus metrics at http://ADDR/metrics
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// Stop after N events; stopping with fewer is a failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds,
          allow_negative_numbers = true)]
    duration: Option<Duration>,
    /// Print id, type and payload separated by tabs instead of the payload alone
    #[arg(long)]
    with_id: bool,
    #[command(flatten)]
    access: AccessOptions,
}

fn parse_clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=100_000) => Ok(count),
        _ => Err("a number from 1 to 100000".into()),
    }
}

impl Options {
    /// Whether events are measured, over streams that reconnect, instead of printed.
    fn measures(&self) -> bool {
        let is_reported = self.report.is_some() || self.json || self.metrics.is_some();
        let is_asked = is_reported || self.sensor.is_some() || self.log_dir.is_some() || self.ready_file.is_some();
        self.topics.is_empty() || is_asked || 1 < self.clients
    }

    fn wanted_topics(&self) -> Vec<Topic> {
        if self.topics.is_empty() {
            let pod = Topic::parse(&format!("pods.{}.changes", self.pod));
            return vec![pod.expect("the pod's name was parsed")];
        }
        self.topics.clone()
    }

    /// Path and query, without the id to resume from.
    fn target(&self) -> String {
        if self.topics.is_empty() && self.transport == Transport::Sse {
            let mut path = "/".to_owned();
            percent_encode(&self.pod, &mut path);
            path.push_str("/events/changes");
            return path;
        }
        let mut path = self.transport.path().to_owned();
        for (index, topic) in self.wanted_topics().iter().enumerate() {
            path.push_str(if index == 0 { "?topic=" } else { "&topic=" });
            percent_encode(topic.as_str(), &mut path);
        }
        path
    }
}

/// The longest wait of a read, so that Ctrl+C is noticed soon.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// Subscribes until the count, the duration or Ctrl+C ends it.
pub fn run(options: &Options) -> Result<(), String> {
    let stop = signals::catch()?;
    let output = BufWriter::new(io::stdout().lock());
    let done = options.place.clone().or_else(|| options.url.clone()).map_or_else(|| DEFAULT_URL.parse(), Ok);
    let done = done.and_then(|url| options.access.hub(&url)).map_err(Failure::Hub).and_then(|hub| {
        if options.measures() {
            return measure::run(options, &hub, &stop, output);
        }
        let mut listener = Listener::new(options, output);
        listener.listen(&hub, &stop).and_then(|()| listener.finish())
    });
    match done {
        // The reader of our output has closed it.
        Err(Failure::Output(ErrorKind::BrokenPipe)) | Ok(()) => Ok(()),
        Err(Failure::Output(kind)) => Err(format!("cannot print: {kind}")),
        Err(Failure::Hub(message)) => Err(message),
    }
}

/// Why the command failed.
#[derive(Debug)]
enum Failure {
    Hub(String),
    Output(ErrorKind),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Hub(message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error.kind())
    }
}

struct Listener<'o, W> {
    options: &'o Options,
    start: Instant,
    received: u64,
    output: W,
}

impl<'o, W: Write> Listener<'o, W> {
    fn new(options: &'o Options, output: W) -> Self {
        let start = Instant::now();
        Self { options, start, received: 0, output }
    }

    fn listen(&mut self, hub: &HubAccess, stop: &AtomicBool) -> Result<(), Failure> {
        let mut connection = Connection::open(hub)?;
        connection.set_read_timeout(READ_TIMEOUT)?;
        let mut stream = Stream::new(self.options.transport, rand::random());
        connection.write(&stream.request(hub, &hub.url().target(&self.path()), ""))?;
        let mut answer = Vec::new();
        while !self.is_over() && !stop.load(Ordering::Relaxed) {
            let done = match connection.read()? {
                Incoming::Bytes(bytes) => self.take(&mut stream, bytes, &mut answer)?,
                Incoming::End => stream.finish(),
                Incoming::TimedOut => Ok(()),
            };
            if !answer.is_empty() {
                connection.write(&answer)?;
                answer.clear();
            }
            self.output.flush()?;
            if !self.is_over() {
                done.map_err(|end| end.reason)?;
            }
        }
        Ok(())
    }

    /// Path and query, with the id to resume from.
    fn path(&self) -> String {
        let mut path = self.options.target();
        if let Some(since) = &self.options.since {
            path.push_str("&last_event_id=");
            percent_encode(since, &mut path);
        }
        path
    }

    fn is_over(&self) -> bool {
        self.options.count.is_some_and(|count| count <= self.received)
            || self.options.duration.is_some_and(|duration| duration <= self.start.elapsed())
    }

    /// The outer error is the output's, the inner one the stream's: events that came before its end still count.
    fn take(
        &mut self,
        stream: &mut Stream,
        bytes: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<Result<(), StreamEnd>, Failure> {
        let mut printed = Ok(());
        let done = stream.receive(bytes, answer, |received| {
            if printed.is_ok() {
                printed = self.take_one(&received);
            }
        });
        printed?;
        Ok(done)
    }

    fn take_one(&mut self, received: &Received<'_>) -> io::Result<()> {
        match received {
            Received::Opened | Received::Subscribed { .. } => Ok(()),
            Received::Notice(text) | Received::Gap(text) => writeln!(io::stderr(), "fanfare: {text}"),
            Received::Event { .. } if self.is_over() => Ok(()),
            Received::Event { id, kind, data, .. } => {
                self.received += 1;
                self.print(id, kind, data)
            }
        }
    }

    fn print(&mut self, id: &str, kind: &str, data: &[u8]) -> io::Result<()> {
        let data = one_line(&String::from_utf8_lossy(data));
        if self.options.with_id {
            writeln!(self.output, "{id}\t{kind}\t{data}")
        } else {
            writeln!(self.output, "{data}")
        }
    }

    /// A failure if fewer events came than were asked for.
    fn finish(&mut self) -> Result<(), Failure> {
        self.output.flush()?;
        match self.options.count {
            Some(count) if self.received < count => {
                Err(Failure::Hub(format!("received {} of {count} events", self.received)))
            }
            _ => Ok(()),
        }
    }
}

/// A payload's line breaks as `\n` and `\r`, so that one line stays one event.
fn one_line(data: &str) -> String {
    if data.contains(['\n', '\r']) { data.replace('\n', "\\n").replace('\r', "\\r") } else { data.to_owned() }
}
