//! Every header is fed whole, with a request behind it, and one byte at a time; the outcome must be the same.

use core::net::IpAddr;

use super::*;
use crate::{
    clock::Moment,
    close::Close,
    outbox::Outbox,
    protocol::{PeerInput, Session, SessionLimits, http},
};

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n";

/// A header of version 2 by hand.
fn binary(version_command: u8, family_transport: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[version_command, family_transport], &length, rest].concat()
}

/// What a connection makes of `pieces`: what its inputs say, or how it ends.
fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, Close> {
    let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
    let mut session = Session::behind_proxy(Moment(1));
    for piece in pieces {
        session =
            session.receive(&mut piece.to_vec(), &SessionLimits::default(), &mut outbox, &mut inputs, Moment(1))?;
    }
    let told = inputs.iter().map(|input| match input {
        PeerInput::Source(None) => "nobody".to_owned(),
        PeerInput::Source(Some(source)) => source.to_string(),
        PeerInput::Body => "a body".to_owned(),
        PeerInput::Request(request) => request.path.clone(),
        PeerInput::Command(text) => text.clone(),
        _ => "nothing of HTTP".to_owned(),
    });
    Ok(told.collect())
}

fn check_all(bytes: &[u8], expected: &Result<Vec<String>, Close>) {
    let shown = bytes.escape_ascii();
    assert_eq!(&receive([bytes]), expected, "whole: {shown}");
    assert_eq!(&receive(bytes.chunks(1)), expected, "byte by byte: {shown}");
    assert_eq!(&receive(bytes.chunks(13)), expected, "in pieces: {shown}");
}

/// The header is taken, tells this source, and the request behind it is read.
fn check(header: &[u8], source: &str) {
    check_all(&[header, REQUEST].concat(), &Ok(vec![source.to_owned(), "/health".to_owned()]));
    // Whatever is missing at its end may still come.
    for length in 0..header.len() {
        assert_eq!(receive([&header[..length]]), Ok(vec![]), "{length} bytes of {}", header.escape_ascii());
    }
}

fn check_bad(bytes: &[u8]) {
    check_all(bytes, &Err(header::BAD_HEADER));
}

#[test]
fn lines_of_text() {
    check(b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", "203.0.113.7");
    check(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255");
    check(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0");
    check(b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "2001:db8::7");
    let longest = "ffff:".repeat(7) + "ffff";
    check(format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(), &longest);
    check(b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7");
    check(b"PROXY UNKNOWN\r\n", "nobody");
    check(b"PROXY UNKNOWN 1.2.3.4 what ever\r\n", "nobody");
    check(format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n").as_bytes(), "nobody");
    check(&[b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat(), "nobody");
}

#[test]
fn bad_lines_of_text() {
    check_bad(REQUEST);
    check_bad(b"proxy TCP4 203.0.113.7 10.0.0.1 56324 443\r\n");
    check_bad(b"PROXY\tTCP4 203.0.113.7 10.0.0.1 56324 443\r\n");
    for line in [
        "",
        "TCP4",
        "TCP5 1.2.3.4 1.2.3.4 1 2",
        "UNKNOWNS",
        "TCP4  1.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3.4 1.2.3.4 1 2 ",
        "TCP4 1.2.3.4 1.2.3.4 1 2 3",
        "TCP4 1.2.3.4 1.2.3.4 1",
        "TCP4 1.2.3.4 1.2.3.4 1 65536",
        "TCP4 1.2.3.4 1.2.3.4 -1 2",
        "TCP4 1.2.3.4 1.2.3.4 +1 2",
        "TCP4 1.2.3.4 1.2.3.4 01 2",
        "TCP4 1.2.3 1.2.3.4 1 2",
        "TCP4 1.2.3.4 1.2.3.256 1 2",
        "TCP4 ::1 ::1 1 2",
        "TCP6 1.2.3.4 1.2.3.4 1 2",
        "TCP6 ::g ::1 1 2",
        "TCP4 1.2.3.4 1.2.3.4 1 2\r",
        "TCP4 1.2.3.4 1.2.3.4 1 \u{b2}",
    ] {
        check_bad(format!("PROXY {line}\r\n").as_bytes());
    }
    check_bad(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n");
    check_bad(b"PROXY UNKNOWN \xff\r\n");
    check_bad(&[b"PROXY UNKNOWN ", &[b'x'; 92][..], b"\r\n"].concat());
    check_bad(&[b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat());
}

#[test]
fn binary_headers() {
    let inet = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
    let mut inet6 = [0; 36];
    (inet6[0], inet6[1], inet6[15], inet6[31]) = (0x20, 0x01, 7, 1);
    let mut mapped = [0; 36];
    mapped[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 7]);
    // Fields of other kinds, as a cloud's balancer attaches them: they are read over.
    let fields = [0x04, 0, 2, b'h', b'i', 0xea, 0, 0];
    for transport in [0, 1, 2] {
        check(&binary(0x21, 0x10 | transport, &inet), "203.0.113.7");
        check(&binary(0x21, 0x20 | transport, &inet6), "2001::7");
        check(&binary(0x21, 0x20 | transport, &mapped), "203.0.113.7");
        check(&binary(0x21, 0x30 | transport, &[b'/'; 216]), "nobody");
        check(&binary(0x21, transport, b""), "nobody");
    }
    check(&binary(0x21, 0x11, &[&inet[..], &fields].concat()), "203.0.113.7");
    check(&binary(0x21, 0x00, &fields), "nobody");
    check(&binary(0x20, 0x00, b""), "nobody");
    check(&binary(0x20, 0x11, &inet), "nobody");
    check(&binary(0x20, 0x11, &fields), "nobody");
    check(&binary(0x21, 0x11, &[&inet[..], &[0; 4096 - 16 - 12]].concat()), "203.0.113.7");
}

#[test]
fn bad_binary_headers() {
    let addresses = [0; 216];
    check_bad(b"\r\n\r\n\0\r\nQUIT\r\n\r\n\r\n");
    check_bad(&binary(0x11, 0x11, &addresses));
    check_bad(&binary(0x31, 0x11, &addresses));
    check_bad(&binary(0x22, 0x11, &addresses));
    check_bad(&binary(0x21, 0x41, &addresses));
    check_bad(&binary(0x21, 0xf0, &addresses));
    check_bad(&binary(0x21, 0x13, &addresses));
    check_bad(&binary(0x21, 0x11, &addresses[..11]));
    check_bad(&binary(0x21, 0x21, &addresses[..35]));
    check_bad(&binary(0x21, 0x31, &addresses[..215]));
    check_bad(&binary(0x21, 0x11, b""));
    let too_large = Err(Close::BadRequest("the PROXY protocol header is too large"));
    check_all(&binary(0x21, 0x11, &[0; 4096 - 15]), &too_large);
    check_all(&binary(0x20, 0x00, &[0; 65_535])[..16], &too_large);
}

#[test]
fn a_header_that_does_not_come() {
    let limits = SessionLimits::default();
    let deadline = Moment(1) + limits.http.head_timeout;
    let feed = |bytes: &[u8]| {
        let session = Session::behind_proxy(Moment(1));
        let fed = session.receive(&mut bytes.to_vec(), &limits, &mut Outbox::new(), &mut Vec::new(), Moment(500));
        fed.expect("no rule is broken")
    };
    let check = |bytes: &[u8], is_idle: bool, close: Close| {
        let session = feed(bytes);
        assert_eq!(session.deadline(&limits), Some(deadline), "{}", bytes.escape_ascii());
        assert_eq!((session.is_idle(), session.expire()), (is_idle, close), "{}", bytes.escape_ascii());
    };
    check(b"", true, Close::Done);
    check(b"P", false, Close::RequestTimeout);
    check(b"\r\n\r\n", false, Close::RequestTimeout);
    check(b"PROXY UNKNOWN\r\n", true, Close::Done);
    check(b"PROXY UNKNOWN\r\nG", false, Close::RequestTimeout);
}

fn trusted(list: &str) -> Trusted {
    Trusted(list.split_whitespace().map(|text| text.parse().expect("a good entry")).collect())
}

#[test]
fn who_is_trusted() {
    let check = |list: &str, peer: &str, expected: bool| {
        let peer: Option<IpAddr> = (peer != "unix").then(|| peer.parse().expect("an address"));
        assert_eq!(trusted(list).contains(peer), expected, "{peer:?} in {list}");
    };
    check("", "127.0.0.1", false);
    check("", "unix", false);
    check("127.0.0.1", "127.0.0.1", true);
    check("127.0.0.1", "127.0.0.2", false);
    check("127.0.0.1", "unix", false);
    check("unix", "unix", true);
    check("unix", "127.0.0.1", false);
    check("0.0.0.0/0", "203.0.113.7", true);
    check("0.0.0.0/0", "::1", false);
    check("::/0", "127.0.0.1", false);
    check("::/0", "2001:db8::1", true);
    check("10.0.0.0/8", "10.255.255.255", true);
    check("10.0.0.0/8", "11.0.0.0", false);
    check("10.0.0.4/31", "10.0.0.5", true);
    check("10.0.0.4/31", "10.0.0.6", false);
    check("fd00::/8 10.0.0.1", "fdff::1", true);
    check("fd00::/8 10.0.0.1", "10.0.0.1", true);
    check("fd00::/8 10.0.0.1", "fe00::1", false);
    check("::ffff:10.0.0.0/104", "10.1.2.3", true);
    check("::ffff:10.0.0.1", "10.0.0.1", true);
}

#[test]
fn entries_are_written_as_they_are_read() {
    for text in ["unix", "127.0.0.1", "::1", "10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::/0"] {
        assert_eq!(text.parse().map(|peer: TrustedPeer| peer.to_string()), Ok(text.to_owned()));
    }
    let check_bad = |text: &str, part: &str| {
        let refused = text.parse::<TrustedPeer>().expect_err(text);
        assert!(refused.contains(part), "{text}: {refused}");
    };
    for text in ["", "localhost", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0/8", "/8", "Unix"] {
        check_bad(text, "is neither");
    }
    check_bad("10.0.0.0/33", "at most 32");
    check_bad("::/129", "at most 128");
    check_bad("10.0.0.1/8", "the network is 10.0.0.0/8");
}

#[test]
fn clients_behind_proxies() {
    let check = |fields: &[&str], expected: Option<&str>| {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", fields.join("\r\n"));
        let request = http::Request::parse(head.as_bytes(), &http::HttpLimits::default()).expect("a good head");
        let found = client_address(&request, &trusted("10.0.0.0/8 fd00::/8"));
        assert_eq!(found.map(|address| address.to_string()).as_deref(), expected, "{fields:?}");
    };
    check(&["X: y"], None);
    for (name, before, after) in [("X-Forwarded-For", "", ""), ("Forwarded", "for=\"", "\"")] {
        let check = |nodes: &str, expected: Option<&str>| {
            let list = nodes.split(", ").map(|node| format!("{before}{node}{after}")).collect::<Vec<_>>().join(", ");
            check(&[&format!("{name}: {list}")], expected);
        };
        check("203.0.113.7", Some("203.0.113.7"));
        check("203.0.113.7:4711", Some("203.0.113.7"));
        check("[2001:db8::1]", Some("2001:db8::1"));
        check("[2001:db8::1]:4711", Some("2001:db8::1"));
        check("::ffff:203.0.113.7", Some("203.0.113.7"));
        check("203.0.113.7, 198.51.100.9", Some("198.51.100.9"));
        check("203.0.113.7, 198.51.100.9, 10.0.0.1, fd00::1", Some("198.51.100.9"));
        check("10.1.0.1, 10.0.0.1", Some("10.1.0.1"));
        check("rubbish, 198.51.100.9, 10.0.0.1", Some("198.51.100.9"));
        check("198.51.100.9, rubbish, 10.0.0.1", None);
        check("198.51.100.9, , 10.0.0.1", None);
        check("", None);
        check("unknown", None);
        check("_hidden", None);
        check("203.0.113.256", None);
        check("[203.0.113.7]", None);
        check("[2001:db8::1", None);
        check("203.0.113.7:99999", None);
    }
    check(&["X-Forwarded-For: 203.0.113.7", "x-forwarded-for: 198.51.100.9"], Some("198.51.100.9"));
    check(&["X-Forwarded-For:203.0.113.7 ,\t10.0.0.1"], Some("203.0.113.7"));
    check(&["X-Forwarded-For: rubbish", "Forwarded: for=203.0.113.7"], None);
    check(&["Forwarded: for=203.0.113.7", "X-Forwarded-For: 198.51.100.9"], Some("198.51.100.9"));
    check(&["Forwarded: for=203.0.113.7;proto=https;by=10.0.0.1"], Some("203.0.113.7"));
    check(&["Forwarded: proto=http; FOR = \"[2001:db8::1]:1\""], Some("2001:db8::1"));
    check(&["Forwarded: by=\"a,for=1.2.3.4;\\\",\";for=203.0.113.7"], Some("203.0.113.7"));
    check(&["Forwarded: for=203.0.113.7;x=\"a, for=198.51.100.9\""], Some("203.0.113.7"));
    check(&["Forwarded: for=203.0.113.7;x=\"a\\\", for=198.51.100.9\""], Some("203.0.113.7"));
    check(&["Forwarded: for=203.0.113.7;for=198.51.100.9"], None);
    check(&["Forwarded: proto=https"], None);
    check(&["Forwarded: for=203.0.113.7", "Forwarded: for=10.0.0.1"], Some("203.0.113.7"));
}

proptest::proptest! {
    /// However a header is cut, it says the same, and none makes the parser panic.
    #[test]
    fn noise_is_judged_alike(
        start in proptest::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", v2::SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21"]),
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        cut in 0..200_usize,
    ) {
        let bytes = [start, &noise].concat();
        let whole = receive([&bytes[..]]);
        let (front, back) = bytes.split_at(cut.min(bytes.len()));
        assert_eq!(receive([front, back]), whole);
        assert_eq!(receive(bytes.chunks(1)), whole);
    }
}
