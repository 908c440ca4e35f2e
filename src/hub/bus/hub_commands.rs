//! Hub commands: what hubs on one broker ask each other to do. They travel as events of topics that no client can read.

use std::{fmt, ops::Bound};

use bytes::Bytes;

use super::{Bus, listing::SLICE};
use crate::{
    clock::Moment,
    gap::GapReason,
    topic::{Pattern, Topic},
};

/// The prefix of topics whose events are hub commands.
pub(crate) const HUB_COMMANDS: &str = "fanfare.orders.";

/// The topic of the command that the bus executes itself: events of topics may be missing. Its payload is a JSON array of patterns
/// of topics. A bridge says so of what it could not bring.
pub(super) const LOSSES: &str = "fanfare.orders.losses";

/// The topic of the command that reports losses, to which each hub with a broker listens.
pub(crate) fn losses_topic() -> Topic {
    Topic::parse(LOSSES).expect("the constant is a good name")
}

/// The payload of the command that reports losses of topics under `patterns`.
pub(crate) fn losses_payload<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Bytes {
    let patterns: Vec<&str> = patterns.into_iter().collect();
    serde_json::to_vec(&patterns).expect("texts always have a JSON form").into()
}

/// Whether the events of `topic` are hub commands.
pub(crate) fn is_hub_command(topic: &Topic) -> bool {
    topic.as_str().starts_with(HUB_COMMANDS)
}

/// Executes hub commands of some topics.
pub(crate) trait HubCommands: Send + Sync + fmt::Debug {
    /// Takes an event of `topic`, which anybody with access to the broker may have published, and passes over topics of others.
    /// Called on a source's thread, so it never blocks.
    fn take(&self, topic: &Topic, kind: Option<&str>, data: Bytes, bus: &Bus, now: Moment);
}

/// More patterns in one command are not looked at; a bridge has no more maps.
const PATTERNS_MAX: usize = 256;

impl Bus {
    /// Executes the command that reports losses. What is no such command is passed over.
    pub(super) fn take_losses(&self, data: &[u8], now: Moment) {
        let patterns: Vec<String> = serde_json::from_slice(data).unwrap_or_default();
        let patterns: Vec<Pattern> =
            patterns.iter().take(PATTERNS_MAX).filter_map(|text| Pattern::parse(text).ok()).collect();
        self.report_losses(&patterns, now);
    }

    /// Reports that events of the topics under `patterns` may be missing from here on. It makes no topic: nobody can come back to
    /// one that does not exist.
    pub(crate) fn report_losses(&self, patterns: &[Pattern], now: Moment) {
        let mut after: Option<Topic> = None;
        loop {
            let from = after.as_ref().map_or(Bound::Unbounded, |topic| Bound::Excluded(topic.as_str()));
            let states = self.topics.page(from, SLICE);
            let mut feed = self.feed();
            for state in states.iter().filter(|state| patterns.iter().any(|pattern| pattern.matches(&state.topic))) {
                feed.report_loss(&state.topic, GapReason::SourceLost, now);
            }
            match states.last() {
                Some(last) if states.len() == SLICE => after = Some(last.topic.clone()),
                _ => return,
            }
        }
    }
}
