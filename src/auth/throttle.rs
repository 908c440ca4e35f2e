//! Failed logins, counted by user and address.

use core::net::IpAddr;
use std::{collections::HashMap, time::Duration};

use crate::clock::Moment;

/// Pairs of user and address that are remembered. Beyond it the one that failed first is forgotten.
const ENTRIES_MAX: usize = 16_384;

/// Lets each user try a few times from each address, and then no more until the window is over.
#[derive(Debug)]
pub(super) struct Throttle {
    failures_max: usize,
    window: Duration,
    entries: HashMap<(Box<str>, Option<IpAddr>), Tries>,
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    since: Moment,
    count: usize,
}

impl Throttle {
    pub(super) fn new(failures_max: usize, window: Duration) -> Self {
        Self { failures_max, window, entries: HashMap::new() }
    }

    /// Counts one more try of `user` from `address`, or says for how long there are none. A try counts as failed until
    /// [`Self::forgive`] says that it was not, so that many at once are no more than many in a row.
    pub(super) fn begin(&mut self, user: &str, address: Option<IpAddr>, now: Moment) -> Result<(), Duration> {
        let key = (Box::from(user), address.map(network_of));
        let known = self.entries.get(&key).filter(|tries| now.since(tries.since) < self.window);
        let tries = known.copied().unwrap_or(Tries { since: now, count: 0 });
        if self.failures_max <= tries.count {
            return Err(self.window.saturating_sub(now.since(tries.since)));
        }
        self.make_room(now);
        self.entries.insert(key, Tries { count: tries.count + 1, ..tries });
        Ok(())
    }

    /// The try went well, or was none.
    pub(super) fn forgive(&mut self, user: &str, address: Option<IpAddr>, outcome: Forgiven) {
        let key = (Box::from(user), address.map(network_of));
        match outcome {
            Forgiven::SignedIn => drop(self.entries.remove(&key)),
            Forgiven::NotTried => match self.entries.get_mut(&key) {
                Some(tries) if 1 < tries.count => tries.count -= 1,
                _ => drop(self.entries.remove(&key)),
            },
        }
    }

    fn make_room(&mut self, now: Moment) {
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        let window = self.window;
        self.entries.retain(|_, tries| now.since(tries.since) < window);
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        // Half of them at once, so that the search is not repeated with each that comes.
        let mut since: Vec<Moment> = self.entries.values().map(|tries| tries.since).collect();
        let (_, median, _) = since.select_nth_unstable(ENTRIES_MAX / 2);
        let median = *median;
        self.entries.retain(|_, tries| median < tries.since);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Why a try does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgiven {
    /// The password was right: what failed before is forgotten as well.
    SignedIn,
    /// It was not looked at.
    NotTried,
}

/// Whoever has one IPv6 address mostly has the 64 bits below as well.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}
