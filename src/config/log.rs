//! Sets the hub's own log up: to standard error, through a thread of its own, so that a terminal or a pipe that stands
//! still never stalls a reactor. When its queue is full, lines are lost, not time.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt};

use super::meant::{Log, LogFormat};

/// Lines that may wait for standard error before more are lost.
const QUEUED_LINES_MAX: usize = 8192;

/// Keeps the log going; dropping it writes out what still waits.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard(#[expect(dead_code, reason = "held for what its drop does")] WorkerGuard);

/// Starts the log of this process. Fails if the level cannot be read or a log is set up already.
pub fn start_log(log: &Log) -> Result<LogGuard, String> {
    let filter = EnvFilter::builder().parse(&log.level).map_err(|error| format!("log level: {error}"))?;
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUED_LINES_MAX).finish(std::io::stderr());
    let lines = fmt().with_env_filter(filter).with_writer(writer);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("log: {error}"))?;
    Ok(LogGuard(guard))
}
