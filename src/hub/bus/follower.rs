//! A follower: one thread that gets all events of the topics under its patterns, subscribers or not. The bridge is one.
//!
//! Like a reactor it has an inbox of its own, and copies what it lacks from the log after the inbox was full. Unlike a reactor it
//! has no interest: it neither keeps a topic alive nor makes a source subscribe. Its source must be configured to bring the topics.

use std::sync::{Arc, atomic::Ordering};

use super::{Bus, EventMessage, Inbox, LogSnapshot, TopicState, topic::TopicLog, topics::lock};
use crate::{
    event::{Event, Position},
    topic::{Pattern, Topic},
};

/// The follower of a bus.
#[derive(Debug)]
pub(crate) struct Follower {
    patterns: Vec<Pattern>,
    inbox: Inbox,
}

/// How far the follower is with a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Followed {
    /// It does not follow the topic.
    #[default]
    No,
    /// It gets each event.
    Yes,
    /// Its inbox was full. It gets no events of the topic until it has copied the log.
    Behind,
}

impl Follower {
    /// A follower of the topics under `patterns`, whose thread reads `inbox`.
    pub(crate) fn new(patterns: Vec<Pattern>, inbox: Inbox) -> Self {
        Self { patterns, inbox }
    }

    /// What `topic` begins with.
    pub(super) fn begin(&self, topic: &Topic) -> Followed {
        if self.patterns.iter().any(|pattern| pattern.matches(topic)) { Followed::Yes } else { Followed::No }
    }

    /// Hands over an event, under the lock of `log`. True if the thread is to be notified.
    pub(super) fn take(&self, bus: &Bus, state: &Arc<TopicState>, log: &mut TopicLog, event: &Arc<Event>) -> bool {
        if log.followed != Followed::Yes {
            return false;
        }
        if !self.inbox.put_event(EventMessage { key: state.key, event: Arc::clone(event) }) {
            log.followed = Followed::Behind;
            self.inbox.put_resync(Arc::clone(state));
            bus.resyncs.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

impl Bus {
    /// The same bus with a follower. To be called before there are topics.
    pub(crate) fn with_follower(mut self, follower: Follower) -> Self {
        self.follower = Some(follower);
        self
    }

    /// The inbox of the follower, if there is one.
    pub(crate) fn follower_inbox(&self) -> Option<&Inbox> {
        self.follower.as_ref().map(|follower| &follower.inbox)
    }

    /// The events of `state` from `next` on, after the follower's inbox was full: as [`Bus::resync`] for a reactor.
    pub(crate) fn resync_follower(&self, state: &Arc<TopicState>, next: Position) -> LogSnapshot {
        let mut log = lock(&state.log);
        log.followed = Followed::Yes;
        LogSnapshot::of(state, &log, next)
    }
}
