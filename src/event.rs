//! What happened: an immutable event, its id, and its place in the topic's log.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use crate::{clock::Moment, frame::FrameCache, topic::Topic};

/// An event's public id, `major-minor`, the form of a Redis Stream id.
///
/// In-process and Pub/Sub topics: major = the hub's epoch (its start in Unix ms), minor = 1, 2, 3 … dense per topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The epoch, or the milliseconds of a broker's id.
    pub major: u64,
    /// The place within `major`.
    pub minor: u64,
}

/// A place in a topic's log inside this process: dense, from 1, the same on every reactor.
///
/// Ids may have holes (a broker's ids do); positions never have, so a cursor is one number and its lag a subtraction.
pub type Position = u64;

/// One event. Shared by all reactors; immutable but for the frames it caches.
#[derive(Debug)]
pub struct Event {
    /// Where it was published.
    pub topic: Topic,
    /// Its public id.
    pub id: EventId,
    /// Its place in the topic's log.
    pub position: Position,
    /// When the hub accepted it.
    pub accepted: Moment,
    /// Its type, if it was given one: the SSE `event:` field, the `type` of `fanfare.v1`. Never contains CR or LF.
    pub kind: Option<Box<str>>,
    /// The payload, verbatim: valid UTF-8.
    pub data: Bytes,
    /// The encoded forms that somebody has asked for.
    pub frames: FrameCache,
}

impl Event {
    /// The payload as text. Publishing checks it once, so it is not checked again per encoding.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap_or_default()
    }

    /// What the event is taken to weigh in a log: payload, type and the fixed parts.
    pub fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.data.len() + self.kind.as_ref().map_or(0, |kind| kind.len())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)
    }
}

/// A text that is not `major-minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEventId;

impl fmt::Display for BadEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event id is two decimal numbers joined by a dash, such as 1768068834227-12")
    }
}

impl std::error::Error for BadEventId {}

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let (major, minor) = text.split_once('-').ok_or(BadEventId)?;
        Ok(Self { major: parse_number(major)?, minor: parse_number(minor)? })
    }
}

/// Digits only: `u64::from_str` would let a plus sign through.
fn parse_number(text: &str) -> Result<u64, BadEventId> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadEventId);
    }
    text.parse().map_err(|_| BadEventId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            let parsed = text.parse().ok().map(|id: EventId| (id.major, id.minor));
            assert_eq!(parsed, expected, "{text}");
            if let Some((major, minor)) = expected {
                assert_eq!(EventId { major, minor }.to_string(), text);
            }
        };
        check("1-2", Some((1, 2)));
        check("0-0", Some((0, 0)));
        check("18446744073709551615-1", Some((u64::MAX, 1)));
        for bad in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1- 2", "18446744073709551616-0", "a-b"] {
            check(bad, None);
        }
    }
}
