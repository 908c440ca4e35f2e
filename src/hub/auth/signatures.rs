//! Limits on signatures: verifying one with a public key takes a reactor up to 100 µs, and making one with RSA a millisecond.
//!
//! Failed verifications are counted by address and by connection. The limit per address bounds a client with many connections.
//! It does not apply to addresses that many clients share (this machine, proxies that do not name their clients): there the
//! limit per connection applies.

use core::net::IpAddr;
use std::time::Duration;

use super::{AccessDenied, counters::Counters, throttle::ClientNetwork};
use crate::clock::Moment;

/// The window of the limits.
const WINDOW: Duration = Duration::from_secs(1);

/// The client that shows a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenOrigin {
    /// The client's address; `None` if it is not known or a trusted proxy's own.
    pub address: Option<IpAddr>,
    /// The connection; `None` if it ends with the request and is not counted.
    pub connection: Option<ConnectionId>,
}

impl From<Option<IpAddr>> for TokenOrigin {
    fn from(address: Option<IpAddr>) -> Self {
        Self { address, connection: None }
    }
}

/// Identifies a connection for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub reactor: usize,
    /// Its number at that reactor, which is never reused.
    pub token: u64,
}

/// The limits per second. 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignatureConfig {
    /// Wrong signatures from one address.
    pub(super) wrong_per_address: usize,
    /// Failed verifications on one connection, for whatever reason.
    pub(super) failed_per_connection: usize,
    /// Fresh tokens for one user.
    pub(super) made_per_user: usize,
}

/// Counts failed verifications by address and by connection, and fresh tokens by user.
#[derive(Debug)]
pub(super) struct SignatureLimits {
    config: SignatureConfig,
    wrong: Counters<ClientNetwork>,
    failed: Counters<ConnectionId>,
    made: Counters<Box<str>>,
}

impl SignatureLimits {
    pub(super) fn new(config: SignatureConfig) -> Self {
        let (wrong, failed, made) = (Counters::new(WINDOW), Counters::new(WINDOW), Counters::new(WINDOW));
        Self { config, wrong, failed, made }
    }

    /// Whether another signature of `origin` may be verified. Addresses that many clients may share have no limit.
    pub(super) fn may_check(&self, origin: TokenOrigin, now: Moment) -> Result<(), AccessDenied> {
        let (network, most) = (ClientNetwork::of(origin.address), self.config.wrong_per_address);
        let has_limit = 0 < most && network.is_one_tenant();
        let is_spent = has_limit && most <= self.wrong.get(&network, now).failures;
        if is_spent || self.has_spent(origin.connection, now) { Err(AccessDenied::TooMany) } else { Ok(()) }
    }

    /// Whether the connection has reached its limit of failed verifications.
    pub(super) fn has_spent(&self, connection: Option<ConnectionId>, now: Moment) -> bool {
        let most = self.config.failed_per_connection;
        let failures = |connection: ConnectionId| self.failed.get(&connection, now).failures;
        connection.is_some_and(|connection| 0 < most && most <= failures(connection))
    }

    /// Counts a failed verification of `origin`. Returns the error for the client: at the connection's limit, that there were too
    /// many.
    pub(super) fn on_failed(&mut self, origin: TokenOrigin, denied: AccessDenied, now: Moment) -> AccessDenied {
        let network = ClientNetwork::of(origin.address);
        if denied == AccessDenied::Invalid && 0 < self.config.wrong_per_address && network.is_one_tenant() {
            self.wrong.add(network, now);
        }
        if let Some(connection) = origin.connection.filter(|_| 0 < self.config.failed_per_connection) {
            self.failed.add(connection, now);
        }
        if self.has_spent(origin.connection, now) { AccessDenied::TooMany } else { denied }
    }

    /// A connection has moved to another reactor and is `to` there: its counts move with it.
    pub(super) fn follow(&mut self, from: ConnectionId, to: ConnectionId, now: Moment) {
        self.failed.copy(&from, to, now);
    }

    /// Counts a fresh token for `user`, or fails at the limit.
    pub(super) fn begin_refresh(&mut self, user: &str, now: Moment) -> Result<(), AccessDenied> {
        let user = Box::from(user);
        let most = self.config.made_per_user;
        if 0 < most && most <= self.made.get(&user, now).tries {
            return Err(AccessDenied::TooMany);
        }
        self.made.add(user, now);
        Ok(())
    }

    /// How many addresses and connections are remembered for failed verifications.
    #[cfg(test)]
    pub(super) fn failed_len(&self) -> usize {
        self.wrong.len() + self.failed.len()
    }
}
