//! How reactors attach to topics: their interest in events, and their copies of the logs.

use std::sync::Arc;

use super::{Bus, Interest, TopicState, topic::TopicLog, topics::lock};
use crate::{
    budget::ChargeRefused,
    clock::Moment,
    event::{Event, EventId, Position},
    share::Owner,
    topic::Topic,
};

/// A copy of a topic's log, for a reader that attaches or catches up. The events themselves are shared.
#[derive(Debug)]
pub struct LogSnapshot {
    pub state: Arc<TopicState>,
    /// The retained events that the reactor lacks, oldest first.
    pub events: Vec<Arc<Event>>,
    /// The position of the next event, with which the inbox goes on.
    pub next: Position,
    /// The id before the oldest retained event. A reader that has everything up to it lacks nothing.
    pub floor: EventId,
    /// The position and the time of the log's newest change of epoch. The change need not be among the events.
    pub epoch: (Position, Moment),
    /// Whether the source delivers the topic. If not, [`ControlMessage::Live`](super::ControlMessage::Live) follows.
    pub live: bool,
}

impl Bus {
    /// Attaches `reactor` to `topic`: registers its interest and copies the history in one step, so that there is neither a gap
    /// nor a duplicate between the two. Makes the topic if it does not exist, even if the memory budget is spent.
    pub fn attach(&self, topic: &Topic, reactor: usize) -> LogSnapshot {
        loop {
            if let Some(snapshot) = self.attach_to(&self.state(topic), reactor) {
                return snapshot;
            }
        }
    }

    /// As [`Bus::attach`], but refuses to make a topic for which the memory budget, or the share of `owner`, has no room.
    pub(crate) fn try_attach(
        &self,
        topic: &Topic,
        reactor: usize,
        owner: Option<&Arc<Owner>>,
    ) -> Result<LogSnapshot, ChargeRefused> {
        loop {
            if let Some(snapshot) = self.attach_to(&self.try_state(topic, owner)?, reactor) {
                return Ok(snapshot);
            }
        }
    }

    /// `None`: the topic was removed from the table meanwhile.
    fn attach_to(&self, state: &Arc<TopicState>, reactor: usize) -> Option<LogSnapshot> {
        let mut log = lock(&state.log);
        if log.retired {
            return None;
        }
        if log.interest.is_empty() {
            self.notify_source(&state.class, Interest::Wanted(state.topic.clone()));
        }
        log.interest.insert(reactor);
        log.resync.remove(reactor);
        Some(LogSnapshot::of(state, &log, 0))
    }

    /// The log of `state`, for a reactor that is attached and has no readers of the topic yet.
    pub fn snapshot(&self, state: &Arc<TopicState>) -> LogSnapshot {
        LogSnapshot::of(state, &lock(&state.log), 0)
    }

    /// Detaches `reactor` from `state`.
    pub fn detach(&self, state: &TopicState, reactor: usize) {
        let mut log = lock(&state.log);
        log.resync.remove(reactor);
        if log.interest.remove(reactor) && log.interest.is_empty() {
            self.notify_source(&state.class, Interest::Unwanted(state.topic.clone()));
        }
    }

    /// The events of `state` that `reactor` lacks after its inbox was full; it has all before `next`. If the log has dropped some of
    /// them already, the first event's position, or the snapshot's `next` if there are no events, is above `next`.
    pub fn resync(&self, state: &Arc<TopicState>, reactor: usize, next: Position) -> LogSnapshot {
        let mut log = lock(&state.log);
        log.resync.remove(reactor);
        LogSnapshot::of(state, &log, next)
    }
}

impl LogSnapshot {
    pub(super) fn of(state: &Arc<TopicState>, log: &TopicLog, from: Position) -> Self {
        Self {
            events: log.history.events_from(from).cloned().collect(),
            next: log.history.next(),
            floor: log.history.floor(),
            epoch: (log.history.epoch(), log.history.epoch_at()),
            live: log.live,
            state: Arc::clone(state),
        }
    }
}
