//! Log lines that bad input cannot multiply.

use std::time::Duration;

use crate::clock::Moment;

/// Between two lines of the same kind.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line through per interval, which is 10 s by default, and counts the rest.
#[derive(Debug)]
pub(crate) struct LogRateLimiter {
    interval: Duration,
    next: Moment,
    suppressed: u64,
}

impl Default for LogRateLimiter {
    fn default() -> Self {
        Self::every(LINE_INTERVAL)
    }
}

impl LogRateLimiter {
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, next: Moment::default(), suppressed: 0 }
    }

    /// Whether to write the line now: if so, how many were left out since the last one.
    pub(crate) fn admit(&mut self, now: Moment) -> Option<u64> {
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now + self.interval;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_and_a_count_of_the_rest() {
        let mut limiter = LogRateLimiter::default();
        let seconds = |count: u64| Moment(count * 1_000_000_000);
        let admitted: Vec<Option<u64>> = [1, 2, 3, 11, 12, 30].map(|second| limiter.admit(seconds(second))).into();
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
