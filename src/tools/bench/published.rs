//! What a publisher did.

use hdrhistogram::Histogram;

use super::histogram::latency_histogram;

/// What the publisher did.
#[derive(Debug)]
pub(super) struct Published {
    /// Actual less intended send time, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Events sent, probes included.
    pub sent: u64,
    /// Events the server answered, whatever it said.
    pub answered: u64,
    /// Events the server refused, and what it said of the first.
    pub refused: u64,
    pub first_refusal: Option<String>,
    /// Why it ended early, if it did.
    pub failure: Option<String>,
}

impl Published {
    pub(super) fn new() -> Self {
        let lateness = latency_histogram();
        Self { lateness, sent: 0, answered: 0, refused: 0, first_refusal: None, failure: None }
    }
}
