//! Sets up the hub's own log: on standard error, through a thread of its own, so that a blocked terminal or pipe never blocks a
//! reactor. When the queue is full, lines are dropped.

use std::fmt;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, reload::Handle};

use super::{
    nearest::nearest,
    types::{LogConfig, LogFormat},
};

/// Lines that may wait for standard error. Further ones are dropped.
const QUEUED_LINES_MAX: usize = 8192;

/// The levels of a directive.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// The prefix of the targets of the hub's own lines.
const OWN_TARGET: &str = "fanfare";

/// Fails unless `level` is a level, or a list of directives of which one concerns the hub's own lines. The filter itself takes
/// an unknown word for a target, so that a misspelt level would switch the log off.
pub(super) fn check_level(level: &str) -> Result<(), String> {
    if let Err(error) = EnvFilter::builder().parse(level) {
        return Err(format!("`{level}` is neither a level nor a list of directives: {error}"));
    }
    let mut concerns_hub = false;
    for directive in level.split(',').filter(|directive| !directive.is_empty()) {
        let target = directive.split(['=', '[']).next().unwrap_or_default();
        let is_own = target.starts_with(OWN_TARGET) || OWN_TARGET.starts_with(target);
        if directive == target && !is_own && !is_level(target) {
            let near = nearest(target, LEVELS.into_iter()).map(|near| format!("; did you mean `{near}`?"));
            let levels = LEVELS.join(", ");
            return Err(format!("`{target}` is no level{}; levels are {levels}", near.unwrap_or_default()));
        }
        concerns_hub |= is_own || directive == target;
    }
    if concerns_hub {
        return Ok(());
    }
    Err(format!("`{level}` lets no line of the hub's own through: write a level first, as in `info,{level}`"))
}

fn is_level(scalar: &str) -> bool {
    scalar.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
}

/// Keeps the log running. Writes the waiting lines on drop.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    set_level: SetLevel,
    _worker: WorkerGuard,
}

/// Replaces the filter.
struct SetLevel(Box<dyn Fn(EnvFilter) -> Result<(), String>>);

impl fmt::Debug for SetLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetLevel")
    }
}

impl LogGuard {
    /// Sets the level or directives, as in [`LogConfig::level`].
    pub(crate) fn set_level(&self, level: &str) -> Result<(), String> {
        (self.set_level.0)(parse_level(level)?)
    }
}

fn parse_level(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(level).map_err(|error| format!("log level: {error}"))
}

/// Makes a [`SetLevel`] of the filter's `handle`.
fn setter<S: 'static>(handle: Handle<EnvFilter, S>) -> SetLevel {
    SetLevel(Box::new(move |filter| handle.reload(filter).map_err(|error| format!("log level: {error}"))))
}

/// Starts the log of this process. Fails if the level cannot be parsed or a log is set up already.
pub fn start_log(log: &LogConfig) -> Result<LogGuard, String> {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUED_LINES_MAX).finish(std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(parse_level(&log.level)?).with_writer(writer);
    let (set_level, started) = match log.format {
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_filter_reloading();
            (setter(lines.reload_handle()), lines.try_init())
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            (setter(lines.reload_handle()), lines.try_init())
        }
    };
    started.map_err(|error| format!("log: {error}"))?;
    Ok(LogGuard { set_level, _worker: guard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let check = |level: &str, expected: Result<(), &str>| {
            let found = check_level(level);
            match expected {
                Ok(()) => assert_eq!(found, Ok(()), "{level}"),
                Err(part) => assert!(found.as_ref().is_err_and(|message| message.contains(part)), "{level}: {found:?}"),
            }
        };
        for level in ["error", "INFO", "off", "debug", "0", "info,fanfare::source=debug", "warn,mio=trace"] {
            check(level, Ok(()));
        }
        for level in ["fanfare", "fanfare=debug", "fanfare::bus", "mio=warn,fanfare=info", "[span{topic=a}]=info"] {
            check(level, Ok(()));
        }
        check("inof", Err("`inof` is no level; did you mean `info`?"));
        check("verbose", Err("levels are error, warn, info, debug, trace, off"));
        check("warn,fanfrae", Err("`fanfrae` is no level"));
        check("fanfare=inof", Err("neither a level nor"));
        check("mio=debug", Err("as in `info,mio=debug`"));
        check("fanfrae=debug,mio=info", Err("lets no line of the hub's own through"));
        check("", Err("write a level first"));
    }
}
