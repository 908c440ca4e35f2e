//! Quotas: how much of the hub one tenant may use, over all protocols, and that other tenants are not affected.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use fanfare_core::protocol::http::Method;
use serde_json::json;
use socket2::Socket;

use super::half_sent::{first_status, head};
use crate::support::{
    Folder,
    guarded::Guarded,
    http::{HttpConnection, Response, read_some},
    hub::Hub,
    postgres::PostgresServer,
    send_signal,
    socket_io::{Carried, Polled, SocketClient},
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

const RULES: &str = r#"
[[quota]]
name = "sensors"
who = "sub:sensor"
topics = ["pods.**", "wells.**", "orders.**", "streams.**"]
publish_per_second = 2

[[quota]]
name = "few-topics"
who = "sub:maker"
topics_held = 2

[[quota]]
name = "one-stream"
who = "sub:reader"
connections = 1

[[quota]]
name = "few-bytes"
who = "sub:well"
bytes_held = "64KiB"
"#;

fn start(settings: &[(&str, &str)]) -> (Guarded, Folder) {
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, RULES).expect("the folder is ours");
    (Guarded::start("1h", &["--config", &config], settings), folder)
}

fn ask(hub: &Hub, token: &str, method: Method, target: &str, body: &str) -> Response {
    let credentials = format!("Bearer {token}");
    HttpConnection::new(hub.connect()).request(method, target, &[("Authorization", &credentials)], body.as_bytes())
}

/// A stream of events that stays open as long as the socket; `None` if the hub refuses it.
fn open_stream(hub: &Hub, token: &str) -> Option<Socket> {
    open_or_refusal(hub, token).ok()
}

/// The same, or the hub's refusal.
fn open_or_refusal(hub: &Hub, token: &str) -> Result<Socket, String> {
    let mut connection = HttpConnection::new(hub.connect());
    let head = format!(
        "GET /sse?topic=a.b HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    connection.send(head.as_bytes());
    let (socket, mut said) = (connection.into_socket(), Vec::new());
    loop {
        let mut buffer = [0; 1024];
        let count = read_some(&socket, &mut buffer).expect("the hub answers");
        said.extend_from_slice(&buffer[..count]);
        if said.starts_with(b"HTTP/1.1 200") {
            return Ok(socket);
        } else if count == 0 {
            return Err(String::from_utf8_lossy(&said).into_owned());
        }
    }
}

#[track_caller]
fn assert_refused(answer: &Response, rule: &str) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|it| 0 < it)));
    assert!(answer.text().contains(&format!("quota `{rule}`")), "{}", answer.text());
}

/// All ways to publish share one limit: after two publications of one kind, none of any other passes.
#[test]
fn no_way_to_publish_leads_round_a_quota() {
    let (guarded, _folder) = start(&[]);
    let (hub, token) = (&guarded.hub, guarded.token("sensor", "**"));
    let post = |target: &str, body: &str| ask(hub, &token, Method::Post, target, body);
    let mut socket = WebSocketClient::open_v1(hub, &format!("/ws?token={token}"));
    // More than is allowed at once, which an empty bucket admits: then none passes for half a minute.
    let batch = format!("[{}]", [r#"{"topic":"orders.a","data":1}"#; 60].join(","));
    assert_eq!(post("/publish", &batch).status, 200);
    assert_refused(&post("/publish/orders.a", "x"), "sensors");
    assert_refused(&post("/publish", r#"[{"topic":"orders.a","data":1}]"#), "sensors");
    assert_refused(&post("/alice/events/changes", "{}"), "sensors");
    let reading = json!({ "well_id": "W", "timestamp": "2025-11-20T10:30:00Z", "flow_rate": 1000.5 });
    assert_refused(&post("/api/v1/telemetry/ingest", &reading.to_string()), "sensors");
    let broadcast = r#"{"stream_id":"s","type":"info","message":"m"}"#;
    assert_refused(&post("/api/v1/events/broadcast", broadcast), "sensors");
    let refused = socket.ask(&json!({ "op": "publish", "topic": "orders.a", "data": 1, "ref": 1 }));
    assert_eq!((&refused["op"], &refused["code"]), (&json!("error"), &json!("quota_exceeded")), "{refused}");
    assert_eq!(post("/publish/else", "x").status, 200, "of topics that the rule does not concern there is no end");
    assert_eq!(ask(hub, &guarded.token("other", "**"), Method::Post, "/publish/orders.a", "x").status, 200);
    let metrics = ask(hub, guarded.admin_token(), Method::Get, "/metrics", "").text();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("fanfare_quota_refusals_total{rule=\"sensors\",limit=\"publish_per_second\"}"));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
    assert!(!metrics.contains("sub:sensor"), "rules are named, users never are");
}

#[test]
fn topics_and_streams_are_bounded_too() {
    let (guarded, _folder) = start(&[]);
    let (hub, maker, reader) = (&guarded.hub, guarded.token("maker", "**"), guarded.token("reader", "**"));
    let publish = |topic: &str| ask(hub, &maker, Method::Post, &format!("/publish/{topic}"), "x");
    assert_eq!([publish("a").status, publish("b").status, publish("a").status], [200; 3]);
    assert_refused(&publish("c"), "few-topics");
    let mut socket = WebSocketClient::open_v1(hub, &format!("/ws?token={maker}"));
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "d" }))["code"], "QuotaExceeded");
    assert_eq!(socket.ask(&json!({ "op": "subscribe", "topic": "a" }))["op"], "subscribed");
    let stream = WebSocketClient::open_v1(hub, &format!("/ws?token={reader}"));
    assert_refused(&ask(hub, &reader, Method::Get, "/sse?topic=a", ""), "one-stream");
    drop(stream);
    wait_until("the first stream is released", || open_stream(hub, &reader));
}

/// A Socket.IO session in no namespace yet, over a WebSocket or by polling.
fn open_session<T: SocketClient>(open: fn(&Hub) -> T, hub: &Hub, token: &str) -> (T, String) {
    let mut client = open(hub);
    client.send(&format!("40{}", json!({ "token": token })));
    let answer = client.next_packet();
    (client, answer)
}

#[test]
fn a_socket_io_session_is_one_stream_whatever_carries_it() {
    let (guarded, _folder) = start(&[("esp.namespaces", "/,/wells")]);
    let (hub, reader) = (&guarded.hub, guarded.token("reader", "**"));
    let message = "quota `one-stream`: connections is used up; try again in 2 s";
    let data = json!({ "error": "QuotaExceeded", "message": message });
    let refusal = format!("44{}", json!({ "message": message, "data": data }));
    let assert_full = || {
        let parse = |packet: &str| serde_json::from_str::<serde_json::Value>(packet.strip_prefix("44")?).ok();
        let (_carried, answer) = open_session(Carried::open, hub, &reader);
        assert_eq!(parse(&answer), parse(&refusal), "{answer}");
        let (_polled, answer) = open_session(Polled::open, hub, &reader);
        assert_eq!(parse(&answer), parse(&refusal), "{answer}");
        assert!(open_stream(hub, &reader).is_none());
    };
    let is_in = |answer: &str| answer.starts_with("40");

    let stream = open_stream(hub, &reader).expect("one is allowed");
    assert_full();
    drop(stream);
    let mut carried = wait_until("the stream is released", || {
        let (client, answer) = open_session(Carried::open, hub, &reader);
        is_in(&answer).then_some(client)
    });
    assert_full();
    carried.expect_event("connected");
    carried.send(&format!("40/wells,{}", json!({ "token": reader })));
    let answer = carried.next_packet();
    assert!(answer.starts_with("40/wells,"), "the session is counted already: {answer}");
    drop(carried);

    let polled = wait_until("the WebSocket is released", || {
        let (client, answer) = open_session(Polled::open, hub, &reader);
        is_in(&answer).then_some(client)
    });
    assert_full();
    let (upgraded, _) = polled.upgrade();
    assert_full();
    drop(upgraded);
    let mut polled = wait_until("the upgraded session is released", || {
        let (client, answer) = open_session(Polled::open, hub, &reader);
        is_in(&answer).then_some(client)
    });
    assert_full();
    polled.send("1");
    wait_until("the polled session is released", || open_stream(hub, &reader));
    let other = guarded.token("other", "**");
    assert!(is_in(&open_session(Carried::open, hub, &other).1) && is_in(&open_session(Polled::open, hub, &other).1));
}

/// A client that signs in by a command had no identity when the stream was opened.
#[test]
fn a_client_that_signs_in_later_is_counted_then() {
    let (guarded, _folder) = start(&[]);
    let (hub, reader) = (&guarded.hub, guarded.token("reader", "**"));
    let sign_in = json!({ "op": "auth", "token": reader });
    let mut first = WebSocketClient::open_v1(hub, "/ws");
    assert_eq!(first.ask(&sign_in)["op"], "authenticated");
    assert!(open_stream(hub, &reader).is_none());
    assert_eq!(first.ask(&sign_in)["op"], "authenticated", "a fresh token is no second stream");
    let mut second = WebSocketClient::open_v1(hub, "/ws");
    second.send(&sign_in.to_string());
    assert!(matches!(second.next(), Incoming::Close(Some(1013), _)));
    drop(first);
    wait_until("the first stream is released", || open_stream(hub, &reader));
}

/// Without a share, a token for `orders.**` could spend the whole memory budget within seconds, and all others would get 503.
#[test]
fn one_tenant_cannot_take_all() {
    let (guarded, _folder) = start(&[("server.memory_budget", "16MiB"), ("limits.tenant_publish_per_second", "0")]);
    let (hub, flooder, other) = (&guarded.hub, guarded.token("flooder", "flood.**"), guarded.token("other", "**"));
    let (is_over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let credentials = format!("Bearer {flooder}");
            let (mut connection, payload) = (HttpConnection::new(hub.connect()), vec![b'x'; 60_000]);
            for number in 0.. {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                let target = format!("/publish/flood.{}", number % 200);
                let answer = connection.request(Method::Post, &target, &[("Authorization", &credentials)], &payload);
                assert!(matches!(answer.status, 200 | 429), "{}", answer.text());
                refused.fetch_add(usize::from(answer.status == 429), Ordering::AcqRel);
            }
        });
        let credentials = format!("Bearer {other}");
        let mut connection = HttpConnection::new(hub.connect());
        let mut published = 0;
        while published < 300 || refused.load(Ordering::Acquire) == 0 {
            let target = format!("/publish/quiet.{}", published % 50);
            let answer = connection.request(Method::Post, &target, &[("Authorization", &credentials)], b"x");
            assert_eq!(answer.status, 200, "{}", answer.text());
            published += 1;
        }
        is_over.store(true, Ordering::Release);
    });
}

/// Two services with a key each; the limit per second for all, and for the first one.
fn with_services(default_rate: u32, first: &str) -> String {
    let service = |name: &str| {
        format!(
            "[[api_keys]]\nname = \"{name}\"\nkey = \"{}\"\npublish = [\"**\"]\nsubscribe = [\"**\"]\n",
            key_of(name)
        )
    };
    let quota = format!("[[quota]]\nname = \"ingest\"\nwho = \"api_key:first\"\n{first}\n");
    let settings = format!("[auth]\nmode = \"jwt\"\n[limits]\ntenant_publish_per_second = {default_rate}\n");
    [settings, service("first"), service("second"), quota].concat()
}

fn key_of(service: &str) -> String {
    format!("the key of the {service} service")
}

/// More than a second's worth at a low rate: an empty bucket admits it, and then nothing for a minute.
const SIXTY: usize = 60;

fn publish_many(hub: &Hub, service: &str, count: usize) -> Response {
    let batch = format!("[{}]", vec![r#"{"topic":"a.b","data":1}"#; count].join(","));
    ask(hub, &key_of(service), Method::Post, "/publish", &batch)
}

#[test]
fn quotas_are_read_anew_while_the_hub_runs() {
    let folder = Folder::new();
    let (path, log) = (folder.path("fanfare.toml"), folder.path("log"));
    let write = |text: &str| fs::write(&path, text).expect("the folder is ours");
    write(&with_services(1_000_000, "publish_per_second = 1000\nconnections = 1"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config", &path]);
    command.stderr(fs::File::create(&log).expect("the folder is ours"));
    let hub = Hub::spawn(command, &[("log.level", "warn")]);
    let reload = |text: &str| {
        write(text);
        send_signal("HUP", hub.pid());
    };
    let open = || open_stream(&hub, &key_of("first"));
    let stream = open().expect("one is allowed");
    assert!(open().is_none(), "and no second");

    reload(&with_services(1_000_000, "publish_per_second = 1\nconnections = 2"));
    let second = wait_until("a second stream is allowed", open);
    assert!(open().is_none(), "the first is still counted");
    assert_eq!(publish_many(&hub, "first", SIXTY).status, 200);
    assert_refused(&publish_many(&hub, "first", 1), "ingest");
    assert_eq!([publish_many(&hub, "second", SIXTY).status, publish_many(&hub, "second", 1).status], [200; 2]);

    // The bucket drains at the new rate. At the former one it would take a minute.
    reload(&with_services(1, "publish_per_second = 1000\nconnections = 2"));
    wait_until("the first service may publish again", || (publish_many(&hub, "first", 1).status == 200).then_some(()));
    assert_eq!(publish_many(&hub, "second", SIXTY).status, 200);
    assert_refused(&publish_many(&hub, "second", 1), "default");

    // A bad configuration does not take effect.
    reload("[[quota]]\nname = \"ingest\"\nwho = \"nobody\"\n");
    wait_until("the hub says so", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        (said.contains("nothing is taken over") && said.contains("names nobody")).then_some(())
    });
    drop(second);
    let second = wait_until("the second stream is released", open);
    assert!(open().is_none(), "there are two still");

    // Open streams count whatever the rule is called, also those that were opened while there was no rule.
    let named = |name: &str, rule: &str| with_services(1, rule).replace("\"ingest\"", &format!("\"{name}\""));
    reload(&named("renamed", "connections = 2"));
    // Each reactor counts open streams within a turn: until then a stream may be admitted.
    wait_until("the rule has its new name", || {
        let said = open_or_refusal(&hub, &key_of("first")).err()?;
        said.contains("quota `renamed`").then_some(())
    });
    reload(&named("other", "publish_per_second = 1000"));
    let _third = wait_until("nothing bounds the streams", open);
    reload(&named("again", "connections = 2"));
    wait_until("the rule is there", || open().is_none().then_some(()));
    drop((second, stream));
    let _fourth = wait_until("one of two is free", open);
    wait_until("the others are gone", || {
        let stats = ask(&hub, &key_of("first"), Method::Get, "/stats", "").json();
        (stats["connections"]["sse"] == 2).then_some(())
    });
    assert!(open().is_none(), "there are two: the third, which nothing bounded when it was opened, and the fourth");
}

/// Telemetry that waits for a stopped database counts against its sender's share. Other senders are not refused.
#[test]
fn what_waits_for_the_database_is_its_senders_share() {
    let server = PostgresServer::start();
    let settings = [
        ("store.write_timeout", "25s"),
        ("store.patience", "25s"),
        ("topics.history.count", "1"),
        ("topics.lag.count", "1"),
    ];
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, RULES).expect("the folder is ours");
    let guarded = Guarded::start("1h", &["--config", &config, "--store", &server.url()], &settings);
    let (hub, well, other) = (&guarded.hub, guarded.token("well", "**"), guarded.token("other", "**"));
    wait_until("the hub has its tables", || (hub.get("/ready").status == 200).then_some(()));
    server.suspend();
    let reading = json!({ "well_id": "W", "pip": 1, "note": "x".repeat(12_000) }).to_string();
    // The answer comes once the reading is stored, so each request waits on its own connection. One is refused at once.
    let begin = |token: &str| {
        let mut connection = HttpConnection::new(hub.connect());
        let head = format!(
            "POST /api/v1/telemetry/ingest HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            reading.len()
        );
        connection.send([head.as_bytes(), reading.as_bytes()].concat().as_slice());
        connection
    };
    let queued = || {
        let metrics = ask(hub, guarded.admin_token(), Method::Get, "/metrics", "").text();
        let rows = metrics.lines().find_map(|line| line.strip_prefix("fanfare_store_queue_rows "));
        rows.and_then(|rows| rows.parse::<usize>().ok()).expect("it is there")
    };
    let mut waiting = Vec::new();
    for count in 1..=5 {
        waiting.push(begin(&well));
        wait_until("the reading waits", || (queued() == count).then_some(()));
    }
    assert_refused(&begin(&well).receive(), "few-bytes");
    waiting.push(begin(&other));
    wait_until("another's reading waits, too", || (queued() == 6).then_some(()));
    server.resume();
    waiting.iter_mut().for_each(|connection| assert_eq!(connection.receive().status, 201));
    // Stored readings no longer wait, and the log keeps the last of the events.
    wait_until("there is room again", || (begin(&well).receive().status == 201).then_some(()));
}

/// A reading is stored before it is published. Where its sender's share has no room for the event by then, the answer says that it
/// is accepted, and it is published once there is room.
#[test]
fn what_is_stored_while_the_share_is_full_is_published_later() {
    let server = PostgresServer::start();
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(&config, RULES).expect("the folder is ours");
    let settings = [("store.write_timeout", "25s"), ("store.patience", "25s"), ("store.republish_after", "300ms")];
    let guarded = Guarded::start("1h", &["--config", &config, "--store", &server.url()], &settings);
    let (hub, credentials) = (&guarded.hub, format!("Authorization: Bearer {}\r\n", guarded.token("well", "**")));
    wait_until("the hub has its tables", || (hub.get("/ready").status == 200).then_some(()));
    server.suspend();
    let mut waiting: Vec<HttpConnection> = (0..3)
        .map(|number| {
            let reading = json!({ "well_id": format!("W{number}"), "pip": 1, "note": "x".repeat(12_000) }).to_string();
            let mut connection = HttpConnection::new(hub.connect());
            let head = head("/api/v1/telemetry/ingest", &credentials, reading.len());
            connection.send([head.as_bytes(), reading.as_bytes()].concat().as_slice());
            connection
        })
        .collect();
    let queued = || {
        let metrics = ask(hub, guarded.admin_token(), Method::Get, "/metrics", "").text();
        metrics.lines().any(|line| line == "fanfare_store_queue_rows 3")
    };
    wait_until("the readings wait", || queued().then_some(()));
    // Nearly all that is left of the share.
    let mut half = HttpConnection::new(hub.connect());
    half.send(head("/publish/a", &credentials, 27_500).as_bytes());
    half.send(&[b'x'; 27_000]);
    wait_until("the share is full", || (first_status(hub, &credentials, 20_000) == 429).then_some(()));
    server.resume();
    let answers: Vec<Response> = waiting.iter_mut().map(HttpConnection::receive).collect();
    let published = answers.iter().filter(|answer| answer.status == 201).count();
    assert!(published < 3, "there is no room for all");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.status, 202, "{}", answer.text());
        let body = answer.json();
        assert_eq!((&body["stored"], &body["published"]), (&json!(true), &json!(false)), "{body}");
    }
    drop(half);
    wait_until("all are published", || {
        let is_there = |number| {
            let topic = format!("/topics/wells.W{number}");
            let described = ask(hub, guarded.admin_token(), Method::Get, &topic, "");
            described.status == 200 && described.json()["retained"] == 1
        };
        (0..3).all(is_there).then_some(())
    });
}
