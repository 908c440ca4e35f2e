//! A client that asks for everything gets all that is retained, by every protocol, and a gap if events are missing before it.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    socket_io::{Carried, SocketClient},
    sse::SseClient,
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

/// More than the history's 100 events, and less than is kept for readers that are behind.
const EVENTS: usize = 300;
const BEGINNINGS: [&str; 3] = ["0", "0-0", "first"];

fn publish(hub: &Hub, topic: &str, count: usize) -> Vec<String> {
    let lines: Vec<String> =
        (0..count).map(|number| json!({ "topic": topic, "data": { "n": number } }).to_string()).collect();
    let answer = hub.post("/publish", lines.join("\n"));
    let answer = answer.json().as_array().unwrap_or_else(|| panic!("{}", answer.text())).clone();
    answer.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

fn numbered(number: usize) -> String {
    json!({ "n": number }).to_string()
}

fn gap(to: &str) -> Value {
    json!({ "from": "0-0", "to": to, "reason": "expired" })
}

/// A gap without what each transport has of its own.
fn bare(received: &Value) -> Value {
    json!({ "from": received["from"], "to": received["to"], "reason": received["reason"] })
}

#[test]
fn every_route_begins_with_the_first_event() {
    let hub = Hub::start();
    for topic in ["t", "streams.default", "pods.alice.changes", "wells.w"] {
        publish(&hub, topic, EVENTS);
    }
    let check_stream = |target: &str, headers: &[(&str, &str)]| {
        let mut stream = SseClient::open_with(&hub, target, headers);
        // If the API has a greeting, it comes first.
        let mut first = stream.next();
        if first.kind == "connected" || first.data.contains(r#""type":"connection""#) {
            first = stream.next();
        }
        assert_eq!(first.data, numbered(0), "{target}");
        (1..EVENTS).for_each(|number| assert_eq!(stream.next_data(), numbered(number), "{target}"));
    };
    for word in BEGINNINGS {
        check_stream("/sse?topic=t", &[("Last-Event-ID", word)]);
        check_stream("/api/v1/sse/stream/w", &[("Last-Event-ID", word)]);
        check_stream("/api/v1/events/stream/default", &[("Last-Event-ID", word)]);
        for name in ["since", "last_event_id", "lastEventId"] {
            check_stream(&format!("/sse?topic=t&{name}={word}"), &[]);
        }
        let mut raw = WebSocketClient::open(&hub, &format!("/ws?topic=t&since={word}"));
        (0..EVENTS).for_each(|number| assert_eq!(raw.next_text(), numbered(number), "{word}"));
        let mut socket = WebSocketClient::open_v1(&hub, "/ws");
        socket.ask(&json!({ "op": "subscribe", "topic": "t", "since": word }));
        (0..EVENTS).for_each(|number| assert_eq!(socket.next_json()["data"]["n"], number, "{word}"));
        let mut client = Carried::open(&hub).enter();
        client.emit("subscribe", &json!({ "topic": "t", "since": word }));
        client.expect_event("subscribed");
        (0..EVENTS).for_each(|number| assert_eq!(client.expect_event("message")["n"], number, "{word}"));
    }
    check_stream("/alice/events/changes?receiveBacklog=true", &[]);
    let listed = hub.get("/topics/t/history").json();
    assert_eq!((listed["events"].as_array().map(Vec::len), &listed["gap"]), (Some(EVENTS), &Value::Null));
    // A client that wants only new events has a word for it.
    assert_eq!(SseClient::open(&hub, "/sse?topic=t&since=last:2").next_data(), numbered(EVENTS - 2));
}

#[test]
fn what_is_not_held_any_more_is_a_gap() {
    let settings = [("topics.history.count", "2"), ("topics.lag.count", "5")];
    let hub = Hub::start_with(&[], &settings);
    let ids = publish(&hub, "t", 9);
    publish(&hub, "pods.alice.changes", 9);
    let expected = gap(&ids[3]);
    for word in BEGINNINGS {
        let mut stream = SseClient::open(&hub, &format!("/sse?topic=t&since={word}"));
        let received = stream.next();
        assert_eq!((received.kind.as_str(), &received.id), ("gap", &ids[3]), "{word}");
        assert_eq!(bare(&serde_json::from_str(&received.data).expect("JSON")), expected, "{word}");
        (4..9).for_each(|number| assert_eq!(stream.next_data(), numbered(number)));
        let mut socket = WebSocketClient::open_v1(&hub, "/ws");
        let subscribed = socket.ask(&json!({ "op": "subscribe", "topic": "t", "since": word }));
        assert_eq!(subscribed["id"], "0-0");
        assert_eq!(bare(&socket.next_json()), expected);
        assert_eq!(socket.next_json()["data"]["n"], 4);
        let mut client = Carried::open(&hub).enter();
        client.emit("subscribe", &json!({ "topic": "t", "since": word }));
        client.expect_event("subscribed");
        assert_eq!(bare(&client.expect_event("gap")), expected);
        assert_eq!(client.expect_event("message")["n"], 4);
        // Raw WebSocket has no form for a gap.
        let Incoming::Close(Some(4408), reason) =
            WebSocketClient::open(&hub, &format!("/ws?topic=t&since={word}")).next()
        else {
            panic!("a raw socket is closed")
        };
        assert!(reason.contains("\"gap\":\"expired\",\"from\":\"0-0\""), "{reason}");
    }
    let mut backlog = SseClient::open(&hub, "/alice/events/changes?receiveBacklog=true");
    assert!(backlog.next_data().contains("expired"));
    assert_eq!(backlog.next_data(), numbered(4));
    let page = hub.get("/topics/t/history").json();
    assert_eq!((&page["gap"], &page["events"][0]["data"]["n"]), (&expected, &json!(4)));
}

#[test]
fn a_page_has_a_continuation() {
    let hub = Hub::start();
    let ids = publish(&hub, "t", 5);
    let page = |query: &str| {
        let page = hub.get(&format!("/topics/t/history?limit=2{query}")).json();
        let numbers = page["events"].as_array().expect("a list").iter().map(|event| event["data"]["n"].clone());
        (numbers.collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(page(""), (vec![json!(0), json!(1)], json!(ids[1])));
    assert_eq!(page(&format!("&since={}", ids[1])), (vec![json!(2), json!(3)], json!(ids[3])));
    assert_eq!(page(&format!("&since={}", ids[3])), (vec![json!(4)], Value::Null));
    assert_eq!(page("&since=last:3"), (vec![json!(2), json!(3)], json!(ids[3])));
}

#[test]
fn without_a_history_newcomers_get_nothing() {
    let hub = Hub::start_with(&[], &[("topics.history.count", "0")]);
    let ids = publish(&hub, "t", 3);
    let mut everything = SseClient::open(&hub, "/sse?topic=t&since=0");
    let mut raw = WebSocketClient::open(&hub, "/ws?topic=t&since=0");
    let mut resumed = SseClient::open(&hub, &format!("/sse?topic=t&since={}", ids[1]));
    assert_eq!(hub.get("/topics/t/history").json()["events"], json!([]));
    hub.publish("t", "live");
    assert_eq!((everything.next_data(), raw.next_text()), ("live".to_owned(), "live".to_owned()));
    assert_eq!(resumed.next_data(), numbered(2), "it has seen what came before");
}

/// The hub forgets an unused topic, but remembers that it had events.
#[test]
fn a_topic_that_came_back_had_events_before() {
    let settings = [("topics.history.age", "50ms"), ("topics.lag.age", "50ms")];
    let hub = Hub::start_with(&[], &settings);
    let ids = publish(&hub, "t", 3);
    wait_until("the topic is forgotten", || (hub.get("/topics/t").status == 404).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=t&since=0");
    assert_eq!(bare(&serde_json::from_str(&stream.next().data).expect("JSON")), gap(&ids[2]));
    let mut fresh = SseClient::open(&hub, "/sse?topic=new&since=0");
    for (topic, stream) in [("t", &mut stream), ("new", &mut fresh)] {
        hub.publish(topic, "next");
        assert_eq!(stream.next_data(), "next", "{topic}");
    }
}
