//! Events: an immutable event, its id, and its position in the topic's log.

use std::{
    borrow::Cow,
    cmp::Ordering,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    str::FromStr,
    sync::LazyLock,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    budget::Charge,
    clock::Moment,
    fingerprint::Fingerprint,
    frame::{Format, FrameCache},
    gap::Gap,
    json::{LONG_TEXT_BYTES, Syntax},
    topic::Topic,
};

/// Event types that native publications may not use: names that the hub uses on its streams, and names that Socket.IO clients
/// emit themselves (`EventEmitter`). Events from brokers, and types that an API carries as data, may have any name.
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

/// Whether the hub or browsers use `kind` as the name of a Server-Sent Event themselves. An event of such a type is sent as
/// `message`.
pub fn is_word_of_sse(kind: &str) -> bool {
    matches!(kind, "gap" | "error" | "end" | "open") || RESERVED_KINDS.contains(&kind)
}

/// Whether the hub or its clients use `kind` as the name of a Socket.IO event: the reserved types, and the hub's answers.
pub fn is_word_of_socket_io(kind: &str) -> bool {
    matches!(kind, "connected" | "subscribed" | "unsubscribed" | "published" | "stats" | "pong")
        || RESERVED_KINDS.contains(&kind)
}

/// An event's public id, `major-minor`, the form of a Redis Stream id; in topics of Redis Pub/Sub `major-minor~fingerprint`.
///
/// In-process and Pub/Sub topics: major = the hub's epoch ([`new_epoch`]), minor = 1, 2, 3 … dense per topic. Epochs have no
/// order: ids of different epochs belong to different logs, and which is greater means nothing.
///
/// Two ids are equal, and one is greater, by major and minor alone. The fingerprint is for hubs to which these say nothing.
#[derive(Clone, Copy, Default)]
pub struct EventId {
    /// The hub's epoch, or the milliseconds of a broker's id.
    pub major: u64,
    /// The number within `major`.
    pub minor: u64,
    /// What another hub finds the event by, in its own log.
    pub fingerprint: Option<Fingerprint>,
}

impl PartialEq for EventId {
    fn eq(&self, other: &Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }
}

impl Eq for EventId {}

impl PartialOrd for EventId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EventId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.major, self.minor).cmp(&(other.major, other.minor))
    }
}

impl Hash for EventId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.major, self.minor).hash(state);
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("EventId");
        shown.field("major", &self.major).field("minor", &self.minor);
        self.fingerprint.iter().for_each(|fingerprint| _ = shown.field("fingerprint", fingerprint));
        shown.finish()
    }
}

/// A position in a topic's log inside this process: dense, from 1, the same on every reactor.
///
/// Ids may have holes (a broker's ids do) and positions have none, so a cursor is one number and its lag a subtraction.
pub type Position = u64;

/// The payload of an event before it is published.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub data: Bytes,
    /// Whether `data` is JSON, if that is known.
    pub syntax: Syntax,
    /// Whether a bridge has brought the event to its broker.
    pub is_carried: bool,
}

impl Payload {
    pub fn json(data: Bytes) -> Self {
        Self { data, syntax: Syntax::Json, is_carried: false }
    }

    /// A payload received on a thread of its own, such as a source's. Long data is checked for JSON now: otherwise the reactor
    /// that encodes it first would have to check it, and that takes too long for a reactor.
    pub fn looked_at(data: Bytes) -> Self {
        let syntax = match std::str::from_utf8(&data) {
            Ok(text) if LONG_TEXT_BYTES < data.len() => Syntax::of(text),
            _ => Syntax::Unchecked,
        };
        Self { data, syntax, is_carried: false }
    }
}

impl From<Bytes> for Payload {
    /// A payload that has not been checked for JSON.
    fn from(data: Bytes) -> Self {
        Self { data, syntax: Syntax::Unchecked, is_carried: false }
    }
}

/// One event, shared by all reactors. Immutable except for its cached frames.
#[derive(Debug)]
pub struct Event {
    /// The topic it was published to.
    pub topic: Topic,
    /// The public id.
    pub id: EventId,
    /// The position in the topic's log.
    pub position: Position,
    /// When the hub accepted it.
    pub accepted: Moment,
    /// The type, if it has one: the SSE `event:` field, the `type` of `fanfare.v1`. Contains no CR and no LF.
    pub kind: Option<Box<str>>,
    /// The payload, verbatim: valid UTF-8. If there is a `tail`, only the first part, which other events share; the bus charges
    /// that part to the memory budget once.
    pub data: Bytes,
    /// Whether the whole payload is JSON.
    pub syntax: Syntax,
    /// Whether a bridge has brought it to its broker. Other bridges leave it where it is.
    pub is_carried: bool,
    /// The rest of the payload, after a shared `data`.
    pub tail: Option<Box<str>>,
    /// The key, in a topic whose slow readers get only the newest event of each key.
    pub key: Option<Box<str>>,
    /// Set if this is a hole in the log and no event. Every reader receives it once, at this position, in order.
    pub gap: Option<Gap>,
    /// Whether only this hub gives it this place among the topic's events: the event did not come from a server that sends it to
    /// all hubs in one order.
    pub is_placed_here: bool,
    /// The frames encoded so far, by format.
    pub frames: FrameCache,
    /// Its share of the memory budget.
    pub charge: Charge,
}

impl Event {
    /// Creates an event of `topic` at `position`.
    pub fn new(
        topic: Topic,
        id: EventId,
        position: Position,
        kind: Option<&str>,
        payload: impl Into<Payload>,
        now: Moment,
    ) -> Self {
        let Payload { data, syntax, is_carried } = payload.into();
        Self {
            topic,
            id,
            position,
            accepted: now,
            kind: kind.map(Box::from),
            data,
            syntax,
            is_carried,
            tail: None,
            key: None,
            gap: None,
            is_placed_here: false,
            frames: FrameCache::default(),
            charge: Charge::default(),
        }
    }

    /// Creates a hole at `position`: the events after `gap.from` up to `gap.to` are missing. Its data is the JSON that event
    /// streams receive.
    pub fn hole(topic: Topic, gap: Gap, position: Position, now: Moment) -> Self {
        let payload = Payload::json(gap_json(&topic, gap).into());
        Self { gap: Some(gap), ..Self::new(topic, gap.to, position, Some("gap"), payload, now) }
    }

    /// The frame in `format`, made by `encode` unless it is cached. The frame is cached while three quarters of the memory budget have room for
    /// it. Events cannot share frames, so the frames of a shared payload are cached only in the half of the budget that is not
    /// for logs.
    pub fn frame(&self, format: Format, encode: impl FnOnce(&Self) -> Vec<u8>) -> Cow<'_, [u8]> {
        if let Some(frame) = self.frames.existing(format) {
            return Cow::Borrowed(frame);
        }
        let frame = encode(self);
        let has_room = self.tail.is_none() || !self.charge.is_tight();
        if has_room && self.charge.try_grow_copy(frame.len()) {
            Cow::Borrowed(self.frames.frame(format, || frame))
        } else {
            Cow::Owned(frame)
        }
    }

    /// The type, or `None` if `is_word` says that the transport uses this name itself: subscribers take such names for the
    /// hub's own.
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

    /// The payload as text, of an event without a `tail`.
    pub fn text(&self) -> &str {
        debug_assert!(self.tail.is_none(), "this is not the whole payload");
        std::str::from_utf8(&self.data).unwrap_or_default()
    }

    /// The digest of the content; `None` for a hole.
    pub fn digest(&self) -> Option<u64> {
        self.gap.is_none().then(|| digest(self.kind.as_deref(), &self.data))
    }

    /// The event's weight in a log, in bytes: payload, type, key and the fixed parts.
    pub fn weight_bytes(&self) -> usize {
        let shared = if self.tail.is_some() { self.data.len() } else { 0 };
        shared + self.own_bytes()
    }

    /// The bytes charged to the memory budget: all but the shared part of the payload.
    pub(crate) fn own_bytes(&self) -> usize {
        let text_bytes = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let data = if self.tail.is_some() { 0 } else { self.data.len() };
        size_of::<Self>() + data + text_bytes(&self.tail) + text_bytes(&self.kind) + text_bytes(&self.key)
    }

    /// The bytes that a new event will be charged, without its key.
    pub fn least_weight_bytes(kind: Option<&str>, data: &[u8]) -> usize {
        size_of::<Self>() + data.len() + kind.map_or(0, str::len)
    }
}

/// A digest of an event's type and payload, to recognize an event whose id alone is not enough. Equal content has equal
/// digests, and different content almost never; digests of different processes cannot be compared.
pub fn digest(kind: Option<&str>, data: &[u8]) -> u64 {
    static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(foldhash::quality::RandomState::default);
    HASHER.hash_one((kind, data))
}

/// A gap as JSON: `{"topic","from","to","reason"}`.
pub(crate) fn gap_json(topic: &Topic, gap: Gap) -> String {
    // No byte that a topic, an id or a reason may have is escaped in JSON.
    let Gap { from, to, reason } = gap;
    format!("{{\"topic\":\"{topic}\",\"from\":\"{from}\",\"to\":\"{to}\",\"reason\":\"{reason}\"}}")
}

/// The major part of the ids that a hub gives: the second of its start (since 1970) in the upper 32 bits, 32 random bits in the
/// lower ones.
///
/// Hubs start together, and clocks are set back; so two epochs are compared for equality only. Of two hubs that start
/// in the same second, one pair in 4,294,967,296 has equal epochs. Today's epochs have 19 digits, more than the double of a
/// JavaScript number holds: an id is a text, and never a number.
pub fn new_epoch(start: Duration, random: u32) -> u64 {
    start.as_secs() << 32 | u64::from(random)
}

impl EventId {
    /// The id `major-minor`, without a fingerprint.
    pub const fn new(major: u64, minor: u64) -> Self {
        Self { major, minor, fingerprint: None }
    }

    /// The same id with this fingerprint.
    pub fn with_fingerprint(self, fingerprint: Option<Fingerprint>) -> Self {
        Self { fingerprint, ..self }
    }

    /// The greatest id below this one. `0-0` for `0-0`.
    pub fn before(self) -> Self {
        match (self.major, self.minor) {
            (0, 0) => Self::default(),
            (major, 0) => Self::new(major - 1, u64::MAX),
            (major, minor) => Self::new(major, minor - 1),
        }
    }

    /// Whether this is the last id before a millisecond of a broker's clock and not the id of an entry: readers are given such
    /// an id where a log was empty.
    pub fn is_moment(self) -> bool {
        self.minor == u64::MAX || self == Self::default()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)?;
        self.fingerprint.map_or(Ok(()), |fingerprint| write!(f, "~{fingerprint}"))
    }
}

/// A text that is neither `major-minor` nor `major-minor~fingerprint`.
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
        let (numbers, fingerprint) = match text.split_once('~') {
            Some((numbers, fingerprint)) => (numbers, Some(fingerprint.parse().map_err(|_| BadEventId)?)),
            None => (text, None),
        };
        let (major, minor) = numbers.split_once('-').ok_or(BadEventId)?;
        Ok(Self::new(parse_number(major)?, parse_number(minor)?).with_fingerprint(fingerprint))
    }
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The next event.
    #[default]
    Live,
    /// The topic's first event: all retained events, after a gap if older ones are missing.
    First,
    /// The newest `n` events.
    Last(usize),
    /// The event after this id.
    After(EventId),
}

impl Start {
    /// After the event `id`. Everything follows `0-0`.
    pub fn after(id: EventId) -> Self {
        if id == EventId::default() { Self::First } else { Self::After(id) }
    }
}

/// Why a text is not a [`Start`].
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

    /// Parses `first` or `0`, `last:N`, `live`, or the id after which to continue. `0-0` is the first event, too.
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
        check("1-2", Some(Start::After(EventId::new(1, 2))));
        check("1-2~ab", Some(Start::After(EventId::new(1, 2))));
        for bad in ["", "last:", "last:-1", "last:+1", "last:x", "1", "First", "1-2,3-4"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_hole_says_where_and_why() {
        let topic = Topic::parse("a.b").expect("a good name");
        let id = |minor| EventId::new(7, minor);
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
                let fingerprint =
                    text.split_once('~').map(|(_, fingerprint)| fingerprint.parse().expect("hexadecimal"));
                assert_eq!(EventId::new(major, minor).with_fingerprint(fingerprint).to_string(), text);
            }
        };
        check("1-2", Some((1, 2)));
        check("1-2~ab", Some((1, 2)));
        check("0-0", Some((0, 0)));
        check("18446744073709551615-1", Some((u64::MAX, 1)));
        for bad in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1- 2", "18446744073709551616-0", "a-b"] {
            check(bad, None);
        }
        for bad in ["~", "1~2", "1-2~", "1-~2", "~1-2", "1-2~3~4", "1-2~3-4", "1~a-2", "1-2~G", "1-2~0", "1-2 ~a"] {
            check(bad, None);
        }
        let [with, without] = ["1-2~ab", "1-2"].map(|text| text.parse::<EventId>().expect("good"));
        assert_eq!((with, with.before(), with.cmp(&without)), (without, EventId::new(1, 1), Ordering::Equal));
        assert_eq!((with.before().fingerprint, EventId::new(0, 0).before()), (None, EventId::default()));
        assert_eq!(format!("{without:?}"), "EventId { major: 1, minor: 2 }");
        assert!(format!("{with:?}").contains("fingerprint"));
    }
}
