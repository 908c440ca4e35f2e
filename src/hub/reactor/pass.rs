//! Connections that go to another reactor: the one that has the session which their request is for.

use super::{Reactor, connection::Connection, net::Net, placement::Passed, state::State};
use crate::{
    close::Close,
    index::Slot,
    label::RouteLabel,
    metrics::Transport,
    protocol::{
        PeerInput,
        http::{Request, Response},
    },
};

impl<N: Net> Reactor<N> {
    /// Passes the connection at `slot` on to the reactor `to`, where its request finds its session. `None`: the request's body
    /// has not come.
    pub(super) fn pass_on(&mut self, slot: Slot, route: RouteLabel, to: usize, request: Option<Request>) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.is_open() {
            return;
        }
        if self.net.release(&mut connection.stream).is_err() {
            return self.end(slot, Close::Internal("the connection cannot be passed on"));
        }
        self.outcomes.unblock(&mut connection.state);
        connection.state = State::default();
        let from = self.connection_id(slot);
        self.timers.disarm(slot);
        let opened = self.take_opened(slot);
        let Some(connection) = self.connections.remove(slot) else { return };
        self.admins -= usize::from(connection.admin);
        match self.placement.pass(Box::new(Passed { connection, request, from, opened }), to) {
            Ok(()) => {
                self.placement.on_left(self.index);
                self.metrics.on_depart(Transport::default());
            }
            Err(passed) => {
                let Passed { connection, opened, .. } = *passed;
                self.admins += usize::from(connection.admin);
                let token = self.connections.insert(|_| connection);
                self.keep_opened(token.slot, opened);
                let registered = self.connections.at(token.slot).map(|it| self.net.register(&mut it.stream, token));
                if registered.is_some_and(|outcome| outcome.is_err()) {
                    return self.end(token.slot, Close::Internal("the connection cannot be watched"));
                }
                if let Some(requests) = self.connections.at(token.slot).and_then(Connection::requests_mut) {
                    requests.give_up_body();
                }
                let busy = Response::error(503, "overloaded", "too many requests wait for their session", None);
                self.respond(token.slot, route, &busy.with("Retry-After", "1"));
            }
        }
    }

    /// Takes over a connection, and answers the request that it was passed on with.
    pub(super) fn take_passed(&mut self, passed: Passed<N::Stream>) {
        let Passed { connection, request, from, opened } = passed;
        self.admins += usize::from(connection.admin);
        let token = self.connections.insert(|_| connection);
        self.hub.auth.follow(from, self.connection_id(token.slot), self.now);
        self.keep_opened(token.slot, opened);
        self.metrics.on_arrive(Transport::default());
        let Some(connection) = self.connections.at(token.slot) else { return };
        if let Err(error) = self.net.register(&mut connection.stream, token) {
            tracing::warn!(%error, "cannot watch a connection");
            return self.end(token.slot, Close::Internal("the connection cannot be watched"));
        }
        self.take_input(token.slot, request.map_or(PeerInput::Body, PeerInput::Request));
        self.advance_session(token.slot, &mut []);
        self.continue_session(token.slot);
        self.mark_dirty(token.slot);
    }
}
