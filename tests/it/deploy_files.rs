//! The Dockerfile, the compose files and the job of `scripts/deploy`, without containers: the tests start the same programs with
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
    support::{
        Folder, OnDrop,
        hub::Hub,
        nats::{NatsCluster, NatsServer},
        nginx::Nginx,
        packages::SYSTEM_PYTHON,
        redis::{RedisServer, free_port},
        run_program,
        sse::SseClient,
        stdout_of, wait_until,
    },
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
        let hub = start_hub(hub, &addresses);
        Self { redis, hub }
    }
}

/// The hub of a service, with these addresses instead of its network's.
fn start_hub(service: &Value, addresses: &HashMap<&str, &str>) -> Hub {
    let mut command = container(service["build"]["target"].as_str(), &words(&service["command"]), addresses);
    let environment = service["environment"].as_object().into_iter().flatten();
    command.envs(environment.map(|(name, value)| (name, value.as_str().expect("quoted, so a text"))));
    Hub::spawn_as_it_is(command)
}

/// Runs the health check of a service until it succeeds, with these addresses instead of its network's. A check that names no address
/// asks the default one.
fn wait_for_health(service: &Value, addresses: &HashMap<&str, &str>) {
    let mut check = words(&service["healthcheck"]["test"]).split_off(2);
    if check.len() == 1 {
        check.push("http://127.0.0.1:8080".to_owned());
    }
    wait_until("the service is healthy", || {
        let status = container(None, &check, addresses).stdout(Stdio::null()).status();
        status.expect("it was just built").success().then_some(())
    });
}

#[test]
fn the_compose_files_name_what_there_is() {
    check_compose_file("compose.yaml", &["hub", "redis"], &[("hub", 8080), ("redis", 6379)]);
    let chain = ["bridge", "hub", "leaf", "nats", "redis"];
    check_compose_file("compose-nats.yaml", &chain, &[("hub", 8080), ("redis", 6379)]);
    let fleet = ["hub-1", "hub-2", "hub-3", "nats-1", "nats-2", "nats-3", "nginx"];
    check_compose_file("compose-jetstream.yaml", &fleet, &[("nginx", 8080)]);
}

/// By the program that they are for, in the version that Debian has.
#[test]
fn compose_reads_the_compose_files() {
    let folder = fs::read_dir(deploy_file("")).expect("it is there").map(|entry| entry.expect("an entry").file_name());
    let files = folder.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("compose"));
    let files: Vec<String> = files.collect();
    assert!(3 <= files.len(), "{files:?}");
    for name in files {
        let text = fs::read_to_string(deploy_file(&name)).expect("it was listed");
        // This version takes the project's name from its flag only.
        let (names_line, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("name: "));
        assert_eq!(names_line.len(), 1, "{name}");
        let temporary = Folder::new();
        let file = temporary.path("compose.yaml");
        fs::write(&file, rest.join("\n")).expect("the folder is ours");
        let directory = deploy_file("");
        let place = [
            "--project-directory",
            directory.to_str().expect("UTF-8"),
            "-p",
            &names_line[0]["name: ".len()..],
            "-f",
            &file,
        ];
        let asked = |question: &[&str]| {
            stdout_of(&run_program("docker-compose", "docker-compose", &[&place, question].concat()))
        };
        assert_eq!(asked(&["config", "--quiet"]), "", "{name}");
        let said = asked(&["config", "--services"]);
        let mut services: Vec<&str> = said.lines().collect();
        services.sort_unstable();
        assert_eq!(services, names(&read_yaml(&name)["services"]), "{name}");
    }
}

#[test]
fn the_image_is_the_program_alone_under_a_user_without_rights() {
    let text = fs::read_to_string(deploy_file("Dockerfile")).expect("it is there");
    let (_, image) = text.split_once("\nFROM scratch AS program\n").expect("the image begins with nothing");
    let lines = |word: &str| image.lines().filter_map(|line| line.strip_prefix(word)).collect::<Vec<_>>();
    let copied =
        ["/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt", "/image/fanfare /usr/bin/fanfare"];
    assert_eq!(lines("COPY --from=build "), copied);
    assert!(lines("RUN ").is_empty(), "there is no shell");
    assert_eq!((lines("USER "), lines("ENV ")), (vec!["65534:65534"], vec!["PATH=/usr/bin"]));
    let bases = lines("FROM ");
    assert!(!bases.is_empty() && bases.iter().all(|base| base.starts_with("program AS ")), "{bases:?}");
    // The hub's, which is not the load generator's.
    let check = lines("HEALTHCHECK ");
    let (_, command) = check[0].split_once(" CMD ").expect("a command");
    assert_eq!(
        (check.len(), words(&serde_json::from_str(command).expect("the form that needs no shell"))),
        (1, vec!["fanfare".to_owned(), "health".to_owned()])
    );
    let (_, hub) = image.split_once(" AS hub\n").expect("the last stage");
    assert!(hub.contains("HEALTHCHECK "));
    // It asks the address that EXPOSE names.
    let help = stdout_of(
        &Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["health", "--help"]).output().expect("it was just built"),
    );
    assert!(hub.contains("EXPOSE 8080\n") && help.contains("[default: http://127.0.0.1:8080]"), "{help}");
}

/// `published` are the services that other programs of the machine reach, and at which ports.
#[track_caller]
fn check_compose_file(name: &str, expected: &[&str], published: &[(&str, u16)]) {
    const KNOWN: [&str; 10] = [
        "build",
        "command",
        "depends_on",
        "environment",
        "healthcheck",
        "image",
        "ports",
        "restart",
        "stop_grace_period",
        "volumes",
    ];
    let file = read_yaml(name);
    assert!(names(&file).iter().all(|part| ["name", "services", "volumes"].contains(part)), "{name}");
    let services = &file["services"];
    assert_eq!(names(services), expected, "{name}");
    for (service, description) in services.as_object().expect("a mapping") {
        let place = format!("{service} of {name}");
        assert!(names(description).iter().all(|part| KNOWN.contains(part)), "{place}");
        // Without tokens nothing may be reachable from other machines.
        let ports = description.get("ports").map(words).unwrap_or_default();
        let port = published.iter().find(|(published, _)| published == service).map(|(_, port)| *port);
        let inner = if service == "nginx" { Some(80) } else { port };
        let expected = port.map(|port| format!("127.0.0.1:{port}:{}", inner.unwrap_or_default()));
        assert_eq!(ports, Vec::from_iter(expected), "{place}");
        if description["build"].is_object() {
            check_build(&description["build"]);
        }
        check_volumes(description, &file["volumes"], &place);
        check_needs(description, services, &place);
    }
}

#[track_caller]
fn check_build(build: &Value) {
    let part = |name: &str| build[name].as_str().unwrap_or_else(|| panic!("{name} of {build}"));
    let dockerfile = deploy_file(part("context")).join(part("dockerfile"));
    assert!(dockerfile.canonicalize().is_ok_and(|path| path == deploy_file("Dockerfile")), "{dockerfile:?}");
    assert_eq!(entry_point(Some(part("target"))), entry_point(None), "the hub is what is built by default");
}

/// Each volume is a file of this folder, which nobody may write, or one that the compose file names.
#[track_caller]
fn check_volumes(service: &Value, named: &Value, place: &str) {
    for volume in service.get("volumes").map(words).unwrap_or_default() {
        let (from, to) = volume.split_once(':').expect("from where to where");
        match from.strip_prefix("./") {
            Some(name) => assert!(deploy_file(name).is_file() && to.ends_with(":ro"), "{place}: {volume}"),
            None => assert!(names(named).contains(&from), "{place}: {volume}"),
        }
    }
}

/// Whoever waits for another one's health waits for a service that says how it is. Each service of the image does.
#[track_caller]
fn check_needs(service: &Value, services: &Value, place: &str) {
    if service["build"].is_object() {
        assert_eq!(words(&service["healthcheck"]["test"])[..3], ["CMD", "fanfare", "health"], "{place}");
    }
    for (needed, how) in service["depends_on"].as_object().into_iter().flatten() {
        assert_eq!(how["condition"], "service_healthy", "{place}");
        assert!(services[needed]["healthcheck"]["test"].is_array(), "{place} waits for {needed}");
    }
}

/// The lines of a NATS server's configuration, but for those that say where clients and monitors find it.
fn nats_lines(service: &Value, name: &str) -> String {
    let mounted = format!("./{name}:/etc/nats/{name}:ro");
    assert_eq!(words(&service["volumes"]), [mounted]);
    assert_eq!(words(&service["command"]), ["nats-server", "--config", &format!("/etc/nats/{name}")]);
    let text = fs::read_to_string(deploy_file(name)).expect("it is there");
    let (found, rest): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| ["port: 4222", "http: 8222"].contains(line));
    assert_eq!(found.len(), 2, "{text}");
    rest.join("\n")
}

#[test]
fn tokens_go_through_the_whole_chain_of_the_compose_file() {
    let file = read_yaml("compose-nats.yaml");
    let services = &file["services"];
    let options = words(&services["redis"]["command"]);
    let redis = RedisServer::start_with(&options[1..].iter().map(String::as_str).collect::<Vec<&str>>());
    let leaves = free_port();
    let [lines, leaf_lines] =
        [("nats", "nats.conf"), ("leaf", "nats-leaf.conf")].map(|(name, file)| nats_lines(&services[name], file));
    assert!(lines.contains("port: 7422") && leaf_lines.contains("nats://nats:7422"), "{lines}\n{leaf_lines}");
    let own = format!("host: \"127.0.0.1\", port: {leaves}");
    let nats = NatsServer::start_with(&lines.replace("port: 7422", &own));
    let leaf = NatsServer::start_with(&leaf_lines.replace("nats://nats:7422", &format!("nats://127.0.0.1:{leaves}")));
    let (redis_url, nats_url, leaf_url) = (redis.url(), nats.url_as(""), leaf.url_as(""));
    let addresses = HashMap::from([
        ("0.0.0.0:8080", "127.0.0.1:0"),
        ("127.0.0.1:8090", "127.0.0.1:0"),
        ("redis://redis:6379", &*redis_url),
        ("nats://nats:4222", &*nats_url),
        ("nats://leaf:4222", &*leaf_url),
    ]);
    let [hub, bridge] = ["hub", "bridge"].map(|name| start_hub(&services[name], &addresses));
    wait_for_health(&services["hub"], &HashMap::from([("http://127.0.0.1:8080", hub.url(0))]));
    wait_for_health(&services["bridge"], &HashMap::from([("http://127.0.0.1:8090", bridge.url(0))]));
    wait_until("the bridge carries events", || (bridge.metric("fanfare_bridge_active") == 1.0).then_some(()));
    let address = format!("{}:{}", redis.host(), redis.port());
    let line = ["load", "-r", &address, "-s", hub.url(0), "-c", "2", "-t", "10"].map(str::to_owned);
    let said = stdout_of(&container(None, &line, &HashMap::new()).output().expect("it was just built"));
    let row = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let rows = ["Tokens Published:", "Tokens Received:", "Tokens Lost:"].map(row);
    assert_eq!(rows, [Some("20 of 20"), Some("20"), Some("0")], "{said}");
    assert!(hub.terminate().success() && bridge.terminate().success(), "within the time that they are given");
}

/// The command of the service `nginx` as a shell runs it, but for nginx itself: the hubs' addresses.
#[track_caller]
fn upstreams(service: &Value) -> String {
    let command = words(&service["command"]);
    assert_eq!(command[..2], ["sh", "-c"]);
    let script = command[2].split_once(" && exec nginx ").expect("nginx comes last").0;
    let folder = Folder::new();
    let (from, to) = (deploy_file("fanfare-hubs.conf"), folder.path("fanfare-hubs.conf"));
    let script = script.replace("/deploy/fanfare-hubs.conf", from.to_str().expect("UTF-8"));
    let output = run_program("sh", "dash", &["-c", &script.replace("/etc/nginx/fanfare-hubs.conf", &to)]);
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(to).expect("it was just written")
}

#[test]
#[ignore = "it takes long: scripts/check --all runs it"]
fn three_hubs_on_jetstream_are_a_fleet_as_in_the_compose_file() {
    let file = read_yaml("compose-jetstream.yaml");
    let services = &file["services"];
    let servers = ["nats-1", "nats-2", "nats-3"].map(|name| (name, words(&services[name]["command"])));
    let cluster = NatsCluster::start_as(&servers);
    let (urls, config) = (cluster.urls(), deploy_file("hub-jetstream.toml"));
    let addresses = HashMap::from([
        ("0.0.0.0:8080", "127.0.0.1:0"),
        ("/etc/fanfare.toml", config.to_str().expect("UTF-8")),
        ("nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222", &*urls),
    ]);
    let hubs = ["hub-1", "hub-2", "hub-3"].map(|name| start_hub(&services[name], &addresses));
    for hub in &hubs {
        wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    }
    let text = upstreams(&services["nginx"]);
    let servers: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("server ")).collect();
    let all = "server hub-1:8080 max_fails=0; server hub-2:8080 max_fails=0; server hub-3:8080 max_fails=0;";
    assert_eq!(servers, [all, all], "both upstreams have the three hubs, and no others");
    let nginx = Nginx::start(&hubs.each_ref().map(Hub::address));
    let mut streams = hubs.each_ref().map(|hub| SseClient::open(hub, "/sse?topic=orders.eu"));
    let url = format!("{}/publish/orders.eu", nginx.url());
    let answer = stdout_of(&run_program("curl", "curl", &["-sS", "--fail-with-body", "-d", "{\"order\":17}", &url]));
    let id = serde_json::from_str::<Value>(&answer).expect("JSON")["id"].clone();
    for stream in &mut streams {
        let event = stream.next();
        assert_eq!((&Value::from(event.id), event.data.as_str()), (&id, "{\"order\":17}"), "the same id at all hubs");
    }
    let stream = cluster.request("$JS.API.STREAM.INFO.fanfare-orders-ALL", "");
    assert_eq!(stream["config"]["num_replicas"], 3, "{stream}");
    wait_until("all hubs know each other", || {
        hubs.iter().all(|hub| hub.metric("fanfare_fleet_hubs") == 3.0).then_some(())
    });
    hubs.into_iter().for_each(|hub| assert!(hub.terminate().success(), "within the time that it is given"));
}

#[test]
fn the_documented_commands_work_beside_the_compose_file() {
    let file = read_yaml("compose.yaml");
    let Composed { redis, hub } = Composed::up(&file);
    wait_for_health(&file["services"]["hub"], &HashMap::from([("http://127.0.0.1:8080", hub.url(0))]));
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
