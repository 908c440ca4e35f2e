//! SIGHUP: which settings change while the hub runs, and the log lines about them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;

use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    run_program, send_signal,
    sse::SseClient,
    stdout_of, wait_until,
};

/// A hub with a file that it can reload, and a log of JSON lines.
struct Reloaded {
    hub: Hub,
    folder: Folder,
}

impl Reloaded {
    fn start(config: &str) -> Self {
        Self::start_in(Folder::new(), config)
    }

    /// In a folder that may hold further files.
    fn start_in(folder: Folder, config: &str) -> Self {
        let path = folder.path("fanfare.toml");
        fs::write(&path, config).expect("it is ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        let log = File::create(folder.path("log")).expect("it is ours");
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--config", &path]).stderr(log);
        Self { hub: Hub::spawn_as_it_is(command), folder }
    }

    /// Has the hub read `config`, and waits until its log has a line in which `is_it`.
    #[track_caller]
    fn reload(&self, config: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        fs::write(self.folder.path("fanfare.toml"), config).expect("it is ours");
        let before = self.lines().len();
        send_signal("HUP", self.hub.pid());
        wait_until(what, || self.lines().into_iter().skip(before).find(|line| is_it(line)))
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path("log")).expect("the hub writes UTF-8");
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The last log line about `key`.
    #[track_caller]
    fn said_of(&self, key: &str) -> (String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = self.lines().into_iter().rfind(|line| line["key"] == key);
        let line = line.unwrap_or_else(|| panic!("nothing was said of {key}: {:?}", self.lines()));
        (text(&line["message"]), text(&line["change"]))
    }

    fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        HttpConnection::new(self.hub.connect()).request(Method::Get, target, headers, b"")
    }

    fn policy(&self, topic: &str) -> String {
        self.hub.publish(topic, "x");
        let described = self.hub.get(&format!("/topics/{topic}")).json();
        described["policy"].as_str().expect("a text").to_owned()
    }
}

const BEFORE: &str = r#"
[server]
reactors = 1
[limits]
tenant_publish_per_second = 0
[cors]
allow_origins = ["https://a.example"]
[log]
level = "error"
[drain]
window = "10m"
"#;

const AFTER: &str = r#"
compat = ["broadcaster", "event-streams", "esp"]
[server]
reactors = 2
[limits]
tenant_publish_per_second = 0
body_bytes_max = 1000
topics_per_connection_max = 2
inbox_events_max = 7
[proxy]
trusted = ["127.0.0.1"]
[cors]
allow_origins = ["https://b.example"]
[log]
level = "info"
access = true
[drain]
window = "100ms"
[[topics.class]]
match = "later.**"
policy = "skip"
"#;

#[test]
fn what_can_change_does_and_the_log_says_what_waits() {
    let reloaded = Reloaded::start(BEFORE);
    let hub = &reloaded.hub;
    let allowed = |origin: &str| {
        let response = reloaded.ask("/topics", &[("Origin", origin)]);
        response.header("Access-Control-Allow-Origin").is_some()
    };
    assert_eq!((allowed("https://a.example"), allowed("https://b.example")), (true, false));
    let stream = SseClient::open(hub, "/sse?topic=a&topic=b&topic=later.known");
    assert_eq!(
        (hub.post("/publish/t", vec![b'x'; 2000]).status, reloaded.policy("later.known")),
        (200, "close".into())
    );
    let summary = reloaded.reload(AFTER, "the report", |line| line["message"] == "the configuration is read anew");
    assert_eq!((&summary["effective"], &summary["waiting"]), (&8.into(), &3.into()), "{:?}", reloaded.lines());
    // Reactors read the new configuration at slightly different times. Here is one, and it has been woken.
    wait_until("the new origin", || allowed("https://b.example").then_some(()));
    assert!(!allowed("https://a.example"));
    assert_eq!(hub.post("/publish/t", vec![b'x'; 2000]).status, 413);
    assert_eq!(hub.get("/sse?topic=a&topic=b&topic=c").status, 400);
    assert_eq!((reloaded.policy("later.known"), reloaded.policy("later.new")), ("close".into(), "skip".into()));
    reloaded.ask("/topics", &[("X-Forwarded-For", "192.0.2.7")]);
    wait_until("the access log, with the proxy's client", || {
        reloaded.lines().iter().any(|line| line["peer"] == "192.0.2.7").then_some(())
    });
    let effect = "a key of the configuration has another value, which takes effect".to_owned();
    let waits = "a key of the configuration has another value, which waits for a restart".to_owned();
    assert_eq!(reloaded.said_of("drain.window"), (effect.clone(), "\"10m\" -> \"100ms\"".into()));
    assert_eq!(reloaded.said_of("cors.allow_origins").0, effect);
    assert_eq!(reloaded.said_of("topics.class"), (effect + " for topics to come", String::new()));
    assert_eq!(reloaded.said_of("server.reactors"), (waits.clone(), "1 -> 2".into()));
    assert_eq!(reloaded.said_of("limits.inbox_events_max").0, waits);
    assert_eq!(reloaded.said_of("compat").0, waits);
    assert_eq!(hub.post("/pod/events/changes", "{}").status, 201, "a compatibility API stays until the restart");
    // Keys that need a restart are reported again, and the rest is in force.
    let summary = reloaded.reload(AFTER, "another report", |line| line["message"] == "the configuration is read anew");
    assert_eq!((&summary["effective"], &summary["waiting"]), (&0.into(), &3.into()));
    let Reloaded { hub, folder: _folder } = reloaded;
    assert!(hub.terminate().success(), "within the window that came last, not in ten minutes");
    drop(stream);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let reloaded = Reloaded::start("[log]\nlevel = \"info\"\n[limits]\nbody_bytes_max = 1000\n");
    let check = |config: &str, expected: &str| {
        let line = reloaded.reload(config, expected, |line| {
            line["message"] == "the configuration is wrong now; nothing is taken over"
        });
        assert!(line["error"].as_str().is_some_and(|error| error.contains(expected)), "{line}");
        assert_eq!(reloaded.hub.post("/publish/t", vec![b'x'; 2000]).status, 413);
    };
    check("[limits]\nbody_bytes_max = 9000\n[log]\nlevel = \"inof\"\n", "`inof` is no level");
    check("[limits]\nbody_bytes_max = \"much\"\n", "body_bytes_max");
    let secret = "geheim, of thirty-two bytes or more, as HS256 demands";
    let config = format!("[auth]\nmode = \"jwt\"\nsecret = \"{secret}\"\n[limits]\nbody_bytes_max = 9000\n");
    check(&config, "auth.mode is another now: restart the hub");
    let text = fs::read_to_string(reloaded.folder.path("log")).expect("the hub writes UTF-8");
    assert!(!text.contains("geheim"), "{text}");
}

/// Holds a lease on a file: opening the file blocks until the kernel breaks the lease, after 45 seconds by default. A file system
/// that hangs does the same.
const LEASE: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

struct Lease(Child);

impl Lease {
    fn hold(path: &str) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", LEASE, path]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it was just asked for")).read_line(&mut line).expect("text");
        assert_eq!(line, "held\n", "the file system of {path} has no leases");
        Self(child)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const STILL_READING: &str =
    "the configuration is still being read since an earlier SIGHUP; it is read once more afterwards";
const READ: &str = "the configuration is read anew";
const WRONG: &str = "the configuration is wrong now; nothing is taken over";

#[test]
fn a_file_system_that_hangs_does_not_hold_up_the_hub() {
    let config = "[log]\nlevel = \"info\"\n[drain]\ndelay = \"0s\"\nwindow = \"0s\"\n";
    let reloaded = Reloaded::start(config);
    let count = |message: &str| reloaded.lines().iter().filter(|line| line["message"] == message).count();
    let lease = Lease::hold(&reloaded.folder.path("fanfare.toml"));
    send_signal("HUP", reloaded.hub.pid());
    // Each further signal comes while the first reload still reads. All of them together cause one more reload.
    for _ in 0..3 {
        let before = count(STILL_READING);
        wait_until("it is reading", || {
            send_signal("HUP", reloaded.hub.pid());
            (before < count(STILL_READING)).then_some(())
        });
    }
    assert_eq!(reloaded.hub.get("/health").status, 200);
    drop(lease);
    wait_until("both readings", || (count(READ) == 2).then_some(()));
    let _lease = Lease::hold(&reloaded.folder.path("fanfare.toml"));
    let before = count(STILL_READING);
    wait_until("it is reading again", || {
        send_signal("HUP", reloaded.hub.pid());
        (before < count(STILL_READING)).then_some(())
    });
    assert_eq!(count(READ), 2, "three signals meanwhile are one");
    let begun = Instant::now();
    let Reloaded { hub, folder: _folder } = reloaded;
    assert!(hub.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(20), "it did not wait for the file, which takes 45 s: {begun:?}");
}

/// A pipe gives its content once, which is enough for the start.
#[test]
fn what_cannot_be_read_again_is_refused() {
    let text = "[log]\nlevel = \"info\"\n[drain]\ndelay = \"0s\"\n[auth]\nmode = \"jwt\"\nsecret_file = \"secret\"\n";
    let folder = Folder::new();
    fs::write(folder.path("secret"), "geheim, of thirty-two bytes or more, as HS256 demands").expect("it is ours");
    let reloaded = Reloaded::start_in(folder, text);
    let refused = |path: &str, expected: &str| {
        let before = reloaded.lines().len();
        send_signal("HUP", reloaded.hub.pid());
        let line =
            wait_until(expected, || reloaded.lines().into_iter().skip(before).find(|line| line["message"] == WRONG));
        let error = line["error"].as_str().expect("a text");
        assert!(error.contains(path) && error.contains(expected), "{error}");
    };
    for name in ["secret", "fanfare.toml"] {
        let path = reloaded.folder.path(name);
        fs::rename(&path, reloaded.folder.path("kept")).expect("it is ours");
        stdout_of(&run_program("mkfifo", "coreutils", &[&path]));
        refused(&path, "it is a pipe, which cannot be read a second time: restart the hub");
        fs::rename(reloaded.folder.path("kept"), &path).expect("it is ours");
    }
    fs::write(reloaded.folder.path("fanfare.toml"), "").expect("it is ours");
    refused("", "the configuration file is empty now");
    reloaded.reload(text, "it is well again", |line| line["message"] == READ);
    assert_eq!(reloaded.hub.get("/topics").status, 401, "the mode of the file, not the default");
}

#[test]
fn a_configuration_from_a_pipe_is_read_at_the_start() {
    let folder = Folder::new();
    let log = File::create(folder.path("log")).expect("it is ours");
    let mut command = Command::new("bash");
    let script = "exec \"$0\" serve --listen 127.0.0.1:0 --log-format json \
                  --config <(printf '[drain]\\ndelay=\"0s\"\\n[limits]\\nbody_bytes_max = 7\\n')";
    command.args(["-c", script, env!("CARGO_BIN_EXE_fanfare")]).stderr(log);
    let reloaded = Reloaded { hub: Hub::spawn_as_it_is(command), folder };
    send_signal("HUP", reloaded.hub.pid());
    let line = wait_until("the refusal", || reloaded.lines().into_iter().find(|line| line["message"] == WRONG));
    assert!(line["error"].as_str().is_some_and(|error| error.contains("it is a pipe, which cannot be read")), "{line}");
    assert_eq!(reloaded.hub.post("/publish/t", "eight by").status, 413);
}

/// The log names the keys that take effect, and they do.
#[test]
fn a_longer_deny_list_takes_effect_and_is_reported_so() {
    let secret = "geheim, of thirty-two bytes or more, as HS256 demands";
    let folder = Folder::new();
    fs::write(folder.path("denied"), "").expect("it is ours");
    let config = format!(
        "[log]\nlevel = \"info\"\n[drain]\ndelay = \"0s\"\n[auth]\nmode = \"jwt\"\nsecret = \"{secret}\"\ndeny_file = \"denied\"\n"
    );
    let reloaded = Reloaded::start_in(folder, &config);
    let path = reloaded.folder.path("fanfare.toml");
    let made = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(["token", "--config", &path, "--sub", "mallory", "--subscribe", "**"])
        .output()
        .expect("the hub was just built");
    let bearer = format!("Bearer {}", stdout_of(&made).trim());
    let status = || reloaded.ask("/topics", &[("Authorization", &bearer)]).status;
    assert_eq!(status(), 200);
    fs::write(reloaded.folder.path("denied"), "sub = [\"mallory\"]\n").expect("it is ours");
    reloaded.reload(&config, "the report", |line| line["message"] == READ);
    assert_eq!(
        reloaded.said_of("auth.deny_file").0,
        "a key of the configuration has another value, which takes effect"
    );
    wait_until("it takes effect", || (status() == 401).then_some(()));
}
