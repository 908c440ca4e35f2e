//! The arguments of events: one JSON object each, whose further fields are nobody's concern.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{
    endpoint::wells::{Refused, well_topic},
    event::{BadStart, Start},
    topic::Topic,
};

/// What `subscribe` and `unsubscribe` are about.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) topic: Topic,
    /// Where to begin, if the client says so.
    pub(super) since: Option<Start>,
}

/// What is to be published.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) topic: Topic,
    pub(super) kind: Option<Box<str>>,
    /// JSON text, verbatim.
    pub(super) data: Bytes,
}

/// The token in the object that a client connects with. One that is no text is a wrong one, rather than none.
pub(super) fn parse_token(auth: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Auth {
        token: Option<String>,
    }
    let auth = auth.filter(|auth| auth.get() != "null")?;
    serde_json::from_str(auth.get()).map_or_else(|_| Some(String::new()), |Auth { token }| token)
}

pub(super) fn parse_target(arguments: &[&RawValue]) -> Result<Target, Refused> {
    let Named { well_id, topic, since, .. } = parse_object(arguments)?;
    let since = since.map(|since| since.parse().map_err(|bad: BadStart| Refused::invalid(format!("since: {bad}"))));
    Ok(Target { topic: choose_topic(well_id.as_deref(), topic.as_deref())?, since: since.transpose()? })
}

pub(super) fn parse_publish(arguments: &[&RawValue]) -> Result<Publish, Refused> {
    let Named { well_id, topic, kind, data, .. } = parse_object(arguments)?;
    let topic = choose_topic(well_id.as_deref(), topic.as_deref())?;
    let data = data.ok_or_else(|| Refused::invalid("data is required"))?;
    if kind.as_ref().is_some_and(String::is_empty) {
        return Err(Refused::invalid("type: an event's type is not empty"));
    }
    let data = Bytes::copy_from_slice(data.get().as_bytes());
    Ok(Publish { topic, kind: kind.map(String::into_boxed_str), data })
}

/// What an event may be about.
#[derive(Default, Deserialize)]
struct Named<'a> {
    well_id: Option<String>,
    topic: Option<String>,
    since: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow, default, deserialize_with = "take_present")]
    data: Option<&'a RawValue>,
}

/// A `null` is a payload like any other.
fn take_present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The first argument; without one, an object without fields.
fn parse_object<'a>(arguments: &[&'a RawValue]) -> Result<Named<'a>, Refused> {
    match arguments.first().map(|argument| argument.get()) {
        None | Some("null") => Ok(Named::default()),
        // serde would also take the fields in order, from an array.
        Some(text) if !text.starts_with('{') => Err(Refused::invalid("the argument is an object")),
        Some(text) => serde_json::from_str(text).map_err(|error| Refused::invalid(error.to_string())),
    }
}

fn choose_topic(well_id: Option<&str>, topic: Option<&str>) -> Result<Topic, Refused> {
    match (well_id, topic) {
        (None | Some(""), None) => Err(Refused::invalid("well_id is required")),
        (Some(well_id), None) => well_topic(well_id).map_err(Refused::invalid),
        (None, Some(topic)) => Topic::parse(topic).map_err(|bad| Refused::invalid(format!("topic: {bad}"))),
        (Some(_), Some(_)) => Err(Refused::invalid("well_id and topic exclude each other")),
    }
}
