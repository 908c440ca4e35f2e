//! A WebSocket that carries nothing but its own messages: raw, `fanfare.v1`, or the application's.

use std::{num::NonZeroU32, time::Duration};

use super::{Ask, SessionLimits};
use crate::{
    clock::Moment,
    close::Close,
    json::LONG_TEXT_BYTES,
    outbox::Outbox,
    protocol::{
        fanfare_v1,
        long_message::LongMessage,
        rate::{Rate, RateVerdict},
        websocket::{self, Message},
    },
};

/// An upgraded connection.
#[derive(Debug)]
pub struct WebSocketSession {
    pub(super) codec: websocket::ServerSession,
    /// What the messages mean.
    pub dialect: Dialect,
    /// Since when a ping waits for any sign of the peer, in whole seconds, rounded up: it takes half the room of a moment.
    pinged_s: Option<NonZeroU32>,
    rate: Rate,
}

/// What WebSocket messages mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// From the server: one payload each, verbatim. From the client: nothing.
    Raw,
    /// JSON envelopes and commands.
    FanfareV1,
    /// Whatever the application takes them for.
    Messages,
}

impl WebSocketSession {
    /// An upgrade just accepted.
    pub fn new(dialect: Dialect) -> Self {
        Self { codec: websocket::ServerSession::new(), dialect, pinged_s: None, rate: Rate::default() }
    }

    /// Begins the end from our side.
    pub fn close(&mut self, close: Close, outbox: &mut Outbox) {
        self.codec.close(close, outbox);
    }

    /// Takes note that a ping was sent.
    pub fn on_ping(&mut self, now: Moment) {
        let seconds = u32::try_from(now.0.div_ceil(NANOSECONDS_PER_SECOND)).unwrap_or(u32::MAX);
        self.pinged_s = self.pinged_s.or_else(|| NonZeroU32::new(seconds));
    }

    /// Forgets the ping: the kernel knows whether the peer is there.
    pub fn forget_ping(&mut self) {
        self.pinged_s = None;
    }

    /// When a peer that was pinged, and has been silent since, has been so for `pong_timeout`.
    pub fn pong_deadline(&self, pong_timeout: Duration) -> Option<Moment> {
        let seconds = self.pinged_s?;
        Some(Moment(u64::from(seconds.get()) * NANOSECONDS_PER_SECOND) + pong_timeout)
    }

    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        outbox: &mut Outbox,
        asks: &mut Vec<Ask>,
        now: Moment,
    ) -> Result<(), Close> {
        self.pinged_s = None;
        let mut messages = Vec::new();
        let mut outcome = self.codec.receive(bytes, &limits.websocket, outbox, &mut messages);
        let asks_before = asks.len();
        for message in messages {
            match self.rate.judge(&limits.rate, now) {
                RateVerdict::CutOff => {
                    outcome = outcome.and(Err(Close::RateLimited));
                    break;
                }
                RateVerdict::Ignore => self.report_ignored(&message, outbox),
                RateVerdict::Pass => self.read_message(message, outbox, asks),
            }
        }
        match outcome {
            // Nothing may be said after a close frame (RFC 6455 section 5.5.1), so the answers come first.
            Err(close) if asks_before < asks.len() => {
                asks.push(Ask::End(close));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn read_message(&self, message: Message, outbox: &mut Outbox, asks: &mut Vec<Ask>) {
        match (self.dialect, message) {
            (Dialect::Raw, _) | (_, Message::Ping | Message::Pong) => {}
            (Dialect::Messages, message) => asks.push(Ask::Message(message)),
            (Dialect::FanfareV1, Message::Text(text)) if LONG_TEXT_BYTES < text.len() => {
                asks.push(Ask::Long(Box::new(LongMessage::command(text))));
            }
            (Dialect::FanfareV1, Message::Text(text)) => asks.push(Ask::Command(text)),
            (Dialect::FanfareV1, Message::Binary(_)) => {
                self.report_error("BadRequest", "commands are text messages", None, outbox);
            }
        }
    }

    /// Reports that a message came too fast. Pings and pongs count like any other, but no client waits for an answer to
    /// them.
    fn report_ignored(&self, message: &Message, outbox: &mut Outbox) {
        let reference = match message {
            Message::Text(text) => fanfare_v1::reference_of(text),
            Message::Binary(_) => None,
            Message::Ping | Message::Pong => return,
        };
        self.report_error("RateLimited", "too many messages; this one was ignored", reference, outbox);
    }

    /// Reports that a message was ignored, where the dialect has a form for that.
    fn report_error(&self, code: &str, why: &str, reference: fanfare_v1::Reference<'_>, outbox: &mut Outbox) {
        if self.dialect == Dialect::FanfareV1 {
            let mut text = Vec::new();
            fanfare_v1::write_error(code, why, reference, &mut text);
            outbox.put(&websocket::encode_text(&text));
        }
    }
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;
