//! Log lines about single requests and connections.

use std::{
    fs::{self, File},
    process::Command,
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;

use crate::support::{
    Folder,
    guarded::Guarded,
    http::{HttpConnection, exchange},
    hub::Hub,
    socket_io::{Carried, SocketClient},
    sse::SseClient,
    wait_until,
};

/// A hub whose log is a file, as JSON.
fn start(folder: &Folder, settings: &[(&str, &str)]) -> Hub {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let log = File::create(folder.path("log")).expect("it is ours");
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]).stderr(log);
    Hub::spawn(command, &[&[("log.level", "info")], settings].concat())
}

/// The lines of `target` so far.
fn lines(folder: &Folder, target: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.path("log")).expect("the hub writes UTF-8");
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines = whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    lines.filter(|line: &Value| line["target"] == target).collect()
}

/// Waits for the line of `target` that `is_it`.
#[track_caller]
fn wait_for(folder: &Folder, target: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, || lines(folder, target).into_iter().find(|line| is_it(line)))
}

#[test]
fn requests_are_logged_if_configured() {
    let folder = Folder::new();
    let hub = start(&folder, &[("log.access", "true")]);
    assert_eq!(hub.post("/publish/t?type=a&token=geheim", "x").status, 200);
    // A path that would make a line of its own in the log.
    assert_eq!(hub.get("/a%0A%7B%22level%22:%22ERROR%22%7D").status, 404);
    let mut stream = SseClient::open(&hub, "/sse?topic=t&token=geheim");
    assert_eq!(exchange(hub.connect(), b"nonsense\r\n\r\n").split(' ').nth(1), Some("400"));
    let line = wait_for(&folder, "fanfare::access", "the publication", |line| line["route"] == "publish");
    let bytes = line["bytes"].as_u64().expect("a count");
    let seconds = line["seconds"].as_f64().expect("a time");
    assert!(30 < bytes && bytes < 200 && (0.0..30.0).contains(&seconds), "{line}");
    let fields = [("method", "POST"), ("path", "\"/publish/t\""), ("peer", "127.0.0.1"), ("level", "INFO")];
    fields.iter().for_each(|(name, value)| assert_eq!(line[*name], *value, "{line}"));
    assert_eq!(line["status"], 200);
    let line = wait_for(&folder, "fanfare::access", "the path", |line| line["status"] == 404);
    assert_eq!(line["path"], "\"/a\\n{\\\"level\\\":\\\"ERROR\\\"}\"");
    wait_for(&folder, "fanfare::access", "the stream", |line| line["route"] == "sse" && line["status"] == 200);
    let line = wait_for(&folder, "fanfare::access", "the nonsense", |line| line["status"] == 400);
    assert_eq!((&line["method"], &line["path"], &line["route"]), (&"-".into(), &"\"-\"".into(), &"other".into()));
    assert_eq!(lines(&folder, "fanfare::access").len(), 4, "one line for each request");
    assert_eq!(lines(&folder, "fanfare::connections").len(), 0);
    let text = fs::read_to_string(folder.path("log")).expect("the hub writes UTF-8");
    assert!(!text.contains("geheim"), "{text}");
    hub.publish("t", "y");
    stream.next();
}

#[test]
fn connections_are_logged_if_configured() {
    let folder = Folder::new();
    let hub = start(&folder, &[("log.connections", "true")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=a&topic=b");
    hub.publish("a", "x".repeat(5000));
    stream.next();
    drop(stream);
    let line = wait_for(&folder, "fanfare::connections", "the stream", |line| line["transport"] == "sse");
    assert_eq!((&line["topics"], &line["topic_count"]), (&"a,b".into(), &2.into()), "{line}");
    assert_eq!((&line["reason"], &line["peer"]), (&"peer_gone".into(), &"127.0.0.1".into()), "{line}");
    let bytes = line["bytes"].as_u64().expect("a count");
    let seconds = line["seconds"].as_f64().expect("a time");
    assert!(5000 < bytes && bytes < 6000 && 0.0 < seconds && seconds < 30.0, "{line}");
    assert!(line.get("identity").is_none(), "{line}");
    // That of the publication.
    let line = wait_for(&folder, "fanfare::connections", "the request", |line| line["transport"] == "http");
    assert_eq!(line["topic_count"], 0, "{line}");
    assert_eq!(lines(&folder, "fanfare::access").len(), 0);
}

#[test]
fn a_connection_is_logged_with_whose_it_is() {
    let folder = Folder::new();
    let log = folder.path("log");
    // The guarded hub writes to the log of the test, so this test starts a hub of its own.
    let secret = "of thirty-two bytes or more, as HS256 demands";
    let settings = [("auth.mode", "jwt"), ("auth.secret", secret), ("log.connections", "true")];
    let hub = start(&folder, &settings);
    let mut mint = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    mint.args(["token", "--sub", "ann", "--subscribe", "wells.**", "--ttl", "1h"]);
    mint.env("FANFARE_AUTH__MODE", "jwt").env("FANFARE_AUTH__SECRET", secret);
    let token = crate::support::stdout_of(&mint.output().expect("it was just built")).trim().to_owned();
    let mut client = Carried::open(&hub);
    client.send(&format!("40{{\"token\":\"{token}\"}}"));
    assert!(client.next_packet().starts_with("40{\"sid\":"));
    assert!(client.next_packet().starts_with("42[\"connected\""));
    client.send("42[\"subscribe\",{\"well_id\":\"W1\"}]");
    assert!(client.next_packet().starts_with("42[\"subscribed\""));
    drop(client);
    let line = wait_for(&folder, "fanfare::connections", "the session", |line| line["transport"] == "socketio");
    assert_eq!((&line["identity"], &line["topics"]), (&"\"ann\"".into(), &"wells.W1".into()), "{line}");
    let text = fs::read_to_string(log).expect("the hub writes UTF-8");
    assert!(!text.contains(&token), "{text}");
}

#[test]
fn figures_are_for_operators_too() {
    let guarded = Guarded::start("1h", &["--admin-listen", "127.0.0.1:0"], &[("server.max_connections", "50")]);
    let ask = |index: usize, target: &str| {
        HttpConnection::new(guarded.hub.connect_at(index)).request(Method::Get, target, &[], b"")
    };
    assert_eq!((ask(0, "/stats").status, ask(1, "/stats").status), (401, 200));
    assert_eq!(ask(1, "/stats").json()["connected_clients"], 0);
    let metrics = ask(1, "/metrics").text();
    for line in ["fanfare_connections_max{listener=\"server\"} 50", "fanfare_connections_max{listener=\"admin\"} 64"] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    let health = ask(1, "/health").json();
    let (version, commit) = (health["version"].as_str().expect("a text"), health["commit"].as_str().expect("a text"));
    let build = format!("fanfare_build_info{{version=\"{version}\",commit=\"{commit}\"}} 1");
    assert!(metrics.lines().any(|line| line == build), "{build}: {metrics}");
    for flag in ["version", "--version"] {
        let said = Command::new(env!("CARGO_BIN_EXE_fanfare")).arg(flag).output().expect("it was just built");
        assert_eq!(crate::support::stdout_of(&said), format!("fanfare {version} ({commit})\n"));
    }
}
