//! Bodies: taken out of their framing without copying, for both halves.

use crate::close::Close;

use super::{head::Framing, uri::hex_value};

/// What a body decoder found at the front of its input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyPart<'a> {
    /// Bytes of the body; never empty.
    Data(&'a [u8]),
    /// The body is complete; what is left of the input belongs to the next message.
    End,
    /// The input is used up and the body is not complete.
    Starved,
}

/// Where in its body a message stands.
#[derive(Debug)]
pub(super) enum BodyDecoder {
    /// This many bytes are to come.
    Sized(u64),
    /// The chunked coding.
    Chunked(ChunkDecoder),
    /// Everything until the connection ends (responses only, RFC 9112 section 6.3 rule 8).
    UntilClose,
}

impl BodyDecoder {
    /// Ready for the first byte. `extra_bytes_max`: [`ChunkDecoder`].
    pub(super) fn new(framing: Framing, extra_bytes_max: usize) -> Self {
        match framing {
            Framing::Sized(length) => Self::Sized(length),
            Framing::Chunked => Self::Chunked(ChunkDecoder::new(extra_bytes_max)),
        }
    }

    /// Takes the next piece from the front of `input`. To be called until it says [`BodyPart::End`] or [`BodyPart::Starved`].
    #[inline]
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<BodyPart<'a>, Close> {
        match self {
            Self::Sized(0) => Ok(BodyPart::End),
            Self::Chunked(decoder) => decoder.next(input),
            _ if input.is_empty() => Ok(BodyPart::Starved),
            Self::Sized(remaining) => Ok(BodyPart::Data(take_data(input, remaining))),
            Self::UntilClose => Ok(BodyPart::Data(std::mem::take(input))),
        }
    }

    /// How many bytes are known to follow: those of the body, or of the chunk.
    pub(super) fn announced_bytes(&self) -> u64 {
        match self {
            Self::Sized(remaining) => *remaining,
            Self::Chunked(decoder) if decoder.state == ChunkState::Data => decoder.remaining,
            Self::Chunked(_) => 0,
            Self::UntilClose => 0,
        }
    }
}

/// The chunked transfer coding (RFC 9112 section 7.1). Extensions and trailers are checked, counted, and dropped.
#[derive(Debug)]
pub(super) struct ChunkDecoder {
    state: ChunkState,
    /// Of a chunk's size line: the size so far. Within the chunk: how many of its bytes are to come.
    remaining: u64,
    /// Digits of the size line so far.
    digit_count: u8,
    /// How many bytes of extensions and trailers the whole body may still have.
    extra_bytes_left: usize,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    Size,
    /// Whitespace behind the size, or behind an extension's value: a semicolon is due.
    ExtensionGap,
    /// Behind a semicolon: the name is due.
    ExtensionStart,
    ExtensionName,
    /// Whitespace behind a name: an equals sign is due, or a semicolon.
    ExtensionNameGap,
    /// Behind an equals sign: the value is due.
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    /// Behind a backslash in a quoted value.
    ExtensionEscape,
    /// Behind the quote that ends a value.
    ExtensionEnd,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl ChunkState {
    fn is_extension(self) -> bool {
        matches!(
            self,
            Self::ExtensionGap
                | Self::ExtensionStart
                | Self::ExtensionName
                | Self::ExtensionNameGap
                | Self::ExtensionValueStart
                | Self::ExtensionToken
                | Self::ExtensionQuoted
                | Self::ExtensionEscape
                | Self::ExtensionEnd
        )
    }
}

/// The most digits of a chunk size: sixteen already are more than any body.
const SIZE_DIGITS_MAX: u8 = 15;

const BAD_CHUNK: Close = Close::BadRequest("malformed chunk");
const BAD_TRAILER: Close = Close::BadRequest("malformed trailer field");

impl ChunkDecoder {
    pub(super) fn new(extra_bytes_max: usize) -> Self {
        Self { state: ChunkState::Size, remaining: 0, digit_count: 0, extra_bytes_left: extra_bytes_max }
    }

    #[inline]
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<BodyPart<'a>, Close> {
        loop {
            match self.state {
                ChunkState::Done => return Ok(BodyPart::End),
                _ if input.is_empty() => return Ok(BodyPart::Starved),
                ChunkState::Data => {
                    let data = take_data(input, &mut self.remaining);
                    if self.remaining == 0 {
                        self.state = ChunkState::DataReturn;
                    }
                    return Ok(BodyPart::Data(data));
                }
                _ => {
                    let byte = input[0];
                    *input = &input[1..];
                    self.state = self.step(byte)?;
                }
            }
        }
    }

    /// Takes one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<ChunkState, Close> {
        match (self.state, byte) {
            (ChunkState::Size, b'\r') if 0 < self.digit_count => Ok(ChunkState::SizeLineFeed),
            (ChunkState::Size, b';') if 0 < self.digit_count => self.count_extra(ChunkState::ExtensionStart),
            (ChunkState::Size, b' ' | b'\t') if 0 < self.digit_count => self.count_extra(ChunkState::ExtensionGap),
            (ChunkState::Size, digit) => self.take_digit(digit),
            //= RFC 9112 section 7.1: "A recipient MUST be able to parse and decode the chunked transfer coding."
            (ChunkState::SizeLineFeed, b'\n') => Ok(self.start_chunk()),
            (ChunkState::DataReturn, b'\r') => Ok(ChunkState::DataLineFeed),
            (ChunkState::DataLineFeed, b'\n') => Ok(ChunkState::Size),
            (ChunkState::SizeLineFeed | ChunkState::DataReturn | ChunkState::DataLineFeed, _) => Err(BAD_CHUNK),
            (state, _) if state.is_extension() => self.step_extension(byte),
            _ => self.step_trailer(byte),
        }
    }

    /// RFC 9112 section 7.1.1: `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`. A proxy in front that reads an
    /// extension in another way may see the chunk end elsewhere, so that what the grammar does not have is refused.
    fn step_extension(&mut self, byte: u8) -> Result<ChunkState, Close> {
        //= RFC 9112 section 7.1.1: "A recipient MUST ignore unrecognized chunk extensions."
        let next = match (self.state, byte) {
            (ChunkState::ExtensionName | ChunkState::ExtensionToken | ChunkState::ExtensionEnd, b'\r') => {
                return Ok(ChunkState::SizeLineFeed);
            }
            (ChunkState::ExtensionStart | ChunkState::ExtensionName, name) if is_token(name) => {
                ChunkState::ExtensionName
            }
            (ChunkState::ExtensionValueStart | ChunkState::ExtensionToken, value) if is_token(value) => {
                ChunkState::ExtensionToken
            }
            (ChunkState::ExtensionValueStart, b'"') => ChunkState::ExtensionQuoted,
            (ChunkState::ExtensionQuoted, b'"') => ChunkState::ExtensionEnd,
            (ChunkState::ExtensionQuoted, b'\\') => ChunkState::ExtensionEscape,
            (ChunkState::ExtensionQuoted | ChunkState::ExtensionEscape, text) if is_text(text) => {
                ChunkState::ExtensionQuoted
            }
            //= RFC 9110 section 5.6.3: "A recipient MUST parse for such bad whitespace and remove it before interpreting
            //=   the protocol element."
            (state @ (ChunkState::ExtensionStart | ChunkState::ExtensionValueStart), b' ' | b'\t') => state,
            (ChunkState::ExtensionName | ChunkState::ExtensionNameGap, b' ' | b'\t') => ChunkState::ExtensionNameGap,
            (ChunkState::ExtensionName | ChunkState::ExtensionNameGap, b'=') => ChunkState::ExtensionValueStart,
            (ChunkState::ExtensionToken | ChunkState::ExtensionEnd | ChunkState::ExtensionGap, b' ' | b'\t') => {
                ChunkState::ExtensionGap
            }
            (
                ChunkState::ExtensionName
                | ChunkState::ExtensionNameGap
                | ChunkState::ExtensionToken
                | ChunkState::ExtensionEnd
                | ChunkState::ExtensionGap,
                b';',
            ) => ChunkState::ExtensionStart,
            _ => return Err(BAD_CHUNK),
        };
        self.count_extra(next)
    }

    fn step_trailer(&mut self, byte: u8) -> Result<ChunkState, Close> {
        match (self.state, byte) {
            (ChunkState::TrailerStart, b'\r') => Ok(ChunkState::LastLineFeed),
            (ChunkState::TrailerName, b':') => self.count_extra(ChunkState::TrailerValue),
            (ChunkState::TrailerStart | ChunkState::TrailerName, name) if is_token(name) => {
                self.count_extra(ChunkState::TrailerName)
            }
            (ChunkState::TrailerValue, b'\r') => Ok(ChunkState::TrailerLineFeed),
            //= RFC 9110 section 6.5.1: "A recipient MUST NOT merge a trailer field into a header section"
            //= RFC 9112 section 7.1.2: "A recipient MUST NOT merge a received trailer field into the header section"
            (ChunkState::TrailerValue, text) if is_text(text) => self.count_extra(ChunkState::TrailerValue),
            (ChunkState::TrailerLineFeed, b'\n') => Ok(ChunkState::TrailerStart),
            (ChunkState::LastLineFeed, b'\n') => Ok(ChunkState::Done),
            _ => Err(BAD_TRAILER),
        }
    }

    fn take_digit(&mut self, digit: u8) -> Result<ChunkState, Close> {
        //= RFC 9112 section 7.1: "recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing
        //=   errors due to integer conversion overflows"
        let value = hex_value(digit).filter(|_| self.digit_count < SIZE_DIGITS_MAX).ok_or(BAD_CHUNK)?;
        self.remaining = 16 * self.remaining + u64::from(value);
        self.digit_count += 1;
        Ok(ChunkState::Size)
    }

    fn start_chunk(&mut self) -> ChunkState {
        self.digit_count = 0;
        if self.remaining == 0 { ChunkState::TrailerStart } else { ChunkState::Data }
    }

    fn count_extra(&mut self, state: ChunkState) -> Result<ChunkState, Close> {
        match self.extra_bytes_left.checked_sub(1) {
            Some(left) => self.extra_bytes_left = left,
            None => return Err(Close::HeadTooLarge),
        }
        Ok(state)
    }
}

fn take_data<'a>(input: &mut &'a [u8], remaining: &mut u64) -> &'a [u8] {
    let count = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
    let (data, rest) = input.split_at(count);
    *input = rest;
    *remaining -= count as u64;
    data
}

/// What a field value or a quoted extension may hold: no control characters but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte != 0x7f && b' ' <= byte)
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
