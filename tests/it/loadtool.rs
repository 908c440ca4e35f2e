//! `fanfare load`: what it says about a hub is true, of one that tells the truth and of one that does not.

use std::{
    collections::HashMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Folder, PATIENCE,
    guarded::Guarded,
    hub::Hub,
    liar::{Liar, block},
    redis::{RedisServer, free_address},
    relay::Relay,
    send_signal, wait_until,
};

fn load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("load").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Child {
    load(arguments).spawn().expect("it was just built")
}

/// What a run said in the end.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
    complaint: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), text: text(&output.stdout), complaint: text(&output.stderr) }
    }

    /// The first number in the row of this name.
    #[track_caller]
    fn figure(&self, name: &str) -> f64 {
        let rest = self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    /// These rows, in this order, all of which are counts.
    #[track_caller]
    fn check(&self, code: i32, expected: &[(&str, u32)]) {
        let got: Vec<(&str, f64)> = expected.iter().map(|(name, _)| (*name, self.figure(name))).collect();
        let expected: Vec<(&str, f64)> = expected.iter().map(|&(name, count)| (name, count.into())).collect();
        assert_eq!(got, expected, "{self:#?}");
        assert_eq!(self.code, Some(code), "{self:#?}");
    }

    /// Everything arrived, on so many streams.
    #[track_caller]
    fn check_complete(&self, streams: u32, tokens: u32) {
        self.check(
            0,
            &[
                ("Tokens Published", tokens),
                ("Tokens Received", tokens),
                ("Tokens Lost", 0),
                ("Duplicates", 0),
                ("Out of Order", 0),
                ("Gaps Announced", 0),
                ("Connections Opened", streams),
                ("Connections Closed", 0),
                ("Reconnects", 0),
                ("Errors", 0),
            ],
        );
        self.check_latency();
    }

    /// The figures are in the order in which they must be.
    #[track_caller]
    fn check_latency(&self) {
        let [min, avg, max, p50, p95, p99] =
            ["min", "avg", "max", "p50", "p95", "p99"].map(|name| self.figure(&format!("Latency ({name})")));
        assert!([min, p50, p95, p99, max].is_sorted() && min <= avg && avg <= max, "{self:#?}");
        assert!(0.0 < max && self.text.contains(" ms\n"), "{self:#?}");
    }
}

fn run(arguments: &[&str]) -> Said {
    Said::of(&load(arguments).output().expect("it was just built"))
}

/// Waits until it has ended; one that does not is killed, and fails the test.
#[track_caller]
fn end(mut child: Child) -> Said {
    let deadline = Instant::now() + PATIENCE;
    // What it says fits the pipes.
    let is_over = |child: &mut Child| child.try_wait().expect("it is our child").is_some();
    while !is_over(&mut child) && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(5));
    }
    let is_late = !is_over(&mut child);
    let _ = child.kill();
    let said = Said::of(&child.wait_with_output().expect("it is our child"));
    assert!(!is_late, "it should have ended: {said:#?}");
    said
}

#[test]
fn through_redis() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    let hub = Hub::start_with(&["--redis", &redis.url_as(":secret@")], &[]);
    let address = format!("{}/2", redis.url_as(":secret@"));
    let said = run(&["-r", &address, "-s", hub.url(0), "-c", "20", "-t", "10", "-d", "20"]);
    said.check_complete(20, 200);
    assert!(!said.complaint.contains("secret") && !said.text.contains("secret"), "{said:#?}");
}

#[test]
fn through_the_hub_alone() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let path = folder.path("report.json");
    // As the documentation of the system before has it: one dash.
    let words =
        ["-mode", "both", "-sse", hub.url(0), "-conversations=7", "-tokens", "30", "-delay", "5", "-json", &path];
    run(&words).check_complete(7, 210);
    let report: Value = serde_json::from_slice(&std::fs::read(&path).expect("it was written")).expect("it is JSON");
    assert_eq!(report["published"]["tokens_published"], 210);
    assert_eq!(report["received"]["tokens_received"], 210);
    assert_eq!(report["is_complete"], true);
    assert!(0.0 < report["latency"]["p99_ms"].as_f64().expect("a number"), "{report}");
    // Without pauses all goes at once, and still nothing is lost.
    run(&["-s", hub.url(0), "-c", "3", "-t", "1000", "-d", "0"]).check_complete(3, 3000);
}

#[test]
fn producer_and_consumer_apart() {
    let redis = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let consumer = start(&["-m", "consumer", "-s", hub.url(0), "-c", "4", "--duration", "5m"]);
    let is_live = |id: u32| redis.channels().contains(&format!("conversations.{id}"));
    wait_until("the conversations are live", || (1..=4).all(is_live).then_some(()));
    (1..=4).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 1));
    let address = redis.url().trim_start_matches("redis://").to_owned();
    let said = run(&["-m", "producer", "-r", &address, "-c", "4", "-t", "25", "-d", "10"]);
    said.check(0, &[("Tokens Published", 100), ("Errors", 0)]);
    assert!(!said.text.contains("Received") && !said.text.contains("Note"), "{said:#?}");
    // It hears that the producer is done, and does not wait for its time to be over.
    let said = end(consumer);
    said.check(0, &[("Tokens Received", 100), ("Tokens Lost", 0), ("Connections Opened", 4), ("Errors", 0)]);
    said.check_latency();
    assert!(!said.text.contains("Published") && !said.text.contains("Note"), "{said:#?}");
    // Nobody is there any more.
    drop(hub);
    redis.wait_for_channels(&[]);
    let said = run(&["-m", "producer", "-r", &address, "-c", "1", "-t", "2"]);
    assert!(said.text.contains("nobody was subscribed at Redis to 2 tokens"), "{said:#?}");
}

/// The number of a token; 0 for what is none.
fn sequence(payload: &str) -> u64 {
    let payload: Value = serde_json::from_str(payload).expect("payloads are JSON");
    payload["sequence"].as_u64().unwrap_or_default()
}

/// Loses every tenth token, says the fifth twice more, and swaps the seventh with the eighth and the seventeenth with the
/// eighteenth.
fn lies() -> impl FnMut(&str, &str) -> Vec<String> {
    let mut held = HashMap::new();
    move |topic, payload| match sequence(payload) {
        number if 0 < number && number.is_multiple_of(10) => Vec::new(),
        5 => vec![block(payload); 3],
        7 | 17 => {
            held.insert(topic.to_owned(), block(payload));
            Vec::new()
        }
        8 | 18 => vec![block(payload), held.remove(topic).expect("the one before")],
        _ => vec![block(payload)],
    }
}

#[test]
fn every_lie_of_a_hub_is_found() {
    let liar = Liar::start(Duration::ZERO, lies());
    let said = run(&["-s", &liar.url(), "-c", "3", "-t", "40", "-d", "5"]);
    // The fortieth is the last: it is missed, too.
    let found = [
        ("Tokens Published", 120),
        ("Tokens Received", 108),
        ("Tokens Lost", 12),
        ("Duplicates", 6),
        ("Out of Order", 6),
        ("Gaps Announced", 0),
        ("Connections Opened", 3),
        ("Errors", 0),
    ];
    said.check(1, &found);
}

#[test]
fn a_consumer_alone_finds_them_as_well() {
    let liar = Liar::start(Duration::ZERO, lies());
    let consumer = start(&["-m", "consumer", "-s", &liar.url(), "-c", "2", "--duration", "5m"]);
    let found = [("Tokens Received", 36), ("Tokens Lost", 4), ("Duplicates", 4), ("Out of Order", 4)];
    liar.wait_for_streams(2);
    run(&["-m", "producer", "-s", &liar.url(), "-c", "2", "-t", "20", "-d", "5"]).check(0, &[("Tokens Published", 40)]);
    end(consumer).check(1, &found);
}

#[test]
fn no_token_is_published_before_it_can_be_heard() {
    let mut heard: HashMap<String, u32> = HashMap::new();
    // A hub whose subscriptions take their time: the first two of each topic are lost.
    let liar = Liar::start(Duration::ZERO, move |topic, payload| {
        let count = heard.entry(topic.to_owned()).or_default();
        *count += 1;
        if *count <= 2 { Vec::new() } else { vec![block(payload)] }
    });
    run(&["-s", &liar.url(), "-c", "3", "-t", "5", "-d", "5"]).check_complete(3, 15);
}

#[test]
fn a_slow_hub_is_slow_and_nothing_else() {
    let liar = Liar::start(Duration::from_millis(200), |_, payload| vec![block(payload)]);
    let said = run(&["-s", &liar.url(), "-c", "2", "-t", "20", "-d", "10"]);
    said.check_complete(2, 40);
    assert!(200.0 <= said.figure("Latency (min)"), "{said:#?}");
    assert!(200.0 <= said.figure("Latency (p50)"), "{said:#?}");
}

#[test]
fn what_else_comes_is_counted_apart() {
    let liar = Liar::start(Duration::ZERO, |topic, payload| {
        let gap = "event: gap\ndata: {\"reason\":\"lagged\"}\n\n".to_owned();
        match sequence(payload) {
            2 => vec![gap, block(payload)],
            3 => vec![block("{\"another\":\"event\"}"), block(payload)],
            // What belongs to the other conversation.
            4 if topic == "conversations.1" => {
                vec![block(&payload.replace("\"conversation\":1", "\"conversation\":2"))]
            }
            _ => vec![block(payload)],
        }
    });
    let said = run(&["-s", &liar.url(), "-c", "2", "-t", "5", "-d", "5"]);
    let found =
        [("Tokens Lost", 1), ("Misdelivered", 1), ("Foreign Events", 2), ("Gaps Announced", 2), ("Duplicates", 0)];
    said.check(1, &found);
}

#[test]
fn streams_that_are_cut_come_back_for_what_they_missed() {
    let hub = Hub::start();
    let relay = Relay::start(hub.address());
    let through = format!("http://{}", relay.address());
    let child =
        start(&["-s", &through, "-publish-url", hub.url(0), "-c", "3", "-t", "150", "-d", "10", "--duration", "1m"]);
    let delivered = |count: u64| hub.stats()["deliveries"].as_u64().filter(|it| count <= *it);
    wait_until("the run is under way", || delivered(30));
    relay.cut();
    (1..=3).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 0));
    relay.mend();
    let said = end(child);
    let found = [
        ("Tokens Published", 450),
        ("Tokens Received", 450),
        ("Tokens Lost", 0),
        ("Duplicates", 0),
        ("Connections Opened", 6),
        ("Connections Closed", 3),
        ("Reconnects", 3),
    ];
    said.check(0, &found);
    assert!(said.text.contains("streams cut"), "{said:#?}");
}

#[test]
fn a_signal_leaves_a_report() {
    let hub = Hub::start();
    for (round, signal) in (1..).zip(["INT", "TERM"]) {
        let child = start(&["-s", hub.url(0), "-c", "2", "-t", "100000", "-d", "5", "--duration", "1h"]);
        wait_until("the run is under way", || (round * 40 <= hub.stats()["deliveries"].as_u64()?).then_some(()));
        // Twice: as `timeout` does, and whoever is impatient.
        send_signal(signal, child.id());
        send_signal(signal, child.id());
        let said = end(child);
        let published = said.figure("Tokens Published");
        assert!(10.0 < published && published < 200_000.0, "{said:#?}");
        assert_eq!(said.figure("Tokens Received"), published, "{said:#?}");
        said.check(130, &[("Tokens Lost", 0), ("Errors", 0)]);
        assert!(said.text.ends_with("Interrupted: the run was ended early.\n"), "{said:#?}");
        (1..=2).for_each(|id| hub.wait_for_listeners(&format!("conversations.{id}"), 0));
    }
}

#[test]
fn the_duration_ends_the_publishing() {
    let hub = Hub::start();
    let said = run(&["-s", hub.url(0), "-c", "2", "-t", "1000", "-d", "20", "--duration", "200ms"]);
    let published = said.figure("Tokens Published");
    assert!(0.0 < published && published <= 20.0, "due within 200 ms: {said:#?}");
    assert_eq!(said.figure("Tokens Received"), published, "{said:#?}");
    said.check(0, &[("Tokens Lost", 0)]);
    assert!(said.text.contains("of 2000 tokens were sent when --duration was over"), "{said:#?}");
}

#[test]
fn a_hub_may_close_what_is_idle() {
    let hub = Hub::start_with(&[], &[("limits.idle_timeout", "50ms")]);
    run(&["-s", hub.url(0), "-c", "1", "-t", "4", "-d", "300"]).check_complete(1, 4);
}

#[test]
fn a_redis_that_dies_is_told() {
    let mut redis = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let child = start(&["-r", &redis.url(), "-s", hub.url(0), "-c", "2", "-t", "100000", "-d", "5"]);
    wait_until("the run is under way", || (20 <= hub.stats()["deliveries"].as_u64()?).then_some(()));
    redis.kill();
    let said = end(child);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(0.0 < said.figure("Tokens Received") && said.text.contains("  publishing:"), "{said:#?}");
}

#[test]
fn what_cannot_begin_is_told() {
    let hub = Hub::start();
    let nobody = free_address();
    let check = |arguments: &[&str], expected: &str| {
        let said = run(arguments);
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.text.contains(expected) && said.text.starts_with("=== Load test"), "{said:#?}");
    };
    check(&["-m", "producer", "-r", &nobody], &format!("cannot use Redis at redis://{nobody}"));
    check(&["-m", "producer", "-r", hub.address()], "cannot use Redis at");
    check(&["-m", "producer", "-s", &nobody], &format!("cannot reach http://{nobody}"));
    check(&["-s", &nobody, "--duration", "500ms"], "5 of 5 streams did not open");
    check(&["-m", "consumer", "-s", hub.url(0), "--duration", "300ms"], "no token arrived");
    let said = run(&["-c", "0"]);
    assert!(said.code == Some(2) && said.text.is_empty(), "{said:#?}");
}

#[test]
fn a_hub_that_asks_who_comes() {
    let guarded = Guarded::start("1h", &[], &[]);
    let url = guarded.hub.url(0);
    run(&["-s", url, "-c", "2", "-t", "5", "-d", "5", "--token", guarded.admin_token()]).check_complete(2, 10);
    let said = run(&["-s", url, "-c", "2", "-t", "5"]);
    said.check(1, &[("Connections Opened", 0), ("Tokens Published", 0)]);
    assert!(said.text.contains("streams refused"), "{said:#?}");
    let said = run(&["-m", "producer", "-s", url, "-c", "2", "-t", "5", "-d", "5"]);
    said.check(1, &[("Tokens Published", 0)]);
    assert!(said.text.contains("publications refused:") && said.text.contains("401"), "{said:#?}");
}

/// `scripts/run-loadtest.sh` in a folder with a `kubectl` of the test's own in front of the path.
fn script(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run-loadtest.sh");
    let mut command = Command::new(script);
    for variable in ["REDIS_URL", "REDIS_HOST", "HUB_URL", "REDIS_SERVICE", "HUB_SERVICE"] {
        command.env_remove(variable);
    }
    let path = format!("{}:{}", folder.0.display(), std::env::var("PATH").expect("there is one"));
    // Where nobody listens, if the test does not say otherwise.
    let nowhere = [("HUB_PORT", "1"), ("REDIS_PORT", "1"), ("PATH", &*path)];
    command.env("FANFARE", env!("CARGO_BIN_EXE_fanfare")).envs(nowhere).envs(variables.iter().copied());
    let small = ["-c", "3", "-t", "5", "-d", "5"];
    let output = command.args(small).args(arguments).stdin(Stdio::null()).output();
    Said::of(&output.unwrap_or_else(|error| panic!("cannot run the script: {error}")))
}

/// A program called `kubectl` that knows these services (such as `redis-system svc/redis :6379`), each with the port at which
/// it is here; it writes its process ids to a file.
fn write_kubectl(folder: &Folder, services: &[(&str, u16)]) -> String {
    let pids = folder.path("pids");
    let row = |(service, port): &(&str, u16)| {
        format!("\"port-forward -n {service}\") echo 'Forwarding from 127.0.0.1:{port} -> 1' ;;\n")
    };
    let rows: String = services.iter().map(row).collect();
    let known = if services.is_empty() { "exit 1" } else { "exit 0" };
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != get ] || {known}\necho $$ >>{pids}\ncase \"$*\" in\n{rows}*) echo unknown; exit 1 ;;\nesac\n\
         exec tail -f /dev/null\n"
    );
    let path = folder.path("kubectl");
    std::fs::write(&path, text).expect("the folder is ours");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("the file is ours");
    pids
}

#[test]
fn the_script_takes_its_endpoints_from_the_environment() {
    let (redis, folder) = (RedisServer::start(), Folder::new());
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let said = script(&folder, &[], &[("HUB_URL", hub.url(0)), ("REDIS_URL", &redis.url_as(":secret@"))]);
    assert!(said.complaint.contains(&format!("hub: {} (from HUB_URL)", hub.url(0))), "{said:#?}");
    assert!(said.complaint.contains("Redis: redis://***@127.0.0.2:"), "{said:#?}");
    let port = redis.port().to_string();
    let by_host = [("HUB_URL", hub.url(0)), ("REDIS_HOST", redis.host()), ("REDIS_PORT", &port)];
    let said = script(&folder, &["-t", "6"], &by_host);
    said.check_complete(3, 18);
    assert!(said.complaint.contains(&format!("Redis: 127.0.0.2:{port} (from REDIS_HOST)")), "{said:#?}");
    // Flags win, and each mode needs only its own.
    let said = script(&folder, &["-m=producer", "-redis", &redis.url()], &[]);
    said.check(0, &[("Tokens Published", 15)]);
    assert!(!said.complaint.contains("hub:") && !said.complaint.contains("Redis:"), "{said:#?}");
}

#[test]
fn the_script_finds_what_runs_on_this_machine() {
    let (redis, folder) = (RedisServer::start(), Folder::new());
    write_kubectl(&folder, &[]);
    // Redis itself is at another address.
    let relay = Relay::start(&format!("{}:{}", redis.host(), redis.port()));
    let redis_port = relay.address().port().to_string();
    let check = |hub: &Hub, expected: &str| {
        let hub_port = hub.address().split_once(':').expect("it has a port").1;
        let said = script(&folder, &[], &[("HUB_PORT", hub_port), ("REDIS_PORT", &redis_port)]);
        said.check_complete(3, 15);
        assert!(said.complaint.contains(&format!("hub: http://127.0.0.1:{hub_port} (on this machine)")), "{said:#?}");
        assert!(said.complaint.contains(expected), "{said:#?}");
    };
    let with_redis = Hub::start_with(&["--redis", &redis.url()], &[]);
    check(&with_redis, &format!("Redis: 127.0.0.1:{redis_port} (on this machine)"));
    // It would not hear what is published at a Redis.
    check(&Hub::start(), "has none; publishing at the hub");
}

#[test]
fn the_script_finds_what_runs_in_a_cluster() {
    let (redis, folder) = (RedisServer::start(), Folder::new());
    let hub = Hub::start_with(&["--redis", &redis.url()], &[]);
    let (to_redis, to_hub) = (Relay::start(&format!("{}:{}", redis.host(), redis.port())), Relay::start(hub.address()));
    let services = [
        ("redis-system svc/redis :6379", to_redis.address().port()),
        ("sse-system svc/sse-adapter :80", to_hub.address().port()),
    ];
    let pids = write_kubectl(&folder, &services);
    let said = script(&folder, &["--duration", "1m"], &[]);
    said.check_complete(3, 15);
    assert!(said.complaint.contains("(kubectl, sse-system/sse-adapter:80)"), "{said:#?}");
    assert!(said.complaint.contains("(kubectl, redis-system/redis:6379)"), "{said:#?}");
    // The forwards end with it.
    let pids = std::fs::read_to_string(pids).expect("it was written");
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        wait_until("the forward ends", || (!Path::new("/proc").join(pid).exists()).then_some(()));
    }
}

#[test]
fn the_script_says_what_is_missing() {
    let folder = Folder::new();
    write_kubectl(&folder, &[]);
    let said = script(&folder, &[], &[]);
    assert!(said.code == Some(1) && said.text.is_empty(), "{said:#?}");
    assert!(said.complaint.contains("there is no hub at 127.0.0.1:1, and none in a cluster of kubectl"), "{said:#?}");
    let said = script(&folder, &["--mode", "nobody"], &[("HUB_URL", "http://127.0.0.1:1")]);
    assert!(said.code == Some(2) && said.complaint.contains("possible values"), "{said:#?}");
}
