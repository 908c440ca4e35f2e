use super::*;

#[test]
fn bodies() {
    let check = |body: &str, expected: Result<&[&str], u16>| {
        let events = parse_events(body.as_bytes()).map_err(|response| response.status);
        assert_eq!(events, expected.map(|texts| texts.iter().map(|text| Bytes::from((*text).to_owned())).collect()));
    };
    check(r#"{"n":1}"#, Ok(&[r#"{"n":1}"#]));
    check(r#" [ {"n": 1.50} , {} ] "#, Ok(&[r#"{"n": 1.50}"#, "{}"]));
    check("[]", Ok(&[]));
    for bad in ["", "{", "[", "7", "\"x\"", "null", "[{},7]", "[[{}]]", "{} {}", "[{}],"] {
        check(bad, Err(400));
    }
}

#[test]
fn pods_are_one_segment() {
    let check = |pod: &str, expected: Option<&str>| {
        assert_eq!(topic_of(pod).ok().as_ref().map(Topic::as_str), expected, "{pod}");
    };
    check("alice", Some("pods.alice.changes"));
    check("a:b_c-9", Some("pods.a:b_c-9.changes"));
    for bad in ["", "a.b", "a/b", "a b", ".", &"x".repeat(250)] {
        check(bad, None);
    }
}

#[test]
fn answers() {
    let check = |receipts: &[Receipt], status: u16, expected: &str| {
        let response = describe_receipts(receipts);
        assert_eq!((response.status, String::from_utf8_lossy(&response.body).as_ref()), (status, expected));
    };
    let id = crate::event::EventId { major: 7, minor: 1 };
    check(&[Ok(Some(id)), Ok(None)], 201, r#"{"ids":["7-1",null]}"#);
    let failed = describe_receipts(&[Ok(Some(id)), Err(crate::bus::PublishFailed::QueueFull)]);
    assert_eq!(failed.status, 503);
}
