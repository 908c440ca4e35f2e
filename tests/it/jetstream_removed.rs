//! Messages that a stream of JetStream no longer has: readers are told, and of nothing else.

use serde_json::json;

use crate::{
    jetstream::{STREAM, expect_gap, gap, hub_on, resume, take_numbers, with_seq},
    support::{nats::NatsServer, sse::SseClient, wait_until},
};

#[test]
fn what_was_removed_is_a_gap() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "history = { count = 5000 }\nlag = { count = 1 }", &[]);
    server.client().publish_all("t.a", (1..=100).map(|number| number.to_string()));
    let first = SseClient::open(&hub, "/sse?topic=t.a&last_event_id=first").next().id;
    drop(hub);
    let purged = server.request(&format!("$JS.API.STREAM.PURGE.{STREAM}"), r#"{"seq":61}"#);
    assert_eq!(purged["purged"], 60, "{purged}");
    let hub = hub_on(&server, "history = { count = 5000 }\nlag = { count = 1 }", &[]);
    let mut stream = resume(&hub, &with_seq(&first, 20));
    assert_eq!(expect_gap(&stream.next()), gap(&with_seq(&first, 20), &with_seq(&first, 60), "expired"));
    take_numbers(&mut stream, 60, 40);
    take_numbers(&mut resume(&hub, &with_seq(&first, 60)), 60, 40);
    let newer = resume(&hub, &with_seq(&first, 1000)).next();
    assert_eq!(expect_gap(&newer)["reason"], "epoch");
    let foreign = resume(&hub, "5-60").next();
    assert_eq!(expect_gap(&foreign)["reason"], "epoch");
}

/// Events of other topics are removed. A client of a topic that was quiet comes back with an id from before the oldest one that is left,
/// to a hub that has followed the stream since: it misses nothing, and is told of nothing.
#[test]
fn a_quiet_topic_has_no_gap() {
    let server = NatsServer::start_with_jetstream();
    let hubs = [0, 1].map(|_| hub_on(&server, "", &[]));
    // So that the hub follows the stream, and none of these topics.
    let mut other = SseClient::open(&hubs[1], "/sse?topic=t.other");
    let first = hubs[0].publish("t.b", "before");
    let last = hubs[0].publish("t.a", "before");
    let lost = hubs[0].publish("t.b", "lost");
    for number in 1..=10 {
        hubs[0].publish("t.other", number.to_string());
        assert_eq!(other.next_data(), number.to_string());
    }
    let purged = server.request(&format!("$JS.API.STREAM.PURGE.{STREAM}"), r#"{"seq":10}"#);
    assert_eq!(purged["purged"], 9, "{purged}");
    let mut quiet = resume(&hubs[1], &last);
    let told = SseClient::open_with(&hubs[1], "/sse?topic=t.b", &[("Last-Event-ID", &first)]).next();
    assert_eq!(expect_gap(&told)["from"], json!(first), "{told:?}");
    let mut kept = SseClient::open_with(&hubs[1], "/sse?topic=t.b", &[("Last-Event-ID", &lost)]);
    hubs[0].publish("t.a", "after");
    assert_eq!(quiet.next_data(), "after");
    hubs[0].publish("t.b", "after");
    assert_eq!(kept.next_data(), "after");
    // A hub that has not followed it knows nothing.
    let third = hub_on(&server, "", &[]);
    assert_eq!(expect_gap(&resume(&third, &last).next())["reason"], "expired");
}

/// The newest messages are removed before the hub has read them, and none comes after: readers are told all the same, once.
#[test]
fn a_newest_message_that_is_removed_is_told() {
    let mut server = NatsServer::start_with_jetstream();
    // So that the hub is away for long enough.
    let hub = hub_on(&server, "", &[("nats.backoff_min", "2s"), ("nats.backoff_max", "2s")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let first = hub.publish("t.a", "1");
    assert_eq!(stream.next_data(), "1");
    server.kill();
    server.restart();
    wait_until("the stream is there", || {
        server.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")["error"].is_null().then_some(())
    });
    server.client().publish_all("t.a", ["2", "3"]);
    for seq in [2, 3] {
        let deleted = server.request(&format!("$JS.API.STREAM.MSG.DELETE.{STREAM}"), &format!(r#"{{"seq":{seq}}}"#));
        assert_eq!(deleted["success"], true, "{deleted}");
    }
    assert_eq!(expect_gap(&stream.next()), gap(&first, &with_seq(&first, 3), "expired"));
    wait_until("publishing works again", || (hub.post("/publish/t.a", "4").status == 200).then_some(()));
    assert_eq!(stream.next_data(), "4");
}

/// A stream that was deleted, and made anew by the hub or by somebody else, is another one.
#[test]
fn a_stream_that_is_made_anew_is_a_gap() {
    let server = NatsServer::start_with_jetstream();
    let hub = hub_on(&server, "", &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t.a");
    let id = hub.publish("t.a", "1");
    assert_eq!(stream.next_data(), "1");
    let deleted = server.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "");
    assert_eq!(deleted["success"], true, "{deleted}");
    let told = expect_gap(&stream.next());
    assert_eq!((&told["from"], &told["reason"]), (&json!(id), &json!("epoch")));
    hub.publish("t.a", "2");
    assert_eq!(stream.next_data(), "2");
    // A reader that was away gets the gap as well, even from a hub that knows nothing of the time before.
    for hub in [&hub, &hub_on(&server, "", &[])] {
        let mut stream = resume(hub, &id);
        assert_eq!(expect_gap(&stream.next())["reason"], "epoch");
        assert_eq!(stream.next_data(), "2");
    }
}
