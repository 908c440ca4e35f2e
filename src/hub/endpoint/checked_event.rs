//! What a client wants to publish.

use crate::{event::Payload, topic::Topic};

/// An event that has passed every check.
#[derive(Debug)]
pub(in crate::endpoint) struct CheckedEvent {
    /// Where to.
    pub topic: Topic,
    /// Its type.
    pub kind: Option<Box<str>>,
    /// The payload.
    pub payload: Payload,
    /// Under the same key, a repeat delivers nothing.
    pub idempotency_key: Option<Box<str>>,
}
