//! Header fields: RFC 9112 sections 2.2, 3.2 and 5; RFC 9110 sections 5 and 7.2.

use super::{refused, served};

fn with(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /headers HTTP/1.1\r\nHost: h\r\n", fields.as_ref(), b"\r\n"].concat()
}

/// The request's fields come back as they were understood.
#[track_caller]
fn understood(rule: &str, fields: impl AsRef<[u8]>, lines: impl AsRef<[u8]>) {
    let response = served(rule, with(fields), 200);
    let expected = [b"Host: h\n", lines.as_ref()].concat();
    assert!(response.body == expected, "{rule}: {:?}", String::from_utf8_lossy(&response.body));
}

#[test]
fn values() {
    understood("9112 5.1: optional whitespace", "X:y\r\n", "X: y\n");
    understood("9112 5.1: spaces and tabs", "X: \t y \t \r\n", "X: y\n");
    understood("9112 5.1: whitespace within", "X: a  b\tc\r\n", "X: a  b\tc\n");
    understood("9112 5: an empty value", "X:\r\nY: \r\n", "X: \nY: \n");
    understood("9110 5.5: opaque octets", b"X: \x80\xe9\xff\r\n", b"X: \x80\xe9\xff\n");
    understood(
        "9110 5.5: any visible character",
        "X: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\r\n",
        "X: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\n",
    );
    understood("9110 5.3: the order of equal names", "X: 1\r\nY: 2\r\nx: 3\r\n", "X: 1\nY: 2\nx: 3\n");
    understood("9110 5.1: any token is a name", "!#$%&'*+-.^_`|~09aZ: y\r\n", "!#$%&'*+-.^_`|~09aZ: y\n");
    understood("9110 5.4: long values", format!("X: {}\r\n", "y".repeat(8000)), format!("X: {}\n", "y".repeat(8000)));
    let many: String = (0..60).map(|number| format!("X-{number}: y\r\n")).collect();
    understood("9110 5.4: many fields", &many, many.replace("\r\n", "\n"));
}

#[test]
fn malformed() {
    let check = |rule: &str, fields: &[u8]| {
        refused(rule, with(fields), 400);
        refused(rule, [b"GET / HTTP/1.1\r\n", fields, b"Host: h\r\n\r\n"].concat(), 400);
    };
    check("9112 5.1: a space before the colon", b"X : y\r\n");
    check("9112 5.1: a tab before the colon", b"X\t: y\r\n");
    check("9112 5.2: obsolete folding by a space", b"X: y\r\n z\r\n");
    check("9112 5.2: obsolete folding by a tab", b"X: y\r\n\tz\r\n");
    check("9112 5.2: folding of nothing", b"X: y\r\n \r\n");
    check("9112 5: no colon", b"X\r\n");
    check("9112 5: no name", b": y\r\n");
    check("9112 2.2: whitespace ahead of the fields", b" X: y\r\n");
    check("9112 2.2: a bare LF", b"X: y\n");
    check("9112 2.2: a bare LF between fields", b"X: y\nY: z\r\n");
    check("9112 2.2: a bare CR in a value", b"X: a\rb\r\n");
    check("9112 2.2: a bare CR at the end of a value", b"X: a\r\r\n");
    check("9112 2.2: a bare CR in a name", b"X\r: a\r\n");
    for byte in (0..0x20).filter(|byte| !b"\t\r\n".contains(byte)).chain([0x7f]) {
        check("9110 5.5: a control character in a value", &[b"X: a", &[byte][..], b"b\r\n"].concat());
    }
    for byte in (0..=0x20).filter(|byte| *byte != b'\n').chain(*b"\"(),/;<=>?@[\\]{}").chain([0x7f, 0x80, 0xff]) {
        check("9110 5.6.2: a name is a token", &[b"X", &[byte][..], b"Y: z\r\n"].concat());
    }
    refused("9112 2.2: the blank line is a bare LF", "GET / HTTP/1.1\r\nHost: h\r\n\n", 400);
}

#[test]
fn too_many_and_too_large() {
    let many: String = (0..64).map(|number| format!("X-{number}: y\r\n")).collect();
    refused("RFC 6585 5: too many fields", with(many), 431);
    refused("RFC 6585 5: a field too large", with(format!("X: {}\r\n", "y".repeat(16 * 1024))), 431);
    refused("RFC 6585 5: a name too large", with(format!("{}: y\r\n", "X".repeat(16 * 1024))), 431);
}

#[test]
fn host() {
    let check = |fields: &str| served("9110 7.2: Host", format!("GET / HTTP/1.1\r\n{fields}\r\n"), 200);
    for value in ["h", "h:80", "h:", "127.0.0.1:1", "[::1]", "[::1]:80", "a-b.c_d.example", "xn--bcher-kva.example"] {
        check(&format!("Host: {value}\r\n"));
        check(&format!("host:{value} \r\n"));
    }
    check("HOST: h\r\n");
    served("9112 3.2: not in HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200);
}

#[test]
fn host_refused() {
    let check = |rule: &str, fields: &str| {
        refused(rule, format!("GET / HTTP/1.1\r\n{fields}\r\n"), 400);
        refused(rule, format!("GET http://h/ HTTP/1.1\r\n{fields}\r\n"), 400);
    };
    check("9112 3.2: missing", "");
    check("9112 3.2: missing among others", "X: y\r\n");
    check("9112 3.2: two", "Host: h\r\nHost: h\r\n");
    check("9112 3.2: two, one of them empty", "Host: h\r\nHost:\r\n");
    check("9112 3.2: two that differ, apart", "Host: h\r\nX: y\r\nhost: g\r\n");
    check("9112 3.2: empty", "Host:\r\n");
    check("9112 3.2: only whitespace", "Host: \t \r\n");
    for value in [
        "a b", "h/path", "user@h", "h:port", "h:65536", "h:80:80", "[::1", "::1]", "[]", "a, b", "h?q", "h#f", "é",
        ":80", "h\\",
    ] {
        check("9110 7.2: malformed", &format!("Host: {value}\r\n"));
    }
    refused("9112 3.2: two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400);
    refused("9112 3.2: malformed in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400);
}

#[test]
fn fields_that_may_be_ignored() {
    for fields in [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Range: bytes=0-1\r\n",
        "Range: lines=1-2\r\nIf-Range: \"a\"\r\n",
        "Content-Range: bytes 0-0/1\r\n",
        "If-None-Match: *\r\n",
        "If-Match: \"a\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "TE: trailers, deflate;q=0.5\r\n",
        "Accept: application/nothing\r\nAccept-Encoding: gzip, br\r\n",
        "Trailer: X\r\n",
        "Max-Forwards: 0\r\n",
        "Connection: X\r\nX: y\r\n",
    ] {
        served("9110 7.8, 10.1.4, 12, 13, 14: what this server has no use for", with(fields), 200);
    }
}
