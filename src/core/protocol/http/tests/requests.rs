//! One request: what is taken, and what is refused with which status.

use super::*;

fn check(input: impl AsRef<[u8]>, expected: Result<&str, u16>) {
    let input = input.as_ref();
    let outcome = serve_both(input, &HttpLimits::default());
    let shown = input.escape_ascii();
    match expected {
        Ok(request) => assert_eq!(outcome.requests, [request], "{shown}"),
        Err(status) => {
            assert_eq!(outcome.requests, [""; 0], "{shown}");
            assert_eq!(outcome.end.and_then(Close::http_status), Some(status), "{shown}");
        }
    }
}

/// A GET with Host and these field lines, each of which brings its own line end.
fn check_fields(fields: &str, expected: Result<&str, u16>) {
    check(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), expected);
}

#[test]
fn request_lines() {
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /"));
    check("DELETE /a/b HTTP/1.1\r\nHost: a\r\n\r\n", Ok("DELETE /a/b"));
    for method in ["HEAD", "POST", "PUT", "PATCH", "OPTIONS", "TRACE"] {
        check(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(&format!("{method} /")));
    }
    check("get / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("OTHER /"));
    check("G!T / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("OTHER /"));
    check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /"));
    check("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Err(400));
    check("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err(400));
    check("GET / http/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(400));
    check("GET /\r\nHost: a\r\n\r\n", Err(400));
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(400));
    check("GET /\r/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400));
    check(b"\x16\x03\x01\r\n\r\n", Err(400));
    let blank = Close::BadRequest("blank lines stand where a request line is due");
    assert_eq!(serve_both(b"\r\n\r\n", &HttpLimits::default()).end, Some(blank));
}

#[test]
fn line_ends() {
    check("GET / HTTP/1.1\nHost: a\n\n", Err(400));
    check("GET / HTTP/1.1\r\nHost: a\n\r\n", Err(400));
    check("GET / HTTP/1.1\r\nHost: a\r\n\n", Err(400));
    check("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Err(400));
    check("GET / HTTP/1.1\rHost: a\r\n\r\n", Err(400));
}

#[test]
fn fields() {
    check_fields("X: y\r\n", Ok("GET /"));
    check_fields("X:\r\n", Ok("GET /"));
    check_fields("X: \u{e9}\r\n", Ok("GET /"));
    check_fields("X : y\r\n", Err(400));
    check_fields(" X: y\r\n", Err(400));
    check_fields("X: y\r\n z\r\n", Err(400));
    check_fields("X: y\r\n\tz\r\n", Err(400));
    check_fields("X\r\n", Err(400));
    check_fields(": y\r\n", Err(400));
    check_fields("X y: z\r\n", Err(400));
    check_fields("X: y\0\r\n", Err(400));
    check_fields("X: a\rb\r\n", Err(400));
    check_fields("X: \x7f\r\n", Err(400));
    check_fields("X\u{e9}: y\r\n", Err(400));
    for once in ["Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"] {
        check_fields(&format!("{once}: x\r\n"), Ok("GET /"));
        check_fields(&format!("{once}: x\r\n{}: x\r\n", once.to_lowercase()), Err(400));
    }
}

#[test]
fn hosts() {
    let check_host = |host: &str, expected: Result<&str, u16>| {
        check(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), expected);
    };
    for good in ["a", "a.example:8080", "a:", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "xn--bcher-kva.example"] {
        check_host(good, Ok("GET /"));
    }
    for bad in ["", "a b", "a/b", "a:b", "a:65536", "u@a", ":80", "[::1", "[]", "[::1]x", "a, b", "a\u{e9}", "::1"] {
        check_host(bad, Err(400));
    }
    check("GET / HTTP/1.1\r\n\r\n", Err(400));
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400));
    check("GET / HTTP/1.0\r\n\r\n", Ok("GET / close"));
    check("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err(400));
}

#[test]
fn connections() {
    check_fields("Connection: close\r\n", Ok("GET / close"));
    check_fields("Connection: Upgrade, CLOSE\r\n", Ok("GET / close"));
    check_fields("Connection: x\r\nConnection: close\r\n", Ok("GET / close"));
    check_fields("Connection: keep-alive\r\n", Ok("GET /"));
    check("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Ok("GET /"));
    check("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", Ok("GET / close"));
}

#[test]
fn framing() {
    let check_post = |rest: &str, expected: Result<&str, u16>| {
        check(format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}"), expected);
    };
    check_post("\r\n", Ok("POST /"));
    check_post("Content-Length: 0\r\n\r\n", Ok("POST /"));
    check_post("content-LENGTH: 3\r\n\r\nabc", Ok("POST / [abc]"));
    check_post("Content-Length: 003\r\n\r\nabc", Ok("POST / [abc]"));
    for bad in ["+3", "-1", "3, 3", "3 3", "0x3", "3.0", "", "\u{0663}"] {
        check_post(&format!("Content-Length: {bad}\r\n\r\nabc"), Err(400));
    }
    check_post("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Err(400));
    check_post("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", Err(400));
    check_post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Err(400));
    check_post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", Err(400));
    check_post("Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Ok("POST / [abc]"));
    for bad in
        ["", "gzip", "gzip, chunked", "chunked, identity", "identity", "chunked, chunked", "xchunked", "\"chunked\""]
    {
        check_post(&format!("Transfer-Encoding: {bad}\r\n\r\n0\r\n\r\n"), Err(400));
    }
    check_post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err(400));
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err(400));
    check_post("Content-Length: 1048577\r\n\r\n", Err(413));
    check_post("Content-Length: 18446744073709551615\r\n\r\n", Err(413));
    check_post("Content-Length: 18446744073709551616\r\n\r\n", Err(400));
    check_post("Content-Length: 99999999999999999999999\r\n\r\n", Err(400));
    check_post("Content-Length: 00000000000000000000003\r\n\r\nabc", Ok("POST / [abc]"));
}

fn check_chunks(body: &str, expected: Result<&str, u16>) {
    check(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), expected);
}

#[test]
fn chunks() {
    check_chunks("0\r\n\r\n", Ok("POST /"));
    check_chunks("000\r\n\r\n", Ok("POST /"));
    check_chunks("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Ok("POST / [abcde]"));
    check_chunks("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Ok("POST / [01234567890123456789]"));
    check_chunks("3;a=b;c=\"d e\"\r\nabc\r\n0;last\r\n\r\n", Ok("POST / [abc]"));
    check_chunks("3 ;a\r\nabc\r\n0\r\n\r\n", Ok("POST / [abc]"));
    check_chunks("3\r\nabc\r\n0\r\nExpires: never\r\nX:\r\n\r\n", Ok("POST / [abc]"));
    for bad in [
        "\r\n",
        "x\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabcd\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        ";a\r\nabc\r\n0\r\n\r\n",
        ";a\r\n\r\n",
        " ;a\r\n\r\n",
        "3;a\nabc\r\n0\r\n\r\n",
        "3;\0\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "0000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffffff\r\n",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
    ] {
        check_chunks(bad, Err(400));
    }
    check_chunks("100001\r\n", Err(413));
    check_chunks("fffffffffffffff\r\nx", Err(413));
    check_chunks(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(16_384)), Err(431));
    check_chunks(&format!("{}0\r\n\r\n", "1;eeeeeee\r\nx\r\n".repeat(2_049)), Err(431));
    check_chunks(&format!("0\r\nX: {}\r\n\r\n", "t".repeat(16_384)), Err(431));
}

#[test]
fn chunk_extensions() {
    for extensions in [
        ";a",
        ";a=b",
        " ; a = b ; c",
        "\t;\ta\t=\tb",
        ";a;b;c=d",
        ";a=\"\"",
        ";a=\"b;c=\\\"d\\\\\"",
        ";a=\"b\" ;c",
        ";a=\"\t\u{e9}\"",
        ";!#$%&'*+-.^_`|~=1",
    ] {
        check_chunks(&format!("3{extensions}\r\nabc\r\n0{extensions}\r\n\r\n"), Ok("POST / [abc]"));
    }
    for extensions in [
        ";",
        ";;a",
        ";a;",
        "; ",
        ";a ",
        ";a=b ",
        ";a=\"b\" ",
        ";=b",
        ";a=",
        ";a= ",
        ";a==b",
        ";a b",
        ";a=b c",
        ";a=b=c",
        ";a=\"b",
        ";a=\"b\\\"",
        ";a=\"b\"c",
        ";a=b\"c\"",
        ";\"a\"",
        ";a,b",
        ";a=(b)",
        ";\u{e9}",
        ";a=\u{e9}",
        ";a=\"\u{7f}\"",
        ";a=\"\\\u{1}\"",
    ] {
        check_chunks(&format!("3{extensions}\r\nabc\r\n0\r\n\r\n"), Err(400));
        check_chunks(&format!("3\r\nabc\r\n0{extensions}\r\n\r\n"), Err(400));
    }
}

#[test]
fn expectations() {
    check_fields("Expect: 100-continue\r\n", Ok("GET /"));
    check_fields("Expect: miracles\r\n", Err(417));
    check("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc", Ok("POST / [abc]"));
}

#[test]
fn sizes() {
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let limits = HttpLimits::default();
    let room = limits.head_bytes_max - head("").len();
    check(head(&filler(room)), Ok("GET /"));
    check(head(&filler(room + 1)), Err(431));
    check("x".repeat(limits.head_bytes_max + 1), Err(414));
    check(format!("\r\nGET /{} HTTP/1.1\r\n", "x".repeat(limits.head_bytes_max)), Err(414));
    check(head(&"X: y\r\n".repeat(limits.headers_max - 1)), Ok("GET /"));
    check(head(&"X: y\r\n".repeat(limits.headers_max)), Err(431));
    let post =
        |length: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "b".repeat(length));
    let limits = HttpLimits { body_bytes_max: 100, ..limits };
    assert_eq!(serve_both(post(100).as_bytes(), &limits).requests.len(), 1);
    assert_eq!(serve_both(post(101).as_bytes(), &limits).end, Some(Close::BodyTooLarge));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n";
    let chunks = |more: usize| format!("{chunked}{}\r\n{more:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(50), "b".repeat(more));
    assert_eq!(serve_both(chunks(50).as_bytes(), &limits).requests.len(), 1);
    assert_eq!(serve_both(chunks(51).as_bytes(), &limits).end, Some(Close::BodyTooLarge));
}

#[test]
fn accessors() {
    let head = b"GET /sse?topic=a&topic=b HTTP/1.1\r\nHost: a\r\nAccept: */*, text/Event-Stream;q=0.9\r\n\
        Connection: keep-alive\r\nconnection: x, upGRADE\r\nX-Empty:\r\nX-Padded: \t v w \t\r\nX-Text: \xff\r\n\r\n";
    let request = Request::parse(head, &HttpLimits::default()).expect("a good head");
    assert_eq!(request.header("HOST"), Some(&b"a"[..]));
    assert_eq!(request.header("X-Empty"), Some(&b""[..]));
    assert_eq!(request.header_text("x-padded"), Some("v w"));
    assert_eq!((request.header("x-text"), request.header_text("x-text")), (Some(&b"\xff"[..]), None));
    assert_eq!(request.header("absent"), None);
    assert_eq!(request.header_values("connection").count(), 2);
    assert_eq!(request.headers().count(), 7);
    assert!(request.header_lists("Connection", "upgrade"));
    assert!(!request.header_lists("Connection", "up"));
    assert_eq!((request.query("topic"), request.query("Topic")), (Some("a"), None));
    assert_eq!(request.query_values("topic").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(request.host(), Some("a"));
    let absolute = b"GET http://b:80/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let absolute = Request::parse(absolute, &HttpLimits::default()).expect("a good head");
    assert_eq!(absolute.host(), Some("b:80"));
    assert_eq!(format!("{request:?}"), "GET \"/sse\" Http11 body of 0 bytes");
}
