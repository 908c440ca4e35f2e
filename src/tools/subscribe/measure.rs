//! Subscribes with many streams, which reconnect and resume, and reports the latency of events.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Failure, Options,
    banner::banner,
    metrics::Figures,
    report::{REPORT_INTERVAL, Report},
    scrape,
};
use crate::{
    client::{ClientEvent, ClientPool, ClientSpec, HubAccess, PoolCounts},
    marks::Marks,
    sequences::Sequences,
};

/// The longest wait of a turn, so that Ctrl+C is noticed soon.
const TURN_TIMEOUT: Duration = Duration::from_millis(100);
/// One line of a client's log.
#[derive(Serialize)]
struct LogLine<'a> {
    client: usize,
    received_at_ms: f64,
    latency_ms: Option<f64>,
    event: &'a RawValue,
}

/// Records events in counters, logs, metrics and on standard output.
struct EventRecorder<'o, W> {
    options: &'o Options,
    hub: &'o HubAccess,
    report: Report,
    sequences: Sequences,
    figures: Option<Figures>,
    logs: Vec<BufWriter<File>>,
    output: W,
    /// Why the last stream ended that did.
    last_end: Option<String>,
    /// An error of the output, kept until the end of the turn.
    broken: Option<Failure>,
}

/// Subscribes until the count, the duration or Ctrl+C ends it, and then reports in any case.
pub(super) fn run(options: &Options, hub: &HubAccess, stop: &AtomicBool, output: impl Write) -> Result<(), Failure> {
    let topics: Vec<String> = options.wanted_topics().iter().map(|topic| topic.as_str().to_owned()).collect();
    let spec =
        ClientSpec { target: options.target(), topics, transport: options.transport, since: options.since.clone() };
    let mut pool = ClientPool::open(hub, vec![spec; options.clients])?;
    let mut recorder = EventRecorder::open(options, hub, output)?;
    let interval = options.report.unwrap_or(REPORT_INTERVAL);
    let start = Instant::now();
    let mut due = start + interval;
    let mut ready_file = options.ready_file.as_deref();
    while !stop.load(Ordering::Relaxed) && !recorder.is_over(start) && !pool.is_finished() {
        let turn = pool.turn(TURN_TIMEOUT, &mut |index, event, received| recorder.take(index, &event, received));
        turn?;
        recorder.end_turn(pool.counts())?;
        if pool.counts().open() == options.clients as u64
            && let Some(path) = ready_file.take()
        {
            let written = std::fs::write(path, b"ready\n");
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        let now = Instant::now();
        // At the end the last report follows at once.
        if due <= now && !recorder.is_over(start) {
            due = (due + interval).max(now);
            recorder.write_report(start, false)?;
        }
    }
    recorder.write_report(start, true)?;
    recorder.judge(&pool)
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

impl<'o, W: Write> EventRecorder<'o, W> {
    /// Opens the logs and the metrics, and prints the banner.
    fn open(options: &'o Options, hub: &'o HubAccess, output: W) -> Result<Self, Failure> {
        let logs = options.log_dir.as_deref().map_or(Ok(Vec::new()), |folder| open_logs(folder, options.clients))?;
        let (mut figures, mut place) = (None, None);
        if let Some(address) = &options.metrics {
            let (written, registry) = Figures::new();
            (figures, place) = (Some(written), Some(scrape::serve(address, registry)?));
        }
        let (report, sequences) = (Report::new(), Sequences::default());
        let mut recorder =
            Self { options, hub, report, sequences, figures, logs, output, last_end: None, broken: None };
        if !options.json {
            writeln!(recorder.output, "{}\n", banner(options, hub.url(), place))?;
            recorder.output.flush()?;
        } else if let Some(place) = place {
            writeln!(io::stderr(), "fanfare: metrics are at http://{place}/metrics")?;
        }
        Ok(recorder)
    }

    fn is_over(&self, start: Instant) -> bool {
        self.options.count.is_some_and(|count| count <= self.report.received)
            || self.options.duration.is_some_and(|duration| duration <= start.elapsed())
    }

    fn take(&mut self, index: usize, event: &ClientEvent<'_>, received: Duration) {
        let done = match event {
            ClientEvent::Opened { .. } => Ok(()),
            ClientEvent::Event { id, data, .. } => self.take_event(index, id, data, received),
            ClientEvent::Gap(text) => {
                self.report.gaps += 1;
                report_problem(index, text)
            }
            ClientEvent::Notice(text) => report_problem(index, text),
            ClientEvent::Closed { reason, is_final, was_open } => {
                self.last_end = Some((*reason).to_owned());
                let place = if *was_open { String::new() } else { format!("no stream at {}: ", self.hub) };
                let outlook = if *is_final { "" } else { "; trying again" };
                report_problem(index, &format!("{place}{reason}{outlook}"))
            }
        };
        if let Err(failure) = done {
            self.broken.get_or_insert(failure);
        }
    }

    fn take_event(&mut self, index: usize, id: &str, data: &[u8], received: Duration) -> Result<(), Failure> {
        if self.options.count.is_some_and(|count| count <= self.report.received) {
            return Ok(());
        }
        let marks = Marks::of(data);
        if self.options.sensor.is_some() && self.options.sensor.as_deref() != marks.sensor().as_deref() {
            return Ok(());
        }
        // If the publisher's clock is ahead of ours, the latency is 0.
        let latency_ms = marks.stamp_ms().map(|stamp_ms| (received.as_secs_f64() * 1e3 - stamp_ms).max(0.0));
        let is_duplicate = self.sequences.is_duplicate(index, &marks, id, data);
        self.report.counts = self.sequences.counts();
        self.report.received += 1;
        if let Some(latency_ms) = latency_ms.filter(|_| !is_duplicate) {
            self.report.record(latency_ms);
            self.figures.iter().for_each(|figures| figures.record(latency_ms));
        }
        if let Some(log) = self.logs.get_mut(index) {
            let written = write_log(log, index + 1, data, received, latency_ms);
            written.map_err(|error| cannot_log(index, &error))?;
        }
        if self.report.received.is_multiple_of(self.options.progress) && !self.options.json {
            let (number, sensor) = (self.report.received, marks.sensor().unwrap_or_else(|| "event".into()));
            let latency = latency_ms.map_or_else(|| "no stamp".into(), |ms| format!("{ms:.2}ms latency"));
            writeln!(self.output, "📨 Event #{number}: {sensor} ({latency})")?;
        }
        Ok(())
    }

    /// Writes the results of a turn to logs, metrics and output.
    fn end_turn(&mut self, counts: PoolCounts) -> Result<(), Failure> {
        if let Some(failure) = self.broken.take() {
            return Err(failure);
        }
        (self.report.open, self.report.reconnects) = (counts.open(), counts.returns);
        self.figures.iter().for_each(|figures| figures.update(&self.report));
        for (index, log) in self.logs.iter_mut().enumerate() {
            log.flush().map_err(|error| cannot_log(index, &error))?;
        }
        Ok(self.output.flush()?)
    }

    fn write_report(&mut self, start: Instant, is_last: bool) -> io::Result<()> {
        let elapsed = start.elapsed();
        let report = match self.options.json {
            true => self.report.json(elapsed, is_last),
            false => self.report.text(elapsed),
        };
        writeln!(self.output, "{report}")?;
        self.output.flush()
    }

    /// Fails if the streams were refused or fewer events came than asked for.
    fn judge(self, pool: &ClientPool) -> Result<(), Failure> {
        match (self.last_end, self.options.count) {
            (Some(reason), _) if pool.is_finished() => Err(Failure::Hub(reason)),
            (reason, _) if pool.counts().opened == 0 => {
                let reason = reason.unwrap_or_else(|| "it had not answered yet".into());
                Err(Failure::Hub(format!("no stream was opened at {}: {reason}. Is the hub running there?", self.hub)))
            }
            (_, Some(count)) if self.report.received < count => {
                Err(Failure::Hub(format!("received {} of {count} events", self.report.received)))
            }
            _ => Ok(()),
        }
    }
}

fn report_problem(index: usize, text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stderr(), "fanfare: client {}: {text}", index + 1)?)
}

fn cannot_log(index: usize, error: &io::Error) -> Failure {
    Failure::Hub(format!("cannot write the log of client {}: {error}", index + 1))
}

/// A payload that is not JSON becomes a JSON string.
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
