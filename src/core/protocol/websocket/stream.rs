//! A WebSocket that carries nothing but its own messages: how a request opens it, and its session.

use std::{num::NonZeroU32, time::Duration};

use super::{
    dialect::{Dialect, Subprotocol, of_dialect},
    frame::{PING, write_end, write_message},
    handshake::{Accepted, Refusal, write_accept},
    session::{Message, ServerSession},
};
use crate::{
    clock::Moment,
    close::Close,
    event::EventId,
    frame::Format,
    gap::Gap,
    index::TopicIndex,
    outbox::Outbox,
    protocol::{
        AfterRefusal, Ending, GapOutcome, OpeningContext, PeerInput, Session, SessionLimits,
        fanfare_v1::Reference,
        http::Request,
        rate::{Rate, RateVerdict},
        session::{ProtocolOpening, ProtocolSession},
    },
    topic::Topic,
    transport::Transport,
};

/// A WebSocket to open.
#[derive(Debug)]
pub struct WebSocketOpening {
    /// What the handshake agreed on.
    pub accepted: Accepted,
    /// What its messages mean.
    pub dialect: Dialect,
}

impl WebSocketOpening {
    /// Accepts a handshake with the first of the client's subprotocols that the hub has, or without one.
    pub fn accept(request: &Request) -> Result<Self, Refusal> {
        let (accepted, dialect) = Dialect::accept(request)?;
        Ok(Self { accepted, dialect })
    }
}

impl ProtocolOpening for WebSocketOpening {
    const TRANSPORT: Transport = Transport::WebSocket;
    const STATUS: u16 = 101;

    fn open(self, context: OpeningContext<'_>, outbox: &mut Outbox) -> Session {
        write_accept(&self.accepted, context.date, outbox.buffer());
        Session::WebSocket(WebSocketSession::new(self.dialect))
    }

    /// A browser hides the response to a refused handshake from its page.
    fn of_refusal(request: &Request, _: AfterRefusal) -> Option<Self> {
        Self::accept(request).ok()
    }
}

/// An upgraded connection.
#[derive(Debug)]
pub struct WebSocketSession {
    codec: ServerSession,
    /// What the messages mean.
    dialect: Dialect,
    /// Since when a ping waits for any sign of the peer, in whole seconds, rounded up: it takes half the room of a moment.
    pinged_s: Option<NonZeroU32>,
    rate: Rate,
}

impl WebSocketSession {
    /// An upgrade just accepted.
    pub fn new(dialect: Dialect) -> Self {
        Self { codec: ServerSession::new(), dialect, pinged_s: None, rate: Rate::default() }
    }

    /// Its receiving state, for a session that it carries from now on.
    pub(in crate::protocol) fn into_codec(self) -> ServerSession {
        self.codec
    }

    /// Takes note that a ping was sent.
    fn on_ping(&mut self, now: Moment) {
        let seconds = u32::try_from(now.0.div_ceil(NANOSECONDS_PER_SECOND)).unwrap_or(u32::MAX);
        self.pinged_s = self.pinged_s.or_else(|| NonZeroU32::new(seconds));
    }

    fn take(&self, message: Message, outbox: &mut Outbox, inputs: &mut Vec<PeerInput>) {
        if !matches!(message, Message::Ping | Message::Pong) {
            of_dialect!(self.dialect, take(message, outbox, inputs));
        }
    }
}

impl ProtocolSession for WebSocketSession {
    fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        self.pinged_s = None;
        let mut messages = Vec::new();
        let mut outcome = self.codec.receive(bytes, &limits.websocket, outbox, &mut messages);
        let inputs_before = inputs.len();
        for message in messages {
            match self.rate.judge(&limits.rate, now) {
                RateVerdict::CutOff => {
                    outcome = outcome.and(Err(Close::RateLimited));
                    break;
                }
                RateVerdict::Ignore => of_dialect!(self.dialect, report_ignored(&message, outbox)),
                RateVerdict::Pass => self.take(message, outbox, inputs),
            }
        }
        match outcome {
            // Nothing may be said after a close frame (RFC 6455 section 5.5.1), so the answers come first.
            Err(close) if inputs_before < inputs.len() => {
                inputs.push(PeerInput::End(close));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn format(&self) -> Option<Format> {
        Some(of_dialect!(self.dialect, FORMAT))
    }

    fn held_bytes(&self) -> usize {
        self.codec.held_bytes()
    }

    fn pong_deadline(&self, pong_timeout: Duration) -> Option<Moment> {
        let seconds = self.pinged_s?;
        Some(Moment(u64::from(seconds.get()) * NANOSECONDS_PER_SECOND) + pong_timeout)
    }

    fn ends_for_gaps(&self) -> bool {
        of_dialect!(self.dialect, ENDS_FOR_GAPS)
    }

    fn write_subscribed(&self, topic: &Topic, before: EventId, reference: Reference<'_>, outbox: &mut Outbox) {
        of_dialect!(self.dialect, write_subscribed(topic, before, reference, outbox));
    }

    fn write_unsubscribed(&self, topic: &Topic, reference: Reference<'_>, outbox: &mut Outbox) {
        of_dialect!(self.dialect, write_unsubscribed(topic, reference, outbox));
    }

    fn write_command_refusal(&self, code: &str, why: &str, reference: Reference<'_>, outbox: &mut Outbox) {
        of_dialect!(self.dialect, write_command_refusal(code, why, reference, outbox));
    }

    fn write_command_answer(&self, answer: &[u8], outbox: &mut Outbox) {
        of_dialect!(self.dialect, write_command_answer(answer, outbox));
    }

    fn write_message(&self, message: &Message, outbox: &mut Outbox) {
        write_message(message, outbox.buffer());
    }

    fn write_gap(&mut self, _: TopicIndex, name: &Topic, gap: Gap, outbox: &mut Outbox) -> GapOutcome {
        of_dialect!(self.dialect, write_gap(name, gap, outbox))
    }

    fn write_heartbeat(&mut self, now: Moment, outbox: &mut Outbox) {
        outbox.put(PING);
        self.on_ping(now);
    }

    fn is_pong_late(&mut self, is_blocked: bool, pong_timeout: Duration, now: Moment) -> bool {
        if is_blocked {
            // The kernel knows whether the peer is there.
            self.pinged_s = None;
        }
        self.pong_deadline(pong_timeout).is_some_and(|deadline| deadline <= now)
    }

    fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox) {
        write_last(&ending, outbox);
    }
}

/// Writes the close frame, unless the last bytes go by a poll.
pub(in crate::protocol) fn write_last(ending: &Ending<'_>, outbox: &mut Outbox) {
    if ending.has_socket {
        write_end(ending.close, ending.reason, outbox.buffer());
    }
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
