//! The client's side: requests out, responses in. For the command line's tools, above all the load generator, so body bytes
//! are handed on as slices of what was read.

use std::{io::Write, mem::MaybeUninit};

use crate::close::Close;

use super::{
    Method,
    body::{BodyDecoder, BodyPart, ChunkDecoder},
    head::{self, Framing},
    response::{forbids_body, write_field},
    retained::Retained,
};

/// Appends a request (RFC 9112 section 3). `target` is a path with its query, already encoded; `host` names the server and,
/// unless it is the default, the port. `Content-Length` is written if there is a body or the method calls for one.
pub fn write_request(
    method: Method,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    out: &mut Vec<u8>,
) {
    //= RFC 9112 section 2.2: "An HTTP/1.1 user agent MUST NOT preface or follow a request with an extra CRLF."
    //= RFC 9110 section 6.2: "A client MUST NOT send a version to which it is not conformant."
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{method} {target} HTTP/1.1\r\n");
    //= RFC 9112 section 3.2: "A client MUST send a Host header field"
    //= RFC 9110 section 7.2: "A user agent MUST generate a Host header field in a request"
    write_field("Host", host, out);
    for (name, value) in headers {
        write_field(name, value, out);
    }
    //= RFC 9112 section 6.3: "MUST send either a valid Content-Length header field or use the chunked transfer coding."
    if !body.is_empty() || matches!(method, Method::Post | Method::Put | Method::Patch) {
        //= RFC 9112 section 2.2: "the user agent MUST count the terminating CRLF octets as part of the message body
        //=   length"
        let _ = write!(out, "Content-Length: {}\r\n", body.len());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// Reads the responses on one connection, one after the other.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    /// The beginning of a head that is not complete.
    retained: Retained,
    /// Whether the next response answers a HEAD request.
    bodiless: bool,
    keep_alive: bool,
}

#[derive(Debug)]
enum State {
    Head { scanned: usize },
    Body(BodyDecoder),
    Ended(Close),
}

/// What [`ResponseReader::receive`] reports, in order: one head, any number of body pieces, one end.
#[derive(Debug)]
pub enum ResponsePart<'a> {
    /// A final response, or 101; the other interim ones are passed over.
    Head(ResponseHead<'a>),
    /// Bytes of the body, transfer coding removed; never empty. After a 101: what the new protocol sends.
    Body(&'a [u8]),
    /// The response is complete.
    End,
}

#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// Three digits.
    pub status: u16,
    headers: &'a [httparse::Header<'a>],
}

impl<'a> ResponseHead<'a> {
    /// The value of the first field called `name` (in any case).
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.header_values(name).next()
    }

    /// The values of all fields called `name` (in any case).
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    pub fn is_event_stream(&self) -> bool {
        const EVENT_STREAM: &[u8] = b"text/event-stream";
        self.header("content-type").is_some_and(|value| {
            let (kind, parameters) = value.split_at(value.len().min(EVENT_STREAM.len()));
            kind.eq_ignore_ascii_case(EVENT_STREAM) && matches!(parameters.first(), None | Some(b';' | b' '))
        })
    }
}

/// The most bytes a response's head may have.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most fields it may have.
const FIELDS_MAX: usize = 128;

impl ResponseReader {
    /// For a new connection.
    pub fn new() -> Self {
        Self { state: State::Head { scanned: 0 }, retained: Retained::default(), bodiless: false, keep_alive: true }
    }

    /// Takes note that the next response answers a HEAD request: it has no body, whatever its head says.
    //= RFC 9110 section 6: "a client MUST retain knowledge of the request when parsing, interpreting, or caching a
    //=   corresponding response"
    pub fn expect_bodiless(&mut self) {
        self.bodiless = true;
    }

    /// Whether a next request can be sent on this connection, once the last response has ended.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether what the server sent ends with the last response: if it does not, the rest belongs to no request.
    pub fn is_between_responses(&self) -> bool {
        matches!(self.state, State::Head { .. }) && self.retained.is_empty()
    }

    /// Takes what the server sent and reports what it means to `on`. An error is final.
    #[inline]
    pub fn receive(&mut self, bytes: &[u8], mut on: impl FnMut(ResponsePart<'_>)) -> Result<(), Close> {
        let result = self.take_bytes(bytes, &mut on);
        if let Err(close) = result {
            self.state = State::Ended(close);
        }
        result
    }

    /// Takes note that the server closed. A body that lasts until then is complete with it; anything else that was under
    /// way is cut off: [`Close::PeerGone`].
    pub fn finish(&mut self, mut on: impl FnMut(ResponsePart<'_>)) -> Result<(), Close> {
        match std::mem::replace(&mut self.state, State::Ended(Close::Done)) {
            State::Body(BodyDecoder::UntilClose) => on(ResponsePart::End),
            State::Head { .. } if self.retained.is_empty() => {}
            //= RFC 9112 section 6.3: "the recipient MUST consider the message to be incomplete and close the
            //=   connection."
            //= RFC 9112 section 8: "MUST record the message as incomplete."
            State::Head { .. } | State::Body(_) => return Err(Close::PeerGone),
            State::Ended(Close::Done) => {}
            State::Ended(close) => return Err(close),
        }
        Ok(())
    }

    fn take_bytes(&mut self, bytes: &[u8], on: &mut impl FnMut(ResponsePart<'_>)) -> Result<(), Close> {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                State::Ended(close) => return Err(*close),
                State::Body(decoder) => {
                    if !pass_body(decoder, &mut rest, on)? {
                        return Ok(());
                    }
                    on(ResponsePart::End);
                    self.state = State::Head { scanned: 0 };
                }
                State::Head { .. } if rest.is_empty() => return Ok(()),
                State::Head { scanned } => {
                    let scanned = *scanned;
                    self.take_head(&mut rest, scanned, on)?;
                }
            }
        }
    }

    /// Uses up the head at the front of `rest`, or keeps all of it.
    fn take_head(
        &mut self,
        rest: &mut &[u8],
        scanned: usize,
        on: &mut impl FnMut(ResponsePart<'_>),
    ) -> Result<(), Close> {
        if self.retained.is_empty() {
            match head::find_end(rest, scanned, HEAD_BYTES_MAX)? {
                Some(head_end) => {
                    let (head, behind) = rest.split_at(head_end);
                    *rest = behind;
                    return self.parse_head(head, on);
                }
                None => return self.keep_head(rest),
            }
        }
        let kept = self.retained.len();
        // No more of a large piece than can be head.
        let (front, _) = rest.split_at(rest.len().min(HEAD_BYTES_MAX + 1));
        self.retained.append(front);
        let Some(head_end) = head::find_end(self.retained.pending(), scanned, HEAD_BYTES_MAX)? else {
            *rest = &[];
            self.state = State::Head { scanned: self.retained.len() };
            return Ok(());
        };
        // The end was not in what was kept before.
        *rest = &rest[head_end - kept..];
        let retained = std::mem::take(&mut self.retained);
        self.parse_head(&retained.pending()[..head_end], on)
    }

    fn keep_head(&mut self, rest: &mut &[u8]) -> Result<(), Close> {
        self.retained.append(std::mem::take(rest));
        self.state = State::Head { scanned: self.retained.len() };
        Ok(())
    }

    fn parse_head(&mut self, bytes: &[u8], on: &mut impl FnMut(ResponsePart<'_>)) -> Result<(), Close> {
        let mut table = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut table);
        if status.map_err(head::refusal)?.is_partial() {
            return Err(Close::BadRequest("malformed response head"));
        }
        let code = parsed.code.unwrap_or_default();
        self.state = if is_interim(code) {
            State::Head { scanned: 0 }
        } else {
            let decoder = self.frame_body(code, parsed.version, parsed.headers)?;
            self.keep_alive = keeps_alive(&parsed) && !matches!(decoder, BodyDecoder::UntilClose);
            self.bodiless = false;
            on(ResponsePart::Head(ResponseHead { status: code, headers: parsed.headers }));
            State::Body(decoder)
        };
        Ok(())
    }

    /// RFC 9112 section 6.3, in its order.
    fn frame_body(
        &self,
        status: u16,
        minor_version: Option<u8>,
        headers: &[httparse::Header<'_>],
    ) -> Result<BodyDecoder, Close> {
        let values = |name: &'static str| {
            headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        //= RFC 9112 section 6.1: "MUST treat the message as if the framing is faulty, even if a Content-Length is
        //=   present"
        if minor_version == Some(0) && values("transfer-encoding").next().is_some() {
            return Err(Close::BadRequest("Transfer-Encoding in HTTP/1.0"));
        }
        if status == 101 {
            return Ok(BodyDecoder::UntilClose);
        }
        if self.bodiless || forbids_body(status) {
            return Ok(BodyDecoder::Sized(0));
        }
        if let Some(coding) = values("transfer-encoding").next() {
            if !coding.eq_ignore_ascii_case(b"chunked") || 1 < values("transfer-encoding").count() {
                return Err(Close::BadRequest("unknown transfer coding"));
            }
            return Ok(BodyDecoder::Chunked(ChunkDecoder::new(HEAD_BYTES_MAX)));
        }
        let mut lengths = values("content-length");
        match (lengths.next(), lengths.next()) {
            (None, _) => Ok(BodyDecoder::UntilClose),
            (Some(length), None) => Ok(BodyDecoder::new(Framing::Sized(head::parse_length(length)?), HEAD_BYTES_MAX)),
            //= RFC 9112 section 6.3: "the user agent MUST close the connection to the server and discard the received
            //=   response."
            (Some(_), Some(_)) => Err(Close::BadRequest("two Content-Length fields")),
        }
    }
}

/// Reports the pieces of a body; true once it is complete.
#[inline]
fn pass_body(
    decoder: &mut BodyDecoder,
    rest: &mut &[u8],
    on: &mut impl FnMut(ResponsePart<'_>),
) -> Result<bool, Close> {
    loop {
        match decoder.next(rest)? {
            BodyPart::Data(data) => on(ResponsePart::Body(data)),
            BodyPart::End => return Ok(true),
            BodyPart::Starved => return Ok(false),
        }
    }
}

/// RFC 9110 section 15.2: any number of them may precede the response. 101 is final: HTTP ends with it.
fn is_interim(status: u16) -> bool {
    //= RFC 9110 section 15.2: "A client MUST be able to parse one or more 1xx responses received prior to a final
    //=   response"
    (100..200).contains(&status) && status != 101
}

/// RFC 9112 section 9.3.
fn keeps_alive(response: &httparse::Response<'_, '_>) -> bool {
    let mut connection = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let asks_keep_alive = connection.clone().any(|header| head::lists_token(header.value, "keep-alive"));
    let closes = connection.any(|header| head::lists_token(header.value, "close"));
    //= RFC 9112 section 9.6: "MUST cease sending requests on that connection and close the connection after reading the
    //=   response message"
    !closes && (response.version == Some(1) || asks_keep_alive)
}
