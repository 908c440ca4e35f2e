//! `fanfare load`: publishes the tokens of many conversations, as language models would, receives them, as their users
//! would, and compares the two.
//!
//! The producer ([`producer`]) is a thread that follows a schedule; each token contains the time at which it was *due*. The
//! consumers are the clients of one pool. Accepted tokens are compared with those that arrived ([`tally`]). In the mode
//! `both` no token is published before every conversation has received a probe ([`conduct`]).

mod conduct;
mod faults;
mod options;
mod producer;
mod report;
mod tally;
#[cfg(test)]
mod tests;
mod token;

use std::{fs, path::Path, process::ExitCode};

pub use options::{Options, expand_single_dashes};

use options::Plan;
use report::{Report, Verdict};

use crate::stdio;

/// Exit code after Ctrl+C, as shells report it.
const INTERRUPTED: u8 = 130;
const FAILED: u8 = 1;
const MISUNDERSTOOD: u8 = 2;

/// Runs the load test and prints the report. The exit code is 0 if all tokens arrived, 1 if any is missing or wrong, 2 on
/// invalid options, and 130 if a signal ended the run.
pub fn run(options: &Options) -> ExitCode {
    let plan = match Plan::new(options) {
        Ok(plan) => plan,
        Err(problem) => return fail(MISUNDERSTOOD, &problem),
    };
    let report = match conduct::conduct(&plan) {
        Ok(report) => report,
        Err(problem) => return fail(FAILED, &problem),
    };
    let written = plan.json.as_deref().map_or(Ok(()), |path| write_json(path, &report));
    let printed = stdio::print(&report);
    if let Err(problem) = written.and(printed) {
        return fail(FAILED, &problem);
    }
    match report.verdict() {
        Verdict::Complete => ExitCode::SUCCESS,
        Verdict::Incomplete => ExitCode::from(FAILED),
        Verdict::Interrupted => ExitCode::from(INTERRUPTED),
    }
}

fn write_json(path: &Path, report: &Report) -> Result<(), String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn fail(code: u8, problem: &str) -> ExitCode {
    stdio::report(format_args!("fanfare load: {problem}"));
    ExitCode::from(code)
}
