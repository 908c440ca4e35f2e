//! Requests that carry an Engine.IO session: polls fetch what it has for its client, posts bring what the client has for it.

use crate::{
    auth::AccessDenied,
    close::Close,
    endpoint::EngineRefusal,
    index::Slot,
    label::RouteLabel,
    metrics::Transport,
    outbox::Outbox,
    protocol::{
        HeldPayload, PeerInput,
        engine_io::{self, PollPayload, PollPayloadWriter},
        http::Response,
    },
    reactor::{
        Reactor,
        connection::Subscription,
        gaps::Lagged,
        net::Net,
        replay::write_logged,
        state::{CHECKING, FROM_HISTORY, POLL_PENDING, REPLAYING},
        works::WORK_SLICE,
    },
};

impl<N: Net> Reactor<N> {
    /// The request at `slot` waits for what `session` has for its client.
    pub(super) fn take_poll(&mut self, slot: Slot, route: RouteLabel, session: Slot) -> Result<(), Response> {
        let (token, is_carried) = (self.connections.token(slot), !self.is_detached(session));
        let Some(entry) = self.engines.sessions.get_mut(&session) else { return Ok(()) };
        if is_carried {
            return Err(EngineRefusal::BadRequest.response());
        }
        if entry.waiting.is_some() {
            self.end(session, Close::Policy("two polls at once"));
            return Err(EngineRefusal::BadRequest.response());
        }
        let is_probed = entry.probe.is_some();
        entry.waiting = Some((token, route));
        self.engines.polls.insert(slot, session);
        if let Some(connection) = self.connections.at(session) {
            connection.state.set(POLL_PENDING);
        }
        self.serve_poll(session);
        if is_probed {
            self.release_poll(session);
        }
        // One that ends is over once its last words are fetched.
        self.mark_dirty(session);
        Ok(())
    }

    /// Answers the poll that waits for the session at `slot`, if there is one and the session has something for it.
    pub(in crate::reactor) fn serve_poll(&mut self, slot: Slot) {
        if self.engines.sessions.get(&slot).is_none_or(|entry| entry.waiting.is_none()) {
            return;
        }
        let payload = self.collect_poll(slot);
        if !payload.is_empty() {
            self.answer_poll(slot, payload);
        }
    }

    /// Answers the poll that waits for the session with nothing: a WebSocket takes over.
    pub(super) fn release_poll(&mut self, slot: Slot) {
        self.answer_poll(slot, engine_io::NOOP.as_bytes().to_vec());
    }

    /// Answers the poll that waits for the session, if there is one.
    fn answer_poll(&mut self, slot: Slot, payload: Vec<u8>) {
        let Some(entry) = self.engines.sessions.get_mut(&slot) else { return };
        let Some((token, route)) = entry.waiting.take() else { return };
        self.engines.polls.remove(&token.slot);
        if let Some(connection) = self.connections.at(slot) {
            connection.state.clear(POLL_PENDING);
            connection.written = self.now;
        }
        self.answer_later(token, route, &poll_response(payload));
    }

    /// What the session is owed, as far as one poll goes.
    fn collect_poll(&mut self, slot: Slot) -> Vec<u8> {
        let limits = self.config.limits.engine;
        let mut payload = Vec::new();
        let mut poll = PollPayloadWriter::new(limits.poll_packets_max, limits.poll_bytes_max, &mut payload);
        self.refresh_cursors(slot);
        let Some(connection) = self.connections.at(slot) else { return Vec::new() };
        take_outbox(&mut connection.outbox, &mut poll);
        if connection.outbox.is_empty() && connection.state.has(REPLAYING) {
            self.continue_replays(slot);
        }
        let count = self.connections.at(slot).map_or(0, |connection| connection.subscriptions.len());
        let turn = self.engines.sessions.get_mut(&slot).map_or(0, |entry| {
            entry.turn = entry.turn.wrapping_add(1);
            entry.turn
        });
        for index in 0..count {
            self.collect_topic(slot, (turn + index) % count, &mut poll);
        }
        if self.is_at_head(slot)
            && let Some(connection) = self.connections.at(slot)
        {
            connection.state.clear(FROM_HISTORY);
        }
        self.settle_flushed(slot);
        payload
    }

    /// Whether the connection at `slot` has everything of its topics.
    fn is_at_head(&mut self, slot: Slot) -> bool {
        let Some(connection) = self.connections.at(slot) else { return false };
        let is_at_head =
            |it: &Subscription| self.topics.get(it.topic).is_none_or(|topic| topic.cursor(it) == topic.ring.next());
        connection.subscriptions.iter().all(is_at_head)
    }

    /// Whether the connection at `slot` has shown too many tokens that are not good.
    fn has_spent(&self, slot: Slot) -> bool {
        self.hub.auth.has_spent(self.connection_id(slot), self.now)
    }

    /// Adds what one subscription brings. Frames for which there is no room wait in the outbox.
    fn collect_topic(&mut self, slot: Slot, index: usize, poll: &mut PollPayloadWriter<'_>) {
        let Some(connection) = self.connections.at(slot) else { return };
        let subscription = connection.subscriptions[index];
        let Some(topic) = self.topics.at(subscription.topic) else { return };
        let mut cursor = topic.cursor(&subscription);
        if cursor < topic.ring.oldest() {
            return self.outcomes.lag(Lagged { slot, topic: subscription.topic });
        }
        for event in topic.ring.events_from(cursor) {
            if !connection.outbox.is_empty() {
                break;
            }
            write_logged(connection, subscription.topic, event, &self.metrics);
            if !connection.state.has(FROM_HISTORY) {
                self.metrics.on_latency(Transport::SocketIo, self.now.since(event.accepted), 1);
            }
            cursor += 1;
            take_outbox(&mut connection.outbox, poll);
        }
        topic.set_cursor(&mut connection.subscriptions[index], cursor);
    }

    /// Sessions that a lap has come by are served.
    pub(in crate::reactor) fn serve_polled(&mut self) {
        for slot in self.outcomes.take_polled() {
            self.mark_dirty(slot);
        }
    }

    /// The request at `slot` brings what the client has for `session`.
    pub(super) fn take_post(
        &mut self,
        slot: Slot,
        route: RouteLabel,
        session: Slot,
        body: &[u8],
    ) -> Result<(), Response> {
        if !self.is_detached(session) {
            return Err(EngineRefusal::BadRequest.response());
        }
        if self.config.limits.engine.payload_bytes_max < body.len() {
            self.end(session, Close::MessageTooBig);
            return Err(Response::error(413, "too_big", "the payload is over maxPayload", None));
        }
        self.engines.post = Some(slot);
        let is_whole = match self.config.limits.engine.read_payload(body) {
            Ok(packets) => {
                let TakenPackets { is_whole, rest } = self.take_packets(session, packets);
                if let Some((rest, packets_left)) = rest {
                    self.hold_packets(session, HeldPayload { text: rest.to_owned(), at: 0, packets_left });
                }
                is_whole
            }
            Err(close) => {
                self.end(session, close);
                false
            }
        };
        self.engines.post = None;
        if self.has_spent(slot) {
            let why = AccessDenied::TooMany;
            let response = Response::error(why.status(), why.code(), why.message(), None);
            return Err(response.with("Retry-After", "1").with("Connection", "close"));
        }
        if !is_whole || !self.answers_after_check(slot, route, session) {
            self.respond_owned(slot, route, post_response(is_whole));
        }
        Ok(())
    }
}

impl<N: Net> Reactor<N> {
    /// Takes the packets of a request's body for the session at `slot`, step by step, as long as the session goes on, and for a part
    /// of the turn. While a long message is checked, and when the part is over, the rest waits.
    fn take_packets<'a>(&mut self, slot: Slot, mut packets: PollPayload<'a>) -> TakenPackets<'a> {
        let began = self.net.now();
        loop {
            let is_whole = self.advance_engine(slot, |engine, limits, outbox, inputs, now| {
                engine.receive_packets(&mut packets, limits, outbox, inputs, now)
            });
            let all = TakenPackets { is_whole, rest: None };
            let Some(rest) = packets.rest() else { return all };
            let Some(connection) = self.connections.at(slot) else { return all };
            let is_over = connection.session.is_err() || !connection.state.is_open();
            let is_checking = connection.state.has(CHECKING);
            if is_over || self.engines.post.is_some_and(|post| self.has_spent(post)) {
                return all;
            }
            let is_late = WORK_SLICE <= self.net.now().since(began);
            if is_late && !is_checking {
                self.pause(slot);
            }
            if is_late || is_checking {
                return TakenPackets { is_whole, rest: Some(rest) };
            }
        }
    }

    /// Goes on with packets that have waited.
    pub(super) fn take_held_packets(&mut self, slot: Slot, held: HeldPayload) {
        let HeldPayload { text, at, packets_left } = held;
        let taken = self.take_packets(slot, PollPayload::behind(&text[at..], packets_left));
        if let Some((rest, packets_left)) = taken.rest {
            let at = text.len() - rest.len();
            self.hold_packets(slot, HeldPayload { text, at, packets_left });
        }
    }

    fn hold_packets(&mut self, slot: Slot, held: HeldPayload) {
        self.take_inputs(slot, std::iter::once(PeerInput::Payload(Box::new(held))));
        self.check_budget(slot);
    }
}

/// What has become of the packets of a request's body.
struct TakenPackets<'a> {
    /// False if the session was ended by them.
    is_whole: bool,
    /// What waits, and how many packets it may hold.
    rest: Option<(&'a str, usize)>,
}

/// Moves what there is room for into a poll.
fn take_outbox(outbox: &mut Outbox, poll: &mut PollPayloadWriter<'_>) {
    if !outbox.is_empty() {
        let bytes = poll.push_frames(outbox.pending());
        outbox.advance(bytes);
    }
}

/// What a request that brought something for a session is answered with. `is_whole`: the session goes on, or has come to its end.
pub(in crate::reactor) fn post_response(is_whole: bool) -> Response {
    if !is_whole {
        return EngineRefusal::BadRequest.response();
    }
    let headers = vec![("Content-Type", "text/html".to_owned()), ("Cache-Control", "no-store".to_owned())];
    Response { status: 200, headers, body: b"ok".to_vec() }
}

/// What a poll is answered with.
pub(super) fn poll_response(payload: Vec<u8>) -> Response {
    let headers =
        vec![("Content-Type", "text/plain; charset=UTF-8".to_owned()), ("Cache-Control", "no-store".to_owned())];
    Response { status: 200, headers, body: payload }
}
