//! The results of a publisher.

use hdrhistogram::Histogram;

use super::histogram::latency_histogram;

/// The results of a publisher.
#[derive(Debug)]
pub(super) struct Published {
    /// Actual less intended send time, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Events sent, probes included.
    pub sent: u64,
    /// Events that the server answered, refusals included.
    pub answered: u64,
    /// Events that the server refused, and the message of the first refusal.
    pub refused: u64,
    pub first_refusal: Option<String>,
    /// Why the publisher ended early, if it did.
    pub failure: Option<String>,
}

impl Published {
    pub(super) fn new() -> Self {
        let lateness = latency_histogram();
        Self { lateness, sent: 0, answered: 0, refused: 0, first_refusal: None, failure: None }
    }
}
