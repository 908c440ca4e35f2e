//! Limits on failed sign-ins: by user and address together, by address, and by user.
//!
//! A pair of a user and an address from which that user signed in lately is *known*. Attempts of a known pair count for the
//! pair alone: strangers who fail with a user's name lock out other strangers, but not the user at a known address.

use core::net::IpAddr;
use std::{collections::HashMap, time::Duration};

use super::counters::Counters;
use crate::{clock::Moment, network::client_network};

/// Addresses remembered for each user. Beyond it the least recently used one is forgotten.
const KNOWN_ADDRESSES_MAX: usize = 16;

/// The address that attempts are counted under: the /64 network of an IPv6 address, since one customer mostly has all of it. An
/// IPv4 address that is mapped into IPv6 counts as IPv4. `None`: the client's address is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientNetwork(Option<IpAddr>);

impl ClientNetwork {
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(client_network))
    }

    /// Whether the limits per address apply. Not to loopback addresses: they may be a proxy's, with many clients behind it.
    pub(super) fn is_one_tenant(self) -> bool {
        self.0.is_some_and(|address| !address.is_loopback())
    }
}

/// The most failures within a window. 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginThrottleLimits {
    /// Failures of one user from one address.
    pub(super) per_pair: usize,
    /// Failures from one address, whatever the users.
    pub(super) per_address: usize,
    /// Failures of one user from all addresses that are not known for that user.
    pub(super) per_user: usize,
    pub(super) window: Duration,
    /// How long a user's address stays known after the last sign-in from there.
    pub(super) known_for: Duration,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginLimit {
    /// The limit of the user at this address.
    Pair,
    Address,
    /// The limit of the user over all addresses that are not known for that user.
    User,
}

/// An attempt that was admitted, and its place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdmittedLogin {
    /// Whether the user has signed in from this address lately.
    pub(super) is_known: bool,
    /// Attempts of the pair (if it is known), else of the address, in this window, with this one.
    pub(super) rank: usize,
}

/// Counts attempts to sign in, and refuses those over a limit.
#[derive(Debug)]
pub(super) struct LoginThrottle {
    limits: LoginThrottleLimits,
    pairs: Counters<(Box<str>, ClientNetwork)>,
    addresses: Counters<ClientNetwork>,
    users: Counters<Box<str>>,
    known: KnownAddresses,
}

impl LoginThrottle {
    pub(super) fn new(limits: LoginThrottleLimits) -> Self {
        let window = limits.window;
        let known = KnownAddresses { known_for: limits.known_for, of_user: HashMap::new() };
        let (pairs, addresses, users) = (Counters::new(window), Counters::new(window), Counters::new(window));
        Self { limits, pairs, addresses, users, known }
    }

    /// Counts an attempt of `user` from `address`. Fails with the limit that is reached and the time until it is not. An attempt
    /// counts as failed until [`Self::settle`], so that concurrent attempts are limited like successive ones.
    pub(super) fn begin(
        &mut self,
        user: &str,
        address: ClientNetwork,
        now: Moment,
    ) -> Result<AdmittedLogin, (LoginLimit, Duration)> {
        let pair = (Box::from(user), address);
        let is_known = self.known.has(user, address, now);
        let reached = |count: usize, limit: usize| 0 < limit && limit <= count;
        let tries = self.pairs.get(&pair, now);
        if reached(tries.failures, self.limits.per_pair) {
            return Err((LoginLimit::Pair, self.pairs.left(tries, now)));
        }
        if is_known {
            return Ok(AdmittedLogin { is_known, rank: self.pairs.add(pair, now) });
        }
        let tries = self.addresses.get(&address, now);
        if address.is_one_tenant() && reached(tries.failures, self.limits.per_address) {
            return Err((LoginLimit::Address, self.addresses.left(tries, now)));
        }
        let tries = self.users.get(&pair.0, now);
        if reached(tries.failures, self.limits.per_user) {
            return Err((LoginLimit::User, self.users.left(tries, now)));
        }
        self.users.add(pair.0.clone(), now);
        self.pairs.add(pair, now);
        Ok(AdmittedLogin { is_known, rank: self.addresses.add(address, now) })
    }

    /// Corrects the counts of an attempt that did not fail.
    pub(super) fn settle(
        &mut self,
        user: &str,
        address: ClientNetwork,
        admitted: AdmittedLogin,
        outcome: LoginOutcome,
        now: Moment,
    ) {
        let pair = (Box::from(user), address);
        let undo = |count: &mut super::counters::Count| {
            count.failures = count.failures.saturating_sub(1);
            count.tries = count.tries.saturating_sub(usize::from(outcome == LoginOutcome::NotTried));
        };
        match outcome {
            LoginOutcome::SignedIn => self.pairs.correct(&pair, |count| count.failures = 0),
            LoginOutcome::NotTried => self.pairs.correct(&pair, undo),
        }
        // One account whose password is known must not wash away what failed with others: only this try is taken back.
        if !admitted.is_known {
            self.addresses.correct(&address, undo);
            self.users.correct(&pair.0, undo);
        }
        if outcome == LoginOutcome::SignedIn {
            self.known.add(user, address, now);
        }
    }

    /// Makes `address` known for `user`, who has shown a token from a login there.
    pub(super) fn remember(&mut self, user: &str, address: ClientNetwork, now: Moment) {
        self.known.add(user, address, now);
    }

    /// Forgets the addresses of users that no longer exist.
    pub(super) fn retain_users(&mut self, exists: impl Fn(&str) -> bool) {
        self.known.of_user.retain(|user, _| exists(user));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pairs.len().max(self.addresses.len()).max(self.users.len())
    }
}

/// The outcome of an attempt that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginOutcome {
    /// The password was right. Earlier failures of the pair are forgotten.
    SignedIn,
    /// The password was not checked.
    NotTried,
}

/// The addresses that users have signed in from. Only a right password or a valid token adds one, and each user has at most
/// [`KNOWN_ADDRESSES_MAX`]: the users file bounds the size, and nobody can displace another user's addresses.
#[derive(Debug)]
struct KnownAddresses {
    known_for: Duration,
    of_user: HashMap<Box<str>, Vec<(ClientNetwork, Moment)>>,
}

impl KnownAddresses {
    fn has(&self, user: &str, address: ClientNetwork, now: Moment) -> bool {
        let seen = |(known, at): &(ClientNetwork, Moment)| *known == address && now.since(*at) < self.known_for;
        self.of_user.get(user).is_some_and(|addresses| addresses.iter().any(seen))
    }

    fn add(&mut self, user: &str, address: ClientNetwork, now: Moment) {
        if self.known_for.is_zero() {
            return;
        }
        let addresses = self.of_user.entry(Box::from(user)).or_default();
        addresses.retain(|(known, _)| *known != address);
        if addresses.len() == KNOWN_ADDRESSES_MAX {
            addresses.remove(0);
        }
        addresses.push((address, now));
    }
}
