//! The read buffer: bytes that were read and are not parsed yet.

use std::io;

/// A contiguous buffer that is filled to the brim before it is handed on, and grows only while one message is larger.
#[derive(Debug)]
pub(in crate::source) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What is to be passed over when it arrives.
    skip: usize,
    usual_bytes: usize,
}

/// Why filling ended.
#[derive(Debug)]
pub(in crate::source) enum Filled {
    /// There is nothing more to read at present.
    Drained,
    /// The buffer is full: there may be more.
    Full,
    End,
    Failed(io::Error),
}

impl ReadBuffer {
    pub(in crate::source) fn new(usual_bytes: usize) -> Self {
        let usual_bytes = usual_bytes.max(4096);
        Self { bytes: vec![0; usual_bytes], start: 0, end: 0, skip: 0, usual_bytes }
    }

    /// What is to be parsed.
    pub(in crate::source) fn unparsed(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops `count` bytes from the front, which may be more than have arrived.
    pub(in crate::source) fn consume(&mut self, count: usize) {
        let present = count.min(self.end - self.start);
        self.start += present;
        self.skip += count - present;
    }

    /// Reads until there is nothing more or no more room. What could be read is kept however it ends.
    pub(in crate::source) fn fill(&mut self, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Filled {
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
    pub(in crate::source) fn clear(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` one per read; each string is a read, `None` is "nothing at present".
    fn fill(buffer: &mut ReadBuffer, pieces: &mut Vec<Option<&[u8]>>) -> Filled {
        buffer.fill(|room| {
            if pieces.is_empty() {
                return Ok(0);
            }
            let Some(piece) = pieces.remove(0) else { return Err(io::ErrorKind::WouldBlock.into()) };
            let count = piece.len().min(room.len());
            room[..count].copy_from_slice(&piece[..count]);
            if count < piece.len() {
                pieces.insert(0, Some(&piece[count..]));
            }
            Ok(count)
        })
    }

    #[test]
    fn a_buffer_keeps_what_is_unparsed_and_grows_for_one_message() {
        let mut buffer = ReadBuffer::new(4096);
        let large = vec![b'x'; 10_000];
        let mut pieces = vec![Some(b"abc".as_slice()), None, Some(b"def"), Some(&large), None];
        assert!(matches!(fill(&mut buffer, &mut pieces), Filled::Drained));
        assert_eq!(buffer.unparsed(), b"abc");
        buffer.consume(2);
        assert!(matches!(fill(&mut buffer, &mut pieces), Filled::Full));
        assert!(buffer.unparsed().starts_with(b"cdefxxx"));
        while !matches!(fill(&mut buffer, &mut pieces), Filled::Drained) {}
        assert_eq!(buffer.unparsed().len(), 10_004);
        buffer.consume(10_004);
        assert!(matches!(fill(&mut buffer, &mut pieces), Filled::End));
        assert_eq!(buffer.unparsed(), b"");
    }

    #[test]
    fn a_buffer_passes_over_what_is_too_big() {
        let mut buffer = ReadBuffer::new(4096);
        let mut pieces = vec![Some(b"head".as_slice()), None, Some(b"12"), Some(b"34"), None, Some(b"56next"), None];
        fill(&mut buffer, &mut pieces);
        buffer.consume(10);
        fill(&mut buffer, &mut pieces);
        assert_eq!(buffer.unparsed(), b"");
        fill(&mut buffer, &mut pieces);
        assert_eq!(buffer.unparsed(), b"next");
        buffer.consume(8);
        buffer.clear();
        let mut pieces = vec![Some(b"fresh".as_slice()), None];
        fill(&mut buffer, &mut pieces);
        assert_eq!(buffer.unparsed(), b"fresh");
    }
}
