//! Turns messages into events for the bus, and refuses those that are none.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tracing::warn;

use super::envelope;
use crate::{
    bus::{Feed, PublishRefused},
    clock::Moment,
    event::Payload,
    gap::GapReason,
    source::{LogRateLimiter, SourceStatus},
    topic::{NAME_BYTES_MAX, Topic},
};

/// Cached names of channels. With patterns any publisher may invent channels, so the cache is bounded.
const NAMES_MAX: usize = 65_536;

/// Turns messages into events.
#[derive(Debug)]
pub(super) struct Intake {
    names: Names,
    payload_bytes_max: usize,
    status: Arc<SourceStatus>,
    refusals: LogRateLimiter,
}

/// Topics by channel, so that a message costs one look-up and no allocation for its name; `None` for a channel that is
/// no topic.
#[derive(Debug, Default)]
struct Names {
    topics: HashMap<Box<[u8]>, Option<Topic>, foldhash::fast::RandomState>,
}

impl Intake {
    pub(super) fn new(payload_bytes_max: usize, status: Arc<SourceStatus>) -> Self {
        Self { names: Names::default(), payload_bytes_max, status, refusals: LogRateLimiter::default() }
    }

    /// Publishes a message. True if the bus accepted it; otherwise the topic gets a gap and the refusal is counted.
    pub(super) fn take(&mut self, channel: &[u8], payload: &[u8], feed: &mut Feed<'_>, now: Moment) -> bool {
        let Some(topic) = self.names.resolve(channel) else {
            self.refuse(channel, "the channel is not a topic's name", now);
            return false;
        };
        if !feed.gives_ids(topic) {
            self.refuse(channel, "the topic is kept in a Redis Stream: add the event to the stream", now);
            return false;
        }
        let refusal = match envelope::open(payload) {
            Err(_) => ("the envelope is broken", GapReason::SourceLost),
            Ok(opened) if self.payload_bytes_max < opened.data.len() => {
                ("the payload is over the limit", GapReason::SourceLost)
            }
            Ok(opened) => {
                // The one copy: the event outlives the buffer.
                let payload = Payload::looked_at(Bytes::copy_from_slice(opened.data));
                match feed.publish(topic, opened.kind.as_deref(), payload, now) {
                    Ok(_) => return true,
                    Err(refused) => explain(refused),
                }
            }
        };
        // Readers get a gap in its place, whatever the fault was.
        let (why, reason) = refusal;
        feed.report_loss(topic, reason, now);
        self.status.on_loss();
        self.refuse(channel, why, now);
        false
    }

    /// Reports a message over the size limit, which is skipped unread.
    pub(super) fn refuse_oversize(&mut self, channel: &[u8], feed: &mut Feed<'_>, now: Moment) {
        if let Some(topic) = self.names.resolve(channel) {
            feed.report_loss(topic, GapReason::SourceLost, now);
            self.status.on_loss();
        }
        self.refuse(channel, "the payload is over the limit", now);
    }

    fn refuse(&mut self, channel: &[u8], why: &str, now: Moment) {
        self.status.on_refused();
        if let Some(suppressed) = self.refusals.admit(now) {
            // A foreign publisher chose the name, and how long it is.
            let name = channel[..channel.len().min(NAME_BYTES_MAX)].escape_ascii();
            warn!(suppressed, "message on channel `{name}` refused: {why}");
        }
    }
}

impl Names {
    fn resolve(&mut self, channel: &[u8]) -> Option<&Topic> {
        // A foreign publisher may choose names as long as a message: none of them is worth keeping.
        if NAME_BYTES_MAX < channel.len() {
            return None;
        }
        if !self.topics.contains_key(channel) {
            if self.topics.len() == NAMES_MAX {
                self.topics.clear();
            }
            let topic = std::str::from_utf8(channel).ok().and_then(|name| Topic::parse(name).ok());
            self.topics.insert(channel.into(), topic);
        }
        self.topics[channel].as_ref()
    }
}

fn explain(refused: PublishRefused) -> (&'static str, GapReason) {
    match refused {
        PublishRefused::NotUtf8 => ("the payload is not UTF-8", GapReason::SourceLost),
        PublishRefused::TooBig => ("the payload is over the limit", GapReason::SourceLost),
        PublishRefused::BadKind => ("the type contains a line break", GapReason::SourceLost),
        PublishRefused::NoRoom | PublishRefused::Quota(_) => ("the memory budget is spent", GapReason::Overflow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_long_as_messages_are_not_kept() {
        let mut names = Names::default();
        for channel in ["x".repeat(NAME_BYTES_MAX + 1), "x".repeat(1 << 20)] {
            assert_eq!(names.resolve(channel.as_bytes()), None);
        }
        assert!(names.topics.is_empty());
        assert!(names.resolve("x".repeat(NAME_BYTES_MAX).as_bytes()).is_some());
        assert_eq!(names.resolve(b"no topic"), None);
        assert_eq!(names.topics.len(), 2);
    }
}
