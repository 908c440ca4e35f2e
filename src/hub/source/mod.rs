//! Events come in: one folder per source.
mod backoff;
pub mod credentials;
pub mod generator;
mod log_rate_limiter;
pub mod redis;
mod refusals;
mod status;

pub(crate) use backoff::Backoff;
pub(crate) use log_rate_limiter::Throttle;
pub use status::{Snapshot, SourceStatus};
