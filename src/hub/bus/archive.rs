//! The archive: what a broker keeps of a topic beyond the hub's own log, fetched by a source's worker thread.

use std::{fmt, sync::Arc};

use crate::{
    clock::Moment,
    event::{Event, EventId, Start},
    gap::Gap,
    topic::Topic,
};

/// Reads older events than the log holds. A reactor hands a request over and goes on; the answer comes as a control message.
pub trait Archive: Send + Sync + fmt::Debug {
    /// Takes `request` and answers through its `reply`, later or at once, exactly once, from any thread. Never blocks.
    fn fetch(&self, request: ArchiveRequest);
}

/// Which events are wanted.
pub struct ArchiveRequest {
    /// Of this topic.
    pub topic: Topic,
    /// From here on. `Live` asks for nothing.
    pub start: Start,
    /// The [digest](crate::event::digest) of the event at the id that `start` goes on after, if the asker has it: where the
    /// broker has another event there, its log is another one, and the page has a gap that says so.
    pub content: Option<u64>,
    /// What was read of the broker before this moment is of no use: its log was replaced since.
    pub since: Moment,
    /// Up to this id, inclusive; `None`: up to the newest.
    pub upto: Option<EventId>,
    /// At most so many events, the oldest first; of `Start::Last`, the newest.
    pub events_max: usize,
    /// At most so many bytes of payload, unless the first event alone is larger.
    pub bytes_max: usize,
    /// Takes the answer.
    pub reply: ArchiveReply,
}

/// Takes the answer to an [`ArchiveRequest`].
pub type ArchiveReply = Box<dyn FnOnce(Result<ArchivePage, ArchiveFailed>) + Send>;

/// Consecutive events of a topic.
#[derive(Clone, Debug, Default)]
pub struct ArchivePage {
    /// In order. Their positions mean nothing: they are in no log.
    pub events: Vec<Arc<Event>>,
    /// Whether this is all that was asked for; if not, ask again after the last event.
    pub is_complete: bool,
    /// Set if the broker does not have all that follows the id asked for: what is missing ahead of `events`.
    pub gap: Option<Gap>,
}

/// Why the archive did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFailed {
    /// Too many requests wait already.
    QueueFull,
    /// The broker cannot be reached.
    Unavailable,
    /// What the broker has under the topic's key is no log: the key is another application's, or was made by hand.
    NoStream,
    /// The broker's access rules forbid to read it.
    Forbidden,
}

impl fmt::Debug for ArchiveRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveRequest").field("topic", &self.topic).field("start", &self.start).finish_non_exhaustive()
    }
}
