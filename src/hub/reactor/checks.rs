//! Long messages of clients: their JSON is checked step by step, behind the laps, as the work of requests is.
//!
//! Until its message is checked, a connection is not read (CHECKING), and whatever it asked for behind the message waits.
//! A request that brings a session such a message, or more while one is being checked, is answered afterwards.

use std::collections::{HashMap, VecDeque};

use super::{
    Reactor,
    engine::post_response,
    net::{Net, Token},
    state::CHECKING,
};
use crate::{
    close::Close,
    endpoint,
    index::Slot,
    json::LONG_TEXT_BYTES,
    label::RouteLabel,
    protocol::{Checked, LongMessage, Message, PeerInput},
};

/// How much of a message is checked in a step, which takes 0.1 ms or so.
const STEP_BYTES: usize = LONG_TEXT_BYTES / 4;

/// The messages that are being checked on a reactor.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Whose turn it is, the next first.
    ready: VecDeque<Token>,
    open: HashMap<u64, Check, foldhash::fast::RandomState>,
}

/// A message, and what waits for it.
#[derive(Debug)]
struct Check {
    /// `None`: there is nothing to check, and what waits has had its part of the turn.
    message: Option<Box<LongMessage>>,
    rest: Vec<PeerInput>,
    /// Requests to be answered then, and the label of each one's route.
    posts: Vec<(Token, RouteLabel)>,
}

impl Checks {
    /// Whether there is a step to do.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a message of the connection `token` is being checked.
    pub(super) fn has(&self, token: Token) -> bool {
        self.open.contains_key(&token.pack())
    }

    /// What is held for the connection `token`, in bytes.
    pub(super) fn held_bytes(&self, token: Token) -> usize {
        self.open.get(&token.pack()).map_or(0, |check| {
            let rest = check.rest.iter().map(|input| size_of::<PeerInput>() + said_bytes(input));
            check.message.as_ref().map_or(0, |message| message.text.len()) + rest.sum::<usize>()
        })
    }
}

/// What has become of a check.
#[derive(Debug)]
enum Found {
    /// This about its message.
    Checked(Checked),
    /// There was nothing to check.
    Paused,
    /// Its connection is no more.
    Gone,
}

fn said_bytes(input: &PeerInput) -> usize {
    match input {
        PeerInput::Command(text) | PeerInput::Held(Message::Text(text)) => text.len(),
        PeerInput::Held(Message::Binary(bytes)) => bytes.len(),
        PeerInput::Long(message) => message.text.len(),
        PeerInput::Payload(payload) => payload.text.len(),
        _ => 0,
    }
}

impl<N: Net> Reactor<N> {
    /// Carries out what a connection wants, in order, up to a long message. What it wants after that, the connection at the slot
    /// returned does ([`Reactor::take_input`]).
    pub(super) fn take_inputs(&mut self, mut slot: Slot, mut inputs: impl Iterator<Item = PeerInput>) -> Slot {
        while let Some(input) = inputs.next() {
            let Some(connection) = self.connections.at(slot) else { break };
            if connection.state.has(CHECKING) {
                let token = self.connections.token(slot).pack();
                if let Some(check) = self.checks.open.get_mut(&token) {
                    check.rest.push(input);
                    check.rest.extend(inputs);
                }
                break;
            }
            match input {
                PeerInput::Long(message) => self.open_check(slot, Some(message)),
                input => slot = self.take_input(slot, input),
            }
        }
        slot
    }

    /// What the connection at `slot` wants from here on waits until a later turn.
    pub(super) fn pause(&mut self, slot: Slot) {
        self.open_check(slot, None);
    }

    fn open_check(&mut self, slot: Slot, message: Option<Box<LongMessage>>) {
        let token = self.connections.token(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        connection.state.set(CHECKING);
        self.checks.open.insert(token.pack(), Check { message, rest: Vec::new(), posts: Vec::new() });
        self.checks.ready.push_back(token);
        self.check_budget(slot);
    }

    /// Whether the request at `slot`, which brought something for `session`, is answered once that is checked.
    pub(super) fn answers_after_check(&mut self, slot: Slot, route: RouteLabel, session: Slot) -> bool {
        let (post, token) = (self.connections.token(slot), self.connections.token(session));
        match self.checks.open.get_mut(&token.pack()) {
            Some(check) => {
                check.posts.push((post, route));
                true
            }
            None => false,
        }
    }

    /// Does the next step of the check whose turn it is.
    pub(super) fn step_check(&mut self) {
        let Some(token) = self.checks.ready.pop_front() else { return };
        let is_open = self.connections.named(token).is_some_and(|it| it.state.is_open());
        let Some(check) = self.checks.open.get_mut(&token.pack()) else { return };
        let found = match &mut check.message {
            // Nothing comes any more of what it has said.
            _ if !is_open => Found::Gone,
            None => Found::Paused,
            Some(message) => match message.advance(STEP_BYTES) {
                None => return self.checks.ready.push_back(token),
                Some(checked) => Found::Checked(checked),
            },
        };
        self.close_check(token, found);
    }

    /// Goes on with the connection `token`, whose message's check has found this.
    fn close_check(&mut self, token: Token, found: Found) {
        let Some(Check { message, rest, posts }) = self.checks.open.remove(&token.pack()) else { return };
        let is_gone = matches!(found, Found::Gone);
        if let Some(connection) = self.connections.named(token) {
            connection.state.clear(CHECKING);
            let has_socket = connection.state.has_socket();
            let first = match (found, message) {
                (Found::Checked(checked), Some(message)) => Some(PeerInput::Checked(message, checked)),
                _ => None,
            };
            if !is_gone {
                self.take_inputs(token.slot, first.into_iter().chain(rest));
            }
            self.continue_session(token.slot);
            if has_socket {
                self.read_later(token.slot);
            }
        }
        let is_whole = self.connections.named(token).is_some_and(|it| matches!(it.session, Ok(_) | Err(Close::Done)));
        match self.checks.open.get_mut(&token.pack()) {
            // Another long message came behind it.
            Some(next) => next.posts.extend(posts),
            None => posts.into_iter().for_each(|(post, route)| {
                self.answer_later_owned(post, route, post_response(is_whole));
            }),
        }
    }

    /// Takes a message whose check is over.
    pub(super) fn take_checked(&mut self, slot: Slot, message: LongMessage, checked: Checked) {
        match checked {
            Checked::Bad(close) => self.end(slot, close),
            Checked::Packet { heeded } => {
                self.advance_engine(slot, |engine, _, outbox, inputs, _| {
                    engine.take_checked(message.text, heeded, outbox, inputs)
                });
            }
            Checked::Command(checked) => {
                let Some(connection) = self.connections.at(slot) else { return };
                let is_stream = connection.session.is_ok();
                let (admission, identity) = (connection.admission(), connection.identity.clone());
                if is_stream {
                    self.metrics.on_messages(1);
                    let shared = self.shared();
                    let context = self.context(&shared, slot, admission, identity.as_deref());
                    let reply = endpoint::answer_long_command(&message.text, checked, &context);
                    self.take_outcome(slot, reply);
                }
            }
        }
    }
}
