//! The state of a topic: its class, and the log that its lock guards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Class, LogKind, ReactorSet, follower::Followed, sync::Mutex};
use crate::{
    budget::Charge,
    clock::Moment,
    event::{Event, EventId, Payload, Position},
    fingerprint::{Fingerprint, Mark, Sequence},
    json,
    json::Syntax,
    log::{Policy, Ring},
    share::QuotaReservation,
    topic::Topic,
};

/// A topic's number, by which reactors know it. No number is used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey(pub u64);

/// A topic, as all reactors share it.
#[derive(Debug)]
pub struct TopicState {
    pub topic: Topic,
    pub key: TopicKey,
    /// The class it was made with.
    pub class: Class,
    /// The number of subscriptions, over all reactors.
    pub subscriber_count: AtomicUsize,
    /// Whether the source's broker refuses to deliver it, until an operator changes something there.
    pub(super) refused: AtomicBool,
    pub(super) log: Mutex<TopicLog>,
    /// The topic's own share of the memory budget, without its events.
    pub(super) _charge: Charge,
    /// The topic's share of its tenant's quota, if a tenant had it made.
    pub(super) _reservation: Option<QuotaReservation>,
}

impl TopicState {
    /// Whether the source's broker refuses to deliver the topic.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

/// A topic's log, who gets its events, and what the source has said of it. The topic's lock guards all of it, so that a reader
/// attaches between two events.
#[derive(Debug)]
pub(super) struct TopicLog {
    pub(super) history: Ring,
    pub(super) interest: ReactorSet,
    /// Reactors whose inbox was full. They get no events of the topic until they have copied the history.
    pub(super) resync: ReactorSet,
    /// How far the bus's follower is with the topic.
    pub(super) followed: Followed,
    /// Whether events published at the source arrive here.
    pub(super) live: bool,
    /// Whether events were lost after the hole that is the newest entry. The next append reports them.
    pub(super) has_pending_loss: bool,
    /// Whether readers were admitted before the source confirmed the topic. They miss what is published until it does.
    pub(super) has_unconfirmed: bool,
    /// How its messages stand to the marks of the source, if its source reads marks.
    pub(super) sequence: Sequence,
    /// Whether the topic was removed from the table. Code that still holds it must look the topic up again.
    pub(super) retired: bool,
    /// The size of the log that [`Bus::log_bytes`](super::Bus::log_bytes) includes.
    pub(super) counted_bytes: usize,
}

impl TopicLog {
    /// The fingerprint of the message that comes next, which was `read` behind a mark and has a digest. `None` for a message that
    /// was not, and while other hubs may have read something else.
    pub(super) fn fingerprint(&mut self, read: Option<(Mark, u64)>, topic: &Topic) -> Option<Fingerprint> {
        let Some((mark, digest)) = read else {
            self.sequence.mix();
            return None;
        };
        // A reader of the message that left now would not learn of the loss before it.
        if self.has_pending_loss {
            self.sequence.interrupt();
        }
        self.sequence.take(mark, topic, digest)
    }

    /// Begins a broker's log that is fed without having been loaded after `floor`. The topic had ended meanwhile, and only the
    /// broker knows what came before.
    pub(super) fn begin_at(&mut self, floor: EventId, state: &TopicState) {
        if state.class.log != LogKind::Memory && self.history.newest_id() == EventId::default() {
            self.history.restart(floor);
        }
    }
}

impl TopicState {
    /// The key of an event, for topics whose slow readers get only the newest event of each key. Takes time in proportion to the
    /// payload: not under the topic's lock.
    pub(super) fn key_of(&self, kind: Option<&str>, payload: &Payload, tail: Option<&str>) -> Option<Box<str>> {
        if self.class.policy != Policy::Latest {
            return None;
        }
        let value = self.class.key.as_deref().and_then(|pointer| match tail {
            None => value_at(pointer, &payload.data, payload.syntax),
            Some(tail) => value_at(pointer, &[&payload.data, tail.as_bytes()].concat(), payload.syntax),
        });
        Some(value.unwrap_or_else(|| kind.unwrap_or_default().into()))
    }

    /// The event for the log. `key` is the result of [`TopicState::key_of`].
    pub(super) fn event(
        &self,
        id: EventId,
        position: Position,
        (kind, key): (Option<&str>, Option<Box<str>>),
        payload: Payload,
        now: Moment,
    ) -> Event {
        Event { key, ..Event::new(self.topic.clone(), id, position, kind, payload, now) }
    }
}

/// The value at `pointer` in `payload`, if the payload is JSON and has it. A short value is normalized, so that spaces, escapes
/// and the order of members do not make another key. A long one is its own text, because no tree of values is built for it.
fn value_at(pointer: &str, payload: &[u8], syntax: Syntax) -> Option<Box<str>> {
    let text = std::str::from_utf8(payload).ok()?;
    if !syntax.is_json(text) {
        return None;
    }
    let value = json::find(text, pointer)?;
    if KEY_BYTES_NORMALIZED_MAX < value.len() {
        return Some(value.into());
    }
    let value: serde_json::Value = serde_json::from_str(value).ok()?;
    Some(value.to_string().into())
}

/// Longer keys are compared as they are written, in bytes.
const KEY_BYTES_NORMALIZED_MAX: usize = 1024;

#[cfg(test)]
mod key_tests {
    use super::*;

    #[test]
    fn keys_are_values_however_they_are_written() {
        let check = |payload: &str, expected: Option<&str>| {
            assert_eq!(value_at("/a/0", payload.as_bytes(), Syntax::Unchecked).as_deref(), expected, "{payload}");
        };
        check(r#"{"a":["x"]}"#, Some("\"x\""));
        check(r#"{ "a" : [ "\u0078" , 2 ] }"#, Some("\"x\""));
        check(r#"{"a":[1.50]}"#, Some("1.5"));
        check(r#"{"a":[{"c":1, "b":2}]}"#, Some(r#"{"b":2,"c":1}"#));
        check(r#"{"a":[null]}"#, Some("null"));
        for none in ["", "{", r#"{"a":[]}"#, r#"{"a":1}"#, "[]", r#"{"a":[1]} x"#] {
            check(none, None);
        }
        let long = format!("[ {}1]", "1,".repeat(KEY_BYTES_NORMALIZED_MAX));
        check(&format!(r#"{{"a":[{long}]}}"#), Some(&long));
        let exact = |bytes: usize| format!("[{}1 ]", " ".repeat(bytes - 4));
        check(&format!(r#"{{"a":[{}]}}"#, exact(KEY_BYTES_NORMALIZED_MAX)), Some("[1]"));
        let longer = exact(KEY_BYTES_NORMALIZED_MAX + 1);
        check(&format!(r#"{{"a":[{longer}]}}"#), Some(&longer));
    }

    /// A tree of values would take tens of bytes for each byte of such a payload.
    #[test]
    fn no_values_are_built_of_a_payload() {
        let payload = format!(r#"{{"many":[{}{{}}],"a":["x"]}}"#, "{},".repeat(10_000));
        let counted = allocation_counter::measure(|| {
            assert_eq!(value_at("/a/0", payload.as_bytes(), Syntax::Unchecked).as_deref(), Some("\"x\""));
        });
        assert!(counted.bytes_total < 1024, "{counted:?}");
    }
}
