//! The commands of `fanfare.v1`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    auth::{AccessDenied, Identity},
    bus::{PublishRefused, Receipt},
    close::Close,
    endpoint::{
        AnswerForm, CheckedEvent, Context,
        gate::{
            access, audit,
            publish::{
                BAD_IDEMPOTENCY_KEY, BAD_KIND, IDEMPOTENCY_KEY_BYTES_MAX, RESERVED_KIND, complete_frames,
                describe_failure, is_reserved, submit,
            },
        },
        native::health,
    },
    event::Payload,
    json::{BadJson, Traits},
    log::Start,
    protocol::{
        fanfare_v1::{self, BadCommand, Command},
        websocket,
    },
    topic::Topic,
    transport::Transport,
};

/// What the reactor does about a command.
#[derive(Debug)]
pub(crate) enum CommandOutcome {
    /// Send this message.
    Message(Vec<u8>),
    /// Send these WebSocket frames.
    Frames(Vec<u8>),
    /// Subscribe, then acknowledge with the reference.
    Subscribe {
        topic: Topic,
        /// Where to begin.
        start: Start,
        /// Echoed in the acknowledgement.
        reference: Option<Box<RawValue>>,
    },
    /// Unsubscribe, then acknowledge with the reference.
    Unsubscribe {
        topic: Topic,
        /// Echoed in the acknowledgement.
        reference: Option<Box<RawValue>>,
    },
    /// Make the connection this client's, and send the message.
    SignIn { identity: Arc<Identity>, message: Vec<u8> },
    /// Send this message, and close the connection.
    End { message: Vec<u8>, close: Close },
    /// Wait for a completion, which brings the answer.
    Later,
}

/// Answers the message `text` of a client.
pub(crate) fn answer_command(text: &str, context: &Context<'_>) -> CommandOutcome {
    carry_out(Command::parse(text), context)
}

/// As [`answer_command`], for a long message that was checked before: `checked` says whether it is JSON.
pub(crate) fn answer_long_command(
    text: &str,
    checked: Result<Traits, BadJson>,
    context: &Context<'_>,
) -> CommandOutcome {
    match checked {
        Ok(_) => carry_out(Command::parse_long(text), context),
        Err(bad) => {
            let why = bad.to_string();
            message(|out| fanfare_v1::write_error(fanfare_v1::code::BAD_REQUEST, &why, None, out))
        }
    }
}

fn carry_out(command: Result<Command<'_>, BadCommand<'_>>, context: &Context<'_>) -> CommandOutcome {
    let command = match command {
        Ok(command) => command,
        Err(refused) => return message(|out| fanfare_v1::write_refused(&refused, out)),
    };
    match command {
        Command::Subscribe { topic, start, reference } => {
            if let Err(denied) = access::may_subscribe(context.identity, &topic) {
                return deny(denied, Some(&topic), reference, context);
            }
            CommandOutcome::Subscribe { topic, start, reference: reference.map(ToOwned::to_owned) }
        }
        Command::Unsubscribe { topic, reference } => {
            CommandOutcome::Unsubscribe { topic, reference: reference.map(ToOwned::to_owned) }
        }
        Command::Publish { topic, kind, data, idempotency_key, reference } => {
            if let Err(denied) = access::may_publish(context.identity, &topic) {
                return deny(denied, Some(&topic), reference, context);
            }
            let payload = Payload::json(Bytes::copy_from_slice(data.as_bytes()));
            let (kind, idempotency_key) = (kind.map(Box::from), idempotency_key.map(Box::from));
            publish(CheckedEvent { topic, kind, payload, idempotency_key }, reference, context)
        }
        Command::Ping { reference } => message(|out| fanfare_v1::write_pong(reference, out)),
        Command::Stats { reference } if context.identity.is_some_and(|identity| identity.is_guest) => {
            deny(AccessDenied::Missing, None, reference, context)
        }
        Command::Stats { reference } => {
            let stats = health::stats(context).to_string();
            message(|out| fanfare_v1::write_stats(&stats, reference, out))
        }
        Command::Auth { token, reference } => sign_in(&token, reference, context),
    }
}

/// Signs in a connection without a token, or renews the token of the same client.
fn sign_in(token: &str, reference: fanfare_v1::Reference<'_>, context: &Context<'_>) -> CommandOutcome {
    let Some(before) = context.identity else {
        let why = "this hub asks for no token";
        return message(|out| fanfare_v1::write_error("Unsupported", why, reference, out));
    };
    let identity = match context.hub.auth.identify(Some(token), context.token_origin(), context.now) {
        Ok(Some(identity)) => identity,
        Ok(None) => return deny(AccessDenied::Missing, None, reference, context),
        Err(denied) => return close_after_bad_tokens(deny(denied, None, reference, context), denied, context),
    };
    if !before.is_guest && before.subject != identity.subject {
        let why = "the token is somebody else's; open a connection for them";
        return message(|out| fanfare_v1::write_error("OtherSubject", why, reference, out));
    }
    audit::record_sign_in(&identity, Transport::WebSocket, context);
    let left = identity.expires.map(|expires| expires.since(context.now));
    let mut message = Vec::new();
    fanfare_v1::write_authenticated(
        &identity.subject,
        left.map(|left: Duration| left.as_secs()),
        reference,
        &mut message,
    );
    CommandOutcome::SignIn { identity, message }
}

/// Closes the connection after `outcome`, the answer to a bad token, if the connection has shown too many bad tokens.
fn close_after_bad_tokens(outcome: CommandOutcome, denied: AccessDenied, context: &Context<'_>) -> CommandOutcome {
    match outcome {
        CommandOutcome::Message(message) if context.hub.auth.has_spent(context.connection(), context.now) => {
            CommandOutcome::End { message, close: denied.close() }
        }
        outcome => outcome,
    }
}

fn deny(
    denied: AccessDenied,
    topic: Option<&Topic>,
    reference: fanfare_v1::Reference<'_>,
    context: &Context<'_>,
) -> CommandOutcome {
    access::count_refusal_on(Transport::WebSocket, denied, topic, context);
    let code = match denied {
        AccessDenied::Forbidden | AccessDenied::ForeignPage | AccessDenied::ForeignHost => "Forbidden",
        AccessDenied::TooMany => "RateLimited",
        AccessDenied::KeysPending => "Unavailable",
        AccessDenied::Missing
        | AccessDenied::Cookie
        | AccessDenied::Invalid
        | AccessDenied::Expired
        | AccessDenied::Revoked => "Unauthenticated",
    };
    message(|out| fanfare_v1::write_error(code, denied.message(), reference, out))
}

fn publish(event: CheckedEvent, reference: fanfare_v1::Reference<'_>, context: &Context<'_>) -> CommandOutcome {
    let refuse = |code: &str, why: &str| message(|out| fanfare_v1::write_error(code, why, reference, out));
    if is_reserved(event.kind.as_deref()) {
        return refuse("BadType", RESERVED_KIND);
    }
    match context.hub.bus.check(event.kind.as_deref(), &event.payload.data) {
        Ok(()) => {}
        Err(PublishRefused::TooBig) => return refuse("TooBig", "the payload is over the limit"),
        Err(PublishRefused::BadKind) => return refuse("BadType", BAD_KIND),
        Err(PublishRefused::NotUtf8) => return refuse("BadRequest", "the payload must be UTF-8 text"),
        Err(PublishRefused::NoRoom | PublishRefused::Quota(_)) => {
            return refuse("Overloaded", "the memory budget is spent; try again later");
        }
    }
    if event.idempotency_key.as_ref().is_some_and(|key| IDEMPOTENCY_KEY_BYTES_MAX < key.len()) {
        return refuse("BadIdempotencyKey", BAD_IDEMPOTENCY_KEY);
    }
    let topic = event.topic.clone();
    let reference: Option<Box<RawValue>> = reference.map(ToOwned::to_owned);
    let complete = move |receipts: &[Receipt]| {
        let mut frames = Vec::new();
        for receipt in receipts {
            let mut text = Vec::new();
            match receipt {
                Ok(id) => fanfare_v1::write_published(&topic, *id, reference.as_deref(), &mut text),
                Err(failed) => {
                    let (_, code, why) = describe_failure(*failed);
                    fanfare_v1::write_error(code, &why, reference.as_deref(), &mut text);
                }
            }
            frames.extend(websocket::encode_text(&text));
        }
        frames
    };
    match submit(vec![event], AnswerForm::Frames(Box::new(complete)), context) {
        Some((waiting, receipts)) => {
            let metrics = &context.hub.metrics.reactors[context.reactor];
            CommandOutcome::Frames(complete_frames(waiting, &receipts, metrics, context.now))
        }
        None => CommandOutcome::Later,
    }
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> CommandOutcome {
    let mut text = Vec::new();
    write(&mut text);
    CommandOutcome::Message(text)
}
