//! How long a member waits before it comes back.

use std::time::Duration;

/// The wait after a first failure, if the hub asked for none.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait, unless the hub asks for a longer one.
const LONGEST: Duration = Duration::from_secs(15);
/// However long a hub asks to wait, this is enough.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// The wait before the next attempt after `failures` in a row (none, if a stream that was open ended). It doubles with
/// each, and half of it again at most is added by `chance` (0 to 1), lest all come back at once. Never shorter than
/// what the hub `asked` for.
pub(super) fn wait_for(failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let first = asked.unwrap_or(FIRST).min(ASKED_MAX);
    let doubled = first.saturating_mul(1 << failures.min(16)).min(LONGEST.max(first));
    doubled + doubled.mul_f64(chance.clamp(0.0, 1.0) / 2.0)
}
