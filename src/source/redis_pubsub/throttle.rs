//! Log lines that bad input cannot multiply.

use std::time::Duration;

use crate::clock::Moment;

/// Between two lines of the same kind.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line through per [`LINE_INTERVAL`] and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    next: Moment,
    suppressed: u64,
}

impl Throttle {
    /// Whether to write the line now: if so, how many were left out since the last one.
    pub(crate) fn admit(&mut self, now: Moment) -> Option<u64> {
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now + LINE_INTERVAL;
        Some(std::mem::take(&mut self.suppressed))
    }
}
