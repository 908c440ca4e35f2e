//! The read buffer: bytes that were read and are not parsed yet.

use std::io;

/// A contiguous buffer that is filled to the brim before it is handed on, and grows only while one message is larger.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What is to be passed over when it arrives.
    skip: usize,
    usual_bytes: usize,
}

/// Why filling ended.
#[derive(Debug)]
pub(super) enum Filled {
    /// There is nothing more to read at present.
    Drained,
    /// The buffer is full: there may be more.
    Full,
    End,
    Failed(io::Error),
}

impl ReadBuffer {
    pub(super) fn new(usual_bytes: usize) -> Self {
        let usual_bytes = usual_bytes.max(4096);
        Self { bytes: vec![0; usual_bytes], start: 0, end: 0, skip: 0, usual_bytes }
    }

    /// What is to be parsed.
    pub(super) fn unparsed(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops `count` bytes from the front, which may be more than have arrived.
    pub(super) fn consume(&mut self, count: usize) {
        let present = count.min(self.end - self.start);
        self.start += present;
        self.skip += count - present;
    }

    /// Reads until there is nothing more or no more room. What could be read is kept however it ends.
    pub(super) fn fill(&mut self, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Filled {
        self.make_room();
        while self.end < self.bytes.len() {
            match read(&mut self.bytes[self.end..]) {
                Ok(0) => return Filled::End,
                Ok(count) => self.take(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Filled::Drained,
                Err(error) => return Filled::Failed(error),
            }
        }
        Filled::Full
    }

    /// Forgets everything: the next bytes come from another connection.
    pub(super) fn clear(&mut self) {
        (self.start, self.end, self.skip) = (0, 0, 0);
    }

    fn take(&mut self, count: usize) {
        self.end += count;
        if self.skip != 0 {
            // While something is passed over nothing is unparsed: what came begins where it goes on.
            let skipped = self.skip.min(count);
            self.skip -= skipped;
            self.bytes.copy_within(self.end - count + skipped..self.end, self.end - count);
            self.end -= skipped;
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.usual_bytes < self.bytes.len() {
                self.bytes.truncate(self.usual_bytes);
                self.bytes.shrink_to_fit();
            }
        } else if self.start != 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // Full and not a whole message: its limit, which the parser enforces, bounds how often this happens.
        if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }
}
