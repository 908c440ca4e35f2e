//! What a request to broadcast says, and the event that comes of it.

use std::borrow::Cow;

use super::response::ApiError;
use crate::{
    json::{self, BadJson, Members, Traits},
    protocol::EventData,
};

/// A request to broadcast, in the words of its body: `message` and `data` are sent on as they are written. All that JSON allows
/// passes, and reaches the readers with the bytes that it came with: numbers of any size and precision, arrays in arrays however
/// deep, and escapes that stand for one half of a character.
#[derive(Debug, PartialEq)]
pub(super) struct Broadcast<'a> {
    /// `None`: all of them.
    pub(super) stream: Option<Cow<'a, str>>,
    pub(super) kind: Cow<'a, str>,
    /// A JSON string, not empty.
    pub(super) message: &'a str,
    /// A JSON object, not empty, if there is one.
    pub(super) data: Option<Cow<'a, str>>,
}

impl<'a> Broadcast<'a> {
    /// Reads a request's body, of which [`json::check`] says `checked`, and says what is wrong with it if it is not one. Of several
    /// members of one name the last counts.
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

    /// The event that all streams share, made at the Unix second `at_s`: an [`EventData`] without `stream_id`, as JSON but for its
    /// last brace.
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

/// Each member costs the same, however short it is. What a client has to say goes into `data`, which has no such bound.
const MEMBERS_MAX: usize = 1024;

/// The body as text.
pub(super) fn text_of(body: &[u8]) -> Result<&str, ApiError> {
    simdutf8::basic::from_utf8(body).map_err(|_| bad_json("it is not UTF-8"))
}

/// What an event takes besides its message and its data, by a generous guess: it only spares growing.
const EVENT_BYTES: usize = 512;

/// An event is one line.
fn compact(object: &str) -> Cow<'_, str> {
    let mut text = String::with_capacity(object.len());
    json::write_compact(object, &mut text);
    Cow::Owned(text)
}

fn bad_json(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(400, "bad_json", format!("the body is not JSON: {why}"), None)
}

/// The JSON string in `name`, if there is one that is not empty.
fn take_text<'a>(value: Option<&'a str>, name: &'static str) -> Result<Option<&'a str>, ApiError> {
    match value {
        None | Some("null" | "\"\"") => Ok(None),
        Some(text) if text.starts_with('"') => Ok(Some(text)),
        Some(_) => Err(ApiError::new(400, "bad_field", format!("{name} must be a string"), Some(name))),
    }
}

/// What a JSON string says that is to be understood here.
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
