//! Listens with many streams at once, which come back when they are cut, and reports how long events took.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Failure, Options, report::Report};
use crate::tool::{
    client::HubUrl,
    crowd::{Crowd, Member, News},
    produce::describe_duration,
};

/// How long a turn waits at most, so that Ctrl+C is heeded soon.
const TURN_TIMEOUT: Duration = Duration::from_millis(100);
/// The interval of reports if none is given.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The part of a payload that says where it comes from.
#[derive(Deserialize)]
struct Origin {
    sensor: Option<String>,
}

/// One line of a client's log.
#[derive(Serialize)]
struct LogLine<'a> {
    client: usize,
    received_at_ms: f64,
    latency_ms: Option<f64>,
    event: &'a RawValue,
}

/// What became of the events, and where it is told.
struct Desk<'o, W> {
    options: &'o Options,
    report: Report,
    logs: Vec<BufWriter<File>>,
    output: W,
    failure: Option<String>,
}

/// Listens until the count, the duration or Ctrl+C ends it, and reports at the end in any case.
pub(super) fn run(options: &Options, url: &HubUrl, stop: &AtomicBool, output: impl Write) -> Result<(), Failure> {
    let topics: Vec<String> = options.wanted_topics().iter().map(|topic| topic.as_str().to_owned()).collect();
    let member =
        Member { target: options.target(), topics, transport: options.transport, since: options.since.clone() };
    let mut crowd = Crowd::open(url, vec![member; options.clients])?;
    let logs = options.log_dir.as_deref().map_or(Ok(Vec::new()), |folder| open_logs(folder, options.clients))?;
    let mut desk = Desk { options, report: Report::new(), logs, output, failure: None };
    desk.write_banner(url)?;
    let interval = options.report.unwrap_or(REPORT_INTERVAL);
    let start = Instant::now();
    let mut due = start + interval;
    let mut ready_file = options.ready_file.as_deref();
    while !stop.load(Ordering::Relaxed) && !desk.is_over(start) && !crowd.is_deserted() {
        let turned = crowd.turn(TURN_TIMEOUT, &mut |index, news, received| desk.take(index, &news, received));
        turned?;
        desk.report.reconnects = crowd.counts().returns;
        desk.flush()?;
        if crowd.counts().open() == options.clients as u64
            && let Some(path) = ready_file.take()
        {
            let written = std::fs::write(path, b"ready\n");
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        let now = Instant::now();
        if due <= now {
            due = (due + interval).max(now);
            desk.write_report(start)?;
        }
    }
    desk.write_report(start)?;
    match (desk.failure, options.count) {
        (Some(reason), _) if crowd.is_deserted() => Err(Failure::Hub(reason)),
        (_, Some(count)) if desk.report.received < count => {
            Err(Failure::Hub(format!("received {} of {count} events", desk.report.received)))
        }
        _ => Ok(()),
    }
}

/// `client-0001.log` and so on.
fn open_logs(folder: &Path, count: usize) -> Result<Vec<BufWriter<File>>, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let open = |number: usize| {
        let path = folder.join(format!("client-{number:04}.log"));
        let file = File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(BufWriter::new(file))
    };
    (1..=count).map(open).collect()
}

impl<W: Write> Desk<'_, W> {
    fn is_over(&self, start: Instant) -> bool {
        self.options.count.is_some_and(|count| count <= self.report.received)
            || self.options.duration.is_some_and(|duration| duration <= start.elapsed())
    }

    fn write_banner(&mut self, url: &HubUrl) -> io::Result<()> {
        let sensor = self.options.sensor.as_deref().unwrap_or("ALL sensors");
        let duration = describe_duration(self.options.duration);
        let interval_s = self.options.report.unwrap_or(REPORT_INTERVAL).as_secs_f64();
        writeln!(self.output, "📡 Starting Realtime SSE Subscriber\n🔗 Fanfare URL: {url}\nListening to: {sensor}")?;
        writeln!(self.output, "⏰ Duration: {duration}\nReport interval: {interval_s}s\n")?;
        self.output.flush()
    }

    fn take(&mut self, index: usize, news: &News<'_>, received: Duration) {
        let done = match news {
            News::Opened { .. } => Ok(()),
            News::Event { data, .. } => self.take_event(index, data, received),
            News::Gap(text) => {
                self.report.gaps += 1;
                writeln!(io::stderr(), "fanfare: client {}: {text}", index + 1)
            }
            News::Notice(text) => writeln!(io::stderr(), "fanfare: client {}: {text}", index + 1),
            News::Closed { reason, is_final, .. } => {
                if *is_final {
                    self.failure = Some((*reason).to_owned());
                }
                let outlook = if *is_final { "" } else { "; trying again" };
                writeln!(io::stderr(), "fanfare: client {}: {reason}{outlook}", index + 1)
            }
        };
        if let Err(error) = done {
            self.failure.get_or_insert_with(|| format!("cannot write: {error}"));
        }
    }

    fn take_event(&mut self, index: usize, data: &[u8], received: Duration) -> io::Result<()> {
        if self.options.count.is_some_and(|count| count <= self.report.received) {
            return Ok(());
        }
        let origin = || serde_json::from_slice::<Origin>(data).ok().and_then(|origin| origin.sensor);
        if self.options.sensor.is_some() && self.options.sensor != origin() {
            return Ok(());
        }
        let latency_ms = self.report.add(data, received);
        if let Some(log) = self.logs.get_mut(index) {
            write_log(log, index + 1, data, received, latency_ms)?;
        }
        if self.report.received.is_multiple_of(self.options.progress) {
            let (number, sensor) = (self.report.received, origin().unwrap_or_else(|| "event".into()));
            let latency = latency_ms.map_or_else(|| "no stamp".into(), |ms| format!("{ms:.2}ms latency"));
            writeln!(self.output, "📨 Event #{number}: {sensor} ({latency})")?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.logs.iter_mut().try_for_each(Write::flush)?;
        self.output.flush()
    }

    fn write_report(&mut self, start: Instant) -> io::Result<()> {
        writeln!(self.output, "{}", self.report.write(start.elapsed()))?;
        self.output.flush()
    }
}

/// A payload that is not JSON stands there as a text.
fn write_log(
    log: &mut impl Write,
    client: usize,
    data: &[u8],
    received: Duration,
    latency_ms: Option<f64>,
) -> io::Result<()> {
    let text = super::one_line(&String::from_utf8_lossy(data));
    let event = match RawValue::from_string(text.clone()) {
        Ok(event) => event,
        Err(_) => serde_json::value::to_raw_value(&text)?,
    };
    let line = LogLine { client, received_at_ms: received.as_secs_f64() * 1e3, latency_ms, event: &event };
    serde_json::to_writer(&mut *log, &line)?;
    log.write_all(b"\n")
}
