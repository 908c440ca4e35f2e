//! Progress of a run on standard error, and interruption by Ctrl+C.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::stdio;

/// How often a bar is drawn: each time costs the client's core some ten microseconds.
const DRAW_INTERVAL: Duration = Duration::from_millis(500);

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the progress of a run and notices Ctrl+C.
#[derive(Debug)]
pub(super) struct Watch {
    interrupt: Arc<AtomicBool>,
    display: Display,
    last: Mutex<Option<Instant>>,
    /// Prefix of each note that says which of several runs this is.
    stage: Mutex<String>,
}

/// Where progress is shown.
#[derive(Debug)]
enum Display {
    None,
    Lines,
    Bar(ProgressBar),
}

impl Watch {
    /// Shows progress unless `is_quiet`. The first Ctrl+C ends the run early, the second kills the process.
    pub(super) fn start(is_quiet: bool) -> io::Result<Self> {
        let interrupt = Arc::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupt))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt))?;
        }
        let display = match io::stderr().is_terminal() {
            _ if is_quiet => Display::None,
            true => Display::Bar(bar()),
            false => Display::Lines,
        };
        Ok(Self { interrupt, display, last: Mutex::new(None), stage: Mutex::default() })
    }

    /// Shows nothing, and is never interrupted.
    #[cfg(test)]
    pub(super) fn silent() -> Self {
        Self { interrupt: Arc::default(), display: Display::None, last: Mutex::new(None), stage: Mutex::default() }
    }

    /// Whether Ctrl+C was pressed.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Begins a phase of the run, whose progress is shown at once.
    pub(super) fn begin(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Begins one of several runs: `stage` stands before each note from now on.
    pub(super) fn name_stage(&self, stage: &str) {
        stage.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Prints the outcome of one of several runs on a line of its own, except on a terminal that shows the report as well.
    pub(super) fn report(&self, line: &str) {
        match &self.display {
            Display::Bar(bar) if !io::stdout().is_terminal() => bar.println(line),
            Display::Lines => stdio::report(line),
            _ => {}
        }
    }

    /// Shows `done` of `total` of the phase `name`, unless it was shown just before.
    pub(super) fn show(&self, name: &'static str, done: u64, total: u64, note: impl FnOnce() -> String) {
        let interval = match &self.display {
            Display::None => return,
            Display::Lines => LINE_INTERVAL,
            Display::Bar(_) => DRAW_INTERVAL,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < interval) {
            return;
        }
        *last = Some(Instant::now());
        let note = format!("{}{}", self.stage.lock().unwrap_or_else(PoisonError::into_inner), note());
        match &self.display {
            Display::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done.min(total));
                bar.set_prefix(name);
                bar.set_message(note);
                bar.tick();
            }
            _ => stdio::report(line(name, &note)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

/// On one line of a terminal that is 80 columns wide: a note that has no room is cut, not continued on the next line.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10} {bar:10} {wide_msg}").expect("the template is a constant");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn line(name: &str, note: &str) -> String {
    format!("{name:12} {note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_plain() {
        let text = line("measuring", "1.0 of 2.0 s, p50 12, p99 20 µs");
        assert_eq!(text, "measuring    1.0 of 2.0 s, p50 12, p99 20 µs");
        assert!(!text.contains('\x1b'));
    }
}
