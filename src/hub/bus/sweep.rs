//! The sweep: what has grown too old is dropped, and topics that nobody uses end.

use std::{
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Bus, TopicState,
    listing::SLICE,
    topics::{Core, lock},
};
use crate::{clock::Moment, topic::Topic};

impl Bus {
    /// Drops what has grown too old, and topics that nobody uses. Takes its time: not for a reactor's thread.
    pub fn sweep(&self, now: Moment) {
        let mut after = None;
        while let Some(last) = self.sweep_some(after.as_ref(), now) {
            after = Some(last);
        }
    }

    /// The same for the next topics behind `after` in the order of names, 256 at most: the last of them, or `None` once all
    /// have been looked at.
    pub fn sweep_some(&self, after: Option<&Topic>, now: Moment) -> Option<Topic> {
        let from = after.map_or(Bound::Unbounded, |topic| Bound::Excluded(topic.as_str()));
        let states = self.topics.page(from, SLICE);
        states.iter().for_each(|state| self.sweep_one(state, now));
        match states.last() {
            Some(last) if states.len() == SLICE => Some(last.topic.clone()),
            _ => {
                self.seen_keys.sweep(now);
                None
            }
        }
    }

    fn sweep_one(&self, state: &Arc<TopicState>, now: Moment) {
        let mut core = lock(&state.core);
        core.history.trim_within(&state.class.retention, self.budget(), now);
        self.count_log(&mut core);
        if core.has_lost {
            drop(core);
            return self.feed().report_lost(&state.topic, now);
        }
        if core.history.is_empty() && core.interest.is_empty() && !core.retired {
            core.retired = true;
            lock(&self.retired).remember(self.topics.hash(&state.topic), core.history.next() - 1);
            drop(core);
            self.topics.remove(&state.topic);
        }
    }

    /// Brings [`Bus::log_bytes`] up to date after the log has changed.
    pub(super) fn count_log(&self, core: &mut Core) {
        let bytes = core.history.bytes();
        let before = std::mem::replace(&mut core.counted_bytes, bytes);
        if before <= bytes {
            self.log_bytes.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.log_bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// Something was lost on a topic that does not exist: when it begins, whoever has what came before finds a hole.
    pub(super) fn skip_position(&self, topic: &Topic) {
        let (mut retired, hash) = (lock(&self.retired), self.topics.hash(topic));
        let position = retired.last_position(hash) + 1;
        retired.remember(hash, position);
    }
}
