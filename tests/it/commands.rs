//! The command line, as a user types it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{
    Folder, TIMEOUT,
    hub::Hub,
    redis::{RedisServer, TlsRedis},
    send_signal,
    sentinel::SentinelGroup,
    sse::{Received, SseClient},
    stdout_of, wait_until,
};

fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    fanfare(arguments).output().expect("it was just built")
}

/// The error of a command that must fail.
#[track_caller]
fn failure(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).expect("the command writes UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

/// A command under way, killed when dropped.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = fanfare(arguments).stdout(Stdio::piped()).spawn().expect("it was just built");
        let stdout = child.stdout.take().expect("it was just asked for");
        Self { child, lines: BufReader::new(stdout).lines() }
    }

    #[track_caller]
    fn next_line(&mut self) -> String {
        self.lines.next().expect("another line should come").expect("the command writes UTF-8")
    }

    #[track_caller]
    fn wait_for_success(&mut self) {
        let status = wait_until("the command ends", || self.child.try_wait().expect("it is our child"));
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields of an event that `fanfare publish` makes.
fn check_event(event: &Received, sequence: u64) {
    let payload: Value = serde_json::from_str(&event.data).expect("a JSON object");
    let mut names: Vec<&String> = payload.as_object().expect("a JSON object").keys().collect();
    names.sort();
    assert_eq!(names, ["event_id", "event_type", "published_at_ms", "sequence", "source"]);
    assert_eq!((&payload["event_type"], &payload["source"]), (&"SERVER_DOWN".into(), &"server-a".into()));
    assert_eq!(payload["sequence"], sequence);
}

const EVENT: [&str; 6] = ["--type", "SERVER_DOWN", "--source", "server-a", "--count", "3"];

#[test]
fn publish_over_http() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=events.critical&topic=orders.eu");
    let said = stdout_of(&run(&[&["publish", "--url", hub.url(0)], &EVENT[..]].concat()));
    assert!(said.starts_with("published 3 events to events.critical"), "{said}");
    (1..=3).for_each(|sequence| check_event(&stream.next(), sequence));
    let given =
        ["publish", "--url", hub.url(0), "--topic", "orders.eu", "--type", "created", "--data", "{\"order\":17}"];
    stdout_of(&run(&given));
    let event = stream.next();
    assert_eq!((event.kind.as_str(), event.data.as_str()), ("created", "{\"order\":17}"));
}

#[test]
fn publish_straight_to_redis() {
    let server = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &server.url()], &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=alarms");
    let target = ["publish", "--redis", &server.url(), "--channel", "alarms", "--rate", "100"];
    let said = stdout_of(&run(&[&target[..], &EVENT[..]].concat()));
    assert!(said.starts_with("published 3 events to channel alarms"), "{said}");
    (1..=3).for_each(|sequence| check_event(&stream.next(), sequence));
}

#[test]
fn publish_at_the_master_that_sentinels_name() {
    let mut group = SentinelGroup::start();
    let publish = |url: &str| run(&["publish", "--redis", url, "--channel", "alarms", "--count", "2"]);
    let mut messages = group.master().connect();
    let mut listener = messages.as_pubsub();
    listener.subscribe("alarms").expect("the master takes it");
    listener.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    let said = stdout_of(&publish(&group.url()));
    let port = group.master_port().expect("the sentinel knows");
    assert!(said.contains(&format!(":{port} (subscribed: ")), "{said}");
    for sequence in 1..=2 {
        let payload: String = listener.get_message().expect("in time").get_payload().expect("a text");
        assert_eq!(serde_json::from_str::<Value>(&payload).expect("JSON")["sequence"], sequence);
    }
    // If one sentinel is away, the next one is asked. A name that none of them knows is an error.
    let url = group.url();
    stdout_of(&publish(&url.replacen("//", "//127.0.0.1:1,", 1)));
    let unknown = publish(&url.replace("/fanfare", "/other"));
    let complaint = String::from_utf8_lossy(&unknown.stderr);
    assert!(complaint.contains("it watches no `other`") && unknown.status.code() == Some(1), "{complaint}");
}

#[test]
fn publish_over_tls() {
    let redis = TlsRedis::start(&[]);
    let publish = |authority: &str| {
        let mut command = fanfare(&["publish", "--redis", &redis.url(""), "--data", "safely"]);
        command.env("SSL_CERT_FILE", authority).output().expect("it was just built")
    };
    let said = stdout_of(&publish(&redis.certificate()));
    assert!(said.starts_with("published 1 event to channel events.critical at "), "{said}");
    let refused = publish(&redis.other_certificate());
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(complaint.contains("certificate") && complaint.contains("SSL_CERT_FILE"), "{complaint}");
}

#[test]
fn publish_through_a_unix_socket() {
    let folder = Folder::new();
    let listen = format!("unix:{}", folder.path("hub.sock"));
    let hub = Hub::start_with(&["--listen", &listen], &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=events.critical");
    stdout_of(&run(&["publish", "--url", hub.url(1), "--data", "by socket"]));
    assert_eq!(stream.next_data(), "by socket");
}

#[test]
fn an_interrupted_publisher_says_how_far_it_came() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=events.critical");
    let arguments = ["publish", "--url", hub.url(0), "--count", "1000000", "--rate", "100"];
    let publisher = fanfare(&arguments).stdout(Stdio::piped()).spawn().expect("it was just built");
    (0..3).for_each(|_| drop(stream.next()));
    send_signal("INT", publisher.id());
    let said = stdout_of(&publisher.wait_with_output().expect("it is our child"));
    let count: u64 = said.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((3..1000).contains(&count), "{said}");
    assert_eq!(hub.stats()["events_received"], count, "{said}");
}

#[test]
fn publish_says_why_it_fails() {
    let nobody = failure(&["publish", "--url", "http://127.0.0.1:1"], 1);
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    let unreachable = failure(&["publish", "--redis", "redis://user:secret@127.0.0.1:1"], 1);
    assert!(unreachable.contains("127.0.0.1:1") && !unreachable.contains("secret"), "{unreachable}");
    let unnamed = failure(&["publish", "--redis", "redis+sentinel://:secret@127.0.0.1:1"], 1);
    assert!(unnamed.contains("the name of the service") && !unnamed.contains("secret"), "{unnamed}");
    let unreachable = failure(&["publish", "--redis", "redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:2/main"], 1);
    assert!(unreachable.contains("no sentinel leads to the master of `main`. 127.0.0.1:1: "), "{unreachable}");
    assert!(unreachable.contains("127.0.0.1:2: ") && !unreachable.contains("secret"), "{unreachable}");
    failure(&["publish", "--topic", "a b"], 2);
    failure(&["publish", "--count", "0"], 2);
}

#[test]
fn subscribe_prints_events() {
    let hub = Hub::start();
    for transport in ["sse", "ws"] {
        let arguments = ["subscribe", hub.url(0), "--topic", "t", "--transport", transport, "--count", "2"];
        let mut subscriber = Running::start(&arguments);
        hub.wait_for_listeners("t", 1);
        hub.publish("t", "one");
        hub.publish("t", "two");
        assert_eq!([subscriber.next_line(), subscriber.next_line()], ["one", "two"], "{transport}");
        subscriber.wait_for_success();
        hub.wait_for_listeners("t", 0);
    }
}

#[test]
fn subscribe_begins_where_its_flags_say() {
    let hub = Hub::start();
    let ids = ["1", "2", "3"].map(|payload| hub.publish("t", payload));
    let arguments = ["subscribe", hub.url(0), "--topic", "t", "--since", &ids[0], "--count", "2", "--with-id"];
    let said = stdout_of(&run(&arguments));
    assert_eq!(said, format!("{}\t\t2\n{}\t\t3\n", ids[1], ids[2]));
}

#[test]
fn subscribe_fails_when_the_hub_ends() {
    let hub = Hub::start();
    for transport in ["sse", "ws"] {
        let nobody = failure(&["subscribe", "http://127.0.0.1:1", "--topic", "t", "--transport", transport], 1);
        assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    }
    let arguments = ["subscribe", hub.url(0), "--topic", "t"];
    let subscriber = fanfare(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let subscriber = subscriber.expect("it was just built");
    hub.wait_for_listeners("t", 1);
    hub.publish("t", "before");
    wait_until("it is delivered", || (hub.stats()["deliveries"] == 1).then_some(()));
    assert!(hub.terminate().success());
    let output = subscriber.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b"before\n"[..]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended"), "{output:?}");
}

#[test]
fn subscribe_reports_latency_at_the_end() {
    let hub = Hub::start();
    let arguments = ["subscribe", hub.url(0), "--topic", "events.critical", "--report", "60"];
    let mut subscriber = Running::start(&arguments);
    hub.wait_for_listeners("events.critical", 1);
    stdout_of(&run(&[&["publish", "--url", hub.url(0)], &EVENT[..]].concat()));
    wait_until("all are delivered", || (hub.stats()["deliveries"] == 3).then_some(()));
    send_signal("INT", subscriber.child.id());
    let said: Vec<String> = subscriber.lines.by_ref().map_while(Result::ok).collect();
    let said = said.join("\n");
    assert!(said.contains("p99") && said.contains('3'), "{said}");
    subscriber.wait_for_success();
}

#[test]
fn the_default_configuration_is_valid_and_complete() {
    let folder = Folder::new();
    let (file, text) = (folder.path("fanfare.toml"), stdout_of(&run(&["config", "default"])));
    std::fs::write(&file, &text).expect("the folder is ours");
    assert!(stdout_of(&run(&["config", "check", "--config", &file])).contains("all is well"));
    let shown = stdout_of(&run(&["config", "show"]));
    assert_eq!(stdout_of(&run(&["config", "show", "--config", &file])), shown, "each default is what it says");
}

#[test]
fn settings_are_refused_with_the_near_one() {
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    std::fs::write(&file, "[server]\nreactor = 2\n").expect("the folder is ours");
    let refused = failure(&["config", "check", "--config", &file], 1);
    assert!(refused.contains("server.reactor") && refused.contains("reactors"), "{refused}");
    let refused = failure(&["serve", "--config", &file], 1);
    assert!(refused.contains("reactors"), "{refused}");
    let mut command = fanfare(&["config", "show"]);
    let output = command.env("FANFARE_SSE__HEARTBEATS", "1s").output().expect("it was just built");
    let refused = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && refused.to_lowercase().contains("heartbeat"), "{refused}");
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    std::fs::write(&file, "[server]\nreactors = 1\nmax_connections = 11\n[sse]\nheartbeat = \"7s\"\n").expect("ours");
    let hub = Hub::start_with(&["--config", &file, "--reactors", "3"], &[("server.reactors", "2")]);
    assert_eq!(hub.get("/health").json()["reactors"], 3);
    let mut command = fanfare(&["config", "show", "--config", &file]);
    let shown = stdout_of(&command.env("FANFARE_SERVER__REACTORS", "2").output().expect("it was just built"));
    for line in ["reactors = 2", "max_connections = 11", "heartbeat = \"7s\""] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test]
fn a_password_is_not_shown() {
    let mut command = fanfare(&["config", "show"]);
    let url = "redis://hub:geheim@127.0.0.1:6379";
    let shown = stdout_of(&command.env("FANFARE_REDIS__URL", url).output().expect("it was just built"));
    assert!(shown.contains("hub:***@127.0.0.1:6379") && !shown.contains("geheim"), "{shown}");
}

#[test]
fn help_and_version() {
    assert!(stdout_of(&run(&["--version"])).starts_with("fanfare "));
    for command in ["serve", "publish", "subscribe", "bench", "config"] {
        assert!(stdout_of(&run(&["--help"])).contains(&format!("\n  {command} ")), "{command}");
        assert!(stdout_of(&run(&[command, "--help"])).contains("Usage: fanfare"), "{command}");
    }
    failure(&["dance"], 2);
}

#[test]
fn an_address_in_use_is_named() {
    let hub = Hub::start();
    let refused = failure(&["serve", "--listen", hub.address()], 1);
    assert!(refused.contains(hub.address()) && refused.contains("in use"), "{refused}");
}

/// The error of `fanfare serve` with one more variable in its environment, with which it must not start.
#[track_caller]
fn refused_start(flags: &[&str], variable: (&str, &str)) -> String {
    let mut command = fanfare(&["serve", "--listen", "127.0.0.1:0"]);
    command.args(flags).env(variable.0, variable.1);
    Hub::refusal(command)
}

#[test]
fn a_hub_does_not_start_on_settings_that_would_do_nothing() {
    let nothing = ("UNRELATED", "");
    let said = refused_start(&[], ("FANFARE_AUTH_MODE", "jwt"));
    let expected = "FANFARE_AUTH_MODE: it sets nothing: two underscores stand for the dot of `auth.mode`, as in FANFARE_AUTH__MODE";
    assert!(said.contains(expected), "{said}");
    let said = refused_start(&["--log-level", "inof"], nothing);
    assert!(said.contains("--log-level: `inof` is no level; did you mean `info`?"), "{said}");
    // No machine has that many cores.
    let said = refused_start(&["--pin=4093-4095"], ("FANFARE_AUTH_MOED", "geheim"));
    assert!(said.contains("server.pin (--pin) lists core 4093 and 2 more; this process may run on "), "{said}");
    assert!(said.contains("FANFARE_AUTH_MOED sets nothing; did you mean FANFARE_AUTH__MODE?"), "{said}");
    assert!(!said.contains("geheim"), "{said}");
}
