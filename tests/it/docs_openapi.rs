//! `docs/openapi.yaml`: it names the native routes and no others, and the hub answers as it says.
//!
//! Schemathesis makes requests from the document, right and wrong ones, and holds the answers against it. Its choices are the same
//! in each run. What it does not send: streams, which have no end.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    Folder, guarded::Guarded, http::HttpConnection, hub::Hub, packages::schemathesis, stdout_of,
    websocket::WebSocketClient,
};

/// Paths of a protocol of its own, which is no HTTP API.
const NOT_DESCRIBED: [&str; 2] = ["/socket.io", "/socket.io/"];

/// Operations that open streams.
const STREAMS: [&str; 2] = ["listen", "openWebSocket"];

/// The operation whose body may be any text, and that passes over what its query has besides: hardly anything can be wrong with it.
const LENIENT: &str = "publish";

/// Prints a YAML file as JSON.
const READ_YAML: &str = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.yaml");
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// Methods and paths of the document, but for HEAD: each GET has one.
fn described() -> BTreeSet<(String, String)> {
    let python = schemathesis().join("bin/python");
    let output = Command::new(python).args(["-c", READ_YAML, &document()]).output().expect("it was installed");
    let document: Value = serde_json::from_str(&stdout_of(&output)).expect("JSON");
    let paths = document["paths"].as_object().expect("a document has paths");
    let methods = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path has methods");
        let methods = item.keys().filter(|name| ["get", "post", "put", "patch", "delete"].contains(&name.as_str()));
        methods.map(|method| (method.to_uppercase(), path.clone()))
    });
    methods.collect()
}

/// Methods and paths that a hub without compatibility APIs says it has.
fn served() -> BTreeSet<(String, String)> {
    let index = Hub::start_with(&[], &[("compat", "")]).get("/").text();
    let routes = index.lines().skip_while(|line| !line.is_empty()).skip(1).flat_map(|line| {
        let (methods, path) = line.split_once(char::is_whitespace).expect("methods and a path");
        methods.split(',').map(|method| (method.to_owned(), path.trim().to_owned())).collect::<Vec<_>>()
    });
    routes.filter(|(_, path)| !NOT_DESCRIBED.contains(&path.as_str())).collect()
}

#[test]
fn each_native_route_is_described_and_nothing_else() {
    let (described, served) = (described(), served());
    assert!(served.contains(&("POST".to_owned(), "/publish/{topic}".to_owned())), "{served:?}");
    let missing: Vec<_> = served.difference(&described).collect();
    let unknown: Vec<_> = described.difference(&served).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in docs/openapi.yaml: {missing:?}; no routes: {unknown:?}");
}

/// What Schemathesis does not send.
#[test]
fn streams_open_as_the_document_says() {
    let hub = Hub::start();
    let mut stream = HttpConnection::new(hub.connect());
    stream.send(b"GET /sse?topic=t HTTP/1.1\r\nHost: hub\r\n\r\n");
    let head = stream.receive_head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    drop(WebSocketClient::open(&hub, "/ws?topic=t"));
    let refused = hub.get("/ws?topic=t");
    assert_eq!((refused.status, refused.error_code().as_str()), (426, "BadHandshake"));
    assert_eq!((hub.get("/ws?topic=t&topic=a..b").status, hub.get("/sse?topic=a..b").status), (426, 400));
}

#[test]
fn the_hub_answers_as_the_document_says() {
    let guarded = Guarded::start("1h", &[], &[]);
    let without = [STREAMS[0], STREAMS[1], LENIENT].map(|name| format!("--exclude-operation-id={name}"));
    run_schemathesis(&guarded, &without);
    let lenient = [format!("--include-operation-id={LENIENT}"), "--exclude-checks=negative_data_rejection".to_owned()];
    run_schemathesis(&guarded, &lenient);
}

#[track_caller]
fn run_schemathesis(guarded: &Guarded, arguments: &[String]) {
    let mut command = Command::new(schemathesis().join("bin/schemathesis"));
    command.args(["run", &document(), "--url", guarded.hub.url(0)]);
    command.args(["--header", &format!("Authorization: Bearer {}", guarded.admin_token())]);
    command.args(["--max-examples=5", "--generation-deterministic", "--phases=coverage,fuzzing", "--no-color"]);
    command.args(["--request-timeout=10", "--suppress-health-check=all"]).args(arguments);
    // It keeps what it has learned about an API in the folder in which it is started.
    let folder = Folder::new();
    let output = command.current_dir(&folder.0).output().expect("it was installed");
    assert!(stdout_of(&output).contains(" passed"), "it tried something");
}
