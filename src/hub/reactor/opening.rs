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
    endpoint::{OpenSse, OpenWebSocket},
    event::Start,
    frame::SseForm,
    index::Slot,
    metrics::Transport,
    protocol::{Opening, http::Version},
    topic::Topic,
};

impl<N: Net> Reactor<N> {
    pub(super) fn open_sse(&mut self, slot: Slot, version: Version, open: OpenSse) {
        let OpenSse { topics, named, wants_initial_id: tells_place, greeting, mut profile, headers, identity, hold } =
            open;
        self.stream_holds.keep(slot, hold);
        let retry_ms = self.retry_ms();
        if let Some(profile) = &mut profile {
            profile.begin(self.now, |interval| jittered(interval, &mut self.random));
        }
        let Some(connection) = self.connections.at(slot) else { return };
        // HAProxy corks every chunk of a response that says where it ends, so each event would be up to 200 ms late.
        let through_proxy = connection.via != Via::Direct;
        let chunked = version == Version::Http11 && !through_proxy;
        if through_proxy {
            self.net.reset_on_drop(&connection.stream, true);
        }
        connection.identity = identity;
        let form = SseForm { named, chunked, with_id: topics.len() == 1 };
        let opening = Opening::Sse { form, tells_place, greeting, profile, headers: &headers, retry_ms };
        self.open(slot, opening, &topics);
    }

    pub(super) fn open_websocket(&mut self, slot: Slot, open: OpenWebSocket) {
        let OpenWebSocket { accepted, dialect, topics, identity, hold } = open;
        self.stream_holds.keep(slot, hold);
        let Some(connection) = self.connections.at(slot) else { return };
        connection.identity = identity;
        let mut leftover = self.open(slot, Opening::WebSocket { accepted: &accepted, dialect }, &topics);
        self.advance_session(slot, &mut leftover);
    }

    /// The connection becomes a stream. Returns what its client has sent behind the request, for [`Reactor::advance_session`].
    pub(super) fn open(&mut self, slot: Slot, opening: Opening<'_>, topics: &[(Topic, Start)]) -> Vec<u8> {
        let (transport, has_own_id) = (opening.transport(), opening.has_own_id());
        let Some(connection) = self.connections.at(slot) else { return Vec::new() };
        let leftover = connection.open(opening, self.net.date());
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
