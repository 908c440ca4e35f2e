//! What peers send: bytes become inputs ([`PeerInput`]), inputs become answers.

use std::io;

use super::{
    Reactor,
    connection::Connection,
    net::Net,
    state::{AWAITS_READER, CHECKING, Life, OVER_QUOTA, PEER_ENDED, READ_AGAIN, REPLAYING},
};
use crate::{
    close::Close,
    endpoint::{self, Answer, CommandOutcome, Context},
    index::Slot,
    label::RouteLabel,
    outbox::Outbox,
    protocol::{
        Message, PeerInput, Session,
        http::{Request, Response, ServerSession},
    },
};

/// Bytes taken per read.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Reads per connection and turn; what is left comes next turn, so that one peer cannot hold up the rest.
const READS_PER_TURN: usize = 4;
/// Requests answered per connection and turn, of those that a peer sends without waiting for the answers.
const REQUESTS_PER_TURN: usize = 16;
/// Unfinished requests no larger than this are read on whatever the memory budget says: to find out what is asked for.
pub(super) const HELD_BYTES_SPARED: usize = 16 * 1024;

/// Where what peers send is read to, and what comes of it until that is carried out.
#[derive(Debug)]
pub(super) struct Intake {
    /// One for all connections: an idle connection owns none.
    buffer: Vec<u8>,
    inputs: Vec<PeerInput>,
}

impl Default for Intake {
    fn default() -> Self {
        Self { buffer: vec![0; READ_BUFFER_BYTES], inputs: Vec::new() }
    }
}

impl Intake {
    /// Whether all that was asked for is carried out.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

impl<N: Net> Reactor<N> {
    /// Reads what has arrived. `ending`: the end of the stream waits behind it.
    pub(super) fn read(&mut self, slot: Slot, ending: bool) {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.at(slot) else { return };
            if connection.state.life() == Life::ToFree || connection.state.has(CHECKING) || self.awaits_reader(slot) {
                return;
            }
            let Some(connection) = self.connections.at(slot) else { return };
            match self.net.read(&mut connection.stream, &mut self.intake.buffer) {
                Ok(0) => return self.on_peer_end(slot),
                Ok(count) => {
                    if connection.state.is_open() {
                        self.receive(slot, count);
                    }
                    if self.connections.at(slot).is_some_and(|connection| connection.state.has(READ_AGAIN)) {
                        return;
                    }
                    // A short read has emptied the socket: an edge reports what comes later.
                    if count < READ_BUFFER_BYTES && !ending {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.end(slot, Close::PeerGone),
            }
        }
        self.read_later(slot);
    }

    /// Goes on where the connection stopped early: with the requests that it has read and not answered, and then with what waits
    /// at its socket.
    pub(super) fn continue_reading(&mut self, slot: Slot) {
        self.advance_session(slot, &mut []);
        self.continue_session(slot);
        if self.connections.at(slot).is_some_and(|connection| !connection.state.has(READ_AGAIN)) {
            // The end may wait behind what was left, and no edge reports it again.
            self.read(slot, true);
        }
    }

    /// The peer sends no more. Requests it has finished are still answered; a stream has lost its reader.
    fn on_peer_end(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let closes_already = connection.state.life() == Life::Closing;
        let awaits_bytes = match &connection.session {
            Ok(session) if !session.is_stream() => {
                !connection.outbox.is_empty() || session.deadline(&self.config.limits).is_none()
            }
            _ => closes_already,
        } && !self.engines.is_poll(slot);
        if awaits_bytes {
            connection.state.set(PEER_ENDED);
            return self.end_half_closed(slot);
        }
        let idle = connection.session.as_ref().is_ok_and(Session::is_idle);
        self.end(slot, if idle { Close::Done } else { Close::PeerGone });
        self.schedule_free(slot);
    }

    /// Ends a connection whose peer has sent all it will, once every request is answered.
    fn end_half_closed(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        // One that is to go on has requests left.
        if !connection.state.has(PEER_ENDED) || connection.state.has(READ_AGAIN) || self.awaits_reader(slot) {
            return;
        }
        let Some(connection) = self.connections.at(slot) else { return };
        match &connection.session {
            Ok(session) if session.is_stream() => self.end(slot, Close::PeerGone),
            Ok(session) if session.deadline(&self.config.limits).is_none() => {}
            Ok(_) => self.end(slot, Close::Done),
            Err(_) => {}
        }
    }

    /// Hands `count` bytes of the read buffer to the session.
    fn receive(&mut self, slot: Slot, count: usize) {
        let mut buffer = std::mem::take(&mut self.intake.buffer);
        self.advance_session(slot, &mut buffer[..count]);
        self.intake.buffer = buffer;
        self.continue_session(slot);
    }

    /// Takes the session through what it has kept: requests that came while another was being answered.
    pub(super) fn continue_session(&mut self, mut slot: Slot) {
        let mut requests = 0;
        while !self.intake.inputs.is_empty() {
            if self.owes_too_much(slot) {
                self.intake.inputs.clear();
                self.end(slot, Close::Slow);
                break;
            }
            let mut inputs = std::mem::take(&mut self.intake.inputs);
            let was_request = inputs.iter().any(|input| matches!(input, PeerInput::Request(_)));
            slot = self.take_inputs(slot, inputs.drain(..));
            // What came behind an upgrade's head is answered first. Mostly there is none, and the memory serves the next.
            if self.intake.inputs.is_empty() {
                self.intake.inputs = inputs;
                requests += usize::from(was_request);
                if was_request && (requests == REQUESTS_PER_TURN || self.is_over_quota(slot)) {
                    self.read_later(slot);
                } else if was_request {
                    self.advance_session(slot, &mut []);
                }
            }
        }
        self.check_stream(slot);
        self.check_budget(slot);
        self.end_half_closed(slot);
        // A pong that a WebSocket brought makes the next ping due.
        self.schedule_session(slot);
        self.rearm_request(slot);
    }

    /// One transition of the session; what it asks for is in `self.intake.inputs`. None while a long message of its is being checked: a
    /// session that has read the peer's close frame would end, before what was said ahead of that is taken.
    pub(super) fn advance_session(&mut self, slot: Slot, bytes: &mut [u8]) {
        if self.awaits_reader(slot) {
            return;
        }
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.may_receive() {
            return;
        }
        connection.advance(|session, outbox| {
            session.receive(bytes, &self.config.limits, outbox, &mut self.intake.inputs, self.now)
        });
        let ended = connection.session.as_ref().map_or_else(|close| Some(*close), Session::refused);
        self.mark_dirty(slot);
        if let Some(close) = ended {
            self.close(slot, close);
        }
    }

    /// Carries out what the peer wants. What it wants after that, the connection at the slot returned does: a session, if
    /// the peer has just carried one over.
    pub(super) fn take_input(&mut self, slot: Slot, input: PeerInput) -> Slot {
        let shared = self.shared();
        if let PeerInput::Request(request) = &input {
            self.note_request(slot, request);
            self.take_client(slot, request);
            // From here on what is made of the body is charged.
            self.senders.release(slot);
        }
        if !self.permits(slot, &input) {
            return slot;
        }
        let Some(connection) = self.connections.at(slot) else { return slot };
        let (admission, identity) = (connection.admission(), connection.identity.clone());
        let context = self.context(&shared, slot, admission, identity.as_deref());
        match input {
            PeerInput::Source(source) => self.take_source(slot, source),
            PeerInput::Body => self.take_body(slot),
            PeerInput::Request(request) => {
                let (route, answer) = endpoint::answer(&request, &context);
                match answer {
                    Answer::Engine(engine) => self.take_engine(slot, route, request, *engine),
                    answer => self.take_answer(slot, route, &request, answer),
                }
            }
            PeerInput::Command(text) => {
                self.metrics.on_messages(1);
                let outcome = endpoint::answer_command(&text, &context);
                self.take_outcome(slot, outcome);
            }
            // `take_inputs` has it checked first.
            PeerInput::Long(_) => {}
            PeerInput::Checked(message, checked) => self.take_checked(slot, *message, checked),
            PeerInput::Message(message) => match self.take_engine_message(slot, message) {
                Ok(slot) => return slot,
                Err(message) => self.take_message(slot, message, &context),
            },
            PeerInput::EngineMessage(message) => self.take_message(slot, message, &context),
            input @ (PeerInput::Held(_) | PeerInput::Payload(_) | PeerInput::Socket(_)) => {
                self.take_engine_input(slot, input)
            }
            PeerInput::End(close) => self.end(slot, close),
        }
        slot
    }

    pub(super) fn take_answer(&mut self, slot: Slot, route: RouteLabel, request: &Request, answer: Answer) {
        match answer {
            Answer::Response(response) => self.respond(slot, route, &response),
            Answer::Later(fields) => self.keep_fields(slot, fields),
            Answer::Work(open) => self.open_work(slot, route, open),
            Answer::Stream(open) => self.open_stream(slot, route, request.version, *open),
            // It is the request's own; no session is opened only to be ended.
            Answer::Engine(_) => {}
            Answer::Ended { stream, close } => {
                self.open_stream(slot, route, request.version, *stream);
                self.end_refused(slot, close);
            }
        }
    }

    pub(super) fn take_outcome(&mut self, slot: Slot, outcome: CommandOutcome) {
        match outcome {
            CommandOutcome::Message(text) => self.answer_command(slot, &text),
            CommandOutcome::Frames(frames) => self.send_frames(slot, &frames),
            CommandOutcome::Subscribe { topic, start, reference } => {
                self.subscribe_command(slot, &topic, start, reference)
            }
            CommandOutcome::Unsubscribe { topic, reference } => {
                self.unsubscribe_command(slot, &topic, reference.as_deref())
            }
            CommandOutcome::SignIn { identity, message } => self.sign_in(slot, identity, &message),
            CommandOutcome::End { message, close } => {
                self.answer_command(slot, &message);
                self.end(slot, close);
            }
            CommandOutcome::Later => {}
        }
    }

    fn answer_command(&mut self, slot: Slot, answer: &[u8]) {
        self.tell(slot, |session, outbox| session.write_command_answer(answer, outbox));
    }

    /// A message for the application, which may answer.
    fn take_message(&mut self, slot: Slot, message: Message, context: &Context<'_>) {
        self.metrics.on_messages(1);
        if let Some(answer) = context.hub.answer_message(message, context) {
            self.tell(slot, |session, outbox| session.write_message(&answer, outbox));
        }
    }

    /// Answers the request that the connection waits for.
    pub(super) fn respond(&mut self, slot: Slot, route: RouteLabel, response: &Response) {
        if self.shutdown.is_under_way() {
            return self.respond_owned(slot, route, response.clone());
        }
        let answered = (response.status, response.body.len());
        self.respond_by(slot, route, answered, |requests, date, outbox| requests.respond(response, date, outbox));
    }

    /// The same, without copying a body that is large.
    pub(super) fn respond_owned(&mut self, slot: Slot, route: RouteLabel, response: Response) {
        let answered = (response.status, response.body.len());
        let response = if !self.shutdown.is_under_way() { response } else { response.with("Connection", "close") };
        self.respond_by(slot, route, answered, |requests, date, outbox| requests.respond_owned(response, date, outbox));
    }

    fn respond_by(
        &mut self,
        slot: Slot,
        route: RouteLabel,
        (status, bytes): (u16, usize),
        respond: impl FnOnce(&mut ServerSession, &str, &mut Outbox) -> bool,
    ) {
        self.count_request(slot, route, status, bytes);
        let Some(connection) = self.connections.at(slot) else { return };
        // Both have cost more than they were worth: what comes behind is read in turn.
        if matches!(status, 401 | 429) {
            connection.state.set(OVER_QUOTA);
        } else {
            connection.state.clear(OVER_QUOTA);
        }
        let Some((session, outbox)) = connection.speaks() else { return };
        let Some(requests) = session.requests_mut() else { return };
        let goes_on = respond(requests, self.net.date(), outbox);
        self.mark_dirty(slot);
        if !goes_on {
            self.end(slot, Close::Done);
        } else {
            self.forget_client(slot);
        }
    }

    fn is_over_quota(&mut self, slot: Slot) -> bool {
        self.connections.at(slot).is_some_and(|connection| connection.state.has(OVER_QUOTA))
    }

    /// The request is answered later, and then with these fields as well.
    pub(super) fn keep_fields(&mut self, slot: Slot, fields: Vec<(&'static str, String)>) {
        if let Some(requests) = self.connections.at(slot).and_then(Connection::requests_mut) {
            requests.keep_fields(fields);
        }
    }

    /// Whether the connection is one for requests whose next request waits until the peer has read more of its answers. Until then
    /// nothing is read from the socket, so that what the peer sends ahead stays with the peer. [`Reactor::settle_flushed`]
    /// goes on.
    #[inline]
    pub(super) fn awaits_reader(&mut self, slot: Slot) -> bool {
        let most = self.config.outbox_bytes_max;
        let Some(connection) = self.connections.at(slot) else { return false };
        let awaits =
            most < connection.outbox.len() && connection.session.as_ref().is_ok_and(|session| !session.is_stream());
        if awaits {
            connection.state.set(AWAITS_READER);
        }
        awaits
    }

    /// A peer that leaves its answers unread is too slow to ask for more. One long answer by itself is what it asked for.
    fn owes_too_much(&mut self, slot: Slot) -> bool {
        let most = self.config.outbox_bytes_max;
        self.connections.at(slot).is_some_and(|connection| most < connection.outbox.len())
    }

    /// A stream's private bytes are short; many are a peer that does not read them.
    pub(super) fn check_stream(&mut self, slot: Slot) {
        let is_stream = self.connections.at(slot).is_some_and(|connection| {
            // What it replays is bounded by the page.
            connection.transport.is_stream() && !connection.state.has(REPLAYING)
        });
        if is_stream && self.owes_too_much(slot) {
            self.end(slot, Close::Slow);
        }
    }

    /// A peer that holds memory with a request or a message it does not finish is refused while the budget is spent.
    pub(super) fn check_budget(&mut self, slot: Slot) {
        self.settle_charge(slot);
        let held_bytes = self.unfinished_bytes(slot);
        if HELD_BYTES_SPARED < held_bytes && self.hub.bus.budget().is_spent() {
            self.end(slot, Close::TryLater("the memory budget is spent"));
            self.settle_charge(slot);
        } else if HELD_BYTES_SPARED < held_bytes || !self.senders.is_empty() {
            self.settle_sender(slot, held_bytes);
        }
    }

    /// After a flush: what is unread of a peer's words has not changed, so most of the time there is nothing to do.
    #[inline]
    pub(super) fn settle_flushed(&mut self, slot: Slot) {
        let most = self.config.outbox_bytes_max;
        let Some(connection) = self.connections.at(slot) else { return };
        let awaited = connection.state.has(AWAITS_READER);
        if !connection.outbox.is_empty() || connection.charged_bytes != 0 || awaited {
            let has_read = awaited && connection.outbox.len() <= most;
            self.settle_charge(slot);
            if has_read {
                self.resume_requests(slot);
            }
        }
    }

    /// The peer has read what its next request waited for. Only that goes on with it: a connection that went on for what it holds,
    /// which its own waiting requests are part of, would take a core while its peer does nothing.
    fn resume_requests(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        connection.state.clear(AWAITS_READER);
        if !connection.transport.is_stream() && connection.state.is_open() {
            self.read_later(slot);
        }
    }

    /// Brings what the connection holds of the memory budget up to date.
    pub(super) fn settle_charge(&mut self, slot: Slot) {
        let unfinished_bytes = self.unfinished_bytes(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        let held_bytes = u32::try_from(connection.outbox.held_bytes() + unfinished_bytes).unwrap_or(u32::MAX);
        if held_bytes != connection.charged_bytes {
            self.hub.bus.budget().adjust(connection.charged_bytes as usize, held_bytes as usize);
            connection.charged_bytes = held_bytes;
        }
    }

    /// What is held of what the peer has not finished saying, or what is not understood yet, in bytes.
    fn unfinished_bytes(&self, slot: Slot) -> usize {
        let Some(connection) = self.connections.peek(slot) else { return 0 };
        let is_checking = connection.state.has(CHECKING);
        let checked_bytes = if is_checking { self.checks.held_bytes(self.connections.token(slot)) } else { 0 };
        connection.session.as_ref().map_or(0, Session::held_bytes) + checked_bytes
    }

    fn rearm_request(&mut self, slot: Slot) {
        if self.connections.at(slot).is_some_and(|connection| !connection.transport.is_stream()) {
            self.rearm(slot);
        }
    }
}
