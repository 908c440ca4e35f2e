//! The last bytes of a connection: why it ends, and when its client may come back.

use super::Session;
use crate::{
    close::Close,
    outbox::Outbox,
    protocol::http::{self, Response},
    transport::Transport,
};

/// How a connection ends.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Why.
    pub close: Close,
    /// The reason in a close frame: at most 123 bytes (RFC 6455 section 5.5).
    pub reason: &'a str,
    /// When a client that shall come back may do so.
    pub retry_ms: u64,
    /// The response to a request of which no more is read, in the form of the API that it is for.
    pub refusal: Option<Response>,
    /// The date, as [`http::format_date`] gives it.
    pub date: &'a str,
    /// Whether the connection has a socket; otherwise a poll brings the last bytes.
    pub has_socket: bool,
}

impl Ending<'_> {
    /// Writes the last bytes of what spoke `transport`: of `session`, or of one that has ended itself. Nothing is
    /// written to a peer that is gone.
    pub fn write(self, session: &mut Result<Session, Close>, transport: Transport, outbox: &mut Outbox) {
        match session {
            _ if self.close == Close::PeerGone => {}
            Ok(session) => session.write_end(self, outbox),
            Err(_) => Session::write_end_of(transport, &self, outbox),
        }
    }
}

/// Writes the answer to a connection of which nothing is read.
pub fn write_unread_refusal(close: Close, date: &str, outbox: &mut Outbox) {
    http::write_refusal(close, date, outbox);
}

/// A close frame's reason. For a client that is to come back it has the time, so that not all come at once.
pub fn close_reason(close: Close, retry_ms: u64) -> String {
    match close {
        Close::Restart | Close::TryLater(_) => format!("{{\"reconnect_in_ms\":{retry_ms}}}"),
        other => other.to_string(),
    }
}

/// Whether the client has lost the right to what it had.
pub(in crate::protocol) fn is_denial(close: Close) -> bool {
    matches!(close, Close::TokenExpired | Close::Unauthenticated(_) | Close::Forbidden(_))
}

/// The data of an event stream's `error` event at its end. `None` for ordinary endings.
pub(in crate::protocol) fn error_of(close: Close) -> Option<String> {
    match close {
        Close::TryLater(_) => Some(error_json(close)),
        close if is_denial(close) => Some(denial_json(close)),
        _ => None,
    }
}

/// With the word that clients of earlier systems look for.
pub(in crate::protocol) fn denial_json(close: Close) -> String {
    let (code, message) = (close.label(), close.to_string());
    serde_json::json!({ "error": "AuthenticationError", "code": code, "message": message }).to_string()
}

pub(in crate::protocol) fn error_json(close: Close) -> String {
    serde_json::json!({ "code": close.label(), "message": close.to_string() }).to_string()
}
