//! What a server delivers.

use std::sync::Arc;

use bytes::Bytes;

use super::headers::Headers;

/// A message of a subscription.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// The subject it was published to. Bytes that are no text are U+FFFD, which is in no topic's name.
    pub(super) subject: Arc<str>,
    /// Where an answer is expected.
    #[allow(dead_code, reason = "core NATS has no use for it")]
    pub(super) reply: Option<Box<str>>,
    pub(super) headers: Option<Headers>,
    /// The status that stands in the first line of the headers, such as 503 where nobody serves a subject.
    #[allow(dead_code, reason = "core NATS has no use for it")]
    pub(super) status: Option<u16>,
    /// What stands behind the status.
    #[allow(dead_code, reason = "core NATS has no use for it")]
    pub(super) description: Option<Box<str>>,
    pub(super) payload: Bytes,
    /// The payload or the headers were over the limit, and have been passed over: `payload` is empty and `headers` are absent.
    pub(super) is_oversize: bool,
}

/// What else happens on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkEvent {
    /// The server's error, which does not have to end the connection.
    Error(String),
    /// The connection has ended, and nothing comes any more. Why, if something is known of that.
    Closed(Option<String>),
    /// Messages came faster than they were taken, and some were dropped.
    Overrun,
}

/// Why a message cannot be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishError {
    /// It is larger than the server takes (`max_payload`).
    TooBig,
    /// The connection has ended.
    Closed(String),
}
