//! The address that a connection counts for: its peer's, or that of the client whose request a trusted proxy passes on.

use std::net::IpAddr;

use super::{
    Reactor,
    connection::{Connection, Via},
    net::Net,
};
use crate::{
    clock::Moment,
    endpoint::Overload,
    index::Slot,
    protocol::{Session, http::Request, proxy},
};

impl<N: Net> Reactor<N> {
    /// What a connection accepted `now` begins with.
    pub(super) fn first_session(&self, trusted: bool, admin: bool, now: Moment) -> Session {
        // Monitoring connects without the proxy.
        if trusted && !admin && self.config.proxy_protocol { Session::behind_proxy(now) } else { Session::new(now) }
    }

    /// Counts one more connection from `peer`: how many more than allowed it has. Proxies themselves are not counted, for
    /// they connect for everybody.
    pub(super) fn count_peer(&self, peer: Option<IpAddr>) -> usize {
        match self.config.trusted.contains(peer) {
            true => 0,
            false => self.placement.count_address(peer, self.config.connections_per_ip_max),
        }
    }

    /// A connection counted for `peer` is gone, or counts for another address from now on.
    pub(super) fn uncount_peer(&self, peer: Option<IpAddr>) {
        if 0 < self.config.connections_per_ip_max && !self.config.trusted.contains(peer) {
            self.placement.uncount_address(peer);
        }
    }

    /// The proxy has named its client. That may be a proxy too, whose requests then name theirs.
    pub(super) fn take_source(&mut self, slot: Slot, source: Option<IpAddr>) {
        let Some(source) = source else { return };
        if let Some(connection) = self.connections.at(slot) {
            connection.via =
                if self.config.trusted.contains(Some(source)) { Via::Proxy } else { Via::ProxyOfOneClient };
        }
        self.count_for(slot, Some(source));
    }

    /// A proxy may pass on requests of many clients through one connection: each counts for its own.
    pub(super) fn take_client(&mut self, slot: Slot, request: &Request) {
        let is_trusted = self.connections.at(slot).is_some_and(|connection| connection.via == Via::Proxy);
        if is_trusted && let Some(client) = proxy::client_address(request, &self.config.trusted) {
            self.count_for(slot, Some(client));
        }
    }

    /// The same for a request whose body has not come.
    pub(super) fn take_client_of_head(&mut self, slot: Slot) {
        let is_trusted = self.connections.peek(slot).is_some_and(|connection| connection.via == Via::Proxy);
        let named = self.begun(slot).filter(|_| is_trusted);
        if let Some(client) = named.and_then(|request| proxy::client_address(request, &self.config.trusted)) {
            self.count_for(slot, Some(client));
        }
    }

    /// Between requests, a proxy's connection counts for no address.
    pub(super) fn forget_client(&mut self, slot: Slot) {
        if self.connections.at(slot).is_some_and(|connection| connection.via == Via::Proxy) {
            self.count_for(slot, None);
        }
    }

    fn count_for(&mut self, slot: Slot, peer: Option<IpAddr>) {
        let Some(Connection { peer: counted, .. }) = self.connections.at(slot) else { return };
        let before = std::mem::replace(counted, peer);
        if before == peer {
            return;
        }
        self.uncount_peer(before);
        let surplus = self.count_peer(peer);
        if let Some(connection) = self.connections.at(slot) {
            connection.overload = connection.overload.or_else(|| (0 < surplus).then_some(Overload::Address));
        }
    }
}
