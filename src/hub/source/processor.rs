//! The processor of a thread that reads.

use std::time::Duration;

use tracing::warn;

/// The slice asked of the scheduler: reading a burst takes less, and the thread shares its core with a busy reactor.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Pins the calling thread to the core `pin`, and asks the scheduler for short slices. `name` is the thread's in log lines.
pub(super) fn claim_processor(name: &str, pin: Option<core_affinity::CoreId>, short_slice: bool) {
    if let Some(core) = pin
        && !core_affinity::set_for_current(core)
    {
        warn!("{name} cannot be pinned to core {}", core.id);
    }
    if short_slice && let Err(error) = crate::os::request_short_slice(SHORT_SLICE) {
        warn!("{name} gets no short scheduler slice: {error}");
    }
}
