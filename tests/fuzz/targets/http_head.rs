//! Requests, from the first byte of a connection on: heads, bodies, and what is pipelined behind them.

use fanfare_core::{
    clock::Moment,
    close::Close,
    outbox::Outbox,
    protocol::http::{HttpLimits, Method, Request, Response, ServerSession, Version, percent_encode, write_request},
};

use super::input::{Input, PIECE_BYTES_MAX, peak_bytes};

pub(super) const TOKENS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "GET ",
    "POST ",
    "HEAD ",
    "OPTIONS * ",
    "CONNECT ",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host: h\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
    "http://h/",
    "?a=b&c",
    "%41",
    "%",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let limits = limits(input.knob);
    // A caller that reads faster than it answers is cut off; so read no more at once than may be kept.
    let at_once = serve(input.payload.chunks(limits.head_bytes_max + limits.body_bytes_max), &limits);
    let in_pieces = serve(input.pieces(), &limits);
    assert_eq!(at_once, in_pieces);
    at_once.requests.iter().for_each(check_round_trip);
    check_memory(&input, &limits);
    check_pipelining(&input, &limits);
}

/// Some so tight that inputs of a few hundred bytes pass them.
pub(super) fn limits(knob: u8) -> HttpLimits {
    let (head_bytes_max, headers_max, body_bytes_max) =
        [(96, 4, 24), (256, 16, 100), (2048, 300, 0), (16 * 1024, 64, 1 << 20)][usize::from(knob % 4)];
    HttpLimits { head_bytes_max, headers_max, body_bytes_max, ..HttpLimits::default() }
}

/// What a server made of its input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) requests: Vec<Seen>,
    pub(super) end: Option<Close>,
}

/// A request, in values that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    method: Method,
    version: Version,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    keep_alive: bool,
}

impl Seen {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method,
            version: request.version,
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: request.body.clone(),
            keep_alive: request.keep_alive,
        }
    }
}

/// Feeds `pieces` to a server that answers each request at once.
pub(super) fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &HttpLimits) -> Outcome {
    let mut requests = Vec::new();
    let end = serve_each(pieces, limits, |request| requests.push(Seen::of(&request)));
    Outcome { requests, end }
}

fn serve_each<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &HttpLimits,
    mut each: impl FnMut(Request),
) -> Option<Close> {
    let mut session = ServerSession::new(NOW);
    for mut bytes in pieces {
        loop {
            let mut outbox = Outbox::new();
            match session.receive(bytes, limits, NOW) {
                Ok(None) => break,
                Ok(Some(request)) => each(request),
                Err(close) => {
                    assert_eq!(session.receive(b"x", limits, NOW).err(), Some(close), "an end is final");
                    return Some(close);
                }
            }
            if !session.respond(&Response::empty(204), DATE, &mut outbox) {
                return Some(Close::Done);
            }
            bytes = b"";
        }
    }
    None
}

const NOW: Moment = Moment(1_000_000_000);
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A request written anew means what it meant.
fn check_round_trip(seen: &Seen) {
    let Some((host, headers)) = fields_to_send(seen) else { return };
    let mut bytes = Vec::new();
    write_request(seen.method, host, &target(seen), &headers, &seen.body, &mut bytes);
    let limits =
        HttpLimits { head_bytes_max: 1 << 20, headers_max: 256, body_bytes_max: 1 << 24, ..HttpLimits::default() };
    let outcome = serve([&bytes[..]], &limits);
    let [again] = &outcome.requests[..] else { panic!("{outcome:?} from {}", bytes.escape_ascii()) };
    let meaning = |seen: &Seen| (seen.method, seen.path.clone(), seen.query.clone(), seen.body.clone());
    assert_eq!(meaning(again), meaning(seen));
    assert!(again.keep_alive || !seen.keep_alive || seen.version == Version::Http10);
    for (name, value) in headers {
        assert!(again.headers.iter().any(|(n, v)| n == name && v == value.as_bytes()), "{name}: {value}");
    }
}

/// The host, and the fields that a client may choose; `None` if it could not have chosen these.
fn fields_to_send(seen: &Seen) -> Option<(&str, Vec<(&str, &str)>)> {
    const OWN: [&str; 4] = ["host", "content-length", "transfer-encoding", "expect"];
    let text = |value: &'_ [u8]| std::str::from_utf8(value).ok().map(str::len);
    let is = |name: &str, own: &str| name.eq_ignore_ascii_case(own);
    let all_text = seen.headers.iter().all(|(_, value)| text(value).is_some());
    if seen.method == Method::Other || !all_text || 250 < seen.headers.len() {
        return None;
    }
    let pairs =
        seen.headers.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap_or_default()));
    let host = pairs.clone().find(|(name, _)| is(name, "host")).map_or("h", |(_, value)| value);
    Some((host, pairs.filter(|(name, _)| !OWN.iter().any(|own| is(name, own))).collect()))
}

fn target(seen: &Seen) -> String {
    if seen.method == Method::Connect || (seen.method == Method::Options && seen.path == "*") {
        return seen.path.clone();
    }
    let mut target = String::from("/");
    percent_encode(seen.path.strip_prefix('/').expect("a path begins with a slash"), &mut target);
    for (index, (name, value)) in seen.query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        percent_encode(name, &mut target);
        target.push('=');
        percent_encode(value, &mut target);
    }
    target
}

/// A session that is fed piece by piece never holds more than its limits and one piece account for. A parsed head weighs
/// more than its bytes, by a factor that its smallest parts decide: a pair of a query takes two of them.
fn check_memory(input: &Input<'_>, limits: &HttpLimits) {
    const PER_HEAD_BYTE: usize = 100;
    let bound = PER_HEAD_BYTE * limits.head_bytes_max + 4 * limits.body_bytes_max + 4 * PIECE_BYTES_MAX + 2048;
    let peak = peak_bytes(|| _ = serve_each(input.pieces(), limits, drop));
    assert!(peak <= bound, "{peak} bytes held, {bound} are allowed for by {limits:?}");
}

/// What comes behind a request that is not answered is kept up to a head and a body's worth.
fn check_pipelining(input: &Input<'_>, limits: &HttpLimits) {
    let mut session = ServerSession::new(NOW);
    for piece in input.pieces() {
        if session.receive(piece, limits, NOW).is_err() {
            break;
        }
    }
    assert!(session.leftover().len() <= limits.head_bytes_max + limits.body_bytes_max + PIECE_BYTES_MAX);
}
