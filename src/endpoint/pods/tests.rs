use super::*;

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
        let topic = topic_of("alice").expect("a good name");
        let mut changes =
            Changes { topic: topic.clone(), identity: None, answer: Vec::new(), count: 0, failures: 0, failed: None };
        receipts.iter().for_each(|receipt| changes.note(&topic, *receipt));
        let response = changes.finish();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status);
        assert!(body.contains(expected), "{expected} is not in {body}");
    };
    let id = crate::event::EventId { major: 7, minor: 1 };
    check(&[], 200, r#"{"ids":[]}"#);
    check(&[Ok(Some(id)), Ok(None)], 201, r#"{"ids":["7-1",null]}"#);
    check(&[Ok(Some(id)), Err(PublishFailed::QueueFull)], 503, "1 of 2 events were published; of the others: too many");
    check(&[Err(PublishFailed::NoRoom)], 503, "the memory budget is spent; nothing was published");
}
