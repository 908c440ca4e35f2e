//! Listings come in pages: the cost of an answer is bounded by its size, not by what the hub holds.

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::support::{
    guarded::{Guarded, PASSWORD, USER},
    http::HttpConnection,
    hub::Hub,
    sse::SseClient,
};

/// The names and `next` of a page.
fn page(hub: &Hub, target: &str) -> (Vec<String>, Option<String>) {
    let answer = hub.get(target);
    assert_eq!(answer.status, 200, "{}", answer.text());
    read(&answer.json())
}

fn read(answer: &Value) -> (Vec<String>, Option<String>) {
    let topics = answer["topics"].as_array().expect("an array").iter();
    let names = topics.map(|topic| topic["topic"].as_str().expect("a name").to_owned()).collect();
    (names, answer["next"].as_str().map(str::to_owned))
}

#[test]
fn topics_come_in_pages_by_name() {
    let hub = Hub::start_with(&[], &[("limits.topics_per_page_max", "4")]);
    let mut connection = HttpConnection::new(hub.connect());
    for name in ["b.3", "a.1", "b.1", "c", "b.2", "a.2", "b.4"] {
        assert_eq!(connection.request(Method::Post, &format!("/publish/{name}"), &[], b"x").status, 200);
    }
    let check = |query: &str, names: &[&str], next: Option<&str>| {
        let (found, next_page) = page(&hub, &format!("/topics{query}"));
        assert_eq!(
            (found.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), next_page.as_deref()),
            (names, next),
            "{query}"
        );
    };
    check("", &["a.1", "a.2", "b.1", "b.2"], Some("b.2"));
    check("?after=b.2", &["b.3", "b.4", "c"], None);
    check("?limit=2&after=a.2", &["b.1", "b.2"], Some("b.2"));
    check("?limit=9", &["a.1", "a.2", "b.1", "b.2"], Some("b.2"));
    check("?prefix=b.", &["b.1", "b.2", "b.3", "b.4"], Some("b.4"));
    check("?prefix=b.&after=b.4", &[], None);
    check("?prefix=b.&after=a", &["b.1", "b.2", "b.3", "b.4"], Some("b.4"));
    check("?prefix=zulu", &[], None);
    assert_eq!([hub.get("/topics?limit=0").status, hub.get("/topics?limit=x").status], [400, 400]);
    let first = hub.get("/topics?limit=1").json()["topics"][0].clone();
    assert_eq!(first, hub.get("/topics/a.1").json(), "the same figures");
    assert_eq!(first["history"], json!({ "count": 100, "bytes": 1 << 20, "age_s": 300 }));
}

/// More topics than a step of the listing takes: the page is put together over several turns, and is one page.
#[test]
fn a_large_page_is_whole() {
    const TOPICS: usize = 700;
    let hub = Hub::start_with(&[], &[("limits.topics_per_page_max", "650")]);
    let names: Vec<String> = (0..TOPICS).map(|number| format!("t.{number:03}")).collect();
    let events: Vec<Value> = names.iter().map(|name| json!({ "topic": name, "data": 1 })).collect();
    assert_eq!(hub.post("/publish", json!(events).to_string()).status, 200);
    let check = |query: &str, expected: std::ops::Range<usize>, next: Option<&str>| {
        let (found, next_page) = page(&hub, &format!("/topics{query}"));
        assert_eq!((found.as_slice(), next_page.as_deref()), (&names[expected], next), "{query}");
    };
    check("", 0..650, Some("t.649"));
    check("?after=t.649", 650..TOPICS, None);
    check("?limit=512", 0..512, Some("t.511"));
    check("?prefix=t.6", 600..TOPICS, None);
    check("?prefix=u", 0..0, None);
    let mut connection = HttpConnection::new(hub.connect());
    for _ in 0..2 {
        assert_eq!(connection.request(Method::Get, "/topics", &[], b"").status, 200, "the connection goes on");
    }
}

#[test]
fn a_page_skips_what_its_reader_may_not_see() {
    let guarded = Guarded::start("1h", &[], &[("limits.topics_per_page_max", "3")]);
    for number in 0..20 {
        guarded.publish(&format!("orders.{number:02}"), "x");
    }
    ["wells.1", "wells.2", "zulu"].into_iter().for_each(|name| guarded.publish(name, "x"));
    let login = json!({ "username": USER, "password": PASSWORD }).to_string();
    let signed_in = guarded.hub.post("/api/v1/auth/login", login).json();
    let credentials = format!("Bearer {}", signed_in["access_token"].as_str().expect("a token"));
    let mut connection = HttpConnection::new(guarded.hub.connect());
    let answer = connection.request(Method::Get, "/topics", &[("Authorization", &credentials)], b"");
    assert_eq!(read(&answer.json()).0, ["wells.1", "wells.2"], "twenty of others cost one look");
}

/// The same for a page of streams: more of them than a step takes, and the figures of each.
#[test]
fn a_large_page_of_streams_is_whole() {
    const STREAMS: usize = 300;
    let hub = Hub::start_with(&[], &[("limits.topics_per_page_max", "250")]);
    let names: Vec<String> = (0..STREAMS).map(|number| format!("s{number:03}")).collect();
    let listeners: Vec<SseClient> = names
        .chunks(100)
        .map(|part| {
            let topics: Vec<String> = part.iter().map(|name| format!("topic=streams.{name}")).collect();
            SseClient::open(&hub, &format!("/sse?{}", topics.join("&")))
        })
        .collect();
    let read = |query: &str| {
        let answer = hub.get(&format!("/api/v1/events/streams{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert!(body["success"] == true && body["timestamp"].is_i64(), "{body}");
        let data = body["data"].as_object().expect("an object").clone();
        let ours = data.iter().filter(|(name, _)| names.contains(name));
        ours.for_each(|(name, figures)| {
            assert_eq!((&figures["clients"], &figures["active"]), (&json!(1), &json!(true)), "{name}")
        });
        (data.keys().cloned().collect::<Vec<_>>(), body.get("next").cloned())
    };
    let (all, next) = read("");
    assert_eq!((all.len(), next), (254, Some(json!("s249"))), "the default streams are there, too");
    let (page, next) = read("?prefix=s&after=s099&limit=130");
    assert_eq!((page.as_slice(), next), (&names[100..230], Some(json!("s229"))));
    let (page, next) = read("?prefix=s&after=s229");
    assert_eq!(page[..70], names[230..]);
    assert_eq!((page[70..].join(" "), next), ("system".to_owned(), Some(Value::Null)));
    drop(listeners);
}
