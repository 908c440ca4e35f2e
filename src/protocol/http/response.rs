//! Answers: what endpoints return, and their bytes.

use serde::Serialize;
use serde_json::json;

use crate::close::Close;

/// An answer. The session that writes it adds `Date`, `Content-Length` and `Connection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Three digits (RFC 9110 section 15).
    pub status: u16,
    /// Fields beyond those the session adds. A `Connection` field in here makes the session close.
    pub headers: Vec<(&'static str, String)>,
    /// The body; not sent to HEAD, nor with a status that forbids one.
    pub body: Vec<u8>,
}

impl Response {
    /// `value` as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, headers: typed("application/json"), body },
            Err(_) => Self::error(500, "internal", "the answer could not be written as JSON", None),
        }
    }

    /// Plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self { status, headers: typed("text/plain; charset=utf-8"), body: text.as_bytes().to_vec() }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// `{"error":{"code","message","field"}}`, the form of every error of the native API.
    pub fn error(status: u16, code: &str, message: &str, field: Option<&str>) -> Self {
        let mut error = json!({ "code": code, "message": message });
        if let Some(field) = field {
            error["field"] = field.into();
        }
        let body = json!({ "error": error }).to_string().into_bytes();
        Self { status, headers: typed("application/json"), body }
    }

    /// The answer that precedes the end of a connection, where there is one ([`Close::http_status`]).
    pub fn refusal(close: Close) -> Option<Self> {
        let status = close.http_status()?;
        let response = Self::error(status, close.label(), &close.to_string(), None);
        Some(if matches!(status, 429 | 503) { response.with("Retry-After", RETRY_AFTER_S) } else { response })
    }

    /// With one more field. Line breaks in `value` are written as spaces.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// When a refused peer may try again, in seconds. Short, because what is full here empties in moments.
const RETRY_AFTER_S: &str = "2";

fn typed(content_type: &str) -> Vec<(&'static str, String)> {
    vec![("Content-Type", content_type.to_owned())]
}
