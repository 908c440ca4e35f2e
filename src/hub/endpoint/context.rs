//! What an endpoint gets besides the request.

use core::net::IpAddr;
use std::{
    cell::{Cell, OnceCell},
    fmt,
    sync::Arc,
};

use crate::{
    auth::{ConnectionId, Identity, Requester, TokenOrigin},
    clock::Moment,
    close::Close,
    endpoint::{Config, Hub},
    label::RouteLabel,
    protocol::http::Request,
};

/// Where a request came from, and the state it is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'hub> {
    /// The hub's handle.
    pub hub: &'hub Hub,
    /// The reactor's copy of the endpoints' configuration.
    pub config: &'hub Config,
    /// The reactor of the connection.
    pub reactor: usize,
    /// The connection's token, which only its reactor understands.
    pub token: u64,
    /// The current time, read once a turn.
    pub now: Moment,
    /// Whether the request came through an admin listener.
    pub admin: bool,
    /// The limit that the connection exceeds, if any. Everything it asks for is refused.
    pub overload: Option<Overload>,
    /// Who asks. `None` if the route asks for no token, or checks the token itself.
    pub identity: Option<&'hub Identity>,
    /// The client's address, if known. The address of a trusted proxy is not its client's.
    pub peer: Option<IpAddr>,
    /// The request that is being answered, if there is an audit to record it.
    pub audited: Option<&'hub AuditedRequest<'hub>>,
}

/// A request as the audit is to show it.
pub struct AuditedRequest<'a> {
    /// What it is for.
    pub(super) route: RouteLabel,
    /// What stands for `{topic}` in its path.
    pub(super) topic: &'a str,
    pub(super) request: &'a Request,
    /// Whose it is, once its credential has been checked.
    pub(super) who: OnceCell<Arc<Identity>>,
    /// Whether a client that shows nothing is let in, to sign in by a command.
    pub(super) may_sign_in_later: Cell<bool>,
}

/// The request may hold a token.
impl fmt::Debug for AuditedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditedRequest").field("route", &self.route).finish_non_exhaustive()
    }
}

impl<'a> AuditedRequest<'a> {
    /// `request` for `route`, or for none. `topic` is what stands for `{topic}` in its path.
    pub(super) fn new(request: &'a Request, route: Option<RouteLabel>, topic: &'a str) -> Self {
        Self {
            route: route.unwrap_or(RouteLabel::Other),
            topic,
            request,
            who: OnceCell::new(),
            may_sign_in_later: Cell::default(),
        }
    }

    /// The topics that it names, in its path or its query.
    pub(super) fn topics(&self) -> Vec<&'a str> {
        let in_path = (!self.topic.is_empty()).then_some(self.topic);
        in_path.into_iter().chain(self.request.query_values("topic")).collect()
    }
}

/// A limit that a connection can exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// The hub has as many connections as it may serve.
    Connections,
    /// The address has as many connections as one address may have.
    Address,
    /// The memory budget is spent.
    Memory,
}

impl Overload {
    /// Why the connection ends.
    pub fn close(self) -> Close {
        Close::TryLater(match self {
            Self::Connections => "the hub has all the connections it is configured to serve",
            Self::Address => "this address has all the connections it may have",
            Self::Memory => "the hub has spent the memory it is configured to use",
        })
    }
}

impl<'hub> Context<'hub> {
    /// The requester, as quotas count it.
    pub(crate) fn requester(&self) -> Requester<'hub> {
        Requester { identity: self.identity, address: self.peer }
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        ConnectionId { reactor: self.reactor, token: self.token }
    }

    /// Where a token comes from, for the limits on bad tokens.
    pub(crate) fn token_origin(&self) -> TokenOrigin {
        TokenOrigin { address: self.peer, connection: Some(self.connection()) }
    }
}
