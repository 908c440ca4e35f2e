//! The Dockerfile, the compose file and the job of `scripts/deploy`, without containers: the tests start the same programs with
//! the same arguments and environment, but for addresses.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    loadtest::run_script,
    support::{Folder, OnDrop, hub::Hub, packages::SYSTEM_PYTHON, redis::RedisServer, run_program, stdout_of},
};

/// Prints a YAML file as JSON. Fails on a key that comes twice, which the parser itself lets pass, and on a second document.
const READ_YAML: &str = r#"
import json, sys, yaml

class Strict(yaml.SafeLoader):
    pass

def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key comes twice: {keys}"
    return dict(loader.construct_pairs(node, deep=True))

Strict.add_constructor("tag:yaml.org,2002:map", mapping)
print(json.dumps(yaml.load(open(sys.argv[1]), Strict)))
"#;

fn deploy_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy").join(name)
}

#[track_caller]
fn read_yaml(name: &str) -> Value {
    let path = deploy_file(name);
    let arguments = ["-c", READ_YAML, path.to_str().expect("UTF-8")];
    let text = stdout_of(&run_program(SYSTEM_PYTHON, "python3-yaml", &arguments));
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("a list, not {list}"));
    list.iter().map(|word| word.as_str().unwrap_or_else(|| panic!("a text, not {word}")).to_owned()).collect()
}

/// The names of a mapping, in the order of the alphabet.
fn names(mapping: &Value) -> Vec<&str> {
    mapping.as_object().unwrap_or_else(|| panic!("a mapping, not {mapping}")).keys().map(String::as_str).collect()
}

/// The entry point of a stage of the Dockerfile, by the stage's name; of the last one for `None`.
#[track_caller]
fn entry_point(target: Option<&str>) -> Vec<String> {
    let text = fs::read_to_string(deploy_file("Dockerfile")).expect("it is there");
    let mut stages: Vec<(&str, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some((_, name)) = line.strip_prefix("FROM ").and_then(|line| line.split_once(" AS ")) {
            stages.push((name, Vec::new()));
        }
        if let Some(list) = line.strip_prefix("ENTRYPOINT ") {
            let stage = stages.last_mut().expect("an instruction stands in a stage");
            stage.1 = words(&serde_json::from_str(list).expect("the form that needs no shell"));
        }
    }
    let last = stages.last().map(|stage| stage.0);
    let found = stages.into_iter().find(|stage| Some(stage.0) == target.or(last));
    found.unwrap_or_else(|| panic!("there is a stage {target:?}")).1
}

/// What a container of this stage runs with `arguments`, with these addresses instead of its network's.
fn container(target: Option<&str>, arguments: &[String], addresses: &HashMap<&str, &str>) -> Command {
    let mut line: Vec<String> = entry_point(target).into_iter().chain(arguments.iter().cloned()).collect();
    assert_eq!(line[0], "fanfare", "the only program of the image");
    for word in &mut line {
        for (there, here) in addresses {
            *word = word.replace(there, here);
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(&line[1..]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Redis and the hub as the compose file has them.
struct Composed {
    redis: RedisServer,
    hub: Hub,
}

impl Composed {
    fn up(file: &Value) -> Self {
        let (redis, hub) = (&file["services"]["redis"], &file["services"]["hub"]);
        let command = words(&redis["command"]);
        assert_eq!(command[0], "redis-server");
        let options: Vec<&str> = command[1..].iter().map(String::as_str).collect();
        let redis = RedisServer::start_with(&options);
        let url = redis.url();
        let addresses = HashMap::from([("0.0.0.0:8080", "127.0.0.1:0"), ("redis://redis:6379", &*url)]);
        let mut command = container(hub["build"]["target"].as_str(), &words(&hub["command"]), &addresses);
        let environment = hub["environment"].as_object().expect("a mapping");
        command.envs(environment.iter().map(|(name, value)| (name, value.as_str().expect("quoted, so a text"))));
        Self { redis, hub: Hub::spawn_as_it_is(command) }
    }
}

#[test]
fn the_compose_file_names_what_there_is() {
    const KNOWN: [&str; 9] = [
        "build",
        "command",
        "depends_on",
        "environment",
        "healthcheck",
        "image",
        "ports",
        "restart",
        "stop_grace_period",
    ];
    let file = read_yaml("compose.yaml");
    assert_eq!(names(&file), ["name", "services"]);
    let services = &file["services"];
    assert_eq!(names(services), ["hub", "redis"]);
    for (service, port) in [("hub", 8080), ("redis", 6379)] {
        let service = &services[service];
        assert!(names(service).iter().all(|name| KNOWN.contains(name)), "{service}");
        // Without tokens the hub must not be reachable from other machines.
        assert_eq!(words(&service["ports"]), [format!("127.0.0.1:{port}:{port}")]);
    }
    let build = &services["hub"]["build"];
    let part = |name: &str| build[name].as_str().unwrap_or_else(|| panic!("{name} of {build}"));
    let dockerfile = deploy_file(part("context")).join(part("dockerfile"));
    assert!(dockerfile.canonicalize().is_ok_and(|path| path == deploy_file("Dockerfile")), "{dockerfile:?}");
    assert_eq!(entry_point(Some(part("target"))), entry_point(None), "the hub is what is built by default");
    assert_eq!(services["hub"]["depends_on"]["redis"]["condition"], "service_healthy");
}

#[test]
fn the_documented_commands_work_beside_the_compose_file() {
    let file = read_yaml("compose.yaml");
    let Composed { redis, hub } = Composed::up(&file);
    let port = redis.port().to_string();
    let health = words(&file["services"]["redis"]["healthcheck"]["test"]);
    assert_eq!(health[..2], ["CMD", "redis-cli"]);
    let asked = ["-h", redis.host(), "-p", &port, &health[2]];
    assert_eq!(stdout_of(&run_program("redis-cli", "redis-tools", &asked)), "PONG\n");
    let folder = Folder::new();
    let places = [("HUB_URL", hub.url(0)), ("REDIS_HOST", redis.host()), ("REDIS_PORT", &*port)];
    let script = |name: &str, arguments: &[&str]| stdout_of(&run_script(name, &folder, arguments, &places));
    // Also if the test fails: otherwise they would run for ever.
    let _clients = OnDrop(|| drop(run_script("stop_clients.sh", &folder, &[], &[])));
    let said = script("run_clients.sh", &["50"]);
    assert!(said.starts_with("50 clients are connected to "), "{said}");
    let event = ["publish", "--type", "SERVER_DOWN", "--source", "server-a", "--count", "10"];
    let url = redis.url();
    let fanfare = |arguments: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(arguments).stdin(Stdio::null()).output().expect("it was just built")
    };
    let said = stdout_of(&fanfare(&[&event[..], &["--redis", &url]].concat()));
    assert!(said.starts_with("published 10 events to channel events.critical at ") && said.contains("(subscribed: 1)"));
    script("stop_clients.sh", &[]);
    let said = stdout_of(&fanfare(&["report", &folder.path("logs"), "--clients", "50", "--events", "10"]));
    assert!(said.contains("Received deliveries: 500\nDropped deliveries: 0\n"), "{said}");
    let said = script("run_loadtest.sh", &[]);
    let expected =
        "Clients: 50\nEvents: 50\nExpected deliveries: 2500\nReceived deliveries: 2500\nDropped deliveries: 0\n";
    assert!(said.contains(expected), "{said}");
    assert!(hub.terminate().success(), "within the time that it is given");
}

#[test]
fn a_load_runs_in_a_cluster_as_documented() {
    let redis = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let address = format!("{}:{}", redis.host(), redis.port());
    let services = [("redis.redis-system:6379", &*address), ("http://sse-adapter.sse-system:80", hub.url(0))].into();
    let check = |target: Option<&str>, arguments: &[String]| {
        let output = container(target, arguments, &services).output().expect("it was just built");
        let said = stdout_of(&output);
        let row =
            |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{said}"));
        assert_eq!(row("Tokens Published:").trim(), "5000 of 5000", "{said}");
        assert_eq!([row("Tokens Received:").trim(), row("Tokens Lost:").trim()], ["5000", "0"], "{said}");
    };
    // kubectl run loadtest … --image=… -- ARGUMENTS; at ten times the documented speed.
    let arguments = "-mode both -redis redis.redis-system:6379 -sse http://sse-adapter.sse-system:80 -conversations 50 \
                     -tokens 100 -duration 5m -delay 5";
    check(Some("load-generator"), &arguments.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let job = read_yaml("loadtest-job.yaml");
    let load = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(load["image"], "fanfare:latest");
    check(None, &[words(&load["args"]), vec!["--delay=5".to_owned()]].concat());
}
