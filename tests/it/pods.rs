//! Pods of sensors: changes are published by POST and read as a stream, with or without earlier ones.

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    http::{HttpConnection, Response},
    hub::Hub,
    redis::RedisServer,
    sse::SseClient,
    wait_until,
};

const CHANGES: &str = "/alice/events/changes";

/// The ids in the answer to a POST, which must have succeeded.
#[track_caller]
fn ids(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 201, "{}", response.text());
    let ids = response.json()["ids"].as_array().expect("an array").clone();
    ids.iter().map(|id| id.as_str().expect("an embedded hub gives ids").to_owned()).collect()
}

#[test]
fn one_event_or_several() {
    let hub = Hub::start();
    let (mut live, mut native) =
        (SseClient::open(&hub, CHANGES), SseClient::open(&hub, "/sse?topic=pods.alice.changes"));
    let mut other = SseClient::open(&hub, "/bob/events/changes");
    let first = r#"{"sensor": "Sensor1", "value": 21.50}"#;
    let mut expected = ids(&hub.post(CHANGES, first));
    expected.extend(ids(&hub.post(CHANGES, r#"[ {"n":2}, {"n":3} ]"#)));
    for (id, data) in expected.iter().zip([first, r#"{"n":2}"#, r#"{"n":3}"#]) {
        let event = live.next();
        assert_eq!((&event.id, event.kind.as_str(), event.data.as_str()), (id, "", data), "verbatim, without a name");
        assert_eq!(native.next(), event);
    }
    hub.publish("pods.bob.changes", "{}");
    assert_eq!(other.next_data(), "{}", "and nothing before it");
    let none = hub.post(CHANGES, "[]");
    assert_eq!((none.status, none.json()), (200, json!({ "ids": [] })));
}

#[test]
fn the_backlog_comes_first_when_asked_for() {
    let hub = Hub::start();
    let sent = ids(&hub.post(CHANGES, r#"[{"n":1},{"n":2},{"n":3}]"#));
    let mut backlog = SseClient::open(&hub, &format!("{CHANGES}?receiveBacklog=true"));
    let mut live = SseClient::open(&hub, &format!("{CHANGES}?receiveBacklog=false"));
    let resumed = [("Last-Event-ID", sent[1].as_str())];
    let mut resumed = SseClient::open_with(&hub, &format!("{CHANGES}?receiveBacklog=true"), &resumed);
    ids(&hub.post(CHANGES, r#"{"n":4}"#));
    let check = |client: &mut SseClient, expected: &[u64]| {
        for n in expected {
            assert_eq!(client.next_data(), json!({ "n": n }).to_string());
        }
    };
    check(&mut backlog, &[1, 2, 3, 4]);
    check(&mut live, &[4]);
    check(&mut resumed, &[3, 4]);
}

#[test]
fn all_or_nothing() {
    let hub = Hub::start_with(&[], &[("limits.event_bytes_max", "1KiB")]);
    let mut live = SseClient::open(&hub, CHANGES);
    let check = |target: &str, body: &str, status: u16, code: &str, field: Option<&str>| {
        let answer = hub.post(target, body);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{body}");
        assert_eq!(answer.json()["error"]["field"].as_str(), field, "{body}");
    };
    check(CHANGES, r#"[{"n":1},7]"#, 400, "bad_json", Some("[1]"));
    check(CHANGES, r#"[{"n":1},{"#, 400, "bad_json", None);
    check(CHANGES, "", 400, "bad_json", None);
    check(CHANGES, &json!([{ "n": 1 }, { "text": "x".repeat(1024) }]).to_string(), 413, "too_big", Some("[1]"));
    check("/a.b/events/changes", "{}", 400, "bad_pod", Some("pod"));
    check("/a%20b/events/changes", "{}", 400, "bad_pod", Some("pod"));
    assert_eq!(hub.get("/a.b/events/changes").error_code(), "bad_pod");
    let mut connection = HttpConnection::new(hub.connect());
    assert_eq!(connection.request(Method::Put, CHANGES, &[], b"{}").status, 405);
    ids(&hub.post(CHANGES, r#"{"n":2}"#));
    assert_eq!(live.next_data(), r#"{"n":2}"#, "nothing of all that was published");
}

/// Its events are published a few at a time, between deliveries. Published all at once, they would push each other off the log
/// (16,384 events of what a reader may be behind by) before the first is delivered.
#[test]
fn readers_follow_a_request_that_brings_more_than_the_log_holds() {
    let hub = Hub::start_with(&["--reactors", "1"], &[]);
    let mut live = SseClient::open(&hub, CHANGES);
    let events: Vec<String> = (0..20_000).map(|n| json!({ "n": n }).to_string()).collect();
    let body = format!("[{}]", events.join(","));
    std::thread::scope(|scope| {
        let posted = scope.spawn(|| ids(&hub.post(CHANGES, &body)));
        let mut got = Vec::with_capacity(events.len());
        for event in &events {
            let received = live.next();
            assert_eq!(received.data, *event);
            got.push(received.id);
        }
        assert_eq!(posted.join().expect("it is answered"), got);
    });
    // The last entry is wrong, so none is published.
    let bad = format!("[{},7]", events.join(","));
    let answer = hub.post(CHANGES, bad);
    assert_eq!((answer.status, answer.json()["error"]["field"].as_str()), (400, Some("[20000]")));
    ids(&hub.post(CHANGES, r#"{"n":"last"}"#));
    assert_eq!(live.next_data(), r#"{"n":"last"}"#);
}

#[test]
fn pods_of_several_hubs_are_one_through_redis() {
    let server = RedisServer::start();
    let hubs = [0, 1].map(|_| Hub::start_with(&["--redis", &server.url()], &[]));
    for hub in &hubs {
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    }
    let mut clients = [SseClient::open(&hubs[0], CHANGES), SseClient::open(&hubs[1], CHANGES)];
    let answer = hubs[0].post(CHANGES, r#"[{"n":1},{"n":2}]"#);
    assert_eq!((answer.status, answer.json()), (201, json!({ "ids": [Value::Null, Value::Null] })));
    for client in &mut clients {
        assert_eq!([client.next_data(), client.next_data()], [r#"{"n":1}"#, r#"{"n":2}"#]);
    }
    // Part by part, each after the broker has confirmed the one before.
    let many: Vec<String> = (0..300).map(|n| json!({ "n": n }).to_string()).collect();
    let answer = hubs[1].post(CHANGES, format!("[{}]", many.join(",")));
    assert_eq!((answer.status, answer.json()), (201, json!({ "ids": vec![Value::Null; 300] })));
    for client in &mut clients {
        many.iter().for_each(|event| assert_eq!(client.next_data(), *event));
    }
}
