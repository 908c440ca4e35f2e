//! Who a connection is from when it comes through a proxy: the PROXY protocol (versions 1 and 2, as HAProxy specifies
//! them) ahead of the first request, and the fields `X-Forwarded-For` and `Forwarded` (RFC 7239) within each.
//!
//! Both are believed of peers that the configuration names ([`Trusted`]) and of nobody else: anybody can write them.

mod forwarded;
mod header;
mod preface;
mod trusted;
mod v1;
mod v2;

pub use forwarded::client_address;
pub use header::ProxyHeader;
pub use preface::Preface;
pub use trusted::{Trusted, TrustedPeer};

/// What a header may cost before the connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyLimits {
    /// A header of version 2 with all that is attached to the addresses; over it 400. One of version 1 has at most 107
    /// bytes by itself.
    pub header_bytes_max: usize,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        // The largest addresses, a certificate's names and a few fields of a cloud's own take less than half of it.
        Self { header_bytes_max: 4 * 1024 }
    }
}

#[cfg(test)]
mod tests;
