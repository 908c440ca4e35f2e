//! Reads the body of a broadcast, and writes the event that it becomes.

use std::borrow::Cow;

use super::response::ApiError;
use crate::{
    json::{self, BadJson, Members, Traits},
    protocol::EventData,
};

/// A broadcast, as its body says it. `message` and `data` are passed on as they are written. All valid JSON reaches the readers
/// byte by byte: numbers of any size and precision, arrays of any depth, and escapes of single surrogates.
#[derive(Debug, PartialEq)]
pub(super) struct Broadcast<'a> {
    /// The stream's name. `None`: all streams.
    pub(super) stream: Option<Cow<'a, str>>,
    pub(super) kind: Cow<'a, str>,
    /// A JSON string, not empty.
    pub(super) message: &'a str,
    /// A JSON object, not empty.
    pub(super) data: Option<Cow<'a, str>>,
}

impl<'a> Broadcast<'a> {
    /// Reads a body, whose check by [`json::check`] had the result `checked`. If a name is given several times, the last one
    /// counts.
    pub(super) fn parse(text: &'a str, checked: Result<Traits, BadJson>) -> Result<Self, ApiError> {
        let traits = checked.map_err(bad_json)?;
        let members =
            Members::of(text).ok_or_else(|| ApiError::new(400, "bad_json", "the body must be a JSON object", None))?;
        let (mut stream, mut kind, mut message, mut data) = (None, None, None, None);
        let mut scratch = String::new();
        for (count, (name, value)) in members.enumerate() {
            if count == MEMBERS_MAX {
                let message = format!("the body has more than {MEMBERS_MAX} members");
                return Err(ApiError::new(400, "too_many_fields", message, None));
            }
            match json::decode_with(name, &mut scratch) {
                Some("stream_id") => stream = Some(value),
                Some("type") => kind = Some(value),
                Some("message") => message = Some(value),
                Some("data") => data = Some(value),
                _ => {}
            }
        }
        let stream = read_text(take_text(stream, "stream_id")?, "stream_id")?;
        let (kind, message) = (take_text(kind, "type")?, take_text(message, "message")?);
        let kind = required(read_text(kind, "type")?, "type")?;
        let message = required(message, "message")?;
        match data {
            None | Some("null") => Ok(Self { stream, kind, message, data: None }),
            Some(data) if data.starts_with('{') => {
                let data = if traits.has_space { compact(data) } else { Cow::Borrowed(data) };
                Ok(Self { stream, kind, message, data: Some(data).filter(|data| data != "{}") })
            }
            Some(_) => Err(ApiError::new(400, "bad_data", "data must be a JSON object", Some("data"))),
        }
    }

    /// Writes the event that all streams share, made at the Unix second `at_s`: the JSON of an [`EventData`] without `stream_id`
    /// and without its last brace.
    pub(super) fn write_event(&self, at_s: i64) -> String {
        let id = EventData::id_of(rand::random());
        let data = self.data.as_deref().unwrap_or_default();
        let kind = serde_json::Value::from(&*self.kind);
        let mut event = String::with_capacity(data.len() + self.message.len() + EVENT_BYTES);
        event.push_str(&format!("{{\"id\":\"{id}\",\"type\":{kind},\"message\":"));
        event.push_str(self.message);
        if !data.is_empty() {
            event.push_str(",\"data\":");
            event.push_str(data);
        }
        event.push_str(&format!(",\"timestamp\":{at_s}"));
        event
    }
}

/// The most members of a body: each costs the same, however short it is. What a client has to say is in `data`, which has no such
/// bound.
const MEMBERS_MAX: usize = 1024;

/// The body as text.
pub(super) fn text_of(body: &[u8]) -> Result<&str, ApiError> {
    simdutf8::basic::from_utf8(body).map_err(|_| bad_json("it is not UTF-8"))
}

/// The space reserved for an event besides its message and its data, in bytes. A generous guess that spares reallocations.
const EVENT_BYTES: usize = 512;

/// Removes spaces and line breaks, because an event is one line.
fn compact(object: &str) -> Cow<'_, str> {
    let mut text = String::with_capacity(object.len());
    json::write_compact(object, &mut text);
    Cow::Owned(text)
}

fn bad_json(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(400, "bad_json", format!("the body is not JSON: {why}"), None)
}

/// The JSON string of the member `name`, if it is there and not empty.
fn take_text<'a>(value: Option<&'a str>, name: &'static str) -> Result<Option<&'a str>, ApiError> {
    match value {
        None | Some("null" | "\"\"") => Ok(None),
        Some(text) if text.starts_with('"') => Ok(Some(text)),
        Some(_) => Err(ApiError::new(400, "bad_field", format!("{name} must be a string"), Some(name))),
    }
}

/// Decodes the JSON string of the member `name`.
fn read_text<'a>(text: Option<&'a str>, name: &'static str) -> Result<Option<Cow<'a, str>>, ApiError> {
    let read = |text| {
        let half = || format!("{name} has an escape that stands for one half of a character");
        json::decode(text).ok_or_else(|| ApiError::new(400, "bad_field", half(), Some(name)))
    };
    text.map(read).transpose()
}

fn required<T>(text: Option<T>, name: &'static str) -> Result<T, ApiError> {
    text.ok_or_else(|| ApiError::new(400, "missing_field", format!("{name} is required"), Some(name)))
}
