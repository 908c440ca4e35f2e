//! What a Redis server may say: RESP, versions 2 and 3.

use std::fmt::Write;

use fanfare_core::protocol::resp::{BadReply, Push, Reply, RespLimits, parse, parse_push, write_command};

use super::input::{Input, peak_bytes};

pub(super) const TOKENS: &[&str] = &[
    "\r\n",
    "*3\r\n",
    "*4\r\n",
    ">3\r\n",
    "$7\r\nmessage\r\n",
    "$8\r\npmessage\r\n",
    "$9\r\nsubscribe\r\n",
    "$1\r\na\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "$0\r\n\r\n",
    ":1\r\n",
    "+OK\r\n",
    "-ERR no\r\n",
    "%1\r\n",
    "~1\r\n",
    "|1\r\n",
    "_\r\n",
    "#t\r\n",
    ",1.5\r\n",
    ",inf\r\n",
    "(12345678901234567890\r\n",
    "!5\r\nE bad\r\n",
    "=5\r\ntxt:x\r\n",
    "9223372036854775807",
    "-9223372036854775808",
];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let limits = limits(input.knob);
    check_growth(&input, |bytes| show(parse(bytes, &limits)));
    check_growth(&input, |bytes| show(parse_push(bytes, &limits)));
    check_stream(input.payload, &limits);
    check_memory(input.payload, &limits);
    check_command(&input);
}

fn limits(knob: u8) -> RespLimits {
    match knob % 3 {
        0 => RespLimits { bulk_bytes_max: 8, line_bytes_max: 6, elements_max: 6, depth_max: 2 },
        1 => RespLimits { bulk_bytes_max: 100, line_bytes_max: 30, elements_max: 40, depth_max: 5 },
        _ => RespLimits::default(),
    }
}

/// What a pass over a buffer said, in a form that can be kept: NaN equals itself here.
type Shown = Result<Option<(String, usize)>, BadReply>;

/// The words are this file's own, and many more than the reply: they do not count as allocated.
fn show<T: std::fmt::Debug>(parsed: Result<Option<(T, usize)>, BadReply>) -> Shown {
    let parsed = parsed?;
    let mut shown = None;
    allocation_counter::opt_out(|| shown = parsed.as_ref().map(|(value, consumed)| (format!("{value:?}"), *consumed)));
    Ok(shown)
}

/// A verdict is final: a buffer that grows goes from "not yet" to one answer, and stays there. A reply is seen as soon as
/// its last byte is there.
fn check_growth(input: &Input<'_>, parse: impl Fn(&[u8]) -> Shown) {
    let whole = parse(input.payload);
    let mut grown = 0;
    for piece in input.pieces().take(100) {
        grown += piece.len();
        let now = parse(&input.payload[..grown]);
        assert!(now == Ok(None) || now == whole, "{now:?} at {grown} bytes, then {whole:?}");
    }
    if let Ok(Some((_, consumed))) = whole {
        assert_eq!(parse(&input.payload[..consumed]), whole);
        assert_eq!(parse(&input.payload[..consumed - 1]), Ok(None));
    }
}

/// Each reply of a stream means the same when it is written anew, and a push tells what the reply tells.
fn check_stream(mut bytes: &[u8], limits: &RespLimits) {
    while let Ok(Some((reply, consumed))) = parse(bytes, limits) {
        assert!((1..=bytes.len()).contains(&consumed));
        let mut again = Vec::new();
        write_reply(&reply, &mut again);
        let parsed =
            parse(&again, &ROOMY).map(|parsed| parsed.map(|(reply, consumed)| (format!("{reply:?}"), consumed)));
        assert_eq!(parsed, Ok(Some((format!("{reply:?}"), again.len()))));
        let push = parse_push(bytes, limits);
        let Ok(Some((push, push_consumed))) = push else { panic!("{reply:?} is a reply, but {push:?} a push") };
        assert_eq!(push_consumed, consumed);
        check_push(&push, &reply);
        bytes = &bytes[consumed..];
    }
}

/// Numbers may take more bytes than they came in.
const ROOMY: RespLimits =
    RespLimits { bulk_bytes_max: 1 << 20, line_bytes_max: 1 << 20, elements_max: 1 << 20, depth_max: 100 };

fn check_push(push: &Push<'_>, reply: &Reply<'_>) {
    let items = match reply {
        Reply::Array(items) | Reply::Push(items) => &items[..],
        _ => &[],
    };
    let bulks = |wanted: &[&[u8]]| {
        let told = items.iter().skip(1).zip(wanted);
        assert!(told.clone().all(|(item, wanted)| *item == Reply::Bulk(Some(wanted))), "{push:?} from {reply:?}");
        assert_eq!(items.len(), 1 + wanted.len());
    };
    match push {
        Push::Message { channel, payload } => bulks(&[channel, payload]),
        Push::PatternMessage { pattern, channel, payload } => bulks(&[pattern, channel, payload]),
        Push::Subscribed { channel: name, count }
        | Push::Unsubscribed { channel: name, count }
        | Push::PatternSubscribed { pattern: name, count }
        | Push::PatternUnsubscribed { pattern: name, count } => {
            assert_eq!(items[1..], [Reply::Bulk(Some(name)), Reply::Integer(*count)]);
        }
        Push::Other(other) => assert_eq!(format!("{other:?}"), format!("{reply:?}")),
    }
}

/// In the form of RESP3 that the value was understood as.
fn write_reply(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let mut list = |kind: char, items: &[Reply<'_>]| {
        out.extend_from_slice(format!("{kind}{}\r\n", items.len()).as_bytes());
        items.iter().for_each(|item| write_reply(item, out));
    };
    match reply {
        Reply::Array(items) => list('*', items),
        Reply::Push(items) => list('>', items),
        Reply::Set(items) => list('~', items),
        Reply::Map(pairs) => {
            out.extend_from_slice(format!("%{}\r\n", pairs.len()).as_bytes());
            for (key, value) in pairs {
                write_reply(key, out);
                write_reply(value, out);
            }
        }
        Reply::Bulk(Some(bytes)) => write_bulk('$', &[bytes], out),
        Reply::Verbatim { format, text } => write_bulk('=', &[format.as_bytes(), b":", text], out),
        Reply::Error(text) => write_bulk('!', &[text.as_bytes()], out),
        Reply::Simple(text) => write_line('+', text, out),
        Reply::BigNumber(digits) => write_line('(', digits, out),
        Reply::Integer(number) => write_line(':', number, out),
        Reply::Double(number) => write_line(',', number, out),
        Reply::Boolean(yes) => write_line('#', if *yes { "t" } else { "f" }, out),
        Reply::Bulk(None) => write_line('$', "-1", out),
        Reply::Null => write_line('_', "", out),
    }
}

fn write_bulk(kind: char, parts: &[&[u8]], out: &mut Vec<u8>) {
    let bytes = parts.concat();
    write_line(kind, bytes.len(), out);
    out.extend_from_slice(&bytes);
    out.extend_from_slice(b"\r\n");
}

fn write_line(kind: char, value: impl std::fmt::Display, out: &mut Vec<u8>) {
    let mut line = String::new();
    write!(line, "{kind}{value}\r\n").expect("a String takes every write");
    out.extend_from_slice(line.as_bytes());
}

/// What a header promises is never room enough: a pass takes memory for what is there, and for no more than its limits.
fn check_memory(bytes: &[u8], limits: &RespLimits) {
    const PER_ELEMENT: usize = 2 * size_of::<Reply<'_>>();
    let bound = PER_ELEMENT * limits.elements_max.min(limits.depth_max * (bytes.len() / 3 + 1)) + 1024;
    let peak = peak_bytes(|| drop(parse(bytes, limits)));
    assert!(peak <= bound, "{peak} bytes held, {bound} are allowed for by {limits:?}");
}

/// Any arguments make a command that reads as the list of them.
fn check_command(input: &Input<'_>) {
    let arguments: Vec<&[u8]> = input.pieces().take(100).collect();
    let mut bytes = Vec::new();
    write_command(&mut bytes, &arguments);
    let expected = Reply::Array(arguments.iter().map(|argument| Reply::Bulk(Some(argument))).collect());
    assert_eq!(parse(&bytes, &ROOMY), Ok(Some((expected, bytes.len()))));
}
