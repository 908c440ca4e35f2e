//! Content: RFC 9112 sections 6 and 7, RFC 9110 section 8.6 and 10.1.1.

use super::{read_responses, refused, refused_or_served, served};
use crate::{
    application::MESSAGE_BYTES_MAX,
    client::{Pace, connect, read_through, read_to_end, send},
};

fn post(rest: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: h\r\n", rest.as_ref()].concat()
}

fn chunked(chunks: impl AsRef<[u8]>) -> Vec<u8> {
    post([b"Transfer-Encoding: chunked\r\n\r\n", chunks.as_ref()].concat())
}

#[track_caller]
fn echoes(rule: &str, request: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
    let response = served(rule, request, 200);
    assert!(response.body == body.as_ref(), "{rule}: {} bytes came back", response.body.len());
}

#[test]
fn lengths() {
    echoes("9112 6.3: no length is no content", post("\r\n"), "");
    echoes("9112 6.2: a length", post("Content-Length: 5\r\n\r\nhello"), "hello");
    echoes("9112 6.2: a length of zero", post("Content-Length: 0\r\n\r\n"), "");
    echoes("9110 8.6: any digits", post("Content-Length: 005\r\n\r\nhello"), "hello");
    echoes("9110 5.1: a name in any case", post("cONTENT-lENGTH:5\r\n\r\nhello"), "hello");
    echoes("9110 6.4: any octets", post(b"Content-Length: 6\r\n\r\n\0\r\n\r\n\xff"), b"\0\r\n\r\n\xff");
    let largest = vec![b'x'; MESSAGE_BYTES_MAX];
    let head = format!("Content-Length: {}\r\n\r\n", largest.len());
    echoes("9112 6.3: a large one", post([head.as_bytes(), &largest].concat()), &largest);
    served("9110 9.3.1: content of a GET", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 200);
    refused_or_served(
        "9112 6.3: content that nobody wants",
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        405,
    );
}

#[test]
fn lengths_refused() {
    let values = ["+1", "-1", "0x1", "1 1", "1,1", "1, 1", "", "1.0", "1e0", "one", "1;", "\"1\"", "١"];
    for value in values {
        refused("9112 6.3: an invalid length", post(format!("Content-Length: {value}\r\n\r\nx")), 400);
    }
    let lengths = |values: [&str; 2]| values.map(|value| format!("Content-Length: {value}\r\n")).concat();
    for values in [["1", "1"], ["1", "2"], ["0", "1"], ["1", ""]] {
        refused("9112 6.3: two lengths", post(format!("{}\r\nx", lengths(values))), 400);
    }
    for value in ["16777217", "4294967296", "9223372036854775808", "18446744073709551615"] {
        refused("9110 15.5.14: too large", post(format!("Content-Length: {value}\r\n\r\nx")), 413);
    }
    for value in ["18446744073709551616", "18446744073709551621", &"9".repeat(100)] {
        refused("9110 8.6: a length that overflows", post(format!("Content-Length: {value}\r\n\r\nx")), 400);
    }
}

#[test]
fn codings() {
    for value in ["chunked", "Chunked", "CHUNKED", "chunked  ", "\tchunked"] {
        let request = format!("Transfer-Encoding:{value}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        echoes("9112 7: chunked in any case", post(request), "hello");
    }
    for value in [
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked, identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "",
        "chunked chunked",
        "ch unked",
    ] {
        let request = format!("Transfer-Encoding: {value}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        refused("9112 6.1: a coding not known here", post(request), 400);
    }
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused("9112 6.1: chunked twice", post(format!("{twice}{chunks}")), 400);
    let both = "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused("9112 6.3: with a length", post(format!("{both}{chunks}")), 400);
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n";
    refused("9112 6.3: with a length behind", post(format!("{both}{chunks}")), 400);
    let old = format!("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    refused("9112 6.1: in HTTP/1.0", old, 400);
}

#[test]
fn chunks() {
    let check = |chunks: &str, body: &str| echoes("9112 7.1: chunks", chunked(chunks), body);
    check("0\r\n\r\n", "");
    check("5\r\nhello\r\n0\r\n\r\n", "hello");
    check("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello");
    check("005\r\nhello\r\n000\r\n\r\n", "hello");
    check("a\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    check("A\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    check("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n");
    let check = |chunks: &str| echoes("9112 7.1.1: extensions are ignored", chunked(chunks), "hello");
    check("5;name\r\nhello\r\n0\r\n\r\n");
    check("5;name=value\r\nhello\r\n0;last\r\n\r\n");
    check("5;name=\"quoted; value\"\r\nhello\r\n0\r\n\r\n");
    check("5 ; name = value ; other\r\nhello\r\n0\r\n\r\n");
    check("5;name=\"an escaped \\\" quote\"\r\nhello\r\n0\r\n\r\n");
    let check = |chunks: &str| echoes("9112 7.1.2: trailers are discarded", chunked(chunks), "hello");
    check("5\r\nhello\r\n0\r\nX: y\r\n\r\n");
    check("5\r\nhello\r\n0\r\nX:\r\nY: a b\r\nContent-Length: 7\r\n\r\n");
    let many = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000));
    echoes("9112 7.1: many chunks", chunked(many), "x".repeat(20_000));
}

#[test]
fn chunks_refused() {
    let check = |rule: &str, chunks: &str| {
        refused(rule, chunked(chunks), 400);
        refused(rule, chunked(format!("1\r\nx\r\n{chunks}")), 400);
    };
    for size in ["", " ", "g", "x5", "0x5", "-5", "+5", " 5", "5 ", "\t5", "5 5", "5,", "\"5\"", "_5", "5\r", "五"] {
        check("9112 7.1: a malformed size", &format!("{size}\r\nhello\r\n0\r\n\r\n"));
    }
    for size in ["FFFFFFFFFFFFFFFF", "10000000000000005", "ffffffffffffffffffffffff", &"0".repeat(100)] {
        check("9112 7.1: a size that overflows", &format!("{size}\r\nhello\r\n0\r\n\r\n"));
    }
    check("9112 7.1: more than the size", "5\r\nhello!\r\n0\r\n\r\n");
    check("9112 7.1: less than the size", "6\r\nhello\r\n0\r\n\r\n");
    check("9112 7.1: nothing behind the chunk", "5\r\nhello0\r\n\r\n");
    check("9112 2.2: a bare LF behind the size", "5\nhello\r\n0\r\n\r\n");
    check("9112 2.2: a bare LF behind an extension", "5;a\nhello\r\n0\r\n\r\n");
    check("9112 2.2: a bare CR within an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n");
    check("9112 7.1.1: NUL within an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n");
    check("9112 7.1.1: an extension without semicolon", "5 name\r\nhello\r\n0\r\n\r\n");
    for extensions in [";", ";a;", ";a ", ";a=", ";a=b c", ";a=\"b", ";a=\"b\"c", ";(a)", ";a={b}"] {
        check("9112 7.1.1: a malformed extension", &format!("5{extensions}\r\nhello\r\n0\r\n\r\n"));
    }
    check("9112 2.2: a bare LF behind the data", "5\r\nhello\n0\r\n\r\n");
    check("9112 2.2: a bare CR behind the data", "5\r\nhello\r0\r\n\r\n");
    check("9112 2.2: a bare LF at the end", "5\r\nhello\r\n0\r\n\n");
    check("9112 2.2: a bare LF behind the last size", "5\r\nhello\r\n0\n\r\n");
    check("9112 7.1.2: a bare LF behind a trailer", "0\r\nX: y\n\r\n");
    check("9112 7.1.2: a trailer without colon", "0\r\nX\r\n\r\n");
    check("9112 5.1: a space before a trailer's colon", "0\r\nX : y\r\n\r\n");
    check("9112 5.2: a folded trailer", "0\r\nX: y\r\n z\r\n\r\n");
    check("9110 5.5: NUL in a trailer", "0\r\nX: \0\r\n\r\n");
    refused("9110 15.5.14: too large", chunked("1000001\r\nx"), 413);
    refused("9110 15.5.14: too large", chunked("FFFFFFFFFFFFFFF\r\nx"), 413);
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    refused("9112 7.1.1: extensions are limited", chunked(extension), 431);
    let small = "1;xxxxxxxx\r\nx\r\n".repeat(2000);
    refused("9112 7.1.1: extensions are limited in all", chunked(format!("{small}0\r\n\r\n")), 431);
    let trailers = "X: yyyyyyyy\r\n".repeat(2000);
    refused("9112 7.1.2: trailers are limited", chunked(format!("0\r\n{trailers}\r\n")), 431);
}

#[test]
fn expectations() {
    let head = |expectation: &str, length: usize| {
        post(format!("Expect: {expectation}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"))
    };
    for expectation in ["100-continue", "100-Continue"] {
        let mut stream = connect();
        send(&mut stream, &head(expectation, 5), Pace::Whole);
        let interim = read_through(&mut stream, b"\r\n\r\n", "9110 10.1.1: the server asks for the content");
        assert_eq!(interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        send(&mut stream, b"hello", Pace::Single);
        let responses = read_responses(&read_to_end(&mut stream, "9110 10.1.1: and answers"), false);
        assert_eq!((responses.len(), responses[0].status, &responses[0].body[..]), (1, 200, &b"hello"[..]));
    }
    let first = |request: &[u8]| {
        let mut stream = connect();
        send(&mut stream, request, Pace::Whole);
        read_responses(&read_to_end(&mut stream, "9110 10.1.1"), false)[0].status
    };
    assert_eq!(first(&[&head("100-continue", 5)[..], b"hello"].concat()), 200, "9110 10.1.1: content comes already");
    assert_eq!(first(&head("100-continue", 0)), 200, "9110 10.1.1: without content");
    assert_eq!(first(&head("100-continue", 20_000_000)), 413, "9110 10.1.1: a final answer instead");
    let old = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(first(old.as_bytes()), 200, "9110 10.1.1: ignored in HTTP/1.0");
    for unknown in ["miracles", "", "100-continue, miracles", "100-continue;q=1", "200-ok"] {
        refused("9110 15.5.18: what cannot be met", post(format!("Expect: {unknown}\r\n\r\n")), 417);
    }
}
