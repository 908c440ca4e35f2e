//! `fanfare load`: tokens of many conversations, as language models would publish them and their users read them, and what
//! became of each.
//!
//! The producer ([`producer`]) is a thread that follows a schedule and stamps each token with when it was *due*; the
//! consumers are streams on one poll (`tool/pool`). What was taken is compared with what arrived, token by token
//! ([`tally`]). In the mode `both` no token is published before every conversation has heard a probe ([`conduct`]).

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

/// As shells report what Ctrl+C ended.
const INTERRUPTED: u8 = 130;
const FAILED: u8 = 1;
const MISUNDERSTOOD: u8 = 2;

/// Makes the load and prints the report. The exit code is 0 if all arrived, 1 if something is missing or wrong, 2 if the
/// options make no sense, and 130 if a signal ended it.
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
