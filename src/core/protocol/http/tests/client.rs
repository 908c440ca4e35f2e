//! Responses as a client reads them.

use super::*;

/// What the reader reported, body pieces joined, and how it ended: by an error, or with the connection.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, bodiless: bool) -> (Vec<String>, Result<(), Close>) {
    let mut reader = ResponseReader::new();
    if bodiless {
        reader.expect_bodiless();
    }
    let mut parts: Vec<String> = Vec::new();
    let mut note = |part: ResponsePart<'_>| match part {
        ResponsePart::Head(head) => parts.push(format!("{} ", head.status)),
        ResponsePart::Body(data) => {
            let open = parts.last_mut().expect("a head came first");
            *open += std::str::from_utf8(data).expect("ASCII");
        }
        ResponsePart::End => parts.last_mut().expect("a head came first").push('.'),
    };
    let received = pieces.into_iter().try_for_each(|piece| reader.receive(piece, &mut note));
    let end = received.and_then(|()| reader.finish(&mut note));
    (parts, end)
}

fn check_of(bodiless: bool, input: &str, expected: &[&str], end: Result<(), Close>) {
    let whole = read([input.as_bytes()], bodiless);
    assert_eq!(whole, (expected.iter().map(|part| (*part).to_owned()).collect(), end), "{input:?}");
    assert_eq!(read(one_by_one(input.as_bytes()), bodiless), whole, "{input:?}");
}

fn check(input: &str, expected: &[&str], end: Result<(), Close>) {
    check_of(false, input, expected, end);
}

#[test]
fn bodies() {
    check("", &[], Ok(()));
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", &["200 hello."], Ok(()));
    check("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", &["200 ."], Ok(()));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: t\r\n\r\n", &["200 abc."], Ok(()));
    check("HTTP/1.0 200 OK\r\n\r\nuntil the end", &["200 until the end."], Ok(()));
    check("HTTP/1.1 204 No Content\r\n\r\n", &["204 ."], Ok(()));
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", &["304 ."], Ok(()));
    check_of(true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &["200 ."], Ok(()));
    let after_head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    check_of(true, after_head, &["200 .", "200 hello."], Ok(()));
    check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nframes", &["101 frames."], Ok(()));
}

#[test]
fn one_after_the_other() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n\
        1\r\nb\r\n0\r\n\r\n";
    check(two, &["200 a.", "404 b."], Ok(()));
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\
        Content-Length: 1\r\n\r\na";
    check(interim, &["200 a."], Ok(()));
}

#[test]
fn cut_off() {
    check("HTTP/1.1 200 OK\r\n", &[], Err(Close::PeerGone));
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", &["200 hell"], Err(Close::PeerGone));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", &["200 abc"], Err(Close::PeerGone));
}

#[test]
fn hostile() {
    let bad = |rule: &'static str| Err(Close::BadRequest(rule));
    check("HTTP/1.1 200 OK\nContent-Length: 0\n\n", &[], bad("a line ends without a carriage return"));
    check("HTTP/1.1 2000 OK\r\n\r\n", &[], bad("malformed request line"));
    check("SSH-2.0-x\r\n\r\n", &[], bad("unknown HTTP version"));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", &[], bad("unknown transfer coding"));
    let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(old, &[], bad("Transfer-Encoding in HTTP/1.0"));
    let two_codings = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(two_codings, &[], bad("unknown transfer coding"));
    let two_lengths = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    check(two_lengths, &[], bad("two Content-Length fields"));
    let bad_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc";
    check(bad_chunk, &["200 a"], bad("malformed chunk"));
    check(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(65_536)), &[], Err(Close::HeadTooLarge));
}

#[test]
fn keep_alive() {
    let check = |head: &str, expected: bool| {
        let mut reader = ResponseReader::new();
        reader.receive(head.as_bytes(), |_| {}).expect("a good response");
        assert_eq!(reader.keeps_alive(), expected, "{head}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true);
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false);
    check("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false);
    check("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", true);
    check("HTTP/1.1 200 OK\r\n\r\n", false);
}

#[test]
fn what_follows_the_last_response_is_noticed() {
    let check = |input: &str, expected: bool| {
        let mut reader = ResponseReader::new();
        reader.receive(input.as_bytes(), |_| {}).expect("a good response");
        assert_eq!(reader.is_between_responses(), expected, "{input}");
    };
    check("", true);
    check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", false);
    check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", true);
    check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naH", false);
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n", false);
}

#[test]
fn body_pieces_are_slices_of_the_input() {
    let input = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let mut reader = ResponseReader::new();
    let mut pieces = Vec::new();
    reader
        .receive(input, |part| {
            if let ResponsePart::Body(data) = part {
                assert!(input.as_ptr_range().contains(&data.as_ptr()));
                pieces.push(data.to_vec());
            }
        })
        .expect("a good response");
    assert_eq!(pieces, [&b"abc"[..], b"de"]);
}

#[test]
fn event_streams_are_known_by_their_type() {
    let check = |content_type: &str, expected: bool| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nX: 1\r\nx: 2\r\n\r\n");
        let mut seen = false;
        let note = |part: ResponsePart<'_>| {
            let ResponsePart::Head(head) = part else { return };
            seen = true;
            assert_eq!(head.is_event_stream(), expected, "{content_type}");
            assert_eq!((head.header("X"), head.header_values("X").count()), (Some(&b"1"[..]), 2));
        };
        ResponseReader::new().receive(head.as_bytes(), note).expect("a good head");
        assert!(seen);
    };
    check("text/event-stream", true);
    check("Text/Event-Stream; charset=utf-8", true);
    check("text/event-streams", false);
    check("text/plain", false);
}
