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
    /// `-ERR`: the error text, without its quotes. The server closes the connection after most errors, but not after a missing
    /// permission.
    Error(&'a str),
}

/// A message of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatsMessage<'a> {
    /// The subject it was published to.
    pub subject: &'a str,
    /// The subscription's id, as the client chose it.
    pub sid: &'a str,
    /// The subject for an answer, if one is expected.
    pub reply_to: Option<&'a str>,
    /// The header block of an `HMSG`: from `NATS/1.0` to its empty line.
    pub headers: Option<&'a [u8]>,
    pub payload: &'a [u8],
}

/// Why bytes are not an operation within the [`NatsLimits`]. The connection cannot be used any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadOperation {
    /// A line that begins with no word of the protocol.
    UnknownWord,
    /// A line with too few words, or too many.
    BadArguments,
    /// A length that is no number, or headers that are longer than their message.
    BadLength,
    /// A line or a payload that does not end with CR LF.
    MissingLineEnd,
    /// A line that is not UTF-8.
    NotUtf8,
    /// A line over `line_bytes_max`.
    LineTooLong,
    /// A message over `payload_bytes_max`.
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
    let line = std::str::from_utf8(line).map_err(|_| BadOperation::NotUtf8)?;
    // Servers may send the words in any case, and part them by blanks and tabs.
    let (word, arguments) = line.split_at(line.find([' ', '\t']).unwrap_or(line.len()));
    let arguments = arguments.trim_matches([' ', '\t']);
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    let payload = &bytes[line_bytes..];
    let operation = match () {
        () if is("MSG") || is("HMSG") => {
            let message = parse_message(arguments, is("HMSG"), payload, limits)?;
            return Ok(message.map(|(message, length)| (Operation::Message(message), line_bytes + length)));
        }
        () if is("PING") => Operation::Ping,
        () if is("PONG") => Operation::Pong,
        () if is("+OK") => Operation::Ok,
        () if is("-ERR") => Operation::Error(unquote(arguments)),
        () if is("INFO") => Operation::Info(arguments),
        () => return Err(BadOperation::UnknownWord),
    };
    Ok(Some((operation, line_bytes)))
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

/// `<subject> <sid> [reply-to] [#header bytes] <#total bytes>`, and what follows.
fn parse_message<'a>(
    arguments: &'a str,
    has_headers: bool,
    bytes: &'a [u8],
    limits: &NatsLimits,
) -> Result<Option<(NatsMessage<'a>, usize)>, BadOperation> {
    let mut words = arguments.split([' ', '\t']).filter(|word| !word.is_empty());
    let mut last = || words.next_back().ok_or(BadOperation::BadArguments);
    let total_bytes = parse_length(last()?)?;
    let header_bytes = if has_headers { parse_length(last()?)? } else { 0 };
    let (Some(subject), Some(sid), reply_to, None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(BadOperation::BadArguments);
    };
    if limits.payload_bytes_max < total_bytes {
        return Err(BadOperation::PayloadTooLong);
    }
    if total_bytes < header_bytes {
        return Err(BadOperation::BadLength);
    }
    let Some((content, behind)) = bytes.split_at_checked(total_bytes) else { return Ok(None) };
    match behind {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        _ => return Err(BadOperation::MissingLineEnd),
    }
    let (headers, payload) = content.split_at(header_bytes);
    let headers = has_headers.then_some(headers);
    let message = NatsMessage { subject, sid, reply_to, headers, payload };
    Ok(Some((message, total_bytes + LINE_END.len())))
}

/// The most digits of a length: more than any limit has.
const DIGITS_MAX: usize = 18;

fn parse_length(word: &str) -> Result<usize, BadOperation> {
    if DIGITS_MAX < word.len() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadOperation::BadLength);
    }
    word.parse().map_err(|_| BadOperation::BadLength)
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
            Self::NotUtf8 => "a line is not UTF-8",
            Self::LineTooLong => "a line is over its limit",
            Self::PayloadTooLong => "a message is over its limit",
            Self::BadInfo => "the server's INFO is not the JSON it must be",
        })
    }
}

impl std::error::Error for BadOperation {}
