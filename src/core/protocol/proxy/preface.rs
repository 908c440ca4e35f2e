//! The wait for a header.
//!
//! LIFECYCLE: *waiting* until the header is whole; then the owner goes on with a session for requests, which gets what came
//! behind it. A broken header ends the connection.

use crate::{clock::Moment, close::Close};

use super::{ProxyHeader, ProxyLimits};

/// A connection that is to begin with a header.
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

    /// Takes what the peer sent, all of it. Once the header is whole: the header, and what came behind it.
    pub fn receive(&mut self, bytes: &[u8], limits: &ProxyLimits) -> Result<Option<(ProxyHeader, Vec<u8>)>, Close> {
        self.received.extend_from_slice(bytes);
        let Some(header) = ProxyHeader::parse(&self.received, limits)? else { return Ok(None) };
        let rest = self.received.split_off(header.bytes);
        Ok(Some((header, rest)))
    }

    /// When the connection was accepted: the time that the first request's head may take runs from then.
    pub fn accepted(&self) -> Moment {
        self.accepted
    }

    /// What it keeps of the header so far, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.received.capacity()
    }

    /// Whether no byte has come yet.
    pub fn is_idle(&self) -> bool {
        self.received.is_empty()
    }
}
