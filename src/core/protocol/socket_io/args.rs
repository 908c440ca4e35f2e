//! The payload of an event: an array of the event's name and its arguments.

use std::{borrow::Cow, ops::Range};

use super::{
    BadSocketIoPacket, RESERVED_NAMES,
    packet::{NO_JSON, is_json_space},
};
use crate::{
    json,
    protocol::json_values::{JsonValues, NextValue},
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

    /// The values, joined by commas.
    pub fn list(self) -> &'a str {
        self.0
    }
}

/// Each value as the text it came as. Reads as far as the value goes.
impl<'a> Iterator for Args<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (value, rest) = self.0.split_at_checked(json::skip(self.0, 0))?;
        let rest = rest.trim_start_matches(is_json_space);
        self.0 = rest.strip_prefix(',').unwrap_or_default().trim_start_matches(is_json_space);
        Some(value)
    }
}

/// The most arguments an event may have. Each costs the same, however short it is.
const ARGUMENTS_MAX: usize = 1024;

/// The name and the arguments in the payload of an event that [`super::SocketIoPacket::parse`] accepted. Reads only the name.
pub fn event_of(data: &str) -> Option<(EventName<'_>, Args<'_>)> {
    let inner = data.trim_start_matches(is_json_space).strip_prefix('[')?.trim_start_matches(is_json_space);
    let (first, rest) = inner.split_at_checked(json::skip(inner, 0)).filter(|(first, _)| !first.is_empty())?;
    let name = match first.starts_with('"') {
        true => json::decode(first)?,
        false => Cow::Borrowed(first),
    };
    let rest = rest.trim_start_matches(is_json_space);
    let list = rest.strip_prefix(',').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    Some((name, Args::from_list(list)))
}

/// Checks an event's payload in steps.
#[derive(Clone, Debug, Default)]
pub(super) struct EventCheck {
    values: JsonValues,
    /// Where the name stands, once it is found.
    name: Option<Range<usize>>,
    arguments: usize,
}

impl EventCheck {
    /// Checks the next `bytes` of `data`, or a little more; `true`: all is checked. An error ends the check.
    pub(super) fn advance(&mut self, data: &str, bytes: usize) -> Result<bool, BadSocketIoPacket> {
        const NO_EVENT: BadSocketIoPacket = BadSocketIoPacket("the payload of an event is an array that is not empty");
        if !data.starts_with('[') {
            return Err(NO_EVENT);
        }
        let from = self.values.consumed_bytes();
        loop {
            match self.values.next_within(data, bytes).map_err(|_| NO_JSON)? {
                NextValue::More => return Ok(false),
                NextValue::End => break,
                NextValue::Value(value) if self.name.is_none() => {
                    let end = self.values.consumed_bytes();
                    self.name = Some(end - value.len()..end);
                }
                NextValue::Value(_) if self.arguments == ARGUMENTS_MAX => {
                    return Err(BadSocketIoPacket("an event has at most 1024 arguments"));
                }
                NextValue::Value(_) => self.arguments += 1,
            }
            if bytes <= self.values.consumed_bytes() - from {
                return Ok(false);
            }
        }
        let name = self.name.clone().and_then(|name| data.get(name));
        check_name(name.ok_or(NO_EVENT)?).map(|()| true)
    }
}

/// The rules about the first value of an event's payload.
fn check_name(first: &str) -> Result<(), BadSocketIoPacket> {
    if first.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Ok(());
    }
    if RESERVED_NAME_BYTES_MAX < first.len() && first.starts_with('"') {
        return Ok(());
    }
    match json::decode(first) {
        Some(name) if RESERVED_NAMES.contains(&&*name) => Err(BadSocketIoPacket("the name of the event is reserved")),
        None => Err(BadSocketIoPacket("the name of an event is a string or a number")),
        Some(_) => Ok(()),
    }
}

/// No reserved name is longer, with each of its characters escaped.
const RESERVED_NAME_BYTES_MAX: usize = 256;
