//! The topics that a broker's channels are, and why a message is no event.

use std::{collections::HashMap, fmt};

use crate::{
    bus::PublishRefused,
    gap::GapReason,
    topic::{NAME_BYTES_MAX, Topic},
};

/// Cached names of channels. With patterns any publisher may invent channels, so the cache is bounded.
const NAMES_MAX: usize = 65_536;

/// Topics by channel, so that a message costs one look-up and no allocation for its name; `None` for a channel that is
/// no topic.
#[derive(Debug, Default)]
pub(super) struct ChannelNames {
    topics: HashMap<Box<[u8]>, Option<Topic>, foldhash::fast::RandomState>,
}

impl ChannelNames {
    pub(super) fn resolve(&mut self, channel: &[u8]) -> Option<&Topic> {
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

/// The name of a channel for a log line. A foreign publisher chose the name, and how long it is.
pub(super) fn show(channel: &[u8]) -> impl fmt::Display {
    channel[..channel.len().min(NAME_BYTES_MAX)].escape_ascii()
}

/// Why the bus refused an event, in words, and for its readers.
pub(super) fn explain(refused: PublishRefused) -> (&'static str, GapReason) {
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
        let mut names = ChannelNames::default();
        for channel in ["x".repeat(NAME_BYTES_MAX + 1), "x".repeat(1 << 20)] {
            assert_eq!(names.resolve(channel.as_bytes()), None);
        }
        assert!(names.topics.is_empty());
        assert!(names.resolve("x".repeat(NAME_BYTES_MAX).as_bytes()).is_some());
        assert_eq!(names.resolve(b"no topic"), None);
        assert_eq!(names.topics.len(), 2);
    }
}
