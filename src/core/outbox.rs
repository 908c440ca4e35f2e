//! The private bytes of one connection: responses, acks, pongs, heartbeats. Unallocated while idle.

/// Bytes waiting to be written, in order. The bound is the caller's: whoever appends on a peer's behalf checks
/// [`Outbox::len`] against its configured limit.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// How many of `bytes` are written already. Below `bytes.len()`, or both are zero.
    written: usize,
}

impl Outbox {
    /// Nothing, and nothing allocated.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), written: 0 }
    }

    /// Whether all is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes are yet to be written.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// What it takes of memory, in bytes: up to a few times what is yet to be written.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `bytes`, which are the caller's no more. Where they are many, what is before them is put in front of them, so that
    /// not they are copied but the little before them.
    pub(crate) fn put_owned(&mut self, mut bytes: Vec<u8>) {
        if bytes.len() / 2 < self.len() {
            return self.put(&bytes);
        }
        bytes.splice(0..0, self.pending().iter().copied());
        *self = Self { bytes, written: 0 };
    }

    /// The buffer to append to, for encoders that write into a `Vec`. Only ever append to it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What is yet to be written.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Takes note that `count` bytes of [`Outbox::pending`] are written. Gives their memory back once they are as many as those
    /// yet to be written: a peer that always leaves something would otherwise have the hub keep all it was ever sent.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        debug_assert!(self.written <= self.bytes.len());
        if self.written == self.bytes.len() {
            *self = Self::new();
        } else if self.len() <= self.written {
            self.bytes.drain(..self.written);
            self.bytes.shrink_to_fit();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_bytes_are_not_copied() {
        let check = |before: &[u8], written: usize, bytes: &[u8], is_copied: bool| {
            let mut outbox = Outbox::new();
            outbox.put(before);
            outbox.advance(written);
            let expected = [outbox.pending(), bytes].concat();
            let mut owned = Vec::with_capacity(bytes.len() + before.len());
            owned.extend_from_slice(bytes);
            let at = owned.as_ptr();
            outbox.put_owned(owned);
            assert_eq!(outbox.pending(), expected);
            assert_eq!(outbox.bytes.as_ptr() != at, is_copied, "{before:?} {bytes:?}");
        };
        check(b"", 0, b"", false);
        check(b"head", 0, &[7; 1000], false);
        check(b"head", 3, &[7; 1000], false);
        check(b"head", 4, b"body", false);
        check(&[7; 1000], 0, b"body", true);
        check(&[7; 1000], 999, b"body", false);
    }

    #[test]
    fn memory_follows_what_is_left() {
        let check = |bytes: usize, counts: &[usize]| {
            let mut outbox = Outbox::new();
            outbox.put_owned(vec![7; bytes]);
            for count in counts {
                outbox.advance(*count);
                assert!(outbox.held_bytes() <= 2 * outbox.len(), "{bytes} {counts:?}: {}", outbox.held_bytes());
            }
        };
        check(1_000_000, &[1, 499_999, 1, 249_999, 250_000]);
        check(1_000_000, &[999_999, 1]);
        check(3, &[1, 1, 1]);
    }

    #[test]
    fn a_peer_that_always_leaves_something_costs_no_more() {
        let mut outbox = Outbox::new();
        outbox.put(b"x");
        for round in 0..10_000_u32 {
            outbox.put(&[round.to_be_bytes(); 25].concat());
            assert_eq!(outbox.len(), 101);
            assert!(outbox.held_bytes() <= 1000, "round {round}: {}", outbox.held_bytes());
            outbox.advance(100);
            assert_eq!(outbox.pending(), &[round.to_be_bytes()[3]]);
        }
    }

    #[test]
    fn gives_memory_back_when_drained() {
        let mut outbox = Outbox::new();
        outbox.put(b"hello");
        outbox.advance(2);
        assert_eq!((outbox.pending(), outbox.len()), (&b"llo"[..], 3));
        outbox.put(b"!");
        outbox.advance(4);
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes.capacity(), 0);
    }
}
