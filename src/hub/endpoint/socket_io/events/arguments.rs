//! The arguments of events: one JSON object each. Unknown members are ignored.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    endpoint::compat::esp::wells::{EspError, well_topic},
    event::{BadStart, Start},
    json::{self, Members},
    protocol::socket_io::Args,
    topic::Topic,
};

/// The arguments of `subscribe` and `unsubscribe`.
#[derive(Debug)]
pub(super) struct TopicArguments {
    pub(super) topic: Topic,
    /// Where to begin, if the client says so.
    pub(super) since: Option<Start>,
}

/// The arguments of `publish`.
#[derive(Debug)]
pub(super) struct PublishArguments {
    pub(super) topic: Topic,
    pub(super) kind: Option<Box<str>>,
    /// JSON text, verbatim.
    pub(super) data: Bytes,
}

/// The token in the `auth` object of a client that connects. A token that is not a string counts as a wrong token, not as none.
pub(super) fn parse_token(auth: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct AuthPayload {
        token: Option<String>,
    }
    let auth = auth.filter(|auth| auth.get() != "null")?;
    serde_json::from_str(auth.get()).map_or_else(|_| Some(String::new()), |AuthPayload { token }| token)
}

/// Reads the arguments of `subscribe` and `unsubscribe`. `is_esp`: a well's id may stand for its topic.
pub(super) fn parse_topic_arguments(arguments: Args<'_>, is_esp: bool) -> Result<TopicArguments, EspError> {
    let Arguments { well_id, topic, since, .. } = parse_object(arguments)?;
    let since = since.map(|since| since.parse().map_err(|bad: BadStart| EspError::invalid(format!("since: {bad}"))));
    Ok(TopicArguments {
        topic: choose_topic(well_id.as_deref().filter(|_| is_esp), topic.as_deref(), is_esp)?,
        since: since.transpose()?,
    })
}

/// Reads the arguments of `publish`. `is_esp`: a well's id may stand for its topic.
pub(super) fn parse_publish(arguments: Args<'_>, is_esp: bool) -> Result<PublishArguments, EspError> {
    let Arguments { well_id, topic, kind, data, .. } = parse_object(arguments)?;
    let topic = choose_topic(well_id.as_deref().filter(|_| is_esp), topic.as_deref(), is_esp)?;
    let data = data.ok_or_else(|| EspError::invalid("data is required"))?;
    // An empty type is no type.
    let kind = kind.filter(|kind| !kind.is_empty()).map(String::into_boxed_str);
    Ok(PublishArguments { topic, kind, data: Bytes::copy_from_slice(data.as_bytes()) })
}

/// The members of an argument that have a meaning.
#[derive(Default)]
struct Arguments<'a> {
    well_id: Option<String>,
    topic: Option<String>,
    since: Option<String>,
    kind: Option<String>,
    /// JSON. `null` is a payload like any other.
    data: Option<&'a str>,
}

/// Reads the first argument; without one, an object without members. The others are ignored.
fn parse_object(arguments: Args<'_>) -> Result<Arguments<'_>, EspError> {
    let list = arguments.list();
    let mut named = Arguments::default();
    // Among JSON values only `null` begins with an n.
    if list.is_empty() || list.starts_with('n') {
        return Ok(named);
    }
    let members = Members::of(list).ok_or_else(|| EspError::invalid("the argument is an object"))?;
    let mut scratch = String::new();
    for (count, (name, value)) in members.enumerate() {
        if count == MEMBERS_MAX {
            return Err(EspError::invalid(format!("the argument has more than {MEMBERS_MAX} members")));
        }
        match json::decode_with(name, &mut scratch) {
            Some("well_id") => put_text("well_id", value, &mut named.well_id)?,
            Some("topic") => put_text("topic", value, &mut named.topic)?,
            Some("since") => put_text("since", value, &mut named.since)?,
            Some("type") => put_text("type", value, &mut named.kind)?,
            Some("data") if named.data.is_some() => return Err(named_twice("data")),
            Some("data") => named.data = Some(value),
            _ => {}
        }
    }
    Ok(named)
}

/// The most members of an argument: each costs the same, however short it is. What a client publishes is in `data`, which has no
/// such bound.
const MEMBERS_MAX: usize = 1024;

/// Puts the JSON string `value` into `field`. `null` counts as absent.
fn put_text(name: &str, value: &str, field: &mut Option<String>) -> Result<(), EspError> {
    if field.is_some() {
        return Err(named_twice(name));
    }
    if value != "null" {
        let text = json::decode(value).ok_or_else(|| EspError::invalid(format!("{name} is a string")))?;
        *field = Some(text.into_owned());
    }
    Ok(())
}

fn named_twice(name: &str) -> EspError {
    EspError::invalid(format!("{name} is given twice"))
}

fn choose_topic(well_id: Option<&str>, topic: Option<&str>, is_esp: bool) -> Result<Topic, EspError> {
    match (well_id, topic) {
        (None | Some(""), None) => {
            Err(EspError::invalid(if is_esp { "well_id is required" } else { "topic is required" }))
        }
        (Some(well_id), None) => well_topic(well_id).map_err(EspError::invalid),
        (None, Some(topic)) => Topic::parse(topic).map_err(|bad| EspError::invalid(format!("topic: {bad}"))),
        (Some(_), Some(_)) => Err(EspError::invalid("well_id and topic exclude each other")),
    }
}
