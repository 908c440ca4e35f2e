//! NATS, the client's side of its text protocol: parses what a server sends, and writes what a client sends
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).
//!
//! There is no parser object: a caller keeps one buffer and asks [`parse`] what stands at its start. Nothing is copied;
//! operations borrow from the buffer. Asking again after more bytes came costs the length of one line, not of the payload,
//! because payloads are skipped by their announced length.

mod client;
mod headers;
mod info;
mod parser;
mod subject;

pub use client::{
    ConnectOptions, NatsLogin, PING, PONG, write_connect, write_publish, write_publish_with_block,
    write_publish_with_headers, write_subscribe, write_unsubscribe,
};
pub use headers::HeaderBlock;
pub use info::ServerInfo;
pub use parser::{BadOperation, NatsMessage, Operation, OversizeMessage, measure, parse};
pub use subject::{BadSubject, Subject, SubjectPattern};

#[cfg(test)]
mod tests;

/// The largest operation that is accepted. Whatever answers on the port may not be NATS: it must not exhaust the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatsLimits {
    /// The most bytes in one line. The longest there is, `INFO`, lists the whole cluster; the default is 64 KiB.
    pub line_bytes_max: usize,
    /// The most bytes in the payload of one message. A server's own limit for payload and headers together, `max_payload`, is 1 MiB,
    /// and 64 MiB at most.
    pub payload_bytes_max: usize,
    /// The most bytes in the headers of one message.
    pub header_bytes_max: usize,
}

impl Default for NatsLimits {
    fn default() -> Self {
        Self { line_bytes_max: 64 << 10, payload_bytes_max: 64 << 20, header_bytes_max: 64 << 20 }
    }
}
