//! What happened: an immutable event, its id, and its place in the topic's log.

use std::{borrow::Cow, fmt, hash::BuildHasher, str::FromStr, sync::LazyLock, time::Duration};

use bytes::Bytes;

use crate::{
    budget::Charge,
    clock::Moment,
    frame::{Format, FrameCache},
    gap::Gap,
    json::{LONG_TEXT_BYTES, Syntax},
    topic::Topic,
};

/// Types that no native door lets an event have: the hub's own words on its streams, and those of Socket.IO's clients, whose
/// `EventEmitter`s emit events of these names themselves. Elsewhere a type may be anything: what a broker brings, and where an API
/// has types as data.
pub const RESERVED_KINDS: [&str; 10] = [
    "gap",
    "error",
    "end",
    "auth",
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// Whether `kind` is a word of the hub's or the browser's own as the name of a Server-Sent Event: an event of this type is shown
/// as `message` there.
pub fn is_word_of_sse(kind: &str) -> bool {
    matches!(kind, "gap" | "error" | "end" | "open") || RESERVED_KINDS.contains(&kind)
}

/// The same as the name of a Socket.IO event: besides the reserved types, what the hub answers its clients by.
pub fn is_word_of_socket_io(kind: &str) -> bool {
    matches!(kind, "connected" | "subscribed" | "unsubscribed" | "published" | "stats" | "pong")
        || RESERVED_KINDS.contains(&kind)
}

/// An event's public id, `major-minor`, the form of a Redis Stream id.
///
/// In-process and Pub/Sub topics: major = the hub's epoch ([`new_epoch`]), minor = 1, 2, 3 … dense per topic. Epochs have no
/// order: ids of different epochs belong to different logs, and which is greater means nothing.
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

/// The payload of an event that is yet to be published.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub data: Bytes,
    /// What is known of them.
    pub syntax: Syntax,
}

impl Payload {
    pub fn json(data: Bytes) -> Self {
        Self { data, syntax: Syntax::Json }
    }

    /// `data` that comes in where nothing waits but more of the like: if it is long, it is found out now whether it is JSON.
    /// Else whoever writes it first would have to, and that is a reactor, for which it takes too long.
    pub fn looked_at(data: Bytes) -> Self {
        let syntax = match std::str::from_utf8(&data) {
            Ok(text) if LONG_TEXT_BYTES < data.len() => Syntax::of(text),
            _ => Syntax::Unchecked,
        };
        Self { data, syntax }
    }
}

impl From<Bytes> for Payload {
    /// Of which nothing is known.
    fn from(data: Bytes) -> Self {
        Self { data, syntax: Syntax::Unchecked }
    }
}

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
    /// The payload, verbatim: valid UTF-8. If there is a `tail`, the part of it that other events share: what that part holds
    /// of the memory budget is its own (of the hub's bus).
    pub data: Bytes,
    /// Whether the whole payload is JSON.
    pub syntax: Syntax,
    /// The rest of the payload, behind a shared `data`.
    pub tail: Option<Box<str>>,
    /// What it stands for in a topic whose slow readers get the newest event per key only.
    pub key: Option<Box<str>>,
    /// Set if it is no event but a hole in the log. In its place there every reader, early or late, is told of it once
    /// and in order.
    pub gap: Option<Gap>,
    /// The encoded forms that somebody has asked for.
    pub frames: FrameCache,
    /// What it holds of the memory budget.
    pub charge: Charge,
}

impl Event {
    /// An event of `topic` at `position`.
    pub fn new(
        topic: Topic,
        id: EventId,
        position: Position,
        kind: Option<&str>,
        payload: impl Into<Payload>,
        now: Moment,
    ) -> Self {
        let Payload { data, syntax } = payload.into();
        Self {
            topic,
            id,
            position,
            accepted: now,
            kind: kind.map(Box::from),
            data,
            syntax,
            tail: None,
            key: None,
            gap: None,
            frames: FrameCache::default(),
            charge: Charge::default(),
        }
    }

    /// A hole at `position`: what came after `gap.from` up to `gap.to` is missing. Its data is what event streams are
    /// told of it.
    pub fn hole(topic: Topic, gap: Gap, position: Position, now: Moment) -> Self {
        let payload = Payload::json(gap_json(&topic, gap).into());
        Self { gap: Some(gap), ..Self::new(topic, gap.to, position, Some("gap"), payload, now) }
    }

    /// Its frame in `format`, which `encode` makes. It is kept for the next who asks, unless the memory budget has no
    /// room for it. Frames cannot be shared between events, so those of a shared payload take no more than the half of the
    /// budget that is not the logs'.
    pub fn frame(&self, format: Format, encode: impl FnOnce(&Self) -> Vec<u8>) -> Cow<'_, [u8]> {
        if let Some(frame) = self.frames.existing(format) {
            return Cow::Borrowed(frame);
        }
        let frame = encode(self);
        let has_room = self.tail.is_none() || !self.charge.is_tight();
        if has_room && self.charge.try_grow(frame.len()) {
            Cow::Borrowed(self.frames.frame(format, || frame))
        } else {
            Cow::Owned(frame)
        }
    }

    /// Its type, or none if that is a word of the transport's own, as `is_word` has it: what a subscriber takes for the hub's must
    /// be the hub's.
    pub(crate) fn shown_kind(&self, is_word: fn(&str) -> bool) -> Option<&str> {
        self.kind.as_deref().filter(|kind| self.gap.is_some() || !is_word(kind))
    }

    /// The whole payload.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        match &self.tail {
            None => Cow::Borrowed(&self.data),
            Some(tail) => Cow::Owned([&self.data, tail.as_bytes()].concat()),
        }
    }

    /// The whole payload as text. Publishing checks it once, so it is not checked again per encoding.
    pub fn payload_text(&self) -> Cow<'_, str> {
        match self.payload() {
            Cow::Borrowed(payload) => Cow::Borrowed(std::str::from_utf8(payload).unwrap_or_default()),
            Cow::Owned(payload) => Cow::Owned(String::from_utf8(payload).unwrap_or_default()),
        }
    }

    /// The payload of an event without a `tail`, as text.
    pub fn text(&self) -> &str {
        debug_assert!(self.tail.is_none(), "this is not the whole payload");
        std::str::from_utf8(&self.data).unwrap_or_default()
    }

    /// The digest of its content; `None` for a hole.
    pub fn digest(&self) -> Option<u64> {
        self.gap.is_none().then(|| digest(self.kind.as_deref(), &self.data))
    }

    /// What the event is taken to weigh in a log: payload, type, key and the fixed parts.
    pub fn weight_bytes(&self) -> usize {
        let shared = if self.tail.is_some() { self.data.len() } else { 0 };
        shared + self.own_bytes()
    }

    /// What it holds of the memory budget: all but what it shares.
    pub(crate) fn own_bytes(&self) -> usize {
        let text_bytes = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let data = if self.tail.is_some() { 0 } else { self.data.len() };
        size_of::<Self>() + data + text_bytes(&self.tail) + text_bytes(&self.kind) + text_bytes(&self.key)
    }

    /// What an event that is yet to be made holds of the memory budget, without its key: a part of the payload, or the type.
    pub fn least_weight_bytes(kind: Option<&str>, data: &[u8]) -> usize {
        size_of::<Self>() + data.len() + kind.map_or(0, str::len)
    }
}

/// The digest of an event's type and payload, by which an event is known again although its id alone says little. Equal
/// content has equal digests within a process, and other content hardly ever; between processes they mean nothing.
pub fn digest(kind: Option<&str>, data: &[u8]) -> u64 {
    static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(foldhash::quality::RandomState::default);
    HASHER.hash_one((kind, data))
}

/// What an event stream is told of a hole: `{"topic","from","to","reason"}`.
pub(crate) fn gap_json(topic: &Topic, gap: Gap) -> String {
    // No byte that a topic, an id or a reason may have is escaped in JSON.
    let Gap { from, to, reason } = gap;
    format!("{{\"topic\":\"{topic}\",\"from\":\"{from}\",\"to\":\"{to}\",\"reason\":\"{reason}\"}}")
}

/// The major part of the ids that a hub gives: the second of its start, since 1970, in the upper 32 bits, and 32 random bits in
/// the lower ones.
///
/// Hubs start together, and clocks are set back; so two epochs are compared for equality only. Of two hubs that start
/// in the same second, one pair in 4,294,967,296 has equal epochs. Today's epochs have 19 digits, more than the double of a
/// JavaScript number holds: an id is a text, and never a number.
pub fn new_epoch(start: Duration, random: u32) -> u64 {
    start.as_secs() << 32 | u64::from(random)
}

impl EventId {
    /// The greatest id below this one; `0-0` has none and is its own.
    pub fn before(self) -> Self {
        match (self.major, self.minor) {
            (0, 0) => self,
            (major, 0) => Self { major: major - 1, minor: u64::MAX },
            (major, minor) => Self { major, minor: minor - 1 },
        }
    }

    /// Whether this is a moment of a broker's clock rather than the id of an entry: the last id before a millisecond, which
    /// readers are given where a log was empty.
    pub fn is_moment(self) -> bool {
        self.minor == u64::MAX || self == Self::default()
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

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    #[default]
    Live,
    /// With the topic's first event: all that is held, behind a gap if that is not all there was.
    First,
    /// With the newest `n` events.
    Last(usize),
    /// With the event that follows this one.
    After(EventId),
}

impl Start {
    /// Behind the event `id`. Before `0-0` there is nothing, so what follows it is everything.
    pub fn after(id: EventId) -> Self {
        if id == EventId::default() { Self::First } else { Self::After(id) }
    }
}

/// A text that is no [`Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStart;

impl fmt::Display for BadStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither an event id (two decimal numbers joined by a dash) nor one of: first, 0, last:N, live")
    }
}

impl std::error::Error for BadStart {}

impl FromStr for Start {
    type Err = BadStart;

    /// `first` or `0`, `last:N`, `live`, or the id after which to go on; `0-0` stands for the beginning too.
    fn from_str(text: &str) -> Result<Self, BadStart> {
        match text {
            "first" | "0" => Ok(Self::First),
            "live" => Ok(Self::Live),
            _ => match text.strip_prefix("last:") {
                Some(count) => parse_number(count)
                    .map(|count| Self::Last(usize::try_from(count).unwrap_or(usize::MAX)))
                    .map_err(|_| BadStart),
                None => text.parse().map(Self::after).map_err(|_| BadStart),
            },
        }
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
    fn starts() {
        let check = |text: &str, expected: Option<Start>| assert_eq!(text.parse().ok(), expected, "{text}");
        check("first", Some(Start::First));
        check("0", Some(Start::First));
        check("0-0", Some(Start::First));
        check("00-0", Some(Start::First));
        check("live", Some(Start::Live));
        check("last:7", Some(Start::Last(7)));
        check("1-2", Some(Start::After(EventId { major: 1, minor: 2 })));
        for bad in ["", "last:", "last:-1", "last:+1", "last:x", "1", "First", "1-2,3-4"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_hole_says_where_and_why() {
        let topic = Topic::parse("a.b").expect("a good name");
        let id = |minor| EventId { major: 7, minor };
        let gap = Gap { from: id(3), to: id(4), reason: crate::gap::GapReason::SourceLost };
        let hole = Event::hole(topic, gap, 4, Moment(0));
        assert_eq!((hole.id, hole.gap), (id(4), Some(gap)));
        assert_eq!(hole.text(), r#"{"topic":"a.b","from":"7-3","to":"7-4","reason":"source_lost"}"#);
    }

    #[test]
    fn an_epoch_is_the_second_and_random_bits() {
        let start = Duration::from_millis(1_795_233_070_552);
        assert_eq!(new_epoch(start, 0), 1_795_233_070 << 32);
        assert_eq!(new_epoch(start, u32::MAX) - new_epoch(start, 0), u64::from(u32::MAX));
        assert_eq!(new_epoch(start, 7), new_epoch(start + Duration::from_millis(400), 7));
        assert_eq!(new_epoch(start, 7).to_string().len(), 19);
    }

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
