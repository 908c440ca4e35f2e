//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Doubles from the smallest to the largest wait; the jitter keeps many hubs from returning to a server at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    delay_min: Duration,
    delay_max: Duration,
    delay_next: Duration,
}

impl Backoff {
    pub(crate) fn new(delay_min: Duration, delay_max: Duration) -> Self {
        let delay_max = delay_max.max(delay_min);
        Self { delay_min, delay_max, delay_next: delay_min }
    }

    /// The wait after one more failure, drawn by `random` from the upper half of the present step.
    pub(crate) fn next_delay(&mut self, random: u32) -> Duration {
        let half = self.delay_next / 2;
        self.delay_next = self.delay_next.saturating_mul(2).min(self.delay_max);
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// The server answered: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.delay_next = self.delay_min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let waits: Vec<u128> = (0..4).map(|_| backoff.next_delay(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 350, 350]);
        assert_eq!(backoff.next_delay(0), Duration::from_millis(175), "the jitter takes half at most");
        backoff.reset();
        assert_eq!(backoff.next_delay(u32::MAX), Duration::from_millis(100));
    }
}
