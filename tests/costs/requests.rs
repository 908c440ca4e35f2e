//! What comes in by HTTP: heads, bodies in their framing, and what endpoints make of both.

use fanfare::{
    bus,
    endpoint::{Answer, Hub, Step, answer},
};
use fanfare_core::{
    clock::Moment,
    json::LONG_TEXT_BYTES,
    outbox::Outbox,
    protocol::{
        http::{HttpLimits, Request, Response, ServerSession},
        proxy::{Trusted, client_address},
    },
};

use super::{check, hub, shapes};

const NOW: Moment = Moment(1_000_000_000);

/// Lets a connection take `bytes`, so many of them at once, and answers each request.
fn serve(bytes: &[u8], read_bytes: usize) {
    let limits = HttpLimits { head_bytes_max: 1 << 20, headers_max: 1 << 16, ..HttpLimits::default() };
    let mut session = ServerSession::new(NOW);
    for mut read in bytes.chunks(read_bytes) {
        let mut outbox = Outbox::new();
        while let Ok(Some(_)) = session.receive(read, &limits, NOW) {
            if !session.respond(&Response::empty(204), "Sun, 06 Nov 1994 08:49:37 GMT", &mut outbox) {
                return;
            }
            read = b"";
        }
    }
}

#[test]
fn heads() {
    let shapes = [
        ("fields", "GET / HTTP/1.1\r\nHost: h\r\n", "a: b\r\n"),
        ("one long field", "GET / HTTP/1.1\r\nHost: h\r\na: ", "b"),
        ("a long target", "GET /", "a"),
        ("parameters", "GET /?", "a=b&"),
        ("empty parameters", "GET /?", "&"),
        ("escapes", "GET /?a=", "%41"),
        ("cookies", "GET / HTTP/1.1\r\nHost: h\r\nCookie: ", "a=b;"),
    ];
    for (name, open, part) in shapes {
        let close = if open.contains("Host") { "\r\n\r\n" } else { " HTTP/1.1\r\nHost: h\r\n\r\n" };
        let head = |bytes: usize| shapes::repeated(open, part, close, bytes);
        // A field of six bytes is a pair of strings.
        check(&format!("a head of {name}"), 4 * 1024, 64, head, |head| serve(head.as_bytes(), 64 * 1024));
        check(&format!("a head of {name}, byte by byte"), 4 * 1024, 64, head, |head| serve(head.as_bytes(), 1));
    }
}

#[test]
fn bodies() {
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = |bytes: usize| shapes::repeated(CHUNKED, "1\r\nx\r\n", "0\r\n\r\n", bytes);
    check("chunks of a byte", 16 * 1024, 2, chunks, |body| serve(body.as_bytes(), 64 * 1024));
    check("chunks of a byte, byte by byte", 16 * 1024, 2, chunks, |body| serve(body.as_bytes(), 1));
    let sized =
        |bytes: usize| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    check("a body byte by byte", 16 * 1024, 4, sized, |body| serve(body.as_bytes(), 1));
    let pipelined = |bytes: usize| shapes::repeated("", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", bytes);
    check("requests in a row", 16 * 1024, 8, pipelined, |all| serve(all.as_bytes(), 64 * 1024));
    check("requests in a row, read together", 32 * 1024, 8, pipelined, |all| serve(all.as_bytes(), usize::MAX));
}

#[test]
fn forwarded_addresses() {
    let trusted = Trusted::default();
    for (name, open, part) in [
        ("x-forwarded-for", "X-Forwarded-For: 1.1.1.1", ",1.1.1.1"),
        ("forwarded", "Forwarded: for=1.1.1.1", ",for=1.1.1.1"),
        ("forwarded quotes", "Forwarded: for=1.1.1.1", ",\"\\\"\""),
        ("forwarded parameters", "Forwarded: for=1.1.1.1", ";a=b"),
    ] {
        let head = |bytes: usize| {
            let field = shapes::repeated(open, part, "\r\n\r\n", bytes);
            request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{field}"), b"")
        };
        check(name, 4 * 1024, 64, head, |request| _ = client_address(request, &trusted));
    }
}

fn request(head: &str, body: &[u8]) -> Request {
    let limits = HttpLimits { head_bytes_max: 1 << 20, headers_max: 1 << 16, ..HttpLimits::default() };
    let mut request = Request::parse(head.as_bytes(), &limits).expect("a good head");
    request.body = body.to_vec();
    request
}

/// What becomes of `request`, to the end of all steps.
fn ask(hub: &Hub, request: &Request) -> Option<Response> {
    let context = hub::context(hub);
    match answer(request, &context).1 {
        Answer::Response(response) => Some(response),
        Answer::Work(mut open) => loop {
            match open.work.step(&context) {
                Step::More => {}
                Step::Waiting => panic!("nothing goes out through a source"),
                Step::Done(response) => return Some(response),
                Step::Later => return None,
            }
        },
        _ => None,
    }
}

/// A hub whose log keeps no more than a few events, so that what is counted is the way in.
fn small_hub() -> Hub {
    hub::build(bus::Config::default().payload_bytes_max)
}

#[test]
fn doors_with_a_body() {
    let doors = [
        "/publish/a",
        "/publish",
        "/alice/events/changes",
        "/api/v1/events/broadcast",
        "/api/v1/telemetry/ingest",
        "/api/v1/alerts",
        "/api/v1/auth/login",
        "/socket.io/?EIO=4&transport=polling",
    ];
    for door in doors {
        for (shape, json) in shapes::JSON {
            let body = |bytes: usize| {
                let head = format!("POST {door} HTTP/1.1\r\nHost: h\r\n\r\n");
                request(&head, json(bytes).as_bytes())
            };
            // A payload is looked at only if it is long: both sizes are.
            let bytes = if door == "/publish/a" { LONG_TEXT_BYTES + LONG_TEXT_BYTES / 2 } else { 8 * 1024 };
            // An event of two bytes is kept as an event, in a log that keeps only so many.
            check(&format!("{shape} to {door}"), bytes, 400, body, |request| drop(ask(&small_hub(), request)));
        }
    }
}

/// Each of these is good, and so goes all the way.
#[test]
fn batches() {
    let batches = [
        ("/alice/events/changes", "[{}", ",{}", "]", 201),
        ("/alice/events/changes", "[{\"n\":1}", ",{\"n\":\"\\u00e9\"}", "]", 201),
        ("/publish", "[{\"topic\":\"a\",\"data\":1}", ",{\"topic\":\"a\",\"data\":1}", "]", 200),
        ("/publish", "", "{\"topic\":\"a\",\"data\":1}\n", "", 200),
        ("/publish", "", "{\"topic\":\"a\",\"data\":1,\"idempotency_key\":\"k\"}", "", 200),
    ];
    for (door, open, part, close, status) in batches {
        let body = |bytes: usize| {
            let head = format!("POST {door} HTTP/1.1\r\nHost: h\r\n\r\n");
            request(&head, shapes::repeated(open, part, close, bytes).as_bytes())
        };
        check(&format!("{part} to {door}"), 8 * 1024, 400, body, |request| {
            let response = ask(&small_hub(), request).expect("a response");
            assert_eq!(response.status, status, "{}", String::from_utf8_lossy(&response.body));
        });
    }
}

#[test]
fn places_and_tokens() {
    for (name, open, part, close) in [
        ("Last-Event-ID", "GET /sse?topic=a HTTP/1.1\r\nHost: h\r\nLast-Event-ID: 1-1", ",1-1", "\r\n\r\n"),
        ("topics", "GET /sse?topic=a", "&topic=a", " HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("since", "GET /sse?topic=a&since=1", ",1", " HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("Accept", "GET /sse?topic=a HTTP/1.1\r\nHost: h\r\nAccept: a", ",a", "\r\n\r\n"),
        ("Authorization", "GET /sse?topic=a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ", "a.", "\r\n\r\n"),
        ("protocols", "GET /ws HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Protocol: a", ",a", "\r\n\r\n"),
    ] {
        let head = |bytes: usize| request(&shapes::repeated(open, part, close, bytes), b"");
        check(name, 4 * 1024, 100, head, |request| drop(ask(&small_hub(), request)));
    }
}
