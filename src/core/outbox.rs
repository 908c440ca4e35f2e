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

    /// Takes note that `count` bytes of [`Outbox::pending`] are written; gives the memory back once all are.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        debug_assert!(self.written <= self.bytes.len());
        if self.written == self.bytes.len() {
            *self = Self::new();
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
