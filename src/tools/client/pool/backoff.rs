//! How long a client waits before it reconnects.

use std::time::Duration;

/// The wait after the first failure, unless the hub asked for another.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait, unless the hub asks for a longer one.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest wait that a hub can ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// The wait before the next attempt after `failures` failed ones in a row (0 if an open stream ended). It doubles with each
/// failure. `chance` (0 to 1) adds up to half of it, so that clients do not reconnect all at once. Never shorter than what the
/// hub `asked` for.
pub(super) fn wait_for(failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let first = asked.unwrap_or(FIRST).min(ASKED_MAX);
    let doubled = first.saturating_mul(1 << failures.min(16)).min(LONGEST.max(first));
    doubled + doubled.mul_f64(chance.clamp(0.0, 1.0) / 2.0)
}
