//! Reactors attach to topics: interest in their events, and copies of their logs.

use std::sync::Arc;

use super::{Bus, Interest, TopicState, topic::Core, topics::lock};
use crate::{
    budget::ChargeRefused,
    clock::Moment,
    event::{Event, EventId, Position},
    share::Owner,
    topic::Topic,
};

/// What a reactor gets when it begins to listen to a topic, or to catch up with it.
#[derive(Debug)]
pub struct Attachment {
    /// The topic.
    pub state: Arc<TopicState>,
    /// All that is retained and the reactor lacks, oldest first.
    pub events: Vec<Arc<Event>>,
    /// The position of the next event: the inbox goes on from there.
    pub next: Position,
    /// The id before the oldest event retained: whoever has everything up to it lacks nothing.
    pub floor: EventId,
    /// The position of the log's newest change of epoch, and when it was: it need not be among the events.
    pub epoch: (Position, Moment),
    /// Whether the source already delivers it; if not, [`ControlMessage::Live`] follows.
    pub live: bool,
}

impl Bus {
    /// `reactor` begins to listen to `topic`: registers its interest and copies the history in one step, so that there
    /// is neither gap nor duplicate between the two. The topic is made if need be, whatever is left of the memory budget.
    pub fn attach(&self, topic: &Topic, reactor: usize) -> Attachment {
        loop {
            if let Some(attachment) = self.attach_to(&self.state(topic), reactor) {
                return attachment;
            }
        }
    }

    /// The same, unless the topic does not exist and there is no room for it, in the memory budget or among what `owner` may hold.
    pub fn try_attach(
        &self,
        topic: &Topic,
        reactor: usize,
        owner: Option<&Arc<Owner>>,
    ) -> Result<Attachment, ChargeRefused> {
        loop {
            if let Some(attachment) = self.attach_to(&self.try_state(topic, owner)?, reactor) {
                return Ok(attachment);
            }
        }
    }

    /// `None`: the topic has been taken out of the table meanwhile.
    fn attach_to(&self, state: &Arc<TopicState>, reactor: usize) -> Option<Attachment> {
        let mut core = lock(&state.core);
        if core.retired {
            return None;
        }
        if core.interest.is_empty() {
            self.notify_source(&state.class, Interest::Wanted(state.topic.clone()));
        }
        core.interest.insert(reactor);
        core.resync.remove(reactor);
        Some(Attachment::of(state, &core, 0))
    }

    /// A copy of the log of `state` as it is now, for a reactor that is attached and has no readers of it yet.
    pub fn copy(&self, state: &Arc<TopicState>) -> Attachment {
        Attachment::of(state, &lock(&state.core), 0)
    }

    /// `reactor` stops listening to `state`.
    pub fn detach(&self, state: &TopicState, reactor: usize) {
        let mut core = lock(&state.core);
        core.resync.remove(reactor);
        if core.interest.remove(reactor) && core.interest.is_empty() {
            self.notify_source(&state.class, Interest::Unwanted(state.topic.clone()));
        }
    }

    /// What `reactor`, which has all events before `next`, lacks of `state`, after its inbox was full. If even that was
    /// too much for the history, the position to go on from is beyond the events.
    pub fn resync(&self, state: &Arc<TopicState>, reactor: usize, next: Position) -> Attachment {
        let mut core = lock(&state.core);
        core.resync.remove(reactor);
        Attachment::of(state, &core, next)
    }
}

impl Attachment {
    fn of(state: &Arc<TopicState>, core: &Core, from: Position) -> Self {
        Self {
            events: core.history.events_from(from).cloned().collect(),
            next: core.history.next(),
            floor: core.history.floor(),
            epoch: (core.history.epoch(), core.history.epoch_at()),
            live: core.live,
            state: Arc::clone(state),
        }
    }
}
