//! The client's half, for the tools: commands out, the hub's messages in.

use std::{borrow::Cow, fmt};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{event::EventId, topic::Topic};

use super::{Reference, Text, encode::write_string};

/// One message of the hub. Borrows from the text it was parsed from; payloads stay JSON text.
#[derive(Clone, Debug)]
pub enum Envelope<'a> {
    /// Something was published.
    Event {
        topic: Cow<'a, str>,
        id: Cow<'a, str>,
        kind: Option<Cow<'a, str>>,
        /// Its payload: JSON text.
        data: &'a str,
    },
    /// The answer to `subscribe`.
    Subscribed {
        topic: Cow<'a, str>,
        /// The place from which events follow.
        id: Option<Cow<'a, str>>,
        reference: Reference<'a>,
    },
    /// The answer to `unsubscribe`.
    Unsubscribed { topic: Cow<'a, str>, reference: Reference<'a> },
    /// The answer to `publish`.
    Published {
        topic: Cow<'a, str>,
        /// The event's id, if it is known.
        id: Option<Cow<'a, str>>,
        reference: Reference<'a>,
    },
    /// The answer to `ping`.
    Pong { reference: Reference<'a> },
    /// The answer to `stats`.
    Stats { stats: &'a str, reference: Reference<'a> },
    /// Events are missing here.
    Gap {
        topic: Cow<'a, str>,
        /// The last id before the gap, if it is known.
        from: Option<Cow<'a, str>>,
        /// The last id in it, if it is known.
        to: Option<Cow<'a, str>>,
        reason: Cow<'a, str>,
    },
    /// A command, or the connection, was refused something.
    Error {
        /// For programs.
        code: Cow<'a, str>,
        /// For people.
        message: Cow<'a, str>,
        /// The command's, if it could be read.
        reference: Reference<'a>,
    },
}

/// A message that is none of the hub's.
#[derive(Debug)]
pub struct BadEnvelope(String);

impl fmt::Display for BadEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a {} message: {}", super::SUBPROTOCOL, self.0)
    }
}

impl std::error::Error for BadEnvelope {}

impl<'a> Envelope<'a> {
    /// Parses the payload of one text message. Fields that are not known are passed over, for hubs to come.
    pub fn parse(message: &'a [u8]) -> Result<Self, BadEnvelope> {
        let fields: Fields<'a> = serde_json::from_slice(message).map_err(|error| BadEnvelope(error.to_string()))?;
        let Fields { topic, id, kind, reference, .. } = fields;
        let (id, kind) = (id.map(|id| id.0), kind.map(|kind| kind.0));
        let topic = || required("topic", topic);
        Ok(match &*fields.op.0 {
            "event" => Self::Event {
                topic: topic()?,
                id: id.ok_or_else(|| missing("id"))?,
                kind,
                data: fields.data.ok_or_else(|| missing("data"))?.get(),
            },
            "subscribed" => Self::Subscribed { topic: topic()?, id, reference },
            "unsubscribed" => Self::Unsubscribed { topic: topic()?, reference },
            "published" => Self::Published { topic: topic()?, id, reference },
            "pong" => Self::Pong { reference },
            "stats" => Self::Stats { stats: fields.stats.ok_or_else(|| missing("stats"))?.get(), reference },
            "gap" => Self::Gap {
                topic: topic()?,
                from: fields.from.map(|id| id.0),
                to: fields.to.map(|id| id.0),
                reason: required("reason", fields.reason)?,
            },
            "error" => Self::Error {
                code: required("code", fields.code)?,
                message: required("message", fields.message)?,
                reference,
            },
            unknown => return Err(BadEnvelope(format!("there is no op {unknown:?}"))),
        })
    }
}

/// The fields of all messages together, which one pass reads.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    op: Text<'a>,
    #[serde(borrow)]
    topic: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_too")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    stats: Option<&'a RawValue>,
    #[serde(borrow)]
    from: Option<Text<'a>>,
    #[serde(borrow)]
    to: Option<Text<'a>>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    code: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    #[serde(borrow, rename = "ref")]
    reference: Reference<'a>,
}

/// A payload may be `null`, which is not the absence of one.
fn null_too<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn required<'a>(name: &str, text: Option<Text<'a>>) -> Result<Cow<'a, str>, BadEnvelope> {
    text.map(|text| text.0).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> BadEnvelope {
    BadEnvelope(format!("missing field `{name}`"))
}

/// Appends a `subscribe`. `reference`, here as in all commands, is JSON text, echoed in the answer.
pub fn write_subscribe(topic: &Topic, since: Option<EventId>, reference: Option<&str>, out: &mut Vec<u8>) {
    let since = since.map(|id| format!("\"{id}\""));
    write_command("subscribe", Some(topic), &[("since", since.as_deref()), ("ref", reference)], out);
}

/// Appends an `unsubscribe`.
pub fn write_unsubscribe(topic: &Topic, reference: Option<&str>, out: &mut Vec<u8>) {
    write_command("unsubscribe", Some(topic), &[("ref", reference)], out);
}

/// Appends a `publish`. `data` is JSON text.
pub fn write_publish(topic: &Topic, kind: Option<&str>, data: &str, reference: Option<&str>, out: &mut Vec<u8>) {
    let kind = kind.map(quote);
    let fields = [("type", kind.as_deref()), ("data", Some(data)), ("ref", reference)];
    write_command("publish", Some(topic), &fields, out);
}

/// Appends a `ping`.
pub fn write_ping(reference: Option<&str>, out: &mut Vec<u8>) {
    write_command("ping", None, &[("ref", reference)], out);
}

/// Appends a `stats`.
pub fn write_stats(reference: Option<&str>, out: &mut Vec<u8>) {
    write_command("stats", None, &[("ref", reference)], out);
}

/// `fields` are names and JSON texts.
fn write_command(op: &str, topic: Option<&Topic>, fields: &[(&str, Option<&str>)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":");
    write_string(op, out);
    if let Some(topic) = topic {
        out.extend_from_slice(b",\"topic\":");
        write_string(topic.as_str(), out);
    }
    for (name, text) in fields {
        let Some(text) = text else { continue };
        for part in [",\"", name, "\":", text] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.push(b'}');
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
