//! A WebSocket takes over an Engine.IO session that polls have carried: after a probe, and with the session's name.

use std::{cmp::Reverse, time::Duration};

use crate::{
    close::Close,
    index::Slot,
    label::RouteLabel,
    metrics::Transport,
    protocol::{
        Dialect, WebSocketOpening,
        engine_io::{self, EnginePacketKind},
        websocket::{Accepted, Message},
    },
    reactor::{
        Reactor,
        net::Net,
        opening::Head,
        state::{DETACHED, POLL_PENDING, State, UNCOUNTED},
    },
};

/// What a WebSocket that is about to carry a session over says first, and then.
const PROBE: &str = "2probe";
const UPGRADE: &str = "5";
/// How long a WebSocket may take to carry a session over.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

impl<N: Net> Reactor<N> {
    /// Opens a WebSocket that may carry `session` over. If a WebSocket carries it already the new one is closed at once: a browser
    /// reports a close to its page, and no refused handshake.
    pub(super) fn open_probe(&mut self, slot: Slot, route: RouteLabel, session: Slot, accepted: Accepted) {
        let is_carried = !self.is_detached(session);
        self.count_request(slot, route, 101, 0);
        let of_session = self.connections.token(session);
        let opening = WebSocketOpening { accepted, dialect: Dialect::Messages };
        let mut leftover = self.open(slot, opening.into(), &[], Head::UPGRADE);
        if is_carried {
            return self.end(slot, Close::Policy("a WebSocket carries this session already"));
        }
        self.engines.probes.insert(slot, of_session);
        self.engines.due.push(Reverse((self.now + PROBE_TIMEOUT, self.connections.token(slot).pack())));
        self.advance_session(slot, &mut leftover);
    }

    /// A message of a WebSocket that may carry a session over. Returns the slot of the connection that goes on from here.
    pub(super) fn take_probe(&mut self, slot: Slot, message: &Message) -> Slot {
        let token = self.connections.token(slot);
        let Some(&session) = self.engines.probes.get(&slot) else { return slot };
        if self.connections.named(session).is_none() || !self.is_detached(session.slot) {
            self.end(slot, Close::BadFrame("the session is gone, or carried already"));
            return slot;
        }
        let session = session.slot;
        let Some(entry) = self.engines.sessions.get_mut(&session) else { return slot };
        match message {
            Message::Text(text) if text == PROBE => {
                entry.probe = Some(token);
                if let Some(connection) = self.connections.at(slot) {
                    engine_io::write_frame(EnginePacketKind::Pong, "probe", connection.outbox.buffer());
                    self.mark_dirty(slot);
                }
                // What the session has for the client goes by the poll that waits, which then comes no more.
                self.serve_poll(session);
                self.release_poll(session);
                slot
            }
            Message::Text(text) if text == UPGRADE && entry.probe == Some(token) => {
                self.release_poll(session);
                self.carry_over(slot, session);
                session
            }
            Message::Ping | Message::Pong => slot,
            _ => {
                self.end(slot, Close::BadFrame("a probe was to come, and then the upgrade"));
                slot
            }
        }
    }

    /// The WebSocket at `slot` carries the session at `session` from now on: the session gets its socket, and what is yet
    /// to be written to it goes first.
    fn carry_over(&mut self, slot: Slot, session: Slot) {
        let nowhere = self.net.nowhere();
        let Some(carrier) = self.connections.at(slot) else { return };
        let mut stream = std::mem::replace(&mut carrier.stream, nowhere);
        let unsent = std::mem::take(&mut carrier.outbox);
        let Ok(receiving) = carrier.give_session() else { return };
        self.outcomes.unblock(&mut carrier.state);
        carrier.state = State::default();
        self.engines.probes.remove(&slot);
        self.metrics.on_depart(Transport::WebSocket);
        self.timers.disarm(slot);
        self.schedule_free(slot);
        let token = self.connections.token(session);
        if let Err(error) = self.net.rename(&mut stream, token) {
            tracing::warn!(%error, "cannot watch a connection");
            return self.end(session, Close::Internal("the connection cannot be watched"));
        }
        self.leave_pending(session);
        let Some(connection) = self.connections.at(session) else { return };
        // From now on it has a socket, and counts as the connection that this one was.
        if connection.state.has(UNCOUNTED) {
            connection.state.clear(UNCOUNTED);
            let (peer, share) = (connection.peer, connection.share());
            self.placement.keep(self.index, share);
            self.count_peer(peer);
        }
        let Some(connection) = self.connections.at(session) else { return };
        connection.stream = stream;
        connection.state.clear(DETACHED | POLL_PENDING);
        let mut outbox = unsent;
        outbox.put(connection.outbox.pending());
        connection.outbox = outbox;
        if let Some((session, _)) = connection.speaks() {
            session.carry_over(receiving);
        }
        if let Some(entry) = self.engines.sessions.get_mut(&session) {
            entry.probe = None;
        }
        // What has arrived with the upgrade was reported under the old token.
        self.read_later(session);
        self.settle_charge(slot);
        self.mark_dirty(session);
    }

    /// A message for the session at `slot` that was read before the session was carried by its connection.
    pub(super) fn take_carried(&mut self, slot: Slot, message: Message) {
        self.advance_engine(slot, |engine, limits, outbox, inputs, now| {
            engine.take(message, limits, outbox, inputs, now)
        });
    }
}
