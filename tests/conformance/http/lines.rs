//! Request lines: RFC 9112 sections 2.2, 2.3 and 3; methods: RFC 9110 section 9.

use super::{refused, served};

fn line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

#[test]
fn targets() {
    let check = |rule: &str, target: &str, status: u16| {
        served(rule, line(&format!("GET {target} HTTP/1.1")), status);
    };
    check("9112 3.2.1: origin form", "/", 200);
    check("9112 3.2.1: with a query", "/headers?a=b&c", 200);
    check("9112 3.2.1: an empty query", "/?", 200);
    check("9110 4.2.3: percent-encoded octets", "/%68eader%73", 200);
    check("9110 4.2.3: paths are case-sensitive", "/HEADERS", 404);
    check("9110 15.5.5: nothing there", "/nothing", 404);
    check("9112 3.2.2: absolute form", "http://other.example/headers", 200);
    check("9112 3.2.2: absolute form with a port", "http://other.example:8080/headers", 200);
    check("9112 3.2.2: absolute form without a path", "http://other.example", 200);
    check("9112 3.2.2: absolute form with a query only", "http://other.example?a=b", 200);
    check("9110 4.2.3: schemes in any case", "HTTP://h/", 200);
    check("9110 4.2.2: https", "https://h/", 200);
    check("9112 3.2.2: an address", "http://[::1]:80/", 200);
    let long = format!("/?{}", "x".repeat(8000));
    check("9112 3: at least 8000 octets", &long, 200);
}

#[test]
fn targets_refused() {
    let check = |rule: &str, target: &str| {
        refused(rule, line(&format!("GET {target} HTTP/1.1")), 400);
    };
    check("9112 3.2: no form", "relative");
    check("9112 3.2.3: authority form is for CONNECT", "h:80");
    check("9112 3.2.4: asterisk form is for OPTIONS", "*");
    check("9110 4.1: a fragment", "/#f");
    check("9110 4.2: another scheme", "ftp://h/");
    check("9110 4.2.1: an empty host", "http:///");
    check("9110 4.2.1: an empty host with a port", "http://:80/");
    check("9110 4.2.4: user information", "http://user@h/");
    check("9112 3.2: a broken escape", "/%zz");
    check("9112 3.2: a cut escape", "/%4");
    check("9112 3.2: a control character", "/a\u{1}b");
    check("9112 3.2: NUL", "/a\0b");
    check("9112 3.2: octets beyond ASCII", "/é");
    check("9112 3.2: DEL", "/\u{7f}");
    check("9112 3.2: whitespace", "/a b");
    refused("9112 3: too long", format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(20_000)), 414);
}

#[test]
fn request_lines_refused() {
    let rows = [
        ("9112 3: two spaces", "GET  / HTTP/1.1"),
        ("9112 3: two spaces", "GET /  HTTP/1.1"),
        ("9112 3: tabs", "GET\t/\tHTTP/1.1"),
        ("9112 3: a space at the end", "GET / HTTP/1.1 "),
        ("9112 3: a space ahead", " GET / HTTP/1.1"),
        ("9112 3: no target", "GET HTTP/1.1"),
        ("9112 3: no version", "GET /"),
        ("9112 3: a space instead of a version", "GET / "),
        ("9112 3: no method", "/ HTTP/1.1"),
        ("9110 5.6.2: a method is a token", "G(T / HTTP/1.1"),
        ("9110 5.6.2: a method is a token", "G\u{7f}T / HTTP/1.1"),
        ("9112 2.3: HTTP in capitals", "GET / http/1.1"),
        ("9112 2.3: another name", "GET / HTCPCP/1.1"),
        ("9112 2.3: no minor version", "GET / HTTP/1"),
        ("9112 2.3: one digit each", "GET / HTTP/1.10"),
        ("9112 2.3: one digit each", "GET / HTTP/01.1"),
        ("9112 2.3: three numbers", "GET / HTTP/1.1.1"),
        ("9112 2.3: a comma", "GET / HTTP/1,1"),
        ("9110 2.5: HTTP/0.9", "GET / HTTP/0.9"),
        ("9110 2.5: HTTP/2", "GET / HTTP/2.0"),
        ("9110 2.5: HTTP/9.9", "GET / HTTP/9.9"),
        // RFC 9110 section 2.5 would have it served as 1.1; no client sends it, and 400 is this server's documented answer.
        ("9110 2.5: HTTP/1.2", "GET / HTTP/1.2"),
        ("9112 2.2: two blank lines ahead", "\r\n\r\nGET / HTTP/1.1"),
        ("9112 2.2: a bare LF ahead", "\nGET / HTTP/1.1"),
        ("9112 2.2: a bare CR ahead", "\rGET / HTTP/1.1"),
        ("9112 2.2: a bare CR within", "GET /\r HTTP/1.1"),
        ("9113 3.4: the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM"),
    ];
    for (rule, row) in rows {
        refused(rule, line(row), 400);
    }
    refused("9112 2.2: a line ends with CR LF", "GET / HTTP/1.1\nHost: h\r\n\r\n", 400);
    refused("RFC 8446: TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400);
    served("9112 2.2: one blank line ahead", line("\r\nGET / HTTP/1.1"), 200);
}

#[test]
fn methods() {
    let check = |rule: &str, method: &str, target: &str, status: u16| {
        served(rule, line(&format!("{method} {target} HTTP/1.1")), status)
    };
    for method in ["PUT", "PATCH", "DELETE", "TRACE", "BREW", "get", "Get", "M-SEARCH"] {
        let response = check("9110 15.5.6: not among the methods", method, "/", 405);
        assert_eq!(response.values("allow"), ["GET, POST, HEAD, OPTIONS"], "9110 10.2.1: {method}");
    }
    assert_eq!(check("9110 15.5.6: GET only", "POST", "/headers", 405).values("allow"), ["GET, HEAD, OPTIONS"]);
    assert_eq!(check("9110 9.3.7: OPTIONS", "OPTIONS", "/headers", 204).values("allow"), ["GET, HEAD, OPTIONS"]);
    assert_eq!(check("9110 9.3.7: the whole server", "OPTIONS", "*", 204).values("allow").len(), 1);
    assert_eq!(check("9110 9.3.6: no proxy", "CONNECT", "other.example:443", 405).values("allow").len(), 1);
    for bad in ["other.example", "other.example:", ":443", "/", "*", "http://other.example:443/"] {
        refused("9110 9.3.6: an invalid port or host", line(&format!("CONNECT {bad} HTTP/1.1")), 400);
    }
    check("9110 9.3.1: GET", "GET", "/", 200);
    check("9110 9.3.3: POST without content", "POST", "/", 200);
}

#[test]
fn head_is_get_without_content() {
    for target in ["/", "/headers", "/nothing"] {
        let [get, head] = ["GET", "HEAD"].map(|method| line(&format!("{method} {target} HTTP/1.1")));
        let get = super::exchange("9110 9.3.1: GET", get.as_bytes(), 2).remove(0);
        let head = super::exchange("9110 9.3.2: HEAD", head.as_bytes(), 2).remove(0);
        assert_eq!((head.status, &head.body[..]), (get.status, &b""[..]), "9110 9.3.2: {target}");
        for name in ["content-length", "content-type"] {
            assert_eq!(head.values(name), get.values(name), "9110 9.3.2: {target}");
        }
    }
}
