//! Event sinks: publications on their way out to a source, whose broker delivers them to every hub.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::PublishRefused;
use crate::{event::EventId, gap::GapReason, share::QuotaRefused, topic::Topic};

/// Why a publication did not reach the source's broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFailed {
    /// The source's queue is full: nothing was published.
    QueueFull,
    /// The source cannot be reached: nothing was published.
    Unavailable,
    /// It was sent, and no answer came: it may have been published.
    Unknown,
    /// The memory budget is spent: nothing was published.
    NoRoom,
    /// The publisher has used up a quota: nothing was published.
    Quota(QuotaRefused),
    /// The source's broker refuses it, and will again until somebody changes something there: nothing was published.
    Refused(Refusal),
}

/// Why a broker refuses a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its access rules do not let this hub in, or not publish there.
    Forbidden,
    /// It is a replica, which takes no writes and has nobody to pass them on to.
    ReadOnly,
    /// It has fewer replicas than its configuration demands for writes (`min-replicas-to-write`).
    TooFewReplicas,
    /// Its memory is spent.
    OutOfMemory,
    /// It is a node of a cluster, and the topic belongs to another one.
    Elsewhere,
    /// It keeps something else than a stream under the topic's key.
    NoStream,
    /// It takes no message of this size.
    TooBig,
    /// Something else.
    Other,
}

impl Refusal {
    /// What is wrong, for the publisher.
    pub fn text(self) -> &'static str {
        match self {
            Self::Forbidden => "the source's access rules forbid this publication; nothing was published",
            Self::ReadOnly => "the source is read-only (a replica); nothing was published",
            Self::TooFewReplicas => "the source has too few replicas to take writes; nothing was published",
            Self::OutOfMemory => "the source has no memory left; nothing was published",
            Self::Elsewhere => "the source is a cluster's node, and the topic is another node's; nothing was published",
            Self::NoStream => {
                "the source keeps something else than a stream under this topic's key (WRONGTYPE); nothing was published"
            }
            Self::TooBig => "the event is larger than the source takes (NATS: max_payload); nothing was published",
            Self::Other => "the source refuses this publication; nothing was published",
        }
    }
}

impl From<PublishRefused> for PublishFailed {
    /// For an event that has passed all checks of its content.
    fn from(refused: PublishRefused) -> Self {
        match refused {
            PublishRefused::Quota(refused) => Self::Quota(refused),
            _ => Self::NoRoom,
        }
    }
}

/// The outcome of a publication. The id is `None` if this hub did not give it.
pub type Receipt = Result<Option<EventId>, PublishFailed>;

/// The callback that gets the outcome of a publication.
pub type ReceiptCallback = Box<dyn FnOnce(Receipt) + Send>;

/// An event on its way out to a source's broker.
pub struct Publication {
    /// The topic to publish to.
    pub topic: Topic,
    /// The event's type.
    pub kind: Option<Box<str>>,
    pub data: Bytes,
    /// A repeat under the same key within [`super::Config::idempotency_window`] is not delivered, by any hub.
    pub idempotency_key: Option<Box<str>>,
    /// What a bridge says of it. Redis Pub/Sub has no place for that.
    pub bridged: Option<Box<Bridged>>,
    /// Called with the outcome, exactly once, from any thread.
    pub reply: ReceiptCallback,
}

/// What a bridge says of a publication.
#[derive(Clone, Debug)]
pub struct Bridged {
    /// Where it comes from: the source and the topic there. Contains no blank.
    pub origin: Arc<str>,
    /// Set: this is no event, but tells readers that events are missing at this place in the log, and why. The publication's
    /// type and payload do not count.
    pub gap: Option<GapReason>,
    /// How far the log that it comes from is carried with it. `None`: it comes from no log.
    pub carried: Option<Carried>,
}

/// How far a bridge has carried a log into another one.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The id up to which it was carried before; `0-0`: not at all.
    pub after: EventId,
    /// The id up to which it is carried with this publication.
    pub upto: EventId,
    /// Set as soon as one of the publications that carry this log has failed. None of those behind it is sent any more.
    pub is_broken: Arc<AtomicBool>,
}

impl Bridged {
    /// Whether a publication before this one has failed, so that this one must not be sent.
    pub(crate) fn is_broken(&self) -> bool {
        self.carried.as_ref().is_some_and(|carried| carried.is_broken.load(Ordering::Acquire))
    }

    /// The publication has failed.
    pub(crate) fn set_broken(&self) {
        self.carried.iter().for_each(|carried| carried.is_broken.store(true, Ordering::Release));
    }
}

/// The origin, and up to which id its log is carried.
impl fmt::Display for Bridged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.carried {
            Some(carried) => write!(f, "{} {}", self.origin, carried.upto),
            None => f.write_str(&self.origin),
        }
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").field("topic", &self.topic).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Takes publications to a source's broker, which delivers them to every hub.
pub trait EventSink: Send + Sync + fmt::Debug {
    /// Takes `publication`, and calls its `reply` at once or later. Never blocks.
    fn publish(&self, publication: Publication);
}
