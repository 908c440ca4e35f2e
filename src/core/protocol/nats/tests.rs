use super::*;

/// The operations in `bytes`, which must be the same in pieces of any size; or the fault.
fn operations(bytes: &[u8]) -> Result<Vec<String>, BadOperation> {
    let limits = NatsLimits { line_bytes_max: 100, payload_bytes_max: 20, header_bytes_max: 16 };
    let read = |piece_bytes: usize| {
        let (mut held, mut told) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece_bytes) {
            held.extend_from_slice(piece);
            while let Some((operation, length)) = parse(&held, &limits)? {
                told.push(format!("{operation:?}"));
                held.drain(..length);
            }
        }
        if !held.is_empty() {
            told.push(format!("… {}", held.escape_ascii()));
        }
        Ok(told)
    };
    let whole = read(bytes.len().max(1));
    for piece_bytes in 1..bytes.len() {
        assert_eq!(read(piece_bytes), whole, "in pieces of {piece_bytes}");
    }
    whole
}

#[test]
fn a_server_is_understood() {
    let check = |bytes: &str, expected: &[Operation<'_>]| {
        let expected: Vec<String> = expected.iter().map(|operation| format!("{operation:?}")).collect();
        assert_eq!(operations(bytes.as_bytes()), Ok(expected), "{bytes:?}");
    };
    let message = |subject: &'static str,
                   sid,
                   reply_to: Option<&'static str>,
                   headers: Option<&'static str>,
                   payload: &'static str| {
        let (headers, payload) = (headers.map(str::as_bytes), payload.as_bytes());
        let (subject, reply_to) = (subject.as_bytes(), reply_to.map(str::as_bytes));
        Operation::Message(NatsMessage { subject, sid, reply_to, headers, payload })
    };
    check(
        "INFO {\"a\": 1}\r\n+OK\r\nPING\r\nPONG\r\n",
        &[Operation::Info("{\"a\": 1}"), Operation::Ok, Operation::Ping, Operation::Pong],
    );
    check("-ERR 'No Such Thing'\r\n-ERR plain\r\n", &[Operation::Error("No Such Thing"), Operation::Error("plain")]);
    check("MSG a.b 9 5\r\nhello\r\n", &[message("a.b", 9, None, None, "hello")]);
    check("msg\ta.b  9 back 0 \r\n\r\nping\r\n", &[message("a.b", 9, Some("back"), None, ""), Operation::Ping]);
    let longest = "MSG a 1 20\r\n01234567890123456789\r\n";
    check(longest, &[message("a", 1, None, None, "01234567890123456789")]);
    check("MSG a 1 4\r\n\r\n\r\n\r\n", &[message("a", 1, None, None, "\r\n\r\n")]);
    check("HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", &[message("a", 1, None, Some("NATS/1.0\r\n\r\n"), "hi")]);
    check("HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n", &[message("a", 1, Some("r"), Some("NATS/1.0\r\n\r\n"), "")]);
}

#[test]
fn what_is_not_all_there_is_awaited() {
    for bytes in ["", "PIN", "PING", "PING\r", "MSG a 1 5\r\nhell", "MSG a 1 5\r\nhello\r", "INFO {"] {
        assert_eq!(parse(bytes.as_bytes(), &NatsLimits::default()), Ok(None), "{bytes:?}");
    }
}

#[test]
fn nonsense_is_refused() {
    let check = |bytes: &str, expected| assert_eq!(operations(bytes.as_bytes()), Err(expected), "{bytes:?}");
    check("HELLO\r\n", BadOperation::UnknownWord);
    check("\r\n", BadOperation::UnknownWord);
    check("HTTP/1.1 400 Bad Request\r\n", BadOperation::UnknownWord);
    check("PING\rx", BadOperation::MissingLineEnd);
    check("MSG\r\n", BadOperation::BadArguments);
    check("MSG a 5\r\nhello\r\n", BadOperation::BadArguments);
    check("MSG a 1 r x 5\r\nhello\r\n", BadOperation::BadArguments);
    check("HMSG a 1 5\r\nhello\r\n", BadOperation::BadArguments);
    check("MSG a 1 -5\r\n", BadOperation::BadLength);
    check("MSG a 1 +5\r\n", BadOperation::BadLength);
    check("MSG a 1 9999999999999999999\r\n", BadOperation::BadLength);
    check("HMSG a 1 6 5\r\nhello\r\n", BadOperation::BadLength);
    check("MSG a 1 21\r\n", BadOperation::PayloadTooLong);
    check("MSG a 1 999999999999999999\r\n", BadOperation::PayloadTooLong);
    check("MSG a 1 0000000000000000001\r\n", BadOperation::BadLength);
    check("MSG a 1 5\r\nhello!\r\n", BadOperation::MissingLineEnd);
    check(&"x".repeat(102), BadOperation::LineTooLong);
    check("MSG a b 5\r\nhello\r\n", BadOperation::BadArguments);
    check("HMSG a 1 17 17\r\n", BadOperation::PayloadTooLong);
    check("HMSG a 1 1 22\r\n", BadOperation::PayloadTooLong);
    assert_eq!(operations(b"INFO \xff\r\n"), Err(BadOperation::NotUtf8));
}

/// Any client can publish any bytes.
#[test]
fn what_is_no_text_is_no_fault() {
    let message = |subject, headers, payload| {
        let (sid, reply_to) = (1, Some(&b"\xFE"[..]));
        format!("{:?}", Operation::Message(NatsMessage { subject, sid, reply_to, headers, payload }))
    };
    assert_eq!(operations(b"MSG a\xFF 1 \xFE 1\r\n\xFD\r\n"), Ok(vec![message(b"a\xFF", None, b"\xFD")]));
    assert_eq!(operations(b"HMSG a 1 \xFE 2 2\r\n\xFC:\r\n"), Ok(vec![message(b"a", Some(&b"\xFC:"[..]), b"")]));
    assert_eq!(operations(b"-ERR 'ab\xFFc'\r\n"), Ok(vec![format!("{:?}", Operation::Error("'ab"))]));
}

#[test]
fn a_message_over_the_limits_is_measured_by_its_head() {
    let limits = NatsLimits { line_bytes_max: 100, payload_bytes_max: 20, header_bytes_max: 16 };
    let check = |head: &str, expected: Option<(&str, u64, Option<&str>, usize)>| {
        let measured = measure(head.as_bytes(), &limits);
        let expected = expected.map(|(subject, sid, reply_to, bytes)| {
            let (subject, reply_to) = (subject.as_bytes(), reply_to.map(str::as_bytes));
            OversizeMessage { subject, sid, reply_to, bytes }
        });
        assert_eq!(measured, expected, "{head:?}");
        assert_eq!(
            parse(head.as_bytes(), &limits) == Err(BadOperation::PayloadTooLong),
            measured.is_some(),
            "{head:?}"
        );
    };
    check("MSG a.b 7 21\r\n", Some(("a.b", 7, None, 14 + 21 + 2)));
    check("msg a 7 r 21\r\n01234", Some(("a", 7, Some("r"), 14 + 21 + 2)));
    check("HMSG a 7 17 18\r\n", Some(("a", 7, None, 16 + 18 + 2)));
    check("HMSG a 7 r 16 37\r\n", Some(("a", 7, Some("r"), 18 + 37 + 2)));
    check("MSG a 7 999999999999999999\r\n", Some(("a", 7, None, 28 + 999_999_999_999_999_999 + 2)));
    check("HMSG a 7 16 36\r\n", None);
    check("MSG a 7 20\r\n", None);
    check("MSG a 7 21\r", None);
    check("MSG a 21\r\n", None);
    check("PING\r\n", None);
    check("", None);
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let subjects = ["a".repeat(subject::SUBJECT_BYTES_MAX + 1), "a b".to_owned(), "a..b".to_owned()];
    let told = subjects.map(|text| Subject::parse(&text).expect_err("no subject").to_string());
    let lines = ["HELLO\r\n", "PING\rx", "MSG\r\n", "MSG a 1 -5\r\n", "MSG a 1 21\r\n"];
    let told: Vec<String> = told
        .into_iter()
        .chain(lines.map(|line| operations(line.as_bytes()).expect_err("nonsense").to_string()))
        .collect();
    for text in &told {
        assert!(10 < text.len() && told.iter().filter(|other| *other == text).count() == 1, "{told:?}");
    }
}

#[test]
fn a_line_of_the_longest_length_is_taken() {
    let line = format!("INFO {}\r\n", "x".repeat(95));
    assert_eq!(operations(line.as_bytes()).expect("just short enough").len(), 1);
    let line = format!("INFO {}\r\n", "x".repeat(96));
    assert_eq!(operations(line.as_bytes()), Err(BadOperation::LineTooLong));
}

#[test]
fn a_server_introduces_itself() {
    let text = r#"{"server_id":"X","version":"2.9.10","headers":true,"max_payload":1048576,"auth_required":true}"#;
    let info = ServerInfo::parse(text).expect("well-formed");
    assert_eq!((info.version.as_str(), info.max_payload, info.headers), ("2.9.10", 1 << 20, true));
    assert!(info.auth_required && !info.tls_required && !info.tls_available && info.nonce.is_none());
    let info = ServerInfo::parse(r#"{"nonce":"abc","tls_available":true,"xkey":"X"}"#).expect("well-formed");
    assert_eq!((info.nonce.as_deref(), info.tls_available, info.max_payload), (Some("abc"), true, 0));
    for bad in ["", "x", "[1]", r#"{"max_payload":"a"}"#] {
        assert!(ServerInfo::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn subjects() {
    let check = |text: &str, is_subject: bool, is_pattern: bool| {
        assert_eq!(Subject::parse(text).is_ok(), is_subject, "{text:?}");
        assert_eq!(SubjectPattern::parse(text).is_ok(), is_pattern, "{text:?}");
    };
    check("a", true, true);
    check("a.b-c_d:e/f", true, true);
    check("größe.1", true, true);
    assert_eq!(Subject::parse("a.b").map(|subject| subject.as_str().to_owned()), Ok("a.b".to_owned()));
    check(&"a".repeat(subject::SUBJECT_BYTES_MAX), true, true);
    for pattern in ["*", ">", "a.*.b", "a.>"] {
        check(pattern, false, true);
    }
    let long = "a".repeat(subject::SUBJECT_BYTES_MAX + 1);
    for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nPUB", "a\0", "a*", ">.a", "a.b>", &long] {
        check(bad, false, false);
    }
}

#[test]
fn what_a_client_says() {
    let subject = |name: &str| Subject::parse(name).expect("a subject");
    let pattern = |text: &str| SubjectPattern::parse(text).expect("a pattern");
    let check = |write: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    };
    check(&|out| write_publish(&subject("a.b"), None, b"hi\r\n", out), "PUB a.b 4\r\nhi\r\n\r\n");
    check(&|out| write_publish(&subject("a"), Some(&subject("r")), b"", out), "PUB a r 0\r\n\r\n");
    check(
        &|out| write_publish_with_headers(&subject("a"), None, &[("K", "v"), ("L", "")], b"hi", out),
        "HPUB a 23 25\r\nNATS/1.0\r\nK: v\r\nL: \r\n\r\nhi\r\n",
    );
    check(
        &|out| write_publish_with_block(&subject("a"), Some(&subject("r")), b"NATS/1.0\r\nK: v\r\n\r\n", b"hi", out),
        "HPUB a r 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nhi\r\n",
    );
    check(&|out| write_subscribe(&pattern("a.>"), None, 7, out), "SUB a.> 7\r\n");
    check(&|out| write_subscribe(&subject("a").into(), Some(&subject("q")), 7, out), "SUB a q 7\r\n");
    check(&|out| write_unsubscribe(7, None, out), "UNSUB 7\r\n");
    check(&|out| write_unsubscribe(7, Some(2), out), "UNSUB 7 2\r\n");
}

#[test]
fn who_connects_says_who_it_is() {
    let connect = |login: Option<&NatsLogin>| {
        let mut out = Vec::new();
        write_connect(&ConnectOptions { name: "a\"b", login, ..ConnectOptions::default() }, &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        let json = text.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix("\r\n")).expect("one line");
        serde_json::from_str::<serde_json::Value>(json).expect("JSON")
    };
    let user = NatsLogin::User { user: "ada".into(), password: "pa\r\nss".into() };
    let plain = connect(None);
    assert_eq!((&plain["name"], &plain["verbose"], &plain["headers"]), (&"a\"b".into(), &false.into(), &true.into()));
    assert!(plain.get("user").is_none() && plain.get("auth_token").is_none());
    let login = connect(Some(&user));
    assert_eq!((&login["user"], &login["pass"]), (&"ada".into(), &"pa\r\nss".into()));
    assert_eq!(connect(Some(&NatsLogin::Token("t".into())))["auth_token"], "t");
    let (public_key, jwt, signature) = ("U".to_owned(), "J".to_owned(), "S".to_owned());
    let login = connect(Some(&NatsLogin::Nkey { public_key, signature: signature.clone() }));
    assert_eq!((&login["nkey"], &login["sig"], login.get("jwt")), (&"U".into(), &"S".into(), None));
    let login = connect(Some(&NatsLogin::Jwt { jwt, signature }));
    assert_eq!((&login["jwt"], &login["sig"], login.get("nkey")), (&"J".into(), &"S".into(), None));
    let mut out = Vec::new();
    write_connect(&ConnectOptions { is_tls: true, wants_no_responders: true, ..ConnectOptions::default() }, &mut out);
    let text = String::from_utf8(out).expect("ASCII");
    assert!(text.contains(r#""tls_required":true"#) && text.contains(r#""no_responders":true"#), "{text}");
}
