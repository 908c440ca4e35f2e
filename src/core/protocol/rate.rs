//! How fast a peer may send: a leaky bucket in one number.

use std::time::Duration;

use crate::{bucket::TokenBucket, clock::Moment};

/// A limit on the rate of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages a second, on average, and as many at once.
    pub messages_per_second: u32,
    /// How long a peer may exceed the limit without a pause before it is disconnected.
    pub cutoff_timeout: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { messages_per_second: 10, cutoff_timeout: Duration::from_secs(10) }
    }
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateVerdict {
    /// It is within the limit.
    Pass,
    /// It is over the limit: ignore it, and say so.
    Ignore,
    /// It has exceeded the limit for too long: end the connection.
    CutOff,
}

/// One peer's bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    /// Each message fills it by one message's time.
    bucket: TokenBucket,
    /// Since when messages have been ignored; zero: they are not.
    over_since: Moment,
}

impl Rate {
    /// Judges a message that came `now`.
    pub(super) fn judge(&mut self, limit: &RateLimit, now: Moment) -> RateVerdict {
        let cost = Duration::from_secs(1) / limit.messages_per_second.max(1);
        let level = self.bucket.level(now);
        if self.bucket.check(cost, now).is_ok() {
            self.bucket.fill(cost, now);
            // Only a bucket that had time to run half empty ends a spell over the limit: a peer that sends steadily
            // above it gets every tenth message through, and is over it all the same.
            if level <= Duration::from_millis(500) {
                self.over_since = Moment(0);
            }
            return RateVerdict::Pass;
        }
        if self.over_since == Moment(0) {
            self.over_since = now;
        }
        if limit.cutoff_timeout <= now.since(self.over_since) { RateVerdict::CutOff } else { RateVerdict::Ignore }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` messages, one each `gap_ms`; how many of them passed, were ignored, and were the end.
    fn send(rate: &mut Rate, start_ms: u64, gap_ms: u64, count: u64) -> (u64, u64, u64) {
        let mut outcome = (0, 0, 0);
        for number in 0..count {
            let now = Moment((start_ms + number * gap_ms) * 1_000_000);
            match rate.judge(&RateLimit::default(), now) {
                RateVerdict::Pass => outcome.0 += 1,
                RateVerdict::Ignore => outcome.1 += 1,
                RateVerdict::CutOff => outcome.2 += 1,
            }
        }
        outcome
    }

    #[test]
    fn a_steady_peer_passes() {
        assert_eq!(send(&mut Rate::default(), 1, 100, 1000), (1000, 0, 0));
    }

    #[test]
    fn a_burst_passes_up_to_a_second_worth() {
        assert_eq!(send(&mut Rate::default(), 1, 0, 15), (10, 5, 0));
    }

    #[test]
    fn a_flood_is_cut_off_after_the_patience() {
        let (passed, ignored, cut) = send(&mut Rate::default(), 1, 10, 900);
        assert_eq!((passed, cut), (99, 0), "ten at once, then ten a second; {ignored} ignored");
        assert!(0 < send(&mut Rate::default(), 1, 10, 1200).2);
    }

    #[test]
    fn a_pause_ends_the_spell() {
        let mut rate = Rate::default();
        assert_eq!(send(&mut rate, 1, 10, 900).2, 0);
        assert_eq!(send(&mut rate, 12_000, 10, 900).2, 0);
    }
}
