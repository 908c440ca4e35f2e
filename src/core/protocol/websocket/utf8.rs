//! Text that arrives in pieces cut anywhere, checked as it comes (RFC 6455 section 8.1).

use crate::close::Close;

/// Text so far, and the begun character at its end.
#[derive(Debug, Default)]
pub(super) struct TextAssembly {
    text: String,
    /// The first bytes of a character that is not all there: a valid beginning, never more than three.
    carry: [u8; 4],
    carry_bytes: usize,
}

impl TextAssembly {
    /// Appends a piece. Fails as soon as no continuation could make the whole valid.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Close> {
        while let (1.., Some((byte, rest))) = (self.carry_bytes, piece.split_first()) {
            self.push_carry(*byte)?;
            piece = rest;
        }
        //= RFC 6455 section 8.1: "that endpoint MUST _Fail the WebSocket Connection_."
        match simdutf8::compat::from_utf8(piece) {
            Ok(text) => self.text.push_str(text),
            Err(bad) if bad.error_len().is_none() => self.push_cut(piece, bad.valid_up_to())?,
            Err(_) => return Err(Close::BadUtf8),
        }
        Ok(())
    }

    /// The whole text, if it does not end within a character.
    pub(super) fn finish(self) -> Result<String, Close> {
        if self.carry_bytes != 0 {
            return Err(Close::BadUtf8);
        }
        Ok(self.text)
    }

    /// How many bytes have come.
    pub(super) fn len(&self) -> usize {
        self.text.len() + self.carry_bytes
    }

    fn push_carry(&mut self, byte: u8) -> Result<(), Close> {
        self.carry[self.carry_bytes] = byte;
        self.carry_bytes += 1;
        match std::str::from_utf8(&self.carry[..self.carry_bytes]) {
            Ok(character) => {
                self.text.push_str(character);
                self.carry_bytes = 0;
            }
            Err(bad) if bad.error_len().is_none() => {}
            Err(_) => return Err(Close::BadUtf8),
        }
        Ok(())
    }

    /// Appends a piece that is valid up to `cut` and ends with the beginning of a character there.
    fn push_cut(&mut self, piece: &[u8], cut: usize) -> Result<(), Close> {
        let (whole, begun) = piece.split_at(cut);
        self.text.push_str(simdutf8::basic::from_utf8(whole).map_err(|_| Close::BadUtf8)?);
        self.carry[..begun.len()].copy_from_slice(begun);
        self.carry_bytes = begun.len();
        Ok(())
    }
}
