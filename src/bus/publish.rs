//! Publishing: a batch of events from a source, or one event on its way out to a source that all hubs share.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{
    Bus, Mail, ReactorSet, TopicState,
    topics::{Core, lock},
};
use crate::{
    clock::Moment,
    event::{Event, EventId},
    frame::FrameCache,
    topic::Topic,
};

/// A batch of events on their way in.
#[derive(Debug)]
pub struct Feed<'bus> {
    bus: &'bus Bus,
    to_wake: ReactorSet,
    /// The topic of the last event: bursts mostly stay on one.
    last: Option<Arc<TopicState>>,
}

impl<'bus> Feed<'bus> {
    pub(super) fn new(bus: &'bus Bus) -> Self {
        Self { bus, to_wake: ReactorSet::default(), last: None }
    }

    /// Appends an event to `topic` and hands it to every reactor that has listeners there.
    pub fn publish(
        &mut self,
        topic: &Topic,
        kind: Option<&str>,
        data: Bytes,
        now: Moment,
    ) -> Result<EventId, PublishRefused> {
        self.bus.check(kind, &data)?;
        self.bus.received.fetch_add(1, Ordering::Relaxed);
        loop {
            let state = self.state(topic);
            let mut core = lock(&state.core);
            if core.retired {
                self.last = None;
                continue;
            }
            let position = core.history.next();
            let id = self.bus.id_at(position);
            let event = Arc::new(Event {
                topic: topic.clone(),
                id,
                position,
                accepted: now,
                kind: kind.map(Box::from),
                data,
                frames: FrameCache::default(),
            });
            core.history.push(Arc::clone(&event));
            core.history.trim(&state.class.retention, now);
            self.deliver(&state, &mut core, &event);
            return Ok(id);
        }
    }

    /// The source was away: events of `topic` may be missing from here on.
    pub fn report_loss(&mut self, _topic: &Topic, _now: Moment) {
        self.bus.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// Under the topic's lock, so that every inbox sees the same order.
    fn deliver(&mut self, state: &Arc<TopicState>, core: &mut Core, event: &Arc<Event>) {
        for reactor in core.interest.iter() {
            if core.resync.contains(reactor) {
                continue;
            }
            let inbox = &self.bus.inboxes[reactor];
            if !inbox.put_mail(Mail { key: state.key, event: Arc::clone(event) }) {
                core.resync.insert(reactor);
                inbox.put_resync(Arc::clone(state));
                self.bus.resyncs.fetch_add(1, Ordering::Relaxed);
            }
            self.to_wake.insert(reactor);
        }
    }

    fn state(&mut self, topic: &Topic) -> Arc<TopicState> {
        match &self.last {
            Some(state) if state.topic == *topic => Arc::clone(state),
            _ => {
                let state = self.bus.state(topic);
                self.last = Some(Arc::clone(&state));
                state
            }
        }
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        for reactor in self.to_wake.iter() {
            if self.bus.inboxes[reactor].doorbell().ring() {
                self.bus.wakeups.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Why the bus did not take an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    /// The payload is not UTF-8, and no text transport could carry it.
    NotUtf8,
    /// The payload is over the limit.
    TooBig,
    /// The type contains a line break.
    BadKind,
}

/// Why a publication did not get through to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFailed {
    /// The source's queue is full: nothing was published.
    QueueFull,
    /// The source cannot be reached: nothing was published.
    Unavailable,
    /// It was sent, and no answer came: it may have been published.
    Unknown,
}

/// The answer to one publication: its id, if this hub assigned one.
pub type Receipt = Result<Option<EventId>, PublishFailed>;

/// Called with the source's answer: how many subscribers it counted.
pub type Reply = Box<dyn FnOnce(Result<u64, PublishFailed>) + Send>;

/// An event on its way out to a source that all hubs share.
pub struct Publication {
    /// Where to.
    pub topic: Topic,
    /// Its type.
    pub kind: Option<Box<str>>,
    /// The payload.
    pub data: Bytes,
    /// Takes the answer; called exactly once, from any thread.
    pub reply: Reply,
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").field("topic", &self.topic).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A source that takes publications, so that every hub on it sees them.
pub trait Outlet: Send + Sync + fmt::Debug {
    /// Takes `publication` and answers through its `reply`, later or at once. Never blocks.
    fn publish(&self, publication: Publication);
}
