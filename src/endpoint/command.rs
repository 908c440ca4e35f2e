//! `fanfare.v1` commands: what each does.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Context, health,
    publish::{BAD_IDEMPOTENCY_KEY, BAD_KIND, IDEMPOTENCY_KEY_BYTES_MAX, Outgoing, complete_command, submit},
};
use crate::{
    bus::{AnswerForm, PublishRefused},
    log::Start,
    protocol::fanfare_v1::{self, Command},
    topic::Topic,
};

/// What is to be done about a command.
#[derive(Debug)]
pub enum Reply {
    /// Send this message.
    Message(Vec<u8>),
    /// Subscribe, then acknowledge with the reference.
    Subscribe {
        /// To this.
        topic: Topic,
        /// From here.
        start: Start,
        /// To be echoed.
        reference: Option<Box<RawValue>>,
    },
    /// Unsubscribe, then acknowledge with the reference.
    Unsubscribe {
        /// From this.
        topic: Topic,
        /// To be echoed.
        reference: Option<Box<RawValue>>,
    },
    /// A note on the bus will bring the answer.
    Later,
}

/// Answers the message `text` of a client.
pub fn answer_command(text: &str, context: &Context<'_>) -> Reply {
    let command = match Command::parse(text) {
        Ok(command) => command,
        Err(refused) => return message(|out| fanfare_v1::write_refused(&refused, out)),
    };
    match command {
        Command::Subscribe { topic, start, reference } => {
            Reply::Subscribe { topic, start, reference: reference.map(ToOwned::to_owned) }
        }
        Command::Unsubscribe { topic, reference } => {
            Reply::Unsubscribe { topic, reference: reference.map(ToOwned::to_owned) }
        }
        Command::Publish { topic, kind, data, idempotency_key, reference } => {
            let data = Bytes::copy_from_slice(data.as_bytes());
            let (kind, idempotency_key) = (kind.map(Box::from), idempotency_key.map(Box::from));
            publish(Outgoing { topic, kind, data, idempotency_key }, reference, context)
        }
        Command::Ping { reference } => message(|out| fanfare_v1::write_pong(reference, out)),
        Command::Stats { reference } => {
            let stats = health::stats(context).to_string();
            message(|out| fanfare_v1::write_stats(&stats, reference, out))
        }
        Command::Auth { reference, .. } => message(|out| {
            fanfare_v1::write_error("Unsupported", "this hub asks for no token", reference, out);
        }),
    }
}

fn publish(outgoing: Outgoing, reference: fanfare_v1::Reference<'_>, context: &Context<'_>) -> Reply {
    let refuse = |code: &str, why: &str| message(|out| fanfare_v1::write_error(code, why, reference, out));
    match context.hub.bus.check(outgoing.kind.as_deref(), &outgoing.data) {
        Ok(()) => {}
        Err(PublishRefused::TooBig) => return refuse("TooBig", "the payload is over the limit"),
        Err(PublishRefused::BadKind) => return refuse("BadType", BAD_KIND),
        Err(PublishRefused::NotUtf8) => return refuse("BadRequest", "the payload must be UTF-8 text"),
        Err(PublishRefused::NoRoom) => return refuse("Overloaded", "the memory budget is spent; try again later"),
    }
    if outgoing.idempotency_key.as_ref().is_some_and(|key| IDEMPOTENCY_KEY_BYTES_MAX < key.len()) {
        return refuse("BadIdempotencyKey", BAD_IDEMPOTENCY_KEY);
    }
    let form = AnswerForm::Command(reference.map(|reference| reference.get().into()));
    match submit(vec![outgoing], form, context) {
        Some((waiting, receipts)) => {
            let metrics = &context.hub.metrics.reactors[context.reactor];
            message(|out| complete_command(&waiting, &receipts, metrics, context.now, out))
        }
        None => Reply::Later,
    }
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Reply {
    let mut text = Vec::new();
    write(&mut text);
    Reply::Message(text)
}
