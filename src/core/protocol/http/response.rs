//! Responses: what endpoints return, and how they are written.

use std::io::Write;

use serde::Serialize;
use serde_json::json;

use crate::{close::Close, outbox::Outbox, protocol::sse};

use super::{Version, head::lists_token};

/// A response. The session that writes it adds `Date`, `Content-Length` and `Connection`, and to a 401 without a challenge the
/// one of bearer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Three digits (RFC 9110 section 15).
    pub status: u16,
    /// Fields beyond those the session adds. `Connection: close` in here makes the session close;
    /// other `Connection` fields are the session's own and left out.
    pub headers: Vec<(&'static str, String)>,
    /// The body; not sent to HEAD, nor with a status that forbids one.
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, headers: typed("application/json"), body },
            Err(_) => Self::error(500, "internal", "the answer could not be written as JSON", None),
        }
    }

    /// JSON that is written already.
    pub fn json_text(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: typed("application/json"), body }
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

    /// Whether the endpoint asked for the connection's end.
    pub(super) fn closes(&self) -> bool {
        let asks = |value: &str| lists_token(value.as_bytes(), "close");
        self.headers.iter().any(|(name, value)| is_connection(name) && asks(value))
    }

    /// Whether it stands for a stream, which ends nowhere: a HEAD is told no length, since a GET would be told none (RFC 9110
    /// section 8.6).
    fn is_event_stream(&self) -> bool {
        self.headers.iter().any(|(name, value)| *name == "Content-Type" && value == sse::CONTENT_TYPE)
    }

    /// Whether it has a field called `name` (in any case), besides those that the session adds.
    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(field, _)| field.eq_ignore_ascii_case(name))
    }
}

/// Writes the answer that goes with `close`, if there is one, where the session that would is gone. The connection is to be
/// closed once it is written.
pub fn write_refusal(close: Close, date: &str, outbox: &mut Outbox) {
    if let Some(response) = Response::refusal(close) {
        write_response(&response, &[], ResponseForm::default(), date, outbox);
    }
}

/// The parts of a request that decide the form of its response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResponseForm {
    pub(super) version: Version,
    pub(super) head_only: bool,
    pub(super) keep_alive: bool,
}

/// Fields of an answer, besides those of its [`Response`].
pub(super) type Fields = [(&'static str, String)];

/// Writes `response`, with `fields` besides its own (RFC 9112 section 4).
pub(super) fn write_response(
    response: &Response,
    fields: &Fields,
    answer: ResponseForm,
    date: &str,
    outbox: &mut Outbox,
) {
    if write_head(response, fields, answer, date, outbox.buffer()) {
        outbox.put(&response.body);
    }
}

/// Writes `response` without copying a large body.
pub(super) fn write_owned_response(
    response: Response,
    fields: &Fields,
    answer: ResponseForm,
    date: &str,
    outbox: &mut Outbox,
) {
    if write_head(&response, fields, answer, date, outbox.buffer()) {
        outbox.put_owned(response.body);
    }
}

/// Writes the head. Returns whether the body follows. The status line says HTTP/1.1 to every client (RFC 9112 section 2.3).
fn write_head(response: &Response, fields: &Fields, answer: ResponseForm, date: &str, out: &mut Vec<u8>) -> bool {
    //= RFC 9112 section 6.1: "A server MUST NOT send a Transfer-Encoding header field in any response with a status
    //=   code of 1xx (Informational) or 204 (No Content)."
    let bodiless = forbids_body(response.status);
    write_status(response.status, date, out);
    let fields = response.headers.iter().chain(fields);
    for (name, value) in fields.filter(|(name, _)| !is_connection(name)) {
        write_field(name, value, out);
    }
    //= RFC 9110 section 11.6.1: "MUST send a WWW-Authenticate header field containing at least one challenge."
    //= RFC 9110 section 15.5.2: "response MUST send a WWW-Authenticate header field"
    if response.status == 401 && !response.has("www-authenticate") {
        write_field("WWW-Authenticate", "Bearer", out);
    }
    //= RFC 9110 section 8.6: "A server MUST NOT send a Content-Length header field in any response with a status code
    //=   of 1xx (Informational) or 204 (No Content)."
    //= RFC 9110 section 8.6: "a server MUST NOT send Content-Length in such a response unless its field value equals
    //=   the decimal number of octets"
    if !(bodiless || answer.head_only && response.is_event_stream()) {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "Content-Length: {}\r\n", response.body.len());
    }
    write_connection(response, answer, out);
    out.extend_from_slice(b"\r\n");
    //= RFC 9110 section 9.3.2: "the server MUST NOT send content in the response"
    !answer.head_only && !bodiless
}

/// Writes the `Connection` field, if there is something to say (RFC 9112 section 9.3). A message with an `Upgrade` field has
/// to list it there (RFC 9110 section 7.8).
fn write_connection(response: &Response, answer: ResponseForm, out: &mut Vec<u8>) {
    //= RFC 9110 section 7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for
    //=   all recipients of the content."
    let persistence = match (answer.keep_alive, answer.version) {
        (true, Version::Http11) => None,
        (true, Version::Http10) => Some("keep-alive"),
        (false, _) => Some("close"),
    };
    //= RFC 9110 section 7.6.1: "the sender MUST list the corresponding field name within the Connection header field."
    //= RFC 9110 section 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option in the Connection
    //=   header field"
    match (response.has("upgrade"), persistence) {
        (false, None) => {}
        (false, Some(option)) => write_field("Connection", option, out),
        (true, None) => write_field("Connection", "upgrade", out),
        (true, Some(option)) => {
            write_field("Connection", "upgrade", out);
            write_field("Connection", option, out);
        }
    }
}

/// Appends a status line and the `Date` field.
pub(in crate::protocol) fn write_status(status: u16, date: &str, out: &mut Vec<u8>) {
    // Writing into a Vec cannot fail.
    //= RFC 9112 section 2.2: "A sender MUST NOT send whitespace between the start-line and the first header field."
    //= RFC 9112 section 4: "A server MUST send the space that separates the status-code from the reason-phrase even
    //=   when the reason-phrase is absent"
    //= RFC 9110 section 6.2: "A server MUST NOT send a version to which it is not conformant."
    //= RFC 9110 section 6.6.1: "MUST generate a Date header field in all 2xx (Successful), 3xx (Redirection), and 4xx
    //=   (Client Error) responses"
    let _ = write!(out, "HTTP/1.1 {status} {}\r\nDate: {date}\r\n", reason(status));
}

/// Appends a field. A line break in the value would begin a field of its own: it is written as a space.
pub(in crate::protocol) fn write_field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    //= RFC 9112 section 5.2: "A sender MUST NOT generate a message that includes line folding"
    //= RFC 9112 section 2.2: "A sender MUST NOT generate a bare CR (a CR character not immediately followed by LF)
    //=   within any protocol elements"
    out.extend(value.bytes().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

fn is_connection(name: &str) -> bool {
    name.eq_ignore_ascii_case("connection")
}

/// RFC 9110 sections 15.2, 15.3.5 and 15.4.5.
pub(super) fn forbids_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// RFC 9110 section 15, RFC 6585. A client must not care.
fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

/// `Retry-After` of refusals, in seconds. Short, because overload mostly lasts for moments.
const RETRY_AFTER_S: &str = "2";

fn typed(content_type: &str) -> Vec<(&'static str, String)> {
    vec![("Content-Type", content_type.to_owned())]
}
