//! `fanfare subscribe`: listens to topics and prints their events, or reports how long they took.

mod report;
#[cfg(test)]
mod tests;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;

use self::report::Report;
use super::{
    client::{HubUrl, Incoming},
    crowd::stream::{Received, Stream, StreamEnd, Transport},
};
use crate::{protocol::http::percent_encode, topic::Topic};

/// What to listen to, and what to do with it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare subscribe --topic orders.eu
  fanfare subscribe --topic events.critical --transport ws --report 5
  fanfare subscribe http://hub:8080 --topic a --topic b --count 100 --with-id")]
pub struct Options {
    /// The hub: http://host:port or unix:/path [default: http://127.0.0.1:8080]
    #[arg(value_name = "URL")]
    place: Option<HubUrl>,
    /// The same as a flag
    #[arg(long, value_name = "URL", conflicts_with = "place")]
    url: Option<HubUrl>,
    /// A topic to listen to; may be repeated
    #[arg(long = "topic", value_name = "TOPIC", default_value = "events.critical", value_parser = Topic::parse)]
    topics: Vec<Topic>,
    /// How the events come
    #[arg(long, value_enum, default_value_t = Transport::Sse)]
    transport: Transport,
    /// Begin behind the event with this id
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    /// Print no events, but every so many seconds how long they took, by their `published_at_ms`
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    report: Option<Duration>,
    /// End after N events; ending earlier is a failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Print id, type and payload, separated by tabs, instead of the payload only
    #[arg(long)]
    with_id: bool,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim_end_matches('s').parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it must be above 0".into()),
    }
}

/// How long a read waits at most, so that Ctrl+C is heeded soon.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// Listens until the count, the duration or Ctrl+C ends it.
pub fn run(options: &Options) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop));
    handler.map_err(|error| format!("cannot wait for Ctrl+C: {error}"))?;
    let mut listener = Listener::new(options, BufWriter::new(io::stdout().lock()));
    let done = listener.listen(&stop).and_then(|()| listener.finish());
    match done {
        // Whoever read our output has seen enough.
        Err(Failure::Output(ErrorKind::BrokenPipe)) | Ok(()) => Ok(()),
        Err(Failure::Output(kind)) => Err(format!("cannot print: {kind}")),
        Err(Failure::Hub(message)) => Err(message),
    }
}

/// Why listening failed.
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
    report: Report,
    report_due: Option<Instant>,
    output: W,
}

impl<'o, W: Write> Listener<'o, W> {
    fn new(options: &'o Options, output: W) -> Self {
        let start = Instant::now();
        let report_due = options.report.map(|interval| start + interval);
        Self { options, start, received: 0, report: Report::new(), report_due, output }
    }

    fn listen(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        let url = self.options.place.clone().or_else(|| self.options.url.clone());
        let url = url.map_or_else(|| "http://127.0.0.1:8080".parse(), Ok)?;
        let mut connection = url.connect()?;
        connection.set_read_timeout(READ_TIMEOUT)?;
        let mut stream = Stream::new(self.options.transport, rand::random());
        connection.write(&stream.request(&url.host(), &url.target(&self.path()), ""))?;
        let mut answer = Vec::new();
        while !self.is_over() && !stop.load(Ordering::Relaxed) {
            let done = match connection.read()? {
                Incoming::Bytes(bytes) => self.take(&mut stream, bytes, &mut answer)?,
                Incoming::End => stream.finish(),
                Incoming::Nothing => Ok(()),
            };
            if !answer.is_empty() {
                connection.write(&answer)?;
                answer.clear();
            }
            self.report_if_due()?;
            self.output.flush()?;
            if !self.is_over() {
                done.map_err(|end| end.reason)?;
            }
        }
        Ok(())
    }

    /// The transport's path, with the topics and the place to begin at.
    fn path(&self) -> String {
        let mut path = self.options.transport.path().to_owned();
        for (index, topic) in self.options.topics.iter().enumerate() {
            path.push_str(if index == 0 { "?topic=" } else { "&topic=" });
            percent_encode(topic.as_str(), &mut path);
        }
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

    /// Outer errors are of the output, inner ones of the stream: events that came before an end still count.
    fn take(
        &mut self,
        stream: &mut Stream,
        bytes: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<Result<(), StreamEnd>, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut printed = Ok(());
        let done = stream.receive(bytes, answer, |received| {
            if printed.is_ok() {
                printed = self.take_one(&received, now);
            }
        });
        printed?;
        Ok(done)
    }

    fn take_one(&mut self, received: &Received<'_>, now: Duration) -> io::Result<()> {
        match received {
            Received::Opened | Received::Place { .. } => Ok(()),
            Received::Notice(text) | Received::Gap(text) => writeln!(io::stderr(), "fanfare: {text}"),
            Received::Event { .. } if self.is_over() => Ok(()),
            Received::Event { id, kind, data, .. } => {
                self.received += 1;
                self.report.add(data, now);
                if self.options.report.is_some() { Ok(()) } else { self.print(id, kind, data) }
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

    fn report_if_due(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let (Some(due), Some(interval)) = (self.report_due, self.options.report) else { return Ok(()) };
        if due <= now {
            self.report_due = Some((due + interval).max(now));
            writeln!(self.output, "{}", self.report.write(self.start.elapsed()))?;
        }
        Ok(())
    }

    /// The last report. A failure if fewer events came than were asked for.
    fn finish(&mut self) -> Result<(), Failure> {
        if self.options.report.is_some() {
            writeln!(self.output, "{}", self.report.write(self.start.elapsed()))?;
        }
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
