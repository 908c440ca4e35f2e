//! One pass over a buffer's start.

use std::fmt;

use super::NatsLimits;

/// One operation of a server. Borrows from the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `INFO`: the server's properties and demands, as JSON text ([`super::ServerInfo`]). The first line of every connection;
    /// sent again whenever something changes.
    Info(&'a str),
    /// `MSG` or `HMSG`: a message of a subscription.
    Message(NatsMessage<'a>),
    /// `PING`: to be answered with `PONG`.
    Ping,
    /// `PONG`: the server has processed everything sent before the `PING` that this answers.
    Pong,
    /// `+OK`: sent only if asked for (`verbose`).
    Ok,
    /// `-ERR`: the error text, without its quotes, up to a byte that is no text. The server closes the connection after most
    /// errors, but not after a missing permission.
    Error(&'a str),
}

/// A message of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatsMessage<'a> {
    /// The subject it was published to. A server passes on what is no text as well.
    pub subject: &'a [u8],
    /// The subscription's id, as the client chose it.
    pub sid: u64,
    /// The subject for an answer, if one is expected.
    pub reply_to: Option<&'a [u8]>,
    /// The header block of an `HMSG`, as it came ([`super::HeaderBlock`]).
    pub headers: Option<&'a [u8]>,
    pub payload: &'a [u8],
}

/// The head of a message over the limits, for a client that passes the message over and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OversizeMessage<'a> {
    pub subject: &'a [u8],
    pub sid: u64,
    pub reply_to: Option<&'a [u8]>,
    /// What the whole message takes in the stream, head and line ends included.
    pub bytes: usize,
}

/// Why bytes are not an operation within the [`NatsLimits`]. The connection cannot be used any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadOperation {
    /// A line that begins with no word of the protocol.
    UnknownWord,
    /// A line with too few words, or too many, or with a subscription's id that is no number.
    BadArguments,
    /// A length that is no number, or headers that are longer than their message.
    BadLength,
    /// A line or a payload that does not end with CR LF.
    MissingLineEnd,
    /// An `INFO` that is not UTF-8.
    NotUtf8,
    /// A line over `line_bytes_max`.
    LineTooLong,
    /// A message over `payload_bytes_max` or `header_bytes_max`. [`measure`] says how much of the stream it takes.
    PayloadTooLong,
    /// An `INFO` whose JSON does not say what it must.
    BadInfo,
}

/// What stands between two lines.
const LINE_END: &[u8] = b"\r\n";

/// The operation at the start of `bytes` and its length in bytes; `None` if it is still incomplete.
pub fn parse<'a>(bytes: &'a [u8], limits: &NatsLimits) -> Result<Option<(Operation<'a>, usize)>, BadOperation> {
    let Some(line) = split_line(bytes, limits)? else { return Ok(None) };
    let line_bytes = line.len() + LINE_END.len();
    let (word, arguments) = split_word(line);
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let operation = match () {
        () if is("MSG") || is("HMSG") => {
            let head = MessageHead::parse(arguments, word.len() == "HMSG".len())?;
            let message = head.message(&bytes[line_bytes..], limits)?;
            return Ok(message.map(|(message, length)| (Operation::Message(message), line_bytes + length)));
        }
        () if is("PING") => Operation::Ping,
        () if is("PONG") => Operation::Pong,
        () if is("+OK") => Operation::Ok,
        () if is("-ERR") => Operation::Error(unquote(text_of(arguments.trim_ascii()))),
        () if is("INFO") => {
            Operation::Info(std::str::from_utf8(arguments.trim_ascii()).map_err(|_| BadOperation::NotUtf8)?)
        }
        () => return Err(BadOperation::UnknownWord),
    };
    Ok(Some((operation, line_bytes)))
}

/// The head of the message at the start of `bytes`, for which [`parse`] said [`BadOperation::PayloadTooLong`]; `None` for anything
/// else.
pub fn measure<'a>(bytes: &'a [u8], limits: &NatsLimits) -> Option<OversizeMessage<'a>> {
    let line = split_line(bytes, limits).ok()??;
    let (word, arguments) = split_word(line);
    let has_headers = word.eq_ignore_ascii_case(b"HMSG");
    if !has_headers && !word.eq_ignore_ascii_case(b"MSG") {
        return None;
    }
    let head = MessageHead::parse(arguments, has_headers).ok()?;
    let bytes = (line.len() + 2 * LINE_END.len()).checked_add(head.total_bytes)?;
    let MessageHead { subject, sid, reply_to, .. } = head;
    (!head.is_within(limits)).then_some(OversizeMessage { subject, sid, reply_to, bytes })
}

/// The first word of a line, and what follows it. Servers may send the words in any case, and part them by blanks and tabs.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(memchr::memchr2(b' ', b'\t', line).unwrap_or(line.len()))
}

/// The first line, without its end.
fn split_line<'a>(bytes: &'a [u8], limits: &NatsLimits) -> Result<Option<&'a [u8]>, BadOperation> {
    // One byte more than the limit, for the CR.
    let window = &bytes[..bytes.len().min(limits.line_bytes_max + 1)];
    let Some(end) = memchr::memchr(b'\r', window) else {
        return if bytes.len() <= limits.line_bytes_max { Ok(None) } else { Err(BadOperation::LineTooLong) };
    };
    match bytes.get(end + 1) {
        Some(b'\n') => Ok(Some(&bytes[..end])),
        Some(_) => Err(BadOperation::MissingLineEnd),
        None => Ok(None),
    }
}

/// `<subject> <sid> [reply-to] [#header bytes] <#total bytes>`.
struct MessageHead<'a> {
    subject: &'a [u8],
    sid: u64,
    reply_to: Option<&'a [u8]>,
    /// `None`: it is a `MSG`.
    header_bytes: Option<usize>,
    /// Headers and payload.
    total_bytes: usize,
}

/// The most words in a head.
const HEAD_WORDS_MAX: usize = 5;

impl<'a> MessageHead<'a> {
    fn parse(arguments: &'a [u8], has_headers: bool) -> Result<Self, BadOperation> {
        let mut words: [&[u8]; HEAD_WORDS_MAX] = [&[]; HEAD_WORDS_MAX];
        let mut count = 0;
        for word in arguments.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()) {
            *words.get_mut(count).ok_or(BadOperation::BadArguments)? = word;
            count += 1;
        }
        let (subject, sid, reply_to, header, total) = match (has_headers, &words[..count]) {
            (false, [subject, sid, total]) => (subject, sid, None, None, total),
            (false, [subject, sid, reply_to, total]) => (subject, sid, Some(*reply_to), None, total),
            (true, [subject, sid, header, total]) => (subject, sid, None, Some(header), total),
            (true, [subject, sid, reply_to, header, total]) => (subject, sid, Some(*reply_to), Some(header), total),
            _ => return Err(BadOperation::BadArguments),
        };
        let total_bytes = parse_length(total)?;
        let header_bytes = header.map(|header| parse_length(header)).transpose()?;
        if header_bytes.is_some_and(|header_bytes| total_bytes < header_bytes) {
            return Err(BadOperation::BadLength);
        }
        let sid = parse_number(sid).ok_or(BadOperation::BadArguments)?;
        Ok(Self { subject, sid, reply_to, header_bytes, total_bytes })
    }

    fn is_within(&self, limits: &NatsLimits) -> bool {
        let header_bytes = self.header_bytes.unwrap_or(0);
        header_bytes <= limits.header_bytes_max && self.total_bytes - header_bytes <= limits.payload_bytes_max
    }

    /// The message whose content stands at the start of `bytes`, and the length of that.
    fn message(&self, bytes: &'a [u8], limits: &NatsLimits) -> Result<Option<(NatsMessage<'a>, usize)>, BadOperation> {
        if !self.is_within(limits) {
            return Err(BadOperation::PayloadTooLong);
        }
        let Some((content, behind)) = bytes.split_at_checked(self.total_bytes) else { return Ok(None) };
        match behind {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(None),
            _ => return Err(BadOperation::MissingLineEnd),
        }
        let (headers, payload) = content.split_at(self.header_bytes.unwrap_or(0));
        let headers = self.header_bytes.is_some().then_some(headers);
        let message = NatsMessage { subject: self.subject, sid: self.sid, reply_to: self.reply_to, headers, payload };
        Ok(Some((message, self.total_bytes + LINE_END.len())))
    }
}

/// The most digits of a length: more than any limit has.
const DIGITS_MAX: usize = 18;

fn parse_length(word: &[u8]) -> Result<usize, BadOperation> {
    parse_number(word).and_then(|number| number.try_into().ok()).ok_or(BadOperation::BadLength)
}

fn parse_number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || DIGITS_MAX < word.len() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(word.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// As much of `bytes` as is text.
fn text_of(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(text)
}

impl fmt::Display for BadOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownWord => "a line begins with no word of the NATS protocol",
            Self::BadArguments => "an operation has too few arguments, or too many",
            Self::BadLength => "a length does not read as one",
            Self::MissingLineEnd => "CR LF is missing",
            Self::NotUtf8 => "the server's INFO is not UTF-8",
            Self::LineTooLong => "a line is over its limit",
            Self::PayloadTooLong => "a message is over its limit",
            Self::BadInfo => "the server's INFO is not the JSON it must be",
        })
    }
}

impl std::error::Error for BadOperation {}
