//! The opening handshake (RFC 6455 section 4), server and client halves.

use tungstenite::handshake::derive_accept_key;

use crate::{
    close::Close,
    protocol::http::{Method, Request, Response, ResponseHead, Version, write_field, write_request, write_status},
};

/// The version of RFC 6455, the only one spoken here.
const VERSION: &str = "13";

/// Whether a request asks for an upgrade to WebSocket. [`accept`] checks whether it does so properly.
fn is_upgrade(request: &Request) -> bool {
    request.header_lists("upgrade", "websocket")
}

/// An accepted handshake, for [`write_accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocol, if the client offered a supported one.
    pub protocol: Option<&'static str>,
    accept_key: String,
}

/// Why a request is no proper opening handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, or 426 where the client could do better.
    pub status: u16,
    /// The rule that was broken.
    pub reason: &'static str,
}

/// Checks an opening handshake (RFC 6455 section 4.2.1). Chooses the first of the client's subprotocols that is in `protocols`; if
/// there is none the connection has no subprotocol, and the client decides whether to continue.
pub fn accept(request: &Request, protocols: &[&'static str]) -> Result<Accepted, Refusal> {
    //= RFC 6455 section 4.2.1: "the server MUST stop processing the client's handshake and return an HTTP response with
    //=   an appropriate error code"
    check_upgrade(request)?;
    //= RFC 6455 section 11.3.1: "header field MUST NOT appear more than once in an HTTP request"
    let key = only_value(request, "sec-websocket-key").filter(|key| is_key(key));
    let key = key.ok_or(Refusal::bad("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    Ok(Accepted { protocol: choose_protocol(request, protocols), accept_key: derive_accept_key(key) })
}

/// Appends the 101 response (RFC 6455 section 4.2.2). `date` is the text of the `Date` field.
pub fn write_accept(accepted: &Accepted, date: &str, out: &mut Vec<u8>) {
    out.reserve(ACCEPT_BYTES);
    //= RFC 6455 section 4.2.2: "If the server chooses to accept the incoming connection, it MUST reply with a valid
    //=   HTTP response"
    write_status(101, date, out);
    //= RFC 9110 section 15.2.2: "The server MUST generate an Upgrade header field in the response"
    //= RFC 9110 section 7.8: "A server that sends a 101 (Switching Protocols) response MUST send an Upgrade header
    //=   field"
    write_field("Upgrade", "websocket", out);
    //= RFC 9110 section 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option in the Connection
    //=   header field"
    write_field("Connection", "Upgrade", out);
    //= RFC 6455 section 11.3.3: "header MUST NOT appear more than once in an HTTP response"
    write_field("Sec-WebSocket-Accept", &accepted.accept_key, out);
    //= RFC 6455 section 4.2.2: "it MUST NOT send back a |Sec-WebSocket-Protocol| header field in its response"
    if let Some(protocol) = accepted.protocol {
        write_field("Sec-WebSocket-Protocol", protocol, out);
    }
    //= RFC 6455 section 4.2.2: "Extensions not listed by the client MUST NOT be listed."
    //= RFC 6455 section 9: "A server MUST NOT respond with any extension not requested by the client."
    out.extend_from_slice(b"\r\n");
}

/// Room for the answer, so that it takes one allocation instead of five.
const ACCEPT_BYTES: usize = 256;

impl Refusal {
    /// The answer. A 426 names what would be accepted (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
    pub fn response(self) -> Response {
        let response = Response::error(self.status, "BadHandshake", self.reason, None);
        match self.status {
            //= RFC 6455 section 4.4: "it MUST respond with a |Sec-WebSocket-Version| header field"
            //= RFC 9110 section 7.8: "A server that sends a 426 (Upgrade Required) response MUST send an Upgrade header
            //=   field"
            //= RFC 9110 section 15.5.22: "The server MUST send an Upgrade header field in a 426 response"
            426 => response.with("Upgrade", "websocket").with("Sec-WebSocket-Version", VERSION),
            _ => response,
        }
    }

    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }

    const fn upgrade_required(reason: &'static str) -> Self {
        Self { status: 426, reason }
    }
}

fn check_upgrade(request: &Request) -> Result<(), Refusal> {
    //= RFC 9110 section 7.8: "A server MUST NOT switch protocols unless the received message semantics can be honored
    //=   by the new protocol"
    if request.method != Method::Get {
        return Err(Refusal::bad("a WebSocket is opened with GET"));
    }
    //= RFC 9110 section 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request."
    if request.version != Version::Http11 {
        return Err(Refusal::bad("a WebSocket is opened with HTTP/1.1"));
    }
    //= RFC 9110 section 7.8: "MUST NOT switch to a protocol that was not indicated by the client in the corresponding
    //=   request's Upgrade header field."
    if !is_upgrade(request) {
        return Err(Refusal::upgrade_required("this is a WebSocket endpoint: Upgrade must name websocket"));
    }
    if !request.header_lists("connection", "upgrade") {
        return Err(Refusal::bad("Connection must name Upgrade"));
    }
    //= RFC 6455 section 4.2.2: "the server MUST abort the WebSocket handshake described in this section and instead
    //=   send an appropriate HTTP error code"
    //= RFC 6455 section 11.3.5: "header field MUST NOT appear more than once in an HTTP request"
    if only_value(request, "sec-websocket-version") != Some(VERSION.as_bytes()) {
        return Err(Refusal::upgrade_required("Sec-WebSocket-Version must be 13"));
    }
    Ok(())
}

/// The value of a field that must not be repeated.
fn only_value<'r>(request: &'r Request, name: &str) -> Option<&'r [u8]> {
    let mut values = request.header_values(name);
    values.next().filter(|_| values.next().is_none())
}

/// Whether `key` is base64 of 16 bytes: 22 characters and the padding. The spare bits of the last character are not checked.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(is_base64) && &key[22..] == b"=="
}

fn choose_protocol(request: &Request, protocols: &[&'static str]) -> Option<&'static str> {
    let offered = request.header_values("sec-websocket-protocol").flat_map(|value| value.split(|byte| *byte == b','));
    let spoken = |offer: &[u8]| protocols.iter().find(|protocol| protocol.as_bytes() == offer.trim_ascii());
    //= RFC 6455 section 4.2.2: "The value chosen MUST be derived from the client's handshake"
    offered.filter_map(spoken).next().copied()
}

/// Appends a client's opening handshake (RFC 6455 section 4.1). `key` comes from [`encode_key`]; `headers` are fields
/// beyond those of the handshake.
pub fn write_upgrade(
    host: &str,
    target: &str,
    protocols: &[&str],
    headers: &[(&str, &str)],
    key: &str,
    out: &mut Vec<u8>,
) {
    let offer = protocols.join(", ");
    //= RFC 6455 section 4.1: "The request MUST contain an |Upgrade| header field whose value MUST include the
    //=   "websocket" keyword."
    //= RFC 6455 section 4.1: "The request MUST contain a |Connection| header field whose value MUST include the
    //=   "Upgrade" token."
    //= RFC 6455 section 4.1: "The request MUST include a header field with the name |Sec-WebSocket-Key|."
    //= RFC 6455 section 4.1: "The request MUST include a header field with the name |Sec-WebSocket-Version|."
    let mut fields = vec![
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", VERSION),
        ("Sec-WebSocket-Key", key),
    ];
    fields.extend((!protocols.is_empty()).then_some(("Sec-WebSocket-Protocol", offer.as_str())));
    fields.extend_from_slice(headers);
    //= RFC 6455 section 4.1: "The method of the request MUST be GET, and the HTTP version MUST be at least 1.1."
    //= RFC 6455 section 4.1: "The request MUST contain a |Host| header field"
    write_request(Method::Get, host, target, &fields, b"", out);
}

/// Sixteen random bytes as the value of `Sec-WebSocket-Key`: base64 (RFC 4648 section 4).
pub fn encode_key(random: [u8; 16]) -> String {
    //= RFC 6455 section 4.1: "MUST be a nonce consisting of a randomly selected 16-byte value that has been
    //=   base64-encoded"
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u128::from_be_bytes(random);
    // 21 characters take six bits each, the 22nd the two that are left.
    let whole = (0..21).map(|at| bits >> (122 - 6 * at));
    let last = std::iter::once(bits << 4);
    let characters = whole.chain(last).map(|bits| char::from(ALPHABET[(bits & 63) as usize]));
    characters.chain("==".chars()).collect()
}

/// Checks the server's answer (RFC 6455 section 4.1) to a handshake sent with `key` and `protocols`, and returns the
/// subprotocol it chose.
pub fn check_accept<'p>(key: &str, protocols: &[&'p str], head: &ResponseHead<'_>) -> Result<Option<&'p str>, Close> {
    if head.status != 101 {
        return Err(Close::BadRequest("the server does not switch to WebSocket"));
    }
    //= RFC 6455 section 4.1: "header field contains a value that is not an ASCII case-insensitive match for the value
    //=   "websocket", the client MUST _Fail the WebSocket Connection_"
    //= RFC 6455 section 4.1: "header field doesn't contain a token that is an ASCII case-insensitive match for the
    //=   value "Upgrade", the client MUST _Fail the WebSocket Connection_"
    let switches = only_field(head, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    if !switches || !head.header_values("connection").any(|value| lists_token(value, "upgrade")) {
        return Err(Close::BadRequest("the answer does not name the upgrade"));
    }
    //= RFC 6455 section 4.1: "but ignoring any leading and trailing whitespace, the client MUST _Fail the WebSocket
    //=   Connection_"
    if only_field(head, "sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Close::BadRequest("Sec-WebSocket-Accept does not fit the key"));
    }
    //= RFC 6455 section 4.1: "(the server has indicated an extension not requested by the client), the client MUST
    //=   _Fail the WebSocket Connection_"
    if head.header("sec-websocket-extensions").is_some() {
        return Err(Close::BadRequest("the server uses an extension that was not offered"));
    }
    if head.header("sec-websocket-protocol").is_none() {
        return Ok(None);
    }
    //= RFC 6455 section 4.1: "(the server has indicated a subprotocol not requested by the client), the client MUST
    //=   _Fail the WebSocket Connection_"
    //= RFC 6455 section 11.3.4: "header field MUST NOT appear more than once in an HTTP response"
    let chosen = only_field(head, "sec-websocket-protocol");
    let offered = protocols.iter().find(|protocol| Some(protocol.as_bytes()) == chosen);
    Ok(Some(offered.ok_or(Close::BadRequest("the server chose a subprotocol that was not offered"))?))
}

/// The value of a field of an answer that must not be repeated.
fn only_field<'a>(head: &ResponseHead<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = head.header_values(name);
    values.next().filter(|_| values.next().is_none())
}

fn lists_token(value: &[u8], token: &str) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests;
