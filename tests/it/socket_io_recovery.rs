//! Connection state recovery: clients that lose their connection and reconnect for the events that they missed.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{
    Folder,
    hub::Hub,
    redis::RedisServer,
    send_signal,
    socket_io::{CLOSE, Carried, Polled, ReceivedEvent, SocketClient, parse_event, sessions},
    wait_until,
};

const IN_HASTE: (&str, &str) = ("limits.messages_per_second", "10000");
const RECOVERY: (&str, &str) = ("socketio.recovery", "60s");
const SECRET: &str = "an example of a secret of 32 bytes";

fn hub_with(more: &[(&str, &str)]) -> Hub {
    let settings: Vec<_> = [IN_HASTE, RECOVERY].iter().chain(more).copied().collect();
    Hub::start_with(&["--reactors", "2"], &settings)
}

/// The state that a client shows when it reconnects.
#[derive(Clone, Debug)]
struct RecoveryState {
    pid: String,
    offset: Option<String>,
}

impl RecoveryState {
    fn new(connected: &Value) -> Self {
        Self { pid: connected["pid"].as_str().expect("it may come back").to_owned(), offset: None }
    }

    fn auth(&self) -> Value {
        match &self.offset {
            Some(offset) => json!({ "pid": self.pid, "offset": offset }),
            None => json!({ "pid": self.pid }),
        }
    }

    /// Records the offset of an event as clients do. Returns the first argument.
    #[track_caller]
    fn record(&mut self, event: &ReceivedEvent) -> Value {
        let offset = event.arguments.last().and_then(Value::as_str);
        self.offset = Some(offset.unwrap_or_else(|| panic!("an event has an offset: {event:?}")).to_owned());
        event.arguments[0].clone()
    }
}

fn wait_for_sessions(hub: &Hub, count: u64) {
    wait_until(&format!("{count} sessions"), || (sessions(hub) == count).then_some(()));
}

/// Whether the hub has recovered the client's state.
fn is_back(connected: &Value, state: &RecoveryState) -> bool {
    connected["pid"] == state.pid.as_str()
}

/// Connects, subscribes to `topics`, gets one event of each if `with_offset`, loses the connection while others are published, and
/// reconnects.
#[track_caller]
fn lose_and_return<C: SocketClient>(hub: &Hub, open: fn(&Hub) -> C, topics: &[&str], with_offset: bool) {
    let mut client = open(hub);
    let first = client.enter_with(&Value::Null);
    let mut state = RecoveryState::new(&first);
    for topic in topics {
        client.subscribe(topic);
        if with_offset {
            hub.publish(topic, format!("\"{topic} before\""));
            assert_eq!(state.record(&client.next_event()), format!("{topic} before"));
        }
    }
    client.send(CLOSE);
    client.wait_for_end();
    drop(client);
    wait_for_sessions(hub, 0);
    for number in 0..20 {
        topics.iter().for_each(|topic| drop(hub.publish(topic, format!("\"{topic} {number}\""))));
    }
    let mut client = open(hub);
    let back = client.enter_with(&state.auth());
    assert_eq!((&back["pid"], &back["sid"]), (&first["pid"], &first["sid"]));
    // Live events follow the missed ones.
    topics.iter().for_each(|topic| drop(hub.publish(topic, format!("\"{topic} 20\""))));
    let mut next = vec![0; topics.len()];
    for _ in 0..topics.len() * 21 {
        let event = client.next_event();
        let data = state.record(&event);
        let (topic, number) = data.as_str().and_then(|data| data.split_once(' ')).expect("a topic and a number");
        let index = topics.iter().position(|it| *it == topic).expect("one it listens to");
        assert_eq!(number, next[index].to_string(), "{topic}: once, and in order");
        next[index] += 1;
    }
    client.emit("ping", &Value::Null);
    client.expect_event("pong");
    client.send(CLOSE);
    client.wait_for_end();
    drop(client);
    wait_for_sessions(hub, 0);
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed() {
    let hub = hub_with(&[]);
    for (round, with_offset) in [true, false].into_iter().enumerate() {
        for topics in [&["a"][..], &["a", "b"], &["a", "b", "c", "d"]] {
            let names: Vec<String> = topics.iter().map(|topic| format!("{topic}{round}.{}", topics.len())).collect();
            let carried: Vec<String> = names.iter().map(|name| format!("{name}.carried")).collect();
            let polled: Vec<String> = names.iter().map(|name| format!("{name}.polled")).collect();
            lose_and_return(&hub, Carried::open, &carried.iter().map(String::as_str).collect::<Vec<_>>(), with_offset);
            lose_and_return(&hub, Polled::open, &polled.iter().map(String::as_str).collect::<Vec<_>>(), with_offset);
        }
    }
}

/// The client notices a cut network at once, the hub perhaps only when a ping is overdue.
#[test]
fn a_client_comes_back_before_the_hub_has_noticed_its_loss() {
    let hub = hub_with(&[]);
    let mut lost = Carried::open(&hub);
    let first = lost.enter_with(&Value::Null);
    let mut state = RecoveryState::new(&first);
    lost.subscribe("unnoticed");
    hub.publish("unnoticed", "\"before\"");
    assert_eq!(state.record(&lost.next_event()), "before");
    (0..20).for_each(|number| drop(hub.publish("unnoticed", format!("{number}"))));
    let mut client = Carried::open(&hub);
    let back = client.enter_with(&state.auth());
    assert_eq!((&back["pid"], &back["sid"]), (&first["pid"], &first["sid"]));
    (0..20).for_each(|number| assert_eq!(state.record(&client.next_event()), number));
    // The end of the former session does not affect the recovered client.
    lost.send(CLOSE);
    lost.wait_for_end();
    wait_for_sessions(&hub, 1);
    client.send(CLOSE);
    client.wait_for_end();
    wait_for_sessions(&hub, 0);
    hub.publish("unnoticed", "20");
    let mut client = Carried::open(&hub);
    assert!(is_back(&client.enter_with(&state.auth()), &state));
    assert_eq!(state.record(&client.next_event()), 20);
}

#[test]
fn what_came_before_a_topic_was_listened_to_does_not_come_again() {
    let hub = hub_with(&[]);
    let mut client = Carried::open(&hub);
    let mut state = RecoveryState::new(&client.enter_with(&Value::Null));
    client.subscribe("t");
    hub.publish("t", "1");
    state.record(&client.next_event());
    client.emit("unsubscribe", &json!({ "topic": "t" }));
    client.expect_event("unsubscribed");
    hub.publish("t", "2");
    client.subscribe("t");
    drop(client);
    wait_for_sessions(&hub, 0);
    hub.publish("t", "3");
    let mut client = Carried::open(&hub);
    assert!(is_back(&client.enter_with(&state.auth()), &state));
    assert_eq!(state.record(&client.next_event()), 3, "2 came while nobody listened");
}

#[test]
fn topics_that_were_left_stay_left() {
    let hub = hub_with(&[]);
    let mut client = Carried::open(&hub);
    let mut state = RecoveryState::new(&client.enter_with(&Value::Null));
    client.subscribe("a");
    client.subscribe("b");
    hub.publish("a", "1");
    state.record(&client.next_event());
    hub.publish("b", "2");
    state.record(&client.next_event());
    client.emit("unsubscribe", &json!({ "topic": "b" }));
    client.expect_event("unsubscribed");
    drop(client);
    wait_for_sessions(&hub, 0);
    hub.publish("b", "3");
    hub.publish("a", "4");
    let mut client = Carried::open(&hub);
    assert!(is_back(&client.enter_with(&state.auth()), &state));
    assert_eq!(state.record(&client.next_event()), 4);
    hub.wait_for_listeners("b", 0);
}

#[test]
fn a_late_client_is_new() {
    let hub = hub_with(&[("socketio.recovery", "50ms")]);
    let mut client = Carried::open(&hub);
    let mut state = RecoveryState::new(&client.enter_with(&Value::Null));
    client.subscribe("t");
    hub.publish("t", "1");
    state.record(&client.next_event());
    drop(client);
    wait_for_sessions(&hub, 0);
    // Nothing else shows that the window is over. A client that left later has passed its window by now.
    let later = std::time::Instant::now() + std::time::Duration::from_millis(60);
    wait_until("the window is over", || (later < std::time::Instant::now()).then_some(()));
    let mut client = Carried::open(&hub);
    let connected = client.enter_with(&state.auth());
    assert!(!is_back(&connected, &state), "{connected}");
    hub.publish("t", "2");
    client.emit("get_stats", &Value::Null);
    assert_eq!(client.expect_event("stats")["subscriptions"], json!([]));
}

#[test]
fn a_claim_that_is_none_makes_a_new_client() {
    let hub = hub_with(&[]);
    for claim in [
        json!({ "pid": "unknown" }),
        json!({ "pid": "unknown", "offset": "t@1-1" }),
        json!({ "pid": 7, "offset": 7 }),
        json!({ "pid": "unknown", "offset": "nonsense" }),
        json!({ "offset": "t@1-1" }),
    ] {
        let mut client = Carried::open(&hub);
        let connected = client.enter_with(&claim);
        assert!(connected["pid"].is_string() && connected["pid"] != "unknown", "{claim} {connected}");
        client.emit("get_stats", &Value::Null);
        assert_eq!(client.expect_event("stats")["subscriptions"], json!([]), "{claim}");
    }
}

#[test]
fn without_a_window_no_client_gets_a_private_id() {
    let hub = Hub::start();
    let mut client = Carried::open(&hub);
    assert_eq!(client.enter_with(&Value::Null)["pid"], Value::Null);
    client.subscribe("t");
    hub.publish("t", "1");
    assert_eq!(client.next_event().arguments, [json!(1)], "and events carry no offset");
}

fn token(subject: &str) -> String {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs();
    let claims = json!({ "sub": subject, "exp": unix + 60, "subscribe": ["t"], "publish": ["t"] });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("claims are JSON")
}

#[test]
fn no_client_recovers_the_state_of_another_user() {
    let hub = hub_with(&[("auth.mode", "jwt"), ("auth.secret", SECRET)]);
    let publish = |payload: &str| {
        let response = hub.post(&format!("/publish/t?token={}", token("alice")), payload);
        assert_eq!(response.status, 200, "{}", response.text());
    };
    for (subject, is_same) in [("alice", true), ("eve", false)] {
        let mut client = Carried::open(&hub);
        let mut state = RecoveryState::new(&client.enter_with(&json!({ "token": token("alice") })));
        client.subscribe("t");
        publish("1");
        state.record(&client.next_event());
        drop(client);
        wait_for_sessions(&hub, 0);
        publish("2");
        let mut client = Carried::open(&hub);
        let mut auth = state.auth();
        auth["token"] = token(subject).into();
        assert_eq!(is_back(&client.enter_with(&auth), &state), is_same, "{subject}");
        if is_same {
            assert_eq!(state.record(&client.next_event()), 2);
        }
        client.emit("ping", &Value::Null);
        client.expect_event("pong");
        drop(client);
        wait_for_sessions(&hub, 0);
    }
}

/// A refused attempt with another client's private id does not affect that client.
#[test]
fn a_failed_attempt_costs_its_owner_nothing() {
    let (folder, quota) = (Folder::new(), "[[quota]]\nname = \"one\"\nwho = \"sub:alice\"\nconnections = 1\n");
    let config = folder.path("fanfare.toml");
    fs::write(&config, quota).expect("the folder is writable");
    let settings = [IN_HASTE, RECOVERY, ("auth.mode", "jwt"), ("auth.secret", SECRET), ("esp.namespaces", "/,/other")];
    let hub = Hub::start_with(&["--reactors", "2", "--config", &config], &settings);
    let mut client = Carried::open(&hub);
    let mut state = RecoveryState::new(&client.enter_with(&json!({ "token": token("alice") })));
    client.subscribe("t");
    let publish = |payload: &str| {
        let response = hub.post(&format!("/publish/t?token={}", token("alice")), payload);
        assert_eq!(response.status, 200, "{}", response.text());
    };
    publish("1");
    state.record(&client.next_event());
    let auth = |subject: &str| {
        let mut auth = state.auth();
        auth["token"] = token(subject).into();
        auth
    };
    // While the client is connected, and its user has as many streams as allowed.
    let mut refused = Carried::open(&hub);
    refused.send(&format!("40{}", auth("alice")));
    let packet = refused.next_packet();
    assert!(packet.starts_with("44") && packet.contains("QuotaExceeded"), "{packet}");
    drop(refused);
    assert!(!is_back(&Carried::open(&hub).enter_with(&auth("eve")), &state));
    drop(client);
    wait_for_sessions(&hub, 0);
    publish("2");
    // And while the client is away: by another user, and in another namespace.
    assert!(!is_back(&Carried::open(&hub).enter_with(&auth("eve")), &state));
    let mut elsewhere = Carried::open(&hub);
    elsewhere.send(&format!("40/other,{}", auth("alice")));
    let packet = elsewhere.next_packet();
    assert!(packet.starts_with("40/other,") && !packet.contains(&state.pid), "{packet}");
    drop(elsewhere);
    wait_for_sessions(&hub, 0);
    let mut client = Carried::open(&hub);
    assert!(is_back(&client.enter_with(&auth("alice")), &state));
    assert_eq!(state.record(&client.next_event()), 2);
}

fn hub_on(server: &RedisServer, more: &[(&str, &str)]) -> Hub {
    let mut settings = vec![IN_HASTE, RECOVERY, ("server.default_topics", ""), ("redis.linger", "100ms")];
    settings.extend_from_slice(more);
    let hub = Hub::start_with(&["--reactors", "2", "--redis", &server.url()], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

#[test]
fn at_another_hub_it_goes_on_where_a_broker_keeps_the_topics() {
    let server = RedisServer::start();
    let hubs = [0, 1].map(|_| hub_on(&server, &[("topics.log", "redis-stream")]));
    let mut client = Carried::open(&hubs[0]);
    let mut state = RecoveryState::new(&client.enter_with(&Value::Null));
    client.subscribe("a");
    client.subscribe("b");
    let publish = |hub: &Hub, topic: &str, number: i32| drop(hub.publish(topic, number.to_string()));
    for topic in ["a", "b"] {
        publish(&hubs[0], topic, 0);
        assert_eq!(state.record(&client.next_event()), 0);
    }
    let mut next = 1;
    // Alternating between the transports.
    for round in 0..4 {
        let hub = &hubs[(round + 1) % 2];
        drop(client);
        hubs.iter().for_each(|hub| wait_for_sessions(hub, 0));
        for number in next..next + 10 {
            ["a", "b"].iter().for_each(|topic| publish(&hubs[round % 2], topic, number));
        }
        client = Carried::open(hub);
        assert!(is_back(&client.enter_with(&state.auth()), &state), "{round}");
        publish(hub, "a", next + 10);
        publish(hub, "b", next + 10);
        let mut seen = [next, next];
        for _ in 0..22 {
            let event = client.next_event();
            assert_eq!(event.name, "message", "{event:?}");
            let before = state.offset.clone();
            let number = state.record(&event);
            // The id that has changed shows the topic.
            let of = |offset: &str, topic: &str| {
                offset.split(',').find(|part| part.starts_with(&format!("{topic}@"))).map(str::to_owned)
            };
            let after = state.offset.as_deref().unwrap_or_default();
            let index = usize::from(of(before.as_deref().unwrap_or_default(), "a") == of(after, "a"));
            assert_eq!(number, seen[index], "{round}: {event:?}");
            seen[index] += 1;
        }
        assert_eq!(seen, [next + 11, next + 11]);
        next += 11;
    }
}

#[test]
fn a_hub_that_drains_hands_its_clients_over() {
    let server = RedisServer::start();
    let kept = [("topics.log", "redis-stream"), ("drain.window", "300ms")];
    let [first, second] = [0, 1].map(|_| hub_on(&server, &kept));
    let mut clients: Vec<(Carried, RecoveryState)> = (0..10)
        .map(|_| {
            let mut client = Carried::open(&first);
            let state = RecoveryState::new(&client.enter_with(&Value::Null));
            client.subscribe("t");
            (client, state)
        })
        .collect();
    second.publish("t", "0");
    clients.iter_mut().for_each(|(client, state)| assert_eq!(state.record(&client.next_event()), 0));
    send_signal("TERM", first.pid());
    // Events published meanwhile arrive before the end, or after recovery.
    (1..40).for_each(|number| drop(second.publish("t", number.to_string())));
    for (mut client, mut state) in clients {
        let mut next = 1;
        while let Some(packet) = client.try_next() {
            if let Some(event) = parse_event(&packet) {
                assert_eq!(state.record(&event), next);
                next += 1;
            }
        }
        assert_eq!(client.close_code, Some(1012));
        let mut client = Carried::open(&second);
        assert!(is_back(&client.enter_with(&state.auth()), &state));
        (next..40).for_each(|number| assert_eq!(state.record(&client.next_event()), number));
        client.emit("ping", &Value::Null);
        client.expect_event("pong");
    }
    assert!(first.wait().success());
}

#[test]
fn at_another_hub_it_is_new_where_each_keeps_its_own() {
    let server = RedisServer::start();
    let hubs = [0, 1].map(|_| hub_on(&server, &[]));
    let mut client = Carried::open(&hubs[0]);
    let mut state = RecoveryState::new(&client.enter_with(&Value::Null));
    client.subscribe("t");
    assert_eq!(hubs[1].post("/publish/t", "1").status, 200);
    state.record(&client.next_event());
    drop(client);
    wait_for_sessions(&hubs[0], 0);
    let mut client = Carried::open(&hubs[1]);
    assert!(!is_back(&client.enter_with(&state.auth()), &state), "so it has to subscribe to its topics again");
    client.emit("get_stats", &Value::Null);
    assert_eq!(client.expect_event("stats")["subscriptions"], json!([]));
}
