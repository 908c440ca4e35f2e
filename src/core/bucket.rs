//! A token bucket in one number: how fast something may come.

use std::time::Duration;

use crate::clock::Moment;

/// What may come at once: as much as may come in this time.
pub(crate) const BURST: Duration = Duration::from_secs(1);

/// A bucket that fills with what comes and drains with time (the generic cell rate algorithm). Everything is measured in the
/// time it takes to drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket {
    empty_at: Moment,
}

impl TokenBucket {
    /// How full it is, as the time until it is empty.
    pub fn level(&self, now: Moment) -> Duration {
        self.empty_at.since(now)
    }

    /// Whether it holds `cost` more, or how long from `now` it will. What costs more than a whole `BURST` is taken by an empty
    /// bucket, which then drains for longer: else it could never come.
    pub fn check(&self, cost: Duration, now: Moment) -> Result<(), Duration> {
        let (level, most) = (self.level(now), BURST.saturating_sub(cost));
        if level <= most { Ok(()) } else { Err(level - most) }
    }

    /// Takes `cost`, whatever is in it.
    pub fn fill(&mut self, cost: Duration, now: Moment) {
        self.empty_at = self.empty_at.max(now) + cost;
    }

    /// What is in it drains at `per_second` from now on, no more at `former`: so many events take another time.
    pub fn change_rate(&mut self, former: u64, per_second: u64, now: Moment) {
        let nanoseconds = self.level(now).as_nanos() * u128::from(former) / u128::from(per_second.max(1));
        self.empty_at = now + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    }
}

/// What `count` cost of which `per_second` may come in a second.
pub fn cost(count: u64, per_second: u64) -> Duration {
    let nanoseconds = u128::from(count) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn takes_a_second_worth_at_once_and_then_the_rate() {
        // Of ten a second: the times in milliseconds, and how many are asked for at each; how many of these times pass.
        let check = |asks: &[(u64, u64)], expected: &[Result<(), u64>]| {
            let mut bucket = TokenBucket::default();
            let outcomes: Vec<Result<(), u64>> = asks
                .iter()
                .map(|(at_ms, count)| {
                    let (now, cost) = (Moment(SECOND + at_ms * 1_000_000), cost(*count, 10));
                    bucket.check(cost, now).map_err(|wait| wait.as_millis() as u64)?;
                    bucket.fill(cost, now);
                    Ok(())
                })
                .collect();
            assert_eq!(outcomes, expected, "{asks:?}");
        };
        check(&[(0, 10), (0, 1), (99, 1), (100, 1)], &[Ok(()), Err(100), Err(1), Ok(())]);
        check(&[(0, 4), (0, 6), (0, 1)], &[Ok(()), Ok(()), Err(100)]);
        check(&[(0, 25), (1000, 1), (1600, 1)], &[Ok(()), Err(600), Ok(())]);
        check(&[(0, 1), (0, 25), (100, 25)], &[Ok(()), Err(100), Ok(())]);
    }

    #[test]
    fn what_is_in_it_drains_at_a_new_rate() {
        let check = |count: u64, former: u64, per_second: u64, expected_ms: u64| {
            let (mut bucket, now) = (TokenBucket::default(), Moment(SECOND));
            bucket.fill(cost(count, former), now);
            bucket.change_rate(former, per_second, now);
            assert_eq!(bucket.level(now), Duration::from_millis(expected_ms), "{count}: {former} to {per_second}");
        };
        check(60, 2, 60, 1000);
        check(10, 10, 5, 2000);
        check(0, 10, 1, 0);
        check(1, 1, 0, 1000);
    }

    #[test]
    fn costs_do_not_overflow() {
        assert_eq!(cost(3, 2), Duration::from_millis(1500));
        assert_eq!(cost(u64::MAX, 1), Duration::from_nanos(u64::MAX));
        assert_eq!(cost(1, 0), Duration::from_secs(1));
    }
}
