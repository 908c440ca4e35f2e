//! Every reply is parsed whole, with more bytes behind it, and one byte at a time; all three must agree.

use super::*;

fn small_limits() -> RespLimits {
    RespLimits { bulk_bytes_max: 64, line_bytes_max: 32, elements_max: 8, depth_max: 2 }
}

/// What `parse` gives for each prefix is "more", until the whole is there; bytes behind it change nothing.
fn check_prefixes<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    expected: &T,
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, BadReply>,
) {
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{} cut at {end}", bytes.escape_ascii());
    }
    let behind = [bytes, b"*1\r\n"].concat();
    for whole in [bytes, &behind] {
        let (value, consumed) = parse(whole).expect("a good reply").expect("a whole reply");
        assert_eq!((&value, consumed), (expected, bytes.len()), "{}", whole.escape_ascii());
    }
}

#[test]
fn replies() {
    let check = |bytes: &str, expected: Reply<'_>| {
        // A leak, so that the closure may return what borrows from its argument.
        check_prefixes(bytes.as_bytes(), &expected, |prefix| parse(prefix.to_vec().leak(), &small_limits()));
    };
    check("+OK\r\n", Reply::Simple("OK"));
    check("+\r\n", Reply::Simple(""));
    check("-ERR unknown command\r\n", Reply::Error("ERR unknown command"));
    check("!8\r\nERR a\r\nb\r\n", Reply::Error("ERR a\r\nb"));
    check(":0\r\n", Reply::Integer(0));
    check(":+7\r\n", Reply::Integer(7));
    check(":-9223372036854775808\r\n", Reply::Integer(i64::MIN));
    check(":9223372036854775807\r\n", Reply::Integer(i64::MAX));
    check("$3\r\na\r\n\r\n", Reply::Bulk(Some(b"a\r\n")));
    check("$0\r\n\r\n", Reply::Bulk(Some(b"")));
    let longest = "x".repeat(64);
    check(&format!("$64\r\n{longest}\r\n"), Reply::Bulk(Some(longest.as_bytes())));
    check(&format!("+{}\r\n", &longest[..32]), Reply::Simple(&longest[..32]));
    check("$-1\r\n", Reply::Bulk(None));
    check("*-1\r\n", Reply::Null);
    check("_\r\n", Reply::Null);
    check("*0\r\n", Reply::Array(vec![]));
    check("*2\r\n:1\r\n*1\r\n+a\r\n", Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![Reply::Simple("a")])]));
    check(">1\r\n+a\r\n", Reply::Push(vec![Reply::Simple("a")]));
    check("~1\r\n#t\r\n", Reply::Set(vec![Reply::Boolean(true)]));
    check("%1\r\n+proto\r\n:3\r\n", Reply::Map(vec![(Reply::Simple("proto"), Reply::Integer(3))]));
    check("#f\r\n", Reply::Boolean(false));
    check(",-1.5e3\r\n", Reply::Double(-1500.0));
    check(",inf\r\n", Reply::Double(f64::INFINITY));
    check("(-349999999999999999999999\r\n", Reply::BigNumber("-349999999999999999999999"));
    check("=6\r\ntxt:ab\r\n", Reply::Verbatim { format: "txt", text: b"ab" });
    check("|1\r\n+ttl\r\n:3600\r\n|1\r\n+a\r\n+b\r\n+OK\r\n", Reply::Simple("OK"));
}

#[test]
fn bad_replies() {
    let check = |bytes: &[u8], expected: BadReply| {
        let name = bytes.escape_ascii();
        assert_eq!(parse(bytes, &small_limits()), Err(expected), "{name}");
        assert_eq!(parse_push(bytes, &small_limits()), Err(expected), "{name}");
        // Before the offence the bytes are merely unfinished, and after it they stay refused.
        let first = (0..bytes.len()).find(|end| parse(&bytes[..*end], &small_limits()) != Ok(None));
        assert!(first.is_none_or(|end| parse(&bytes[..end], &small_limits()) == Err(expected)), "{name}");
    };
    check(b"HTTP/1.1 400 Bad Request\r\n", BadReply::UnknownType(b'H'));
    check(b"\r\n", BadReply::UnknownType(b'\r'));
    check(b"$?\r\n", BadReply::BadLength);
    check(b"$-2\r\n", BadReply::BadLength);
    check(b"$\r\n", BadReply::BadLength);
    check(b":-\r\n", BadReply::BadLength);
    check(b"$99999999999999999999\r\n", BadReply::BadLength);
    check(b":9223372036854775808\r\n", BadReply::BadLength);
    check(b":-9223372036854775809\r\n", BadReply::BadLength);
    check(b":00000000000000000000", BadReply::BadLength);
    check(b"$9223372036854775807\r\n", BadReply::BulkTooLong);
    check(b"$65\r\n", BadReply::BulkTooLong);
    check(b"*9\r\n", BadReply::TooManyElements);
    check(b"*9223372036854775807\r\n", BadReply::TooManyElements);
    check(b"%9223372036854775807\r\n", BadReply::TooManyElements);
    check(b"%5\r\n", BadReply::TooManyElements);
    check(b"*4\r\n*4\r\n*4\r\n", BadReply::TooDeep);
    check(b"*4\r\n*5\r\n", BadReply::TooManyElements);
    check(b"%1\r\n%1\r\n%1\r\n", BadReply::TooDeep);
    check(b"%1\r\n+a\r\n%1\r\n+a\r\n%1\r\n", BadReply::TooDeep);
    check(b"|5\r\n", BadReply::TooManyElements);
    check(b"%-1\r\n", BadReply::BadLength);
    check(b">-1\r\n", BadReply::BadLength);
    check(b"!-1\r\n", BadReply::BadLength);
    check(b":1x\r\n", BadReply::MissingLineEnd);
    check(b":1\rx", BadReply::MissingLineEnd);
    check(b"$1\r\nabc", BadReply::MissingLineEnd);
    check(b"+a\nb\rc\r\n", BadReply::MissingLineEnd);
    check(b"+\xff\r\n", BadReply::NotUtf8);
    check(b"_x\r\n", BadReply::BadValue);
    check(b"#x\r\n", BadReply::BadValue);
    check(b",x\r\n", BadReply::BadValue);
    check(b"(1x\r\n", BadReply::BadValue);
    check(b"(\r\n", BadReply::BadValue);
    check(b"=3\r\ntxt\r\n", BadReply::BadValue);
    check(b"=4\r\ntext\r\n", BadReply::BadValue);
    check(&[b"+", &[b'x'; 33][..]].concat(), BadReply::LineTooLong);
}

#[test]
fn pushes() {
    let check = |body: &str, expected: Push<'_>| {
        for first in ["*", ">"] {
            let bytes = format!("{first}{body}");
            check_prefixes(bytes.as_bytes(), &expected, |prefix| parse_push(prefix.to_vec().leak(), &small_limits()));
        }
    };
    check("3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", Push::Message { channel: b"c", payload: b"hi" });
    check("3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n", Push::Message { channel: b"c", payload: b"" });
    check(
        "4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\ncc\r\n$2\r\n\r\n\r\n",
        Push::PatternMessage { pattern: b"c*", channel: b"cc", payload: b"\r\n" },
    );
    check("3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", Push::Subscribed { channel: b"c", count: 1 });
    check("3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", Push::Subscribed { channel: b"c", count: 1 });
    check("3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n", Push::Unsubscribed { channel: b"c", count: 0 });
    check("3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:2\r\n", Push::PatternSubscribed { pattern: b"*", count: 2 });
    check("3\r\n$12\r\npunsubscribe\r\n$1\r\n*\r\n:1\r\n", Push::PatternUnsubscribed { pattern: b"*", count: 1 });
}

#[test]
fn other_pushes() {
    let check = |bytes: &str| {
        let (reply, _) = parse(bytes.as_bytes(), &small_limits()).expect("a good reply").expect("a whole reply");
        check_prefixes(bytes.as_bytes(), &Push::Other(reply), |prefix| {
            parse_push(prefix.to_vec().leak(), &small_limits())
        });
    };
    check("+PONG\r\n");
    check("-NOAUTH Authentication required.\r\n");
    check("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    check("%1\r\n$5\r\nproto\r\n:3\r\n");
    check("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
    check("*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n");
    check("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n$1\r\n1\r\n");
    check("*4\r\n$7\r\nmessage\r\n:1\r\n:2\r\n:3\r\n");
    check(">2\r\n$10\r\ninvalidate\r\n_\r\n");
    check("*-1\r\n");
}

#[test]
fn commands() {
    let check = |arguments: &[&[u8]], expected: &[u8]| {
        let mut out = b"before".to_vec();
        write_command(&mut out, arguments);
        assert_eq!(&out[6..], expected);
        let elements = arguments.iter().map(|argument| Reply::Bulk(Some(argument))).collect();
        assert_eq!(parse(expected, &RespLimits::default()), Ok(Some((Reply::Array(elements), expected.len()))));
    };
    check(&[b"PING"], b"*1\r\n$4\r\nPING\r\n");
    check(&[b"PUBLISH", b"c", b"a\r\n\xff"], b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$4\r\na\r\n\xff\r\n");
    check(&[b"SUBSCRIBE", &[b'x'; 300]], &[b"*2\r\n$9\r\nSUBSCRIBE\r\n$300\r\n", &[b'x'; 300][..], b"\r\n"].concat());
    check(&[b""], b"*1\r\n$0\r\n\r\n");
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(proptest::sample::select(&b"*>$:+-|%~_#,(=!0123\r\na"[..]), 0..64)) {
        if let Ok(Some((_, consumed))) = parse(&bytes, &small_limits()) {
            assert!(consumed <= bytes.len());
        }
        let reply = parse(&bytes, &small_limits()).map(|parsed| parsed.map(|(_, consumed)| consumed));
        let push = parse_push(&bytes, &small_limits()).map(|parsed| parsed.map(|(_, consumed)| consumed));
        assert_eq!(push.is_ok(), reply.is_ok());
        assert_eq!(push.ok().flatten(), reply.ok().flatten());
    }
}
