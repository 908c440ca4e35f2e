//! The Socket.IO application: what the ESP IoT platform's clients may ask for by events, and what they are answered.
//! Pure: it decides, and the reactor carries out what it decides. Events of topics reach clients from the logs, without it.
//!
//! Every answer is an event, as the platform's clients expect; a client that asked for an acknowledgement gets the same
//! object by that as well. What a client does wrong is answered by `error` with `{"error","message"}`.
//!
//! | event | argument | answer |
//! |---|---|---|
//! | `ping` | | `pong` `{timestamp}` |
//! | `subscribe` | `{well_id}` or `{topic}`, `since` | `subscribed` `{well_id or topic, timestamp}` |
//! | `unsubscribe` | `{well_id}` or `{topic}` | `unsubscribed` `{well_id or topic, timestamp}` |
//! | `get_stats` | | `stats` `{connected_at, message_count, subscriptions}`; for the role `admin` also `server` |
//! | `publish` | `{well_id}` or `{topic}`, `type`, `data` | `published` `{well_id or topic, id}` |

mod arguments;

use std::{borrow::Cow, sync::Arc};

use serde_json::{Value, value::RawValue};

use super::{
    Context, access, health,
    publish::{Outgoing, describe_failure},
    wells::{Refused, object, well_of},
};
use crate::{
    auth::Identity,
    bus::{PublishRefused, Receipt, Waiting},
    clock::Moment,
    event::Start,
    metrics::ReactorMetrics,
    topic::Topic,
};
use arguments::{Publish, Target, parse_publish, parse_target, parse_token};

/// An event for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its argument, JSON text; `None`: it has none.
    pub data: Option<String>,
}

/// A client that is let in.
#[derive(Debug)]
pub struct Welcome {
    /// Who it is; `None` where nobody has to say so.
    pub identity: Option<Arc<Identity>>,
    /// What it is told first, after the protocol's own answer.
    pub emits: Vec<Emit>,
}

/// A client that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRefused {
    /// For people.
    pub message: String,
    /// For programs: JSON text.
    pub data: Option<String>,
}

/// A client connects to `namespace`, with this `auth` object.
pub fn connect(namespace: &str, auth: Option<&RawValue>, context: &Context<'_>) -> Result<Welcome, ConnectRefused> {
    let esp = &context.hub.config.esp;
    if !esp.namespaces.iter().any(|served| served == namespace) {
        // The words of the protocol's own servers.
        return Err(ConnectRefused { message: "Invalid namespace".to_owned(), data: None });
    }
    let token = parse_token(auth);
    let identity = context.hub.auth.identify(token.as_deref(), context.now).map_err(|denied| {
        let refused = Refused::of_denied(denied);
        ConnectRefused { data: Some(refused.json()), message: refused.message }
    })?;
    let known = identity.as_deref();
    let data = object(&[
        ("message", format!("Connected to {}", esp.platform).into()),
        ("user_id", known.map(|identity| &*identity.subject).into()),
        ("username", known.map(Identity::name).into()),
        ("timestamp", context.hub.timestamp(context.now).into()),
    ]);
    Ok(Welcome { identity, emits: vec![Emit { name: Cow::Borrowed("connected"), data: Some(data) }] })
}

/// An event of a client.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments; binary attachments stand in them as `{"$binary":"<base64>"}`.
    pub arguments: &'a [&'a RawValue],
    /// Whether the client waits for an acknowledgement.
    pub wants_ack: bool,
}

/// Who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// When it connected.
    pub connected_at_unix_ms: u64,
    /// How many messages it has sent.
    pub message_count: u64,
    /// What it listens to, or is about to.
    pub subscriptions: &'a [Topic],
    /// Who it is; `None` where nobody has to say so.
    pub identity: Option<&'a Identity>,
}

/// What is to be done about an event. In the order in which they stand.
#[derive(Debug)]
pub enum Reply {
    /// Send this event.
    Emit(Emit),
    /// Acknowledge with these arguments, JSON texts. Only if the client asked for it.
    Ack(Vec<String>),
    /// Subscribe, and once that has begun do the rest.
    Subscribe {
        /// To this. The client does not listen to it yet.
        topic: Topic,
        /// From here.
        start: Start,
        /// Before any event of the topic.
        done: Vec<Self>,
    },
    /// Unsubscribe, and then do the rest.
    Unsubscribe {
        /// From this. The client listens to it, or is about to.
        topic: Topic,
        /// After the last event of the topic.
        done: Vec<Self>,
    },
    /// Publish, by [`super::submit`]; [`complete_publish`] answers with the receipts.
    Publish {
        /// All of it, or nothing.
        batch: Vec<Outgoing>,
    },
    /// Disconnect the client from the namespace.
    Disconnect,
}

/// Answers an event.
pub fn answer_event(event: &Incoming<'_>, client: &Client<'_>, context: &Context<'_>) -> Vec<Reply> {
    if client.identity.and_then(|identity| identity.expires).is_some_and(|expires| expires <= context.now) {
        let mut replies = Refused::of_denied(crate::auth::Denied::Expired).replies(event.wants_ack);
        replies.push(Reply::Disconnect);
        return replies;
    }
    let answered = match event.name {
        "ping" => Ok(pong(event, context)),
        "subscribe" => subscribe(event, client, context),
        "unsubscribe" => unsubscribe(event, client, context),
        "get_stats" => Ok(stats(event, client, context)),
        "publish" => publish(event, client, context),
        unknown => {
            Err(Refused { status: 404, error: "UnknownEvent", message: format!("there is no event {unknown:?}") })
        }
    };
    answered.unwrap_or_else(|refused| refused.replies(event.wants_ack))
}

/// An `error` event, and the same as an acknowledgement if the client `wants_ack`: for what the reactor itself finds.
pub fn error(name: &'static str, message: &str, wants_ack: bool) -> Vec<Reply> {
    Refused { status: 400, error: name, message: message.to_owned() }.replies(wants_ack)
}

/// The answer to an event that came too soon after others, and is ignored.
pub fn rate_limited(wants_ack: bool) -> Vec<Reply> {
    error("RateLimited", "too many messages; this one was ignored", wants_ack)
}

/// The answer to a `publish` whose receipts are in. Called on the reactor that owns `metrics`.
pub fn complete_publish(
    waiting: &Waiting,
    receipts: &[Receipt],
    wants_ack: bool,
    metrics: &ReactorMetrics,
    now: Moment,
) -> Vec<Reply> {
    let complete = |(topic, receipt): (&Topic, &Receipt)| {
        metrics.on_publish(now.since(waiting.began));
        match receipt {
            Ok(id) => {
                let id = id.map(|id| id.to_string());
                answer("published", object(&[name_topic(topic), ("id", id.into())]), wants_ack)
            }
            Err(failed) => {
                let (status, _, message) = describe_failure(*failed);
                let error = if status == 503 { "ServiceUnavailable" } else { "UnknownOutcome" };
                Refused { status, error, message: message.to_owned() }.replies(wants_ack)
            }
        }
    };
    waiting.topics.iter().zip(receipts).flat_map(complete).collect()
}

fn pong(event: &Incoming<'_>, context: &Context<'_>) -> Vec<Reply> {
    let data = object(&[("timestamp", context.hub.timestamp(context.now).into())]);
    answer("pong", data, event.wants_ack)
}

fn subscribe(event: &Incoming<'_>, client: &Client<'_>, context: &Context<'_>) -> Result<Vec<Reply>, Refused> {
    let Target { topic, since } = parse_target(event.arguments)?;
    access::may_subscribe(client.identity, &topic).map_err(Refused::of_denied)?;
    let done = answer("subscribed", describe_topic(&topic, context), event.wants_ack);
    if client.subscriptions.contains(&topic) {
        // As often as one likes, like joining a room; but no place can be chosen while events come.
        return match since {
            None => Ok(done),
            Some(_) => Err(Refused::invalid("since: it is subscribed already; unsubscribe first")),
        };
    }
    if context.hub.config.topics_per_connection_max <= client.subscriptions.len() {
        let message = "this client listens to as many topics as it may".to_owned();
        return Err(Refused { status: 400, error: "TooManyTopics", message });
    }
    Ok(vec![Reply::Subscribe { topic, start: since.unwrap_or_default(), done }])
}

fn unsubscribe(event: &Incoming<'_>, client: &Client<'_>, context: &Context<'_>) -> Result<Vec<Reply>, Refused> {
    let Target { topic, .. } = parse_target(event.arguments)?;
    let done = answer("unsubscribed", describe_topic(&topic, context), event.wants_ack);
    if client.subscriptions.contains(&topic) { Ok(vec![Reply::Unsubscribe { topic, done }]) } else { Ok(done) }
}

fn stats(event: &Incoming<'_>, client: &Client<'_>, context: &Context<'_>) -> Vec<Reply> {
    let names: Vec<Value> = client.subscriptions.iter().map(|topic| name_topic(topic).1).collect();
    let mut fields = vec![
        ("connected_at", super::format_timestamp(client.connected_at_unix_ms).into()),
        ("message_count", client.message_count.into()),
        ("subscriptions", names.into()),
    ];
    // Where nobody has to say who he is, everybody may do everything, and /stats says it anyway.
    if client.identity.is_none_or(Identity::is_admin) {
        fields.push(("server", health::stats(context)));
    }
    answer("stats", object(&fields), event.wants_ack)
}

fn publish(event: &Incoming<'_>, client: &Client<'_>, context: &Context<'_>) -> Result<Vec<Reply>, Refused> {
    let Publish { topic, kind, data } = parse_publish(event.arguments)?;
    access::may_publish(client.identity, &topic).map_err(Refused::of_denied)?;
    context.hub.bus.check(kind.as_deref(), &data).map_err(|refused| match refused {
        PublishRefused::TooBig => Refused { status: 413, error: "TooBig", message: "data is over the limit".into() },
        PublishRefused::BadKind => Refused::invalid(format!("type: {}", super::publish::BAD_KIND)),
        PublishRefused::NotUtf8 => Refused::invalid("data: the payload must be UTF-8 text"),
        PublishRefused::NoRoom => {
            let message = "the memory budget is spent; try again later".to_owned();
            Refused { status: 503, error: "ServiceUnavailable", message }
        }
    })?;
    Ok(vec![Reply::Publish { batch: vec![Outgoing { topic, kind, data, idempotency_key: None }] }])
}

/// The event `name`, and the same as an acknowledgement if there is to be one.
fn answer(name: &'static str, data: String, wants_ack: bool) -> Vec<Reply> {
    let ack = wants_ack.then(|| Reply::Ack(vec![data.clone()]));
    let emit = Reply::Emit(Emit { name: Cow::Borrowed(name), data: Some(data) });
    [emit].into_iter().chain(ack).collect()
}

impl Refused {
    fn replies(&self, wants_ack: bool) -> Vec<Reply> {
        answer("error", self.json(), wants_ack)
    }
}

fn describe_topic(topic: &Topic, context: &Context<'_>) -> String {
    object(&[name_topic(topic), ("timestamp", context.hub.timestamp(context.now).into())])
}

/// A topic in the platform's terms: a well by its id, any other by its name.
fn name_topic(topic: &Topic) -> (&'static str, Value) {
    match well_of(topic) {
        Some(well_id) => ("well_id", well_id.into()),
        None => ("topic", topic.as_str().into()),
    }
}

#[cfg(test)]
mod tests;
