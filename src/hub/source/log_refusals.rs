//! Logs that the broker refuses to read, because its access rules forbid it, or they are another node's: their readers are notified,
//! `/ready` names them, and they are loaded again as soon as the broker allows it.

use std::collections::BTreeMap;

use crate::{
    bus::Bus,
    clock::Moment,
    event::EventId,
    gap::{Gap, GapReason},
    source::{
        SourceStatus,
        refusals::{NAMED_MAX, Refused},
    },
    topic::Topic,
};

/// The topics whose logs are refused at present.
#[derive(Debug, Default)]
pub(in crate::source) struct LogRefusals {
    topics: BTreeMap<Topic, Refused>,
}

impl LogRefusals {
    /// The log of `topic` cannot be read, for the reason `refused`. Readers who have its log get a gap, once.
    pub(in crate::source) fn add(
        &mut self,
        topic: &Topic,
        refused: &str,
        has_readers: bool,
        bus: &Bus,
        status: &SourceStatus,
        now: Moment,
    ) {
        if self.topics.contains_key(topic) {
            return;
        }
        self.topics.insert(topic.clone(), Refused::new(refused, now));
        bus.mark_refused(topic);
        if has_readers {
            let from = bus.newest_id(topic);
            // The least id beyond all that was read. What follows is announced as another log, whatever its ids.
            let to = match from.minor.checked_add(1) {
                Some(minor) => EventId::new(from.major, minor),
                // So a log ends that is empty: right before the next moment of the server's clock.
                None => EventId::new(from.major.saturating_add(1), 0),
            };
            bus.feed().report_gap(topic, Gap { from, to, reason: GapReason::SourceLost }, now);
            status.on_loss();
        }
        self.report(status);
    }

    /// The log of `topic` was read, or nobody wants it any more.
    pub(in crate::source) fn remove(&mut self, topic: &Topic, status: &SourceStatus) {
        if self.topics.remove(topic).is_some() {
            self.report(status);
        }
    }

    pub(in crate::source) fn count(&self) -> usize {
        self.topics.len()
    }

    fn report(&self, status: &SourceStatus) {
        let named = self.topics.iter().take(NAMED_MAX).map(|(topic, refused)| (topic.to_string(), refused.clone()));
        status.set_refused(named.collect(), self.topics.len(), None);
    }
}
