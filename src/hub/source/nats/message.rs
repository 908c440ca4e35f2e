//! Events as messages. The payload is the event's, verbatim, and what else there is to say stands in headers: [`TYPE`] and
//! [`MESSAGE_ID`]. So any other client's plain message is an event, and any other client can read the hub's.
//!
//! A header's value cannot hold a line end, and loses blanks at its ends. These, other control characters, and `%` itself are
//! written as `%` and two hexadecimal digits. Whatever else follows a `%` means itself, so `100%` of another client is a type.

use std::{borrow::Cow, fmt::Write};

use super::{headers::Headers, link::Message};
use crate::{bus::Bridged, event::EventId, gap::GapReason, protocol::http::percent_decode};

/// The header with the event's type.
pub(super) const TYPE: &str = "Event-Type";

/// The header with the idempotency key: a second message with the same one within `limits.idempotency_window` is no event. The name
/// is that of JetStream, which does the same.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The header of a message that is no event: events are missing at its place in the stream, for the reason that its value names. A
/// bridge publishes it, with [`GAP_PAYLOAD`].
const GAP: &str = "Fanfare-Gap";

/// The payload of such a message. It is no text, so a hub that does not know the header reports a gap `source_lost` there.
pub(super) const GAP_PAYLOAD: &[u8] = b"\xFF";

/// The header of each message that a bridge has brought: where from, and if that is a log, the id up to which it is carried with the
/// message.
pub(super) const CARRIED: &str = "Fanfare-Carried";

/// The header by which a publication is kept only by the stream that is meant.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// Whether a bridge has brought `message`.
pub(super) fn is_carried(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get(CARRIED).is_some())
}

/// Up to which id the log `origin` is carried with `message`, if it is of that log. Words behind the id are of later versions.
pub(super) fn carried_upto(message: &Message, origin: &str) -> Option<EventId> {
    let mut words = message.headers.as_ref()?.get(CARRIED)?.split(' ');
    words.next().filter(|from| *from == origin)?;
    words.next()?.parse().ok()
}

/// Why events are missing at the place of `message`, if it says so.
pub(super) fn gap_of(message: &Message) -> Option<GapReason> {
    if message.payload != GAP_PAYLOAD {
        return None;
    }
    let reason = message.headers.as_ref()?.get(GAP)?;
    Some(GapReason::of_marker(reason))
}

/// What the headers of a message say of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventHeaders<'a> {
    /// Its type; an empty one is none.
    pub(super) kind: Option<Cow<'a, str>>,
    /// Its idempotency key.
    pub(super) key: Option<Cow<'a, str>>,
}

impl<'a> EventHeaders<'a> {
    /// What the headers of `message` say.
    pub(super) fn of(message: &'a Message) -> Self {
        let Some(headers) = &message.headers else { return Self::default() };
        let value = |name: &'static str| headers.get(name).map(decode).or_else(|| headers.get_escaped(name));
        let filled = |value: &Cow<'_, str>| !value.is_empty();
        Self { kind: value(TYPE).filter(filled), key: value(MESSAGE_ID).filter(filled) }
    }

    /// The same as headers to publish with; `None`: there are none.
    pub(super) fn write(&self) -> Option<Headers> {
        let has_some = self.kind.is_some() || self.key.is_some();
        has_some.then(|| self.write_with(&[]))
    }

    /// The same for core NATS, of a message that a bridge brings.
    pub(super) fn write_carried(&self, bridged: &Bridged) -> Headers {
        self.write_with(&[(CARRIED, &bridged.to_string())])
    }

    /// The same for JetStream: the stream that shall keep the message, and what a bridge says of it.
    pub(super) fn write_kept(&self, stream: &str, bridged: Option<&Bridged>) -> Headers {
        let carried = bridged.map(ToString::to_string);
        let gap = bridged.and_then(|bridged| bridged.gap).map(GapReason::label);
        let more = [(EXPECTED_STREAM, Some(stream)), (CARRIED, carried.as_deref()), (GAP, gap)];
        let more: Vec<(&str, &str)> = more.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        self.write_with(&more)
    }

    /// The same with further headers, whose values stand for themselves.
    fn write_with(&self, more: &[(&str, &str)]) -> Headers {
        let own = [(TYPE, &self.kind), (MESSAGE_ID, &self.key)];
        let own: Vec<_> = own.iter().filter_map(|(name, value)| Some((*name, encode(value.as_deref()?)))).collect();
        Headers::of(own.iter().map(|(name, value)| (*name, &**value)).chain(more.iter().copied()))
    }
}

fn encode(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (index, letter) in value.chars().enumerate() {
        let is_end = index == 0 || index == last;
        if letter == '%' || letter.is_control() || (is_end && letter.is_whitespace()) {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                // A String takes every write.
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(letter);
        }
    }
    text
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    // A `%` that begins no escape means itself.
    let escaped: String = text
        .split_inclusive('%')
        .scan(0, |end, piece| {
            *end += piece.len();
            let is_literal = piece.ends_with('%') && !is_escape(&text[*end..]);
            Some(if is_literal { format!("{piece}25") } else { piece.to_owned() })
        })
        .collect();
    // Bytes that are no text stay as they came.
    percent_decode(&escaped).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() {
        let check = |value: &str, expected: &str| {
            let written = encode(value);
            assert_eq!(written, expected, "{value:?}");
            assert_eq!(decode(&written), value, "{value:?}");
            assert_eq!(decode(written.trim()), value, "{value:?}: as the other side reads it");
        };
        check("update", "update");
        check("größer als", "größer als");
        check(" a b ", "%20a b%20");
        check(" ", "%20");
        check("a\r\nX: y", "a%0D%0AX: y");
        check("a\tb\0", "a%09b%00");
        check("100%", "100%25");
        check("%41", "%2541");
        check("\u{85}\u{2003}a\u{2003}", "%C2%85\u{2003}a%E2%80%83");
        check("a: b", "a: b");
    }

    /// As other clients may write them.
    #[test]
    fn a_percent_sign_that_begins_no_escape_means_itself() {
        let check = |text: &str, expected: &str| assert_eq!(decode(text), expected, "{text:?}");
        check("100%", "100%");
        check("%", "%");
        check("%%", "%%");
        check("%4", "%4");
        check("%zz%41", "%zzA");
        check("%%41", "%A");
        check("%ff", "%ff");
        check("50%ä", "50%ä");
    }

    #[test]
    fn headers_say_type_and_key() {
        let message = |headers: &[(&str, &str)]| Message {
            headers: (!headers.is_empty()).then(|| Headers::of(headers.iter().copied())),
            ..Message::default()
        };
        let check = |headers: &[(&str, &str)], kind: Option<&str>, key: Option<&str>| {
            let message = message(headers);
            let read = EventHeaders::of(&message);
            assert_eq!((read.kind.as_deref(), read.key.as_deref()), (kind, key), "{headers:?}");
            let again = Message { headers: read.write(), ..message.clone() };
            assert_eq!(EventHeaders::of(&again), read, "{headers:?}");
        };
        check(&[], None, None);
        check(&[("Event-Type", "update")], Some("update"), None);
        check(&[("Event-Type", "")], None, None);
        check(&[("Nats-Msg-Id", "k 1"), ("X-Other", "y")], None, Some("k 1"));
        check(&[("Event-Type", "a"), ("Event-Type", "b"), ("Nats-Msg-Id", "k")], Some("a"), Some("k"));
        check(&[("event-type", "a")], None, None);
    }

    #[test]
    fn a_message_says_how_far_a_log_is_carried() {
        let check = |value: &str, expected: Option<EventId>| {
            let headers = Some(Headers::of([(CARRIED, value)]));
            let message = Message { headers, ..Message::default() };
            assert!(is_carried(&message), "{value:?}");
            assert_eq!(carried_upto(&message, "redis:a"), expected, "{value:?}");
        };
        check("redis:a 7-2", Some(EventId::new(7, 2)));
        check("redis:a 7-2 later words=1", Some(EventId::new(7, 2)));
        check("redis:b 7-2", None);
        check("redis:a", None);
        check("redis:a x", None);
    }

    /// Any client can publish any bytes. What is no text stays apart from what is another value.
    #[test]
    fn headers_that_are_no_text_are_escaped() {
        let check = |block: &'static [u8], kind: Option<&str>, key: Option<&str>| {
            let headers = Some(Headers::received(block.into()));
            let message = Message { headers, ..Message::default() };
            let read = EventHeaders::of(&message);
            assert_eq!((read.kind.as_deref(), read.key.as_deref()), (kind, key), "{}", block.escape_ascii());
        };
        check(b"NATS/1.0\r\nX: \xFF\r\nEvent-Type: a\r\n\r\n", Some("a"), None);
        check(b"NATS/1.0\r\nEvent-Type: \xFFa\xC3\r\nNats-Msg-Id: k\r\n\r\n", Some("%FFa%C3"), Some("k"));
        check(b"NATS/1.0\r\nNats-Msg-Id: \xFE\r\n\r\n", None, Some("%FE"));
        check(b"NATS/1.0\r\nEvent-Type", None, None);
        check(b"Event-Type: a\r\n\r\n", None, None);
    }
}
