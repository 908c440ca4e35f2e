//! A topic: its class, and what its lock guards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Class, LogKind, ReactorSet, sync::Mutex};
use crate::{
    budget::Charge,
    clock::Moment,
    event::{Event, EventId, Payload, Position},
    json,
    json::Syntax,
    log::{Policy, Ring},
    share::Hold,
    topic::Topic,
};

/// The number reactors know a topic by. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey(pub u64);

/// A topic, as all reactors share it.
#[derive(Debug)]
pub struct TopicState {
    /// Its name.
    pub topic: Topic,
    /// Its number.
    pub key: TopicKey,
    /// What it retains, and its policy.
    pub class: Class,
    /// How many subscriptions it has, over all reactors.
    pub subscriber_count: AtomicUsize,
    /// The source's broker refuses to deliver it, until somebody changes something there.
    pub(super) refused: AtomicBool,
    pub(super) core: Mutex<Core>,
    /// What the topic itself holds of the memory budget, without its events.
    pub(super) _charge: Charge,
    /// Whose topic it is, if it is a tenant's.
    pub(super) _hold: Option<Hold>,
}

impl TopicState {
    /// Whether the source's broker refuses to deliver it.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

/// What the topic's lock guards.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) history: Ring,
    pub(super) interest: ReactorSet,
    /// Reactors whose inbox was full: they get no events of this topic until they have copied the history.
    pub(super) resync: ReactorSet,
    /// Whether events published at the source arrive here.
    pub(super) live: bool,
    /// Events were lost behind the hole that is the newest entry, and the next one to be appended must say so.
    pub(super) has_pending_loss: bool,
    /// Readers were admitted before the source confirmed the topic: they miss what is published until it does.
    pub(super) has_unconfirmed: bool,
    /// Taken out of the table: whoever still holds it must look the topic up anew.
    pub(super) retired: bool,
    /// What the log weighed when [`Bus::log_bytes`] was last brought up to date.
    pub(super) counted_bytes: usize,
}

impl Core {
    /// A broker's log that is fed without having been loaded begins after `floor`: the topic was given up meanwhile, and
    /// what came before is the broker's to know.
    pub(super) fn begin_at(&mut self, floor: EventId, state: &TopicState) {
        if state.class.log != LogKind::Memory && self.history.newest_id() == EventId::default() {
            self.history.restart(floor);
        }
    }
}

impl TopicState {
    /// What an event stands for, where slow readers get the newest of each key only. Reads the payload once: not under the topic's
    /// lock.
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

    /// The event as it is to stand in the log. `key` is what [`TopicState::key_of`] says.
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

/// The value at `pointer` in `payload`, if it is JSON and has one. A short one is written as serde writes it, so that spaces,
/// escapes and the order of members make no other key; a long one is its own text: none is built for it.
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

/// Longer keys are compared as they are written.
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
    }

    /// A tree of values takes tens of bytes for each byte of such a payload.
    #[test]
    fn no_values_are_built_of_a_payload() {
        let payload = format!(r#"{{"many":[{}{{}}],"a":["x"]}}"#, "{},".repeat(10_000));
        let counted = allocation_counter::measure(|| {
            assert_eq!(value_at("/a/0", payload.as_bytes(), Syntax::Unchecked).as_deref(), Some("\"x\""));
        });
        assert!(counted.bytes_total < 1024, "{counted:?}");
    }
}
