//! JSON text (RFC 8259), checked and taken apart where it stands. No value is built and nothing is copied: a megabyte takes one
//! to six milliseconds, where a tree of values takes 16 to 45.
//!
//! A [`Scanner`] checks one value and says where it ends. [`Members`], [`elements`], [`skip`] and [`find`] are for text that was
//! checked: they tell values apart by brackets and strings alone, so on other text they end somewhere, and never panic.

mod parts;
mod scan;

use std::fmt;

pub use parts::{Members, decode, decode_with, elements, find, skip, write_compact};
pub use scan::{Scanned, Scanner, Traits};

/// Reactors check longer texts step by step: each 64 KiB may take 0.4 ms.
pub const LONG_TEXT_BYTES: usize = 64 * 1024;

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadJson {
    /// What is wrong.
    pub message: &'static str,
    /// At which byte of the text.
    pub at: usize,
}

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message, self.at)
    }
}

/// Checks that `text` is one JSON value, and space around it. An error's place is in `text`.
pub fn check(text: &str) -> Result<Traits, BadJson> {
    let mut checker = Checker::begin(text);
    loop {
        if let Some(traits) = checker.advance(text, usize::MAX)? {
            return Ok(traits);
        }
    }
}

/// The check of a text, which can stop in the middle and go on later.
#[derive(Clone, Debug, Default)]
pub struct Checker(Scanner);

impl Checker {
    /// Before the first byte of `text`.
    pub fn begin(text: &str) -> Self {
        Self(Scanner::begin(text, 0))
    }

    /// Checks the next `bytes`, as [`Scanner::advance`]; `None`: the text goes on.
    pub fn advance(&mut self, text: &str, bytes: usize) -> Result<Option<Traits>, BadJson> {
        let Some(Scanned { end, traits }) = self.0.advance(text, bytes)? else { return Ok(None) };
        let rest = skip_space(text, end);
        match rest == text.len() {
            true => Ok(Some(traits)),
            false => Err(BadJson { message: "something follows the value", at: rest }),
        }
    }
}

/// Whether a text is JSON, as far as anybody has looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// Nobody has.
    #[default]
    Unchecked,
    Json,
    /// It is not.
    Text,
}

impl Syntax {
    /// What [`check`] says of `text`.
    pub fn of(text: &str) -> Self {
        if is_json(text) { Self::Json } else { Self::Text }
    }

    /// Whether `text`, whose syntax this is, is JSON.
    pub fn is_json(self, text: &str) -> bool {
        match self {
            Self::Unchecked => is_json(text),
            known => known == Self::Json,
        }
    }
}

/// Whether `text` is one JSON value, and space around it.
pub fn is_json(text: &str) -> bool {
    check(text).is_ok()
}

/// Whether JSON allows `byte` between its tokens (section 2).
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first place from `at` on where no space stands.
pub(crate) fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_space(**byte)).count()
}

/// The first place from `at` on where a string does not simply go on: at a quote, a backslash or a control character.
#[inline(always)]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    // Eight bytes at a time: each subtraction borrows into the high bit of a byte that is too small, and the lowest such bit
    // is right.
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        let zeroed = |byte: u8| word ^ (ONES * u64::from(byte));
        let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
        let found = (below(zeroed(b'"'), 1) | below(zeroed(b'\\'), 1) | below(word, 0x20)) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count()
}

#[cfg(test)]
mod tests;
