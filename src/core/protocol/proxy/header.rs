//! A header of either version, told apart by its first bytes.

// The part of the standard library without sockets: an address is a plain value.
use core::net::IpAddr;

use crate::close::Close;

use super::{ProxyLimits, v1, v2};

/// What stands ahead of the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Who connected to the proxy. `None` if the proxy speaks for itself (`LOCAL`, as its health checks do), or if the
    /// client has no internet address (`UNKNOWN`, a unix socket).
    pub source: Option<IpAddr>,
    /// How many bytes the header takes; the first request follows.
    pub bytes: usize,
}

impl ProxyHeader {
    /// Parses the header that `bytes` begin with; `None` if the rest of it is yet to come. What can no longer become a
    /// header is an error at once: the receiver must not guess (section 2).
    pub fn parse(bytes: &[u8], limits: &ProxyLimits) -> Result<Option<Self>, Close> {
        if begins(bytes, v2::SIGNATURE) {
            return v2::parse(bytes, limits.header_bytes_max);
        }
        if begins(bytes, v1::SIGNATURE) { v1::parse(bytes) } else { Err(BAD_HEADER) }
    }
}

/// Whether `bytes` begin with `signature`, or may yet.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let common = bytes.len().min(signature.len());
    bytes[..common] == signature[..common]
}

/// What a peer is told that was to send a header, and did not.
pub(super) const BAD_HEADER: Close = Close::BadRequest("a PROXY protocol header is due here");
