//! The sweep: drops events that are too old, and ends topics that nobody uses.

use std::{
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use super::{Bus, TopicState, listing::SLICE, topic::TopicLog, topics::lock};
use crate::{clock::Moment, topic::Topic};

impl Bus {
    /// Drops events that are too old, and topics that nobody uses. Its time grows with the number of topics: not for a reactor's
    /// thread.
    pub fn sweep(&self, now: Moment) {
        let mut after = None;
        while let Some(last) = self.sweep_some(after.as_ref(), now) {
            after = Some(last);
        }
    }

    /// Sweeps the next topics after `after` in the order of names, at most 256. Returns the last of them, or `None` once all are
    /// swept.
    pub fn sweep_some(&self, after: Option<&Topic>, now: Moment) -> Option<Topic> {
        let from = after.map_or(Bound::Unbounded, |topic| Bound::Excluded(topic.as_str()));
        let states = self.topics.page(from, SLICE);
        states.iter().for_each(|state| self.sweep_one(state, now));
        match states.last() {
            Some(last) if states.len() == SLICE => Some(last.topic.clone()),
            _ => {
                self.idempotency_keys.sweep(now);
                None
            }
        }
    }

    fn sweep_one(&self, state: &Arc<TopicState>, now: Moment) {
        let mut log = lock(&state.log);
        log.history.trim_within(&state.class.retention, self.budget(), now);
        self.count_log(&mut log);
        if log.has_pending_loss {
            drop(log);
            return self.feed().report_pending_loss(&state.topic, now);
        }
        if log.history.is_empty() && log.interest.is_empty() && !log.retired {
            log.retired = true;
            lock(&self.retired_positions).remember(self.topics.hash(&state.topic), log.history.next() - 1);
            drop(log);
            self.topics.remove(&state.topic);
        }
    }

    /// Updates [`Bus::log_bytes`] after the log has changed.
    pub(super) fn count_log(&self, log: &mut TopicLog) {
        let bytes = log.history.bytes();
        let before = std::mem::replace(&mut log.counted_bytes, bytes);
        if before <= bytes {
            self.log_bytes.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.log_bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// Skips a position of a topic that does not exist, because an event of it was lost. When the topic begins, a reader that has
    /// what came before gets a gap.
    pub(super) fn skip_position(&self, topic: &Topic) {
        let (mut retired, hash) = (lock(&self.retired_positions), self.topics.hash(topic));
        let position = retired.last_position(hash) + 1;
        retired.remember(hash, position);
    }
}
