//! What comes over a connection.

use std::sync::Arc;

use bytes::Bytes;

use crate::source::nats::headers::Headers;

/// A message of a subscription.
#[derive(Clone, Debug, Default)]
pub(in crate::source::nats) struct Message {
    /// The subject it was published to. Bytes that are no text are U+FFFD, which is in no topic's name.
    pub(in crate::source::nats) subject: Arc<str>,
    /// Where an answer is expected.
    pub(in crate::source::nats) reply: Option<Box<str>>,
    pub(in crate::source::nats) headers: Option<Headers>,
    /// The status that stands in the first line of the headers, such as 503 where nobody serves a subject.
    pub(in crate::source::nats) status: Option<u16>,
    pub(in crate::source::nats) payload: Bytes,
    /// The payload or the headers were over the limit, and have been passed over: `payload` is empty and `headers` are absent.
    pub(in crate::source::nats) is_oversize: bool,
}

impl Message {
    /// What it weighs while it waits.
    pub(in crate::source::nats) fn weight_bytes(&self) -> usize {
        let reply = self.reply.as_ref().map_or(0, |reply| reply.len());
        let headers = self.headers.as_ref().map_or(0, |headers| headers.as_bytes().len());
        size_of::<Self>() + self.subject.len() + reply + headers + self.payload.len()
    }
}

/// What else happens on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::nats) enum LinkEvent {
    /// The server's error, which does not have to end the connection.
    Error(String),
    /// The connection has ended, and nothing comes any more. Why, if something is known of that.
    Closed(Option<String>),
    /// What came is not the protocol, for this reason. Nothing comes any more.
    Broken(String),
}

/// Why a message cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::nats) enum PublishError {
    /// It is larger than the server takes (`max_payload`).
    TooBig,
    /// It has headers, which the server does not take.
    NoHeaders,
    /// The subject, or that of the answer, is none.
    BadSubject,
}

/// What has come since the last time.
#[derive(Debug)]
pub(in crate::source::nats) struct Arrivals<T> {
    /// Messages of one subscription each, in order.
    pub(in crate::source::nats) messages: Vec<(T, Vec<Message>)>,
    /// What else has happened. What `messages` has of a subscription may have come before or after.
    pub(in crate::source::nats) events: Vec<LinkEvent>,
}

impl<T> Arrivals<T> {
    pub(super) fn new() -> Self {
        Self { messages: Vec::new(), events: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.events.is_empty()
    }
}
