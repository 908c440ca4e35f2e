//! Waiting for a condition of a run.

use std::{thread, time::Duration};

use crate::clock::Clock;

/// How often the condition is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` is true; false after `timeout`. Fails if the condition does.
pub(super) fn wait_until(
    timeout: Duration,
    clock: &Clock,
    mut condition: impl FnMut() -> Result<bool, String>,
) -> Result<bool, String> {
    let deadline = clock.now() + timeout;
    while !condition()? {
        if deadline <= clock.now() {
            return Ok(false);
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(true)
}
