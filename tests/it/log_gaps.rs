//! Entries of a broker's log that are no events, but tell of a gap at their place, as a bridge adds them.

use serde_json::Value;

use crate::{
    jetstream, redis_stream,
    support::{hub::Hub, nats::NatsServer, redis::RedisServer, sse::SseClient},
};

/// The next one: a payload, or the reason of a gap. With its id, or the end of the gap.
fn next(stream: &mut SseClient) -> (String, String) {
    let received = stream.next();
    if received.kind != "gap" {
        return (received.id, received.data);
    }
    let gap: Value = serde_json::from_str(&received.data).expect("a gap is JSON");
    let text = |name: &str| gap[name].as_str().expect("a text").to_owned();
    (text("to"), format!("gap {}", text("reason")))
}

/// Whoever listens, and whoever comes back later, gets the same, at the same places: from a hub's own log, and of `other`, which
/// has loaded the newest events alone, from the broker.
fn check(hub: &Hub, other: &dyn Fn() -> Hub, topic: &str, mut live: SseClient, expected: &[&str]) {
    let all: Vec<(String, String)> = expected.iter().map(|_| next(&mut live)).collect();
    assert_eq!(all.iter().map(|(_, shown)| shown.as_str()).collect::<Vec<_>>(), expected);
    for hub in [hub, &other()] {
        for (index, (id, _)) in all.iter().enumerate() {
            let mut later = SseClient::open_with(hub, &format!("/sse?topic={topic}"), &[("Last-Event-ID", id)]);
            for due in &all[index + 1..] {
                assert_eq!(next(&mut later), *due, "behind {id}");
            }
        }
    }
}

const EXPECTED: [&str; 6] = ["1", "gap expired", "2", "gap source_lost", "gap source_lost", "3"];

#[test]
fn a_message_of_jetstream_tells_of_a_gap() {
    let server = NatsServer::start_with_jetstream();
    let start = || jetstream::hub_on(&server, "history = { count = 2, age = \"1h\" }", &[]);
    let hub = start();
    let live = SseClient::open(&hub, "/sse?topic=t.a");
    let mut client = server.client();
    for (headers, payload) in [
        (&[][..], &b"1"[..]),
        (&[("Fanfare-Gap", "expired")], b"\xFF"),
        (&[("Event-Type", "")], b"2"),
        (&[("Fanfare-Gap", "epoch")], b"\xFF"),
        // What a hub that does not know the header makes of it.
        (&[("X-Gap", "expired")], b"\xFF"),
        // Text is an event, whatever stands beside it.
        (&[("Fanfare-Gap", "expired")], b"3"),
    ] {
        client.publish_with("t.a", headers, payload);
    }
    check(&hub, &start, "t.a", live, &EXPECTED);
}

#[test]
fn an_entry_of_a_redis_stream_tells_of_a_gap() {
    let server = RedisServer::start();
    let start = || redis_stream::hub_on(&server, &[("topics.history.count", "2")]);
    let hub = start();
    let live = SseClient::open(&hub, "/sse?topic=t");
    let mut connection = server.connect();
    for (reason, payload) in [
        ("", &b"1"[..]),
        ("expired", b"\xFF"),
        ("", b"2"),
        ("epoch", b"\xFF"),
        ("", b"\xFF"),
        // Text is an event, whatever stands beside it.
        ("expired", b"3"),
    ] {
        let mut command = redis::cmd("XADD");
        command.arg("t").arg("*");
        if !reason.is_empty() {
            command.arg("gap").arg(reason);
        }
        let id: String = command.arg("data").arg(payload).query(&mut connection).expect("an id");
        assert!(id.contains('-'), "{id}");
    }
    check(&hub, &start, "t", live, &EXPECTED);
}
