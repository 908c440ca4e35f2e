//! The payload of an event: an array of the event's name and its arguments.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{BadPacket, RESERVED_NAMES, packet::is_json_space};

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

    /// The values, joined by commas.
    pub fn list(self) -> &'a str {
        self.0
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter::<&RawValue>();
        let value = values.next()?.ok()?.get();
        let rest = self.0[values.byte_offset()..].trim_start_matches(is_json_space);
        self.0 = rest.strip_prefix(',').unwrap_or_default().trim_start_matches(is_json_space);
        Some(value)
    }
}

/// The name and the arguments in the payload of an event that [`super::Packet::parse`] let through.
pub fn event_of(data: &str) -> Option<(EventName<'_>, Args<'_>)> {
    let first = first_value(data)?;
    let name = match first.starts_with('"') {
        true => string(first)?,
        false => Cow::Borrowed(first),
    };
    // `first` is a part of `data`, so what follows it begins where it ends.
    let end = first.as_ptr() as usize - data.as_ptr() as usize + first.len();
    let rest = data[end..].trim_start_matches(is_json_space);
    let list = rest.strip_prefix(',').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    Some((name, Args::from_list(list)))
}

/// The rules about an event's payload. `data` is valid JSON, or empty.
pub(super) fn check_event(data: &str) -> Result<(), BadPacket> {
    let first = first_value(data).ok_or(BadPacket("the payload of an event is an array that is not empty"))?;
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
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

/// The first value of the array that `data` is, as text.
fn first_value(data: &str) -> Option<&str> {
    serde_json::Deserializer::from_str(data).deserialize_seq(FirstValue).ok()?
}

struct FirstValue;

impl<'de> Visitor<'de> for FirstValue {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let first = values.next_element::<&RawValue>()?;
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.map(RawValue::get))
    }
}
