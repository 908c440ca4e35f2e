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
