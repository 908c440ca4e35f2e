//! HTTP/1.1 (RFC 9110, RFC 9112), server and client halves.
//!
//! `httparse` splits a head into lines and fields; the rules that decide where a message ends, and everything a proxy in
//! front could understand differently, are checked here and answered with a refusal, never with a guess.

mod body;
mod client;
mod date;
mod head;
mod request;
mod response;
mod retained;
mod session;
mod uri;

use std::time::Duration;

pub use client::{ResponseHead, ResponsePart, ResponseReader, write_request};
pub use date::{DateText, format_date};
pub use head::is_authority;
pub use request::{Method, Request, Version};
pub use response::{Response, write_refusal};
pub(in crate::protocol) use response::{write_field, write_status};
pub use session::ServerSession;
pub use uri::{percent_decode, percent_encode};

/// What a request may cost before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Request line and header fields together, up to and including the blank line; over it 431. Also the bound on the
    /// chunk extensions and trailers of one body, which are read over and dropped.
    pub head_bytes_max: usize,
    /// Header fields of one request, at most 256; over it 431.
    pub headers_max: usize,
    /// The body, decoded; over it 413.
    pub body_bytes_max: usize,
    /// From the first byte of a request (for the first one: from the accept) to the end of its head; over it 408.
    pub head_timeout: Duration,
    /// The longest silence within a body; over it 408.
    pub body_timeout: Duration,
    /// From the end of a head to the end of its body, however steadily it drips in; over it 408.
    pub body_total_timeout: Duration,
    /// Between an answer and the first byte of the next request; over it the connection is closed without a word.
    pub idle_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            body_bytes_max: 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            // A full body at 17 KiB/s.
            body_total_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
        }
    }
}

#[cfg(test)]
mod tests;
