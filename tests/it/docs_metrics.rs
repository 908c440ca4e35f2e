//! `docs/operations.md` lists every metric of a hub, and `docs/alerts.yml` uses no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use crate::support::{
    hub::Hub, postgres::PostgresServer, redis::RedisServer, run_program, sse::SseClient, stdout_of, wait_until,
};

/// A family's type and the names of its labels, by its name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tables headed `| metric | type | labels | meaning |`.
fn documented() -> Families {
    let mut families = Families::new();
    let mut is_inside = false;
    for line in document("operations.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        is_inside = (is_inside && line.starts_with('|')) || line == "| metric | type | labels | meaning |";
        let [_, name, kind, labels, meaning, _] = cells[..] else { continue };
        if !is_inside || !name.starts_with('`') {
            continue;
        }
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        let name = name.trim_matches('`').to_owned();
        assert!(!meaning.is_empty(), "{name} has no meaning");
        assert_eq!(families.insert(name.clone(), (kind.to_owned(), labels)), None, "{name} is listed twice");
    }
    families
}

/// What a hub exports. The labels are those of its series, without the bounds of buckets.
fn exported(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            continue;
        }
        let Some((series, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { continue };
        let without_part = ["_bucket", "_sum", "_count"].iter().find_map(|part| series.strip_suffix(part));
        let name = without_part.filter(|name| families.contains_key(*name)).unwrap_or(series);
        let (_, labels) = families.get_mut(name).unwrap_or_else(|| panic!("{series} has no type"));
        let names = rest.split("=\"").filter_map(|part| part.rsplit(['{', ',', '"', ' ']).next());
        let names = names.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()));
        labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
    }
    families
}

/// With each kind of source, a quota that refuses, and traffic: so each family has series.
fn hub_with_everything(redis: &RedisServer, postgres: &PostgresServer) -> Hub {
    let (redis, postgres) = (redis.url(), postgres.url());
    let flags = ["--redis", &redis, "--store", &postgres];
    let hub = Hub::start_with(&flags, &[("topics.log", "redis-stream"), ("topics.history.count", "10")]);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.post("/publish/t", "x").status, 200);
    assert_eq!(stream.next().data, "x");
    hub
}

/// A bridge that waits for a NATS server which is not there.
fn bridge_beside(redis: &RedisServer) -> Hub {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args([
        "bridge",
        "--listen",
        "127.0.0.1:0",
        "--from",
        &redis.url(),
        "--to",
        "nats://127.0.0.1:1",
        "--map",
        "a",
    ]);
    Hub::spawn(command, &[])
}

#[test]
fn the_page_lists_every_metric() {
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
    let hub = hub_with_everything(&redis, &postgres);
    // These wait for servers that are not there.
    let jwks = [
        ("auth.mode", "jwt"),
        ("auth.algorithms", "RS256"),
        ("auth.jwks_url", "http://127.0.0.1:1"),
        ("auth.issuer", "x"),
    ];
    let others = [
        bridge_beside(&redis),
        Hub::start_with(&["--redis", "redis+cluster://127.0.0.1:1"], &[("topics.log", "redis-stream")]),
        Hub::start_with(&[], &jwks),
    ];
    let documented = documented();
    let mut exported = exported(&hub.get("/metrics").text());
    for (name, (kind, labels)) in others.iter().flat_map(|hub| self::exported(&hub.get("/metrics").text())) {
        exported.entry(name).or_insert((kind, BTreeSet::new())).1.extend(labels);
    }
    for (name, (kind, labels)) in &documented {
        let Some((exported_kind, exported_labels)) = exported.remove(name) else {
            panic!("docs/operations.md lists {name}, which no hub exports");
        };
        assert_eq!(*kind, exported_kind, "{name}");
        // A family without series yet shows no labels.
        assert!(
            exported_labels.is_empty() || *labels == exported_labels,
            "{name}: {labels:?}, not {exported_labels:?}"
        );
    }
    let left: Vec<&String> = exported.keys().collect();
    assert!(left.is_empty(), "docs/operations.md does not list {left:?}");
}

#[test]
fn alerts_are_rules_over_documented_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml");
    let path = path.to_str().expect("UTF-8");
    let said = stdout_of(&run_program("promtool", "prometheus", &["check", "rules", path]));
    assert!(said.contains("SUCCESS"), "{said}");
    let (rules, page, families) = (document("alerts.yml"), document("operations.md"), documented());
    let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for metric in words.filter(|word| word.starts_with("fanfare_") || word.starts_with("process_")) {
        let without_part = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part));
        let is_known = families.contains_key(metric) || without_part.is_some_and(|name| families.contains_key(name));
        assert!(is_known, "docs/alerts.yml uses {metric}, which is not in docs/operations.md");
    }
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let explained: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `Fanfare").and_then(|_| line.split('`').nth(1))).collect();
    assert_eq!(alerts, explained, "docs/alerts.yml and the table of docs/operations.md");
}
