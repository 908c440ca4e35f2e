//! The ESP IoT platform: wells by SSE, telemetry, alerts and diagnostics.

pub(in crate::endpoint) mod telemetry;
pub(in crate::endpoint) mod wells;
