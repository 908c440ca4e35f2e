use serde_json::json;

use super::{listing::StreamFigures, *};
use crate::{
    bus::{PublishFailed, PublishRefused},
    protocol::EventData,
    tests::{FormKind, LATER_MEMBER, check_forms, members, object},
};

fn parsed(body: &str) -> Result<Broadcast<'_>, (u16, &'static str, Option<&'static str>)> {
    Broadcast::parse(body, crate::json::check(body))
        .map_err(|error| (error.status, error.cause.code, error.cause.field))
}

/// A broadcast to all streams goes to the other hubs on the broker as a command, and they may be of another release.
#[test]
fn the_forms_of_commands_are_kept() {
    let command = |body: &str, mount: &Mount| {
        let event =
            Broadcast::parse(body, crate::json::check(body)).unwrap_or_else(|error| panic!("{}", error.message));
        let topic = mount.command_topic().expect("a good name");
        let json = event.write_event(1_642_598_400) + "}";
        let mut parts = members(json.as_bytes());
        // Each event has an id of its own.
        parts
            .iter_mut()
            .filter(|part| part.starts_with(b"\"id\":"))
            .for_each(|part| *part = b"\"id\":\"evt_7\"".to_vec());
        [vec![topic.as_str().as_bytes().to_vec()], parts].concat()
    };
    let body = r#"{"type":"t","message":"m","data":{"n":[1]}}"#;
    let names = ["a broadcast to streams", "a broadcast of the demonstration"];
    let mut written: Vec<_> = names.iter().zip(&MOUNTS).map(|(name, mount)| (*name, command(body, mount))).collect();
    assert_eq!(written.len(), MOUNTS.len());
    written.push(("a broadcast without data", command(r#"{"type":"t","message":"m"}"#, &MOUNTS[0])));
    let read = |parts: &[Vec<u8>]| {
        let event = fanout::read_command(&object(&parts[1..])).expect("a command");
        let mount = MOUNTS
            .iter()
            .position(|mount| mount.command_topic().is_ok_and(|topic| topic.as_str().as_bytes() == parts[0]));
        let EventData { id, kind, message, data, timestamp, .. } = event;
        format!("for the mount {mount:?}: id {id}, type {kind}, message {message}, data {data}, at {timestamp}")
    };
    let later = |parts: &mut Vec<Vec<u8>>| parts.push(LATER_MEMBER.to_vec());
    check_forms(&FormKind { name: "broadcasts", written, read: &read, extend: Some(&later) });
}

#[test]
fn broadcasts_that_are_understood() {
    let check = |body: &str, stream: Option<&str>, data: Option<&str>| {
        let expected = Broadcast {
            stream: stream.map(Into::into),
            kind: "t".into(),
            message: "\"m\"",
            data: data.map(Into::into),
        };
        assert_eq!(parsed(body), Ok(expected), "{body}");
    };
    check(r#"{"type":"t","message":"m"}"#, None, None);
    check(r#"{"stream_id":"","type":"t","message":"m","data":null}"#, None, None);
    check(r#"{"stream_id":null,"type":"t","message":"m","data":{}}"#, None, None);
    check(r#"{"stream_id":null,"type":"t","message":"m","data":{ }}"#, None, None);
    check(r#"{"stream_id":"a.b","type":"t","message":"m","data":{"n":[1]}}"#, Some("a.b"), Some(r#"{"n":[1]}"#));
    check(r#" {"type":"t","message":"m","priority":"ignored"} "#, None, None);
    check(r#"{"type":"x","typ\u0065":"t","message":1,"message":"m"}"#, None, None);
    // Line breaks would make several lines of the event.
    let data = "{\n  \"b\": \"1 2\",\r\n\t\"a\" : [ 1.50, {} ]\n}";
    let body = format!("{{ \"type\": \"t\",\n \"message\": \"m\",\n \"data\": {data} }}\n");
    check(&body, None, Some(r#"{"b":"1 2","a":[1.50,{}]}"#));
}

/// The shared part and the end of each stream's own are together the documented event.
#[test]
fn events_have_the_documented_form() {
    let check = |body: &str, expected: EventData| {
        let broadcast = parsed(body).expect("it is good");
        let event = broadcast.write_event(7) + &tail_of("a.b");
        let read: EventData = serde_json::from_str(&event).expect("it is an event");
        assert!(read.id.starts_with("evt_"), "{event}");
        assert_eq!(EventData { id: String::new(), ..read }, expected, "{event}");
    };
    let event = EventData {
        kind: "t\"".into(),
        message: "é\n".into(),
        timestamp: 7,
        stream_id: "a.b".into(),
        ..EventData::default()
    };
    check(r#"{"type":"t\"","message":"\u00e9\n"}"#, event.clone());
    check(
        r#"{"type":"t\"","message":"é\n","data":{"a":[1,"x"]}}"#,
        EventData { data: json!({ "a": [1, "x"] }), ..event },
    );
}

/// The event has the body's members byte by byte.
#[test]
fn what_is_sent_on_keeps_its_bytes() {
    let check = |message: &str, data: &str| {
        let body = format!(r#"{{"type":"t","message":{message},"data":{data}}}"#);
        let event = parsed(&body).expect("it is good").write_event(7) + &tail_of("a");
        let expected = format!(r#""type":"t","message":{message},"data":{data},"timestamp":7,"stream_id":"a"}}"#);
        assert!(event.ends_with(&expected), "{event}");
        assert_eq!(crate::json::check(&event).err(), None, "{event}");
    };
    let nested = format!(r#"{{"a":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    check(r#""m""#, &nested);
    check(r#""m""#, r#"{"n":9007199254740993,"m":-18446744073709551617,"e":1e999,"f":0.1000,"z":-0,"s":1E+2}"#);
    check(r#""m""#, &format!(r#"{{"n":{}}}"#, "9".repeat(2_000)));
    check(r#""\ud800 \uDC00\ud83d\ude00 \u0041\/""#, r#"{"a":"\ud800","\udfff":"\u0000"}"#);
    check(r#""m""#, r#"{"b":1,"a":2,"b":3}"#);
}

#[test]
fn broadcasts_that_are_refused() {
    let check = |body: &str, code: &'static str, field: Option<&'static str>| {
        assert_eq!(parsed(body), Err((400, code, field)), "{body}");
    };
    check("", "bad_json", None);
    check("{", "bad_json", None);
    check("[]", "bad_json", None);
    check("\"t\"", "bad_json", None);
    check(r#"{"type":"\ud800","message":"m"}"#, "bad_field", Some("type"));
    check(r#"{"stream_id":"\udc00","type":"t","message":"m"}"#, "bad_field", Some("stream_id"));
    check(r#"{"type":"t","message":"m","data":{"a":01}}"#, "bad_json", None);
    check(r#"{"type":"t","message":"m"} more"#, "bad_json", None);
    check(r#"{"message":"m"}"#, "missing_field", Some("type"));
    check(r#"{"type":"","message":"m"}"#, "missing_field", Some("type"));
    check(r#"{"type":"t"}"#, "missing_field", Some("message"));
    check(r#"{"type":"t","message":null}"#, "missing_field", Some("message"));
    check(r#"{"type":1,"message":"m"}"#, "bad_field", Some("type"));
    check(r#"{"type":"t","message":["m"]}"#, "bad_field", Some("message"));
    check(r#"{"stream_id":7,"type":"t","message":"m"}"#, "bad_field", Some("stream_id"));
    check(r#"{"type":"t","message":"m","data":[1]}"#, "bad_data", Some("data"));
    check(r#"{"type":"t","message":"m","data":"x"}"#, "bad_data", Some("data"));
}

#[test]
fn streams_are_topics_of_their_mount() {
    let check = |mount: usize, stream: &str, expected: Result<&str, BadTopic>| {
        let topic = MOUNTS[mount].topic(stream);
        assert_eq!(topic.as_ref().map(Topic::as_str).map_err(|bad| *bad), expected, "{stream}");
    };
    check(0, "default", Ok("streams.default"));
    check(1, "demo-system", Ok("broadcast-demo.demo-system"));
    check(0, "a/b.c", Ok("streams.a/b.c"));
    check(0, "", Err(BadTopic::Empty));
    check(0, "a..b", Err(BadTopic::EmptySegment));
    check(0, "a/", Err(BadTopic::TrailingSlash));
    check(0, "a b", Err(BadTopic::BadByte(9)));
    check(0, &"x".repeat(255), Err(BadTopic::TooLong));
    assert_eq!(demo_streams().len(), 8, "all of them are good names");
}

fn text(response: &Response) -> String {
    String::from_utf8(response.body.clone()).expect("JSON is UTF-8")
}

#[test]
fn envelopes_as_documented() {
    let check = |response: Response, status: u16, expected: &str| {
        assert_eq!((response.status, text(&response).as_str()), (status, expected));
    };
    check(
        describe_receipts("Event broadcasted to stream: notifications", &[Ok(None)], 1_642_598_400),
        200,
        r#"{"success":true,"message":"Event broadcasted to stream: notifications","timestamp":1642598400}"#,
    );
    let outcome = |action, outcome| describe_outcome("system", action, outcome, 7);
    let done = |what: &str| format!(r#"{{"success":true,"message":"Stream 'system' {what}","timestamp":7}}"#);
    check(outcome(GeneratorAction::Start, Ok(())), 200, &done("started"));
    check(outcome(GeneratorAction::Stop, Ok(())), 200, &done("stopped and removed"));
    check(outcome(GeneratorAction::Pause, Ok(())), 200, &done("paused"));
    check(outcome(GeneratorAction::Resume, Ok(())), 200, &done("resumed"));
    check(
        ApiError::new(400, "missing_field", "type is required", Some("type")).response(7),
        400,
        r#"{"success":false,"message":"type is required","error":{"code":"missing_field","field":"type"},"timestamp":7}"#,
    );
}

#[test]
fn what_goes_wrong_has_a_status_of_its_own() {
    let check = |error: ApiError, status: u16, retries: bool| {
        let response = error.response(0);
        let tells_when = response.headers.iter().any(|(name, _)| *name == "Retry-After");
        assert_eq!((response.status, tells_when), (status, retries), "{error:?}");
    };
    let of_stream = |failed| describe_failed("s", failed);
    check(of_stream(GeneratorFailed::Unknown), 404, false);
    check(of_stream(GeneratorFailed::AlreadyPaused), 409, false);
    check(of_stream(GeneratorFailed::NotPaused), 409, false);
    check(of_stream(GeneratorFailed::TooMany), 409, false);
    check(of_stream(GeneratorFailed::QueueFull), 503, true);
    check(of_stream(GeneratorFailed::Ended), 503, true);
    check(no_generators(), 409, false);
    check(PublishFailed::Unavailable.into(), 503, true);
    check(PublishFailed::Unknown.into(), 504, false);
    check(PublishRefused::BadKind.into(), 400, false);
    check(PublishRefused::TooBig.into(), 413, false);
    check(AccessDenied::Forbidden.into(), 403, false);
    let missing = ApiError::from(AccessDenied::Missing).response(0);
    assert!(missing.headers.contains(&("WWW-Authenticate", "Bearer".to_owned())), "{missing:?}");
    assert_eq!(missing.headers.iter().filter(|(name, _)| *name == "Content-Type").count(), 1);
}

#[test]
fn a_broadcast_that_reached_some_says_so() {
    let response = describe_receipts("done", &[Ok(None), Err(PublishFailed::QueueFull), Ok(None)], 0);
    assert_eq!(response.status, 503);
    assert!(text(&response).contains("2 of 3 streams got the event"), "{}", text(&response));
}

#[test]
fn figures_as_documented() {
    let check = |generator: Option<bool>, running: bool, paused: bool| {
        let figures = StreamFigures { clients: 5, generator };
        let generator = json!({ "running": running, "paused": paused });
        let mut expected = json!({ "clients": 5, "active": true, "generator": generator });
        assert_eq!(figures.describe(false), expected);
        expected["clients_of"] = "this hub".into();
        assert_eq!(figures.describe(true), expected);
    };
    check(None, false, false);
    check(Some(false), true, false);
    check(Some(true), true, true);
}

/// A tree of values would take tens of bytes for each byte of such a body.
#[test]
fn a_large_broadcast_is_copied_and_not_built() {
    let check = |part: &str, copies: u64| {
        let many = part.repeat(300_000 / part.len());
        let body = format!(r#"{{"type":"t","message":"m","data":{{"x":[{many}0]}}}}"#);
        let counted = allocation_counter::measure(|| {
            let broadcast = parsed(&body).expect("it is good");
            assert!(broadcast.write_event(7).len() <= body.len() + 200);
        });
        assert!(counted.count_total < 40, "{part}: {counted:?}");
        assert!(counted.bytes_total < copies * body.len() as u64 + 4096, "{part}: {counted:?}");
    };
    check("{},", 1);
    check("\"\",", 1);
    // Without the space first.
    check("{}, ", 2);
}
