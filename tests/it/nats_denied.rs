//! Permissions of a NATS server that deny something, from the start or later: subscribers get a gap, and recover once it is
//! allowed.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    nats::NatsServer,
    sse::{Received, SseClient},
    wait_until,
};

/// The user `hub` with these permissions besides its inbox, and `ada`, who may do everything.
fn users(subscribe: &str, publish: &str) -> String {
    format!(
        r#"authorization {{ users = [
            {{ user: ada, password: "a" }}
            {{ user: hub, password: "h", permissions: {{ subscribe: {subscribe}, publish: {publish} }} }}
        ] }}"#
    )
}

const EVERYTHING: &str = r#"{ allow: ">" }"#;
const NOT_FORBIDDEN: &str = r#"{ deny: ["forbidden", "f.>"] }"#;

fn hub_on(server: &NatsServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("nats.backoff_min", "20ms"),
        ("nats.backoff_max", "300ms"),
        ("nats.ping_interval", "200ms"),
        ("server.live_timeout", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    Hub::start_with(&["--nats", &server.url_as("hub:h@")], &all)
}

/// Waits until `/ready` has this status, and one of its lines `under` contains `text`; empty for no line at all.
#[track_caller]
fn wait_for_line(hub: &Hub, status: u16, under: &str, text: &str) -> Value {
    wait_until(&format!("/ready says {status}, {under}: {text}"), || {
        let ready = hub.get("/ready");
        let body = ready.json();
        let lines = body[under].as_array()?.clone();
        let has = |line: &Value| line.as_str().is_some_and(|line| line.contains(text));
        let is_it = if text.is_empty() { lines.is_empty() } else { lines.iter().any(has) };
        (ready.status == status && is_it).then_some(body)
    })
}

#[track_caller]
fn expect_gap(received: &Received) {
    assert_eq!(received.kind, "gap", "{received:?}");
    let gap: Value = serde_json::from_str(&received.data).expect("JSON");
    assert_eq!(gap["reason"], json!("source_lost"), "{gap}");
}

fn refused(hub: &Hub) -> f64 {
    hub.metric("fanfare_source_refused_subscriptions{source=\"nats\"}")
}

#[test]
fn subscribers_of_a_denied_subject_get_a_gap_and_it_recovers() {
    let server = NatsServer::start_with(&users(NOT_FORBIDDEN, EVERYTHING));
    let hub = hub_on(&server, &[]);
    let mut other = SseClient::open(&hub, "/sse?topic=allowed");
    let mut stream = SseClient::open(&hub, "/sse?topic=forbidden");
    expect_gap(&stream.next());
    let body = wait_for_line(&hub, 200, "degraded", "subscribing to `forbidden` is refused");
    assert!(body["ready"] == true && body["degraded"].to_string().contains("Permissions Violation"), "{body}");
    assert_eq!(refused(&hub), 1.0);
    // The other topics are not affected.
    server.client_as("ada", "a").publish("allowed", "1");
    assert_eq!(other.next_data(), "1");
    server.reload(&users(EVERYTHING, EVERYTHING));
    wait_for_line(&hub, 200, "degraded", "");
    assert_eq!(refused(&hub), 0.0);
    let mut client = server.client_as("ada", "a");
    client.publish("forbidden", "2");
    expect_gap(&stream.next());
    assert_eq!(stream.next_data(), "2");
}

#[test]
fn subscribers_of_a_subject_that_becomes_denied_get_a_gap_then_and_at_recovery() {
    let server = NatsServer::start_with(&users(EVERYTHING, EVERYTHING));
    let hub = hub_on(&server, &[("nats.subscribe", "f.>")]);
    let mut streams = ["forbidden", "f.x"].map(|topic| SseClient::open(&hub, &format!("/sse?topic={topic}")));
    for (stream, topic) in streams.iter_mut().zip(["forbidden", "f.x"]) {
        server.client_as("ada", "a").publish(topic, "before");
        assert_eq!(stream.next_data(), "before");
    }
    server.reload(&users(NOT_FORBIDDEN, EVERYTHING));
    streams.iter_mut().for_each(|stream| expect_gap(&stream.next()));
    wait_for_line(&hub, 200, "degraded", "subscribing to `forbidden` is refused");
    wait_for_line(&hub, 200, "degraded", "subscribing to `f.>` is refused");
    server.reload(&users(EVERYTHING, EVERYTHING));
    wait_for_line(&hub, 200, "degraded", "");
    server.wait_for_subjects(&["f.>", "forbidden"]);
    for (stream, topic) in streams.iter_mut().zip(["forbidden", "f.x"]) {
        server.client_as("ada", "a").publish(topic, "after");
        let events: Vec<Received> =
            std::iter::repeat_with(|| stream.next()).take_while(|event| event.data != "after").collect();
        assert!(!events.is_empty(), "{topic}");
        events.iter().for_each(expect_gap);
    }
}

#[test]
fn a_publication_that_is_denied_is_refused() {
    let server = NatsServer::start_with(&users(EVERYTHING, r#"{ deny: "readonly.>" }"#));
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=readonly.t&topic=t");
    let response = hub.post("/publish/readonly.t", "x");
    assert_eq!((response.status, response.error_code().as_str()), (503, "refused"), "{}", response.text());
    wait_for_line(&hub, 200, "degraded", "publishing to `readonly.t` is refused");
    assert_eq!(hub.metric("fanfare_source_refused_publications_total{source=\"nats\"}"), 1.0);
    assert_eq!(hub.post("/publish/t", "y").status, 200);
    assert_eq!(stream.next_data(), "y");
    server.client_as("ada", "a").publish("readonly.t", "z");
    assert_eq!(stream.next_data(), "z");
    server.reload(&users(EVERYTHING, EVERYTHING));
    wait_until("it is allowed", || (hub.post("/publish/readonly.t", "w").status == 200).then_some(()));
    wait_for_line(&hub, 200, "degraded", "");
}

#[test]
fn a_hub_that_may_not_publish_delivers_and_is_not_ready() {
    let server = NatsServer::start_with(&users(EVERYTHING, r#"{ deny: ">" }"#));
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    server.client_as("ada", "a").publish("t", "1");
    assert_eq!(stream.next_data(), "1");
    wait_for_line(&hub, 503, "failed", "all publications are refused");
    server.reload(&users(EVERYTHING, EVERYTHING));
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

#[test]
fn a_hub_without_its_inbox_says_so() {
    let server = NatsServer::start_with(&users(r#"{ deny: "_INBOX.>" }"#, EVERYTHING));
    let hub = hub_on(&server, &[]);
    wait_until("the hub says why it is not ready", || {
        let text = hub.get("/ready").text();
        (text.contains("nats.inbox_prefix") && text.contains("Permissions Violation")).then_some(())
    });
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    expect_gap(&stream.next());
    assert_eq!(hub.post("/publish/t", "x").error_code(), "refused");
    let other = hub_on(&server, &[("nats.inbox_prefix", "hubs.own")]);
    wait_until("the other hub is ready", || (other.get("/ready").status == 200).then_some(()));
}

/// The error of a limit names no subject, so the hub requests each subject alone.
#[test]
fn more_subjects_than_the_server_takes_are_refused_one_by_one() {
    let server = NatsServer::start_with(r#"max_subscriptions: 8"#);
    let hub = Hub::start_with(
        &["--nats", &server.url_as("")],
        &[("server.live_timeout", "200ms"), ("server.default_topics", ""), ("nats.linger", "0s")],
    );
    let mut streams: Vec<(String, SseClient)> = (0..5)
        .map(|number| format!("t{number}"))
        .map(|topic| (topic.clone(), SseClient::open(&hub, &format!("/sse?topic={topic}"))))
        .collect();
    wait_for_line(&hub, 200, "degraded", "maximum subscriptions exceeded");
    let subjects = server.subjects();
    assert_eq!(subjects.len(), 3, "the others are the inbox and the orders of hubs: {subjects:?}");
    for (topic, stream) in &mut streams {
        if subjects.contains(topic) {
            server.publish(topic, "x");
            let delivered = std::iter::repeat_with(|| stream.next()).find(|event| event.kind != "gap");
            assert!(delivered.is_some_and(|event| event.data == "x"), "{topic}");
        } else {
            expect_gap(&stream.next());
        }
    }
}
