use std::sync::Arc;

use super::{
    ingest::Ingest,
    readback::parse_unix,
    validate::{Invalid, RecordReader, parse_time},
};
use crate::{
    bus::{self, Bus, Inbox, Notifier, Wake},
    clock::{Clock, Moment},
    endpoint::{self, Context, HUB, Hub, Step, Telemetry, Work, work::STEP_BYTES},
    json,
    metrics::{Metrics, ReactorMetrics},
    protocol::http::{self, Request, Response},
    store::{Kind, Record},
};

fn parse(kind: Kind, object: &str) -> Result<Record, Invalid> {
    let traits = json::check(object).unwrap_or_else(|bad| panic!("{object}: {bad}"));
    let whole = read(kind, (object, traits), usize::MAX / 2);
    assert_eq!(read(kind, (object, traits), 1), whole, "{object}: member by member");
    whole
}

fn read(kind: Kind, object: (&str, json::Traits), bytes: usize) -> Result<Record, Invalid> {
    let mut reader = RecordReader::default();
    while !reader.advance(kind, object, bytes) {}
    reader.finish(kind, object, TIME_US)
}

/// 2025-11-20T10:30:00Z.
const TIME_US: u64 = 1_763_634_600_000_000;

#[test]
fn times_are_those_of_rfc_3339_and_without_an_offset_utc() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(parse_time(text), expected, "{text}");
    check("2025-11-20T10:30:00Z", Some(TIME_US));
    check("2025-11-20T12:30:00+02:00", Some(TIME_US));
    check("2025-11-20T10:30:00.000001Z", Some(TIME_US + 1));
    check("2025-11-20T10:30:00.0000019Z", Some(TIME_US + 1));
    check("2025-11-20T10:30:00.250000", Some(TIME_US + 250_000));
    check("2025-11-20T10:30:00", Some(TIME_US));
    check("1970-01-01T00:00:00Z", Some(0));
    check("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999));
    check("1969-12-31T23:59:59Z", None);
    check("2025-11-20", None);
    check("2025-11-20T10:30", None);
    check("2025-11-20T25:30:00Z", None);
    check("", None);
}

#[test]
fn unix_times_have_at_most_microseconds() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(parse_unix(text), expected, "{text}");
    check("0", Some(0));
    check("1763634600", Some(TIME_US));
    check("1763634600.5", Some(TIME_US + 500_000));
    check("1763634600.000001", Some(TIME_US + 1));
    check("1763634600.", Some(TIME_US));
    check("1763634600.0000001", None);
    check("99999999999999999999", None);
    check("18446744073709551615", None);
    for text in ["", ".5", "-1", "+1", "1e9", "1 ", "1.5.5", "x"] {
        check(text, None);
    }
}

#[test]
fn bodies_keep_the_documented_order_and_whatever_else_came() {
    let check = |kind: Kind, body: &str, expected: &str| {
        let record = parse(kind, body).unwrap_or_else(|invalid| panic!("{body}: {invalid:?}"));
        assert_eq!(&*record.body, expected, "{body}");
    };
    check(
        Kind::Telemetry,
        r#"{"gor":1,"zone":{"a":[null]},"flow_rate":-2.50,"well_id":"W","pip":null}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","flow_rate":-2.5,"gor":1,"zone":{"a":[null]}}"#,
    );
    check(
        Kind::Alert,
        r#"{"well_id":"W","message":"\"m\"","severity":"info","type":"t","threshold":4,"timestamp":"1970-01-01T00:00:00Z"}"#,
        r#"{"timestamp":"1970-01-01T00:00:00Z","type":"t","severity":"info","message":"\"m\"","threshold":4}"#,
    );
    check(
        Kind::Diagnostic,
        r#"{"well_id":"W","b":1,"a":"x"}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","b":1,"a":"x"}"#,
    );
    check(
        Kind::Telemetry,
        "{ \"w\\u0065ll_id\" : \"X\", \"well_id\":\"W\",\n \"x\" : [ 1e2, \" \" ], \"pip\": 1.0e1 }",
        r#"{"timestamp":"2025-11-20T10:30:00Z","pip":10.0,"x":[1e2," "]}"#,
    );
}

/// The event that the platform's document prints counts as the record in it, in whatever order its members come.
#[test]
fn an_event_is_taken_for_the_record_in_it() {
    let check = |kind: Kind, event: &str, expected: &str| {
        let record = parse(kind, event).unwrap_or_else(|invalid| panic!("{event}: {invalid:?}"));
        assert_eq!((&*record.well_id, &*record.body), ("W", expected), "{event}");
    };
    let (telemetry, alert, diagnostic) = (Kind::Telemetry, Kind::Alert, Kind::Diagnostic);
    check(
        telemetry,
        r#"{"event":"telemetry_update","timestamp":"2025-11-20T10:30:00Z","well_id":"W","data":{"telemetry_id":5,"pip":1,"x":"y"}}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","pip":1,"x":"y"}"#,
    );
    check(
        alert,
        "{ \"al\\u0065rt\" : { \"severity\":\"info\", \"type\":\"t\" }, \"well_id\":\"W\", \"event\":\"alert\" }",
        r#"{"timestamp":"2025-11-20T10:30:00Z","type":"t","severity":"info"}"#,
    );
    // The time of measurement comes before the time of the event.
    check(
        diagnostic,
        r#"{"event":"diagnostic_update","timestamp":"2025-11-20T10:30:00Z","well_id":"W","diagnostic":{"a":1,"timestamp":"1970-01-01T00:00:00Z"}}"#,
        r#"{"timestamp":"1970-01-01T00:00:00Z","a":1}"#,
    );
    check(
        diagnostic,
        r#"{"event":"diagnostic_update","diagnostic":{"a":1,"well_id":"W"}}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","a":1}"#,
    );
    check(
        diagnostic,
        r#"{"event":"diagnostic_update","well_id":"W","diagnostic":{"event":"diagnostic_update","diagnostic":{"a":1}}}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","event":"diagnostic_update","diagnostic":{"a":1}}"#,
    );
    // Nothing of the body is lost: these are records with members of such names.
    check(
        telemetry,
        r#"{"event":"telemetry_update","well_id":"W","pip":1,"data":{"pip":2}}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","pip":1,"event":"telemetry_update","data":{"pip":2}}"#,
    );
    check(
        diagnostic,
        r#"{"event":"diagnostic_update","well_id":"W","diagnostic":{"a":1},"site":"s"}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","event":"diagnostic_update","diagnostic":{"a":1},"site":"s"}"#,
    );
    check(
        diagnostic,
        r#"{"event":"alert","well_id":"W","diagnostic":{"a":1}}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","event":"alert","diagnostic":{"a":1}}"#,
    );
    let refuse = |kind: Kind, event: &str, field: Option<&str>, part: &str| {
        let invalid = parse(kind, event).expect_err("it is refused");
        assert_eq!(invalid.field.as_deref(), field, "{event}");
        assert!(invalid.message.contains(part), "{event}: {}", invalid.message);
    };
    refuse(alert, r#"{"event":"alert","well_id":"W","alert":{"type":"t"}}"#, Some("severity"), "is required");
    refuse(alert, r#"{"event":"alert","well_id":"W","alert":7}"#, Some("type"), "is required");
    refuse(telemetry, r#"{"event":"telemetry_update","well_id":"W","data":{}}"#, None, "at least one measurement");
    refuse(telemetry, r#"{"event":"telemetry_update","data":{"pip":1}}"#, Some("well_id"), "is required");
    refuse(
        telemetry,
        r#"{"event":"telemetry_update","well_id":"W","data":{"pip":1,"well_id":"V"}}"#,
        Some("well_id"),
        "is given twice, and differs",
    );
    refuse(
        telemetry,
        r#"{"event":"telemetry_update","well_id":"W","timestamp":"now","data":{"pip":1}}"#,
        Some("timestamp"),
        "RFC 3339",
    );
}

#[test]
fn objects_that_are_refused() {
    let check = |kind: Kind, object: &str, field: Option<&str>, part: &str| {
        let invalid = parse(kind, object).expect_err("it is refused");
        assert_eq!((invalid.status, invalid.field.as_deref()), (400, field), "{object}");
        assert!(invalid.message.contains(part), "{object}: {}", invalid.message);
    };
    let telemetry = Kind::Telemetry;
    check(telemetry, "[]", None, "must be an object");
    for missing in ["{}", r#"{"well_id":null}"#, r#"{"well_id":""}"#] {
        check(telemetry, missing, Some("well_id"), "is required");
    }
    check(telemetry, r#"{"well_id":7}"#, Some("well_id"), "must be a string");
    check(telemetry, r#"{"well_id":"a.b"}"#, Some("well_id"), "must be 1 to 249");
    check(telemetry, r#"{"well_id":"W","timestamp":7}"#, Some("timestamp"), "RFC 3339");
    check(telemetry, r#"{"well_id":"W","pip":1,"telemetry_id":1}"#, Some("telemetry_id"), "given by the server");
    check(telemetry, r#"{"well_id":"W"}"#, None, "at least one measurement");
    check(telemetry, r#"{"well_id":"W","pip":"1"}"#, Some("pip"), "finite number");
    check(telemetry, r#"{"well_id":"W","pip":1e999}"#, None, "that the database can hold");
    check(telemetry, r#"{"well_id":"W","pip":1,"x":"\u0000"}"#, None, "U+0000");
    check(telemetry, r#"{"well_id":"W","pip":1,"x":["\ud800"]}"#, None, "that the database can hold");
    let deep = format!(r#"{{"well_id":"W","pip":1,"x":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    check(telemetry, &deep, None, "nested too deeply");
    check(Kind::Alert, r#"{"well_id":"W","type":"t","severity":"x","message":"m"}"#, Some("severity"), "must be info");
    check(Kind::Alert, r#"{"well_id":"W","type":"","severity":"info","message":"m"}"#, Some("type"), "not empty");
    check(Kind::Diagnostic, r#"{"well_id":"W","timestamp":null}"#, None, "must say something");
}

/// No tree of values is built of a large object: it would take forty times as long and as much memory.
#[test]
fn a_large_object_is_copied_and_not_built() {
    let object = format!(r#"{{"well_id":"W","pip":1,"x":[{}{{}}]}}"#, "{},".repeat(100_000));
    let traits = json::check(&object).expect("JSON");
    let counted = allocation_counter::measure(|| {
        drop(read(Kind::Telemetry, (&object, traits), STEP_BYTES).expect("it is good"));
    });
    assert!(counted.bytes_max < 4 * object.len() as u64, "{counted:?}");
    assert!(counted.count_total < 100, "{counted:?}");
}

#[derive(Debug)]
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn hub(objects_max: usize) -> Hub {
    let inbox = Inbox::new(16, Arc::new(Notifier::new(Arc::new(Nobody))));
    let reactors = vec![Arc::new(ReactorMetrics::default())];
    let metrics = Metrics { reactors, sources: Vec::new(), clock: Clock::start() };
    let bus = Bus::new(bus::Config::default(), vec![inbox], Vec::new());
    let hub = Hub::new(&HUB, Arc::new(bus), Arc::new(metrics), endpoint::Config::default());
    hub.with_extension(Telemetry { store: None, objects_max })
}

/// The answer to `body` and how many steps it took; each step takes a bounded number of objects.
fn ingest(hub: &Hub, kind: Kind, body: &str) -> (Response, usize) {
    let (reactor, token, now) = (0, 1, Moment(1));
    let config = &endpoint::Config::default();
    let (admin, overload, identity, peer, audited) = (false, None, None, None, None);
    let context = Context { hub, config, reactor, token, now, admin, overload, identity, peer, audited };
    let head = "POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\n\r\n";
    let mut request = Request::parse(head.as_bytes(), &http::HttpLimits::default()).expect("a good head");
    request.body = body.into();
    let mut ingest = match Ingest::new(kind, &request, &context) {
        Ok(ingest) => ingest,
        Err(response) => return (response, 0),
    };
    for steps in 1.. {
        match ingest.step(&context) {
            Step::More => {}
            Step::Done(response) => return (response, steps),
            step => panic!("nothing goes elsewhere: {step:?}"),
        }
    }
    unreachable!("steps end")
}

#[test]
fn many_objects_take_many_steps_and_too_many_no_more_than_are_allowed() {
    let hub = hub(1000);
    let body = |count: usize| format!("[{}]", vec![r#"{"well_id":"W","pip":1}"#; count].join(","));
    // Entries are found, then checked, then published, 64 at a time.
    let (response, steps) = ingest(&hub, Kind::Telemetry, &body(640));
    assert_eq!((response.status, steps), (202, 11 + 10 + 10));
    let answer: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!((&answer["count"], answer["results"].as_array().map(Vec::len)), (&640.into(), Some(640)));
    let (response, steps) = ingest(&hub, Kind::Telemetry, &body(20_000));
    assert_eq!((response.status, steps), (413, 16));
    assert!(String::from_utf8_lossy(&response.body).contains("more than 1000 objects"));
    // A step has fewer large entries, and an entry longer than a step is read in several.
    let large = format!(r#"[{0},{0},{0}]"#, format!(r#"{{"well_id":"W","a":"{}"}}"#, "x".repeat(20_000)));
    assert_eq!(ingest(&hub, Kind::Diagnostic, &large).1, 4 + 6 + 3);
    let many = format!(r#"{{"well_id":"W"{}}}"#, r#","a":1"#.repeat(100_000));
    let (response, steps) = ingest(&hub, Kind::Diagnostic, &many);
    assert_eq!(response.status, 202);
    assert!(2 * (many.len() / STEP_BYTES) <= steps, "{steps} steps: checked and read a part at a time");
}

#[test]
fn bodies_that_are_refused() {
    let check = |body: &str, part: &str| {
        let (response, _) = ingest(&hub(2), Kind::Telemetry, body);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert!(response.status == 400 && text.contains(part), "{body}: {} {text}", response.status);
    };
    check("", "not JSON");
    check("{", "not JSON");
    check("[]", "the array is empty");
    check("7", "the body must be an object, or an array of objects");
    check("[7]", "each element must be an object");
    check(r#"{"well_id":"W","pip":1}{"well_id":"W","pip":1}"#, "something follows");
    check(r#"[{"well_id":"W","pip":1},{"well_id":"W"}]"#, r#""index":1"#);
    check(r#"[{"well_id":"W","pip":1}"#, "does not end");
    // Their number is checked first.
    let (response, _) = ingest(&hub(2), Kind::Telemetry, "[{},{},{}]");
    assert_eq!(response.status, 413);
}

/// Each object of a request has a key of its own, made of the request's: a repeat publishes nothing again, but other kinds, wells
/// and indices do.
#[test]
fn keys_tell_kinds_wells_and_places_apart() {
    let hub = hub(10);
    let ids = |kind: Kind, body: &str| {
        let (response, _) = ingest(&hub, kind, body);
        let answer: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        let all = answer["results"].as_array().expect("an array").clone();
        all.iter().map(|it| it["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let both = r#"[{"well_id":"V","pip":1},{"well_id":"V","pip":1}]"#;
    let first = ids(Kind::Telemetry, both);
    assert_ne!(first[0], first[1]);
    assert_eq!(ids(Kind::Telemetry, both), first);
    let other = ids(Kind::Diagnostic, both);
    assert!(!first.contains(&other[0]) && !first.contains(&other[1]), "{first:?} {other:?}");
}
