//! `fanfare bench` as a process: its output, and what it has written when it is interrupted.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Folder, hub::Hub, send_signal};

#[test]
fn an_interrupted_run_leaves_a_void_report() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let (json, html) = (folder.path("a.json"), folder.path("a.html"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bench", "--url", hub.url(0), "--subscribers", "3", "--rate", "50", "--duration", "10m"]);
    command.args(["--warmup", "200ms", "--json", &json, "--html", &html, "--label", "<b>mine"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it was just built");
    let stderr = child.stderr.take().expect("it was just asked for");
    let mut is_sent = false;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        assert!(!line.contains('\x1b'), "{line:?}");
        // Live figures show that it has begun to measure.
        if line.starts_with("measuring") && line.contains("p99") && !is_sent {
            send_signal("INT", child.id());
            is_sent = true;
        }
    }
    assert_eq!(child.wait().expect("a child of ours").code(), Some(130));
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    let first = report["void"][0].as_str().expect("a reason");
    assert!(first.starts_with("interrupted after "), "{report}");
    let topic = &report["topics"][0];
    assert!(topic["deliveries"].as_u64().is_some_and(|count| 0 < count), "{topic}");
    assert_eq!(topic["faults"]["lost"], 0, "what was never sent is not lost");
    let slices = topic["slices"].as_array().expect("slices");
    let sum: u64 = slices.iter().filter_map(|slice| slice["deliveries"].as_u64()).sum();
    assert_eq!(topic["deliveries"], sum);
    let page = fs::read_to_string(&html).expect("written");
    assert!(
        page.contains("&lt;b&gt;mine") && page.contains("Void: interrupted") && !page.contains("<b>mine"),
        "{page}"
    );
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("@import"), "{page}");
}
