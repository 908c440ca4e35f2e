//! How a connection for requests becomes a stream.

use std::{fmt, time::Duration};

use super::Session;
use crate::{
    clock::Moment,
    outbox::Outbox,
    protocol::http::{Request, Response},
    transport::Transport,
};

/// What a protocol learns of the connection where it opens a stream.
pub struct OpeningContext<'a> {
    /// As [`crate::protocol::http::format_date`] gives it.
    pub date: &'a str,
    /// Fields for the head of a stream that is a response.
    pub headers: &'a [(&'static str, String)],
    /// When a browser may come back, should the stream break.
    pub retry_ms: u64,
    /// Whether a response may come in chunks.
    pub can_chunk: bool,
    /// The topics that the request names.
    pub topic_count: usize,
    pub now: Moment,
    /// Makes an interval shorter by chance, so that streams which begin together do not stay together.
    pub early: &'a mut dyn FnMut(Duration) -> Duration,
}

impl fmt::Debug for OpeningContext<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpeningContext").finish_non_exhaustive()
    }
}

/// What a client does that is refused by a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// It comes back by itself, later.
    Retry,
    /// It stays away, or has to sign in first.
    StayAway,
}

/// How a protocol opens its streams. What it leaves out has the default that stands with the method.
pub(in crate::protocol) trait ProtocolOpening: Sized {
    /// What the connection speaks from then on.
    const TRANSPORT: Transport;
    /// The status of the response.
    const STATUS: u16;

    /// Writes the response's head. Returns the session that the connection has from then on.
    fn open(self, context: OpeningContext<'_>, outbox: &mut Outbox) -> Session;

    /// Whether the id of a stream over so many topics is its own, and names all of them ([`Session::set_topics`]).
    fn has_own_id(&self, _topic_count: usize) -> bool {
        false
    }

    /// The answer to a HEAD; `None` where only a GET can open such a stream.
    fn head(&self) -> Option<Response> {
        None
    }

    /// The stream is opened only to be refused, for an API whose clients look for an event that tells why.
    fn expect_refusal(&mut self) {}

    /// The stream that a client asks for with `request`, to be ended at once, if the client learns more from its end than from a
    /// status.
    fn of_refusal(_request: &Request, _after: AfterRefusal) -> Option<Self> {
        None
    }
}
