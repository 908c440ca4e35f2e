//! How many signatures a client may cost the hub: with a pair of keys one takes a reactor up to 100 µs to check, and with RSA
//! a millisecond to make.
//!
//! Checks that fail are counted twice: by address, and by connection. An address bounds a client, however many connections it
//! opens, but many clients may share one: those behind a proxy that does not name them, or on this machine. So an address of
//! these has no limit, and each of their connections has one.

use core::net::IpAddr;
use std::time::Duration;

use super::{Denied, counters::Counters, throttle::ClientNetwork};
use crate::clock::Moment;

/// What the limits count within.
const WINDOW: Duration = Duration::from_secs(1);

/// Who shows a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenOrigin {
    /// The client's address; `None`: not known, or a trusted proxy's own.
    pub address: Option<IpAddr>,
    /// The connection that the token came by; `None`: none that lasts, so that it is not counted.
    pub connection: Option<ConnectionId>,
}

impl From<Option<IpAddr>> for TokenOrigin {
    fn from(address: Option<IpAddr>) -> Self {
        Self { address, connection: None }
    }
}

/// A connection among all that the hub has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub reactor: usize,
    /// What that reactor calls it: never used again for another one.
    pub token: u64,
}

/// What each limit allows within a second. Zero: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignatureConfig {
    /// Wrong signatures from one address.
    pub(super) wrong_per_address: usize,
    /// Checks that failed on one connection, whatever was wrong with the token.
    pub(super) failed_per_connection: usize,
    /// Tokens made anew for one user.
    pub(super) made_per_user: usize,
}

/// Counts the checks that failed, by address and by connection, and the tokens that were made anew, by user.
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

    /// Whether another signature is checked for `origin`. An address that may stand for many clients has no limit.
    pub(super) fn may_check(&self, origin: TokenOrigin, now: Moment) -> Result<(), Denied> {
        let (network, most) = (ClientNetwork::of(origin.address), self.config.wrong_per_address);
        let has_limit = 0 < most && network.is_one_tenant();
        let is_spent = has_limit && most <= self.wrong.get(&network, now).failures;
        if is_spent || self.has_spent(origin.connection, now) { Err(Denied::TooMany) } else { Ok(()) }
    }

    /// Whether so many checks have failed on the connection that no more are made.
    pub(super) fn has_spent(&self, connection: Option<ConnectionId>, now: Moment) -> bool {
        let most = self.config.failed_per_connection;
        let failures = |connection: ConnectionId| self.failed.get(&connection, now).failures;
        connection.is_some_and(|connection| 0 < most && most <= failures(connection))
    }

    /// A token that `origin` has shown was checked, and is not good. Returns what the client is told: the last one that is
    /// checked on a connection is told that there are no more.
    pub(super) fn on_failed(&mut self, origin: TokenOrigin, denied: Denied, now: Moment) -> Denied {
        let network = ClientNetwork::of(origin.address);
        if denied == Denied::Invalid && 0 < self.config.wrong_per_address && network.is_one_tenant() {
            self.wrong.add(network, now);
        }
        if let Some(connection) = origin.connection.filter(|_| 0 < self.config.failed_per_connection) {
            self.failed.add(connection, now);
        }
        if self.has_spent(origin.connection, now) { Denied::TooMany } else { denied }
    }

    /// A connection has gone on to another reactor, and is called `to` there: what it has shown goes with it.
    pub(super) fn follow(&mut self, from: ConnectionId, to: ConnectionId, now: Moment) {
        self.failed.copy(&from, to, now);
    }

    /// Counts one more token made for `user`, if there may be one.
    pub(super) fn begin_refresh(&mut self, user: &str, now: Moment) -> Result<(), Denied> {
        let user = Box::from(user);
        let most = self.config.made_per_user;
        if 0 < most && most <= self.made.get(&user, now).tries {
            return Err(Denied::TooMany);
        }
        self.made.add(user, now);
        Ok(())
    }
}
