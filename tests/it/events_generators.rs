//! The demonstration's generators: start, pause, resume and stop.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::mpsc,
};

use serde_json::{Value, json};

use crate::support::{TIMEOUT, hub::Hub, nats::NatsServer, redis::RedisServer, sse::SseClient, wait_until};

const EVENTS: &str = "/api/v1/events";

/// Streams whose generators get commands, and one that serves as a clock.
const QUICK: [(&str, &str); 3] =
    [("demo.default_interval", "10ms"), ("demo.custom_interval", "10ms"), ("demo.system_interval", "10ms")];

fn open(hub: &Hub, stream: &str) -> SseClient {
    SseClient::open(hub, &format!("{EVENTS}/stream/{stream}")).behind_greeting()
}

/// Asks for `action`, and checks the answer's status and message.
#[track_caller]
fn ask(hub: &Hub, stream: &str, action: &str, status: u16, message: &str) {
    let answer = hub.post(&format!("{EVENTS}/stream/{stream}/{action}"), "");
    let body = answer.json();
    assert_eq!((answer.status, &body["message"]), (status, &json!(message)), "{action}");
    assert_eq!(body["success"], status == 200);
}

fn generator(hub: &Hub, stream: &str) -> Value {
    hub.get(&format!("{EVENTS}/streams")).json()["data"][stream]["generator"].clone()
}

fn mark(hub: &Hub, stream: &str, kind: &str) {
    let body = json!({ "stream_id": stream, "type": kind, "message": "a mark" }).to_string();
    assert_eq!(hub.post(&format!("{EVENTS}/broadcast"), body).status, 200);
}

/// The number of events before the mark.
#[track_caller]
fn count_until(client: &mut SseClient, kind: &str) -> usize {
    let kind_of = |data: String| serde_json::from_str::<Value>(&data).expect("an object")["type"].clone();
    (0..).find(|_| kind_of(client.next_data()) == kind).expect("the mark was sent")
}

/// Waits some time, measured by a generator that runs throughout.
#[track_caller]
fn let_pass(clock: &mut SseClient) {
    (0..20).for_each(|_| drop(clock.next()));
}

#[test]
fn the_default_streams_run_from_the_start() {
    let fast = ["default", "system", "user_activity", "notifications"].map(|name| format!("demo.{name}_interval"));
    let settings: Vec<(&str, &str)> = fast.iter().map(|key| (key.as_str(), "20ms")).collect();
    let hub = Hub::start_with(&["--demo"], &settings);
    for stream in ["default", "system", "user-activity", "notifications"] {
        for path in [format!("{EVENTS}/stream/{stream}"), format!("/api/v1/broadcast-demo/stream/demo-{stream}")] {
            let mut client = SseClient::open(&hub, &path).behind_greeting();
            let events = [client.next_data(), client.next_data()];
            let event: Value = serde_json::from_str(&events[0]).expect("an object");
            assert!(path.ends_with(event["stream_id"].as_str().expect("a text")), "{event}");
            assert_ne!(events[0], events[1]);
        }
        assert_eq!(generator(&hub, stream), json!({ "running": true, "paused": false }));
    }
}

#[test]
fn a_stream_rests_and_goes_on() {
    let hub = Hub::start_with(&["--demo"], &QUICK);
    let (mut client, mut clock) = (open(&hub, "default"), open(&hub, "system"));
    ask(&hub, "default", "resume", 409, "Stream 'default' is not paused");
    ask(&hub, "default", "pause", 200, "Stream 'default' paused");
    ask(&hub, "default", "pause", 409, "Stream 'default' is paused already");
    assert_eq!(generator(&hub, "default"), json!({ "running": true, "paused": true }));
    mark(&hub, "default", "paused");
    let_pass(&mut clock);
    mark(&hub, "default", "still_paused");
    count_until(&mut client, "paused");
    assert_eq!(count_until(&mut client, "still_paused"), 0);
    ask(&hub, "default", "resume", 200, "Stream 'default' resumed");
    assert_eq!(generator(&hub, "default"), json!({ "running": true, "paused": false }));
    let_pass(&mut client);
}

#[test]
fn a_stream_of_any_name_starts_anew_and_ends() {
    let hub = Hub::start_with(&["--demo"], &QUICK);
    let (mut client, mut clock) = (open(&hub, "custom"), open(&hub, "system"));
    for action in ["stop", "pause", "resume"] {
        ask(&hub, "custom", action, 404, "Stream 'custom' has no generator: start it first");
    }
    for _ in 0..2 {
        ask(&hub, "custom", "start", 200, "Stream 'custom' started");
        assert_eq!(generator(&hub, "custom"), json!({ "running": true, "paused": false }));
        count_until(&mut client, "stream_started");
        let_pass(&mut client);
    }
    ask(&hub, "custom", "stop", 200, "Stream 'custom' stopped and removed");
    mark(&hub, "custom", "stopped");
    let_pass(&mut clock);
    mark(&hub, "custom", "still_stopped");
    count_until(&mut client, "stopped");
    assert_eq!(count_until(&mut client, "still_stopped"), 0);
    drop(client);
    wait_until("the stream is listed no more", || generator(&hub, "custom").is_null().then_some(()));
    ask(&hub, "default", "stop", 200, "Stream 'default' stopped and removed");
    assert_eq!(generator(&hub, "default"), json!({ "running": false, "paused": false }));
    let refused = hub.post(&format!("{EVENTS}/stream/a..b/start"), "").json();
    assert_eq!(refused["error"]["code"], "bad_stream_id");
}

#[test]
fn there_is_an_end_to_how_many_may_run() {
    let hub = Hub::start_with(&["--demo"], &[("demo.streams_max", "9")]);
    ask(&hub, "one", "start", 200, "Stream 'one' started");
    ask(&hub, "two", "start", 409, "Stream 'two' cannot be started: as many as are allowed run");
    ask(&hub, "one", "stop", 200, "Stream 'one' stopped and removed");
    ask(&hub, "two", "start", 200, "Stream 'two' started");
}

#[test]
fn without_the_demonstration_nothing_is_made_up() {
    let hub = Hub::start();
    let message = "generators run for demonstration only: start the hub with --demo (demo.enabled = true)";
    for action in ["start", "stop", "pause", "resume"] {
        ask(&hub, "default", action, 409, message);
    }
}

#[test]
fn a_hub_with_generators_ends_at_a_signal() {
    let hub = Hub::start_with(&["--demo"], &QUICK);
    let mut client = open(&hub, "system");
    client.next();
    assert!(hub.terminate().success());
}

/// The addresses of the connections that publish to the stream `default`, in the order of its events.
fn publishers(server: &RedisServer) -> impl Iterator<Item = String> {
    let mut socket = TcpStream::connect((server.host(), server.port())).expect("the server listens");
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    socket.write_all(b"MONITOR\r\n").expect("the server reads");
    let lines = BufReader::new(socket).lines().map(|line| line.expect("the server says what it is told in time"));
    lines.filter_map(|line| {
        let (from, command) = line.split_once("] ")?;
        command
            .starts_with("\"PUBLISH\" \"streams.default\"")
            .then(|| from.split(' ').next_back().map(str::to_owned))?
    })
}

#[test]
fn of_two_hubs_on_one_redis_one_generates() {
    let server = RedisServer::start();
    let url = server.url();
    let settings = [&QUICK[..], &[("demo.lease", "2s")]].concat();
    let start = || {
        let hub = Hub::start_with(&["--demo", "--redis", &url], &settings);
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
        hub
    };
    let mut publishers = publishers(&server);
    let first = start();
    let own = publishers.next().expect("the server runs");
    let second = start();
    // What the second hub was asked for it generates; what both have from the start, the first one.
    ask(&second, "more", "start", 200, "Stream 'more' started");
    let mut asked = open(&first, "more");
    assert_ne!(asked.next_data(), asked.next_data());
    assert!(publishers.by_ref().take(50).all(|publisher| publisher == own));
    // It is killed, and cannot give anything back.
    drop(first);
    assert!(publishers.any(|publisher| publisher != own), "the second hub takes over");
    assert_eq!(generator(&second, "default"), json!({ "running": true, "paused": false }));
}

/// NATS keeps nothing, so the hubs settle it among themselves. Each has one stream that is much faster than the other one.
#[test]
fn of_two_hubs_on_one_nats_one_generates() {
    const FAST: &str = "10ms";
    const SLOW: &str = "1h";
    let server = NatsServer::start();
    let (sender, events) = mpsc::channel();
    server.subscribe("streams.*", move |subject, _, _| drop(sender.send(subject.to_owned())));
    let start = |default: &str, system: &str| {
        let settings = [
            ("demo.lease", "500ms"),
            ("demo.default_interval", default),
            ("demo.system_interval", system),
            ("demo.user_activity_interval", SLOW),
            ("demo.notifications_interval", SLOW),
        ];
        let hub = Hub::start_with(&["--demo", "--nats", &server.url_as("")], &settings);
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
        hub
    };
    let next = || events.recv_timeout(TIMEOUT).expect("one of them generates");
    let first = start(SLOW, FAST);
    assert_eq!(next(), "streams.system");
    let second = start(FAST, SLOW);
    // Three times as long as the lease lasts.
    let later: Vec<String> = (0..150).map(|_| next()).collect();
    assert!(later.iter().all(|subject| subject == "streams.system"), "{later:?}");
    // It is killed, and cannot give anything back.
    drop(first);
    assert!((0..300).any(|_| next() == "streams.default"), "the second hub takes over");
    // It ends, and gives it back: the third one need not wait.
    let third = start(SLOW, FAST);
    assert!(second.terminate().success());
    assert!((0..300).any(|_| next() == "streams.system"), "the third hub takes over");
    drop(third);
}
