//! The Socket.IO application: what the ESP IoT platform's clients may ask for by events, and what they are answered.
//! Pure: it decides, and the reactor carries out what it decides. Events of topics reach clients from the logs, without it.
//!
//! Every answer is an event, as the platform's clients expect; a client that asked for an acknowledgement gets the same
//! object by that as well. What a client does wrong is answered by `error` with `{"error","message"}`.
//!
//! Without the platform's API (`compat`) there are topics only: clients are not greeted by `connected`, `well_id` means nothing, and
//! answers name the topic of a well as any other.
//!
//! | event | argument | answer |
//! |---|---|---|
//! | `ping` | | `pong` `{timestamp}` |
//! | `subscribe` | `{well_id}` or `{topic}`, `since` | `subscribed` `{well_id or topic, timestamp}` |
//! | `unsubscribe` | `{well_id}` or `{topic}` | `unsubscribed` `{well_id or topic, timestamp}` |
//! | `get_stats` | | `stats` `{connected_at, message_count, subscriptions}`; for the role `admin` also `server` |
//! | `publish` | `{well_id}` or `{topic}`, `type`, `data` | `published` `{well_id or topic, id}` |

mod arguments;

use serde_json::{Value, value::RawValue};

use crate::{
    auth::{AccessDenied, Identity},
    bus::{PublishRefused, Receipt},
    endpoint::{
        CheckedEvent, CompatApi, ConnectAccepted, ConnectRefused, Context, Emit, SocketAction, SocketClient,
        SocketEvent, SocketHandlers, SocketPublication,
        compat::esp::wells::{EspError, deny, object, well_of},
        gate::{
            access, audit,
            publish::{BAD_KIND, RESERVED_KIND, describe_failure, is_reserved},
        },
        native::health,
    },
    event::Payload,
    topic::Topic,
    transport::Transport,
};
use arguments::{PublishArguments, TopicArguments, parse_publish, parse_token, parse_topic_arguments};

/// The hub's application.
pub(in crate::endpoint) const HANDLERS: SocketHandlers =
    SocketHandlers { connect, answer_event, answer_ack: |_, _, _, _| Vec::new() };

/// Admits a client to `namespace`, with this `auth` object.
fn connect(namespace: &str, auth: Option<&RawValue>, context: &Context<'_>) -> Result<ConnectAccepted, ConnectRefused> {
    let esp = &context.config.esp;
    if !esp.namespaces.iter().any(|served| served == namespace) {
        // The message of Socket.IO's own servers.
        return Err(ConnectRefused { message: "Invalid namespace".to_owned(), data: None });
    }
    let token = parse_token(auth);
    let identity =
        context.hub.auth.identify(token.as_deref(), context.token_origin(), context.now).map_err(|denied| {
            let refused = deny(denied, None, context);
            ConnectRefused { data: Some(refused.json()), message: refused.message }
        })?;
    if let Some(identity) = &identity {
        audit::record_sign_in(identity, Transport::SocketIo, context);
    }
    if !is_esp(context) {
        return Ok(ConnectAccepted { identity, emits: Vec::new() });
    }
    let known = identity.as_deref();
    let data = object(&[
        ("message", format!("Connected to {}", esp.platform).into()),
        ("user_id", known.map(|identity| &*identity.subject).into()),
        ("username", known.map(Identity::name).into()),
        ("timestamp", context.hub.timestamp(context.now).into()),
    ]);
    Ok(ConnectAccepted { identity, emits: vec![Emit::new("connected", data)] })
}

/// Whether the ESP platform's API is served: clients get a greeting, and wells have ids. Socket.IO itself is not part of that
/// API.
fn is_esp(context: &Context<'_>) -> bool {
    context.config.compat.has(CompatApi::Esp)
}

fn answer_event(event: &SocketEvent<'_>, client: &SocketClient<'_>, context: &Context<'_>) -> Vec<SocketAction> {
    if client.identity.and_then(|identity| identity.expires).is_some_and(|expires| expires <= context.now) {
        let mut actions = deny(AccessDenied::Expired, None, context).actions(event.wants_ack);
        actions.push(SocketAction::Disconnect);
        return actions;
    }
    let answered = match event.name {
        "ping" => Ok(pong(event, context)),
        "subscribe" => subscribe(event, client, context),
        "unsubscribe" => unsubscribe(event, context),
        "get_stats" => Ok(stats(event, client, context)),
        "publish" => publish(event, client, context),
        unknown => {
            let shown = &unknown[..unknown.floor_char_boundary(SHOWN_NAME_BYTES_MAX)];
            Err(EspError { status: 404, error: "UnknownEvent", message: format!("there is no event {shown:?}") })
        }
    };
    answered.unwrap_or_else(|refused| refused.actions(event.wants_ack))
}

/// How much of an unknown event's name the answer shows, in bytes. A name may be as long as a message.
const SHOWN_NAME_BYTES_MAX: usize = 128;

/// The answer to a client's publications to `topics`.
fn describe_receipts(topics: &[Topic], receipts: &[Receipt], (is_esp, wants_ack): (bool, bool)) -> Vec<SocketAction> {
    let describe = |(topic, receipt): (&Topic, &Receipt)| match receipt {
        Ok(id) => {
            let id = id.map(|id| id.to_string());
            answer("published", object(&[name_topic(topic, is_esp), ("id", id.into())]), wants_ack)
        }
        Err(failed) => {
            let (status, _, message) = describe_failure(*failed);
            let error = match status {
                429 => "QuotaExceeded",
                503 => "ServiceUnavailable",
                _ => "UnknownOutcome",
            };
            EspError { status, error, message: message.into_owned() }.actions(wants_ack)
        }
    };
    topics.iter().zip(receipts).flat_map(describe).collect()
}

fn pong(event: &SocketEvent<'_>, context: &Context<'_>) -> Vec<SocketAction> {
    let data = object(&[("timestamp", context.hub.timestamp(context.now).into())]);
    answer("pong", data, event.wants_ack)
}

fn subscribe(
    event: &SocketEvent<'_>,
    client: &SocketClient<'_>,
    context: &Context<'_>,
) -> Result<Vec<SocketAction>, EspError> {
    let TopicArguments { topic, since } = parse_topic_arguments(event.arguments, is_esp(context))?;
    access::may_subscribe(client.identity, &topic).map_err(|denied| deny(denied, Some(&topic), context))?;
    let done = answer("subscribed", describe_topic(&topic, context), event.wants_ack);
    if client.topics.contains(&topic) {
        // Subscribing again changes nothing, as joining a room again; but a subscription under way cannot begin elsewhere.
        return match since {
            None => Ok(done),
            Some(_) => Err(EspError::invalid("since: it is subscribed already; unsubscribe first")),
        };
    }
    if context.config.topics_per_connection_max <= client.topics.len() {
        return Err(too_many_topics());
    }
    let refused = too_many_topics().actions(event.wants_ack);
    Ok(vec![SocketAction::Subscribe { topic, start: since.unwrap_or_default(), done, refused }])
}

fn unsubscribe(event: &SocketEvent<'_>, context: &Context<'_>) -> Result<Vec<SocketAction>, EspError> {
    let TopicArguments { topic, .. } = parse_topic_arguments(event.arguments, is_esp(context))?;
    let done = answer("unsubscribed", describe_topic(&topic, context), event.wants_ack);
    // As in leaving a room, a client that is not subscribed gets the same answer.
    let refused = answer("unsubscribed", describe_topic(&topic, context), event.wants_ack);
    Ok(vec![SocketAction::Unsubscribe { topic, done, refused }])
}

fn too_many_topics() -> EspError {
    let message = "this client listens to as many topics as it may, or is about to listen to this one".to_owned();
    EspError { status: 400, error: "TooManyTopics", message }
}

fn stats(event: &SocketEvent<'_>, client: &SocketClient<'_>, context: &Context<'_>) -> Vec<SocketAction> {
    let names: Vec<Value> = client.topics.iter().map(|topic| name_topic(topic, is_esp(context)).1).collect();
    let mut fields = vec![
        ("connected_at", context.hub.timestamp(client.since).into()),
        ("message_count", client.messages.into()),
        ("subscriptions", names.into()),
    ];
    // Without tokens everybody may see the figures, which /stats shows anyway.
    if client.identity.is_none_or(Identity::is_admin) {
        fields.push(("server", health::stats(context)));
    }
    answer("stats", object(&fields), event.wants_ack)
}

fn publish(
    event: &SocketEvent<'_>,
    client: &SocketClient<'_>,
    context: &Context<'_>,
) -> Result<Vec<SocketAction>, EspError> {
    let PublishArguments { topic, kind, data } = parse_publish(event.arguments, is_esp(context))?;
    access::may_publish(client.identity, &topic).map_err(|denied| deny(denied, Some(&topic), context))?;
    if is_reserved(kind.as_deref()) {
        return Err(EspError::invalid(format!("type: {RESERVED_KIND}")));
    }
    context.hub.bus.check(kind.as_deref(), &data).map_err(|refused| match refused {
        PublishRefused::TooBig => EspError { status: 413, error: "TooBig", message: "data is over the limit".into() },
        PublishRefused::BadKind => EspError::invalid(format!("type: {}", BAD_KIND)),
        PublishRefused::NotUtf8 => EspError::invalid("data: the payload must be UTF-8 text"),
        PublishRefused::NoRoom | PublishRefused::Quota(_) => {
            let message = "the memory budget is spent; try again later".to_owned();
            EspError { status: 503, error: "ServiceUnavailable", message }
        }
    })?;
    let (form, topics) = ((is_esp(context), event.wants_ack), [topic.clone()]);
    let batch = vec![CheckedEvent { topic, kind, payload: Payload::json(data), idempotency_key: None }];
    let complete = Box::new(move |receipts: &[Receipt]| describe_receipts(&topics, receipts, form));
    Ok(vec![SocketAction::Publish(SocketPublication { batch, complete })])
}

/// The event `name`, and an acknowledgement with the same data if the client wants one.
fn answer(name: &'static str, data: String, wants_ack: bool) -> Vec<SocketAction> {
    let ack = wants_ack.then(|| SocketAction::Ack(vec![data.clone()]));
    let emit = SocketAction::Emit(Emit::new(name, data));
    [emit].into_iter().chain(ack).collect()
}

impl EspError {
    fn actions(&self, wants_ack: bool) -> Vec<SocketAction> {
        answer("error", self.json(), wants_ack)
    }
}

fn describe_topic(topic: &Topic, context: &Context<'_>) -> String {
    object(&[name_topic(topic, is_esp(context)), ("timestamp", context.hub.timestamp(context.now).into())])
}

/// A topic as the platform names it: a well by its id, any other topic by its name.
fn name_topic(topic: &Topic, is_esp: bool) -> (&'static str, Value) {
    match well_of(topic).filter(|_| is_esp) {
        Some(well_id) => ("well_id", well_id.into()),
        None => ("topic", topic.as_str().into()),
    }
}

#[cfg(test)]
mod tests;
