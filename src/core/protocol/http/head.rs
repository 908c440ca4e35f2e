//! A request's head: its end, its fields, and the framing of the body.

use std::mem::MaybeUninit;

use crate::close::Close;

use super::{
    HttpLimits, Method, Request, Version,
    request::{Field, Span},
    uri::RequestTarget,
};

/// A parsed head: the request without its body, and the body's framing.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request,
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) awaits_continue: bool,
}

/// How a message's body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes; zero for no body.
    Sized(u64),
    /// With the last chunk.
    Chunked,
}

/// The most fields that can be configured: their table is on the stack.
const FIELDS_MAX: usize = 256;

/// The end of the head that `bytes` begin with: the place after its blank line; `None` if it is yet to come. The first
/// `scanned` bytes were looked at by an earlier call.
///
/// Lines must end with CR LF. `httparse` would take a bare LF, which a proxy in front may not take for a line's end.
pub(super) fn find_end(bytes: &[u8], scanned: usize, head_bytes_max: usize) -> Result<Option<usize>, Close> {
    let window = &bytes[..bytes.len().min(head_bytes_max)];
    for at in memchr::memchr_iter(b'\n', window.get(scanned..).unwrap_or_default()) {
        let line_end = scanned + at;
        if line_end == 0 || window[line_end - 1] != b'\r' {
            return Err(Close::BadRequest("a line ends without a carriage return"));
        }
        if window[..line_end].ends_with(b"\r\n\r") {
            return Ok(Some(line_end + 1));
        }
    }
    //= RFC 9110 section 5.4: "larger than it wishes to process MUST respond with an appropriate 4xx (Client Error)
    //=   status code."
    if window.len() < bytes.len() { Err(too_large(window)) } else { Ok(None) }
}

/// RFC 9112 section 3: without the end of a request line in it, the target is to blame.
fn too_large(window: &[u8]) -> Close {
    let line = window.strip_prefix(b"\r\n").unwrap_or(window);
    //= RFC 9112 section 3: "MUST respond with a 414 (URI Too Long) status code"
    if memchr::memchr(b'\n', line).is_none() { Close::TargetTooLong } else { Close::HeadTooLarge }
}

/// Parses a head as [`find_end`] found it.
pub(super) fn parse(bytes: &[u8], limits: &HttpLimits) -> Result<Head, Close> {
    // One blank line ahead of the request line is tolerated (RFC 9112 section 2.2). `httparse` would take many.
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    if bytes.starts_with(b"\r") || bytes.starts_with(b"\n") {
        return Err(Close::BadRequest("blank lines stand where a request line is due"));
    }
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    //= RFC 9112 section 2.2: "MUST parse an HTTP message as a sequence of octets in an encoding that is a superset of
    //=   US-ASCII"
    let status = parsed.parse_with_uninit_headers(bytes, &mut table[..limits.headers_max.min(FIELDS_MAX)]);
    if status.map_err(refusal)?.is_partial() {
        return Err(Close::BadRequest("malformed request head"));
    }
    build(bytes, &parsed)
}

/// Whether the comma-separated list in `value` has `token` in it.
pub(super) fn lists_token(value: &[u8], token: &str) -> bool {
    //= RFC 9110 section 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements"
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// The close for a malformed head.
pub(super) fn refusal(error: httparse::Error) -> Close {
    Close::BadRequest(match error {
        httparse::Error::TooManyHeaders => return Close::HeadTooLarge,
        //= RFC 9112 section 2.2: "MUST either reject the message as invalid or consume each whitespace-preceded line
        //=   without further processing of it"
        //= RFC 9112 section 5.1: "any received request message that contains whitespace between a header field name and
        //=   colon"
        //= RFC 9112 section 5.2: "MUST either reject the message by sending a 400 (Bad Request)"
        httparse::Error::HeaderName => "malformed header name",
        //= RFC 9110 section 5.5: "MUST either reject the message or replace each of those characters with SP before
        //=   further processing or forwarding of that message."
        httparse::Error::HeaderValue => "malformed header value",
        //= RFC 9112 section 2.2: "A recipient of such a bare CR MUST consider that element to be invalid or replace
        //=   each bare CR with SP"
        httparse::Error::NewLine => "malformed line end",
        httparse::Error::Version => "unknown HTTP version",
        httparse::Error::Token | httparse::Error::Status => "malformed request line",
    })
}

fn build(bytes: &[u8], parsed: &httparse::Request<'_, '_>) -> Result<Head, Close> {
    let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let method = Method::parse(parsed.method.unwrap_or_default());
    let target = RequestTarget::parse(method, parsed.path.unwrap_or_default())?;
    let mut rules = Rules::default();
    //= RFC 9110 section 5.5: "a field parsing implementation MUST exclude such whitespace prior to evaluating the field
    //=   value."
    for header in parsed.headers.iter() {
        rules.note(header)?;
    }
    let framing = rules.framing(version)?;
    let request = Request {
        method,
        version,
        path: target.path,
        query: target.query,
        authority: target.authority,
        body: Vec::new(),
        keep_alive: rules.keeps_alive(version),
        head: bytes.into(),
        fields: locate_fields(bytes, parsed.headers)?,
    };
    //= RFC 9110 section 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore
    //=   that expectation."
    //= RFC 9110 section 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client."
    let awaits_continue = rules.expects_continue && version == Version::Http11 && framing != Framing::Sized(0);
    Ok(Head { request, framing, awaits_continue })
}

fn locate_fields(bytes: &[u8], headers: &[httparse::Header<'_>]) -> Result<Vec<Field>, Close> {
    let locate = |part: &[u8]| -> Option<Span> {
        let start = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
        Some(Span { start: u32::try_from(start).ok()?, end: u32::try_from(start + part.len()).ok()? })
    };
    let field = |header: &httparse::Header<'_>| {
        Some(Field { name: locate(header.name.as_bytes())?, value: locate_value(header.value, locate)? })
    };
    let mut fields = Vec::with_capacity(headers.len());
    for header in headers {
        fields.push(field(header).ok_or(Close::HeadTooLarge)?);
    }
    Ok(fields)
}

/// An empty value need not point into the head.
fn locate_value(value: &[u8], locate: impl Fn(&[u8]) -> Option<Span>) -> Option<Span> {
    if value.is_empty() { Some(Span { start: 0, end: 0 }) } else { locate(value) }
}

/// Fields by which a browser says which page asks (RFC 6454 section 7.3, Fetch Metadata), and what a head is refused for that has
/// one of them twice: two readers of the request might go by different ones.
const SAID_ONCE: [(&str, &str); 3] = [
    ("origin", "two Origin fields"),
    ("sec-fetch-site", "two Sec-Fetch-Site fields"),
    ("sec-fetch-mode", "two Sec-Fetch-Mode fields"),
];

/// The fields that decide framing and persistence, read in one pass.
#[derive(Debug, Default)]
struct Rules {
    has_host: bool,
    /// Of each field of [`SAID_ONCE`], whether it was there.
    said: [bool; SAID_ONCE.len()],
    content_length: Option<u64>,
    chunked: bool,
    closes: bool,
    asks_keep_alive: bool,
    expects_continue: bool,
}

impl Rules {
    fn note(&mut self, header: &httparse::Header<'_>) -> Result<(), Close> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("host") {
            self.note_host(header.value)
        } else if is("content-length") {
            self.note_length(header.value)
        } else if is("transfer-encoding") {
            self.note_coding(header.value)
        } else if is("expect") {
            self.note_expectation(header.value)
        } else if is("connection") {
            self.closes |= lists_token(header.value, "close");
            self.asks_keep_alive |= lists_token(header.value, "keep-alive");
            Ok(())
        } else {
            self.note_once(header.name)
        }
    }

    fn note_once(&mut self, name: &str) -> Result<(), Close> {
        for ((field, refusal), said) in SAID_ONCE.iter().zip(&mut self.said) {
            if name.eq_ignore_ascii_case(field) && std::mem::replace(said, true) {
                return Err(Close::BadRequest(refusal));
            }
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: exactly one.
    fn note_host(&mut self, value: &[u8]) -> Result<(), Close> {
        //= RFC 9112 section 3.2: "contains more than one Host header field line or a Host header field with an invalid
        //=   field value."
        if std::mem::replace(&mut self.has_host, true) {
            return Err(Close::BadRequest("two Host fields"));
        }
        if is_authority(value) { Ok(()) } else { Err(Close::BadRequest("malformed Host field")) }
    }

    /// RFC 9112 section 6.3 would let equal repetitions pass; a proxy may not see them the same way.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Close> {
        let length = parse_length(value)?;
        match self.content_length.replace(length) {
            None => Ok(()),
            //= RFC 9112 section 6.3: "the server MUST respond with a 400 (Bad Request) status code and then close the
            //=   connection."
            Some(_) => Err(Close::BadRequest("two Content-Length fields")),
        }
    }

    /// RFC 9112 section 6.1: `chunked` once, last; no other coding is known here, so it is also the only one.
    fn note_coding(&mut self, value: &[u8]) -> Result<(), Close> {
        //= RFC 9112 section 6.3: "the message body length cannot be determined reliably; the server MUST respond with
        //=   the 400 (Bad Request) status code and then close the connection."
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Close::BadRequest("unknown transfer coding"));
        }
        if std::mem::replace(&mut self.chunked, true) {
            return Err(Close::BadRequest("two Transfer-Encoding fields"));
        }
        Ok(())
    }

    /// RFC 9110 section 10.1.1.
    fn note_expectation(&mut self, value: &[u8]) -> Result<(), Close> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Close::ExpectationFailed);
        }
        self.expects_continue = true;
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Close> {
        match (self.chunked, self.content_length) {
            //= RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
            //=   request message that lacks a Host header field"
            _ if !self.has_host && version == Version::Http11 => Err(Close::BadRequest("no Host field")),
            //= RFC 9112 section 6.1: "the server MUST close the connection after responding to such a request to avoid
            //=   the potential attacks."
            (true, Some(_)) => Err(Close::BadRequest("Content-Length together with Transfer-Encoding")),
            //= RFC 9112 section 6.1: "MUST treat the message as if the framing is faulty, even if a Content-Length is
            //=   present"
            (true, None) if version == Version::Http10 => Err(Close::BadRequest("Transfer-Encoding in HTTP/1.0")),
            //= RFC 9112 section 6.1: "A recipient MUST be able to parse the chunked transfer coding"
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Sized(length.unwrap_or(0))),
        }
    }

    /// RFC 9112 section 9.3.
    fn keeps_alive(&self, version: Version) -> bool {
        //= RFC 9112 section 9.6: "MUST initiate closure of the connection (see below) after it sends the final
        //=   response"
        !self.closes && (version == Version::Http11 || self.asks_keep_alive)
    }
}

/// Digits and nothing else, that make a number below 2^64: a reader that counts in fewer bits would wrap round to a body of
/// another length (RFC 9110 section 8.6).
pub(super) fn parse_length(value: &[u8]) -> Result<u64, Close> {
    //= RFC 9112 section 6.3: "the message framing is invalid and the recipient MUST treat it as an unrecoverable error"
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Close::BadRequest("malformed Content-Length field"));
    }
    let digits = std::str::from_utf8(value).unwrap_or_default();
    //= RFC 9110 section 8.6: "a recipient MUST anticipate potentially large decimal numerals and prevent parsing errors
    //=   due to integer conversion overflows"
    digits.parse().map_err(|_| Close::BadRequest("the Content-Length field is beyond 2^64"))
}

/// RFC 3986 section 3.2: a name or an address, with or without a port; here without user information.
pub fn is_authority(value: &[u8]) -> bool {
    let Some(address) = value.strip_prefix(b"[") else {
        let host_end = memchr::memchr(b':', value).unwrap_or(value.len());
        let (host, port) = value.split_at(host_end);
        return !host.is_empty() && host.iter().all(|byte| is_host_byte(*byte)) && is_port(port);
    };
    let is_address_byte = |byte: &u8| is_host_byte(*byte) || *byte == b':';
    match memchr::memchr(b']', address) {
        Some(end) => 0 < end && address[..end].iter().all(is_address_byte) && is_port(&address[end + 1..]),
        None => false,
    }
}

/// Nothing, or a colon and digits (RFC 3986 lets them be none) that make a port number.
fn is_port(text: &[u8]) -> bool {
    match text.strip_prefix(b":") {
        None => text.is_empty(),
        Some(digits) => digits.is_empty() || parse_length(digits).is_ok_and(|port| port <= 65_535),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte)
}
