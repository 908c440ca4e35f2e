//! Clients behind proxies: the PROXY protocol (versions 1 and 2, as HAProxy specifies them) before the first request, and the
//! fields `X-Forwarded-For` and `Forwarded` (RFC 7239) in each request.
//!
//! Both are accepted only from peers in the configured list ([`Trusted`]): anybody can send them.

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

/// Limits of a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyLimits {
    /// The size of a header of version 2 with its extension fields; beyond it 400. A header of version 1 has at most 107 bytes.
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
