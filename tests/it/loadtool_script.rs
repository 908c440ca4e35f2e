//! `scripts/run-loadtest.sh`: how it finds Redis and the hub, and which arguments it passes on.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    loadtool::Said,
    support::{Folder, hub::Hub, redis::RedisServer, relay::Relay, wait_until},
};

/// `scripts/run-loadtest.sh` in a folder with a `kubectl` of the test's own in front of the path.
fn script(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run-loadtest.sh");
    let mut command = Command::new(script);
    for variable in ["REDIS_URL", "REDIS_HOST", "HUB_URL", "REDIS_SERVICE", "HUB_SERVICE"] {
        command.env_remove(variable);
    }
    let path = format!("{}:{}", folder.0.display(), std::env::var("PATH").expect("there is one"));
    // An address without a listener, unless the test gives another one.
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
    let said = script(&folder, &["-c", "2", "-d", "20", "--repeat", "--duration", "500ms"], &by_host);
    assert!(10.0 < said.figure("Tokens Published") && said.figure("Tokens Lost") == 0.0, "{said:#?}");
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
    // Such a hub would not get what is published at a Redis.
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
    // The port forwards end with the script.
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
