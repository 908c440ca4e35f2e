//! The bytes of a peer that are not used yet. Unallocated while there are none.

use std::fmt;

/// A queue of bytes. What is taken from its front is dropped when it is worth the move, so that many small requests in one
/// large buffer cost linear time.
#[derive(Default)]
pub(super) struct Retained {
    bytes: Vec<u8>,
    /// How many of `bytes` are used up. Below `bytes.len()`, or both are zero.
    used: usize,
}

impl Retained {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.bytes.len());
        if self.used == self.bytes.len() {
            *self = Self::default();
        } else if self.bytes.len() / 2 < self.used {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.bytes
    }
}

/// Without the bytes: heads carry tokens.
impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
