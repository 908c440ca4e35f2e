//! Packets, attachments, events and offsets against tables.

use bytes::Bytes;

use crate::{
    clock::Moment,
    event::{Event, EventId},
    frame::SocketIoForm,
    gap::{Gap, GapReason},
    protocol::websocket::{EncodedFrame, EncodedKind},
    topic::Topic,
};

use super::{
    binary::{extract_attachments, inline_attachments},
    *,
};

const JSON: &str = "a payload is JSON";
const TYPE: &str = "a packet's type is a digit from 0 to 6";
const CONNECT: &str = "the payload of a CONNECT is an object";
const ARRAY: &str = "the payload of an event is an array that is not empty";
const NAME: &str = "the name of an event is a string or a number";
const RESERVED: &str = "the name of the event is reserved";
const ACK: &str = "the payload of an ACK is an array";
const ACK_ID: &str = "an ACK has an id";
const ID: &str = "an acknowledgement's id has at most 15 digits";
const REFUSAL: &str = "the payload of a CONNECT_ERROR is an object or a string";
const COUNT: &str = "the number of attachments is a positive number";
const NO_COUNT: &str = "a binary packet gives its number of attachments";
const TOO_MANY: &str = "too many attachments";

#[test]
fn packets() {
    let check = |text: &str, kind, attachments, namespace, ack, data| {
        let expected = SocketIoPacket { kind, attachments, namespace, ack, data };
        assert_eq!(SocketIoPacket::parse(text, 10), Ok(expected), "{text}");
    };
    check("0", SocketIoPacketKind::Connect, 0, "/", None, None);
    check("0{\"token\":\"1\"}", SocketIoPacketKind::Connect, 0, "/", None, Some("{\"token\":\"1\"}"));
    check("0/admin", SocketIoPacketKind::Connect, 0, "/admin", None, None);
    check("0/admin,", SocketIoPacketKind::Connect, 0, "/admin", None, None);
    check("0/admin,{}", SocketIoPacketKind::Connect, 0, "/admin", None, Some("{}"));
    check("0/admin?x=1&y=2,{}", SocketIoPacketKind::Connect, 0, "/admin", None, Some("{}"));
    check("0/?x=1", SocketIoPacketKind::Connect, 0, "/", None, None);
    check("0/a/b-c.é,", SocketIoPacketKind::Connect, 0, "/a/b-c.é", None, None);
    check("1", SocketIoPacketKind::Disconnect, 0, "/", None, None);
    check("1/admin,", SocketIoPacketKind::Disconnect, 0, "/admin", None, None);
    check("2[\"foo\"]", SocketIoPacketKind::Event, 0, "/", None, Some("[\"foo\"]"));
    check("2 [ \"foo\" , 1 ] ", SocketIoPacketKind::Event, 0, "/", None, Some("[ \"foo\" , 1 ]"));
    check("212[\"foo\"]", SocketIoPacketKind::Event, 0, "/", Some(12), Some("[\"foo\"]"));
    check("20[\"foo\"]", SocketIoPacketKind::Event, 0, "/", Some(0), Some("[\"foo\"]"));
    check("2999999999999999[\"foo\"]", SocketIoPacketKind::Event, 0, "/", Some(999_999_999_999_999), Some("[\"foo\"]"));
    check("2/admin,[\"bar\"]", SocketIoPacketKind::Event, 0, "/admin", None, Some("[\"bar\"]"));
    check("2/admin,13[\"bar\"]", SocketIoPacketKind::Event, 0, "/admin", Some(13), Some("[\"bar\"]"));
    check("2[1,2]", SocketIoPacketKind::Event, 0, "/", None, Some("[1,2]"));
    check("2[-1.5e3]", SocketIoPacketKind::Event, 0, "/", None, Some("[-1.5e3]"));
    check("2[\"\"]", SocketIoPacketKind::Event, 0, "/", None, Some("[\"\"]"));
    check("2[\"Connect\"]", SocketIoPacketKind::Event, 0, "/", None, Some("[\"Connect\"]"));
    check("312[]", SocketIoPacketKind::Ack, 0, "/", Some(12), Some("[]"));
    check("3/admin,13[\"bar\"]", SocketIoPacketKind::Ack, 0, "/admin", Some(13), Some("[\"bar\"]"));
    check("4{\"message\":\"no\"}", SocketIoPacketKind::ConnectError, 0, "/", None, Some("{\"message\":\"no\"}"));
    check("4/admin,\"no\"", SocketIoPacketKind::ConnectError, 0, "/admin", None, Some("\"no\""));
    let one = "[\"baz\",{\"_placeholder\":true,\"num\":0}]";
    check(&format!("51-{one}"), SocketIoPacketKind::BinaryEvent, 1, "/", None, Some(one));
    check(&format!("51-14{one}"), SocketIoPacketKind::BinaryEvent, 1, "/", Some(14), Some(one));
    check(&format!("510-/admin,{one}"), SocketIoPacketKind::BinaryEvent, 10, "/admin", None, Some(one));
    check(&format!("61-15{one}"), SocketIoPacketKind::BinaryAck, 1, "/", Some(15), Some(one));
}

#[test]
fn packets_refused() {
    let check = |text: &str, rule: &'static str| {
        assert_eq!(SocketIoPacket::parse(text, 10), Err(BadSocketIoPacket(rule)), "{text}");
    };
    check("", "a packet begins with its type");
    check("7", TYPE);
    check("abc", TYPE);
    check("é", TYPE);
    check("0[]", CONNECT);
    check("0\"token\"", CONNECT);
    check("0null", CONNECT);
    check("0{", JSON);
    check("0{}{}", JSON);
    check("0/admin,{\"a\":}", JSON);
    check("1{}", "a DISCONNECT has no payload");
    check("1/admin,[]", "a DISCONNECT has no payload");
    check("2", ARRAY);
    check("2/admin,", ARRAY);
    check("2/admin", ARRAY);
    check("212", ARRAY);
    check("2[]", ARRAY);
    check("2{}", ARRAY);
    check("2\"foo\"", ARRAY);
    check("2[\"foo\"", JSON);
    check("2[\"foo\",]", JSON);
    check("2[\"foo\"]]", JSON);
    check("2[\"foo\"]x", JSON);
    check("2[null]", NAME);
    check("2[true]", NAME);
    check("2[[\"foo\"]]", NAME);
    check("2[{\"a\":1}]", NAME);
    for name in RESERVED_NAMES {
        check(&format!("2[\"{name}\"]"), RESERVED);
        check(&format!("2/admin,7[\"{name}\",1]"), RESERVED);
    }
    check("2[\"c\\u006fnnect\"]", RESERVED);
    check("21234567890123456[\"foo\"]", ID);
    check("2-1[\"foo\"]", ARRAY);
    check("312", ACK);
    check("312{}", ACK);
    check("3[]", ACK_ID);
    check("4", REFUSAL);
    check("4[]", REFUSAL);
    check("5[\"foo\"]", NO_COUNT);
    check("5-[\"foo\"]", COUNT);
    check("50-[\"foo\"]", COUNT);
    check("5x-[\"foo\"]", COUNT);
    check("5+1-[\"foo\"]", COUNT);
    check("51.5-[\"foo\"]", COUNT);
    check("511-[\"foo\"]", TOO_MANY);
    check("5999999999999999-[\"foo\"]", TOO_MANY);
    check("59999999999999999999-[\"foo\"]", COUNT);
    check("51-", ARRAY);
    check("61-[\"foo\"]", ACK_ID);
    check("61-15{}", ACK);
}

/// No cut of a good packet is anything but a shorter good one or an error.
#[test]
fn packets_cut_anywhere() {
    let text = "52-/admin,13[\"é\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    assert!(SocketIoPacket::parse(text, 10).is_ok());
    for (cut, _) in text.char_indices() {
        assert!(SocketIoPacket::parse(&text[..cut], 10).is_err(), "{}", &text[..cut]);
    }
}

#[test]
fn events_come_apart() {
    let check = |data: &str, name: &str, args: &[&str]| {
        let (found, list) = event_of(data).expect("it is an event");
        assert_eq!((&*found, list.collect::<Vec<_>>()), (name, args.to_vec()), "{data}");
    };
    check("[\"a\"]", "a", &[]);
    check(" [ \"a\" ] ".trim(), "a", &[]);
    check("[\"a\",1]", "a", &["1"]);
    check("[\"a\" , 1 ,\t\"2\",\n{\"3\":[true, null]}, []]", "a", &["1", "\"2\"", "{\"3\":[true, null]}", "[]"]);
    check("[\"a\",\"],[\",{\"]\":\"\\\"\"}]", "a", &["\"],[\"", "{\"]\":\"\\\"\"}"]);
    check("[7,true,false,null]", "7", &["true", "false", "null"]);
    check("[\"\\u0061\\n\",1.50]", "a\n", &["1.50"]);
    check("[\"é🎺\",\"é\"]", "é🎺", &["\"é\""]);
    for bad in ["", "[]", "{}", "7"] {
        assert_eq!(event_of(bad), None, "{bad}");
    }
    assert_eq!(Args::from_array("[1, [2] ]").collect::<Vec<_>>(), ["1", "[2]"]);
    assert_eq!(Args::from_array("[ ]").next(), None);
    assert_eq!(Args::from_list("").next(), None);
}

#[test]
fn attachments_come_in() {
    let first = [1, 2, 3, 4].to_vec();
    let second = Vec::new();
    let check = |json: &str, attachments: &[Vec<u8>], expected: Result<&str, &'static str>| {
        let inlined = inline_attachments(json, attachments);
        assert_eq!(inlined.as_deref().map_err(|BadSocketIoPacket(rule)| *rule), expected, "{json}");
    };
    let one = std::slice::from_ref(&first);
    let both = [first.clone(), second];
    check("[\"a\"]", &[], Ok("[\"a\"]"));
    check("[\"a\",{\"_placeholder\":true,\"num\":0}]", one, Ok("[\"a\",{\"$binary\":\"AQIDBA==\"}]"));
    check("[{ \"num\" : 0 , \"_placeholder\" : true }]", one, Ok("[{\"$binary\":\"AQIDBA==\"}]"));
    check(
        "[{\"b\":[{\"_placeholder\":true,\"num\":1}],\"a\":{\"_placeholder\":true,\"num\":0}},{}]",
        &both,
        Ok("[{\"b\":[{\"$binary\":\"\"}],\"a\":{\"$binary\":\"AQIDBA==\"}},{}]"),
    );
    // In a string it is text.
    check(
        "[\"{\\\"_placeholder\\\":true,\\\"num\\\":0}\",{\"_placeholder\":true,\"num\":0}]",
        one,
        Ok("[\"{\\\"_placeholder\\\":true,\\\"num\\\":0}\",{\"$binary\":\"AQIDBA==\"}]"),
    );
    check("[{\"_placeholder\":true,\"num\":0,\"x\":1}]", one, Err("each attachment has a place"));
    check("[{\"_placeholder\":false,\"num\":0}]", one, Err("each attachment has a place"));
    check("[{\"num\":0}]", one, Err("each attachment has a place"));
    check("[\"a\"]", one, Err("each attachment has a place"));
    check("[{\"_placeholder\":true,\"num\":1}]", one, Err("a placeholder's number is that of an attachment"));
    check("[{\"_placeholder\":true,\"num\":-1}]", one, Err("each attachment has a place"));
    let twice = "[{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":0}]";
    check(twice, one, Err("an attachment has one place"));
}

#[test]
fn attachments_go_out() {
    let check = |json: &str, expected: &str, attachments: &[&[u8]]| {
        let mut extracted = Vec::new();
        let text = extract_attachments(json, &mut extracted);
        assert_eq!((&*text, extracted), (expected, attachments.iter().map(|bytes| bytes.to_vec()).collect()), "{json}");
    };
    check("{\"a\":1}", "{\"a\":1}", &[]);
    check("[{\"$binary\":\"AQIDBA==\"}]", "[{\"_placeholder\":true,\"num\":0}]", &[&[1, 2, 3, 4]]);
    check(
        "{\"a\":{ \"$binary\" : \"\" },\"b\":{\"$binary\":\"\\u0041Q==\"}}",
        "{\"a\":{\"_placeholder\":true,\"num\":0},\"b\":{\"_placeholder\":true,\"num\":1}}",
        &[&[], &[1]],
    );
    // Whatever is not exactly that stays as it is.
    for plain in [
        "[{\"$binary\":\"AQIDBA==\",\"x\":1}]",
        "[{\"x\":1,\"$binary\":\"AQIDBA==\"}]",
        "[{\"$binary\":\"no base64\"}]",
        "[{\"$binary\":\"AQ\"}]",
        "[{\"$binary\":7}]",
        "[{\"$binary\":{\"x\":\"\\\"\"}}]",
        "[\"{\\\"$binary\\\":\\\"AQ==\\\"}\",\"$binary\"]",
        "[\"{\",\"$binary\"]",
        "[\"$binary\",\"AQ==\"]",
        "[\"{ \",{\"a\":\"$binary\"}]",
    ] {
        check(plain, plain, &[]);
    }
    let eleven = format!("[{}]", ["{\"$binary\":\"\"}"; 11].join(","));
    let mut extracted = Vec::new();
    let text = extract_attachments(&eleven, &mut extracted);
    assert_eq!(extracted.len(), 10, "the reference client takes no more");
    assert!(text.ends_with(",\"num\":9},{\"$binary\":\"\"}]"), "{text}");
}

#[test]
fn reassembly() {
    let text = "52-/admin,13[\"a\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    let begin = || Reassembly::begin(&SocketIoPacket::parse(text, 2).expect("it is a packet"));
    let json_bytes = text.len() - "52-/admin,13".len();
    let mut parts = begin();
    assert_eq!(parts.held_bytes(), json_bytes);
    assert_eq!(parts.receive(&[1], json_bytes + 4), Ok(None));
    assert_eq!(parts.held_bytes(), json_bytes + 1);
    let whole = parts.receive(&[1, 2, 3], json_bytes + 4).expect("it fits").expect("it was the last one");
    let expected = SocketIoPacket {
        kind: SocketIoPacketKind::Event,
        attachments: 0,
        namespace: "/admin",
        ack: Some(13),
        data: Some("[\"a\",{\"$binary\":\"AQ==\"},{\"$binary\":\"AQID\"}]"),
    };
    assert_eq!(whole.packet(), expected);
    let too_big = Err(BadSocketIoPacket("a packet with its attachments is too big"));
    let mut parts = begin();
    assert_eq!(parts.receive(&[1], json_bytes + 4), Ok(None));
    assert_eq!(parts.receive(&[1, 2, 3, 4], json_bytes + 4), too_big);
    assert_eq!(begin().receive(&[], json_bytes - 1), too_big);
    let ack = SocketIoPacket::parse("61-7[{\"_placeholder\":true,\"num\":0}]", 1).expect("it is a packet");
    let whole = Reassembly::begin(&ack).receive(&[], 100).expect("it fits").expect("it was the last one");
    assert_eq!((whole.packet().kind, whole.packet().data), (SocketIoPacketKind::Ack, Some("[{\"$binary\":\"\"}]")));
}

/// Frames in short: text as it is, bytes in brackets.
fn shown(mut frames: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = EncodedFrame::first(frames) {
        all.push(match frame.kind {
            EncodedKind::Text => String::from_utf8(frame.payload.to_vec()).expect("text is UTF-8"),
            _ => format!("{:?}", frame.payload),
        });
        frames = &frames[frame.frame_bytes..];
    }
    assert!(frames.is_empty(), "frames are whole");
    all
}

#[test]
fn packets_written() {
    let check = |write: &dyn Fn(&mut Vec<u8>), expected: &[&str]| {
        let mut frames = Vec::new();
        write(&mut frames);
        assert_eq!(shown(&frames), expected);
        // What is written can be read.
        let text = &expected[0][1..];
        assert!(SocketIoPacket::parse(text, 10).is_ok(), "{text}");
    };
    let to = |namespace, ack| PacketTarget { namespace, ack };
    check(&|out| write_connect("/", "s1", None, out), &["40{\"sid\":\"s1\"}"]);
    check(&|out| write_connect("/admin", "s1", Some("p1"), out), &["40/admin,{\"sid\":\"s1\",\"pid\":\"p1\"}"]);
    check(&|out| write_connect_error("/", "No \"entry\"", None, out), &["44{\"message\":\"No \\\"entry\\\"\"}"]);
    check(
        &|out| write_connect_error("/a", "no", Some("{\"code\":1}"), out),
        &["44/a,{\"message\":\"no\",\"data\":{\"code\":1}}"],
    );
    check(&|out| write_disconnect("/", out), &["41"]);
    check(&|out| write_disconnect("/admin", out), &["41/admin,"]);
    check(&|out| write_event(to("/", None), "a\"b", Args::from_list(""), out), &["42[\"a\\\"b\"]"]);
    check(&|out| write_event(to("/", None), "a", Args::from_list("1,\"2\""), out), &["42[\"a\",1,\"2\"]"]);
    check(&|out| write_event(to("/x", Some(7)), "a", Args::from_list("{}"), out), &["42/x,7[\"a\",{}]"]);
    check(
        &|out| write_event(to("/x", Some(7)), "a", Args::from_list("{\"$binary\":\"AQ==\"},2"), out),
        &["451-/x,7[\"a\",{\"_placeholder\":true,\"num\":0},2]", "[1]"],
    );
    check(&|out| write_ack("/", 12, Args::from_list(""), out), &["4312[]"]);
    check(&|out| write_ack("/admin", 13, Args::from_array("[\"bar\"]"), out), &["43/admin,13[\"bar\"]"]);
    check(
        &|out| write_ack("/", 15, Args::from_list("\"bar\",{\"$binary\":\"AQIDBA==\"}"), out),
        &["461-15[\"bar\",{\"_placeholder\":true,\"num\":0}]", "[1, 2, 3, 4]"],
    );
}

fn topic() -> Topic {
    Topic::parse("wells.7").expect("a good name")
}

fn event(kind: Option<&str>, data: &str) -> Event {
    let id = EventId::new(5, 9);
    Event::new(topic(), id, 9, kind, Bytes::copy_from_slice(data.as_bytes()), Moment(0))
}

#[test]
fn events_of_the_hub() {
    let check = |kind: Option<&str>, data: &str, offset: bool, expected: &[&str]| {
        let frames = encode_event(&event(kind, data), SocketIoForm { offset, own: false });
        assert_eq!(shown(&frames), expected, "{data}");
    };
    check(None, "{\"a\": 1}", false, &["42[\"message\",{\"a\": 1}]"]);
    check(Some("alert"), "{\"a\": 1}", false, &["42[\"alert\",{\"a\": 1}]"]);
    check(Some("alert"), "[1]", true, &["42[\"alert\",[1],\"wells.7@5-9\"]"]);
    check(Some("q\"u"), "7", false, &["42[\"q\\\"u\",7]"]);
    check(Some("disconnect"), "7", false, &["42[\"message\",7]"]);
    check(None, "\"text\"", false, &["42[\"message\",\"text\"]"]);
    check(None, "plain \"text\"\n", false, &["42[\"message\",\"plain \\\"text\\\"\\n\"]"]);
    check(None, "", false, &["42[\"message\",\"\"]"]);
    check(None, "1,2", false, &["42[\"message\",\"1,2\"]"]);
    check(None, "1] ", false, &["42[\"message\",\"1] \"]"]);
    check(
        None,
        "{\"image\":{\"$binary\":\"AQID\"}}",
        true,
        &["451-[\"message\",{\"image\":{\"_placeholder\":true,\"num\":0}},\"wells.7@5-9\"]", "[1, 2, 3]"],
    );
    // What is text stays text.
    check(None, "{\"$binary\":\"AQID\"} ,", false, &["42[\"message\",\"{\\\"$binary\\\":\\\"AQID\\\"} ,\"]"]);
}

#[test]
fn holes_are_events() {
    let id = |minor| EventId::new(7, minor);
    let gap = Gap { from: id(3), to: id(4), reason: GapReason::SourceLost };
    let hole = Event::hole(topic(), gap, 4, Moment(0));
    let told = "42[\"gap\",{\"topic\":\"wells.7\",\"from\":\"7-3\",\"to\":\"7-4\",\"reason\":\"source_lost\"}";
    let check = |offset, end: &str| {
        assert_eq!(shown(&encode_event(&hole, SocketIoForm { offset, own: false })), [format!("{told}{end}")]);
    };
    check(false, "]");
    check(true, ",\"wells.7@7-4\"]");
}

#[test]
fn events_for_one_reader() {
    let plain = encode_event(&event(Some("alert"), "[1]"), SocketIoForm::default());
    let binary = encode_event(&event(None, "{\"$binary\":\"AQID\"}"), SocketIoForm::default());
    let check = |frames: &[u8], namespace: &str, offset: Option<&str>, expected: &[&str]| {
        let mut out = b"\x81\x01x".to_vec();
        write_event_for(frames, namespace, offset, &mut out);
        assert_eq!(shown(&out)[1..], *expected);
    };
    check(&plain, "/", None, &["42[\"alert\",[1]]"]);
    check(&plain, "/admin", None, &["42/admin,[\"alert\",[1]]"]);
    check(&plain, "/", Some("a@1-2,b@3-4"), &["42[\"alert\",[1],\"a@1-2,b@3-4\"]"]);
    check(&plain, "/admin", Some("a@1-2"), &["42/admin,[\"alert\",[1],\"a@1-2\"]"]);
    check(
        &binary,
        "/admin",
        Some("a@1-2"),
        &["451-/admin,[\"message\",{\"_placeholder\":true,\"num\":0},\"a@1-2\"]", "[1, 2, 3]"],
    );
    check(b"", "/admin", None, &[]);
}

/// A shared frame with an offset is the frame without, and the reader's own offset.
#[test]
fn both_ways_to_an_offset() {
    let event = event(None, "{\"a\":[{\"$binary\":\"AQID\"}]}");
    let shared = encode_event(&event, SocketIoForm { offset: true, own: false });
    let mut own = Vec::new();
    let mut offset = String::new();
    write_offset([(&event.topic, event.id)], &mut offset);
    write_event_for(&encode_event(&event, SocketIoForm::default()), "/", Some(&offset), &mut own);
    assert_eq!(shown(&own), shown(&shared));
}

#[test]
fn offsets() {
    let check = |text: &str, expected: Option<&[(&str, u64, u64)]>| {
        let parsed = parse_offset(text, 3);
        let shown = parsed
            .as_ref()
            .map(|places| places.iter().map(|(topic, id)| (topic.as_str(), id.major, id.minor)).collect::<Vec<_>>());
        assert_eq!(shown.as_deref(), expected, "{text}");
        if let Some(places) = parsed {
            let mut again = String::new();
            write_offset(places.iter().map(|(topic, id)| (topic, *id)), &mut again);
            assert_eq!(again, text);
        }
    };
    check("a@1-2", Some(&[("a", 1, 2)]));
    check("a.b@1-2,c/d@0-0,e@3-4", Some(&[("a.b", 1, 2), ("c/d", 0, 0), ("e", 3, 4)]));
    for bad in ["", "a", "@1-2", "a@", "a@1", "a@1-2,", ",a@1-2", "a@1-2@3", "a b@1-2", "a@1-2;b@3-4"] {
        check(bad, None);
    }
    check("a@1-2,b@1-2,c@1-2,d@1-2", None);
}
