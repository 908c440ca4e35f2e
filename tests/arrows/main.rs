//! Checks the structure of the code: which part uses which, where sockets, threads, clocks and `unsafe` may be, and how long
//! files and functions are. Reads every source file, and says what is wrong where.

mod floors;
mod lexer;
mod paths;
mod protocols;
mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn the_code_keeps_its_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "bench", "scripts", ".ci"] {
        collect_files(&root.join(folder), &mut files);
    }
    assert!(20 < files.len(), "only {} files: is this the project's folder?", files.len());
    let mut faults = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let name = file.strip_prefix(root).expect("it was found there").to_string_lossy();
        faults.extend(rules::check_file(&name, &text));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            // Measurements are data, and may be long.
            Ok(kind) if kind.is_dir() && entry.path().ends_with("bench/results") => {}
            // Written by cargo.
            Ok(kind) if kind.is_file() && entry.file_name() == "Cargo.lock" => {}
            Ok(kind) if kind.is_dir() => collect_files(&entry.path(), files),
            // Nor does anybody write a lock file.
            Ok(kind) if kind.is_file() && !entry.path().ends_with("Cargo.lock") => files.push(entry.path()),
            _ => {}
        }
    }
}

#[track_caller]
fn check(file: &str, text: &str, expected: Option<&str>) {
    let faults = rules::check_file(file, text);
    match expected {
        Some(expected) => {
            assert!(faults.iter().any(|fault| fault.contains(expected)), "{file}: {text}: {faults:?}");
        }
        None => assert!(faults.is_empty(), "{file}: {text}: {faults:?}"),
    }
}

#[test]
fn planted_printers_that_panic_are_found() {
    check("src/main.rs", "fn f() {\n    eprintln!(\"{a}\");\n}", Some(":2: `eprintln!` panics"));
    check("src/main.rs", "fn print(a: &str) { print(\"println!\"); }", None);
}

#[test]
fn planted_uses_of_a_higher_floor_are_found() {
    let check = |file: &str, text: &str, expected| check(&format!("src/hub/endpoint/{file}"), text, expected);
    check("work.rs", "use super::gate::access;", Some(":1: endpoint::work must not use endpoint::gate"));
    check("gate/cors.rs", "use crate::endpoint::{Answer, CommandOutcome};", Some("gate must not use endpoint::native"));
    check("gate/cors.rs", "use crate::endpoint::{Answer, Context, Overload};", None);
    check("native/mod.rs", "use crate::endpoint::dispatch::finish;", Some("native must not use endpoint::dispatch"));
    check("native/mod.rs", "use super::{batch::Batch, compat::esp, gate::access};", None);
    check("compat/esp/wells.rs", "use super::super::super::answer;", Some("compat must not use endpoint::dispatch"));
    check(
        "batch.rs",
        "fn f() { crate::endpoint::native::health::stats(); }",
        Some("batch must not use endpoint::native"),
    );
    check("hub.rs", "use crate::endpoint::{Cors, socket_io::recovery::Recovery};", None);
    check("hub.rs", "use crate::endpoint::socket_io::recovery::recover;", Some("hub must not use endpoint::socket_io"));
    check("hub.rs", "use crate::endpoint::Unknown;", Some("endpoint::Unknown is neither a file nor a name"));
    check("newcomer.rs", "use crate::endpoint::Answer;", Some("endpoint::newcomer is on no floor"));
    check("dispatch.rs", "use crate::endpoint::{gate::access, native::stream};", None);
    check("mod.rs", "pub use dispatch::answer;", None);
}

#[test]
fn planted_names_of_protocols_are_found() {
    let check = |file: &str, text: &str, expected| check(&format!("src/hub/{file}"), text, expected);
    let reactor = "the reactor, outside engine/, must name no protocol";
    check(
        "reactor/inbound.rs",
        "use crate::protocol::{PeerInput, websocket::Accepted};",
        Some("no protocol: websocket"),
    );
    check("reactor/inbound.rs", "use crate::protocol::{PeerInput, Message, Session, http::Request};", None);
    check("reactor/mod.rs", "use crate::protocol::SseOpening;", Some(reactor));
    check("reactor/fan_out/visit.rs", "use fanfare_core::protocol::fanfare_v1;", Some(reactor));
    check("reactor/timers.rs", "fn f() { g(Transport::SocketIo) }", Some("no protocol: SocketIo"));
    check("reactor/timers.rs", "fn f() { g(Transport::Http, Transport::ALL, Transport::default()) }", None);
    check("reactor/gaps.rs", "if let Ok(Session::Sse(stream)) = session {}", Some("no protocol: Sse"));
    check("reactor/gaps.rs", "fn f(a: SubscribeReason) { a == SubscribeReason::Opening }", None);
    check("reactor/engine/mod.rs", "use crate::protocol::{EngineSession, engine_io};", None);
    check("endpoint/gate/cors.rs", "use crate::protocol::sse;", Some("the gate must name no protocol: sse"));
    check("endpoint/dispatch.rs", "use crate::protocol::WebSocketOpening;", Some("no protocol: WebSocketOpening"));
    check("endpoint/native/stream.rs", "use crate::protocol::{SseOpening, sse::wants_initial_id};", None);
}

/// A check must be able to fail: each of these faults must be found.
#[test]
fn planted_faults_are_found() {
    check(
        "src/core/protocol/http/head.rs",
        "use crate::bus::Bus;",
        Some("src/core/protocol/http/head.rs:1: protocol must not use bus"),
    );
    check(
        "src/core/protocol/http/head.rs",
        "\nuse crate::{\n    close::Close,\n    bus::{self, Bus},\n};",
        Some(":4: protocol must not use bus"),
    );
    check("src/core/protocol/http/head.rs", "use crate::{close::Close, topic};", None);
    check("src/core/protocol/http/head.rs", "fn f() { crate::reactor::run(); }", Some("protocol must not use reactor"));
    check(
        "src/core/protocol/http/head.rs",
        "use super::super::super::reactor::Net;",
        Some("protocol must not use reactor"),
    );
    check("src/core/protocol/http/mod.rs", "use super::super::reactor::Net;", Some("protocol must not use reactor"));
    check("src/core/protocol/http/mod.rs", "use super::sse;", None);
    check("src/core/protocol/http/head.rs", "use super::super::sse;", None);
    check("src/core/event.rs", "use super::bus;", Some("event must not use bus"));
    check("src/core/event.rs", "use crate::topic::Topic;", None);
    check("src/tools/publish.rs", "use fanfare::reactor::Reactor as R;", Some("tools must not use reactor"));
    check("src/tools/publish.rs", "use crate::protocol::http;", None);
    check("src/hub/endpoint/health.rs", "use mio::Poll;", Some("endpoint must not use mio"));
    check("src/hub/reactor/mio_net.rs", "use mio::Poll;", None);
    check("src/hub/reactor/turn.rs", "use crate::config::Config;", Some("reactor must not use config"));
    check("src/core/protocol/sse/mod.rs", "use std::{fmt, net::TcpStream};", Some("protocol must not use std::net"));
    check("src/core/log/ring.rs", "fn f() { std::thread::yield_now(); }", Some("log must not use std::thread"));
    check("src/core/log/ring.rs", "let now = std::time::Instant::now();", Some("log must not read a clock"));
    check(
        "src/hub/bus/mod.rs",
        "use std::time::SystemTime;\nlet now = SystemTime::now();",
        Some(":2: bus must not read a clock"),
    );
    check("src/core/clock.rs", "let now = Instant::now();", None);
    check("src/main.rs", "use fanfare::server;", None);
    check(
        "src/hub/config/meant.rs",
        "use crate::protocol::http::parse;",
        Some("config may use only what configures protocol"),
    );
    check("src/hub/config/meant.rs", "use crate::protocol::http::HttpLimits;", None);
    check("src/hub/newcomer/mod.rs", "", Some("newcomer is not in the table of arrows"));
    check("src/core/event.rs", "fn f() { unsafe { g() } }", Some("unsafe belongs in src/platform/os.rs"));
    check("src/platform/os.rs", "fn f() { unsafe { g() } }", None);
    check("src/core/event.rs", "// unsafe, bus: only words\nlet a = \"use crate::bus;\";", None);
    check("src/core/event.rs", "let a = r#\"use crate::bus; \"unsafe\"\"#; let b = '\"'; let c: &'a str;", None);
    check("src/core/event.rs", "/* use crate::bus; /* unsafe */ */", None);
    check("src/core/event.rs", "let q = '\\''; use crate::bus;", Some("event must not use bus"));
    check("src/core/log/tests.rs", "use std::thread; use crate::bus;", None);
    check("src/core/log/tests/slow.rs", "use std::thread;", None);
    check("src/core/log/ring.rs", "#[cfg(test)]\nmod tests {\n use std::thread;\n}", None);
    check(
        "src/core/log/ring.rs",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse std::thread;",
        Some(":3: log must not use std::thread"),
    );
    check("src/core/event.rs", &"//\n".repeat(701), Some("has 701 lines"));
    check("src/core/event.rs", &format!("fn long() {{\n{}}}", "a();\n".repeat(70)), Some("`long` has 72 lines"));
    check("src/core/event.rs", &format!("fn a() {{\n{}}}\nfn b();\nfn c() {{}}", "a();\n".repeat(60)), None);
    check("scripts/check", concat!("# TO", "DO: later"), Some(concat!("TO", "DO")));
    check("src/core/event.rs", concat!("to", "do!()"), Some(concat!("to", "do!")));
}
