//! `fanfare bench`: latency, completeness and cost of delivering events to many subscribers.
//!
//! An open-loop benchmark. The publisher follows a schedule made beforehand ([`schedule`]); each payload contains the time
//! at which it was *due* ([`payload`]), and latency counts from there, so a server that falls behind cannot hide it by
//! slowing the publisher. The subscribers of a topic share one thread and one poll ([`fleet`]); each checks that every event
//! arrives once and in order ([`order`]). Each arrival has two timestamps, when the kernel received the bytes and when the
//! client's read returned, so that the client's own share is known. A run whose client was the bottleneck is void
//! ([`report`]).

mod broker;
mod churn;
mod conductor;
mod fleet;
mod histogram;
mod ladder;
mod live;
mod logins;
mod options;
mod order;
mod page;
mod payload;
mod plan;
mod post;
mod presets;
mod process;
mod progress;
mod publish_connection;
mod published;
mod publisher;
mod report;
mod results;
mod run;
mod schedule;
mod script;
mod secrets;
mod slices;
mod stalled;
mod stamps;
mod storm;
mod subscriber;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod text;
mod topics;
mod transport;
mod wait;
mod watch;
mod window;
mod wire;
mod wire_event;
mod workers;

use std::process::ExitCode;

pub use options::Options;
pub use presets::expand_preset;

use plan::Plan;
use report::Report;
use results::Results;
use watch::Watch;

use crate::{os, stdio};

/// Exit code after Ctrl+C, as shells report it.
const INTERRUPTED: u8 = 130;

/// Runs the benchmark and prints its report. Exits with 1 if the run failed or lost events, with 2 on invalid options.
pub fn run(options: &Options) -> ExitCode {
    if !options.compare.is_empty() {
        return compare(options).map_or_else(|problem| fail(1, &problem), |()| ExitCode::SUCCESS);
    }
    let plan = match Plan::new(options) {
        Ok(plan) => plan,
        Err(problem) => return fail(2, &problem),
    };
    // If the system does not allow it, connecting fails and says so.
    let _ = os::raise_descriptor_limit();
    if options.as_member {
        return workers::serve(&plan);
    }
    let watch = match Watch::start(plan.is_quiet) {
        Ok(watch) => watch,
        Err(error) => return fail(1, &format!("signals cannot be caught: {error}")),
    };
    let label = options.label.first().cloned().unwrap_or_else(|| "this run".to_owned());
    let found = measure(&plan, &watch, label);
    let is_interrupted = watch.is_interrupted();
    // This clears the progress bar, so that the report begins on a line of its own.
    drop(watch);
    let written = found.and_then(|(results, text, is_good)| {
        let printed = stdio::print(&text);
        results.write(&plan).and_then(|()| write_page(&results, options)).and(printed).map(|()| is_good)
    });
    match written {
        Err(problem) => fail(1, &problem),
        Ok(_) if is_interrupted => ExitCode::from(INTERRUPTED),
        Ok(is_good) => ExitCode::from(u8::from(!is_good)),
    }
}

/// The results as data and as text, and whether they are good: a run without losses, or a ladder with a good step.
fn measure(plan: &Plan, watch: &Watch, label: String) -> Result<(Results, String, bool), String> {
    let mut results = Results::default();
    let (text, is_good);
    if let Some(rules) = plan.ladder {
        let climb = ladder::run(plan, rules, watch)?;
        (text, is_good) = (climb.to_string(), climb.knee_hz.is_some());
        results.ladders.push((label, climb));
    } else {
        let report = Report::new(plan, &conductor::conduct(plan, watch)?);
        (text, is_good) = (report.to_string(), report.is_complete());
        results.runs.push((label, report));
    }
    Ok((results, text, is_good))
}

fn compare(options: &Options) -> Result<(), String> {
    let results = Results::read(options)?;
    let printed = stdio::print(page::comparison(&results));
    write_page(&results, options).and(printed)
}

/// Writes the page, if `--html` asks for one.
fn write_page(results: &Results, options: &Options) -> Result<(), String> {
    options.html().map_or(Ok(()), |path| results::write(path, &page::page(results)))
}

fn fail(code: u8, problem: &str) -> ExitCode {
    stdio::report(format_args!("fanfare bench: {problem}"));
    ExitCode::from(code)
}
