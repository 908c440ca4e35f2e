//! What `fanfare.v1` makes of WebSocket messages, and how it writes what a session has to say.

use super::{
    SUBPROTOCOL,
    command::{Reference, reference_of},
    encode::{write_error, write_gap, write_subscribed, write_unsubscribed},
};
use crate::{
    event::EventId,
    frame::Format,
    gap::Gap,
    json::LONG_TEXT_BYTES,
    outbox::Outbox,
    protocol::{
        GapOutcome, LongMessage, Message, PeerInput,
        websocket::{Subprotocol, encode_text},
    },
    topic::Topic,
};

/// [`Dialect::FanfareV1`](crate::protocol::Dialect::FanfareV1).
pub(in crate::protocol) struct FanfareV1;

impl Subprotocol for FanfareV1 {
    const NAME: &'static str = SUBPROTOCOL;
    const FORMAT: Format = Format::FanfareV1;
    const HAS_COMMANDS: bool = true;

    fn take(message: Message, outbox: &mut Outbox, inputs: &mut Vec<PeerInput>) {
        match message {
            Message::Text(text) if LONG_TEXT_BYTES < text.len() => {
                inputs.push(PeerInput::Long(Box::new(LongMessage::command(text))));
            }
            Message::Text(text) => inputs.push(PeerInput::Command(text)),
            Message::Binary(_) => {
                put(outbox, |text| write_error("BadRequest", "commands are text messages", None, text))
            }
            Message::Ping | Message::Pong => {}
        }
    }

    /// Pings and pongs count like any other message, but no client waits for an answer to them.
    fn report_ignored(message: &Message, outbox: &mut Outbox) {
        let reference = match message {
            Message::Text(text) => reference_of(text),
            Message::Binary(_) => None,
            Message::Ping | Message::Pong => return,
        };
        let why = "too many messages; this one was ignored";
        put(outbox, |text| write_error("RateLimited", why, reference, text));
    }

    fn write_gap(name: &Topic, gap: Gap, outbox: &mut Outbox) -> GapOutcome {
        put(outbox, |text| write_gap(name, gap, text));
        GapOutcome::Written
    }

    fn write_subscribed(topic: &Topic, before: EventId, reference: Reference<'_>, outbox: &mut Outbox) {
        put(outbox, |text| write_subscribed(topic, Some(before), reference, text));
    }

    fn write_unsubscribed(topic: &Topic, reference: Reference<'_>, outbox: &mut Outbox) {
        put(outbox, |text| write_unsubscribed(topic, reference, text));
    }

    fn write_command_refusal(code: &str, why: &str, reference: Reference<'_>, outbox: &mut Outbox) {
        put(outbox, |text| write_error(code, why, reference, text));
    }

    fn write_command_answer(answer: &[u8], outbox: &mut Outbox) {
        outbox.put(&encode_text(answer));
    }
}

/// Puts the text that `write` appends into one message.
fn put(outbox: &mut Outbox, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::new();
    write(&mut text);
    outbox.put(&encode_text(&text));
}
