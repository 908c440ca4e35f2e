//! A connection before its PROXY protocol header is complete.
//!
//! LIFECYCLE: *waiting* until the header is complete; then the owner continues with an HTTP session, which gets the bytes behind
//! the header. A malformed header ends the connection.

use crate::{clock::Moment, close::Close};

use super::{ProxyHeader, ProxyLimits};

/// A connection that must begin with a header.
#[derive(Debug)]
pub struct Preface {
    received: Vec<u8>,
    accepted: Moment,
}

impl Preface {
    /// For a connection accepted then.
    pub fn new(accepted: Moment) -> Self {
        Self { received: Vec::new(), accepted }
    }

    /// Receives bytes from the peer. Once the header is complete, returns it and the bytes behind it.
    pub fn receive(&mut self, bytes: &[u8], limits: &ProxyLimits) -> Result<Option<(ProxyHeader, Vec<u8>)>, Close> {
        self.received.extend_from_slice(bytes);
        let Some(header) = ProxyHeader::parse(&self.received, limits)? else { return Ok(None) };
        let rest = self.received.split_off(header.bytes);
        Ok(Some((header, rest)))
    }

    /// When the connection was accepted: the timeout of the first request's head runs from then.
    pub fn accepted(&self) -> Moment {
        self.accepted
    }

    /// Memory for the incomplete header, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.received.capacity()
    }

    /// Whether nothing has been received.
    pub fn is_idle(&self) -> bool {
        self.received.is_empty()
    }
}
