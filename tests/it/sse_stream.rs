//! Server-Sent Events: the form of a stream, byte by byte, and where it begins.

use std::io::Read;

use crate::support::{
    hub::Hub,
    send_signal,
    sse::{Received, SseClient, send_all},
};

/// Reads the bytes of a connection up to some text.
struct Bytes {
    socket: socket2::Socket,
    received: Vec<u8>,
}

impl Bytes {
    fn of_request(hub: &Hub, request: &str) -> Self {
        let socket = hub.connect();
        send_all(&socket, request.as_bytes());
        Self { socket, received: Vec::new() }
    }

    /// Removes and returns everything up to and including `end`.
    fn read_until(&mut self, end: &str) -> String {
        let mut byte = [0];
        while !self.received.ends_with(end.as_bytes()) {
            self.socket.read_exact(&mut byte).expect("the stream should go on");
            self.received.push(byte[0]);
        }
        String::from_utf8(std::mem::take(&mut self.received)).expect("the hub sends UTF-8")
    }
}

/// Without what differs from run to run.
fn without(text: &str, names: &[&str]) -> String {
    let kept = text.lines().filter(|line| !names.iter().any(|name| line.starts_with(name)));
    kept.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_bytes_of_a_stream() {
    let hub = Hub::start();
    let mut bytes = Bytes::of_request(&hub, "GET /sse?topic=t HTTP/1.1\r\nHost: hub\r\n\r\n");
    let head = bytes.read_until("\r\n\r\n");
    let expected = "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nCache-Control: no-cache\n\
                    X-Accel-Buffering: no\nTransfer-Encoding: chunked\n\n";
    assert_eq!(without(&head, &["Date:"]), expected);
    // A comment at once; `retry:` belongs to the block of the first event.
    let opening = bytes.read_until("\n\r\n");
    let retry = opening.strip_prefix("e\r\n:\nretry: ").and_then(|rest| rest.strip_suffix("\n\r\n"));
    assert!(retry.is_some_and(|retry| retry.parse::<u32>().is_ok()), "{opening:?}");
    let id = hub.publish("t", "one\ntwo");
    let block = format!("id: {id}\ndata: one\ndata: two\n\n");
    assert_eq!(bytes.read_until("\n\n\r\n"), format!("{:x}\r\n{block}\r\n", block.len()));
    assert_eq!(hub.post("/publish/t?type=made", "x").status, 200);
    assert!(bytes.read_until("\n\n\r\n").contains("\nevent: made\ndata: x\n\n"));
}

#[test]
fn to_http_1_0_a_stream_has_no_chunks_and_ends_with_the_connection() {
    let hub = Hub::start();
    let mut bytes = Bytes::of_request(&hub, "GET /sse?topic=t HTTP/1.0\r\n\r\n");
    let head = bytes.read_until("\r\n\r\n");
    assert!(head.contains("\r\nConnection: close\r\n") && !head.contains("Transfer-Encoding"), "{head}");
    assert!(bytes.read_until("\n").starts_with(':'));
    bytes.read_until("\n");
    let id = hub.publish("t", "x");
    assert_eq!(bytes.read_until("\n\n"), format!("id: {id}\ndata: x\n\n"));
    send_signal("TERM", hub.pid());
    let mut rest = String::new();
    bytes.socket.read_to_string(&mut rest).expect("a proper end");
    assert!(rest.starts_with("retry: "), "{rest:?}");
}

#[test]
fn unnamed_streams_have_no_event_lines() {
    let hub = Hub::start();
    let mut named = SseClient::open(&hub, "/sse?topic=t");
    let mut unnamed = SseClient::open(&hub, "/sse?topic=t&named=0");
    assert_eq!(hub.post("/publish/t?type=made", "x").status, 200);
    assert_eq!((named.next().kind.as_str(), unnamed.next().kind.as_str()), ("made", ""));
}

#[test]
fn several_topics_have_a_vector_for_an_id() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=a&topic=b&topic=a");
    let first = hub.publish("b", "b1");
    let (epoch, _) = first.split_once('-').expect("an event id");
    assert_eq!(stream.next().id, format!("{epoch}-0,{first}"), "where it stands in a topic without events yet");
    let second = hub.publish("a", "a1");
    let event = stream.next();
    assert_eq!((event.id, event.data.as_str()), (format!("{second},{first}"), "a1"));
    // Events published without subscribers are there for a client that resumes from that id.
    drop(stream);
    for (topic, payload) in [("a", "a2"), ("b", "b2"), ("b", "b3")] {
        hub.publish(topic, payload);
    }
    let mut resumed = SseClient::open(&hub, &format!("/sse?topic=a&topic=b&last_event_id={second},{first}"));
    let mut data = [resumed.next_data(), resumed.next_data(), resumed.next_data()];
    data.sort();
    assert_eq!(data, ["a2", "b2", "b3"]);
}

#[test]
fn resume_begins_behind_the_last_event_seen() {
    let hub = Hub::start();
    let ids: Vec<String> = (1..=5).map(|number| hub.publish("t", number.to_string())).collect();
    let read = |target: &str, headers: &[(&str, &str)]| {
        let mut stream = SseClient::open_with(&hub, target, headers);
        let first = stream.next();
        let second = stream.next();
        assert!(ids.contains(&first.id));
        format!("{} {}", first.data, second.data)
    };
    let check = |target: &str, headers: &[(&str, &str)], expected: &str| {
        assert_eq!(read(target, headers), expected, "{target} {headers:?}");
    };
    check("/sse?topic=t", &[("Last-Event-ID", &ids[1])], "3 4");
    check(&format!("/sse?topic=t&last_event_id={}", ids[2]), &[], "4 5");
    check(&format!("/sse?topic=t&lastEventId={}", ids[0]), &[], "2 3");
    // The browser itself sets the header, so it is newer than the URL.
    check(&format!("/sse?topic=t&last_event_id={}", ids[0]), &[("Last-Event-ID", &ids[2])], "4 5");
    check("/sse?topic=t&last_event_id=first", &[], "1 2");
    check("/sse?topic=t&last_event_id=last:2", &[], "4 5");
}

#[test]
fn replay_goes_over_into_live_events() {
    let hub = Hub::start();
    (1..=20).for_each(|number| drop(hub.publish("t", number.to_string())));
    let mut stream = SseClient::open(&hub, "/sse?topic=t&last_event_id=first");
    (21..=40).for_each(|number| drop(hub.publish("t", number.to_string())));
    let received: Vec<String> = (1..=40).map(|_| stream.next_data()).collect();
    let expected: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
    assert_eq!(received, expected);
}

#[test]
fn stream_refusals() {
    let hub = Hub::start();
    let many = |count: usize| (0..count).map(|number| format!("topic=t{number}&")).collect::<String>();
    let check = |query: &str, code: &str| {
        let response = hub.get(&format!("/sse?{query}"));
        assert_eq!((response.status, response.error_code().as_str()), (400, code), "{query}");
    };
    check("topic=a..b", "bad_topic");
    check("topic=", "bad_topic");
    check("topic=a%20b", "bad_topic");
    check("topic=a&last_event_id=yesterday", "bad_event_id");
    check("topic=a&last_event_id=1-1,2-2", "bad_event_id");
    check(&many(129), "too_many_topics");
    drop(SseClient::open(&hub, &format!("/sse?{}", many(128))));
}

#[test]
fn without_a_topic_a_stream_has_the_default_ones() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse");
    hub.publish("events.critical", "x");
    assert_eq!(stream.next_data(), "x");
}

#[test]
fn a_silent_stream_gets_comments() {
    let hub = Hub::start_with(&[], &[("sse.heartbeat", "1s")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    // The first event opened the stream.
    stream.wait_for_comments(3);
    hub.publish("t", "x");
    assert_eq!(stream.next_data(), "x");
}

#[test]
fn the_end_of_the_hub_has_a_reconnection_time() {
    let hub = Hub::start_with(&[], &[("sse.retry", "4s"), ("drain.window", "1s")]);
    let mut streams: Vec<SseClient> = (0..20).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    assert!(hub.terminate().success());
    let mut retries: Vec<u64> = Vec::new();
    for stream in &mut streams {
        assert_eq!(stream.read_to_end(), Vec::<Received>::new());
        retries.extend(stream.retry_ms());
    }
    assert_eq!(retries.len(), streams.len());
    assert!(retries.iter().all(|retry| (4000..=6000).contains(retry)), "{retries:?}");
    assert!(retries.iter().any(|retry| *retry != retries[0]), "not all at once: {retries:?}");
}
