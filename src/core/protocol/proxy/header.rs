//! A header of either version. The first bytes tell the version.

// The part of the standard library without sockets: an address is a plain value.
use core::net::IpAddr;

use crate::close::Close;

use super::{ProxyLimits, v1, v2};

/// A PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address. `None` if the connection is the proxy's own (`LOCAL`, as for health checks), or if the client has no
    /// IP address (`UNKNOWN`, a unix socket).
    pub source: Option<IpAddr>,
    /// The size of the header, in bytes.
    pub bytes: usize,
}

impl ProxyHeader {
    /// Parses the header at the start of `bytes`; `None` if it is incomplete. Fails as soon as the bytes cannot become a header:
    /// the receiver must not guess (section 2).
    pub fn parse(bytes: &[u8], limits: &ProxyLimits) -> Result<Option<Self>, Close> {
        if begins(bytes, v2::SIGNATURE) {
            return v2::parse(bytes, limits.header_bytes_max);
        }
        if begins(bytes, v1::SIGNATURE) { v1::parse(bytes) } else { Err(BAD_HEADER) }
    }
}

/// Whether `bytes` begin with `signature`, or with the beginning of it.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let common = bytes.len().min(signature.len());
    bytes[..common] == signature[..common]
}

/// The close of a connection without the required header.
pub(super) const BAD_HEADER: Close = Close::BadRequest("a PROXY protocol header is due here");
