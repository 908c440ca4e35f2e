//! How connections for requests become streams.

use super::{
    Reactor,
    connection::{Connection, Via},
    net::Net,
    subscribe::close_of,
    timers::jittered,
};
use crate::{
    budget::ChargeRefused,
    endpoint::OpenStream,
    event::Start,
    index::Slot,
    label::RouteLabel,
    metrics::Transport,
    protocol::{Opening, OpeningContext, http::Version},
    topic::Topic,
};

/// What the head of the response depends on that opens a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    /// The version of the request.
    pub(super) version: Version,
    /// Fields of the response.
    pub(super) fields: &'a [(&'static str, String)],
}

impl Head<'_> {
    /// Of an upgrade, whose response is the protocol's own.
    pub(super) const UPGRADE: Self = Self { version: Version::Http11, fields: &[] };
}

impl<N: Net> Reactor<N> {
    /// Answers a request of `version` for `route` with a stream.
    pub(super) fn open_stream(&mut self, slot: Slot, route: RouteLabel, version: Version, open: OpenStream) {
        let OpenStream { opening, topics, headers, identity, reservation } = open;
        self.count_request(slot, route, opening.status(), 0);
        self.stream_reservations.keep(slot, reservation);
        let Some(connection) = self.connections.at(slot) else { return };
        connection.identity = identity;
        let mut leftover = self.open(slot, opening, &topics, Head { version, fields: &headers });
        self.advance_session(slot, &mut leftover);
    }

    /// The connection becomes a stream. Returns what its client has sent behind the request, for [`Reactor::advance_session`].
    pub(super) fn open(&mut self, slot: Slot, opening: Opening, topics: &[(Topic, Start)], head: Head<'_>) -> Vec<u8> {
        let (transport, has_own_id) = (opening.transport(), opening.has_own_id(topics.len()));
        let (now, is_content) = (self.now, opening.is_content());
        let retry_ms = if is_content { self.retry_ms() } else { 0 };
        let Some(connection) = self.connections.at(slot) else { return Vec::new() };
        // HAProxy corks every chunk of a response that says where it ends, so each event would be up to 200 ms late.
        let through_proxy = connection.via != Via::Direct;
        if through_proxy && is_content {
            self.net.reset_on_drop(&connection.stream, true);
        }
        let context = OpeningContext {
            date: self.net.date(),
            headers: head.fields,
            retry_ms,
            can_chunk: head.version == Version::Http11 && !through_proxy,
            topic_count: topics.len(),
            now,
            early: &mut |interval| jittered(interval, &mut self.random),
        };
        let leftover = connection.open(opening, context);
        if has_own_id && let Err(refused) = self.name_topics(slot, topics) {
            self.end(slot, close_of(refused));
            return Vec::new();
        }
        self.begin_stream(slot, transport, topics);
        leftover
    }

    /// The stream's own id names where its client stands in each of `topics`.
    fn name_topics(&mut self, slot: Slot, topics: &[(Topic, Start)]) -> Result<(), ChargeRefused> {
        let attached = topics.iter().map(|(topic, _)| self.try_attach(slot, topic)).collect::<Result<Vec<_>, _>>()?;
        if let Some((session, _)) = self.connections.at(slot).and_then(Connection::speaks) {
            session.set_topics(attached.into_iter());
        }
        Ok(())
    }

    fn begin_stream(&mut self, slot: Slot, transport: Transport, topics: &[(Topic, Start)]) {
        let Some(connection) = self.connections.at(slot) else { return };
        self.metrics.on_upgrade(connection.transport, transport);
        connection.transport = transport;
        connection.written = self.now;
        self.subscribe_stream(slot, topics);
        self.mark_dirty(slot);
        self.rearm(slot);
    }
}
