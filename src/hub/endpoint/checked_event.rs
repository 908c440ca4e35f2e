//! An event that a client publishes, after all checks.

use crate::{event::Payload, topic::Topic};

/// An event of a client that has passed every check.
#[derive(Debug)]
pub(in crate::endpoint) struct CheckedEvent {
    /// The topic to publish to.
    pub topic: Topic,
    /// The event's type.
    pub kind: Option<Box<str>>,
    pub payload: Payload,
    /// A repeat under the same key is not delivered.
    pub idempotency_key: Option<Box<str>>,
}
