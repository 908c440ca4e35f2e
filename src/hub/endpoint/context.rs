//! What an endpoint knows of a request besides the request itself.

use core::net::IpAddr;

use crate::{
    auth::{ConnectionId, Identity, Requester, TokenOrigin},
    clock::Moment,
    close::Close,
    endpoint::{Config, Hub},
};

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'hub> {
    /// The hub.
    pub hub: &'hub Hub,
    /// The reactor's copy of what endpoints are told by the configuration.
    pub config: &'hub Config,
    /// The reactor that asks.
    pub reactor: usize,
    /// The connection, in the reactor's own terms.
    pub token: u64,
    /// The moment it is.
    pub now: Moment,
    /// Whether it came through an admin listener.
    pub admin: bool,
    /// The limit that the connection is beyond, if it is: whatever it asks for is refused.
    pub overload: Option<Overload>,
    /// Whose stream or request it is; `None` where nobody has to say so, and at doors that see to it themselves.
    pub identity: Option<&'hub Identity>,
    /// The client's address, if it has one. A trusted proxy's own address is not a client's.
    pub peer: Option<IpAddr>,
}

/// Which limit a connection is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// All the connections that the hub is to serve are taken.
    Connections,
    /// All the connections that one address may have are taken.
    Address,
    /// What the hub's events may occupy in memory is spent.
    Memory,
}

impl Overload {
    /// How the connection ends.
    pub fn close(self) -> Close {
        Close::TryLater(match self {
            Self::Connections => "the hub has all the connections it is configured to serve",
            Self::Address => "this address has all the connections it may have",
            Self::Memory => "the hub has spent the memory it is configured to use",
        })
    }
}

impl<'hub> Context<'hub> {
    /// Who asks, as quotas count it.
    pub(crate) fn requester(&self) -> Requester<'hub> {
        Requester { identity: self.identity, address: self.peer }
    }

    /// The connection that asks.
    pub(crate) fn connection(&self) -> ConnectionId {
        ConnectionId { reactor: self.reactor, token: self.token }
    }

    /// Who shows a token.
    pub(crate) fn token_origin(&self) -> TokenOrigin {
        TokenOrigin { address: self.peer, connection: Some(self.connection()) }
    }
}
