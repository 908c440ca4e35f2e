//! The event streaming service: its two mounts, the form of its answers, and other routes to the same topics.

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    conversation::Conversation,
    example::run_in_node,
    http::{HttpConnection, Response},
    hub::Hub,
    redis::RedisServer,
    sse::{Received, SseClient},
    wait_until,
    websocket::WebSocketClient,
};

const EVENTS: &str = "/api/v1/events";
const DEMO: &str = "/api/v1/broadcast-demo";

fn broadcast(hub: &Hub, mount: &str, body: &Value) -> Response {
    hub.post(&format!("{mount}/broadcast"), body.to_string())
}

fn open(hub: &Hub, mount: &str, stream: &str) -> SseClient {
    SseClient::open(hub, &format!("{mount}/stream/{stream}")).behind_greeting()
}

/// The data of `event`. Its timestamp must be now, and its id that of the event.
#[track_caller]
fn event_data(event: &Received) -> Value {
    let mut data: Value = serde_json::from_str(&event.data).expect("an object");
    assert!(event.kind.is_empty() && !event.id.is_empty(), "{event:?}");
    let fields = data.as_object_mut().expect("an object");
    let id = fields.remove("id").expect("an id");
    assert!(id.as_str().is_some_and(|id| id.starts_with("evt_")), "{id}");
    let timestamp = fields.remove("timestamp").expect("a timestamp").as_i64().expect("a whole number");
    let now = std::time::UNIX_EPOCH.elapsed().expect("it is past 1970").as_secs();
    assert!(timestamp.abs_diff(i64::try_from(now).expect("not that late")) < 60, "{timestamp}");
    data
}

/// `response` without its timestamp, and its status.
#[track_caller]
fn envelope(response: &Response) -> (u16, Value) {
    let mut body = response.json();
    assert!(body["timestamp"].is_i64(), "{body}");
    body.as_object_mut().expect("an object").remove("timestamp");
    (response.status, body)
}

#[track_caller]
fn assert_done(response: &Response, message: &str) {
    assert_eq!(envelope(response), (200, json!({ "success": true, "message": message })));
}

#[test]
fn the_head_of_a_stream_is_as_documented() {
    let hub = Hub::start();
    let fields = |flags: &[&str]| {
        let url = format!("{}{EVENTS}/stream/default", hub.url(0));
        let arguments = [&["--silent", "--no-buffer", "--include"], flags, &[url.as_str()]].concat();
        let listening = Conversation::start("curl", "curl", &arguments);
        std::iter::from_fn(|| Some(listening.next_line()).filter(|line| !line.is_empty())).collect::<Vec<String>>()
    };
    let documented = [
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache",
        "Connection: keep-alive",
        "Access-Control-Allow-Origin: *",
        "Access-Control-Allow-Headers: Cache-Control",
    ];
    for flags in [&[][..], &["--header", "Origin: https://a.example"]] {
        let head = fields(flags);
        for field in documented {
            assert_eq!(head.iter().filter(|line| *line == field).count(), 1, "{field}: {head:?}");
        }
    }
    let head = fields(&["--http1.0"]);
    assert!(head.iter().any(|line| line == "Connection: close"), "{head:?}");
    assert!(!head.iter().any(|line| line.contains("keep-alive")), "{head:?}");
}

/// The service's document lists the type. The id makes the event harmless to a client that comes back.
#[test]
fn a_stream_begins_with_a_connection_event_for_its_client_alone() {
    let hub = Hub::start();
    for (mount, stream, topic) in [
        (EVENTS, "default", "streams.default"),
        (DEMO, "demo-default", "broadcast-demo.demo-default"),
        (EVENTS, "a/b.c", "streams.a/b.c"),
    ] {
        let target = format!("{mount}/stream/{stream}");
        let mut first = SseClient::open(&hub, &target);
        let mut native = SseClient::open(&hub, &format!("/sse?topic={topic}"));
        let expected = |resumed: bool| {
            let message = format!("Connected to stream: {stream}");
            json!({ "type": "connection", "message": message, "data": { "resumed": resumed }, "stream_id": stream })
        };
        let received = first.next();
        assert_eq!(event_data(&received), expected(false));
        let mut second = SseClient::open(&hub, &target);
        let other = second.next();
        assert_eq!(event_data(&other), expected(false));
        assert_eq!(received.id, other.id, "both have the same position");
        assert_ne!(received.data, other.data, "each has an event of its own");

        let ids = [hub.publish(topic, "one"), hub.publish(topic, "two")];
        for reader in [&mut first, &mut second, &mut native] {
            assert_eq!([reader.next_data(), reader.next_data()], ["one", "two"], "nobody hears of the others");
        }
        let history = hub.get(&format!("/topics/{topic}/history?since=first")).json();
        assert_eq!(history["events"].as_array().map(Vec::len), Some(2), "{history}");
        // A client that resumes from this id, or from a later one, misses nothing and gets nothing twice.
        let mut readers = vec![first, second, native];
        for (id, missed) in [(&received.id, &["one", "two"][..]), (&ids[0], &["two"]), (&ids[1], &[])] {
            let mut back = SseClient::open_with(&hub, &target, &[("Last-Event-ID", id)]);
            let greeting = back.next();
            assert_eq!((event_data(&greeting), &greeting.id), (expected(true), id));
            missed.iter().for_each(|data| assert_eq!(back.next_data(), *data, "behind {id}"));
            readers.push(back);
        }
        hub.publish(topic, "more");
        readers.iter_mut().for_each(|reader| assert_eq!(reader.next_data(), "more", "and nothing before it"));
        // A HEAD opens no stream, so no event is published.
        let head = HttpConnection::new(hub.connect()).request(Method::Head, &target, &[], b"");
        assert_eq!((head.status, head.text().as_str()), (200, ""));
    }
    assert_eq!(hub.metric("fanfare_gaps_total{reason=\"expired\"}"), 0.0);
}

#[test]
fn a_broadcast_reaches_one_stream_at_every_route() {
    let hub = Hub::start();
    for (mount, stream, topic) in [
        (EVENTS, "notifications", "streams.notifications"),
        (DEMO, "demo-notifications", "broadcast-demo.demo-notifications"),
        (EVENTS, "a/b.c", "streams.a/b.c"),
    ] {
        let (mut listening, mut other) = (open(&hub, mount, stream), open(&hub, mount, "other"));
        let mut native = SseClient::open(&hub, &format!("/sse?topic={topic}"));
        let mut socket = WebSocketClient::open(&hub, &format!("/ws?topic={topic}"));
        let data = json!({ "priority": "high", "recipients": ["user1", "user2"] });
        let body = json!({ "stream_id": stream, "type": "custom_event", "message": "Custom", "data": data });
        assert_done(&broadcast(&hub, mount, &body), &format!("Event broadcasted to stream: {stream}"));
        let event = listening.next();
        assert_eq!(event_data(&event), body);
        let of_native = native.next();
        assert_eq!((of_native.kind.as_str(), &of_native.data, &of_native.id), ("custom_event", &event.data, &event.id));
        assert_eq!(socket.next_text(), event.data);
        hub.publish(topic, "from another door");
        assert_eq!(listening.next_data(), "from another door");
        hub.publish(&topic.replace(stream, "other"), "the next");
        assert_eq!(other.next_data(), "the next", "and nothing before it");
    }
}

#[test]
fn a_broadcast_without_a_stream_reaches_all_of_its_mount() {
    let hub = Hub::start();
    for (mount, foreign) in [(EVENTS, DEMO), (DEMO, EVENTS)] {
        let streams = ["system", "demo-system", "of-its-own"];
        let mut listening: Vec<SseClient> = streams.iter().map(|stream| open(&hub, mount, stream)).collect();
        let mut elsewhere = open(&hub, foreign, "of-its-own");
        for body in [
            json!({ "type": "global_test", "message": "Global test message" }),
            json!({ "stream_id": "", "type": "global_test", "message": "Global test message", "data": {} }),
        ] {
            assert_done(&broadcast(&hub, mount, &body), "Event broadcasted to all streams");
            for (client, stream) in listening.iter_mut().zip(streams) {
                let expected = json!({ "type": "global_test", "message": "Global test message", "stream_id": stream });
                assert_eq!(event_data(&client.next()), expected);
            }
        }
        let only = json!({ "stream_id": "of-its-own", "type": "t", "message": "m" });
        assert_eq!(broadcast(&hub, foreign, &only).status, 200);
        assert_eq!(event_data(&elsewhere.next()), only, "and nothing before it");
    }
}

#[test]
fn errors_have_the_form_of_the_api() {
    let hub = Hub::start_with(&[], &[("limits.event_bytes_max", "1KiB")]);
    let mut listening = open(&hub, EVENTS, "default");
    let check = |body: &str, status: u16, code: &str, field: Option<&str>| {
        let (found, envelope) = envelope(&hub.post(&format!("{EVENTS}/broadcast"), body));
        assert_eq!((found, &envelope["success"], &envelope["error"]["code"]), (status, &json!(false), &json!(code)));
        assert_eq!(envelope["error"]["field"].as_str(), field, "{body}");
        assert!(envelope["message"].as_str().is_some_and(|message| !message.is_empty()), "{envelope}");
    };
    check("{", 400, "bad_json", None);
    check(r#"{"message":"m"}"#, 400, "missing_field", Some("type"));
    check(r#"{"type":"t"}"#, 400, "missing_field", Some("message"));
    check(r#"{"type":"t","message":"m","data":[]}"#, 400, "bad_data", Some("data"));
    check(r#"{"type":"a\nb","message":"m"}"#, 400, "bad_type", Some("type"));
    check(r#"{"stream_id":"a..b","type":"t","message":"m"}"#, 400, "bad_stream_id", Some("stream_id"));
    let big = json!({ "type": "t", "message": "x".repeat(1024) }).to_string();
    check(&big, 413, "too_big", None);
    for target in ["stream/a..b", "stream/a%20b"] {
        let (status, envelope) = envelope(&hub.get(&format!("{EVENTS}/{target}")));
        assert_eq!((status, &envelope["error"]["code"]), (400, &json!("bad_stream_id")), "{target}");
    }
    assert_eq!(hub.get(&format!("{EVENTS}/broadcast")).status, 405);
    let last = json!({ "stream_id": "default", "type": "t", "message": "m" });
    assert_eq!(broadcast(&hub, EVENTS, &last).status, 200);
    assert_eq!(event_data(&listening.next()), last, "nothing of all that was published");
}

#[test]
fn streams_are_listed() {
    let hub = Hub::start();
    let _clients = [open(&hub, EVENTS, "default"), open(&hub, EVENTS, "default"), open(&hub, EVENTS, "mine")];
    let (status, listed) = envelope(&hub.get(&format!("{EVENTS}/streams")));
    let idle = |clients: u64| json!({ "clients": clients, "active": true, "generator": { "running": false, "paused": false } });
    let data = json!({
        "default": idle(2), "system": idle(0), "user-activity": idle(0), "notifications": idle(0), "mine": idle(1),
    });
    assert_eq!((status, listed), (200, json!({ "success": true, "data": data })));
    let names = |mount: &str| {
        let listed = hub.get(&format!("{mount}/streams")).json();
        listed["data"].as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(DEMO), ["demo-default", "demo-notifications", "demo-system", "demo-user-activity"]);
    assert_eq!(broadcast(&hub, EVENTS, &json!({ "stream_id": "left", "type": "t", "message": "m" })).status, 200);
    assert!(!names(EVENTS).contains(&"left".to_owned()), "nobody is there, and nothing makes events");
}

/// Without parameters the list is as documented, and has a continuation only if it is not complete. With parameters it comes in
/// pages.
#[test]
fn streams_are_listed_in_pages() {
    let hub = Hub::start_with(&[], &[("limits.topics_per_page_max", "4")]);
    let names = ["a", "b.1", "b.2", "b.3", "user", "zulu"];
    let _clients: Vec<SseClient> = names[1..].iter().map(|stream| open(&hub, EVENTS, stream)).collect();
    let list = |query: &str| envelope(&hub.get(&format!("{EVENTS}/streams{query}")));
    let check = |query: &str, names: &[&str], next: Option<Value>| {
        let (status, listed) = list(query);
        let found: Vec<&String> = listed["data"].as_object().expect("an object").keys().collect();
        assert_eq!(
            (status, found),
            (200, names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().iter().collect()),
            "{query}"
        );
        assert_eq!(listed.get("next"), next.as_ref(), "{query}");
    };
    // Two more streams without clients, which the listing leaves out.
    for stream in ["a", "b.0"] {
        assert_eq!(broadcast(&hub, EVENTS, &json!({ "stream_id": stream, "type": "t", "message": "m" })).status, 200);
    }
    let defaults = ["default", "notifications", "system", "user-activity"];
    check("", &["b.1", "b.2", defaults[0], defaults[1], defaults[2], defaults[3]], Some(json!("b.2")));
    check("?after=b.2", &["b.3", "default", "notifications", "system"], Some(json!("system")));
    check("?after=system", &["user", "user-activity", "zulu"], Some(Value::Null));
    check("?limit=1&after=b.3", &["default"], Some(json!("default")));
    check("?limit=2&after=b.1", &["b.2", "b.3"], Some(json!("b.3")));
    check("?limit=9", &["b.1", "b.2"], Some(json!("b.2")));
    check("?prefix=b.", &["b.1", "b.2", "b.3"], Some(json!("b.3")));
    check("?prefix=b.&after=b.3", &[], Some(Value::Null));
    check("?prefix=user", &["user", "user-activity"], Some(Value::Null));
    check("?prefix=none", &[], Some(Value::Null));
    assert_eq!(list("?after=system").1["data"]["zulu"]["clients"], 1);
    // The other mount has its own streams, and few of them.
    assert_eq!(hub.get(&format!("{DEMO}/streams")).json().get("next"), None, "as documented");
    let (status, refused) = list("?limit=0");
    assert_eq!((status, &refused["error"]), (400, &json!({ "code": "bad_limit", "field": "limit" })));
}

#[test]
fn a_stream_goes_on_where_its_client_was() {
    let hub = Hub::start_with(&[], &[("topics.history.count", "2"), ("topics.lag.count", "1")]);
    let send = |number: u64| {
        let body = json!({ "stream_id": "default", "type": "t", "message": number.to_string() });
        assert_eq!(broadcast(&hub, EVENTS, &body).status, 200);
    };
    let resume = |id: &str| {
        SseClient::open_with(&hub, &format!("{EVENTS}/stream/default"), &[("Last-Event-ID", id)]).behind_greeting()
    };
    let message = |event: Received| event_data(&event)["message"].as_str().expect("a text").to_owned();
    let mut first = open(&hub, EVENTS, "default");
    send(1);
    let seen = first.next();
    drop(first);
    send(2);
    send(3);
    let mut whole = resume(&seen.id);
    assert_eq!([message(whole.next()), message(whole.next())], ["2", "3"]);
    send(4);
    for (id, reason) in [(seen.id.as_str(), "expired"), ("evt_123456789", "epoch")] {
        let mut holed = resume(id);
        let gap = holed.next();
        assert_eq!(gap.kind, "gap");
        let data: Value = serde_json::from_str(&gap.data).expect("an object");
        assert_eq!((&data["type"], &data["reason"]), (&json!("gap"), &json!(reason)), "{gap:?}");
        assert!(data["message"].is_string(), "clients show it");
        send(5);
        while message(holed.next()) != "5" {}
    }
}

#[test]
fn streams_of_several_hubs_are_one_through_redis() {
    let server = RedisServer::start();
    let redis = server.url();
    let quick = [("demo.system_interval", "50ms"), ("demo.default_interval", "1h")];
    let making = Hub::start_with(&["--redis", &redis, "--demo"], &quick);
    let other = Hub::start_with(&["--redis", &redis], &[]);
    for hub in [&making, &other] {
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    }
    let (mut near, mut far) = (open(&making, EVENTS, "mine"), open(&other, EVENTS, "mine"));
    let body = json!({ "stream_id": "mine", "type": "t", "message": "m", "data": { "n": 1 } });
    assert_done(&broadcast(&other, EVENTS, &body), "Event broadcasted to stream: mine");
    let events = [near.next(), far.next()];
    assert_eq!(event_data(&events[0]), body);
    assert_eq!(events[0].data, events[1].data, "the same event, its id included");
    let mut made = open(&other, EVENTS, "system");
    for _ in 0..3 {
        assert_eq!(event_data(&made.next())["stream_id"], "system");
    }
}

/// Values that other parsers would round, refuse or replace arrive as they were written, at the client library and at all other
/// APIs.
#[test]
fn the_payload_arrives_byte_by_byte() {
    let hub = Hub::start();
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let payloads = [
        r#"{"n":9007199254740993,"m":-18446744073709551617,"e":1e999,"f":0.1000,"s":1E+2}"#,
        r#"{"half":"\ud800","pair":"\ud83d\ude00","slash":"\/","nul":"\u0000"}"#,
        &nested,
    ];
    let script = format!(
        r#"
        import {{ EventSource }} from "eventsource";
        const source = new EventSource("{}/api/v1/events/stream/system");
        source.onopen = () => console.log("open");
        source.onmessage = event => {{ JSON.parse(event.data); console.log("event " + event.data); }};
        "#,
        hub.url(0)
    );
    let running = run_in_node(&script, None);
    running.wait_for("open");
    assert!(running.wait_for("event ").contains(r#""type":"connection""#));
    let mut native = SseClient::open(&hub, "/sse?topic=streams.system");
    let mut v1 = WebSocketClient::open_v1(&hub, "/ws?topic=streams.system");
    for payload in payloads {
        let body = format!(r#"{{"stream_id":"system","type":"t","message":"\udc00","data":{payload}}}"#);
        let response = hub.post("/api/v1/events/broadcast", body);
        assert_eq!(response.status, 200, "{}", response.text());
        let sent = format!(r#""type":"t","message":"\udc00","data":{payload},"timestamp":"#);
        for received in [running.wait_for("event "), native.next_data(), v1.next_text()] {
            assert!(received.contains(&sent), "{received}");
        }
    }
}
