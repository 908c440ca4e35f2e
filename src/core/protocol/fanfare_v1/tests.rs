//! Commands and messages against tables, and each half against the other.

use bytes::Bytes;

use crate::{
    clock::Moment,
    event::{Event, EventId, Start},
    gap::{Gap, GapReason},
    json::LONG_TEXT_BYTES,
    protocol::websocket,
    topic::Topic,
};

use super::{client::Envelope, command::reference_of, *};

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}

/// A command in short, for tables.
fn shown(command: &Command<'_>) -> String {
    let reference = |reference: &Reference<'_>| reference.map_or("-", |value| value.get()).to_owned();
    match command {
        Command::Subscribe { topic, start, reference: r } => {
            let start = match start {
                Start::After(id) => id.to_string(),
                other => format!("{other:?}"),
            };
            format!("subscribe {topic} {start} {}", reference(r))
        }
        Command::Unsubscribe { topic, reference: r } => format!("unsubscribe {topic} {}", reference(r)),
        Command::Publish { topic, kind, data, idempotency_key, reference: r } => {
            let kind = kind.as_deref().unwrap_or("-");
            let key = idempotency_key.as_deref().unwrap_or("-");
            format!("publish {topic} {kind} {data} {key} {}", reference(r))
        }
        Command::Ping { reference: r } => format!("ping {}", reference(r)),
        Command::Stats { reference: r } => format!("stats {}", reference(r)),
        Command::Auth { token, reference: r } => format!("auth {token} {}", reference(r)),
    }
}

#[test]
fn references_of_what_is_not_looked_at() {
    let check = |message: &str, expected: Option<&str>| {
        assert_eq!(reference_of(message).map(|reference| reference.get()), expected, "{message:.80}");
    };
    check(r#"{"op":"ping","ref":7}"#, Some("7"));
    check(r#"{"ref":{"x": [1]},"op":12,"more":null}"#, Some(r#"{"x": [1]}"#));
    check(r#" {"ref":"r"}"#, Some(r#""r""#));
    check(r#"{"op":"ping"}"#, None);
    check(r#"{"ref":null}"#, None);
    check(r#"{"ref":1,"ref":2}"#, None);
    check(r#"{"ref":1"#, None);
    check(r#"["ref",1]"#, None);
    check("", None);
    let padded = |spaces: usize| format!("{{\"ref\":1{}}}", " ".repeat(spaces));
    check(&padded(4096 - 9), Some("1"));
    check(&padded(4096 - 8), None);
}

#[test]
fn commands() {
    let check = |message: &str, expected: &str| {
        let command = Command::parse(message).unwrap_or_else(|refused| panic!("{message}: {refused:?}"));
        assert_eq!(shown(&command), expected, "{message}");
    };
    check(r#"{"op":"subscribe","topic":"orders.eu"}"#, "subscribe orders.eu Live -");
    check(r#"{"op":"subscribe","topic":"a","since":"7-12","ref":1}"#, "subscribe a 7-12 1");
    check(r#"{"op":"subscribe","topic":"a","since":null,"ref":null}"#, "subscribe a Live -");
    check(r#" {"topic":"a","ref":{"x": [1]},"op":"subscribe"} "#, r#"subscribe a Live {"x": [1]}"#);
    check(r#"{"op":"\u0073ubscribe","topic":"\u0061"}"#, "subscribe a Live -");
    check(r#"{"op":"unsubscribe","topic":"a","ref":"r"}"#, r#"unsubscribe a "r""#);
    check(r#"{"op":"publish","topic":"a","data":{"n" : 1.0}}"#, r#"publish a - {"n" : 1.0} - -"#);
    check(r#"{"op":"publish","topic":"a","data":null,"type":null}"#, "publish a - null - -");
    check(
        r#"{"op":"publish","topic":"a","type":"t\"x","data":"d","idempotency_key":"k","ref":true}"#,
        r#"publish a t"x "d" k true"#,
    );
    check(r#"{"op":"ping"}"#, "ping -");
    check(r#"{"op":"stats","ref":-1e9}"#, "stats -1e9");
    check(r#"{"op":"auth","token":"x.y.z","ref":"a"}"#, r#"auth x.y.z "a""#);
}

#[test]
fn refusals() {
    let check = |message: &str, code: &str, word: &str| {
        let refused = Command::parse(message).expect_err(message);
        assert!(refused.code == code && refused.message.contains(word), "{message}: {refused:?}");
        let reference = message.contains("\"ref\":7").then_some("7");
        assert_eq!(refused.reference.map(|value| value.get()), reference, "{message}");
    };
    check("", code::BAD_REQUEST, "object");
    check("subscribe", code::BAD_REQUEST, "object");
    check(r#"["ping",null]"#, code::BAD_REQUEST, "object");
    check("{", code::BAD_REQUEST, "EOF");
    check(r#"{"op":"ping"} x"#, code::BAD_REQUEST, "trailing");
    check(r#"{"op":7}"#, code::BAD_REQUEST, "invalid type");
    check(r#"{"topic":"a"}"#, code::BAD_REQUEST, "`op`");
    check(r#"{"op":"ping","op":"ping"}"#, code::BAD_REQUEST, "duplicate");
    check(r#"{"op":"shout","ref":7}"#, code::UNKNOWN_OP, "shout");
    check(r#"{"op":"subscribe","ref":7}"#, code::BAD_REQUEST, "`topic`");
    check(r#"{"op":"subscribe","topic":"a","sicne":"1-1","ref":7}"#, code::BAD_REQUEST, "`sicne`");
    check(r#"{"op":"subscribe","topic":["a"],"ref":7}"#, code::BAD_REQUEST, "invalid type");
    check(r#"{"op":"subscribe","topic":"a..b","ref":7}"#, code::BAD_TOPIC, "segment");
    check(r#"{"op":"subscribe","topic":"a","since":"x","ref":7}"#, code::BAD_EVENT_ID, "dash");
    check(r#"{"op":"subscribe","topic":"a","since":5,"ref":7}"#, code::BAD_REQUEST, "invalid type");
    check(r#"{"op":"unsubscribe","topic":"a","data":1,"ref":7}"#, code::BAD_REQUEST, "`data`");
    check(r#"{"op":"publish","topic":"a","ref":7}"#, code::BAD_REQUEST, "`data`");
    check(r#"{"op":"publish","topic":"é","data":1,"ref":7}"#, code::BAD_TOPIC, "byte 0");
    check(r#"{"op":"publish","topic":"a","data":1,"type":"a\nb","ref":7}"#, code::BAD_TYPE, "line breaks");
    check(r#"{"op":"publish","topic":"a","data":1,"idempotency_key":"","ref":7}"#, code::BAD_IDEMPOTENCY_KEY, "empty");
    check(r#"{"op":"auth","ref":7}"#, code::BAD_REQUEST, "`token`");
    check(r#"{"op":"ping","x":1,"ref":7}"#, code::BAD_REQUEST, "`x`");
    // Nesting without end is neither followed into nor a crash.
    let deep = format!(r#"{{"op":"publish","topic":"a","data":{}"#, "[".repeat(60_000));
    check(&deep, code::BAD_REQUEST, "EOF");
}

fn event(kind: Option<&str>, data: &str) -> Event {
    let id = EventId::new(7, 12);
    Event::new(topic("orders.eu"), id, 12, kind, Bytes::copy_from_slice(data.as_bytes()), Moment(0))
}

#[test]
fn events() {
    let check = |kind: Option<&str>, data: &str, rest: &str| {
        let event = event(kind, data);
        let expected = format!(r#"{{"op":"event","topic":"orders.eu","id":"7-12",{rest}}}"#);
        let mut message = Vec::new();
        write_event(&event, &mut message);
        assert_eq!(String::from_utf8_lossy(&message), expected);
        assert_eq!(encode_event(&event), websocket::encode_text(expected.as_bytes()));
        serde_json::from_slice::<serde_json::Value>(&message).expect("JSON");
    };
    check(None, r#"{"n": 1}"#, r#""type":null,"data":{"n": 1}"#);
    check(Some("created"), "[1,2]", r#""type":"created","data":[1,2]"#);
    check(Some("a\"b"), "\"text\"", r#""type":"a\"b","data":"text""#);
    check(None, " 1\r\n", r#""type":null,"data":1"#);
    check(None, "null", r#""type":null,"data":null"#);
    check(None, "plain text", r#""type":null,"data":"plain text""#);
    check(None, "", r#""type":null,"data":"""#);
    check(None, "{\"cut\":", r#""type":null,"data":"{\"cut\":""#);
    check(None, "1 2", r#""type":null,"data":"1 2""#);
    check(None, "NaN", r#""type":null,"data":"NaN""#);
    check(None, "a\nb\u{1}\u{2028}é", "\"type\":null,\"data\":\"a\\nb\\u0001\u{2028}é\"");
    check(None, "\"raw\u{1}\"", r#""type":null,"data":"\"raw\u0001\"""#);
}

#[test]
fn answers() {
    let check = |write: &dyn Fn(Reference<'_>, &mut Vec<u8>), expected: &str| {
        let reference = serde_json::value::RawValue::from_string(r#"{"r":1}"#.to_owned()).expect("JSON");
        for (reference, tail) in [(None, ""), (Some(&*reference), r#","ref":{"r":1}"#)] {
            let mut out = b"before".to_vec();
            write(reference, &mut out);
            assert_eq!(String::from_utf8_lossy(&out[6..]), format!("{expected}{tail}}}"));
        }
    };
    let (topic, id) = (topic("a"), Some(EventId::new(7, 0)));
    let subscribed = r#"{"op":"subscribed","topic":"a","id":"7-0""#;
    check(&|r, out| write_subscribed(&topic, id, r, out), subscribed);
    check(&|r, out| write_subscribed(&topic, None, r, out), r#"{"op":"subscribed","topic":"a","id":null"#);
    check(&|r, out| write_unsubscribed(&topic, r, out), r#"{"op":"unsubscribed","topic":"a""#);
    check(&|r, out| write_published(&topic, None, r, out), r#"{"op":"published","topic":"a","id":null"#);
    check(&write_pong, r#"{"op":"pong""#);
    let authenticated = r#"{"op":"authenticated","sub":"a\"b""#;
    check(&|r, out| write_authenticated("a\"b", None, r, out), authenticated);
    check(&|r, out| write_authenticated("a\"b", Some(9), r, out), &format!("{authenticated},\"expires_in\":9"));
    check(&|r, out| write_stats(r#"{"n":1}"#, r, out), r#"{"op":"stats","stats":{"n":1}"#);
    let error = r#"{"op":"error","code":"RateLimited","message":"\"slow\" down""#;
    check(&|r, out| write_error("RateLimited", "\"slow\" down", r, out), error);
    let refuse = |reference: Reference<'_>, out: &mut Vec<u8>| {
        write_refused(&BadCommand { code: code::BAD_TOPIC, message: "no".to_owned(), reference }, out);
    };
    check(&refuse, r#"{"op":"error","code":"BadTopic","message":"no""#);
}

#[test]
fn gaps() {
    let id = |minor| EventId::new(7, minor);
    let gap = Gap { from: id(1), to: id(9), reason: GapReason::Overflow };
    let mut out = Vec::new();
    write_gap(&topic("a"), gap, &mut out);
    let expected = r#"{"op":"gap","topic":"a","from":"7-1","to":"7-9","reason":"overflow"}"#;
    assert_eq!(String::from_utf8_lossy(&out), expected);
    // As an entry of a log it is the same message.
    let hole = Event::hole(topic("a"), gap, 9, Moment(0));
    assert_eq!(encode_event(&hole), websocket::encode_text(expected.as_bytes()));
}

/// What the client half writes, the server half reads.
#[test]
fn a_pair_commands() {
    let check = |write: &dyn Fn(Option<&str>, &mut Vec<u8>), expected: &str| {
        for (reference, tail) in [(None, "-"), (Some("[7]"), "[7]")] {
            let mut out = Vec::new();
            write(reference, &mut out);
            let message = String::from_utf8(out).expect("UTF-8");
            assert_eq!(shown(&Command::parse(&message).expect(&message)), format!("{expected} {tail}"));
        }
    };
    let (topic, since) = (topic("a.b"), Some(EventId::new(7, 1)));
    check(&|r, out| client::write_subscribe(&topic, since, r, out), "subscribe a.b 7-1");
    check(&|r, out| client::write_subscribe(&topic, None, r, out), "subscribe a.b Live");
    check(&|r, out| client::write_unsubscribe(&topic, r, out), "unsubscribe a.b");
    check(&|r, out| client::write_publish(&topic, Some("t\"t"), "{}", r, out), "publish a.b t\"t {} -");
    check(&|r, out| client::write_publish(&topic, None, "null", r, out), "publish a.b - null -");
    check(&client::write_ping, "ping");
    check(&client::write_stats, "stats");
}

/// What the server half writes, the client half reads.
#[test]
fn a_pair_answers() {
    let check = |write: &dyn Fn(Reference<'_>, &mut Vec<u8>), expected: &str| {
        let reference = serde_json::value::RawValue::from_string("7".to_owned()).expect("JSON");
        let mut out = Vec::new();
        write(Some(&*reference), &mut out);
        assert_eq!(format!("{:?}", Envelope::parse(&out).expect(expected)), expected);
    };
    let (topic, id) = (topic("a"), Some(EventId::new(7, 1)));
    let event = |kind, data| move |_: Reference<'_>, out: &mut Vec<u8>| write_event(&event(kind, data), out);
    check(&event(Some("t"), "{ }"), r#"Event { topic: "orders.eu", id: "7-12", kind: Some("t"), data: "{ }" }"#);
    check(&event(None, "null"), r#"Event { topic: "orders.eu", id: "7-12", kind: None, data: "null" }"#);
    let r = "reference: Some(RawValue(7))";
    check(
        &|r, out| write_subscribed(&topic, id, r, out),
        &format!(r#"Subscribed {{ topic: "a", id: Some("7-1"), {r} }}"#),
    );
    check(&|r, out| write_unsubscribed(&topic, r, out), &format!(r#"Unsubscribed {{ topic: "a", {r} }}"#));
    check(&|r, out| write_published(&topic, None, r, out), &format!(r#"Published {{ topic: "a", id: None, {r} }}"#));
    check(&write_pong, &format!("Pong {{ {r} }}"));
    check(&|r, out| write_stats("[1]", r, out), &format!(r#"Stats {{ stats: "[1]", {r} }}"#));
    check(
        &|r, out| write_error("Code", "me\"ssage", r, out),
        &format!(r#"Error {{ code: "Code", message: "me\"ssage", {r} }}"#),
    );
    check(
        &|_, out| {
            let (from, to) = (EventId::default(), id.expect("set above"));
            write_gap(&topic, Gap { from, to, reason: GapReason::Epoch }, out);
        },
        r#"Gap { topic: "a", from: Some("0-0"), to: Some("7-1"), reason: "epoch" }"#,
    );
}

#[test]
fn bad_envelopes() {
    let check = |message: &str, word: &str| {
        let bad = Envelope::parse(message.as_bytes()).expect_err(message).to_string();
        assert!(bad.contains(word), "{message}: {bad}");
    };
    check("", "EOF");
    check(r#"{"op":"event","topic":"a","id":"1-1"}"#, "`data`");
    check(r#"{"op":"event","id":"1-1","data":1}"#, "`topic`");
    check(r#"{"op":"event","topic":"a","data":1}"#, "`id`");
    check(r#"{"op":"gap","topic":"a"}"#, "`reason`");
    check(r#"{"op":"error","code":"x"}"#, "`message`");
    check(r#"{"op":"stats"}"#, "`stats`");
    check(r#"{"op":"sing"}"#, "sing");
    assert!(Envelope::parse(br#"{"op":"pong","new":1}"#).is_ok());
}

/// The load generator reads half a million a second: nothing is copied out of the message.
#[test]
fn an_event_is_read_without_allocating() {
    let mut message = Vec::new();
    write_event(&event(Some("created"), r#"{"n": 1}"#), &mut message);
    let allocations = allocation_counter::measure(|| {
        let envelope = Envelope::parse(&message).expect("an event");
        assert!(matches!(envelope, Envelope::Event { data: r#"{"n": 1}"#, .. }));
    });
    assert_eq!(allocations.count_total, 0);
}

/// Long messages are parsed by another reader, and mean the same.
#[test]
fn long_messages() {
    let data = format!("{{\"a\":[{}1]}}", "1,".repeat(40_000));
    let same = |fields: &str| {
        let text = format!("{{\"op\":\"publish\",\"data\":{data}{fields}}}");
        match (Command::parse(&text), Command::parse_long(&text)) {
            (Ok(parsed), Ok(long)) => assert!(format!("{parsed:?}") == format!("{long:?}"), "{fields}"),
            (Err(parsed), Err(long)) => {
                let of = |refused: &BadCommand<'_>| (refused.code, refused.reference.map(|it| it.get().to_owned()));
                assert_eq!(of(&parsed), of(&long), "{fields}");
            }
            (parsed, long) => panic!("{fields}: {parsed:?}, {long:?}"),
        }
    };
    same(",\"topic\":\"a.b\"");
    same(", \"topic\" : \"a.\\u0062\" , \"type\":\"t\",\"ref\":{\"r\":1},\"idempotency_key\":\"k\"");
    same(",\"topic\":\"a\",\"type\":null,\"ref\":null,\"idempotency_key\":null");
    same(",\"topic\":\"a b\",\"ref\":7");
    same(",\"topic\":\"a\",\"type\":\"\",\"ref\":\"r\"");
    same(",\"topic\":\"a\",\"idempotency_key\":\"\"");
    same(",\"topic\":\"a\",\"more\":1");
    same(",\"topic\":7");
    same("");
    same(",\"topic\":\"a\",\"topic\":\"b\"");
    let check = |text: String, part: &str| {
        let refused = Command::parse_long(&text).expect_err("no publication");
        assert!(refused.code == code::BAD_REQUEST && refused.message.contains(part), "{}", refused.message);
    };
    check(format!("{{\"op\":\"ping\",\"data\":{data}}}"), "only `publish` may be longer");
    check(format!("{{\"op\":\"publish\",\"topic\":\"a\",\"data\":1,\"ref\":{data}}}"), "`ref` is longer than");
    check(format!("[{data}]"), "a command is a JSON object");
    let with_reference = |bytes: usize| {
        let reference = "x".repeat(bytes - "\"\"".len());
        format!("{{\"op\":\"publish\",\"topic\":\"a\",\"data\":1,\"ref\":\"{reference}\"}}")
    };
    check(with_reference(LONG_TEXT_BYTES + 1), "`ref` is longer than");
    assert!(Command::parse_long(&with_reference(LONG_TEXT_BYTES)).is_ok());
}
