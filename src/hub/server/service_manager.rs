//! What systemd is told of the hub (`sd_notify(3)`): that it serves, reads its configuration again, ends, and is alive. Without
//! `NOTIFY_SOCKET` in the environment nobody is told anything.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use crate::clock::Moment;

/// The service manager, as far as this process knows it.
pub(super) struct ServiceManager {
    watchdog: Option<Watchdog>,
}

impl ServiceManager {
    /// The one that started this process, if any.
    pub(super) fn from_environment(now: Moment) -> Self {
        Self { watchdog: sd_notify::watchdog_enabled().map(|period| Watchdog::new(period, now)) }
    }

    /// How often [`ServiceManager::keep_alive`] is to be called. `None`: it need not be.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watchdog.as_ref().map(|watchdog| watchdog.interval)
    }

    /// The hub listens, or has read its configuration again.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// The hub reads its configuration again. `ready` is to follow.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reading the configuration")]),
            Err(error) => warn!(%error, "systemd is not told that the configuration is read again"),
        }
    }

    /// The hub ends, which takes `longest` at most.
    pub(super) fn stopping(&self, longest: Duration) {
        let longest = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longest), NotifyState::Status("draining")]);
    }

    /// To be called again and again. `is_well`: whether all threads that serve do.
    pub(super) fn keep_alive(&mut self, now: Moment, is_well: bool) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_due(now, is_well)) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// A hub serves as well where systemd does not listen.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd is not told of the hub's state");
    }
}

/// When to tell systemd that the hub is alive. It ends a service that has not said so for a period (`WatchdogSec=`).
#[derive(Debug)]
struct Watchdog {
    /// Half of the period, as `sd_watchdog_enabled(3)` recommends.
    interval: Duration,
    told: Moment,
}

impl Watchdog {
    fn new(period: Duration, now: Moment) -> Self {
        Self { interval: period / 2, told: now }
    }

    /// Whether to tell it now. Not while the hub is not well: that is what the period is for.
    fn is_due(&mut self, now: Moment, is_well: bool) -> bool {
        // Early rather than late: whoever calls sleeps for as long as the interval, and a little longer.
        let is_due = is_well && self.interval / 2 <= now.since(self.told);
        if is_due {
            self.told = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_time_and_only_while_all_is_well() {
        let at = |ms: u64| Moment(ms * 1_000_000);
        let check = |calls: &[(u64, bool)], expected: &[u64]| {
            let mut watchdog = Watchdog::new(Duration::from_secs(4), at(0));
            let told = calls.iter().filter(|(ms, is_well)| watchdog.is_due(at(*ms), *is_well)).map(|(ms, _)| *ms);
            assert_eq!(told.collect::<Vec<_>>(), expected, "{calls:?}");
        };
        check(&[(0, true), (500, true), (999, true), (1000, true), (1500, true), (2000, true)], &[1000, 2000]);
        check(&[(2000, true), (4000, true)], &[2000, 4000]);
        check(&[(1000, true), (2000, false), (3000, false), (4000, true)], &[1000, 4000]);
    }
}
