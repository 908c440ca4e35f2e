//! `fanfare bench`: how fast, how complete and at what cost a server brings events to many subscribers.
//!
//! An open-loop instrument. The publisher follows a schedule made beforehand ([`schedule`]); each payload says when it
//! was *due* ([`payload`]), and latency counts from there, so a server that falls behind cannot hide it by slowing the
//! publisher. The subscribers of a topic share one thread and one poll ([`fleet`]); each checks that every event comes
//! once and in order ([`order`]). Arrival is stamped twice: by the kernel when the bytes came, and when the client's read
//! returned, so that what the client itself adds can be told apart. A run whose client was the bottleneck says so and
//! is void ([`report`]).

mod broker;
mod churn;
mod conductor;
mod fleet;
mod homecoming;
mod live;
mod logins;
mod options;
mod order;
mod outlet;
mod packets;
mod page;
mod payload;
mod post;
mod presets;
mod process;
mod progress;
mod publisher;
mod replies;
mod report;
mod schedule;
mod script;
mod secrets;
mod slices;
mod stalled;
mod stamps;
mod storm;
mod subscriber;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod topics;
mod watch;
mod window;
mod wire;

use std::{fs, path::PathBuf, process::ExitCode};

pub use options::Options;
pub use presets::expand_preset;

use options::Plan;
use report::Report;
use watch::Watch;

use crate::os;

/// As shells report what Ctrl+C ended.
const INTERRUPTED: u8 = 130;

/// Runs the benchmark and prints its report. Fails (1) if the run could not be made or lost events, with 2 on options that
/// make no sense.
pub fn run(options: &Options) -> ExitCode {
    if !options.compare.is_empty() {
        return compare(options).map_or_else(|problem| fail(1, &problem), |()| ExitCode::SUCCESS);
    }
    let plan = match Plan::new(options) {
        Ok(plan) => plan,
        Err(problem) => return fail(2, &problem),
    };
    // Where that is not allowed, connecting fails and says so.
    let _ = os::raise_descriptor_limit();
    let watch = match Watch::start(plan.is_quiet) {
        Ok(watch) => watch,
        Err(error) => return fail(1, &format!("signals cannot be caught: {error}")),
    };
    let conducted = conductor::conduct(&plan, &watch);
    let is_interrupted = watch.is_interrupted();
    drop(watch);
    let report = match conducted {
        Ok(record) => Report::new(&plan, &record),
        Err(problem) => return fail(1, &problem),
    };
    print!("{report}");
    let label = options.label.first().cloned().unwrap_or_else(|| "this run".to_owned());
    let is_complete = report.is_complete();
    let written = write_files(&plan, &report).and_then(|()| write_page(options, &[(label, report)]));
    if let Err(problem) = written {
        return fail(1, &problem);
    }
    if is_interrupted {
        return ExitCode::from(INTERRUPTED);
    }
    ExitCode::from(u8::from(!is_complete))
}

fn compare(options: &Options) -> Result<(), String> {
    let read = |(index, path): (usize, &PathBuf)| {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| format!("{}: not a report that --json wrote: {error}", path.display()))?;
        let name = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((options.label.get(index).cloned().unwrap_or_else(name), report))
    };
    let reports: Vec<(String, Report)> = options.compare.iter().enumerate().map(read).collect::<Result<_, String>>()?;
    print!("{}", page::comparison(&reports));
    write_page(options, &reports)
}

fn write_page(options: &Options, reports: &[(String, Report)]) -> Result<(), String> {
    let Some(path) = options.html() else { return Ok(()) };
    fs::write(path, page::page(reports)).map_err(|error| format!("{}: {error}", path.display()))
}

fn write_files(plan: &Plan, report: &Report) -> Result<(), String> {
    if let Some(path) = &plan.json {
        let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &plan.hgrm {
        fs::write(path, report.hgrm()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn fail(code: u8, problem: &str) -> ExitCode {
    eprintln!("fanfare bench: {problem}");
    ExitCode::from(code)
}
