//! What a NATS server may say.

use fanfare_core::protocol::nats::{
    BadOperation, HeaderBlock, NatsLimits, Operation, ServerInfo, Subject, SubjectPattern, measure, parse,
    write_publish, write_publish_with_headers,
};

use super::input::{Input, peak_bytes};

pub(super) const TOKENS: &[&str] = &[
    "\r\n",
    "INFO {}\r\n",
    "INFO {\"max_payload\":1048576,\"headers\":true}\r\n",
    "MSG a 1 5\r\nhello\r\n",
    "MSG a.b 1 r 0\r\n\r\n",
    "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    "PING\r\n",
    "PONG\r\n",
    "+OK\r\n",
    "-ERR 'no'\r\n",
    "NATS/1.0\r\n",
    "NATS/1.0 503 No Responders\r\n",
    "K: v\r\n",
    ":",
    "msg",
    "\t",
    "  ",
    "'",
    "999999999999999999",
    "*",
    ">",
    ".",
];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let limits = match input.knob % 3 {
        0 => NatsLimits { line_bytes_max: 12, payload_bytes_max: 4, header_bytes_max: 4 },
        1 => NatsLimits { line_bytes_max: 60, payload_bytes_max: 40, header_bytes_max: 20 },
        _ => NatsLimits::default(),
    };
    check_growth(&input, &limits);
    check_stream(input.payload, &limits);
    check_oversize(input.payload, &limits);
    check_headers(input.payload);
    let peak = peak_bytes(|| assert!(parse(input.payload, &limits).is_ok() || !input.payload.is_empty()));
    assert_eq!(peak, 0, "operations are borrowed");
    if let Ok(text) = std::str::from_utf8(input.payload) {
        check_subject(text);
    }
}

/// What a pass over a buffer said, in a form that can be kept.
type Shown = Result<Option<(String, usize)>, BadOperation>;

fn show(bytes: &[u8], limits: &NatsLimits) -> Shown {
    Ok(parse(bytes, limits)?.map(|(operation, consumed)| (format!("{operation:?}"), consumed)))
}

/// A verdict is final: a buffer that grows goes from "not yet" to one answer, and stays there. An operation is seen as soon
/// as its last byte is there.
fn check_growth(input: &Input<'_>, limits: &NatsLimits) {
    let whole = show(input.payload, limits);
    let mut grown = 0;
    for piece in input.pieces().take(100) {
        grown += piece.len();
        let now = show(&input.payload[..grown], limits);
        assert!(now == Ok(None) || now == whole, "{now:?} at {grown} bytes, then {whole:?}");
    }
    if let Ok(Some((_, consumed))) = whole {
        assert_eq!(show(&input.payload[..consumed], limits), whole);
        assert_eq!(show(&input.payload[..consumed - 1], limits), Ok(None));
    }
}

/// A message is within its limits, and means the same when it is published and delivered anew.
fn check_stream(mut bytes: &[u8], limits: &NatsLimits) {
    while let Ok(Some((operation, consumed))) = parse(bytes, limits) {
        assert!((1..=bytes.len()).contains(&consumed));
        match operation {
            Operation::Message(message) => {
                assert!(message.payload.len() <= limits.payload_bytes_max);
                assert!(message.headers.map_or(0, <[u8]>::len) <= limits.header_bytes_max);
                message.headers.into_iter().for_each(check_headers);
                if let Some(subject) =
                    std::str::from_utf8(message.subject).ok().and_then(|text| Subject::parse(text).ok())
                {
                    check_published(&subject, message.payload);
                }
            }
            // Whatever it is, reading it does not panic.
            Operation::Info(json) => drop(ServerInfo::parse(json)),
            Operation::Error(reason) => assert!(reason.len() <= limits.line_bytes_max),
            Operation::Ping | Operation::Pong | Operation::Ok => {}
        }
        bytes = &bytes[consumed..];
    }
}

/// What is over the limits is measured by its head, and takes more than the limits allow.
fn check_oversize(bytes: &[u8], limits: &NatsLimits) {
    let is_oversize = parse(bytes, limits) == Err(BadOperation::PayloadTooLong);
    let measured = measure(bytes, limits);
    assert_eq!(measured.is_some(), is_oversize);
    assert!(measured.is_none_or(|message| limits.payload_bytes_max.min(limits.header_bytes_max) < message.bytes));
}

/// Reading headers never fails, and what is read stands in the block.
fn check_headers(block: &[u8]) {
    let headers = HeaderBlock::new(block);
    assert!(headers.status().is_none_or(|(status, text)| status < 1000 && text.len() < block.len()));
    let read_bytes: usize = headers.lines().map(|(name, value)| name.len() + value.len() + 1).sum();
    assert!(read_bytes <= block.len());
    if let Some((name, value)) = headers.lines().next()
        && let Ok(name) = std::str::from_utf8(name)
    {
        assert_eq!(headers.get(name), Some(value));
    }
}

/// A server puts the subscription's id behind the subject, and passes on what was published.
fn check_published(subject: &Subject, payload: &[u8]) {
    let mut out = Vec::new();
    write_publish(subject, None, payload, &mut out);
    let delivered = deliver(&out, "PUB ", "MSG ", subject);
    let Ok(Some((Operation::Message(message), length))) = parse(&delivered, &NatsLimits::default()) else {
        panic!("{}", delivered.escape_ascii());
    };
    assert_eq!((message.subject, message.sid, message.payload), (subject.as_str().as_bytes(), 7, payload));
    assert_eq!((message.reply_to, message.headers, length), (None, None, delivered.len()));
    out.clear();
    write_publish_with_headers(subject, None, &[("A", "b")], payload, &mut out);
    let delivered = deliver(&out, "HPUB ", "HMSG ", subject);
    let Ok(Some((Operation::Message(message), length))) = parse(&delivered, &NatsLimits::default()) else {
        panic!("{}", delivered.escape_ascii());
    };
    assert_eq!((message.headers, message.payload), (Some(&b"NATS/1.0\r\nA: b\r\n\r\n"[..]), payload));
    assert_eq!(length, delivered.len());
}

fn deliver(published: &[u8], word: &str, delivered_word: &str, subject: &Subject) -> Vec<u8> {
    let begin = format!("{word}{subject}");
    let rest = published.strip_prefix(begin.as_bytes()).expect("a publication begins so");
    [format!("{delivered_word}{subject} 7").as_bytes(), rest].concat()
}

/// A subject is a pattern that matches itself alone, and what is accepted cannot end its line.
fn check_subject(text: &str) {
    let (subject, pattern) = (Subject::parse(text), SubjectPattern::parse(text));
    if let Ok(subject) = &subject {
        assert_eq!(pattern, Ok(subject.clone().into()));
    }
    if let Ok(pattern) = pattern {
        assert!(!pattern.as_str().contains(['\r', '\n', ' ', '\t']));
    }
}
