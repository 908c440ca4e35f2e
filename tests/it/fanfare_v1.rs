//! The subprotocol `fanfare.v1`: commands in, envelopes out.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    sse::SseClient,
    websocket::{Incoming, WebSocketClient},
};

#[test]
fn subscribe_publish_unsubscribe() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let subscribed = socket.ask(&json!({ "op": "subscribe", "topic": "t", "ref": 7 }));
    assert_eq!(
        (&subscribed["op"], &subscribed["topic"], &subscribed["ref"]),
        (&json!("subscribed"), &json!("t"), &json!(7))
    );
    assert!(subscribed["id"].is_string(), "the id after which events follow: {subscribed}");
    socket.send(r#"{"op":"publish","topic":"t","type":"made","data":{"n": 1},"ref":{"any":["thing"]}}"#);
    let (mut event, mut published) = (socket.next_json(), socket.next_json());
    if event["op"] == "published" {
        (event, published) = (published, event);
    }
    assert_eq!(
        (&published["op"], &published["topic"], &published["ref"]),
        (&json!("published"), &json!("t"), &json!({ "any": ["thing"] }))
    );
    assert_eq!(
        event,
        json!({ "op": "event", "topic": "t", "id": published["id"], "type": "made", "data": { "n": 1 } })
    );
    let seen = stream.next();
    assert_eq!(
        (json!(seen.id), seen.kind.as_str(), seen.data.as_str()),
        (published["id"].clone(), "made", r#"{"n": 1}"#)
    );
    let unsubscribed = socket.ask(&json!({ "op": "unsubscribe", "topic": "t", "ref": "r" }));
    assert_eq!(unsubscribed, json!({ "op": "unsubscribed", "topic": "t", "ref": "r" }));
    hub.publish("t", "unheard");
    assert_eq!(socket.ask(&json!({ "op": "ping", "ref": 9 })), json!({ "op": "pong", "ref": 9 }));
    socket.close();
}

#[test]
fn text_payloads_become_strings() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws?topic=t");
    let mut check = |payload: &str, expected: Value| {
        hub.publish("t", payload);
        assert_eq!(socket.next_json()["data"], expected, "{payload}");
    };
    check("7", json!(7));
    check("not JSON", json!("not JSON"));
    check("quote \" and \\ and \n", json!("quote \" and \\ and \n"));
    check("{\"a\":1}", json!({ "a": 1 }));
    check("{\"a\":1} trailing", json!("{\"a\":1} trailing"));
    check("null", Value::Null);
    check("", json!(""));
}

#[test]
fn subscribe_since_replays() {
    let hub = Hub::start();
    let ids: Vec<String> = (1..=4).map(|number| hub.publish("t", number.to_string())).collect();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let subscribed = socket.ask(&json!({ "op": "subscribe", "topic": "t", "since": ids[1] }));
    assert_eq!((&subscribed["op"], &subscribed["id"]), (&json!("subscribed"), &json!(ids[1])));
    assert_eq!([&socket.next_json()["id"], &socket.next_json()["id"]], [&json!(ids[2]), &json!(ids[3])]);
    hub.publish("t", "5");
    assert_eq!(socket.next_json()["data"], 5);
    let mut live = WebSocketClient::open_v1(&hub, "/ws");
    let id = live.ask(&json!({ "op": "subscribe", "topic": "t" }))["id"].clone();
    let next = hub.publish("t", "6");
    assert_eq!(live.next_json()["id"], next.as_str());
    assert_eq!(id, hub.get("/topics/t/history?since=first").json()["events"][4]["id"], "that before the next");
}

#[test]
fn a_client_that_received_nothing_can_resume() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let id = socket.ask(&json!({ "op": "subscribe", "topic": "t" }))["id"].clone();
    drop(socket);
    hub.publish("t", "missed");
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "t", "since": id }))["id"], id);
    assert_eq!(socket.next_json()["data"], "missed");
}

#[test]
fn stats_over_the_socket() {
    let hub = Hub::start();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws?topic=t");
    let answer = socket.ask(&json!({ "op": "stats", "ref": 1 }));
    assert_eq!((&answer["op"], &answer["ref"]), (&json!("stats"), &json!(1)));
    assert_eq!(answer["stats"]["connected_clients"], 1);
}

#[test]
fn refused_commands() {
    let hub = Hub::start_with(&[], &[("limits.messages_per_second", "1000")]);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws?topic=mine");
    let mut check = |command: &str, expected_reference: Value| {
        socket.send(command);
        let answer = socket.next_json();
        assert_eq!(answer["op"], "error", "{command}: {answer}");
        assert!(answer["code"].is_string() && answer["message"].is_string(), "{command}: {answer}");
        assert_eq!(answer["ref"], expected_reference, "{command}: {answer}");
    };
    check("", Value::Null);
    check("hello", Value::Null);
    check("[]", Value::Null);
    check("{}", Value::Null);
    check(r#"{"op":"dance","ref":1}"#, json!(1));
    check(r#"{"op":"subscribe","ref":2}"#, json!(2));
    check(r#"{"op":"subscribe","topic":"a..b","ref":3}"#, json!(3));
    check(r#"{"op":"subscribe","topic":"mine","ref":4}"#, json!(4));
    check(r#"{"op":"subscribe","topic":"t","since":"yesterday","ref":5}"#, json!(5));
    check(r#"{"op":"unsubscribe","topic":"t","ref":6}"#, json!(6));
    check(r#"{"op":"publish","topic":"t","ref":7}"#, json!(7));
    check(r#"{"op":"publish","topic":"","data":1,"ref":8}"#, json!(8));
    check(r#"{"op":"publish","topic":"t","type":"a\nb","data":1,"ref":9}"#, json!(9));
    hub.publish("mine", "\"still here\"");
    assert_eq!(socket.next_json()["data"], "still here");
    assert_eq!(hub.stats()["events_received"], 1);
}

#[test]
fn one_connection_has_128_topics() {
    let hub = Hub::start_with(&[], &[("limits.messages_per_second", "1000")]);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    for number in 0..128 {
        let subscribed = socket.ask(&json!({ "op": "subscribe", "topic": format!("t{number}") }));
        assert_eq!(subscribed["op"], "subscribed");
    }
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "more" }))["op"], "error");
    assert_eq!(socket.ask(&json!({ "op": "unsubscribe", "topic": "t5" }))["op"], "unsubscribed");
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "more" }))["op"], "subscribed");
    hub.publish("more", "1");
    assert_eq!(socket.next_json()["topic"], "more");
}

#[test]
fn too_many_messages_are_ignored_then_the_end() {
    let settings = [("limits.messages_per_second", "5"), ("limits.rate_limit_patience", "500ms")];
    let hub = Hub::start_with(&[], &settings);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    (0..20).for_each(|_| socket.send(r#"{"op":"ping"}"#));
    let answers: Vec<Value> = (0..20).map(|_| socket.next_json()).collect();
    let pongs = answers.iter().filter(|answer| answer["op"] == "pong").count();
    let ignored = answers.iter().filter(|answer| answer["code"] == "RateLimited").count();
    assert_eq!(pongs + ignored, 20, "{answers:?}");
    assert!((5..20).contains(&pongs), "{answers:?}");
    let code = loop {
        socket.try_send_bytes(b"\x81\x80\x00\x00\x00\x00");
        match socket.next() {
            Incoming::Close(code, _) => break code,
            Incoming::End => panic!("without a close frame"),
            _ => {}
        }
    };
    assert_eq!(code, Some(1008));
}

#[test]
fn a_raw_socket_that_talks_too_much_is_closed() {
    let settings = [("limits.messages_per_second", "5"), ("limits.rate_limit_patience", "1ms")];
    let hub = Hub::start_with(&[], &settings);
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=t");
    let closed = std::thread::scope(|scope| {
        let mut talking = socket.try_clone();
        scope.spawn(move || while talking.try_send_bytes(b"\x81\x80\x00\x00\x00\x00") {});
        socket.close_code()
    });
    assert_eq!(closed, Some(1008));
}
