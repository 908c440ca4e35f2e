//! The bytes of answers.

use super::*;

/// What is written when `response` answers `request`; the same whoever keeps the response.
fn answer(request: &str, response: &Response) -> String {
    let lent = answer_by(request, &[], |session, outbox| session.respond(response, DATE, outbox));
    let owned = answer_by(request, &[], |session, outbox| session.respond_owned(response.clone(), DATE, outbox));
    assert_eq!(lent, owned, "{request}");
    lent
}

fn answer_by(
    request: &str,
    kept: &[(&'static str, String)],
    respond: impl FnOnce(&mut ServerSession, &mut Outbox) -> bool,
) -> String {
    let mut session = ServerSession::new(NOW);
    let mut outbox = Outbox::new();
    let request = session.receive(request.as_bytes(), &HttpLimits::default(), NOW).expect("a good request");
    assert!(request.is_some());
    session.keep_fields(kept.to_vec());
    respond(&mut session, &mut outbox);
    String::from_utf8(outbox.pending().to_vec()).expect("text")
}

#[test]
fn fields_kept_for_an_answer_stand_behind_its_own() {
    let kept = [("X-Kept", "1".to_owned()), ("Connection", "left out".to_owned())];
    let hello = Response::text(200, "hello");
    let head = format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Type: text/plain; charset=utf-8\r\nX-Kept: 1\r\n");
    let expected = format!("{head}Content-Length: 5\r\n\r\nhello");
    let lent = answer_by(GET, &kept, |session, outbox| session.respond(&hello, DATE, outbox));
    assert_eq!(lent, expected);
    let owned = answer_by(GET, &kept, |session, outbox| session.respond_owned(hello, DATE, outbox));
    assert_eq!(owned, expected);
}

/// An answer may be of megabytes: its body becomes the outbox, however many fields are kept for it.
#[test]
fn a_large_body_is_not_copied() {
    let mut body = Vec::with_capacity(2_000_000);
    body.resize(1_000_000, b'x');
    let counted = allocation_counter::measure(|| {
        let (mut session, mut outbox) = (ServerSession::new(NOW), Outbox::new());
        session.receive(GET.as_bytes(), &HttpLimits::default(), NOW).expect("a good request");
        session.keep_fields(vec![("X-Kept", "1".to_owned())]);
        session.respond_owned(Response::json_text(200, std::mem::take(&mut body)), DATE, &mut outbox);
        assert!(1_000_000 < outbox.len());
    });
    assert!(counted.bytes_total < 16 * 1024, "{counted:?}");
}

fn check(request: &str, response: &Response, expected: &str) {
    assert_eq!(answer(request, response), expected, "{request}");
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn connection_and_length() {
    let hello = Response::text(200, "hello");
    let head =
        format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n");
    check(GET, &hello, &format!("{head}\r\nhello"));
    check("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &hello, &format!("{head}\r\n"));
    let stream = Response::empty(200).with("Content-Type", "text/event-stream");
    let stream_head = format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Type: text/event-stream\r\n\r\n");
    check("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &stream, &stream_head);
    check("GET / HTTP/1.0\r\n\r\n", &hello, &format!("{head}Connection: close\r\n\r\nhello"));
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    check(kept, &hello, &format!("{head}Connection: keep-alive\r\n\r\nhello"));
    let closed = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    check(closed, &hello, &format!("{head}Connection: close\r\n\r\nhello"));
    let closing = hello.with("Connection", "close");
    check(GET, &closing, &format!("{head}Connection: close\r\n\r\nhello"));
}

#[test]
fn an_offered_upgrade_is_listed() {
    let head = format!("HTTP/1.1 426 Upgrade Required\r\nDate: {DATE}\r\nUpgrade: websocket\r\nContent-Length: 0\r\n");
    let offer = Response::empty(426).with("Upgrade", "websocket").with("Connection", "Upgrade");
    check(GET, &offer, &format!("{head}Connection: upgrade\r\n\r\n"));
    let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    check(closing, &offer, &format!("{head}Connection: upgrade\r\nConnection: close\r\n\r\n"));
}

#[test]
fn statuses_without_a_body() {
    check(GET, &Response::empty(204), &format!("HTTP/1.1 204 No Content\r\nDate: {DATE}\r\n\r\n"));
    let unchanged = Response::text(304, "never sent").with("ETag", "\"1\"");
    assert!(answer(GET, &unchanged).ends_with("ETag: \"1\"\r\n\r\n"));
    assert!(answer(GET, &Response::empty(202)).ends_with("Content-Length: 0\r\n\r\n"));
    assert!(answer(GET, &Response::empty(599)).starts_with("HTTP/1.1 599 \r\n"));
    let answered = [200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 417, 422, 426, 429, 431];
    for status in answered.into_iter().chain([500, 501, 503, 504]) {
        let line = answer(GET, &Response::empty(status)).lines().next().unwrap_or_default().to_owned();
        let reason = line.strip_prefix(&format!("HTTP/1.1 {status} ")).unwrap_or_default();
        assert!(reason.starts_with(|letter: char| letter.is_ascii_uppercase()), "a reason to read: {line:?}");
    }
}

#[test]
fn a_401_has_a_challenge() {
    let challenges = |response: Response| {
        let head = answer(GET, &response);
        head.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(challenges(Response::error(401, "bad_password", "no", None)), ["Bearer"]);
    let own = Response::empty(401).with("WWW-Authenticate", "Bearer error=\"invalid_token\"");
    assert_eq!(challenges(own), ["Bearer error=\"invalid_token\""]);
    assert_eq!(challenges(Response::empty(403)), [""; 0]);
    let mut outbox = Outbox::new();
    write_refusal(Close::TokenExpired, DATE, &mut outbox);
    let written = String::from_utf8_lossy(outbox.pending()).into_owned();
    assert!(written.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{written}");
}

#[test]
fn a_field_stays_one_line() {
    let split = Response::empty(200).with("Location", "/a\r\nSet-Cookie: b\0");
    assert!(answer(GET, &split).contains("Location: /a  Set-Cookie: b \r\n"));
}

#[test]
fn json_bodies() {
    let check = |response: Response, status: u16, body: &str| {
        assert_eq!((response.status, std::str::from_utf8(&response.body)), (status, Ok(body)));
        assert_eq!(response.headers[0], ("Content-Type", "application/json".to_owned()));
    };
    check(Response::json(200, &[1, 2]), 200, "[1,2]");
    let unwritable = std::collections::BTreeMap::from([(vec![1], 2)]);
    let internal = r#"{"error":{"code":"internal","message":"the answer could not be written as JSON"}}"#;
    check(Response::json(200, &unwritable), 500, internal);
    let bad_topic = r#"{"error":{"code":"bad_topic","field":"topic","message":"no \"b\""}}"#;
    check(Response::error(400, "bad_topic", "no \"b\"", Some("topic")), 400, bad_topic);
}

#[test]
fn refusals() {
    let check = |close: Close, expected: Option<(u16, bool)>| {
        let found = Response::refusal(close)
            .map(|response| (response.status, response.headers.iter().any(|(name, _)| *name == "Retry-After")));
        assert_eq!(found, expected, "{close:?}");
        let mut session = ServerSession::new(NOW);
        let mut outbox = Outbox::new();
        session.refuse(close, DATE, &mut outbox);
        let written = String::from_utf8_lossy(outbox.pending()).into_owned();
        let mut alone = Outbox::new();
        write_refusal(close, DATE, &mut alone);
        assert_eq!(alone.pending(), outbox.pending());
        assert_eq!(written.contains("\r\nConnection: close\r\n"), expected.is_some());
        assert_eq!(session.receive(b"GET", &HttpLimits::default(), NOW).err(), Some(close));
    };
    check(Close::Done, None);
    check(Close::PeerGone, None);
    check(Close::BadRequest("no Host field"), Some((400, false)));
    check(Close::RequestTimeout, Some((408, false)));
    check(Close::BodyTooLarge, Some((413, false)));
    check(Close::RateLimited, Some((429, true)));
    check(Close::HeadTooLarge, Some((431, false)));
    check(Close::Restart, Some((503, true)));
}
