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

/// Hundreds of thousands of ids are written once and not copied.
#[test]
fn an_answer_is_not_put_together_at_its_end() {
    let topic = topic_of("alice").expect("a good name");
    let answer = Vec::with_capacity(4_000_000);
    let start = answer.as_ptr();
    let mut changes = Changes { topic: topic.clone(), identity: None, answer, count: 0, failures: 0, failed: None };
    for minor in 1..=100_000 {
        changes.record(&topic, Ok(Some(crate::event::EventId::new(1_768_068_834_227, minor))));
    }
    let response = changes.finish();
    assert_eq!((response.status, response.body.as_ptr()), (201, start));
}

#[test]
fn answers() {
    let check = |receipts: &[Receipt], status: u16, expected: &str| {
        let topic = topic_of("alice").expect("a good name");
        let mut changes =
            Changes { topic: topic.clone(), identity: None, answer: Vec::new(), count: 0, failures: 0, failed: None };
        receipts.iter().for_each(|receipt| changes.record(&topic, *receipt));
        let response = changes.finish();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status);
        assert!(body.contains(expected), "{expected} is not in {body}");
    };
    let id = crate::event::EventId::new(7, 1);
    check(&[], 200, r#"{"ids":[]}"#);
    check(&[Ok(Some(id)), Ok(None)], 201, r#"{"ids":["7-1",null]}"#);
    check(&[Ok(Some(id)), Err(PublishFailed::QueueFull)], 503, "1 of 2 events were published; of the others: too many");
    check(&[Err(PublishFailed::NoRoom)], 503, "the memory budget is spent; nothing was published");
}
