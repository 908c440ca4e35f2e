//! RESP, the Redis serialization protocol, versions 2 and 3: what a Pub/Sub reader receives and the commands it sends.
//!
//! There is no parser object: a caller keeps one buffer and asks [`parse_push`] (or [`parse`]) what stands at its start.
//! Nothing is copied; replies borrow from the buffer. Asking again after more bytes came costs a few lines of header,
//! not the length of the payload, because bulk strings are skipped by their announced length.
//!
//! Why not the `redis` crate's parser: a message of 16 to 1,024 bytes takes 0.17–0.25 µs and no allocation here, 1.8–3.7 µs and 7
//! allocations there; a mebibyte that arrives in parts of 16 KiB 2.5 µs against 46 ms (`bench/resp`).

mod cluster_slot;
mod parser;
mod reply;
mod sentinel_url;

pub use cluster_slot::{SLOTS, key_slot};
pub use parser::{parse, parse_push};
pub use reply::{BadReply, Push, Reply};
pub use sentinel_url::SentinelUrl;

#[cfg(test)]
mod tests;

use std::io::Write;

/// The largest reply that is accepted. Whatever answers on the port may not be Redis: it must not exhaust the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RespLimits {
    /// The most bytes in one bulk string. Redis itself stops at 512 MiB; the default here is 64 MiB.
    pub bulk_bytes_max: usize,
    /// The most bytes in one line: a status, an error, a number.
    pub line_bytes_max: usize,
    /// The most elements in one reply, those of nested aggregates counted too. Bounds what is parsed again each time
    /// an unfinished reply grows.
    pub elements_max: usize,
    /// The most aggregates inside each other.
    pub depth_max: usize,
}

impl Default for RespLimits {
    fn default() -> Self {
        Self { bulk_bytes_max: 64 << 20, line_bytes_max: 4096, elements_max: 4096, depth_max: 8 }
    }
}

/// Appends a command: an array of bulk strings, the only form in which a server takes binary-safe arguments.
pub fn write_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    write_header(out, b'*', arguments.len());
    for argument in arguments {
        write_header(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

fn write_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    write!(out, "{count}\r\n").expect("a Vec takes every write");
}
