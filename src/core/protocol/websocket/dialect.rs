//! What the messages of a WebSocket mean: its subprotocols.

use super::{
    handshake::{Accepted, Refusal, accept},
    session::Message,
};
use crate::{
    event::EventId,
    frame::Format,
    gap::Gap,
    outbox::Outbox,
    protocol::{GapOutcome, PeerInput, fanfare_v1::Reference, http::Request},
    topic::Topic,
};

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

/// A constant or a method of the [`Subprotocol`] that a dialect is. No virtual call.
macro_rules! of_dialect {
    ($dialect:expr, $item:ident $(($($argument:expr),*))?) => {
        match $dialect {
            Dialect::Raw => $crate::protocol::websocket::dialect::Raw::$item $(($($argument),*))?,
            Dialect::FanfareV1 => $crate::protocol::fanfare_v1::FanfareV1::$item $(($($argument),*))?,
            Dialect::Messages => $crate::protocol::websocket::dialect::Messages::$item $(($($argument),*))?,
        }
    };
}
pub(super) use of_dialect;

/// A subprotocol. One that leaves something out drops the messages of its client, and writes nothing.
pub(in crate::protocol) trait Subprotocol {
    /// What goes into `Sec-WebSocket-Protocol`, if the handshake can choose it.
    const NAME: &'static str = "";
    /// The form of its events.
    const FORMAT: Format;
    /// Whether its client learns of gaps from the close frame alone.
    const ENDS_FOR_GAPS: bool = false;
    /// Whether clients subscribe and sign in by messages.
    const HAS_COMMANDS: bool = false;

    /// Takes a message that came within the limit on their rate, and is no ping or pong.
    fn take(_message: Message, _outbox: &mut Outbox, _inputs: &mut Vec<PeerInput>) {}
    /// Reports that a message came too fast and was ignored.
    fn report_ignored(_message: &Message, _outbox: &mut Outbox) {}
    /// Events of `name` are missing.
    fn write_gap(_name: &Topic, _gap: Gap, _outbox: &mut Outbox) -> GapOutcome {
        GapOutcome::NoForm
    }
    /// The subscription to `topic` begins: events follow from behind `before`.
    fn write_subscribed(_topic: &Topic, _before: EventId, _reference: Reference<'_>, _outbox: &mut Outbox) {}
    /// The subscription to `topic` has ended.
    fn write_unsubscribed(_topic: &Topic, _reference: Reference<'_>, _outbox: &mut Outbox) {}
    /// A command is refused.
    fn write_command_refusal(_code: &str, _why: &str, _reference: Reference<'_>, _outbox: &mut Outbox) {}
    /// The answer to a command.
    fn write_command_answer(_answer: &[u8], _outbox: &mut Outbox) {}
}

impl Dialect {
    /// Those that a handshake can choose.
    const NEGOTIATED: [Self; 1] = [Self::FanfareV1];

    /// Accepts a handshake with the first of the client's subprotocols that the hub has, or without one.
    pub fn accept(request: &Request) -> Result<(Accepted, Self), Refusal> {
        let accepted = accept(request, &Self::NEGOTIATED.map(|it| of_dialect!(it, NAME)))?;
        let dialect = Self::NEGOTIATED.into_iter().find(|it| accepted.protocol == Some(of_dialect!(*it, NAME)));
        Ok((accepted, dialect.unwrap_or(Self::Raw)))
    }

    /// Whether clients subscribe and sign in by messages.
    pub fn has_commands(self) -> bool {
        of_dialect!(self, HAS_COMMANDS)
    }
}

/// [`Dialect::Raw`].
pub(super) struct Raw;

impl Subprotocol for Raw {
    const FORMAT: Format = Format::WebSocketRaw;
    const ENDS_FOR_GAPS: bool = true;
}

/// [`Dialect::Messages`].
pub(super) struct Messages;

impl Subprotocol for Messages {
    const FORMAT: Format = Format::WebSocketRaw;

    fn take(message: Message, _: &mut Outbox, inputs: &mut Vec<PeerInput>) {
        inputs.push(PeerInput::Message(message));
    }
}
