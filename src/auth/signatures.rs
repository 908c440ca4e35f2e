//! How many signatures a client may cost the hub: with a pair of keys one takes a reactor up to 100 µs to check, and with RSA
//! a millisecond to make.

use std::time::Duration;

use super::{Denied, counters::Counters, throttle::Network};
use crate::clock::Moment;

/// What the limits count within.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the signatures that were wrong, by address, and those that were made anew, by user. Zero is no limit.
#[derive(Debug)]
pub(super) struct SignatureLimits {
    wrong_max: usize,
    made_max: usize,
    wrong: Counters<Network>,
    made: Counters<Box<str>>,
}

impl SignatureLimits {
    pub(super) fn new(wrong_max: usize, made_max: usize) -> Self {
        Self { wrong_max, made_max, wrong: Counters::new(WINDOW), made: Counters::new(WINDOW) }
    }

    /// Whether another signature is checked for `network`. One that may stand for many clients has no limit.
    pub(super) fn may_check(&self, network: Network, now: Moment) -> Result<(), Denied> {
        let has_limit = 0 < self.wrong_max && network.is_one_tenant();
        let is_spent = has_limit && self.wrong_max <= self.wrong.get(&network, now).failures;
        if is_spent { Err(Denied::TooMany) } else { Ok(()) }
    }

    /// A signature that `network` has shown was wrong.
    pub(super) fn on_wrong(&mut self, network: Network, now: Moment) {
        if 0 < self.wrong_max && network.is_one_tenant() {
            self.wrong.add(network, now);
        }
    }

    /// Counts one more token made for `user`, if there may be one.
    pub(super) fn begin_refresh(&mut self, user: &str, now: Moment) -> Result<(), Denied> {
        let user = Box::from(user);
        if 0 < self.made_max && self.made_max <= self.made.get(&user, now).tries {
            return Err(Denied::TooMany);
        }
        self.made.add(user, now);
        Ok(())
    }
}
