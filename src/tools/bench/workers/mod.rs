//! `--processes`: several client processes, for loads that exceed one. Each worker takes its share of the subscribers, of
//! those that never read and of those that come and go; the publishers stay in the process that started the workers. All
//! count time from the same moment of the machine's monotonic clock, so that timestamps can be compared. The workers' counts
//! add up to what one process would have measured, except for the median of an event's deliveries, which does not follow
//! from the medians of its parts.

mod messages;
mod worker;

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

pub(super) use worker::serve;

use super::{
    churn::Visits,
    fleet::FleetResult,
    histogram::latency_histogram,
    plan::Plan,
    process::CpuUse,
    run::{LoadRun, RunContext},
    slices::Slicing,
    tally::Tally,
};
use crate::{clock::Clock, os};
use messages::{Answer, Request, State, WorkerConfig, WorkerResult};

/// Timeout of a worker's answer, which mostly takes less than a millisecond.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of an answer after a worker has opened stalled connections, each of which may wait for the server, or has
/// stopped.
const LONG_ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The most bytes of a worker's standard error that are kept.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// Readings for the calibration of clocks; the one with the shortest interruption counts.
const CALIBRATION_READINGS: u32 = 200;

/// The flag that makes a process a worker.
pub(super) const WORKER_FLAG: &str = "--as-member";

/// The worker processes; none with `--processes 1`.
#[derive(Debug, Default)]
pub(super) struct WorkerSet {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    /// Such as `client process 1 of 2`, for messages.
    name: String,
    core: Option<usize>,
    child: Child,
    config: ChildStdin,
    answers: Receiver<String>,
    /// Collects the worker's standard error to its end.
    complaint: Option<JoinHandle<String>>,
    subscribers: u32,
    /// The last reported states, by load.
    states: Vec<State>,
    result: Option<Box<WorkerResult>>,
    /// Why the worker ended.
    death: Option<String>,
}

/// A worker as the report shows it.
#[derive(Clone, Debug)]
pub(super) struct WorkerStats {
    pub pid: u32,
    pub core: Option<usize>,
    pub subscribers: u32,
    pub deliveries: u64,
    pub death: Option<String>,
}

/// What all workers measured together.
#[derive(Debug)]
pub(super) struct RunResult {
    pub fleets: Vec<FleetResult>,
    pub visits: Option<Visits>,
    pub drift: Option<Duration>,
}

impl WorkerSet {
    /// Starts the processes that `plan` asks for, each with the arguments of this one.
    pub(super) fn start(plan: &Plan, context: &RunContext) -> Result<Self, String> {
        let mut workers = Self::default();
        if plan.processes == 1 {
            return Ok(workers);
        }
        let origin_ns = monotonic_origin_ns(&context.clock);
        for worker in 0..plan.processes {
            let config = WorkerConfig {
                worker,
                worker_count: plan.processes,
                origin_ns,
                run: context.run,
                rate_hz: plan.loads[0].pace.rate,
                core: plan.worker_core(worker),
            };
            let started = Worker::start(plan, &config);
            workers.workers.push(started.map_err(|error| format!("client process {}: {error}", worker + 1))?);
        }
        Ok(workers)
    }

    /// Whether there are no workers: this process has the subscribers.
    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Asks each worker for its state, and sets the progress of each run to their sum.
    pub(super) fn poll(&mut self, runs: &[LoadRun]) {
        if self.is_empty() {
            return;
        }
        self.ask(&Request::State, ANSWER_TIMEOUT);
        self.sum_up(runs);
    }

    fn sum_up(&self, runs: &[LoadRun]) {
        for (load, run) in runs.iter().enumerate() {
            State::sum_up(self.workers.iter().filter_map(|worker| worker.states.get(load)), &run.progress);
        }
    }

    /// Why a worker ended, if one has.
    pub(super) fn death(&self) -> Option<&str> {
        self.workers.iter().find_map(|worker| worker.death.as_deref())
    }

    /// Fails if a worker has ended.
    pub(super) fn check_alive(&self) -> Result<(), String> {
        self.death().map_or(Ok(()), |death| Err(death.to_owned()))
    }

    /// Lets the workers open the connections that never read.
    pub(super) fn stall(&mut self) -> Result<(), String> {
        self.ask(&Request::Stall, LONG_ANSWER_TIMEOUT);
        self.check_alive()
    }

    /// Lets the workers start the short-lived subscribers.
    pub(super) fn start_churn(&mut self) -> Result<(), String> {
        self.ask(&Request::StartChurn, ANSWER_TIMEOUT);
        self.check_alive()
    }

    /// Lets the workers stop the short-lived subscribers.
    pub(super) fn stop_churn(&mut self) {
        self.ask(&Request::StopChurn, ANSWER_TIMEOUT);
    }

    /// Ends the workers and adds up their results. The result of a worker that died is missing.
    pub(super) fn finish(&mut self, runs: &[LoadRun]) -> RunResult {
        let ends = runs.iter().map(|run| run.progress.event_end(run.schedule.event_count())).collect();
        self.ask(&Request::Finish { ends }, LONG_ANSWER_TIMEOUT);
        self.sum_up(runs);
        let mut sum = RunResult { fleets: runs.iter().map(empty_result).collect(), visits: None, drift: None };
        for result in self.workers.iter().filter_map(|worker| worker.result.as_ref()) {
            for (fleet, load) in sum.fleets.iter_mut().zip(&result.loads) {
                load.add_to(fleet);
            }
            if let Some(visits) = &result.visits {
                visits.add_to(&mut sum.visits);
            }
            sum.drift = sum.drift.max(result.drift_ns.map(Duration::from_nanos));
        }
        for (fleet, run) in sum.fleets.iter_mut().zip(runs) {
            fleet.tally.cut(run.progress.event_end(run.schedule.event_count()));
        }
        sum
    }

    /// The CPU time of each worker so far; zero for one that has ended.
    pub(super) fn cpu_uses(&self) -> Vec<CpuUse> {
        let used = |worker: &Worker| CpuUse::of_process(worker.child.id()).unwrap_or_default();
        self.workers.iter().map(used).collect()
    }

    /// The CPU time of each fleet's thread, in nanoseconds.
    pub(super) fn fleets_ns(&self) -> Vec<u64> {
        let threads = self.workers.iter().flat_map(|worker| &worker.states).filter_map(|state| state.thread.as_ref());
        threads.map(|folder| super::process::thread_run_ns(folder)).collect()
    }

    pub(super) fn stats(&self) -> Vec<WorkerStats> {
        let stats = |worker: &Worker| WorkerStats {
            pid: worker.child.id(),
            core: worker.core,
            subscribers: worker.subscribers,
            deliveries: worker.states.iter().map(|state| state.deliveries).sum(),
            death: worker.death.clone(),
        };
        self.workers.iter().map(stats).collect()
    }

    /// Sends a request to all workers that live, then reads their answers, so that they work in parallel.
    fn ask(&mut self, request: &Request, timeout: Duration) {
        let line = serde_json::to_string(request).expect("a request has a JSON form") + "\n";
        let is_asked: Vec<bool> = self.workers.iter_mut().map(|worker| worker.send(&line)).collect();
        for (worker, _) in self.workers.iter_mut().zip(is_asked).filter(|(_, is_asked)| *is_asked) {
            worker.read_answer(timeout);
        }
    }
}

impl Worker {
    fn start(plan: &Plan, config: &WorkerConfig) -> io::Result<Self> {
        // This is the same program even if its file has been replaced.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("fanfare").args(env::args_os().skip(1)).arg(WORKER_FLAG);
        // In a process group of its own: Ctrl+C on the terminal must reach only the process that writes the report.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("no pipes to it"));
        };
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let complaint = thread::spawn(move || collect(stderr));
        let line = serde_json::to_string(config)? + "\n";
        // If the worker has ended already, the first request finds out why.
        let _ = stdin.write_all(line.as_bytes());
        let subscribers = plan.loads.iter().map(|load| share_of(load.subscribers, config.worker, config.worker_count));
        Ok(Self {
            name: format!("client process {} of {}", config.worker + 1, config.worker_count),
            core: config.core,
            config: stdin,
            child,
            answers,
            complaint: Some(complaint),
            subscribers: subscribers.sum(),
            states: Vec::new(),
            result: None,
            death: None,
        })
    }

    /// Sends a line; false if the worker has ended. If writing fails, the missing answer says why.
    fn send(&mut self, line: &str) -> bool {
        if self.death.is_some() {
            return false;
        }
        let _ = self.config.write_all(line.as_bytes());
        true
    }

    fn read_answer(&mut self, timeout: Duration) {
        let line = match self.answers.recv_timeout(timeout) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                return self.mark_dead(&format!("gave no answer for {} s", timeout.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                return self.mark_dead(&format!("died ({status})"));
            }
        };
        match serde_json::from_str(&line) {
            Ok(Answer::State(states)) => self.states = states,
            Ok(Answer::Done) => {}
            Ok(Answer::WorkerResult(mut result)) => {
                self.states = std::mem::take(&mut result.states);
                self.result = Some(result);
            }
            Ok(Answer::Problem(problem)) => self.mark_dead(&format!("failed: {problem}")),
            Err(error) => self.mark_dead(&format!("is not understood: {error}")),
        }
    }

    fn mark_dead(&mut self, what: &str) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.complaint.take().and_then(|complaint| complaint.join().ok()).unwrap_or_default();
        let said = if said.is_empty() { said } else { format!("; it said: {said}") };
        self.death = Some(format!("{} (pid {}) {what}{said}", self.name, self.child.id()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end and returns the beginning, as one line.
fn collect(mut from: impl Read) -> String {
    let mut said = Vec::new();
    let _ = from.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut said);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn empty_result(run: &LoadRun) -> FleetResult {
    let LoadRun { load, schedule, .. } = run;
    let slicing = Slicing::new(schedule, &load.pace);
    let tally = Tally::new(schedule.measured.clone(), load.audience(), slicing);
    FleetResult { tally, opening: latency_histogram(), reconnect: None }
}

/// A worker's share of `all`: the first workers get one more if it does not divide evenly.
fn share_of(all: u32, worker: u32, worker_count: u32) -> u32 {
    all / worker_count + u32::from(worker < all % worker_count)
}

/// The start of `clock` on the machine's monotonic clock, which all processes share.
fn monotonic_origin_ns(clock: &Clock) -> u64 {
    let readings = (0..CALIBRATION_READINGS).map(|_| {
        let (before, machine, after) = (clock.now(), os::monotonic_now(), clock.now());
        let width = after.since(before);
        (width, machine.saturating_sub(Duration::from_nanos(before.0) + width / 2))
    });
    let (_, origin) = readings.min().unwrap_or_default();
    u64::try_from(origin.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock with the start of another process's clock.
fn shared_clock(origin_ns: u64) -> Clock {
    let clock = Clock::start();
    clock.begun_earlier(Duration::from_nanos(monotonic_origin_ns(&clock).saturating_sub(origin_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree() {
        let clock = Clock::start();
        let other = shared_clock(monotonic_origin_ns(&clock));
        // An interruption between the two readings widens the difference: the best of many counts.
        let readings = (0..1_000).map(|_| (clock.now(), other.now(), clock.now()));
        let off = readings.map(|(before, it, after)| before.since(it).max(it.since(after))).min();
        assert!(off.is_some_and(|off| off < Duration::from_micros(5)), "{off:?}");
    }

    #[test]
    fn what_a_member_says_is_kept_short() {
        assert_eq!(collect(&b"thread 'a'\npanicked\n"[..]), "thread 'a' panicked");
        assert_eq!(collect(&vec![b'x'; 100_000][..]).len() as u64, COMPLAINT_BYTES_MAX);
    }
}
