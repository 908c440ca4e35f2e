//! The payload of an event: an array of the event's name and its arguments.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    BadPacket, RESERVED_NAMES,
    packet::{NO_JSON, is_json_space},
};

/// An event's name: a string, or the digits of a number (some clients use these as names).
pub type EventName<'a> = Cow<'a, str>;

/// The arguments of an event or an acknowledgement: JSON values, each as the text it came as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args<'a>(&'a str);

impl<'a> Args<'a> {
    /// The values in `list`: valid JSON values joined by commas, or nothing.
    pub fn from_list(list: &'a str) -> Self {
        Self(list.trim_matches(is_json_space))
    }

    /// The values in `array`, which must be a valid JSON array: the payload of an ACK.
    pub fn from_array(array: &'a str) -> Self {
        let inner = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        Self::from_list(inner.unwrap_or_default())
    }

    /// The values. Reads all of them once.
    pub fn values(self) -> Vec<&'a RawValue> {
        let mut args = self;
        std::iter::from_fn(|| args.next_value()).collect()
    }

    fn next_value(&mut self) -> Option<&'a RawValue> {
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter::<&RawValue>();
        let value = values.next()?.ok()?;
        let rest = self.0[values.byte_offset()..].trim_start_matches(is_json_space);
        self.0 = rest.strip_prefix(',').unwrap_or_default().trim_start_matches(is_json_space);
        Some(value)
    }

    /// The values, joined by commas.
    pub fn list(self) -> &'a str {
        self.0
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.next_value().map(RawValue::get)
    }
}

/// The most arguments an event may have. Each costs the same, however short it is.
const ARGUMENTS_MAX: usize = 1024;

/// The name and the arguments in the payload of an event that [`super::Packet::parse`] let through. Reads the name alone.
pub fn event_of(data: &str) -> Option<(EventName<'_>, Args<'_>)> {
    let inner = data.trim_start_matches(is_json_space).strip_prefix('[')?.trim_start_matches(is_json_space);
    let mut values = serde_json::Deserializer::from_str(inner).into_iter::<&RawValue>();
    let first = values.next()?.ok()?.get();
    let name = match first.starts_with('"') {
        true => string(first)?,
        false => Cow::Borrowed(first),
    };
    let rest = inner[values.byte_offset()..].trim_start_matches(is_json_space);
    let list = rest.strip_prefix(',').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    Some((name, Args::from_list(list)))
}

/// The rules about an event's payload. Reads it once, and what is no event once more at most.
pub(super) fn check_event(data: &str) -> Result<(), BadPacket> {
    let mut json = serde_json::Deserializer::from_str(data);
    let read = json.deserialize_seq(FirstValue).and_then(|read| json.end().map(|()| read));
    let (first, count) = match read {
        Ok((Some(first), count)) => (first, count),
        Err(_) if !data.is_empty() && serde_json::from_str::<IgnoredAny>(data).is_err() => return Err(NO_JSON),
        Ok(_) | Err(_) => return Err(BadPacket("the payload of an event is an array that is not empty")),
    };
    if ARGUMENTS_MAX < count {
        return Err(BadPacket("an event has at most 1024 arguments"));
    }
    let first = first.get();
    let is_number = first.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match string(first) {
        Some(name) if RESERVED_NAMES.contains(&&*name) => Err(BadPacket("the name of the event is reserved")),
        None if !is_number => Err(BadPacket("the name of an event is a string or a number")),
        _ => Ok(()),
    }
}

/// The string that `json` is, if it is one.
fn string(json: &str) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    if !json.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

/// Reads an array: its first value, and how many follow.
struct FirstValue;

impl<'de> Visitor<'de> for FirstValue {
    type Value = (Option<&'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let first = values.next_element::<&RawValue>()?;
        let mut count = 0;
        while values.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((first, count))
    }
}
