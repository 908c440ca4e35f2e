//! One pass over a buffer's start. Running out of bytes ends the pass the way an error does, so `?` serves for both.

use super::{BadReply, Push, Reply, RespLimits};

/// The reply at the start of `bytes` and its length in bytes; `None` if it is still incomplete.
///
/// Attributes (`|`, RESP3) are skipped: they annotate the reply that follows.
pub fn parse<'a>(bytes: &'a [u8], limits: &RespLimits) -> Result<Option<(Reply<'a>, usize)>, BadReply> {
    let mut cursor = Cursor::new(bytes, limits);
    complete(cursor.reply(0), &cursor)
}

/// Like [`parse`], for a connection that subscribes: recognises messages and confirmations without allocating.
///
/// RESP2 sends them as arrays, RESP3 as pushes; both are read alike, so do not read the answers of ordinary commands
/// with it: a list that begins with the word `message` would pass for one.
pub fn parse_push<'a>(bytes: &'a [u8], limits: &RespLimits) -> Result<Option<(Push<'a>, usize)>, BadReply> {
    let mut cursor = Cursor::new(bytes, limits);
    if let Some(push) = complete(cursor.push(), &cursor)? {
        return Ok(match push {
            (Some(push), consumed) => Some((push, consumed)),
            (None, _) => parse(bytes, limits)?.map(|(reply, consumed)| (Push::Other(reply), consumed)),
        });
    }
    Ok(None)
}

fn complete<T>(result: Result<T, Stop>, cursor: &Cursor<'_, '_>) -> Result<Option<(T, usize)>, BadReply> {
    match result {
        Ok(value) => Ok(Some((value, cursor.at))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Bad(bad)) => Err(bad),
    }
}

/// Why a pass ends before its reply does.
enum Stop {
    Incomplete,
    Bad(BadReply),
}

impl From<BadReply> for Stop {
    fn from(bad: BadReply) -> Self {
        Self::Bad(bad)
    }
}

/// The most digits a number may have.
const DIGITS_MAX: usize = 19;

struct Cursor<'a, 'l> {
    bytes: &'a [u8],
    at: usize,
    elements: usize,
    limits: &'l RespLimits,
}

impl<'a, 'l> Cursor<'a, 'l> {
    fn new(bytes: &'a [u8], limits: &'l RespLimits) -> Self {
        Self { bytes, at: 0, elements: 0, limits }
    }

    /// A message or confirmation; `None` if something else stands here.
    fn push(&mut self) -> Result<Option<Push<'a>>, Stop> {
        if !matches!(self.byte()?, b'*' | b'>') {
            return Ok(None);
        }
        let count = self.number()?;
        if !matches!(count, 3 | 4) {
            return Ok(None);
        }
        match (self.plain_bulk()?, count) {
            (Some(b"message" | b"smessage"), 3) => self.message(),
            (Some(b"pmessage"), 4) => self.pattern_message(),
            (Some(b"subscribe" | b"ssubscribe"), 3) => {
                self.confirmation(|channel, count| Push::Subscribed { channel, count })
            }
            (Some(b"unsubscribe" | b"sunsubscribe"), 3) => {
                self.confirmation(|channel, count| Push::Unsubscribed { channel, count })
            }
            (Some(b"psubscribe"), 3) => self.confirmation(|pattern, count| Push::PatternSubscribed { pattern, count }),
            (Some(b"punsubscribe"), 3) => {
                self.confirmation(|pattern, count| Push::PatternUnsubscribed { pattern, count })
            }
            _ => Ok(None),
        }
    }

    fn message(&mut self) -> Result<Option<Push<'a>>, Stop> {
        let (Some(channel), Some(payload)) = (self.plain_bulk()?, self.plain_bulk()?) else { return Ok(None) };
        Ok(Some(Push::Message { channel, payload }))
    }

    fn pattern_message(&mut self) -> Result<Option<Push<'a>>, Stop> {
        let Some(pattern) = self.plain_bulk()? else { return Ok(None) };
        let (Some(channel), Some(payload)) = (self.plain_bulk()?, self.plain_bulk()?) else { return Ok(None) };
        Ok(Some(Push::PatternMessage { pattern, channel, payload }))
    }

    fn confirmation(&mut self, push: fn(&'a [u8], i64) -> Push<'a>) -> Result<Option<Push<'a>>, Stop> {
        // The channel is null when all was unsubscribed and there was nothing to unsubscribe.
        let Some(name) = self.plain_bulk()? else { return Ok(None) };
        if self.byte()? != b':' {
            return Ok(None);
        }
        let count = self.number()?;
        Ok(Some(push(name, count)))
    }

    /// A bulk string that is not null; `None` if something else stands here.
    fn plain_bulk(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        if self.byte()? != b'$' {
            return Ok(None);
        }
        self.bulk()
    }

    /// Any reply. Attributes before it are stepped over in a loop: recursion would let a peer choose the stack's depth.
    fn reply(&mut self, depth: usize) -> Result<Reply<'a>, Stop> {
        loop {
            match self.byte()? {
                b'|' => drop(self.pairs(depth)?),
                kind => return self.reply_of(kind, depth),
            }
        }
    }

    fn reply_of(&mut self, kind: u8, depth: usize) -> Result<Reply<'a>, Stop> {
        Ok(match kind {
            b'+' => Reply::Simple(self.text_line()?),
            b'-' => Reply::Error(self.text_line()?),
            b':' => Reply::Integer(self.number()?),
            b'$' => Reply::Bulk(self.bulk()?),
            b'*' => self.items(depth)?.map_or(Reply::Null, Reply::Array),
            b'>' => Reply::Push(self.items(depth)?.ok_or(BadReply::BadLength)?),
            b'~' => Reply::Set(self.items(depth)?.ok_or(BadReply::BadLength)?),
            b'%' => Reply::Map(self.pairs(depth)?),
            b'_' => self.null()?,
            b'#' => Reply::Boolean(self.boolean()?),
            b',' => Reply::Double(self.text_line()?.parse().map_err(|_| BadReply::BadValue)?),
            b'(' => Reply::BigNumber(self.digits()?),
            b'!' => Reply::Error(as_text(self.bulk()?.ok_or(BadReply::BadLength)?)?),
            b'=' => self.verbatim()?,
            other => return Err(BadReply::UnknownType(other).into()),
        })
    }

    /// The elements of a list; `None` is RESP2's null array.
    fn items(&mut self, depth: usize) -> Result<Option<Vec<Reply<'a>>>, Stop> {
        let Some(count) = self.length()? else { return Ok(None) };
        let mut items = self.claim(count, depth)?;
        for _ in 0..count {
            items.push(self.reply(depth + 1)?);
        }
        Ok(Some(items))
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Reply<'a>, Reply<'a>)>, Stop> {
        let count = self.length()?.ok_or(BadReply::BadLength)?;
        let mut pairs = self.claim(count.checked_mul(2).ok_or(BadReply::BadLength)?, depth)?;
        for _ in 0..count {
            pairs.push((self.reply(depth + 1)?, self.reply(depth + 1)?));
        }
        Ok(pairs)
    }

    /// Room for `count` elements, checked against the limits first. Never more room than the bytes at hand could fill:
    /// no element takes fewer than three.
    fn claim<T>(&mut self, count: usize, depth: usize) -> Result<Vec<T>, Stop> {
        if self.limits.depth_max <= depth {
            return Err(BadReply::TooDeep.into());
        }
        self.elements = self.elements.saturating_add(count);
        if self.limits.elements_max < self.elements {
            return Err(BadReply::TooManyElements.into());
        }
        Ok(Vec::with_capacity(count.min((self.bytes.len() - self.at) / 3)))
    }

    fn null(&mut self) -> Result<Reply<'a>, Stop> {
        if !self.line()?.is_empty() {
            return Err(BadReply::BadValue.into());
        }
        Ok(Reply::Null)
    }

    fn boolean(&mut self) -> Result<bool, Stop> {
        match self.line()? {
            b"t" => Ok(true),
            b"f" => Ok(false),
            _ => Err(BadReply::BadValue.into()),
        }
    }

    fn digits(&mut self) -> Result<&'a str, Stop> {
        let text = self.text_line()?;
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadReply::BadValue.into());
        }
        Ok(text)
    }

    fn verbatim(&mut self) -> Result<Reply<'a>, Stop> {
        let bulk = self.bulk()?.ok_or(BadReply::BadLength)?;
        let (format, text) = bulk.split_at_checked(4).ok_or(BadReply::BadValue)?;
        let format = as_text(format)?.strip_suffix(':').ok_or(BadReply::BadValue)?;
        Ok(Reply::Verbatim { format, text })
    }

    /// A bulk string behind its type byte; `None` is RESP2's null.
    fn bulk(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.limits.bulk_bytes_max < length {
            return Err(BadReply::BulkTooLong.into());
        }
        let bulk = self.bytes.get(self.at..self.at + length).ok_or(Stop::Incomplete)?;
        self.at += length;
        self.line_end()?;
        Ok(Some(bulk))
    }

    /// A length; `None` for -1, the null of RESP2.
    fn length(&mut self) -> Result<Option<usize>, Stop> {
        match self.number()? {
            -1 => Ok(None),
            number => Ok(Some(usize::try_from(number).map_err(|_| BadReply::BadLength)?)),
        }
    }

    /// A signed decimal number and its line end.
    fn number(&mut self) -> Result<i64, Stop> {
        let sign = match self.bytes.get(self.at) {
            Some(sign @ (b'-' | b'+')) => {
                self.at += 1;
                *sign
            }
            _ => b'+',
        };
        let magnitude = self.magnitude()?;
        self.line_end()?;
        let number = match sign {
            b'-' => 0_i64.checked_sub_unsigned(magnitude),
            _ => i64::try_from(magnitude).ok(),
        };
        Ok(number.ok_or(BadReply::BadLength)?)
    }

    /// One digit or more. An `i64` has at most 19, and so many never overflow a `u64`; a longer run is refused, zeros too,
    /// as it could go on for ever.
    fn magnitude(&mut self) -> Result<u64, Stop> {
        let rest = &self.bytes[self.at..];
        let (mut magnitude, mut count) = (0, 0);
        for byte in rest {
            let digit = byte.wrapping_sub(b'0');
            if 9 < digit {
                break;
            }
            if count == DIGITS_MAX {
                return Err(BadReply::BadLength.into());
            }
            magnitude = magnitude * 10 + u64::from(digit);
            count += 1;
        }
        if count == 0 && !rest.is_empty() {
            return Err(BadReply::BadLength.into());
        }
        self.at += count;
        Ok(magnitude)
    }

    fn text_line(&mut self) -> Result<&'a str, Stop> {
        Ok(as_text(self.line()?)?)
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        // One byte more than the limit, for the CR.
        let window = &rest[..rest.len().min(self.limits.line_bytes_max + 1)];
        let Some(end) = memchr::memchr(b'\r', window) else {
            return Err(if rest.len() <= self.limits.line_bytes_max {
                Stop::Incomplete
            } else {
                BadReply::LineTooLong.into()
            });
        };
        self.at += end;
        self.line_end()?;
        Ok(&rest[..end])
    }

    fn line_end(&mut self) -> Result<(), Stop> {
        match self.bytes.get(self.at..) {
            Some([b'\r', b'\n', ..]) => {
                self.at += 2;
                Ok(())
            }
            Some([] | [b'\r']) => Err(Stop::Incomplete),
            _ => Err(BadReply::MissingLineEnd.into()),
        }
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }
}

fn as_text(bytes: &[u8]) -> Result<&str, BadReply> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| BadReply::NotUtf8)
}
