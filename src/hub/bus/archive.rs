//! The archive: events that a broker keeps of a topic beyond the hub's own log. A worker thread of the source fetches them.

use std::{fmt, sync::Arc};

use crate::{
    clock::Moment,
    event::{Event, EventId, Start},
    gap::Gap,
    topic::Topic,
};

/// Reads older events than the hub's log holds. A reactor hands a request over and does not wait; the answer comes as a control
/// message.
pub trait Archive: Send + Sync + fmt::Debug {
    /// Takes `request`, and calls its `reply` exactly once, at once or later, from any thread. Never blocks.
    fn fetch(&self, request: ArchiveRequest);
}

/// A request for a page of a topic's events.
pub struct ArchiveRequest {
    /// The topic to read.
    pub topic: Topic,
    /// Where the page begins. `Live` asks for no events.
    pub start: Start,
    /// The [digest](crate::event::digest) of the event after which `start` goes on, if the requester has it. If the broker has
    /// another event under that id, its log was replaced, and the page has a gap that says so.
    pub content: Option<u64>,
    /// Cached reads from before this moment are not used: the broker's log was replaced since.
    pub since: Moment,
    /// The last id to read, inclusive. `None`: read up to the newest.
    pub upto: Option<EventId>,
    /// The most events in the page: the oldest ones, or for `Start::Last` the newest.
    pub events_max: usize,
    /// The most bytes of payload in the page, unless its first event alone has more.
    pub bytes_max: usize,
    /// Called with the answer, exactly once.
    pub reply: ArchiveCallback,
}

/// The callback that gets the answer to an [`ArchiveRequest`].
pub(crate) type ArchiveCallback = Box<dyn FnOnce(Result<ArchivePage, ArchiveFailed>) + Send>;

/// Consecutive events of a topic.
#[derive(Clone, Debug, Default)]
pub struct ArchivePage {
    /// The events in order. Their positions mean nothing, because they are in no log of the hub.
    pub events: Vec<Arc<Event>>,
    /// Whether the page has all that was requested. If not, request again after its last event.
    pub is_complete: bool,
    /// The events that the broker does not have any more, between the requested id and the first of `events`.
    pub gap: Option<Gap>,
}

/// Why the archive did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFailed {
    /// The worker's queue is full.
    QueueFull,
    /// The broker cannot be reached.
    Unavailable,
    /// The value under the topic's key is not a log. Another application owns the key, or somebody set it by hand.
    NoStream,
    /// The broker's access rules forbid the hub to read the topic.
    Forbidden,
}

impl fmt::Debug for ArchiveRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveRequest").field("topic", &self.topic).field("start", &self.start).finish_non_exhaustive()
    }
}
