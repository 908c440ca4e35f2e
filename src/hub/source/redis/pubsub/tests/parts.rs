//! Globs, envelopes, sockets.

use std::io::Read;

use bytes::Bytes;

use super::super::{
    envelope::{self, BadEnvelope},
    glob::Glob,
    oversize::{self, Oversize},
    socket::ReaderSocket,
};

#[test]
fn globs() {
    let check = |pattern: &str, channel: &str, expected: bool| {
        assert_eq!(Glob::parse(pattern).matches(channel.as_bytes()), expected, "{pattern} {channel}");
    };
    for (pattern, channel, expected) in super::harness::GLOBS {
        check(pattern, channel, *expected);
    }
    // A pattern whose runs could each be widened: must not take forever.
    check(&"*a".repeat(40), &"a".repeat(5000), true);
    check(&format!("{}b", "*a".repeat(40)), &"a".repeat(5000), false);
}

#[test]
fn envelopes() {
    let check = |kind: Option<&str>, data: &'static str| {
        let sealed = envelope::seal(kind, &Bytes::from_static(data.as_bytes()));
        let opened = envelope::open(&sealed).expect("what was sealed opens");
        assert_eq!((opened.kind.as_deref(), opened.data), (kind, data.as_bytes()));
        if kind.is_none() {
            assert_eq!(sealed, data);
        }
    };
    check(None, "");
    check(None, "{\"a\":1}\nb");
    check(Some("SERVER_DOWN"), "{\"a\":1}\nb\n");
    check(Some("a \"quoted\" \\ kind \u{1F4E3}"), "x");
}

#[test]
fn foreign_and_broken_envelopes() {
    let check = |payload: &[u8], expected: Result<(Option<&str>, &[u8]), BadEnvelope>| {
        let opened = envelope::open(payload);
        let opened = opened.as_ref().map(|opened| (opened.kind.as_deref(), opened.data)).map_err(|bad| *bad);
        assert_eq!(opened, expected, "{}", payload.escape_ascii());
    };
    check(b"\xFFfanfare1\n{\"type\":\"a\",\"more\":1}\nx", Ok((Some("a"), b"x")));
    check(b"\xFFfanfare1\n{\"type\":\"\"}\nx", Ok((None, b"x")));
    check(b"\xFFfanfare2\n{}\nx", Ok((None, b"\xFFfanfare2\n{}\nx")));
    check(b"fanfare1\n{}\n", Ok((None, b"fanfare1\n{}\n")));
    check(b"\xFFfanfare1\n{\"type\":\"a\"}", Err(BadEnvelope));
    check(b"\xFFfanfare1\n{\"type\":1}\n", Err(BadEnvelope));
    check(b"\xFFfanfare1\n{}\n", Err(BadEnvelope));
    check(b"\xFFfanfare1\nnonsense\n", Err(BadEnvelope));
}

#[test]
fn oversize_messages_are_measured_by_their_head() {
    let check_under = |head: &str, pattern: Option<&str>, expected: Option<(&str, usize)>| {
        let found = oversize::measure(head.as_bytes(), 10);
        let pattern = pattern.map(str::as_bytes);
        let expected = expected.map(|(channel, bytes)| Oversize { pattern, channel: channel.as_bytes(), bytes });
        assert_eq!(found, expected, "{head:?}");
    };
    let check = |head: &str, expected: Option<(&str, usize)>| check_under(head, None, expected);
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$11\r\n";
    check(message, Some(("a", message.len() + 13)));
    let pattern = ">4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$300\r\nxx";
    check_under(pattern, Some("a*"), Some(("ab", pattern.len() + 300)));
    check("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$10\r\n", None);
    check("*3\r\n$7\r\nmessage\r\n$11\r\n", None);
    check("*2\r\n$7\r\nmessage\r\n$11\r\n", None);
    check("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$18446744073709551615\r\n", None);
    check("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$-1\r\n", None);
    check("$11\r\n", None);
}

#[test]
fn a_slow_server_gets_every_byte_once() {
    let (ours, mut theirs) = mio::net::UnixStream::pair().expect("a pair of sockets");
    let mut connection = ReaderSocket::Unix(ours);
    let whole: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let mut outgoing = whole.clone();
    let mut received = Vec::new();
    while received.len() < whole.len() {
        connection.send(&mut outgoing).expect("the other end is open");
        let mut piece = [0; 10_000];
        let count = theirs.read(&mut piece).expect("there is something");
        received.extend_from_slice(&piece[..count]);
    }
    assert!(received == whole && outgoing.is_empty());
}
