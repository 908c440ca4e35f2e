//! The time of day, for answers that carry it. Endpoints read no clock: it follows from the hub's start.

use super::Context;

/// Unix milliseconds at the moment of `context`.
fn unix_ms(context: &Context<'_>) -> u64 {
    // The major part of the hub's own ids is its start in Unix milliseconds, from which moments count.
    context.hub.bus.id_at(0).major.saturating_add(context.now.0 / 1_000_000)
}

/// Unix seconds at the moment of `context`.
pub(super) fn unix_s(context: &Context<'_>) -> i64 {
    i64::try_from(unix_ms(context) / 1000).unwrap_or(i64::MAX)
}
