//! A program of an example: it and all that it starts are a process group, which ends with it.

use std::{
    io::{BufRead, BufReader, PipeReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::shown::Ids;
use crate::support::TIMEOUT;

/// A program under way. Dropped, its whole group is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    /// What it has printed so far.
    printed: Vec<String>,
}

impl Process {
    /// Starts `command`. Its standard error is part of its output.
    pub(super) fn start(mut command: Command) -> Result<Self, String> {
        let (reader, writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        let errors = writer.try_clone().map_err(|error| format!("no pipe: {error}"))?;
        command.stdin(Stdio::null()).stdout(writer).stderr(errors).process_group(0);
        let child = command.spawn();
        let child = child.map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
        // This closes our ends of the pipe.
        drop(command);
        Ok(Self { child, lines: read_lines(reader), printed: Vec::new() })
    }

    /// Waits for the end. Returns all output, and whether the program succeeded.
    pub(super) fn finish(mut self) -> Result<(Vec<String>, bool), String> {
        let deadline = Instant::now() + TIMEOUT;
        while let Some(line) = self.next_line(deadline)? {
            self.printed.push(line);
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        Ok((std::mem::take(&mut self.printed), status.success()))
    }

    /// Waits until what it printed begins with all of `shown`, or fails.
    pub(super) fn wait_for(&mut self, shown: &[String], ids: &mut Ids) -> Result<(), String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if self.has_printed(shown, ids) {
                return Ok(());
            }
            let printed = &self.printed;
            if shown.len() <= printed.len() && !shown.iter().any(|line| line == "…") {
                return Err(difference(shown, printed, "it prints something else"));
            }
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return Err(difference(shown, printed, "it says no more")),
                Err(RecvTimeoutError::Disconnected) => return Err(difference(shown, printed, "it has ended")),
            };
            self.printed.push(line);
        }
    }

    /// Whether what has come so far begins with all of `shown`.
    pub(super) fn has_printed(&mut self, shown: &[String], ids: &mut Ids) -> bool {
        self.printed.extend(self.lines.try_iter());
        (0..=self.printed.len()).any(|count| ids.match_lines(shown, &self.printed[..count]))
    }

    fn next_line(&self, deadline: Instant) -> Result<Option<String>, String> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("it does not end within {TIMEOUT:?}; it printed:\n{}", self.printed.join("\n")))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        // The processes may have ended already.
        let signal = |name: &str| Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status();
        let _ = signal("-INT");
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(5));
        }
        let _ = signal("-KILL");
        let _ = self.child.wait();
    }
}

/// How long an interrupted program may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Expected and actual output, for an error.
pub(super) fn difference(shown: &[String], real: &[String], why: &str) -> String {
    format!("{why}.\n--- the page shows\n{}\n--- what came\n{}", shown.join("\n"), real.join("\n"))
}

/// Copies a pipe to a channel, because only a channel can be read with a deadline. Ends when the last writer closes the pipe.
fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(reader);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| 0 < count) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    lines
}
