//! Encoder and decoder against tables and against each other.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::Moment,
    close::Close,
    event::{Event, EventId},
    frame::SseForm,
    gap::{Gap, GapReason},
    protocol::http::{ResponsePart, ResponseReader},
    topic::Topic,
};

const ID: EventId = EventId::new(1_768_068_834_227, 12);

fn event(kind: Option<&str>, data: &str) -> Event {
    let topic = Topic::parse("t").expect("a good name");
    Event::new(topic, ID, 1, kind, Bytes::copy_from_slice(data.as_bytes()), Moment::default())
}

fn forms() -> impl Iterator<Item = SseForm> {
    (0..8).map(|bits: u8| SseForm { named: bits & 1 != 0, chunked: bits & 2 != 0, with_id: bits & 4 != 0 })
}

/// What a decoder reports of `pieces`, one line an event: `id|type|data`.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Decoder) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for piece in pieces {
        let show = |message: SseMessage<'_>| {
            let [id, event] = [message.id, message.event].map(String::from_utf8_lossy);
            messages.push(format!("{id}|{event}|{}", message.text()));
        };
        decoder.receive(piece, show).expect("within the limit");
    }
    (messages, decoder)
}

/// Decodes whole, one byte at a time, and in every two pieces: the same each time.
fn check_decode(stream: impl AsRef<[u8]>, expected: &[&str]) -> Decoder {
    let stream = stream.as_ref();
    let shown = stream.escape_ascii();
    let (messages, decoder) = decode([stream]);
    assert_eq!(messages, expected, "{shown}");
    let facts = |decoder: &Decoder| (decoder.last_event_id().to_vec(), decoder.retry_ms(), decoder.comments());
    let mut others = vec![decode(stream.chunks(1))];
    others.extend((0..stream.len()).map(|at| decode([&stream[..at], b"", &stream[at..]])));
    for (others, other_decoder) in others {
        assert_eq!(others, expected, "{shown}");
        assert_eq!(facts(&other_decoder), facts(&decoder), "{shown}");
    }
    decoder
}

#[test]
fn frames() {
    let check = |kind: Option<&str>, data: &str, form: (bool, bool, bool), expected: &str| {
        let (named, chunked, with_id) = form;
        let frame = encode_event(&event(kind, data), SseForm { named, chunked, with_id });
        assert_eq!(std::str::from_utf8(&frame), Ok(expected));
    };
    let bare = (true, false, true);
    check(None, "{}", bare, "id: 1768068834227-12\ndata: {}\n\n");
    check(Some("alert"), "{}", bare, "id: 1768068834227-12\nevent: alert\ndata: {}\n\n");
    check(Some("alert"), "{}", (false, false, true), "id: 1768068834227-12\ndata: {}\n\n");
    check(Some("alert"), "{}", (true, false, false), "event: alert\ndata: {}\n\n");
    check(None, "{}", (true, true, false), "a\r\ndata: {}\n\n\r\n");
    check(None, "0123456789abcd", (true, true, false), "16\r\ndata: 0123456789abcd\n\n\r\n");
    let without = (false, false, false);
    check(None, "", without, "data: \n\n");
    check(None, "a\nb\r\nc\rd", without, "data: a\ndata: b\ndata: c\ndata: d\n\n");
    check(None, "\n", without, "data: \ndata: \n\n");
    check(None, "a\r\r\n\n", without, "data: a\ndata: \ndata: \ndata: \n\n");
    check(None, " id: 5", without, "data:  id: 5\n\n");
}

#[test]
fn a_frame_is_allocated_once_and_exactly() {
    for form in forms() {
        for data in ["", "x", "0123456789abcdef", "a\nb\r\nc", &"y".repeat(4_096)] {
            let frame = encode_event(&event(Some("kind"), data), form);
            assert_eq!(frame.len(), frame.capacity(), "{form:?} {data}");
        }
    }
}

#[test]
fn cursor_ids() {
    let check = |ids: &[EventId], chunked: bool, expected: &str| {
        let mut out = Vec::new();
        write_cursor_id(ids.iter().copied(), chunked, &mut out);
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
    };
    let id = |major, minor| EventId::new(major, minor);
    check(&[id(1, 2)], false, "id: 1-2\n");
    check(&[id(1, 2), id(0, 0), id(10, u64::MAX)], false, "id: 1-2,0-0,10-18446744073709551615\n");
    check(&[id(1, 2), id(3, 4)], true, "c\r\nid: 1-2,3-4\n\r\n");
    check(&[], true, "5\r\nid: \n\r\n");
    let marked = |text: &str| text.parse::<EventId>().expect("an id");
    check(&[marked("1-2~fedcba9876543210")], true, "19\r\nid: 1-2~fedcba9876543210\n\r\n");
    check(&[marked("1-2~f"), id(3, 4), marked("5-6~10")], true, "15\r\nid: 1-2~f,3-4,5-6~10\n\r\n");
    let mut out = Vec::new();
    write_place([id(1, 2), id(3, 4)].into_iter(), true, &mut out);
    assert_eq!(out, b"d\r\nid: 1-2,3-4\n\n\r\n");
}

#[test]
fn gaps() {
    let topic = Topic::parse("t").expect("a good name");
    let gap = Gap { from: EventId::new(7, 1), to: ID, reason: GapReason::Expired };
    let fields = r#""topic":"t","from":"7-1","to":"1768068834227-12","reason":"expired"}"#;
    for form in forms().filter(|form| !form.chunked) {
        let kind = if form.named { "" } else { r#""type":"gap","message":"events are missing here","# };
        let data = format!("data: {{{kind}{fields}");
        let id = if form.with_id { "id: 1768068834227-12\n" } else { "" };
        let mut out = Vec::new();
        write_gap(&topic, gap, form, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("{id}event: gap\n{data}\n\n"));
        // As an entry of a log it is the same block, and keeps its name where events have none.
        assert_eq!(encode_event(&Event::hole(topic.clone(), gap, 1, Moment::default()), form), out);
    }
}

#[test]
fn opening() {
    let check = |chunked: bool, expected: &str| {
        let mut out = Vec::new();
        write_open(chunked, "DATE", 2_345, &[("Access-Control-Allow-Origin", "*")], &mut out);
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
    };
    let head = "HTTP/1.1 200 OK\r\nDate: DATE\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
        X-Accel-Buffering: no\r\nAccess-Control-Allow-Origin: *\r\n";
    check(true, &format!("{head}Transfer-Encoding: chunked\r\n\r\ne\r\n:\nretry: 2345\n\r\n"));
    check(false, &format!("{head}Connection: close\r\n\r\n:\nretry: 2345\n"));
}

#[test]
fn ending() {
    let check = |chunked: bool, error: Option<&str>, expected: &str| {
        let mut out = Vec::new();
        write_final(chunked, 9, error, &mut out);
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
    };
    check(false, None, "retry: 9\n");
    check(false, Some("full"), "retry: 9\nevent: error\ndata: full\n\n");
    check(true, None, "9\r\nretry: 9\n\r\n0\r\n\r\n");
    check(true, Some("full"), "9\r\nretry: 9\n\r\n19\r\nevent: error\ndata: full\n\n\r\n0\r\n\r\n");
}

#[test]
fn whole_streams_through_the_http_client() {
    for form in forms() {
        let id = if form.with_id { "1768068834227-12" } else { "1-1,0-0" };
        let mut stream = Vec::new();
        write_open(form.chunked, "DATE", 700, &[], &mut stream);
        stream.extend_from_slice(heartbeat(form.chunked));
        if !form.with_id {
            let ids = [EventId::new(1, 1), EventId::default()];
            write_cursor_id(ids.into_iter(), form.chunked, &mut stream);
        }
        stream.extend_from_slice(&encode_event(&event(Some("kind"), "a\nb"), form));
        write_event(Some(ID), Some("gap"), "{}", form.chunked, &mut stream);
        write_final(form.chunked, 900, Some("restart"), &mut stream);

        let mut reader = ResponseReader::new();
        let mut decoder = Decoder::new();
        let (mut messages, mut ended) = (Vec::new(), false);
        let mut note = |part: ResponsePart<'_>| match part {
            ResponsePart::Head(head) => assert!(head.is_event_stream()),
            ResponsePart::Body(data) => {
                let show = |message: SseMessage<'_>| messages.push(format!("{message:?}"));
                decoder.receive(data, show).expect("within the limit");
            }
            ResponsePart::End => ended = true,
        };
        for piece in stream.chunks(3) {
            reader.receive(piece, &mut note).expect("a good response");
        }
        reader.finish(&mut note).expect("a whole response");
        let expected = [
            (id, if form.named { "kind" } else { "" }, "a\nb"),
            ("1768068834227-12", "gap", "{}"),
            ("1768068834227-12", "error", "restart"),
        ];
        let shown = expected.map(|(id, event, data)| {
            format!("{:?}", SseMessage { id: id.as_bytes(), event: event.as_bytes(), data: data.as_bytes() })
        });
        assert_eq!(messages, shown, "{form:?}");
        assert!(ended);
        assert_eq!((decoder.retry_ms(), decoder.comments()), (Some(900), 2));
    }
}

#[test]
fn line_ends_and_fields() {
    check_decode("data: a\n\n", &["||a"]);
    check_decode("data:a\n\n", &["||a"]);
    check_decode("data:  a\n\n", &["|| a"]);
    check_decode("data: a\r\ndata: b\r\n\r\n", &["||a\nb"]);
    check_decode("data: a\rdata: b\r\r", &["||a\nb"]);
    check_decode("data: a\r\r\n\ndata: b\n\n", &["||a", "||b"]);
    check_decode("data\n\n", &["||"]);
    check_decode("data:\n\n", &["||"]);
    check_decode("data\ndata\n\n", &["||\n"]);
    check_decode("event: x\ndata: a\n\ndata: b\n\n", &["|x|a", "||b"]);
    check_decode("event: x\nevent: y\ndata: a\n\n", &["|y|a"]);
    check_decode("event: x\nevent\ndata: a\n\n", &["||a"]);
    check_decode("data: a\nevent: x\ndata: b\n\n", &["|x|a\nb"]);
    check_decode("event: x\n\ndata: a\n\n", &["||a"]);
    check_decode("database: a\nDATA: b\n data: c\nid2\n\n", &[]);
    check_decode("data: a\n", &[]);
    check_decode("data: a:b\n\n", &["||a:b"]);
    check_decode("\n\n\n", &[]);
}

#[test]
fn ids() {
    assert_eq!(check_decode("id: 1\ndata: a\n\ndata: b\n\n", &["1||a", "1||b"]).last_event_id(), b"1");
    assert_eq!(check_decode("id: 1\n\ndata: b\n\n", &["1||b"]).last_event_id(), b"1");
    assert_eq!(check_decode("id: 1\ndata: a\n\nid\ndata: b\n\n", &["1||a", "||b"]).last_event_id(), b"");
    assert_eq!(check_decode("id: 1\ndata: a\n\nid: 2\ndata: cut", &["1||a"]).last_event_id(), b"1");
    assert_eq!(check_decode("id: 1\nid: 2\0\ndata: a\n\n", &["1||a"]).last_event_id(), b"1");
}

#[test]
fn comments_and_retry() {
    let decoder = check_decode(": hello\n:\nretry: 250\ndata: a\n\n:\n", &["||a"]);
    assert_eq!((decoder.comments(), decoder.retry_ms()), (3, Some(250)));
    for ignored in ["retry: 1s\n", "retry:\n", "retry: -1\n", "retry: +1\n", "retry:  1\n"] {
        assert_eq!(check_decode(ignored, &[]).retry_ms(), None, "{ignored}");
    }
    assert_eq!(check_decode("retry: 99999999999999999999\n", &[]).retry_ms(), Some(u64::MAX));
}

#[test]
fn marks_and_encodings() {
    check_decode("\u{feff}data: a\n\n", &["||a"]);
    check_decode("\u{feff}\u{feff}data: a\n\ndata: b\n\n", &["||b"]);
    check_decode("data: a\n\n\u{feff}data: b\n\n", &["||a"]);
    check_decode("\u{feff}\ndata: a\n\n", &["||a"]);
    check_decode("data: \u{e9}\u{1f600}\n\n", &["||\u{e9}\u{1f600}"]);
    check_decode(b"data: \xff\n\n", &["||\u{fffd}"]);
    check_decode(b"\xef\xbbdata: a\n\n", &[]);
}

#[test]
fn an_endless_event_is_refused() {
    let piece = vec![b'x'; 1 << 20];
    let endless = |first: &[u8], again: &[u8]| {
        let mut decoder = Decoder::new();
        decoder.receive(first, |_| {}).expect("within the limit");
        (0..20).try_for_each(|_| decoder.receive(&piece, |_| {}).and_then(|()| decoder.receive(again, |_| {})))
    };
    assert_eq!(endless(b"data: ", b""), Err(Close::MessageTooBig));
    assert_eq!(endless(b"data: ", b"\ndata: "), Err(Close::MessageTooBig));
    assert_eq!(endless(b"data: ", b"\n\ndata: "), Ok(()));
    let line = |bytes: usize| Decoder::new().receive(&vec![b'x'; bytes], |_| {});
    assert_eq!(line(16 << 20), Ok(()));
    assert_eq!(line((16 << 20) + 1), Err(Close::MessageTooBig));
}

#[test]
fn whole_events_are_not_copied() {
    let stream = b"id: 7\nevent: x\ndata: a\n\ndata: b\n\n";
    let mut count = 0;
    let check = |message: SseMessage<'_>| {
        count += 1;
        assert!(stream.as_ptr_range().contains(&message.data.as_ptr()));
    };
    Decoder::new().receive(stream, check).expect("within the limit");
    assert_eq!(count, 2);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        events in proptest::collection::vec(("[a-z]{1,5}", "[a-c:\r\n ]{0,20}"), 1..6),
        lengths in proptest::collection::vec(1..30_usize, 1..6),
    ) {
        let form = SseForm { named: true, chunked: false, with_id: true };
        let mut stream = Vec::new();
        for (kind, data) in &events {
            stream.extend_from_slice(&encode_event(&event(Some(kind), data), form));
        }
        let expected: Vec<String> = events
            .iter()
            .map(|(kind, data)| format!("{ID}|{kind}|{}", data.replace("\r\n", "\n").replace('\r', "\n")))
            .collect();
        let mut pieces = Vec::new();
        let mut rest = stream.as_slice();
        for length in lengths.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*length));
            pieces.push(piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decode(pieces).0, expected);
    }

    #[test]
    fn cuts_change_nothing(stream in "(data|id|event|retry|[a:\u{feff} \0\r\n]){0,40}") {
        let (whole, _) = decode([stream.as_bytes()]);
        prop_assert_eq!(&decode(stream.as_bytes().chunks(1)).0, &whole);
        prop_assert_eq!(&decode(stream.as_bytes().chunks(5)).0, &whole);
    }
}
