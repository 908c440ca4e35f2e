//! What brokers and servers say to the hub and its tools.

use fanfare_core::{
    event::EventId,
    protocol::{nats, resp, sse::Decoder, websocket, websocket::client::FrameReader},
    topic::{Pattern, Topic},
};

use super::{check, shapes};

#[test]
fn replies_of_redis() {
    let limits = resp::RespLimits { elements_max: usize::MAX, depth_max: 1 << 20, ..resp::RespLimits::default() };
    let arrays = |bytes: usize| {
        let count = bytes / 4;
        format!("*{count}\r\n{}", ":1\r\n".repeat(count))
    };
    check("an array of numbers", 16 * 1024, 40, arrays, |bytes| drop(resp::parse(bytes.as_bytes(), &limits)));
    let bulk = |bytes: usize| format!("*1\r\n${bytes}\r\n{}\r\n", "x".repeat(bytes));
    check("a bulk", 16 * 1024, 1, bulk, |bytes| {
        // It is asked again each time that more has come.
        (0..bytes.len()).step_by(64).for_each(|end| drop(resp::parse_push(&bytes.as_bytes()[..end], &limits)));
    });
    let pushes = |bytes: usize| shapes::repeated("", ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", "", bytes);
    check("messages", 16 * 1024, 1, pushes, |text| {
        let mut rest = text.as_bytes();
        while let Ok(Some((_, bytes))) = resp::parse_push(rest, &limits) {
            rest = &rest[bytes..];
        }
    });
}

#[test]
fn operations_of_nats() {
    let limits = nats::NatsLimits::default();
    let read = |text: &String| {
        let mut rest = text.as_bytes();
        while let Ok(Some((_, bytes))) = nats::parse(rest, &limits) {
            rest = &rest[bytes..];
        }
    };
    for part in ["PING\r\n", "+OK\r\n", "MSG a 1 1\r\nx\r\n", "HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n"] {
        check(part, 16 * 1024, 8, |bytes| shapes::repeated("", part, "", bytes), read);
    }
    for part in ["A: b\r\n", "no colon\r\n", "\n", "\r", ":"] {
        let block = |bytes| shapes::repeated("NATS/1.0\r\n", part, "\r\n", bytes);
        check(part, 16 * 1024, 8, block, |text| {
            assert_eq!(nats::HeaderBlock::new(text.as_bytes()).get("none"), None);
        });
    }
}

#[test]
fn event_streams() {
    let shapes = [
        ("lines of data", "data:\n"),
        ("comments", ":\n"),
        ("events", "data:\n\n"),
        ("ids", "id:1\n"),
        ("breaks", "\r"),
        ("names", "event:a\n"),
        ("one long line", "x"),
    ];
    for (name, part) in shapes {
        let stream = |bytes: usize| shapes::repeated("data:", part, "\n\n", bytes);
        for read_bytes in [1, 64 * 1024] {
            check(&format!("{name}, {read_bytes} bytes a read"), 16 * 1024, 6, stream, |text| {
                let mut decoder = Decoder::new();
                for read in text.as_bytes().chunks(read_bytes) {
                    // A line that is too long ends it.
                    let _ = decoder.receive(read, |_| {});
                }
            });
        }
    }
}

#[test]
fn frames_of_a_server() {
    let limits = websocket::WebSocketLimits { message_bytes_max: usize::MAX, ..websocket::WebSocketLimits::default() };
    let frames = |bytes: usize| websocket::encode_text(&[b'x'].repeat(bytes));
    check("a frame byte by byte", 16 * 1024, 6, frames, |frame| {
        let mut reader = FrameReader::new();
        frame.chunks(1).for_each(|byte| reader.receive(byte, &limits, |_| {}).expect("a good frame"));
    });
}

/// Names are short, patterns may be long: neither is gone through more than once for the other.
#[test]
fn names_and_patterns() {
    let topic = Topic::parse(&["a"; 128].join(".")).expect("a good name");
    let pattern = |bytes: usize| Pattern::parse(&vec!["*"; bytes / 2].join(".")).expect("a good pattern");
    check("a pattern of stars", 16 * 1024, 1, pattern, |pattern| {
        (0..64).for_each(|_| assert!(!pattern.matches(&topic)));
    });
    let ids = |bytes: usize| "1".repeat(bytes);
    check("an id", 16 * 1024, 1, ids, |text| _ = text.parse::<EventId>());
}
