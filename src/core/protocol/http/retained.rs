//! The bytes of a peer that are not used yet. Unallocated while there are none.

use std::fmt;

/// A queue of bytes. What is taken from its front is dropped, with its memory, when it is worth the move, so that many small
/// requests in one large buffer cost linear time.
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

    /// What it takes of memory, in bytes: up to a few times what is not used yet.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
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
            self.bytes.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A `Vec` of bytes has no room for fewer.
    const LEAST_BYTES: usize = 8;

    #[test]
    fn memory_follows_what_is_left() {
        let check = |bytes: usize, counts: &[usize]| {
            let mut retained = Retained::default();
            retained.append(&vec![7; bytes]);
            for count in counts {
                retained.advance(*count);
                assert!(
                    retained.held_bytes() <= 2 * retained.len() + LEAST_BYTES,
                    "{bytes} {counts:?}: {}",
                    retained.held_bytes()
                );
            }
        };
        check(100_000, &[50_001, 1, 24_999, 24_998, 1]);
        check(100_000, &[99_999, 1]);
        check(3, &[1, 1, 1]);
    }
}
