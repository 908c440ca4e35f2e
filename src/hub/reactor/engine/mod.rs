//! Engine.IO sessions, which outlive what carries them.
//!
//! A session is a connection of the reactor like any other: it has a slot, an outbox and subscriptions. What its bytes leave by is
//! its *carrier*: a WebSocket's socket, or the answers to polls. While polls carry it, its stream leads nowhere and its state is
//! DETACHED: laps pass it over, its cursors lag, and each poll fetches what it is owed ([`Reactor::serve_poll`]). A WebSocket that
//! takes over gives it its socket (`upgrade`); it never goes back.
//!
//! A session's name says which reactor has it. A request for it that comes in at another one goes there, with its
//! connection ([`Reactor::pass_on`]).

mod pending;
mod polls;
mod socket;
mod upgrade;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::IpAddr,
    time::Duration,
};

use rand::RngExt;

use crate::{
    clock::Moment,
    close::Close,
    endpoint::{EngineAction, EngineRefusal, EngineRequest},
    index::Slot,
    label::RouteLabel,
    metrics::Transport,
    outbox::Outbox,
    protocol::{
        EngineOpening, EngineSession, Layer, Opening, PeerInput, Session, SessionId, SessionLimits,
        engine_io::{self, EnginePacketKind, PollPayloadWriter},
        http::{Request, Response},
        websocket::{Accepted, Message},
    },
    reactor::{
        Reactor,
        connection::Connection,
        net::{Net, Token},
        opening::Head,
        placement::Share,
        state::{BLOCKED, DETACHED, POLL_PENDING, UNCOUNTED},
    },
};
use pending::Pending;
use polls::poll_response;
pub(in crate::reactor) use polls::post_response;
pub(in crate::reactor) use socket::PendingSubscribe;

/// The sessions of a reactor.
#[derive(Debug, Default)]
pub(in crate::reactor) struct Engines {
    slots: HashMap<SessionId, Slot, foldhash::fast::RandomState>,
    sessions: HashMap<Slot, SessionEntry, foldhash::fast::RandomState>,
    /// Requests that wait for news of a session: the slot of each, and the session's.
    polls: HashMap<Slot, Slot, foldhash::fast::RandomState>,
    /// WebSockets that are about to carry a session over, and the session: by its token, for its slot may be another's by
    /// then.
    probes: HashMap<Slot, Token, foldhash::fast::RandomState>,
    /// When sessions and probes are due. One that was armed anew since is passed over.
    due: BinaryHeap<Reverse<(Moment, u64)>>,
    /// Sessions whose clients have entered no namespace yet.
    pending: Pending,
    /// The request that brings what a session is about to take, while it does.
    post: Option<Slot>,
}

#[derive(Debug)]
struct SessionEntry {
    sid: SessionId,
    /// The request that waits, and the label of its route.
    waiting: Option<(Token, RouteLabel)>,
    /// The WebSocket that has asked to carry the session.
    probe: Option<Token>,
    due: Moment,
    /// The private names of its clients, if they may come back.
    pids: Vec<Box<str>>,
    /// Which subscription a poll begins with, so that a busy topic leaves room for the others.
    turn: usize,
    /// Its number among those whose client has entered no namespace yet.
    pending: Option<u64>,
}

impl Engines {
    /// How long until a session is due.
    pub(in crate::reactor) fn next_wait(&self, now: Moment) -> Option<Duration> {
        self.due.peek().map(|Reverse((due, _))| due.since(now))
    }

    /// The session of this name.
    pub(in crate::reactor) fn find(&self, sid: SessionId) -> Option<Slot> {
        self.slots.get(&sid).copied()
    }

    /// Whether the WebSocket at `slot` is about to carry a session over.
    pub(in crate::reactor) fn is_probe(&self, slot: Slot) -> bool {
        self.probes.contains_key(&slot)
    }

    /// Whether the connection at `slot` is a request that waits for news.
    pub(in crate::reactor) fn is_poll(&self, slot: Slot) -> bool {
        self.polls.contains_key(&slot)
    }
}

impl<N: Net> Reactor<N> {
    /// Carries out what a request wants of Engine.IO.
    pub(in crate::reactor) fn take_engine(
        &mut self,
        slot: Slot,
        route: RouteLabel,
        request: Request,
        engine_request: EngineRequest,
    ) {
        let EngineRequest { kind, layer, headers } = engine_request;
        if let Some(sid) = kind.sid()
            && sid.reactor() != self.index
            && sid.reactor() < self.placement.reactors()
        {
            return self.pass_on(slot, route, sid.reactor(), Some(request));
        }
        self.keep_fields(slot, headers);
        let known = kind.sid().map(|sid| self.engines.slots.get(&sid).copied());
        let refused = match (kind, known.flatten()) {
            (EngineAction::Open, _) => self.open_polled(slot, route, layer),
            (EngineAction::OpenWebSocket(accepted), _) => self.open_carried(slot, route, layer, accepted),
            (_, None) => Err(EngineRefusal::UnknownSession.response()),
            (EngineAction::Poll(_), Some(session)) => self.take_poll(slot, route, session),
            (EngineAction::Post(_), Some(session)) => self.take_post(slot, route, session, &request.body),
            (EngineAction::Probe(_, accepted), Some(session)) => {
                self.open_probe(slot, route, session, accepted);
                Ok(())
            }
        };
        if let Err(response) = refused {
            self.respond(slot, route, &response);
        }
    }

    fn open_polled(&mut self, slot: Slot, route: RouteLabel, layer: Layer) -> Result<(), Response> {
        let stream = self.net.nowhere();
        let Some(opener) = self.connections.at(slot) else { return Ok(()) };
        let (peer, admin, identity) = (opener.peer, opener.admin, opener.identity.clone());
        // Messages of the application itself begin at once: such a session is a connection like any other.
        let is_pending = layer == Layer::SocketIo;
        if is_pending {
            self.make_room_for_pending(peer);
        } else {
            self.admit_session(peer, admin)?;
        }
        let sid = self.new_session_id();
        let session = EngineSession::polled(sid, layer, &self.config.limits.engine, self.now);
        let now = self.now;
        self.admins += usize::from(admin);
        let token = self.connections.insert(|_| {
            let mut connection = Connection::new(stream, peer, admin, Session::Engine(Box::new(session)), now);
            connection.transport = Transport::SocketIo;
            connection.identity = identity;
            connection.state.set(if is_pending { DETACHED | UNCOUNTED } else { DETACHED });
            connection
        });
        self.metrics.on_open(Transport::SocketIo);
        self.note_opened(token.slot);
        self.enter_session(token.slot, sid);
        if is_pending {
            self.note_pending(token.slot);
        }
        let (mut frames, mut payload) = (Vec::new(), Vec::new());
        self.config.limits.engine.write_handshake(sid, true, &mut frames);
        PollPayloadWriter::new(1, usize::MAX, &mut payload).push_frames(&frames);
        self.respond(slot, route, &poll_response(payload));
        Ok(())
    }

    /// Counts a connection that no socket stands for, or refuses it.
    fn admit_session(&self, peer: Option<IpAddr>, admin: bool) -> Result<(), Response> {
        let later = |status, why| Response::error(status, "overloaded", why, None).with("Retry-After", "2");
        if self.config.connections_max <= self.placement.of_share(Share::Served) {
            return Err(later(503, "the hub has all the connections it is configured to serve"));
        }
        if 0 < self.count_peer(peer) {
            self.uncount_peer(peer);
            return Err(later(429, "this address has all the connections it may have"));
        }
        self.placement.keep(self.index, Share::of_listener(admin));
        Ok(())
    }

    fn open_carried(
        &mut self,
        slot: Slot,
        route: RouteLabel,
        layer: Layer,
        accepted: Accepted,
    ) -> Result<(), Response> {
        self.count_request(slot, route, 101, 0);
        let sid = self.new_session_id();
        let limits = self.config.limits.engine;
        let opening = Opening::Engine(EngineOpening { accepted, sid, layer, limits });
        let mut leftover = self.open(slot, opening, &[], Head::UPGRADE);
        self.enter_session(slot, sid);
        self.advance_session(slot, &mut leftover);
        Ok(())
    }

    fn enter_session(&mut self, slot: Slot, sid: SessionId) {
        self.engines.slots.insert(sid, slot);
        let due = Moment(0);
        let entry = SessionEntry { sid, waiting: None, probe: None, due, pids: Vec::new(), turn: 0, pending: None };
        self.engines.sessions.insert(slot, entry);
        self.schedule_session(slot);
    }

    fn new_session_id(&self) -> SessionId {
        // A client that knows a session's name can take it over, so it has to be beyond guessing: not from the reactor's own
        // generator, which is quick and not for secrets.
        SessionId::new(self.index, rand::rng().random())
    }

    /// Whether requests carry the session at `slot`.
    fn is_detached(&mut self, slot: Slot) -> bool {
        self.connections.at(slot).is_some_and(|connection| connection.state.has(DETACHED))
    }

    /// One transition of the session at `slot`, and what comes of it; false if that was its end.
    pub(in crate::reactor) fn advance_engine(
        &mut self,
        slot: Slot,
        advance: impl FnOnce(
            &mut EngineSession,
            &SessionLimits,
            &mut Outbox,
            &mut Vec<PeerInput>,
            Moment,
        ) -> Result<(), Close>,
    ) -> bool {
        let Some((session, outbox)) = self.connections.at(slot).and_then(Connection::speaks) else { return false };
        let Some(engine) = session.engine() else { return false };
        let mut inputs = Vec::new();
        let outcome = advance(engine, &self.config.limits, outbox, &mut inputs, self.now);
        self.take_inputs(slot, inputs.into_iter());
        if let Err(close) = outcome {
            self.end(slot, close);
        }
        let is_whole =
            self.connections.at(slot).is_some_and(|connection| matches!(connection.session, Ok(_) | Err(Close::Done)));
        self.schedule_session(slot);
        self.mark_dirty(slot);
        self.check_stream(slot);
        self.check_budget(slot);
        is_whole
    }

    /// Carries out an input that only sessions of Engine.IO produce.
    pub(in crate::reactor) fn take_engine_input(&mut self, slot: Slot, input: PeerInput) {
        match input {
            PeerInput::Held(message) => self.take_held(slot, message),
            PeerInput::Payload(rest) => self.take_held_packets(slot, *rest),
            PeerInput::Socket(input) => {
                self.metrics.on_messages(1);
                self.take_socket(slot, input);
            }
            _ => {}
        }
    }

    /// A message of a WebSocket that carries a session, or is about to: the slot at which what comes behind it is taken. `Err`: it is
    /// neither, and the message is the application's.
    pub(in crate::reactor) fn take_engine_message(&mut self, slot: Slot, message: Message) -> Result<Slot, Message> {
        if self.engines.is_probe(slot) {
            return Ok(self.take_probe(slot, &message));
        }
        let session = self.connections.at(slot).and_then(Connection::speaks);
        if session.is_none_or(|(session, _)| session.engine().is_none()) {
            return Err(message);
        }
        self.take_carried(slot, message);
        Ok(slot)
    }

    /// A message that waited until it was decided where its client is.
    fn take_held(&mut self, slot: Slot, message: Message) {
        self.advance_engine(slot, |engine, limits, outbox, inputs, now| {
            engine.take_held(message, limits, outbox, inputs, now)
        });
    }

    /// Puts the session's deadline in the queue, if it has moved.
    pub(in crate::reactor) fn schedule_session(&mut self, slot: Slot) {
        let token = self.connections.token(slot).pack();
        let Some((session, _)) = self.connections.at(slot).and_then(Connection::speaks) else { return };
        let Some(engine) = session.engine() else { return };
        let due = engine.deadline();
        if let Some(entry) = self.engines.sessions.get_mut(&slot)
            && entry.due != due
        {
            entry.due = due;
            self.engines.due.push(Reverse((due, token)));
        }
    }

    /// Sessions whose time has come are pinged, or end.
    pub(in crate::reactor) fn run_sessions(&mut self) {
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

    fn on_session_due(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let is_blocked = connection.state.has(BLOCKED);
        let unanswered = self.net.unanswered_time(&connection.stream);
        let Some((session, outbox)) = connection.speaks() else { return };
        let Some(engine) = session.engine() else { return };
        // It cannot see a ping before it has read what is ahead of it.
        if is_blocked && unanswered < self.config.unsent_timeout {
            engine.extend(self.now + self.config.limits.engine.ping_timeout);
        }
        let outcome = engine.expire(&self.config.limits.engine, outbox, self.now);
        match outcome {
            Ok(()) => self.mark_dirty(slot),
            Err(close) => self.end(slot, close),
        }
        self.schedule_session(slot);
    }

    /// A connection ends: if it is a poll, a probe or a session, the others learn of it.
    pub(in crate::reactor) fn leave_engine(&mut self, slot: Slot) {
        if let Some(session) = self.engines.polls.remove(&slot) {
            if let Some(entry) = self.engines.sessions.get_mut(&session) {
                entry.waiting = None;
            }
            if let Some(connection) = self.connections.at(session) {
                connection.state.clear(POLL_PENDING);
            }
            // By the protocol a poll that is cut off is the end of its session.
            self.end(session, Close::PeerGone);
        }
        if let Some(session) = self.engines.probes.remove(&slot)
            && self.connections.named(session).is_some()
            && let Some(entry) = self.engines.sessions.get_mut(&session.slot)
            && entry.probe.is_some_and(|probe| probe.slot == slot)
        {
            entry.probe = None;
        }
        let Some(entry) = self.engines.sessions.get_mut(&slot) else { return };
        for pid in std::mem::take(&mut entry.pids) {
            self.hub.recovery.mark_disconnected(&pid, entry.sid, self.config.limits.engine.recovery, self.now);
        }
        if self.is_detached(slot) {
            if let Some(connection) = self.connections.at(slot) {
                // A client that has closed knows: its poll only has to end.
                let last = if let Err(Close::Done) = connection.session {
                    EnginePacketKind::Noop
                } else {
                    EnginePacketKind::Close
                };
                engine_io::write_frame(last, "", connection.outbox.buffer());
            }
            self.serve_poll(slot);
            self.drop_unpolled(slot);
        }
    }

    /// A client that has closed or broken a rule, or was silent for too long, finds no session when it polls again. One that
    /// the hub has sent away may come for the reason.
    fn drop_unpolled(&mut self, slot: Slot) {
        let is_pending = self.is_pending(slot);
        if let Some(connection) = self.connections.at(slot)
            && (is_pending
                || matches!(
                    connection.session,
                    Err(Close::Done | Close::BadFrame(_) | Close::MessageTooBig | Close::RequestTimeout)
                ))
        {
            let unpolled_bytes = connection.outbox.pending().len();
            connection.outbox.advance(unpolled_bytes);
        }
    }

    /// The slot is about to be freed.
    pub(in crate::reactor) fn forget_session(&mut self, slot: Slot) {
        self.leave_pending(slot);
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
}
