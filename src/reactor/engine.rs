//! Engine.IO sessions: what outlives the connections that carry it.
//!
//! A session is a connection of the reactor's like any other: it has a slot, an outbox and subscriptions. While polls carry
//! it, its stream leads nowhere and its state is ABSENT: laps pass it over, its cursors lag, and whoever polls fetches what it
//! is owed ([`Reactor::serve_poll`]). A WebSocket that takes over gives it its socket.
//!
//! A session's name says which reactor has it. A request for it that comes in at another one goes there, with its
//! connection ([`Reactor::pass_on`]).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use rand::RngExt;

use super::{
    Reactor,
    connection::{ABSENT, BLOCKED, CLOSING, Connection, DOOMED, POLLED, READ_AGAIN, REPLAYING, State},
    gaps::Stranded,
    net::{Net, Token},
    placement::Passed,
    replay::write_logged,
};
use crate::{
    clock::Moment,
    close::Close,
    endpoint::{EngineAsk, EngineKind, EngineRefusal, Remembered},
    metrics::Transport,
    outbox::Outbox,
    protocol::{
        Ask, Dialect, EngineLimits, EngineSession, Layer, Limits, Session, SessionId, WebSocketSession,
        engine_io::{self, Handshake, Kind, PayloadWriter},
        http::{Request, Response},
        websocket::{self, Accepted, Message},
    },
};

/// What a WebSocket that is about to carry a session over says first, and then.
const PROBE: &str = "2probe";
const UPGRADE: &str = "5";
/// How long a WebSocket may take to carry a session over.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The sessions of a reactor.
#[derive(Debug, Default)]
pub(super) struct Engines {
    slots: HashMap<SessionId, u32, foldhash::fast::RandomState>,
    sessions: HashMap<u32, Entry, foldhash::fast::RandomState>,
    /// Requests that wait for news of a session: the slot of each, and the session's.
    polls: HashMap<u32, u32, foldhash::fast::RandomState>,
    /// WebSockets that are about to carry a session over, and the session's slot.
    probes: HashMap<u32, u32, foldhash::fast::RandomState>,
    /// When sessions and probes are due. One that was armed anew since is passed over.
    due: BinaryHeap<Reverse<(Moment, u64)>>,
    /// Sessions with a poll that waits, and news.
    polled: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    sid: SessionId,
    /// The request that waits, and its door's place in the metrics.
    waiting: Option<(Token, usize)>,
    /// The WebSocket that has asked to carry the session.
    probe: Option<Token>,
    due: Moment,
    /// Its clients that may come back, if any may.
    clients: Vec<(Box<str>, Remembered)>,
    /// Which subscription a poll begins with, so that a busy topic leaves room for the others.
    turn: usize,
}

impl Engines {
    /// How long until a session is due.
    pub(super) fn next_wait(&self, now: Moment) -> Option<Duration> {
        self.due.peek().map(|Reverse((due, _))| due.since(now))
    }

    /// A lap has come by a session with a poll that waits.
    pub(super) fn note_polled(&mut self, slot: u32) {
        self.polled.push(slot);
    }

    /// The clients of the session at `slot` that may come back are these now.
    pub(super) fn note_clients(&mut self, slot: u32, clients: Vec<(Box<str>, Remembered)>) {
        if let Some(entry) = self.sessions.get_mut(&slot) {
            entry.clients = clients;
        }
    }

    /// Whether the WebSocket at `slot` is about to carry a session over.
    pub(super) fn is_probe(&self, slot: u32) -> bool {
        self.probes.contains_key(&slot)
    }

    /// Whether the connection at `slot` is a request that waits for news.
    pub(super) fn is_poll(&self, slot: u32) -> bool {
        self.polls.contains_key(&slot)
    }
}

impl<N: Net> Reactor<N> {
    /// Carries out what a request wants of Engine.IO.
    pub(super) fn take_engine(&mut self, slot: u32, route: usize, request: Request, ask: EngineAsk) {
        let EngineAsk { kind, layer, headers } = ask;
        if let Some(sid) = kind.sid()
            && sid.reactor() != self.index
            && sid.reactor() < self.placement.reactors()
        {
            return self.pass_on(slot, route, sid.reactor(), request);
        }
        self.keep_fields(slot, headers);
        let known = kind.sid().map(|sid| self.engines.slots.get(&sid).copied());
        let refused = match (kind, known.flatten()) {
            (EngineKind::Open, _) => self.open_polled(slot, route, layer),
            (EngineKind::OpenWebSocket(accepted), _) => self.open_carried(slot, route, layer, &accepted),
            (_, None) => Err(EngineRefusal::UnknownSession.response()),
            (EngineKind::Poll(_), Some(session)) => self.take_poll(slot, route, session),
            (EngineKind::Post(_), Some(session)) => self.take_post(slot, route, session, &request.body),
            (EngineKind::Probe(_, accepted), Some(session)) => self.open_probe(slot, route, session, &accepted),
        };
        if let Err(response) = refused {
            self.respond(slot, route, &response);
        }
    }

    fn open_polled(&mut self, slot: u32, route: usize, layer: Layer) -> Result<(), Response> {
        let later = |status, why| Response::error(status, "overloaded", why, None).with("Retry-After", "2");
        if self.config.connections_max <= self.placement.total() {
            return Err(later(503, "the hub has all the connections it is configured to serve"));
        }
        let stream = self.net.nowhere();
        let Some(opener) = self.connections.at(slot) else { return Ok(()) };
        let (peer, admin, identity) = (opener.peer, opener.admin, opener.identity.clone());
        if 0 < self.count_peer(peer) {
            self.uncount_peer(peer);
            return Err(later(429, "this address has all the connections it may have"));
        }
        let sid = self.new_session_id();
        let session = EngineSession::polled(sid, layer, &self.config.limits.engine, self.now);
        let now = self.now;
        let token = self.connections.insert(|_| {
            let mut connection = Connection::new(stream, peer, admin, Session::Engine(Box::new(session)), now);
            connection.transport = Transport::SocketIo;
            connection.identity = identity;
            connection.state.set(ABSENT);
            connection
        });
        self.placement.keep(self.index);
        self.metrics.on_open(Transport::SocketIo);
        self.enter_session(token.slot, sid);
        let (mut frames, mut payload) = (Vec::new(), Vec::new());
        write_handshake(sid, true, &self.config.limits.engine, &mut frames);
        PayloadWriter::new(1, usize::MAX, &mut payload).push_frames(&frames);
        self.respond(slot, route, &poll_response(payload));
        Ok(())
    }

    fn open_carried(&mut self, slot: u32, route: usize, layer: Layer, accepted: &Accepted) -> Result<(), Response> {
        self.metrics.on_request(route, 101);
        let sid = self.new_session_id();
        let Some(connection) = self.connections.at(slot) else { return Ok(()) };
        websocket::write_accept(accepted, self.net.date(), connection.outbox.buffer());
        write_handshake(sid, false, &self.config.limits.engine, connection.outbox.buffer());
        let session = EngineSession::carried(sid, layer, &self.config.limits.engine, self.now);
        let previous = std::mem::replace(&mut connection.session, Ok(Session::Engine(Box::new(session))));
        self.begin_stream(slot, Transport::SocketIo, &[]);
        self.enter_session(slot, sid);
        if let Ok(Session::Http(http)) = previous {
            self.advance_session(slot, &mut http.leftover());
        }
        Ok(())
    }

    fn enter_session(&mut self, slot: u32, sid: SessionId) {
        self.engines.slots.insert(sid, slot);
        self.engines
            .sessions
            .insert(slot, Entry { sid, waiting: None, probe: None, due: Moment(0), clients: Vec::new(), turn: 0 });
        self.schedule_session(slot);
    }

    fn new_session_id(&self) -> SessionId {
        // Whoever knows a session's name can take it over, so it has to be beyond guessing: not from the reactor's own
        // generator, which is quick and not for secrets.
        SessionId::new(self.index, rand::rng().random())
    }

    fn take_poll(&mut self, slot: u32, route: usize, session: u32) -> Result<(), Response> {
        let (token, is_carried) = (self.connections.token(slot), !self.is_absent(session));
        let Some(entry) = self.engines.sessions.get_mut(&session) else { return Ok(()) };
        if is_carried {
            return Err(EngineRefusal::BadRequest.response());
        }
        if entry.waiting.is_some() {
            self.end(session, Close::Policy("two polls at once"));
            return Err(EngineRefusal::BadRequest.response());
        }
        entry.waiting = Some((token, route));
        self.engines.polls.insert(slot, session);
        if let Some(connection) = self.connections.at(session) {
            connection.state.set(POLLED);
        }
        self.serve_poll(session);
        self.release_poll(session, true);
        Ok(())
    }

    /// Whether requests carry the session at `slot`.
    pub(super) fn is_absent(&mut self, slot: u32) -> bool {
        self.connections.at(slot).is_some_and(|connection| connection.state.has(ABSENT))
    }

    /// Answers the poll that waits for the session at `slot`, if there is one and the session has something for it.
    pub(super) fn serve_poll(&mut self, slot: u32) {
        if self.engines.sessions.get(&slot).is_none_or(|entry| entry.waiting.is_none()) {
            return;
        }
        let payload = self.collect_poll(slot);
        if !payload.is_empty() {
            self.answer_poll(slot, payload);
        }
    }

    /// Answers a poll with nothing, if it waits while a WebSocket is about to take over. `probed`: only then.
    fn release_poll(&mut self, slot: u32, probed: bool) {
        let Some(entry) = self.engines.sessions.get(&slot) else { return };
        if entry.waiting.is_some() && (entry.probe.is_some() || !probed) {
            self.answer_poll(slot, engine_io::NOOP.as_bytes().to_vec());
        }
    }

    fn answer_poll(&mut self, slot: u32, payload: Vec<u8>) {
        let Some(entry) = self.engines.sessions.get_mut(&slot) else { return };
        let Some((token, route)) = entry.waiting.take() else { return };
        self.engines.polls.remove(&token.slot);
        if let Some(connection) = self.connections.at(slot) {
            connection.state.clear(POLLED);
            connection.written = self.now;
        }
        self.answer_later(token, route, &poll_response(payload));
    }

    /// What the session is owed, as far as one poll goes.
    fn collect_poll(&mut self, slot: u32) -> Vec<u8> {
        let limits = self.config.limits.engine;
        let mut payload = Vec::new();
        let mut poll = PayloadWriter::new(limits.poll_packets_max, limits.poll_bytes_max, &mut payload);
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
        self.settle_flushed(slot);
        payload
    }

    /// Adds what one subscription brings. Frames for which there is no room wait in the outbox.
    fn collect_topic(&mut self, slot: u32, index: usize, poll: &mut PayloadWriter<'_>) {
        let Some(connection) = self.connections.at(slot) else { return };
        let subscription = connection.subscriptions[index];
        let Some(topic) = self.topics.at(subscription.topic) else { return };
        let listener = topic.lap.listener(subscription.place);
        if listener.cursor < topic.ring.oldest() {
            return self.stranded.push(Stranded { slot, topic: subscription.topic });
        }
        for event in topic.ring.events_from(listener.cursor) {
            if !connection.outbox.is_empty() {
                break;
            }
            write_logged(connection, subscription.topic, event, &self.metrics);
            self.metrics.on_latency(Transport::SocketIo, self.now.since(event.accepted), 1);
            listener.cursor += 1;
            take_outbox(&mut connection.outbox, poll);
        }
    }

    /// Sessions that a lap has come by are served.
    pub(super) fn serve_polled(&mut self) {
        for slot in std::mem::take(&mut self.engines.polled) {
            self.mark_dirty(slot);
        }
    }

    fn take_post(&mut self, slot: u32, route: usize, session: u32, body: &[u8]) -> Result<(), Response> {
        if !self.is_absent(session) {
            return Err(EngineRefusal::BadRequest.response());
        }
        if self.config.limits.engine.payload_bytes_max < body.len() {
            self.end(session, Close::MessageTooBig);
            return Err(Response::error(413, "too_big", "the payload is over maxPayload", None));
        }
        let is_whole = self.advance_engine(session, |engine, limits, outbox, asks, now| {
            engine.receive_payload(body, limits, outbox, asks, now)
        });
        if !is_whole {
            return Err(EngineRefusal::BadRequest.response());
        }
        let headers = vec![("Content-Type", "text/html".to_owned()), ("Cache-Control", "no-store".to_owned())];
        self.respond(slot, route, &Response { status: 200, headers, body: b"ok".to_vec() });
        Ok(())
    }

    /// One transition of the session at `slot`, and what comes of it; false if that was its end.
    fn advance_engine(
        &mut self,
        slot: u32,
        advance: impl FnOnce(&mut EngineSession, &Limits, &mut Outbox, &mut Vec<Ask>, Moment) -> Result<(), Close>,
    ) -> bool {
        let Some(connection) = self.connections.at(slot) else { return false };
        let Ok(Session::Engine(engine)) = &mut connection.session else { return false };
        let mut asks = Vec::new();
        let outcome = advance(engine, &self.config.limits, &mut connection.outbox, &mut asks, self.now);
        // An end that answers precede came as an ask: the client broke a rule all the same.
        let is_whole =
            outcome.is_ok() && !asks.iter().any(|ask| matches!(ask, Ask::End(close) if *close != Close::Done));
        for ask in asks {
            self.take_ask(slot, ask);
        }
        if let Err(close) = outcome {
            self.end(slot, close);
        }
        self.schedule_session(slot);
        self.mark_dirty(slot);
        self.check_stream(slot);
        self.check_budget(slot);
        is_whole
    }

    /// Puts the session's deadline in the queue, if it has moved.
    pub(super) fn schedule_session(&mut self, slot: u32) {
        let token = self.connections.token(slot).pack();
        let Some(connection) = self.connections.at(slot) else { return };
        let Ok(Session::Engine(engine)) = &connection.session else { return };
        let due = engine.deadline();
        if let Some(entry) = self.engines.sessions.get_mut(&slot)
            && entry.due != due
        {
            entry.due = due;
            self.engines.due.push(Reverse((due, token)));
        }
    }

    /// Sessions whose time has come are pinged, or end.
    pub(super) fn run_sessions(&mut self) {
        while let Some(&Reverse((due, token))) = self.engines.due.peek()
            && due <= self.now
        {
            self.engines.due.pop();
            let token = Token::unpack(token);
            if self.connections.named(token).is_none() {
                continue;
            }
            if self.engines.probes.contains_key(&token.slot) {
                self.end(token.slot, Close::RequestTimeout);
            } else if self.engines.sessions.get(&token.slot).is_some_and(|entry| entry.due == due) {
                self.on_session_due(token.slot);
            }
        }
    }

    fn on_session_due(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let is_blocked = connection.state.has(BLOCKED);
        let unanswered = self.net.unanswered_time(&connection.stream);
        let Ok(Session::Engine(engine)) = &mut connection.session else { return };
        // It cannot see a ping before it has read what is ahead of it.
        if is_blocked && unanswered < self.config.unsent_timeout {
            engine.extend(self.now + self.config.limits.engine.ping_timeout);
        }
        let outcome = engine.expire(&self.config.limits.engine, &mut connection.outbox, self.now);
        match outcome {
            Ok(()) => self.mark_dirty(slot),
            Err(close) => self.end(slot, close),
        }
        self.schedule_session(slot);
    }

    fn open_probe(&mut self, slot: u32, route: usize, session: u32, accepted: &Accepted) -> Result<(), Response> {
        if !self.is_absent(session) {
            return Err(EngineRefusal::BadRequest.response());
        }
        self.metrics.on_request(route, 101);
        let Some(connection) = self.connections.at(slot) else { return Ok(()) };
        websocket::write_accept(accepted, self.net.date(), connection.outbox.buffer());
        let next = Ok(Session::WebSocket(WebSocketSession::new(Dialect::Messages)));
        let previous = std::mem::replace(&mut connection.session, next);
        self.engines.probes.insert(slot, session);
        self.engines.due.push(Reverse((self.now + PROBE_TIMEOUT, self.connections.token(slot).pack())));
        self.begin_stream(slot, Transport::WebSocket, &[]);
        if let Ok(Session::Http(http)) = previous {
            self.advance_session(slot, &mut http.leftover());
        }
        Ok(())
    }

    /// A message of a WebSocket that may carry a session over: the slot of whoever goes on from here.
    pub(super) fn take_probe(&mut self, slot: u32, message: &Message) -> u32 {
        let token = self.connections.token(slot);
        let Some(&session) = self.engines.probes.get(&slot) else { return slot };
        let Some(entry) = self.engines.sessions.get_mut(&session) else { return slot };
        match message {
            Message::Text(text) if text == PROBE => {
                entry.probe = Some(token);
                if let Some(connection) = self.connections.at(slot) {
                    engine_io::write_frame(Kind::Pong, "probe", connection.outbox.buffer());
                    self.mark_dirty(slot);
                }
                // What the session has for the client goes by the poll that waits, which then comes no more.
                self.serve_poll(session);
                self.release_poll(session, true);
                slot
            }
            Message::Text(text) if text == UPGRADE && entry.probe == Some(token) => {
                self.release_poll(session, false);
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
    fn carry_over(&mut self, slot: u32, session: u32) {
        let nowhere = self.net.nowhere();
        let Some(carrier) = self.connections.at(slot) else { return };
        let mut stream = std::mem::replace(&mut carrier.stream, nowhere);
        let was_blocked = carrier.state.has(BLOCKED);
        let unsent = std::mem::take(&mut carrier.outbox);
        let Ok(Session::WebSocket(websocket)) = std::mem::replace(&mut carrier.session, Err(Close::Done)) else {
            return;
        };
        carrier.state = State::default();
        if was_blocked {
            self.blocked -= 1;
        }
        self.engines.probes.remove(&slot);
        self.metrics.on_depart(Transport::WebSocket);
        self.wheel.disarm(slot);
        self.doom(slot);
        let token = self.connections.token(session);
        if let Err(error) = self.net.rename(&mut stream, token) {
            tracing::warn!(%error, "cannot watch a connection");
            return self.end(session, Close::Internal("the connection cannot be watched"));
        }
        let Some(connection) = self.connections.at(session) else { return };
        connection.stream = stream;
        connection.state.clear(ABSENT | POLLED);
        let mut outbox = unsent;
        outbox.put(connection.outbox.pending());
        connection.outbox = outbox;
        if let Ok(Session::Engine(engine)) = &mut connection.session {
            engine.carry(websocket.into_codec());
        }
        if let Some(entry) = self.engines.sessions.get_mut(&session) {
            entry.probe = None;
        }
        // What has arrived with the upgrade was told of under the old name.
        self.read_again.push(token);
        connection.state.set(READ_AGAIN);
        self.settle_charge(slot);
        self.mark_dirty(session);
    }

    /// A message for the session at `slot` that was read before the session was carried by its connection.
    pub(super) fn take_carried(&mut self, slot: u32, message: Message) {
        self.advance_engine(slot, |engine, limits, outbox, asks, now| engine.take(message, limits, outbox, asks, now));
    }

    /// A connection ends: if it is a poll, a probe or a session, the others are told.
    pub(super) fn leave_engine(&mut self, slot: u32) {
        if let Some(session) = self.engines.polls.remove(&slot) {
            if let Some(entry) = self.engines.sessions.get_mut(&session) {
                entry.waiting = None;
            }
            if let Some(connection) = self.connections.at(session) {
                connection.state.clear(POLLED);
            }
            // By the protocol a poll that is cut off is the end of its session.
            self.end(session, Close::PeerGone);
        }
        if let Some(session) = self.engines.probes.remove(&slot)
            && let Some(entry) = self.engines.sessions.get_mut(&session)
        {
            entry.probe = None;
        }
        let Some(entry) = self.engines.sessions.get_mut(&slot) else { return };
        for (pid, lost) in std::mem::take(&mut entry.clients) {
            let window = self.config.limits.engine.recovery;
            self.hub.recovery.remember(&pid, lost, window, self.hub.bus.budget(), self.now);
        }
        if self.is_absent(slot) {
            if let Some(connection) = self.connections.at(slot) {
                engine_io::write_frame(Kind::Close, "", connection.outbox.buffer());
            }
            self.serve_poll(slot);
        }
    }

    /// The slot is about to be freed.
    pub(super) fn forget_session(&mut self, slot: u32) {
        if let Some(entry) = self.engines.sessions.remove(&slot) {
            self.engines.slots.remove(&entry.sid);
            if let Some((token, route)) = entry.waiting {
                self.engines.polls.remove(&token.slot);
                self.answer_later(token, route, &EngineRefusal::UnknownSession.response());
            }
            if let Some(probe) = entry.probe {
                self.engines.probes.remove(&probe.slot);
                self.end(probe.slot, Close::PeerGone);
            }
        }
    }

    /// Passes the connection at `slot` on to the reactor `to`, where its request finds its session.
    fn pass_on(&mut self, slot: u32, route: usize, to: usize, request: Request) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.state.has(CLOSING | DOOMED) {
            return;
        }
        if self.net.release(&mut connection.stream).is_err() {
            return self.end(slot, Close::Internal("the connection cannot be passed on"));
        }
        if connection.state.has(BLOCKED) {
            self.blocked -= 1;
        }
        connection.state = State::default();
        self.wheel.disarm(slot);
        let Some(connection) = self.connections.remove(slot) else { return };
        match self.placement.pass(Box::new(Passed { connection, request }), to) {
            Ok(()) => {
                self.placement.on_gone(self.index);
                self.metrics.on_depart(Transport::Http);
            }
            Err(passed) => {
                let token = self.connections.insert(|_| passed.connection);
                let registered = self.connections.at(token.slot).map(|it| self.net.register(&mut it.stream, token));
                if registered.is_some_and(|outcome| outcome.is_err()) {
                    return self.end(token.slot, Close::Internal("the connection cannot be watched"));
                }
                let busy = Response::error(503, "overloaded", "too many requests wait for their session", None);
                self.respond(token.slot, route, &busy.with("Retry-After", "1"));
            }
        }
    }
}

/// Moves what there is room for into a poll.
fn take_outbox(outbox: &mut Outbox, poll: &mut PayloadWriter<'_>) {
    if !outbox.is_empty() {
        let bytes = poll.push_frames(outbox.pending());
        outbox.advance(bytes);
    }
}

fn write_handshake(sid: SessionId, upgrades: bool, limits: &EngineLimits, out: &mut Vec<u8>) {
    let handshake = Handshake {
        sid: &sid.to_string(),
        upgrade_to_websocket: upgrades,
        ping_interval_ms: limits.ping_interval.as_millis() as u64,
        ping_timeout_ms: limits.ping_timeout.as_millis() as u64,
        payload_bytes_max: limits.payload_bytes_max,
    };
    handshake.write_frame(out);
}

fn poll_response(payload: Vec<u8>) -> Response {
    let headers =
        vec![("Content-Type", "text/plain; charset=UTF-8".to_owned()), ("Cache-Control", "no-store".to_owned())];
    Response { status: 200, headers, body: payload }
}
