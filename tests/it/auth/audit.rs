//! The audit: who signed in and how, who was refused and why, whose rights were withdrawn, and what operators did.

use std::{collections::BTreeMap, fmt, fs, process::Command};

use fanfare_core::protocol::http::Method;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use super::{SECRET, ask, claims, log_in, sign, status_of, token_of, unix_s, with, write_users};
use crate::support::{
    Folder,
    http::HttpConnection,
    hub::Hub,
    send_signal,
    socket_io::{Carried, SocketClient},
    sse::SseClient,
    wait_until,
    websocket::WebSocketClient,
};

const KEY: &str = "0123456789abcdef-secret-of-a-key";

/// An object in which no member comes twice.
#[derive(Debug)]
struct Line(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strict;
        impl<'de> Visitor<'de> for Strict {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    assert_eq!(members.insert(name.clone(), value), None, "{name} comes twice");
                }
                Ok(Line(members))
            }
        }
        deserializer.deserialize_map(Strict)
    }
}

impl Line {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("-")
    }

    /// These members in one text, with `-` for those that are missing.
    fn show(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.get(name)).collect::<Vec<_>>().join(" ")
    }
}

/// A hub with an audit in `folder`, users, an API key and a deny list.
fn start_in(folder: &Folder, more: &str) -> Hub {
    let write = |name: &str, text: &str| fs::write(folder.path(name), text).expect("the folder is writable");
    write_users(folder, "");
    write("denied.toml", "");
    let config = format!(
        "[audit]\nto = \"audit.jsonl\"\n{more}\n[auth]\nmode = \"jwt\"\nsecret = \"{SECRET}\"\ndeny_file = \"denied.toml\"\n\
         [[auth.rule]]\nclaim = \"roles\"\nvalue = \"ops\"\nsubscribe = [\"wells.*\"]\n[users]\nfile = \"users.toml\"\n\
         [[api_keys]]\nname = \"ingest\"\nkey = \"{KEY}\"\npublish = [\"a.*\"]\n"
    );
    write("fanfare.toml", &config);
    Hub::start_with(&["--config", &folder.path("fanfare.toml"), "--reactors", "2", "--demo"], &[("drain.delay", "0s")])
}

fn lines(folder: &Folder) -> Vec<Line> {
    let text = fs::read_to_string(folder.path("audit.jsonl")).expect("it is there, and UTF-8");
    // The last line may be under way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines: Vec<Line> = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for (number, line) in (1..).zip(&lines) {
        assert_eq!((&line.0["schema"], &line.0["line"]), (&json!(1), &json!(number)), "{line:?}");
        let time = line.get("time");
        assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
        assert!(!line.get("hub").is_empty());
    }
    lines
}

/// The lines of `kind`, once there are `count`.
#[track_caller]
fn wait_for(folder: &Folder, kind: &str, count: usize, names: &[&str]) -> Vec<String> {
    let shown = || -> Vec<String> {
        lines(folder).iter().filter(|line| line.get("kind") == kind).map(|line| line.show(names)).collect()
    };
    wait_until(&format!("{count} lines of {kind}"), || {
        let shown = shown();
        assert!(shown.len() <= count, "{shown:?}");
        (shown.len() == count).then_some(shown)
    })
}

#[test]
fn sign_ins_are_recorded_with_who_and_how() {
    let folder = Folder::new();
    let hub = start_in(&folder, "");
    let claims = with(with(with(claims(), "jti", "t1"), "iss", "id"), "roles", json!(["ops"]));
    let token = sign(&claims);
    let bearer = format!("Bearer {token}");
    let stream = SseClient::open(&hub, &format!("/sse?topic=a.b&topic=wells.1&token={token}"));
    let raw = WebSocketClient::open(&hub, &format!("/ws?topic=a.b&token={token}"));
    let mut v1 = WebSocketClient::open_v1(&hub, "/ws");
    assert_eq!(v1.ask(&json!({ "op": "auth", "token": token }))["op"], "authenticated");
    let mut carried = Carried::open(&hub);
    carried.enter_with(&json!({ "token": token }));
    // The same client on one connection and on another, and another client.
    let mut connection = HttpConnection::new(hub.connect());
    for _ in 0..3 {
        assert_eq!(connection.request(Method::Post, "/publish/a.b", &[("Authorization", &bearer)], b"x").status, 200);
    }
    assert_eq!(ask(&hub, Method::Get, "/topics", &[("Authorization", &bearer)], "").status, 200);
    assert_eq!(ask(&hub, Method::Post, "/publish/a.b", &[("X-API-Key", KEY)], "x").status, 200);
    let of_login = token_of(&log_in(&hub, "correct"));
    assert_eq!(ask(&hub, Method::Get, "/topics", &[("Authorization", &format!("Bearer {of_login}"))], "").status, 200);
    let names = ["credential", "subject", "issuer", "token_id", "peer", "transport", "route"];
    let shown = wait_for(&folder, "sign_in", 8, &names);
    let login_id = lines(&folder).last().expect("nine").get("token_id").to_owned();
    let expected = [
        "token ann id t1 127.0.0.1 sse sse",
        "token ann id t1 127.0.0.1 websocket ws",
        "token ann id t1 127.0.0.1 websocket -",
        "token ann id t1 127.0.0.1 socketio -",
        "token ann id t1 127.0.0.1 http publish",
        "api_key ingest - - 127.0.0.1 http publish",
        "password ann - - 127.0.0.1 http auth",
        &format!("token ann - {login_id} 127.0.0.1 http topics"),
    ];
    assert_eq!(shown, expected);
    let all = lines(&folder);
    let rules: Vec<&Value> = all[1..].iter().map(|line| line.0.get("rules").unwrap_or(&Value::Null)).collect();
    let [by_rule, api_keys, users] = [json!(["auth.rule 1"]), json!(["api_keys"]), json!(["users.file"])];
    assert_eq!(rules, [&by_rule, &by_rule, &by_rule, &by_rule, &by_rule, &api_keys, &Value::Null, &users]);
    assert_eq!(all[1].0["topics"], json!(["a.b", "wells.1"]));
    drop((stream, raw, v1, carried));
}

#[test]
fn refusals_are_recorded_with_why_and_without_what_was_shown() {
    let folder = Folder::new();
    let hub = start_in(&folder, "");
    let token = sign(&claims());
    let bearer = format!("Bearer {token}");
    let marked = "marked-as-secret-in-this-test";
    assert_eq!(status_of(&hub, "/sse?topic=a.b", &[]), 401);
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={marked}"), &[]), 401);
    assert_eq!(status_of(&hub, "/topics", &[("X-API-Key", marked)]), 401);
    assert_eq!(status_of(&hub, "/topics", &[("Cookie", &format!("fanfare_token={marked}"))]), 401);
    assert_eq!(status_of(&hub, "/sse?topic=b.c&topic=a.b", &[("Authorization", &bearer)]), 403);
    assert_eq!(ask(&hub, Method::Post, "/publish/b.c", &[("Authorization", &bearer)], marked).status, 403);
    // So long that it is checked in later turns.
    let entry = |topic: &str| json!({ "topic": topic, "data": "x".repeat(1000) }).to_string();
    let batch = [vec![entry("a.b"); 100], vec![entry("b.c")]].concat().join("\n");
    assert_eq!(ask(&hub, Method::Post, "/publish", &[("Authorization", &bearer)], &batch).status, 403);
    let expired = sign(&with(claims(), "exp", unix_s() - 60));
    assert_eq!(ask(&hub, Method::Get, "/topics", &[("Authorization", &format!("Bearer {expired}"))], "").status, 401);
    // A password in the field of the name.
    let body = json!({ "username": marked, "password": marked }).to_string();
    assert_eq!(ask(&hub, Method::Post, "/api/v1/auth/login", &[], &body).status, 401);
    assert_eq!(log_in(&hub, marked).status, 401);
    let mut v1 = WebSocketClient::open_v1(&hub, &format!("/ws?token={token}"));
    assert_eq!(v1.ask(&json!({ "op": "subscribe", "topic": "b.c" }))["op"], "error");
    assert_eq!(v1.ask(&json!({ "op": "auth", "token": marked }))["op"], "error");
    assert_eq!(status_of(&hub, &format!("/api/v1/events/stream/default?token={marked}"), &[]), 401);
    let names = ["reason", "credential", "subject", "transport", "route"];
    let expected = [
        "token_missing - - http sse",
        "token_invalid - - http sse",
        "token_invalid - - http topics",
        "cookie_refused - - http topics",
        "forbidden token ann http sse",
        "forbidden token ann http publish",
        "forbidden token ann http publish",
        "token_expired - - http topics",
        "bad_password password - http auth",
        "bad_password password ann http auth",
        "forbidden token ann websocket -",
        "token_invalid token ann websocket -",
        "token_invalid - - http events",
    ];
    assert_eq!(wait_for(&folder, "refusal", expected.len(), &names), expected);
    let topics: Vec<Value> = lines(&folder)
        .iter()
        .filter(|line| line.get("reason") == "forbidden")
        .map(|line| line.0.get("topics").cloned().unwrap_or_default())
        .collect();
    assert_eq!(topics, [json!(["b.c", "a.b"]), json!(["b.c"]), Value::Null, json!(["b.c"])]);
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"forbidden\"}"), 4.0);
    let text = fs::read_to_string(folder.path("audit.jsonl")).expect("it is there");
    for secret in [token.as_str(), &expired, marked, SECRET, KEY, "correct"] {
        let signature = secret.rsplit('.').next().expect("there is always one");
        assert!(!text.contains(signature), "{secret} is in the audit:\n{text}");
    }
}

#[test]
fn revocations_and_acts_of_operators_are_recorded() {
    let folder = Folder::new();
    let hub = start_in(&folder, "");
    let (bearer, admin) = (sign(&with(claims(), "jti", "t1")), sign(&with(claims(), "role", "admin")));
    let stream = SseClient::open(&hub, &format!("/sse?topic=a.b&token={bearer}"));
    let admin = format!("Bearer {admin}");
    for act in ["start", "stop"] {
        let target = format!("/api/v1/events/stream/mine/{act}");
        assert_eq!(ask(&hub, Method::Post, &target, &[("Authorization", &admin)], "").status, 200);
    }
    fs::write(folder.path("denied.toml"), "jti = [\"t1\"]\n").expect("the folder is writable");
    send_signal("HUP", hub.pid());
    let names = ["reason", "subject", "token_id", "peer", "transport"];
    assert_eq!(wait_for(&folder, "revocation", 1, &names), ["user_revoked ann t1 127.0.0.1 sse"]);
    let mut v1 = WebSocketClient::open_v1(&hub, &format!("/ws?topic=a.b&token={}", sign(&claims())));
    v1.send(&json!({ "op": "auth", "token": sign(&with(claims(), "subscribe", json!([]))) }).to_string());
    assert_eq!(v1.close_code(), Some(1008));
    let expected = ["user_revoked ann t1 127.0.0.1 sse", "forbidden ann - 127.0.0.1 websocket"];
    assert_eq!(wait_for(&folder, "revocation", 2, &names), expected);
    // What is wrong changes nothing, and is recorded; the file is opened again all the same.
    fs::write(folder.path("denied.toml"), "jti = 1\n").expect("the folder is writable");
    fs::rename(folder.path("audit.jsonl"), folder.path("audit.jsonl.1")).expect("it is there");
    send_signal("HUP", hub.pid());
    wait_until("the file is opened again", || fs::metadata(folder.path("audit.jsonl")).ok());
    let ended = hub.terminate();
    assert!(ended.success(), "{ended}");
    drop(stream);
    let text = ["audit.jsonl.1", "audit.jsonl"].map(|name| fs::read_to_string(folder.path(name)).expect("it is there"));
    fs::write(folder.path("audit.jsonl"), text.concat()).expect("the folder is writable");
    let expected = [
        "start - -",
        "generator_start ann http",
        "generator_stop ann http",
        "reload - -",
        "reload_refused - -",
        "drain - -",
        "stop - -",
    ];
    assert_eq!(wait_for(&folder, "admin", expected.len(), &["action", "subject", "transport"]), expected);
    let all = lines(&folder);
    let keys: Vec<&Value> = all.iter().filter_map(|line| line.0.get("keys")).collect();
    assert_eq!(keys, [&json!(["auth.deny_file"])]);
}

#[test]
fn a_hostile_subject_forges_nothing() {
    let folder = Folder::new();
    let hub = start_in(&folder, "text_bytes_max = 32");
    let forged = "x\n{\"schema\":1,\"line\":9,\"kind\":\"admin\",\"action\":\"stop\"}\n\",\"role\":\"admin\"";
    for subject in [forged, &"é\u{1b}[2J\u{202e}".repeat(300)] {
        let token = sign(&with(claims(), "sub", subject));
        assert_eq!(status_of(&hub, "/topics", &[("Authorization", &format!("Bearer {token}"))]), 200);
    }
    assert_eq!(wait_for(&folder, "sign_in", 2, &["role"]), ["-", "-"]);
    let all = lines(&folder);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[1..].iter().all(|line| line.0["cut"] == true && line.get("subject").len() <= 32), "{all:?}");
    let text = fs::read(folder.path("audit.jsonl")).expect("it is there");
    assert!(text.iter().all(|byte| *byte == b'\n' || !byte.is_ascii_control()));
}

#[test]
fn what_is_left_out_and_what_comes_too_fast_is_not_there() {
    let folder = Folder::new();
    let hub = start_in(&folder, "leave_out = [\"peer\", \"subject\", \"sign_in\"]\nrefusals_per_second_max = 1");
    let bearer = format!("Bearer {}", sign(&claims()));
    let mut connection = HttpConnection::new(hub.connect());
    assert_eq!(connection.request(Method::Get, "/topics", &[("Authorization", &bearer)], b"").status, 200);
    for _ in 0..20 {
        let answer = connection.request(Method::Get, "/topics/b.c", &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, 403);
    }
    let dropped = wait_until("each one is written or told of", || {
        let lines = lines(&folder);
        let told: u64 = lines.iter().filter_map(|line| line.0.get("dropped")?.as_u64()).sum();
        let written = lines.iter().filter(|line| line.get("kind") == "refusal").count() as u64;
        (0 < told && told + written == 20).then_some(told)
    });
    assert_eq!(hub.metric("fanfare_audit_dropped_total"), dropped as f64);
    let text = fs::read_to_string(folder.path("audit.jsonl")).expect("it is there");
    assert!(!text.contains("127.0.0.1") && !text.contains("ann") && !text.contains("sign_in"), "{text}");
}

/// The audit goes where nobody reads, until the pipe is full. The hub answers as before.
#[test]
fn nobody_waits_for_the_audit() {
    let folder = Folder::new();
    let pipe = folder.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is a part of coreutils");
    let mut command = Command::new("sh");
    // The shell only redirects standard error; it replaces itself with the hub.
    command.args(["-c", "exec \"$0\" serve --listen 127.0.0.1:0 2<>\"$1\"", env!("CARGO_BIN_EXE_fanfare"), &pipe]);
    let settings = [
        ("auth.mode", "jwt"),
        ("auth.secret", SECRET),
        ("audit.to", "stderr"),
        ("audit.queue_bytes_max", "4KiB"),
        ("audit.refusals_per_second_max", "1000000"),
        ("server.stuck_after", "100ms"),
    ];
    let hub = Hub::spawn(command, &settings);
    let bearer = format!("Bearer {}", sign(&claims()));
    let mut connection = HttpConnection::new(hub.connect());
    wait_until("lines do not fit", || {
        let answer = connection.request(Method::Get, "/topics/b.c", &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, 403);
        (0.0 < hub.metric("fanfare_audit_dropped_total")).then_some(())
    });
    let written = hub.metric("fanfare_audit_lines_total");
    assert!(100.0 < written, "{written} lines fill a pipe of 64 KiB");
    for _ in 0..200 {
        let answer = connection.request(Method::Get, "/topics/b.c", &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, 403);
    }
    assert!(200.0 <= hub.metric("fanfare_audit_dropped_total"));
    assert_eq!(hub.metric("fanfare_audit_lines_total"), written, "nobody has read");
    let ended = hub.terminate();
    assert!(ended.success(), "it waits only so long: {ended}");
}

#[test]
fn an_audit_that_cannot_be_written_is_refused_at_the_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("FANFARE_AUDIT__TO", "/nowhere/audit.jsonl");
    let wrong = Hub::refusal(command);
    assert!(wrong.contains("audit.to: /nowhere/audit.jsonl cannot be opened to append to it: No such file"), "{wrong}");
}
