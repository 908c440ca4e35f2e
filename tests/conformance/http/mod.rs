//! RFC 9110 and RFC 9112, by what comes back for a request and for the one behind it.

mod bodies;
mod fields;
mod lines;
mod persistence;

use crate::client::{Pace, connect, paces_for, read_to_end, send};

/// Comes behind every request: whether it is answered tells whether the connection went on, and in the right place.
const NEXT: &str = "GET /headers HTTP/1.1\r\nHost: h\r\nX-Next: yes\r\nConnection: close\r\n\r\n";

/// A response of the server.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Status line and fields.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// The values of all fields called `name`.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// `request` is answered with `status`, and the connection goes on to the next one.
#[track_caller]
pub(super) fn served(rule: &str, request: impl AsRef<[u8]>, status: u16) -> Response {
    let responses = exchange(rule, request.as_ref(), 2);
    assert_eq!(responses[0].status, status, "{rule}: {}", show(request.as_ref()));
    assert!(responses[1].body.windows(11).any(|line| line == b"X-Next: yes"), "{rule}: {}", show(request.as_ref()));
    responses.into_iter().next().expect("there are two")
}

/// `request` is answered with `status`, and the connection ends there, as the answer says (RFC 9112 section 9.6).
#[track_caller]
pub(super) fn refused(rule: &str, request: impl AsRef<[u8]>, status: u16) -> Response {
    let responses = exchange(rule, request.as_ref(), 1);
    assert_eq!(responses[0].status, status, "{rule}: {}", show(request.as_ref()));
    assert_eq!(responses[0].values("connection"), ["close"], "{rule}: {}", show(request.as_ref()));
    responses.into_iter().next().expect("there is one")
}

/// `request` is answered with `status`. Whether the connection goes on depends on whether the content has come by then: content that
/// nobody wants is not waited for (RFC 9110 section 10.1.1, RFC 9112 section 9.6).
#[track_caller]
pub(super) fn refused_or_served(rule: &str, request: &str, status: u16) {
    let sent = [request, NEXT].concat();
    for pace in paces_for(sent.len()) {
        let responses = responses(rule, sent.as_bytes(), *pace);
        let closes = responses[0].values("connection") == ["close"];
        let expected: &[u16] = if closes { &[status] } else { &[status, 200] };
        assert_eq!(statuses(&responses), expected, "{rule}: {request}");
    }
}

/// The `count` responses, interim ones aside, that come for `request` and [`NEXT`] until the server closes.
#[track_caller]
pub(super) fn exchange(rule: &str, request: &[u8], count: usize) -> Vec<Response> {
    let sent = [request, NEXT.as_bytes()].concat();
    let mut answers = paces_for(sent.len()).iter().map(|pace| responses(rule, &sent, *pace));
    let whole = answers.next().expect("every row is sent whole");
    for single in answers {
        assert_eq!(statuses(&whole), statuses(&single), "{rule}: in one piece and byte by byte: {}", show(request));
    }
    assert_eq!(whole.len(), count, "{rule}: {}: {:?}", show(request), statuses(&whole));
    whole
}

fn responses(rule: &str, sent: &[u8], pace: Pace) -> Vec<Response> {
    let mut stream = connect();
    send(&mut stream, sent, pace);
    let answer = read_to_end(&mut stream, &format!("{rule}: {}", show(sent)));
    let mut responses = read_responses(&answer, sent.starts_with(b"HEAD "));
    responses.retain(|response| response.status != 100);
    responses
}

fn statuses(responses: &[Response]) -> Vec<u16> {
    responses.iter().map(|response| response.status).collect()
}

/// Takes `bytes` apart. `bodiless`: the first response has no body whatever it says.
pub(super) fn read_responses(mut bytes: &[u8], mut bodiless: bool) -> Vec<Response> {
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let response = read_response(bytes, bodiless);
        bytes = &bytes[response.head.len() + response.body.len()..];
        bodiless = false;
        responses.push(response);
    }
    responses
}

fn read_response(bytes: &[u8], bodiless: bool) -> Response {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head should end") + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head should be ASCII");
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {head}"));
    let mut response = Response { status, head, body: Vec::new() };
    check_fields(&response);
    let length = response.values("content-length").first().map_or(0, |value| value.parse().expect("digits"));
    let length = if bodiless { 0 } else { length };
    response.body = bytes[end..end + length].to_vec();
    response
}

/// What holds for every response here.
fn check_fields(response: &Response) {
    let Response { status, head, .. } = response;
    assert!(head.as_bytes().get(12) == Some(&b' '), "RFC 9112 4: a space follows the status: {head}");
    assert!(13 < head.find('\r').unwrap_or_default(), "every status used here has a phrase: {head}");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "RFC 9112 2.2: lines end with CR LF: {head}");
    for (name, _) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
        let is_list = ["connection", "vary"].iter().any(|list| name.eq_ignore_ascii_case(list));
        assert!(is_list || response.values(name).len() == 1, "RFC 9110 5.3: {name} stands once: {head}");
    }
    let is_interim = *status < 200;
    assert_eq!(response.values("date").len(), usize::from(!is_interim), "RFC 9110 6.6.1: {head}");
    assert!(response.values("date").into_iter().all(is_date), "RFC 9110 5.6.7: {head}");
    let has_length = !is_interim && *status != 204;
    assert_eq!(response.values("content-length").len(), usize::from(has_length), "RFC 9110 8.6: {head}");
    assert!(response.values("transfer-encoding").is_empty(), "RFC 9112 6.1: {head}");
}

/// Such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn is_date(text: &str) -> bool {
    let form = "Aaa, 00 Aaa 0000 00:00:00 GMT";
    let fits = |(byte, form): (u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_uppercase(),
        b'a' => byte.is_ascii_lowercase(),
        other => byte == other,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

fn show(request: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&request[..request.len().min(300)]))
}
