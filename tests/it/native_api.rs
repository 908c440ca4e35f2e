//! The native API: publishing over HTTP, and what the hub reports about itself.

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    http::{HttpConnection, Response, exchange},
    hub::Hub,
    socket_io::{Carried, SocketClient},
    sse::SseClient,
    websocket::WebSocketClient,
};

#[test]
fn publish_answers_the_id_that_listeners_see() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=orders.eu");
    let first = hub.post("/publish/orders.eu", "one");
    assert_eq!(first.header("content-type"), Some("application/json"));
    let first_id = first.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(first.json(), json!({ "id": first_id, "topic": "orders.eu" }));
    let second_id = hub.publish("orders.eu", "two");
    let events = [stream.next(), stream.next()];
    assert_eq!(events.clone().map(|event| event.data), ["one", "two"]);
    assert_eq!(events.map(|event| event.id), [first_id.clone(), second_id.clone()]);
    let (major, minor) = first_id.split_once('-').expect("an id is major-minor");
    let minor: u64 = minor.parse().expect("a number");
    assert_eq!(second_id, format!("{major}-{}", minor + 1), "ids are dense");
}

/// A `Last-Event-ID` that the hub cannot read must not count as none: the stream would begin with the next event, without a gap.
#[test]
fn a_field_that_is_not_utf_8_is_refused() {
    let hub = Hub::start();
    let check = |start: &str, field: &[u8]| {
        let end: &[u8] = b"\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
        let request = [start.as_bytes(), b" HTTP/1.1\r\nHost: localhost\r\n", field, end].concat();
        let answer = exchange(hub.connect(), &request);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"bad_header\""), "{start}: {answer}");
    };
    check("GET /sse?topic=t", b"Last-Event-ID: 1-5\xe9");
    check("GET /api/v1/events/stream/default", b"Last-Event-ID: 1-5\xe9");
    check("POST /publish/t", b"Event-Type: caf\xe9");
    check("POST /publish/t", b"Idempotency-Key: caf\xe9");
    let topics = hub.get("/topics").json();
    assert_eq!(topics["topics"], json!([]), "nothing was published: {topics}");
}

#[test]
fn a_type_comes_from_query_or_header() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut connection = HttpConnection::new(hub.connect());
    let mut publish = |target: &str, headers: &[(&str, &str)]| {
        assert_eq!(connection.request(Method::Post, target, headers, b"x").status, 200);
        stream.next().kind
    };
    assert_eq!(publish("/publish/t?type=created", &[]), "created");
    assert_eq!(publish("/publish/t?type=two%20words", &[]), "two words");
    assert_eq!(publish("/publish/t", &[("Event-Type", "deleted")]), "deleted");
    assert_eq!(publish("/publish/t?type=query", &[("Event-Type", "header")]), "query");
    assert_eq!(publish("/publish/t", &[]), "");
    assert_eq!(publish("/publish/t?type=", &[("Event-Type", "header")]), "header");
}

#[test]
fn an_empty_type_is_none() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut connection = HttpConnection::new(hub.connect());
    let mut v1 = WebSocketClient::open_v1(&hub, "/ws");
    let mut socket = Carried::open(&hub).enter();
    for target in ["/publish/t?type=", "/publish/t?type", "/publish/t"] {
        assert_eq!(connection.request(Method::Post, target, &[("Event-Type", "")], b"1").status, 200);
    }
    let batch = br#"[{"topic":"t","type":"","data":1}]"#;
    assert_eq!(connection.request(Method::Post, "/publish", &[], batch).status, 200);
    assert_eq!(v1.ask(&json!({ "op": "publish", "topic": "t", "type": "", "data": 1 }))["op"], "published");
    socket.emit("publish", &json!({ "topic": "t", "type": "", "data": 1 }));
    socket.expect_event("published");
    for _ in 0..6 {
        let event = stream.next();
        assert_eq!((event.kind.as_str(), event.data.as_str()), ("", "1"));
    }
    let events = hub.get("/topics/t/history").json()["events"].take();
    assert!(events.as_array().is_some_and(|events| events.iter().all(|event| event["type"].is_null())), "{events}");
}

#[test]
fn a_slash_behind_a_topic_is_no_part_of_it() {
    let hub = Hub::start();
    let mut connection = HttpConnection::new(hub.connect());
    for (method, path) in [
        (Method::Post, "/publish/orders.eu/"),
        (Method::Post, "/publish/orders.eu%2F"),
        (Method::Get, "/topics/orders.eu/"),
        (Method::Get, "/topics/orders.eu/history/"),
        (Method::Get, "/topics/orders.eu//history"),
        (Method::Get, "/api/v1/events/stream/system/"),
        (Method::Post, "/api/v1/events/stream/system/start/"),
    ] {
        let response = connection.request(method, path, &[], b"1");
        let expected = if path.starts_with("/api") && method == Method::Post { 405 } else { 400 };
        assert_eq!(response.status, expected, "{path}: {}", response.text());
    }
    assert_eq!(hub.get("/topics").json()["topics"], json!([]), "none was made");
}

#[test]
fn parameters_that_are_nearly_a_streams_own_are_refused() {
    let hub = Hub::start();
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (query, meant) in [
        ("topics=a,b", "topic"),
        ("topic[]=a", "topic"),
        ("topic=a&topic%5B%5D=b", "topic"),
        ("channel=a", "topic"),
        ("topic=a&Last-Event-ID=1-2", "last_event_id"),
    ] {
        for (path, headers) in [("/sse", &[][..]), ("/ws", &upgrade)] {
            let mut connection = HttpConnection::new(hub.connect());
            let response = connection.request(Method::Get, &format!("{path}?{query}"), headers, b"");
            assert_eq!((response.status, response.error_code().as_str()), (400, "bad_parameter"), "{path}?{query}");
            assert!(response.text().contains(&format!("`{meant}`")), "{}", response.text());
        }
    }
    let others = "topic=a&_=1&t=2&utm_source=x&v=3&name=n";
    SseClient::open(&hub, &format!("/sse?{others}"));
    WebSocketClient::open(&hub, &format!("/ws?{others}"));
    SseClient::open(&hub, "/api/v1/events/stream/system?topics=a&channel=b");
    SseClient::open(&hub, "/alice/events/changes?topics=a&channel=b");
    SseClient::open(&hub, "/api/v1/sse/stream/W1?topics=a&channel=b");
    WebSocketClient::open(&hub, "/socket.io/?EIO=4&transport=websocket&topics=a&channel=b");
}

#[test]
fn payloads_arrive_verbatim() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let check = |payload: &str, stream: &mut SseClient| {
        hub.publish("t", payload);
        assert_eq!(stream.next_data(), payload);
    };
    let large = "0123456789abcdef".repeat(60_000);
    for payload in [r#"{"a": 1,  "b":[true]}"#, " leading", "trailing ", "a\nb", "\n", "", "é€😀", "data: x", &large]
    {
        check(payload, &mut stream);
    }
}

#[test]
fn topic_names_may_hold_slashes_and_colons() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=a%2Fb:c.d_e-f");
    hub.publish("a/b:c.d_e-f", "by path");
    hub.publish("a%2Fb%3Ac.d_e-f", "by escapes");
    assert_eq!([stream.next_data(), stream.next_data()], ["by path", "by escapes"]);
    assert_eq!(hub.get("/topics/a/b:c.d_e-f").json()["listeners"], 1);
    assert_eq!(hub.get("/topics/a/b:c.d_e-f/history").json()["events"][1]["data"], "by escapes");
}

const BATCH: &str =
    r#"[{"topic":"a","data":{"n":1}},{"topic":"b","type":"made","data":"text"},{"topic":"a","data":null}]"#;
const BATCH_LINES: &str = "{\"topic\":\"a\",\"data\":{\"n\":1}}\n{\"topic\":\"b\",\"type\":\"made\",\"data\":\"text\"}\n\
                           {\"topic\":\"a\",\"data\":null}\n";

#[test]
fn a_batch_is_an_array_or_lines() {
    for body in [BATCH, BATCH_LINES] {
        let hub = Hub::start();
        let mut stream = SseClient::open(&hub, "/sse?topic=a");
        let mut other = SseClient::open(&hub, "/sse?topic=b");
        let response = hub.post("/publish", body);
        assert_eq!(response.status, 200, "{}", response.text());
        let answers = response.json();
        let topics: Vec<&str> =
            answers.as_array().expect("an array").iter().flat_map(|it| it["topic"].as_str()).collect();
        assert_eq!(topics, ["a", "b", "a"]);
        let events = [stream.next(), stream.next()];
        assert_eq!(events.clone().map(|event| event.data), [r#"{"n":1}"#, "null"]);
        assert_eq!(events.map(|event| event.id), [0, 2].map(|index| answers[index]["id"].as_str().unwrap().to_owned()));
        let event = other.next();
        assert_eq!((event.kind.as_str(), event.data.as_str()), ("made", "\"text\""));
    }
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=a");
    let check = |body: &str, field: Option<&str>| {
        let response = hub.post("/publish", body);
        assert_eq!(response.status, 400, "{body}");
        assert_eq!(response.json()["error"]["field"].as_str(), field, "{body}: {}", response.text());
    };
    check(r#"[{"topic":"a","data":1},{"topic":"a b","data":2}]"#, Some("[1].topic"));
    check(r#"[{"topic":"a","data":1},{"topic":"a"}]"#, None);
    check(r#"[{"topic":"a","data":1},{"data":1}]"#, None);
    check(r#"[{"topic":"a","data":1},"#, None);
    check("{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"a\",\"data\":}\n", None);
    check(r#"[{"topic":"a","data":1},{"topic":"a","type":"x\ny","data":1}]"#, Some("type"));
    assert_eq!(hub.post("/publish", "[]").json(), json!([]));
    hub.publish("a", "the first");
    assert_eq!(stream.next_data(), "the first");
    assert_eq!(hub.stats()["events_received"], 1);
}

#[test]
fn publish_refusals() {
    let hub = Hub::start();
    let check = |target: &str, body: &[u8], status: u16, code: &str| {
        let response = hub.post(target, body);
        assert_eq!((response.status, response.error_code().as_str()), (status, code), "{target}");
    };
    let long = "x".repeat(256);
    for name in ["a%20b", "a..b", ".a", "a.", "caf%C3%A9", "a%00", "a*", &long] {
        check(&format!("/publish/{name}"), b"x", 400, "bad_topic");
    }
    check("/publish/a?type=x%0Ay", b"x", 400, "bad_type");
    check("/publish/a", b"\xff\xfe", 400, "not_utf8");
    check("/publish", b"{", 400, "bad_json");
    check("/publish", b"7", 400, "bad_json");
    assert_eq!(hub.post(&format!("/publish/{}", "x".repeat(255)), "x").status, 200);
    assert_eq!(hub.stats()["events_received"], 1);
}

#[test]
fn topics_are_described() {
    let hub = Hub::start();
    assert_eq!(hub.get("/topics").json(), json!({ "topics": [], "next": null }));
    assert_eq!(hub.get("/topics/t").error_code(), "unknown_topic");
    let _stream = SseClient::open(&hub, "/sse?topic=t");
    let ids = [hub.publish("t", "12345"), hub.publish("t", "67")];
    let topic = hub.get("/topics/t").json();
    assert_eq!((&topic["listeners"], &topic["retained"]), (&json!(1), &json!(2)));
    assert_eq!([&topic["oldest"], &topic["newest"]], [&ids[0], &ids[1]]);
    assert_eq!(topic["policy"], "close");
    hub.publish("another", "x");
    let topics = hub.get("/topics").json();
    let names: Vec<&Value> = topics["topics"].as_array().expect("a list").iter().map(|topic| &topic["topic"]).collect();
    assert_eq!(names, ["another", "t"]);
}

#[test]
fn history_from_any_position() {
    let hub = Hub::start();
    let ids: Vec<String> = ["1", "two", r#"{"n":3}"#, "4"].iter().map(|payload| hub.publish("t", payload)).collect();
    let check = |query: &str, expected: Value| {
        let response = hub.get(&format!("/topics/t/history{query}"));
        assert_eq!(response.status, 200, "{}", response.text());
        let events = response.json()["events"].as_array().expect("a list").clone();
        let data: Vec<Value> = events.into_iter().map(|event| event["data"].clone()).collect();
        assert_eq!(Value::from(data), expected, "{query}");
    };
    check("", json!([1, "two", { "n": 3 }, 4]));
    check("?limit=2", json!([1, "two"]));
    check("?since=first", json!([1, "two", { "n": 3 }, 4]));
    check(&format!("?since={}", ids[1]), json!([{ "n": 3 }, 4]));
    check(&format!("?since={}&limit=1", ids[0]), json!(["two"]));
    check("?since=last:1", json!([4]));
    check(&format!("?since={}", ids[3]), json!([]));
    check("?limit=0", json!([]));
    let first = &hub.get("/topics/t/history?limit=1").json()["events"][0];
    assert_eq!(first["id"], ids[0].as_str());
    let refused = |query: &str| hub.get(&format!("/topics/t/history{query}")).error_code();
    assert_eq!(refused("?since=yesterday"), "bad_event_id");
    assert_eq!(refused("?limit=-1"), "bad_limit");
    assert_eq!(hub.get("/topics/unheard/history").status, 404);
}

#[test]
fn history_is_bounded_by_its_class() {
    let folder = crate::support::Folder::new();
    let file = folder.path("fanfare.toml");
    // What is kept for slow clients counts as well, so it is as small here.
    let text = "[[topics.class]]\nmatch = \"short.**\"\nhistory = { count = 3 }\nlag = { count = 2 }\n";
    std::fs::write(&file, text).expect("the folder is ours");
    let hub = Hub::start_with(&["--config", &file], &[]);
    for topic in ["short.a", "long"] {
        (0..10).for_each(|number| drop(hub.publish(topic, number.to_string())));
    }
    let retained = |topic: &str| hub.get(&format!("/topics/{topic}")).json()["retained"].as_u64();
    assert_eq!((retained("short.a"), retained("long")), (Some(3), Some(10)));
    assert_eq!(hub.get("/topics/short.a/history").json()["events"][0]["data"], 7);
}

#[test]
fn a_long_history_comes_in_pieces() {
    let hub = Hub::start_with(&[], &[("topics.history.bytes", "64MiB")]);
    let ids: Vec<String> = (0..12).map(|_| hub.publish("t", "x".repeat(900_000))).collect();
    let (mut seen, mut since) = (Vec::new(), "0".to_owned());
    while seen.len() < ids.len() {
        let page = hub.get(&format!("/topics/t/history?since={since}")).json();
        let events = page["events"].as_array().expect("a list");
        // Four of them are less than 4 MiB, five are more.
        assert!((1..=4).contains(&events.len()), "{} events in one answer", events.len());
        seen.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()));
        since.clone_from(seen.last().expect("at least one came"));
    }
    assert_eq!(seen, ids);
}

#[test]
fn health_readiness_and_figures() {
    let hub = Hub::start_with(&["--reactors", "2"], &[]);
    let ok = |path: &str| -> Response {
        let response = hub.get(path);
        assert_eq!(response.status, 200, "{path}");
        response
    };
    for path in ["/health", "/healthz", "/livez"] {
        let health = ok(path).json();
        assert_eq!((&health["status"], &health["reactors"]), (&json!("ok"), &json!(2)));
    }
    for path in ["/ready", "/readyz"] {
        assert_eq!(ok(path).json()["ready"], true);
    }
    assert!(ok("/").text().contains("/publish/{topic}"));
    let _streams = [SseClient::open(&hub, "/sse?topic=t"), SseClient::open(&hub, "/sse?topic=t")];
    hub.publish("t", "x");
    crate::support::wait_until("both deliveries are counted", || (hub.stats()["deliveries"] == 2).then_some(()));
    let stats = hub.stats();
    assert_eq!(stats["connected_clients"], 2);
    assert_eq!(stats["connections"]["sse"], 2);
    assert_eq!(stats["events_received"], 1);
    assert_eq!(stats["reactors"].as_array().map(Vec::len), Some(2));
    assert_eq!(stats["delivery_ms"]["count"], 2);
}

/// The age of a replayed event says nothing about the time that the hub takes for a delivery.
#[test]
fn replays_are_delivered_and_not_measured() {
    let hub = Hub::start();
    let keeps = SseClient::open(&hub, "/sse?topic=t&topic=u");
    // More than one visit can write.
    let ids: Vec<String> = (0..100).map(|number| hub.publish("t", number.to_string())).collect();
    hub.publish("u", "x");
    let measured = || hub.stats()["delivery_ms"]["count"].as_u64();
    crate::support::wait_until("the reader has all", || (hub.stats()["deliveries"] == 101).then_some(()));
    assert_eq!(measured(), Some(101));
    let mut replays = 101;
    for target in ["/sse?topic=t&last_event_id=0", "/sse?topic=t&topic=u&last_event_id=0,0"] {
        let mut stream = SseClient::open(&hub, target);
        ids.iter().for_each(|_| _ = stream.next_data());
        replays += ids.len() + usize::from(target.contains("topic=u"));
        crate::support::wait_until("all are counted", || (hub.stats()["deliveries"] == replays).then_some(()));
        assert_eq!(measured(), Some(101), "{target}");
    }
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    socket.send(&json!({ "op": "subscribe", "topic": "t", "since": "0" }).to_string());
    (0..=ids.len()).for_each(|_| _ = socket.next_json());
    replays += ids.len();
    crate::support::wait_until("all are counted", || (hub.stats()["deliveries"] == replays).then_some(()));
    assert_eq!(measured(), Some(101), "over a WebSocket");
    // Events after they have caught up are measured.
    hub.publish("t", "live");
    assert_eq!(socket.next_json()["data"], "live");
    crate::support::wait_until("it is counted", || (hub.stats()["deliveries"] == replays + 2).then_some(()));
    assert_eq!(measured(), Some(103));
    assert_eq!(hub.metric("fanfare_delivery_seconds_count{transport=\"websocket\"}"), 1.0);
    drop(keeps);
}

#[test]
fn the_history_names_the_parameters_it_has() {
    let hub = Hub::start();
    let first = hub.publish("t", "1");
    hub.publish("t", "2");
    let check = |query: &str, named: &str| {
        let refused = hub.get(&format!("/topics/t/history?{query}"));
        assert_eq!((refused.status, refused.error_code().as_str()), (400, "unknown_parameter"), "{query}");
        assert!(refused.text().contains(named), "{query}: {}", refused.text());
    };
    check(&format!("after={first}"), "write `since`");
    check(&format!("since={first}&Last_Event_Id=0"), "write `since`");
    check("count=1", "write `limit`");
    check("sinc=0", "write `since`");
    check("order=asc", "`since` and `limit`");
    check(&"x".repeat(5000), "`since` and `limit`");
    let passed = hub.get(&format!("/topics/t/history?since={first}&limit=5&_=1&t=2&utm_source=x&token=x"));
    assert_eq!(passed.json()["events"].as_array().map(Vec::len), Some(1), "{}", passed.text());
}

/// Native routes refuse unknown parameters. If they ignored them, a client that asked for a part would get everything.
#[test]
fn native_routes_name_the_parameters_they_have() {
    let hub = Hub::start();
    hub.publish("t", "1");
    let check = |method: Method, target: &str, code: &str, says: &str| {
        let refused = HttpConnection::new(hub.connect()).request(method, target, &[], b"x");
        assert_eq!((refused.status, refused.error_code().as_str()), (400, code), "{target}");
        assert!(refused.text().contains(says), "{target}: {}", refused.text());
    };
    check(Method::Get, "/topics?limt=1", "unknown_parameter", "write `limit`");
    check(Method::Get, "/topics?since=t", "unknown_parameter", "write `after`");
    check(Method::Get, "/topics?order=asc", "unknown_parameter", "`prefix`, `after` and `limit`");
    check(Method::Get, "/topics?limit=1&limit=2", "repeated_parameter", "`limit` is given twice");
    check(Method::Get, "/topics/t?limit=1", "unknown_parameter", "it has none");
    check(Method::Get, "/topics/t/history?since=0&since=0", "repeated_parameter", "`since` is given twice");
    check(Method::Get, "/sse?topic=t&since=0&since=first", "repeated_parameter", "`since` is given twice");
    check(Method::Post, "/publish/t?type=a&type=b", "repeated_parameter", "`type` is given twice");
    check(Method::Post, "/publish/t?typ=a", "bad_parameter", "write `type`");
    assert_eq!(hub.get("/topics?prefix=t&limit=1&_=1&t=2&utm_source=x&token=x").status, 200);
    assert_eq!(hub.get("/topics/t?_=1").status, 200);
    assert_eq!(hub.get("/topics/t").json()["retained"], 1, "nothing was published that was refused");
}

#[test]
fn metrics_count_what_happened() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    hub.publish("t", "x");
    stream.next();
    let check = |series: &str, expected: f64| assert_eq!(hub.metric(series), expected, "{series}");
    check("fanfare_connections{transport=\"sse\"}", 1.0);
    check("sse_connections", 1.0);
    check("websocket_connections", 0.0);
    check("fanfare_deliveries_total{transport=\"sse\"}", 1.0);
    check("realtime_publishes_total", 1.0);
    check("fanfare_http_requests_total{route=\"publish\",code=\"200\"}", 1.0);
    check("fanfare_topics", 1.0);
    check("fanfare_delivery_seconds_count{transport=\"sse\"}", 1.0);
    check("fanfare_publish_to_last_subscriber_seconds_count", 1.0);
    assert!(0.0 < hub.metric("fanfare_log_bytes"));
    assert!(0.0 < hub.metric("process_resident_memory_bytes"));
    assert!(0.0 < hub.metric("fanfare_delivered_bytes_total{transport=\"sse\"}"));
}

#[test]
fn unknown_paths_and_methods() {
    let hub = Hub::start();
    assert_eq!(hub.get("/nothing").error_code(), "not_found");
    let mut connection = HttpConnection::new(hub.connect());
    let mut check = |method: Method, target: &str, allow: &str| {
        let response = connection.request(method, target, &[], b"");
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {target}");
    };
    check(Method::Delete, "/topics", "GET, HEAD, OPTIONS");
    check(Method::Post, "/sse", "GET, HEAD, OPTIONS");
    check(Method::Get, "/publish/t", "POST, OPTIONS");
    check(Method::Put, "/publish", "POST, OPTIONS");
}
