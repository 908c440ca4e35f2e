//! The chunked transfer coding (RFC 9112 section 7.1), server and client halves.

use fanfare_core::{
    close::Close,
    protocol::http::{HttpLimits, ResponsePart, ResponseReader},
};

use super::{http_head, input::Input};

pub(super) const TOKENS: &[&str] = &[
    "0\r\n\r\n",
    "\r\n",
    "5\r\nhello\r\n",
    "0",
    "f",
    "F",
    "00000000000000",
    ";a=b",
    ";\"q\"",
    " \t;",
    "T: v\r\n",
    "\r",
    "\n",
];

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let limits = limits(input.knob);
    // A caller that reads faster than it answers is cut off; so read no more at once than may be kept.
    let kept_bytes_max = limits.head_bytes_max.saturating_add(limits.body_bytes_max);
    let at_once = decode(input.payload.chunks(kept_bytes_max), &limits);
    let in_pieces = decode(input.pieces(), &limits);
    assert_eq!(at_once, in_pieces);
    let by_client = decode_response([input.payload]);
    assert_eq!(by_client, decode_response(input.pieces()));
    if let Decoded::Whole(body) = &at_once {
        assert!(body.len() <= limits.body_bytes_max);
        assert_eq!(Some(body), naive_decode(input.payload).as_ref(), "a plain reading of the standard disagrees");
        assert_eq!(by_client, at_once, "the halves disagree");
        check_round_trip(body, &input);
    }
}

/// The head that is put ahead must fit.
fn limits(knob: u8) -> HttpLimits {
    let extra_bytes_max = [REQUEST.len(), 100, 1024, 16 * 1024][usize::from(knob % 4)];
    let body_bytes_max = [10, 100, 1 << 20, usize::MAX][usize::from(knob / 4 % 4)];
    HttpLimits { head_bytes_max: extra_bytes_max, body_bytes_max, ..HttpLimits::default() }
}

#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Whole(Vec<u8>),
    Unfinished,
    Refused(Close),
}

/// What the server makes of a body; what comes behind it is cut off.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &HttpLimits) -> Decoded {
    let mut outcome = http_head::serve([REQUEST].into_iter().chain(pieces), limits);
    match (outcome.requests.is_empty(), outcome.end) {
        (false, _) => Decoded::Whole(outcome.requests.swap_remove(0).body),
        (true, Some(close)) => Decoded::Refused(close),
        (true, None) => Decoded::Unfinished,
    }
}

fn decode_response<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut reader = ResponseReader::new();
    let (mut body, mut is_whole) = (Vec::new(), false);
    for piece in [RESPONSE].into_iter().chain(pieces) {
        let outcome = reader.receive(piece, |part| match part {
            ResponsePart::Body(data) if !is_whole => body.extend_from_slice(data),
            ResponsePart::End => is_whole = true,
            ResponsePart::Head(_) | ResponsePart::Body(_) => {}
        });
        match outcome {
            _ if is_whole => return Decoded::Whole(body),
            Ok(()) => {}
            Err(close) => return Decoded::Refused(close),
        }
    }
    Decoded::Unfinished
}

/// Line by line, with the whole in view. Right for what is well-formed; never asked about anything else.
fn naive_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut body) = (bytes, Vec::new());
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    while !take_line(&mut rest)?.is_empty() {}
    Some(body)
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

/// A body cut into chunks anew is the same body.
fn check_round_trip(body: &[u8], input: &Input<'_>) {
    let mut bytes = Vec::new();
    for chunk in input.cut(body) {
        bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let limits = HttpLimits { body_bytes_max: body.len(), ..HttpLimits::default() };
    assert_eq!(decode(input.cut(&bytes), &limits), Decoded::Whole(body.to_vec()));
}
