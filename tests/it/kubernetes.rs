//! The chart of `scripts/deploy/helm` and the manifests made of it: read by Helm and by Kubernetes' own schemas, and a hub is started
//! with what a container would be given. Helm itself is built by `scripts/check --all`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;

use crate::support::{Folder, http::HttpConnection, hub::Hub, packages::kubernetes_python, stdout_of};

/// Prints the documents of a YAML file as one JSON list, each checked against the schemas of two versions of Kubernetes. Those of other
/// people's kinds have none.
const READ: &str = r#"
import json, sys, yaml, kubernetes_validate

documents = [document for document in yaml.safe_load_all(open(sys.argv[1])) if document]
for document in documents:
    if document["apiVersion"] != "monitoring.coreos.com/v1":
        for version in ["1.25", "1.34"]:
            kubernetes_validate.validate(document, version, strict=True)
print(json.dumps(documents))
"#;

fn deploy_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy").join(name)
}

#[track_caller]
fn read(path: &Path) -> Vec<Value> {
    let output = Command::new(kubernetes_python()).args(["-c", READ]).arg(path).output();
    serde_json::from_str(&stdout_of(&output.expect("it was just installed"))).expect("JSON")
}

/// The names of what there is, by kind.
fn kinds(documents: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = documents.iter().map(|it| it["kind"].as_str().expect("a kind")).collect();
    kinds.sort_unstable();
    kinds
}

#[track_caller]
fn of_kind<'d>(documents: &'d [Value], kind: &str) -> &'d Value {
    documents.iter().find(|it| it["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Starts a hub as the container of the deployment would, but for the addresses and the servers, and answers as the probes ask.
#[track_caller]
fn start(documents: &[Value]) {
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    let text = of_kind(documents, "ConfigMap")["data"]["fanfare.toml"].as_str().expect("a text");
    fs::write(&config, text).expect("the folder is ours");
    let pod = &of_kind(documents, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["args"], serde_json::json!(["serve", "--config", "/etc/fanfare/fanfare.toml"]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--config", &config]);
    for variable in container["env"].as_array().expect("a list") {
        let (name, value) = (variable["name"].as_str().expect("a name"), variable["value"].as_str().expect("a value"));
        let value = match name {
            "FANFARE_SERVER__LISTEN" | "FANFARE_ADMIN__LISTEN" => "127.0.0.1:0".to_owned(),
            // Nobody is there; the hub starts all the same.
            "FANFARE_REDIS__URL" => "redis://127.0.0.2:1".to_owned(),
            "FANFARE_NATS__URL" => "nats://127.0.0.2:1".to_owned(),
            _ => value.to_owned(),
        };
        command.env(name, value);
    }
    let hub = Hub::spawn(command, &[]);
    let variables = container["env"].as_array().expect("a list");
    let has_broker = variables.iter().any(|it| it["name"].as_str().is_some_and(|name| name.ends_with("__URL")));
    let ready = if has_broker { 503 } else { 200 };
    for (probe, expected) in [("startupProbe", 200), ("livenessProbe", 200), ("readinessProbe", ready)] {
        let probe = &container[probe]["httpGet"];
        assert_eq!(probe["port"], "admin");
        let path = probe["path"].as_str().expect("a path");
        let response = HttpConnection::new(hub.connect_at(1)).request(Method::Get, path, &[], b"");
        assert_eq!(response.status, expected, "{path}: {}", response.text());
    }
    let seconds = |name: &str| {
        let variable = variables.iter().find(|it| it["name"] == name).expect("it is set");
        variable["value"].as_str().and_then(|it| it.strip_suffix('s')?.parse::<u64>().ok()).expect("seconds")
    };
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a number");
    assert!(seconds("FANFARE_DRAIN__DELAY") + seconds("FANFARE_DRAIN__WINDOW") < grace, "there is time to drain");
}

#[test]
fn the_manifests_are_kubernetes_and_start_a_hub() {
    let documents = read(&deploy_file("kubernetes.yaml"));
    assert_eq!(kinds(&documents), ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "Service"]);
    start(&documents);
}

fn helm(arguments: &[&str]) -> Output {
    let program = env::var("FANFARE_HELM").unwrap_or_else(|_| "helm".to_owned());
    let output = Command::new(&program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot run {program}: {error}; scripts/check --all builds it"))
}

/// The chart with `settings`, as it stands in a file of `folder`.
#[track_caller]
fn render(folder: &Folder, settings: &[&str]) -> (PathBuf, Vec<Value>) {
    let chart = deploy_file("helm/fanfare");
    let chart = chart.to_str().expect("UTF-8");
    stdout_of(&helm(&[&["lint", "--strict", chart], settings].concat()));
    let path = folder.0.join("rendered.yaml");
    fs::write(
        &path,
        stdout_of(&helm(
            &[&["template", "hub", chart, "--namespace", "events", "--kube-version", "1.30"], settings].concat(),
        )),
    )
    .expect("the folder is ours");
    let documents = read(&path);
    (path, documents)
}

/// What a fleet on Redis needs.
const FLEET: [&str; 6] = ["--set", "replicas=3", "--set", "redis.url=redis://redis:6379", "--set", "insecure=true"];

#[test]
#[ignore = "it needs Helm: scripts/check --all builds and runs it"]
fn the_chart_renders_for_whom_it_is_for() {
    let folder = Folder::new();
    let (_, alone) = render(&folder, &["--set", "insecure=true"]);
    assert_eq!(kinds(&alone), ["ConfigMap", "Deployment", "Service", "Service"]);
    start(&alone);
    let (path, fleet) = render(&folder, &FLEET);
    assert_eq!(kinds(&fleet), ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "Service"]);
    let (made, kept) = (fs::read_to_string(path).expect("it was just written"), deploy_file("kubernetes.yaml"));
    if env::var_os("FANFARE_BLESS").is_some() {
        fs::write(&kept, &made).expect("the source is writable");
    }
    assert_eq!(made, fs::read_to_string(kept).expect("it is there"), "FANFARE_BLESS=1 makes kubernetes.yaml again");
    let values = folder.path("values.yaml");
    fs::write(&values, EVERYTHING).expect("the folder is ours");
    let (_, all) = render(&folder, &["--values", &values]);
    let expected = [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
        "ServiceMonitor",
    ];
    assert_eq!(kinds(&all), expected);
    start(&all);
    let ingress = of_kind(&all, "Ingress");
    let names: Vec<&Value> =
        all.iter().filter(|it| it["kind"] == "Service").map(|it| &it["metadata"]["name"]).collect();
    assert!(names.contains(&&ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"]));
}

/// A fleet on NATS whose clients sign in, with everything that can be switched on.
const EVERYTHING: &str = r#"
replicas: 3
nats: {url: "nats://a:4222,nats://b:4222"}
config: |
  [auth]
  mode = "jwt"
  secret = "at least thirty-two bytes of it, or more"
secret: hub-secret
env: [{name: FANFARE_LOG__LEVEL, value: warn}]
ingress: {enabled: true, host: hub.example, tlsSecret: hub-tls}
autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 8, connections: 5000}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
networkPolicy:
  enabled: true
  clients: [{namespaceSelector: {matchLabels: {name: web}}}]
  monitoring: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
nodeSelector: {events: "true"}
tolerations: [{key: events, operator: Exists}]
affinity: {}
imagePullSecrets: [{name: registry}]
"#;

#[test]
#[ignore = "it needs Helm: scripts/check --all builds and runs it"]
fn the_chart_refuses_what_cannot_work() {
    let chart = deploy_file("helm/fanfare");
    let refused = |settings: &[&str], expected: &str| {
        let output =
            helm(&[&["template", "hub", chart.to_str().expect("UTF-8"), "--kube-version", "1.30"], settings].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{settings:?}: {said}");
    };
    refused(&[], "anybody who reaches the service could read and publish");
    refused(&["--set", "insecure=true", "--set", "replicas=2"], "more than one hub needs a broker they share");
}
