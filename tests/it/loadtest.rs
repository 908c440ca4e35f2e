//! The scripts of a load test, run as after a fresh checkout.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{Folder, hub::Hub, redis::RedisServer, stdout_of, wait_until};

/// Runs `scripts/{name}` with logs in `folder` and further variables of the environment.
pub(crate) fn run_script(name: &str, folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let mut command = Command::new(script);
    for variable in ["REDIS_URL", "REDIS_HOST", "REDIS_PORT", "CLIENTS", "EVENTS", "RATE"] {
        command.env_remove(variable);
    }
    command.env("FANFARE", env!("CARGO_BIN_EXE_fanfare")).env("LOG_DIR", folder.path("logs"));
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("cannot run {name}: {error}"))
}

/// Checks that everything has arrived, and that no process is left.
#[track_caller]
fn check_report(hub: &Hub, folder: &Folder, output: &Output, target: &str) {
    let said = stdout_of(output);
    let (before, report) = said.split_once("Clients: ").expect("there is a report");
    assert!(before.contains(target), "{said}");
    let counts =
        "8\nEvents: 20\nExpected deliveries: 160\nReceived deliveries: 160\nDropped deliveries: 0\nLatency (ms):\n";
    let latencies = report.strip_prefix(counts).unwrap_or_else(|| panic!("{said}"));
    let rows: Vec<(&str, f64)> = latencies
        .lines()
        .map(|line| line.split_once(": ").expect("a figure"))
        .map(|(name, figure)| (name, figure.parse().expect("a number of ms")))
        .collect();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["p50", "p95", "p99", "max"]);
    assert!(rows.is_sorted_by(|one, other| one.1 <= other.1), "{rows:?}");
    hub.wait_for_listeners("events.critical", 0);
    assert!(!Path::new(&folder.path("logs/clients.pid")).exists(), "the clients have ended");
}

#[test]
fn a_load_test_through_the_hub() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let output = run_script("run_loadtest.sh", &folder, &["8", "20"], &[("HUB_URL", hub.url(0))]);
    check_report(&hub, &folder, &output, "published 20 events to events.critical at ");
}

#[test]
fn a_load_test_through_redis() {
    let (redis, folder) = (RedisServer::start(), Folder::new());
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let port = redis.port().to_string();
    let by_url = [("HUB_URL", hub.url(0)), ("REDIS_URL", &redis.url()), ("CLIENTS", "8"), ("EVENTS", "20")];
    let by_host = [("HUB_URL", hub.url(0)), ("REDIS_HOST", redis.host()), ("REDIS_PORT", &port), ("CLIENTS", "8")];
    let output = run_script("run_loadtest.sh", &folder, &[], &by_url);
    check_report(&hub, &folder, &output, "published 20 events to channel events.critical at ");
    // The logs of the run before are not counted again.
    let output = run_script("run_loadtest.sh", &folder, &["8", "20"], &by_host);
    check_report(&hub, &folder, &output, "published 20 events to channel events.critical at ");
}

#[test]
fn clients_are_started_and_ended() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let hub_url = [("HUB_URL", hub.url(0))];
    let said = stdout_of(&run_script("run_clients.sh", &folder, &["3"], &hub_url));
    assert!(said.starts_with("3 clients are connected to "), "{said}");
    // The clients go on when the script has ended, and are connected by then.
    assert_eq!(hub.listeners("events.critical"), Some(3));
    let again = run_script("run_clients.sh", &folder, &["3"], &hub_url);
    let error = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && error.contains("clients are running already"), "{error}");
    hub.publish("events.critical", r#"{"event_id":"one"}"#);
    for client in 1..=3 {
        let log = folder.path(&format!("logs/client-000{client}.log"));
        let read = || std::fs::read_to_string(&log).ok().filter(|text| text.contains(r#""event_id":"one""#));
        wait_until("a client logs the event", read);
    }
    assert_eq!(stdout_of(&run_script("stop_clients.sh", &folder, &[], &[])), "the clients have ended\n");
    hub.wait_for_listeners("events.critical", 0);
}

#[test]
fn a_missing_hub_is_reported() {
    let folder = Folder::new();
    let variables = [("HUB_URL", "http://127.0.0.1:1"), ("CONNECT_TIMEOUT", "1")];
    let output = run_script("run_loadtest.sh", &folder, &["2", "2"], &variables);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(error.contains("http://127.0.0.1:1 within 1 s") && error.contains("Is the hub running there?"), "{error}");
    assert!(!Path::new(&folder.path("logs/clients.pid")).exists(), "nobody is left");
}

#[test]
fn mistakes_are_reported() {
    let folder = Folder::new();
    let check = |name: &str, arguments: &[&str], variables: &[(&str, &str)], expected: &str| {
        let output = run_script(name, &folder, arguments, variables);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(expected), "{name}: {error}");
    };
    check("run_clients.sh", &["many"], &[], "the number of clients must be a number from 1");
    check("run_loadtest.sh", &["2", "0"], &[], "the number of events must be a number from 1");
    check("run_loadtest.sh", &[], &[("FANFARE", "/no/such/program")], "FANFARE=/no/such/program is no program");
    check("stop_clients.sh", &[], &[], "no clients were started here");
}
