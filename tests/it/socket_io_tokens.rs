//! Socket.IO at a hub that asks for tokens, and at one that shuts down.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{
    TIMEOUT,
    hub::Hub,
    send_signal,
    socket_io::{CLOSE, Carried, Polled, SocketClient, sessions},
    wait_until,
};

const SECRET: &str = "an example of a secret of 32 bytes";

fn hub() -> Hub {
    let settings = [
        ("auth.mode", "jwt"),
        ("auth.secret", SECRET),
        ("auth.leeway", "0s"),
        ("limits.messages_per_second", "10000"),
        ("esp.namespaces", "/,/wells"),
    ];
    Hub::start_with(&["--reactors", "2"], &settings)
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs_f64()
}

/// A token that expires after so long, or that has expired so long ago.
fn token(subject: &str, valid_s: f64, more: &Value) -> String {
    let mut claims = json!({ "sub": subject, "exp": unix_now() + valid_s, "subscribe": ["t"] });
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("claims are JSON")
}

fn publish(hub: &Hub, payload: &str) {
    let admin = token("ops", 60.0, &json!({ "role": "admin" }));
    let response = hub.post(&format!("/publish/t?token={admin}"), payload);
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn a_client_without_a_good_token_is_refused() {
    let hub = hub();
    let forged = token("eve", 60.0, &json!({})) + "x";
    let check = |auth: &str, message: &str| {
        let mut carried = Carried::open(&hub);
        let mut polled = Polled::open(&hub);
        carried.send(&format!("40{auth}"));
        polled.send(&format!("40{auth}"));
        let expected = json!({ "message": message, "data": { "error": "AuthenticationError", "message": message } });
        for packet in [carried.next_packet(), polled.next_packet()] {
            let refused = packet.strip_prefix("44").unwrap_or_else(|| panic!("{auth}: {packet}"));
            assert_eq!(serde_json::from_str::<Value>(refused).expect("JSON"), expected, "{auth}");
        }
        // The client may try again.
        polled.enter_with(&json!({ "token": token("alice", 60.0, &json!({})) }));
    };
    check("", "Authentication token is required");
    check("{}", "Authentication token is required");
    check("{\"token\":\"\"}", "Authentication token is required");
    check("{\"token\":7}", "Authentication token is required");
    let refused = "Invalid or expired authentication token";
    check("{\"token\":\"nonsense\"}", refused);
    check(&json!({ "token": forged }).to_string(), refused);
    check(&json!({ "token": token("alice", -5.0, &json!({})) }).to_string(), refused);
}

#[test]
fn a_token_gives_the_right_to_its_topics_only() {
    let hub = hub();
    let mut client = Carried::open(&hub);
    client.enter_with(&json!({ "token": token("alice", 60.0, &json!({})) }));
    client.subscribe("t");
    client.emit("subscribe", &json!({ "topic": "u" }));
    assert_eq!(client.expect_event("error")["error"], "AuthorizationError");
    client.emit("publish", &json!({ "topic": "t", "data": 1 }));
    assert_eq!(client.expect_event("error")["error"], "AuthorizationError");
    client.emit("get_stats", &Value::Null);
    assert_eq!(client.expect_event("stats")["server"], Value::Null);
    publish(&hub, "1");
    assert_eq!(client.expect_event("message"), 1);
}

#[test]
fn a_token_that_expires_ends_the_stay() {
    let hub = hub();
    let mut carried = Carried::open(&hub);
    let mut polled = Polled::open(&hub);
    // Whole seconds, and a fraction.
    let auth = json!({ "token": token("alice", 1.3, &json!({})) });
    carried.enter_with(&auth);
    polled.enter_with(&auth);
    carried.subscribe("t");
    polled.subscribe("t");
    publish(&hub, "1");
    assert_eq!((carried.expect_event("message"), polled.expect_event("message")), (json!(1), json!(1)));
    assert_eq!(carried.expect_event("error")["error"], "AuthenticationError");
    assert_eq!(polled.expect_event("error")["error"], "AuthenticationError");
    // So that clients do not reconnect by themselves with the same credential.
    assert_eq!((carried.next_packet().as_str(), polled.next_packet().as_str()), ("41", "41"));
    carried.wait_for_end();
    assert_eq!(polled.next_packet(), CLOSE);
    wait_until("no session is left", || (sessions(&hub) == 0).then_some(()));
}

fn each_ends_in(window: Duration, hub: Hub) -> Vec<Duration> {
    let mut clients: Vec<Carried> = (0..30).map(|_| Carried::open(&hub).enter()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("t"));
    let polled: Vec<Polled> = (0..10).map(|_| Polled::open(&hub).enter()).collect();
    let waiting: Vec<_> = polled.iter().map(Polled::begin_poll).collect();
    let began = Instant::now();
    send_signal("TERM", hub.pid());
    let polls = waiting.into_iter().map(|mut poll| {
        thread::spawn(move || {
            let response = poll.receive();
            assert!(response.status == 503 || response.text() == CLOSE, "{} {}", response.status, response.text());
            began.elapsed()
        })
    });
    let carried = clients.into_iter().map(|mut client| {
        thread::spawn(move || {
            client.wait_for_end();
            assert_eq!(client.close_code, Some(1012));
            began.elapsed()
        })
    });
    let readers: Vec<_> = polls.chain(carried).collect();
    let ends = readers.into_iter().map(|reader| reader.join().expect("a proper end")).collect();
    assert!(hub.wait().success());
    assert!(began.elapsed() < window + TIMEOUT / 2);
    ends
}

#[test]
fn sessions_end_one_by_one_when_the_hub_drains() {
    const WINDOW: Duration = Duration::from_secs(1);
    let mut ends = each_ends_in(WINDOW, Hub::start_with(&["--reactors", "2"], &[("drain.window", "1s")]));
    ends.sort_unstable();
    let early = ends.iter().filter(|end| **end < WINDOW / 2).count();
    assert!((5..=35).contains(&early), "{ends:?}");
}

#[test]
fn a_second_signal_ends_sessions_at_once() {
    let hub = Hub::start_with(&[], &[("drain.window", "1h")]);
    let mut carried = Carried::open(&hub).enter();
    let polled = Polled::open(&hub).enter();
    let mut poll = polled.begin_poll();
    carried.emit("ping", &Value::Null);
    carried.expect_event("pong");
    let (pid, hub) = (hub.pid(), hub.drain());
    send_signal("TERM", pid);
    carried.wait_for_end();
    assert_eq!(carried.close_code, Some(1012));
    let answer = poll.receive();
    assert!(answer.status == 503 || answer.text() == CLOSE, "{}", answer.text());
    drop((carried, poll));
    assert!(hub.wait().success());
}

#[test]
fn memory_is_given_back_when_all_are_gone() {
    let settings = [("limits.messages_per_second", "10000"), ("topics.history.count", "0"), ("topics.lag.count", "1")];
    let hub = Hub::start_with(&["--reactors", "2"], &settings);
    let used = || hub.metric("fanfare_budget_used_bytes");
    let before = used();
    let mut clients: Vec<Carried> = (0..20).map(|_| Carried::open(&hub).enter()).collect();
    let mut polled: Vec<Polled> = (0..20).map(|_| Polled::open(&hub).enter()).collect();
    let half = r#"451-["publish",{"topic":"t","data":{"_placeholder":true,"num":0,"long":"LONG"}}]"#;
    let half = half.replace("LONG", &"x".repeat(50_000));
    for client in &mut clients {
        client.subscribe("t");
        client.send(&half);
    }
    for client in &mut polled {
        client.subscribe("t");
        client.send(&half);
        client.post(&["42[\"ping\"]"; 100].join("\u{1e}"));
    }
    let held = used();
    assert!(before + 20.0 * 100.0 * 30.0 < held, "what clients are owed is counted: {before} {held}");
    drop(clients);
    polled.iter().for_each(|client| drop(client.post(CLOSE)));
    wait_until("no session is left", || (sessions(&hub) == 0).then_some(()));
    wait_until("all is given back", || (used() <= before).then_some(()));
}
