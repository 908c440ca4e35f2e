//! Commands: what a client asks for.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    event::{BadStart, Start},
    json::{self, LONG_TEXT_BYTES, Members},
    topic::Topic,
};

use super::Text;

/// The `ref` of a command, any JSON value: echoed in the answer as it came.
pub type Reference<'a> = Option<&'a RawValue>;

/// One command, valid. Borrows from the message it was parsed from.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// Deliver a topic's events from now on, or from where `since` says.
    Subscribe {
        topic: Topic,
        /// Where to begin.
        start: Start,
        reference: Reference<'a>,
    },
    /// Deliver a topic's events no more.
    Unsubscribe { topic: Topic, reference: Reference<'a> },
    /// Publish an event.
    Publish {
        topic: Topic,
        /// The event's type: neither empty nor with line breaks.
        kind: Option<Cow<'a, str>>,
        /// The payload: JSON text, verbatim.
        data: &'a str,
        /// Under the same key, a repeat delivers nothing.
        idempotency_key: Option<Cow<'a, str>>,
        reference: Reference<'a>,
    },
    /// Answer.
    Ping { reference: Reference<'a> },
    /// Tell the hub's figures.
    Stats { reference: Reference<'a> },
    /// Take this token from now on.
    Auth { token: Cow<'a, str>, reference: Reference<'a> },
}

/// Why a message is no command: what the `error` that answers it says.
#[derive(Clone, Debug)]
pub struct BadCommand<'a> {
    /// For programs: one of [`code`].
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The message's `ref`, if it could be read.
    pub reference: Reference<'a>,
}

/// The codes of `error` that this module itself gives.
pub mod code {
    /// Not JSON, not an object, a field missing, unknown or of the wrong type.
    pub const BAD_REQUEST: &str = "BadRequest";
    /// An `op` that does not exist.
    pub(crate) const UNKNOWN_OP: &str = "UnknownOp";
    /// A topic's name breaks the rules.
    pub(crate) const BAD_TOPIC: &str = "BadTopic";
    /// `since` is no place to begin at.
    pub(crate) const BAD_EVENT_ID: &str = "BadEventId";
    /// An event type that is empty or has line breaks.
    pub(crate) const BAD_TYPE: &str = "BadType";
    /// An idempotency key that is empty.
    pub const BAD_IDEMPOTENCY_KEY: &str = "BadIdempotencyKey";
}

impl<'a> Command<'a> {
    /// Parses one text message. A field that the command does not have is refused rather than passed over: a misspelt
    /// `since` would silently lose what it asks for.
    pub fn parse(message: &'a str) -> Result<Self, BadCommand<'a>> {
        let Head { op, reference } = parse_fields(message)?;
        let result = match &*op.0 {
            "subscribe" => parse_subscribe(message, reference),
            "unsubscribe" => parse_unsubscribe(message, reference),
            "publish" => parse_publish(message, reference),
            "ping" => parse_fields(message).map(|Bare { .. }| Self::Ping { reference }),
            "stats" => parse_fields(message).map(|Bare { .. }| Self::Stats { reference }),
            "auth" => parse_fields(message).map(|Auth { token, .. }| Self::Auth { token: token.0, reference }),
            unknown => Err(refused(code::UNKNOWN_OP, format!("there is no op {unknown:?}"))),
        };
        result.map_err(|refused| BadCommand { reference, ..refused })
    }

    /// The same for a message longer than [`LONG_TEXT_BYTES`], which was checked to be JSON: a publication, with the fields
    /// of one. Reads it once.
    pub fn parse_long(message: &'a str) -> Result<Self, BadCommand<'a>> {
        let bad = |message: String| refused(code::BAD_REQUEST, message);
        let members = Members::of(message).ok_or_else(|| bad("a command is a JSON object".to_owned()))?;
        let (mut values, mut scratch) = ([None; LONG_FIELDS.len()], String::new());
        for (name, value) in members {
            let text = json::decode_with(name, &mut scratch).unwrap_or_default();
            let Some(field) = LONG_FIELDS.iter().position(|field| *field == text) else {
                let shown = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES_MAX)];
                let message = format!("unknown field {shown}: a message this long is `publish`, with its own fields");
                return Err(bad(message));
            };
            if LONG_FIELDS[field] != "data" && LONG_TEXT_BYTES < value.len() {
                return Err(bad(format!("`{text}` is longer than {LONG_TEXT_BYTES} bytes")));
            }
            if values[field].replace(value).is_some() {
                return Err(bad(format!("`{text}` is given twice")));
            }
        }
        let [op, reference, topic, kind, data, idempotency_key] = values;
        // It was checked to be JSON, and is short.
        let reference = reference.filter(|text| *text != "null");
        let reference: Reference<'a> = reference.and_then(|text| serde_json::from_str(text).ok());
        let text_of = |value: Option<&'a str>, name: &str| match value {
            None | Some("null") => Ok(None),
            Some(value) => json::decode(value).map(Some).ok_or_else(|| bad(format!("`{name}` is a string"))),
        };
        let required =
            |value: Option<Cow<'a, str>>, name: &str| value.ok_or_else(|| bad(format!("`{name}` is missing")));
        let parse = || {
            if required(text_of(op, "op")?, "op")? != "publish" {
                return Err(bad(format!("only `publish` may be longer than {LONG_TEXT_BYTES} bytes")));
            }
            let topic = required(text_of(topic, "topic")?, "topic")?;
            let data = data.ok_or_else(|| bad("`data` is missing".to_owned()))?;
            let (kind, key) = (text_of(kind, "type")?, text_of(idempotency_key, "idempotency_key")?);
            publication(&topic, kind, data, key, reference)
        };
        parse().map_err(|refused| BadCommand { reference, ..refused })
    }
}

/// The fields of a long message.
const LONG_FIELDS: [&str; 6] = ["op", "ref", "topic", "type", "data", "idempotency_key"];
/// How much of an unknown field's name is shown to whoever sent it: a name may be as long as a message.
const SHOWN_NAME_BYTES_MAX: usize = 128;

/// The `ref` of a message that is not looked at any further. Only short messages are searched for one, so that whoever
/// sends too much costs little; a command is short, unless it publishes.
pub(crate) fn reference_of(message: &str) -> Reference<'_> {
    if REFERENCE_SEARCH_BYTES_MAX < message.len() {
        return None;
    }
    parse_fields(message).ok().and_then(|Tag { reference }| reference)
}

const REFERENCE_SEARCH_BYTES_MAX: usize = 4 * 1024;

fn parse_subscribe<'a>(message: &'a str, reference: Reference<'a>) -> Result<Command<'a>, BadCommand<'a>> {
    let Subscribe { topic, since, .. } = parse_fields(message)?;
    let topic = parse_topic(&topic.0)?;
    let start = since.map_or(Ok(Start::Live), |since| parse_since(&since.0))?;
    Ok(Command::Subscribe { topic, start, reference })
}

fn parse_unsubscribe<'a>(message: &'a str, reference: Reference<'a>) -> Result<Command<'a>, BadCommand<'a>> {
    let Unsubscribe { topic, .. } = parse_fields(message)?;
    Ok(Command::Unsubscribe { topic: parse_topic(&topic.0)?, reference })
}

fn parse_publish<'a>(message: &'a str, reference: Reference<'a>) -> Result<Command<'a>, BadCommand<'a>> {
    let Publish { topic, kind, data, idempotency_key, .. } = parse_fields(message)?;
    let (kind, idempotency_key) = (kind.map(|kind| kind.0), idempotency_key.map(|key| key.0));
    publication(&topic.0, kind, data.get(), idempotency_key, reference)
}

fn publication<'a>(
    topic: &str,
    kind: Option<Cow<'a, str>>,
    data: &'a str,
    idempotency_key: Option<Cow<'a, str>>,
    reference: Reference<'a>,
) -> Result<Command<'a>, BadCommand<'a>> {
    let topic = parse_topic(topic)?;
    // An empty one is none.
    let kind = kind.filter(|kind| !kind.is_empty());
    if kind.as_ref().is_some_and(|kind| kind.contains(['\r', '\n'])) {
        return Err(refused(code::BAD_TYPE, "a type has no line breaks".to_owned()));
    }
    if idempotency_key.as_ref().is_some_and(|key| key.is_empty()) {
        return Err(refused(code::BAD_IDEMPOTENCY_KEY, "an idempotency key is not empty".to_owned()));
    }
    Ok(Command::Publish { topic, kind, data, idempotency_key, reference })
}

fn parse_topic<'a>(name: &str) -> Result<Topic, BadCommand<'a>> {
    Topic::parse(name).map_err(|bad| refused(code::BAD_TOPIC, bad.to_string()))
}

fn parse_since<'a>(since: &str) -> Result<Start, BadCommand<'a>> {
    since.parse().map_err(|bad: BadStart| refused(code::BAD_EVENT_ID, bad.to_string()))
}

fn parse_fields<'a, T: Deserialize<'a>>(message: &'a str) -> Result<T, BadCommand<'a>> {
    // serde would also take the fields in order, from an array.
    if !message.trim_ascii_start().starts_with('{') {
        return Err(refused(code::BAD_REQUEST, "a command is a JSON object".to_owned()));
    }
    serde_json::from_str(message).map_err(|error| refused(code::BAD_REQUEST, error.to_string()))
}

fn refused<'a>(code: &'static str, message: String) -> BadCommand<'a> {
    BadCommand { code, message, reference: None }
}

/// What every command has. The first pass reads it alone, so that whatever is wrong elsewhere, the answer has its `ref`.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    op: Text<'a>,
    #[serde(borrow, rename = "ref")]
    reference: Reference<'a>,
}

/// The `ref` alone, whatever else there is.
#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow, rename = "ref")]
    reference: Reference<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(borrow)]
    since: Option<Text<'a>>,
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    idempotency_key: Option<Text<'a>>,
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth<'a> {
    #[serde(borrow)]
    token: Text<'a>,
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: Option<IgnoredAny>,
}

/// A command without fields of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: Option<IgnoredAny>,
}
