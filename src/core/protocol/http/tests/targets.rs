//! Request targets, percent-encoding and dates.

use super::*;

fn check(method: &str, target: &str, expected: Option<&str>) {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let outcome = serve_both(head.as_bytes(), &HttpLimits::default());
    match expected {
        Some(path_and_query) => assert_eq!(outcome.requests, [format!("{method} {path_and_query}")], "{target}"),
        None => assert!(matches!(outcome.end, Some(Close::BadRequest(_))), "{target}: {outcome:?}"),
    }
}

#[test]
fn targets() {
    check("GET", "/", Some("/"));
    check("GET", "/a%20b/%C3%A9", Some("/a b/é"));
    check("GET", "/a+b", Some("/a+b"));
    check("GET", "/a+b%20c", Some("/a+b c"));
    check("GET", "/%2541", Some("/%41"));
    check("GET", "/a%2Fb", Some("/a/b"));
    check("GET", "/?a=1&b=2", Some("/ a=1 b=2"));
    check("GET", "/?a=1+2&b=%26%3D&&c&=d&e=f=g", Some("/ a=1 2 b=&= c= =d e=f=g"));
    check("GET", "/?a?b=/c", Some("/ a?b=/c"));
    check("GET", "/?+=+&b=++", Some("/  =  b=  "));
    check("GET", "/\"<>|{}", Some("/\"<>|{}"));
    check("GET", "http://b.example/x?y=z", Some("/x y=z"));
    check("GET", "HTTPS://b.example", Some("/"));
    check("GET", "http://b.example?y=z", Some("/ y=z"));
    check("OPTIONS", "*", Some("*"));
    check("CONNECT", "b.example:443", Some("b.example:443"));
    check("CONNECT", "[::1]:443", Some("[::1]:443"));
    for bad in ["b.example", "b.example:", ":443", "b.example:65536", "/b:80", "u@b.example:443", "[::1", "*"] {
        check("CONNECT", bad, None);
    }
    for bad in ["http://:80/", "http://u:p@b.example/", "http://b.example:x/", "https://[::1/", "http://a|b/"] {
        check("GET", bad, None);
    }
    for bad in
        ["*", "a", "b.example:443", "ftp://b.example/", "http:///x", "http:/x", "://x", "/#f", "/a#", "/é", "/a\tb"]
    {
        check("GET", bad, None);
    }
    for bad in ["/%", "/%4", "/%zz", "/%+1", "/%ff", "/%C3", "/?a=%", "/?%ff=1", "/?a=%C3%28"] {
        check("GET", bad, None);
    }
}

#[test]
fn raw_bytes_in_the_target() {
    for byte in (0..=b' ').chain(0x7f..=0xff).chain([b'#']) {
        let mut head = b"GET /a".to_vec();
        head.push(byte);
        head.extend_from_slice(b"b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(Request::parse(&head, &HttpLimits::default()).is_err(), "{byte:#x}");
    }
}

#[test]
fn encoding_round_trip() {
    let check = |text: &str, encoded: &str| {
        let mut out = String::new();
        percent_encode(text, &mut out);
        assert_eq!(out, encoded);
        assert_eq!(percent_decode(encoded).as_deref(), Some(text));
        assert_eq!(uri::form_decode(&format!("k={encoded}")), Some(vec![("k".to_owned(), text.to_owned())]));
    };
    check("", "");
    check("Az09-._~", "Az09-._~");
    check("a b+c/é%", "a%20b%2Bc%2F%C3%A9%25");
    check("\0\r\n&=?#", "%00%0D%0A%26%3D%3F%23");
}

#[test]
fn dates() {
    let mut text = DateText::default();
    let mut check = |unix_s: u64, expected: &str| {
        assert_eq!(format_date(unix_s), expected);
        assert_eq!(text.at(unix_s), expected, "the clock may go forward and back");
        assert_eq!(text.at(unix_s), expected, "and stand still");
    };
    check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
    check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
    check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
    check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
    check(1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT");
    check(1_740_787_200, "Sat, 01 Mar 2025 00:00:00 GMT");
    check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
    check(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
    check(784_111_776, "Sun, 06 Nov 1994 08:49:36 GMT");
}
