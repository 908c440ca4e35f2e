//! A worker process: its share of the subscribers, driven by requests of the process that started it.

use std::{
    io::{self, BufRead, Write},
    net::TcpStream,
    process::ExitCode,
    thread::{self, ScopedJoinHandle},
};

use super::{
    super::{
        churn::{Churn, Visits},
        fleet::{Fleet, FleetResult},
        plan::Plan,
        process::pin_to,
        progress::Progress,
        run::{LoadRun, RunContext},
        stalled::open_stalled,
        stamps::StampClock,
    },
    messages::{Answer, LoadResult, Request, State, VisitsResult, WorkerConfig, WorkerResult},
    share_of, shared_clock,
};
use crate::client::MaybeTlsStream;

/// Follows requests on standard input and answers on standard output, until the run is finished or standard input ends.
pub(in super::super) fn serve(plan: &Plan) -> ExitCode {
    match follow_requests(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // If the process that started this one has ended, nothing reads the answer.
            let _ = answer(&Answer::Problem(problem));
            ExitCode::FAILURE
        }
    }
}

fn follow_requests(plan: &Plan) -> Result<(), String> {
    let mut lines = io::stdin().lock().lines();
    let mut next_line =
        || lines.next().ok_or("the process that gave orders has gone")?.map_err(|error| error.to_string());
    let config: WorkerConfig = serde_json::from_str(&next_line()?).map_err(|error| format!("no orders: {error}"))?;
    if let Some(core) = config.core {
        pin_to(core)?;
    }
    let (plan, first_indexes) = share(&plan.at_rate(config.rate_hz), &config);
    let clock = shared_clock(config.origin_ns);
    let stamps = plan.takes_kernel_stamps.then(|| StampClock::calibrate(&clock));
    let context = RunContext { clock, stamps, run: config.run };
    let runs: Vec<LoadRun> = plan.loads.iter().map(|load| LoadRun::new(load, plan.is_idle)).collect();
    let over = Progress::default();
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (run, first_index) in runs.iter().zip(first_indexes) {
            let fleet = Fleet::new(&plan, &run.load, &run.schedule, context, &run.progress, first_index);
            let fleet = fleet.map_err(|error| error.to_string())?;
            workers.push(scope.spawn(|| fleet.run()));
        }
        let mut session =
            WorkerSession { plan: &plan, runs: &runs, context, over: &over, stalled: Vec::new(), visits: None };
        let ends = session.listen(scope, &mut next_line);
        // Stop the threads even after an error: the scope waits for them.
        over.stop();
        if let Ok(ends) = &ends {
            runs.iter().zip(ends).for_each(|(run, &end)| run.progress.set_event_end(end));
        }
        runs.iter().for_each(|run| run.progress.stop());
        let results: Vec<FleetResult> = workers.into_iter().map(join_thread).collect::<Result<_, _>>()?;
        let visits: Option<Visits> = session.visits.take().map(join_thread).transpose()?;
        ends?;
        answer(&Answer::WorkerResult(Box::new(WorkerResult {
            states: runs.iter().map(|run| State::of(&run.progress)).collect(),
            loads: results.iter().map(LoadResult::of).collect(),
            visits: visits.as_ref().map(VisitsResult::of),
            drift_ns: stamps.map(|stamps| stamps.drift(&clock).as_nanos() as u64),
        })))
    })
}

/// The state of a worker while it follows requests.
struct WorkerSession<'a, 'scope> {
    plan: &'a Plan,
    runs: &'a [LoadRun],
    context: RunContext,
    over: &'a Progress,
    /// The connections stall until this is dropped.
    stalled: Vec<MaybeTlsStream<TcpStream>>,
    visits: Option<ScopedJoinHandle<'scope, io::Result<Visits>>>,
}

impl<'scope, 'a: 'scope> WorkerSession<'a, 'scope> {
    /// Follows requests up to [`Request::Finish`]; returns the number of events of each load.
    fn listen(
        &mut self,
        scope: &'scope thread::Scope<'scope, '_>,
        next_line: &mut impl FnMut() -> Result<String, String>,
    ) -> Result<Vec<u32>, String> {
        loop {
            let request = next_line()?;
            match serde_json::from_str(&request).map_err(|error| format!("{request}: {error}"))? {
                Request::State => {
                    answer(&Answer::State(self.runs.iter().map(|run| State::of(&run.progress)).collect()))?;
                }
                Request::Stall => {
                    let stalled = open_stalled(self.plan, &self.plan.loads[0]);
                    self.stalled = stalled.map_err(|error| format!("a stalled subscriber: {error}"))?;
                    answer(&Answer::Done)?;
                }
                Request::StartChurn => {
                    let churn = Churn::new(self.plan, &self.context, self.over).map_err(|error| error.to_string())?;
                    self.visits = Some(scope.spawn(|| churn.run()));
                    answer(&Answer::Done)?;
                }
                Request::StopChurn => {
                    self.over.stop();
                    answer(&Answer::Done)?;
                }
                Request::Finish { ends } => return Ok(ends),
            }
        }
    }
}

fn join_thread<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> Result<T, String> {
    thread.join().map_err(|_| "a thread panicked")?.map_err(|error| error.to_string())
}

/// Writes one line.
fn answer(answer: &Answer) -> Result<(), String> {
    let line = serde_json::to_string(answer).map_err(|error| error.to_string())? + "\n";
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// The worker's part of `plan`, and the index of its first subscriber among all, by load.
fn share(plan: &Plan, config: &WorkerConfig) -> (Plan, Vec<u32>) {
    let WorkerConfig { worker, worker_count, .. } = *config;
    let mut own = plan.clone();
    let (mut loads_before, mut first_indexes) = (0, Vec::new());
    for load in &mut own.loads {
        let all = load.subscribers;
        let workers_before: u32 = (0..worker).map(|other| share_of(all, other, worker_count)).sum();
        first_indexes.push(loads_before + workers_before);
        load.subscribers = share_of(all, worker, worker_count);
        load.subscribers_before = workers_before;
        loads_before += all;
    }
    own.stalled = share_of(plan.stalled, worker, worker_count);
    own.churn.rate = plan.churn.rate / f64::from(worker_count);
    (own, first_indexes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::plan;

    #[test]
    fn shares_add_up() {
        let arguments = ["--subscribers", "8", "--second-topic", "b", "--second-subscribers", "2", "--stalled", "4"];
        let all = plan(&[&arguments[..], &["--churn", "30", "--processes", "3"]].concat()).expect("a plan");
        let check = |worker: u32, expected: [(u32, u32); 2], stalled: u32| {
            let config = WorkerConfig { worker, worker_count: 3, origin_ns: 0, run: 1, rate_hz: 1.0, core: None };
            let (own, first_indexes) = share(&all, &config);
            let found: Vec<(u32, u32)> =
                first_indexes.into_iter().zip(own.loads.iter().map(|load| load.subscribers)).collect();
            assert_eq!((&found[..], own.stalled), (&expected[..], stalled), "member {worker}");
            assert!((own.churn.rate - 10.0).abs() < 1e-9);
        };
        check(0, [(0, 3), (8, 1)], 2);
        check(1, [(3, 3), (9, 1)], 1);
        check(2, [(6, 2), (10, 0)], 1);
    }
}
