//! Request targets and their encodings (RFC 3986, RFC 9112 section 3.2, WHATWG URL section 5).

use crate::close::Close;

use super::{Method, head::is_authority};

/// A target taken apart: path and query, both decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestTarget {
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// The authority of the absolute form, as the client wrote it.
    pub(super) authority: Option<String>,
}

impl RequestTarget {
    /// Takes apart a target in any of the four forms of RFC 9112 section 3.2.
    pub(super) fn parse(method: Method, target: &str) -> Result<Self, Close> {
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Close::BadRequest("the request target holds a byte that must be percent-encoded"));
        }
        //= RFC 9110 section 7.1: "These forms MUST NOT be used with other methods."
        match (method, target) {
            (Method::Connect, authority) => Self::parse_authority(authority),
            (Method::Options, "*") => Ok(Self { path: "*".to_owned(), query: Vec::new(), authority: None }),
            (_, origin) if origin.starts_with('/') => Self::decode(origin),
            //= RFC 9112 section 3.2.2: "MUST accept the absolute-form in requests"
            (_, absolute) => Self::decode_absolute(absolute),
        }
    }

    /// RFC 9110 section 9.3.6: a port is due.
    fn parse_authority(target: &str) -> Result<Self, Close> {
        let names_port = target.ends_with(|last: char| last.is_ascii_digit()) && target.contains(':');
        //= RFC 9110 section 9.3.6: "A server MUST reject a CONNECT request that targets an empty or invalid port
        //=   number"
        if !names_port || !is_authority(target.as_bytes()) {
            return Err(Close::BadRequest("the target of CONNECT is a host and a port"));
        }
        Ok(Self { path: target.to_owned(), query: Vec::new(), authority: None })
    }

    /// The authority is checked as strictly as a Host field: no user information (RFC 9110 section 4.2.4), no empty host
    /// (section 4.2.1).
    fn decode_absolute(target: &str) -> Result<Self, Close> {
        let (scheme, rest) = target.split_once("://").ok_or(MALFORMED)?;
        //= RFC 9110 section 7.4: "an origin server MUST reject a request if any scheme-specific requirements for the target
        //=   URI are not met."
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(MALFORMED);
        }
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, origin) = rest.split_at(authority_end);
        //= RFC 9110 section 4.2.1: "A recipient that processes such a URI reference MUST reject it as invalid."
        if !is_authority(authority.as_bytes()) {
            return Err(MALFORMED);
        }
        Ok(Self { authority: Some(authority.to_owned()), ..Self::decode(origin)? })
    }

    /// `origin` is empty or begins with `/` or `?`.
    fn decode(origin: &str) -> Result<Self, Close> {
        let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
        let path = percent_decode(if path.is_empty() { "/" } else { path }).ok_or(BAD_ENCODING)?;
        Ok(Self { path, query: form_decode(query).ok_or(BAD_ENCODING)?, authority: None })
    }
}

const MALFORMED: Close = Close::BadRequest("the request target is neither a path nor an absolute URL");
const BAD_ENCODING: Close = Close::BadRequest("the request target's percent-encoding is broken or not UTF-8");

/// Decodes `%XX`, once (RFC 3986 section 2.1). `None` if a percent sign is not followed by two hexadecimal digits, or if
/// the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    decode(text, false)
}

/// Decodes the pairs of a query or a form (`application/x-www-form-urlencoded`): `+` is a space, a piece without `=` has
/// an empty value, empty pieces are dropped. `None` as for [`percent_decode`].
pub(super) fn form_decode(query: &str) -> Option<Vec<(String, String)>> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces.map(decode_pair).collect()
}

/// Appends `text` to `out`, with everything but RFC 3986's unreserved characters percent-encoded: fit for a path segment
/// as well as for a query value.
pub fn percent_encode(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let digits = [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            out.extend(digits.map(char::from));
        }
    }
}

fn decode_pair(piece: &str) -> Option<(String, String)> {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    Some((decode(name, true)?, decode(value, true)?))
}

fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let is_plain = |byte: u8| match byte {
        b'%' => false,
        b'+' => !plus_is_space,
        _ => true,
    };
    if text.bytes().all(is_plain) {
        return Some(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => 16 * hex_value(bytes.next()?)? + hex_value(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

/// What a hexadecimal digit stands for.
pub(super) fn hex_value(digit: u8) -> Option<u8> {
    // At most 15, so it fits.
    char::from(digit).to_digit(16).map(|value| value as u8)
}
