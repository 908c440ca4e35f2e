//! A page in headless Chromium.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Folder, hub::Hub, sse::SseClient};

/// Defines `report(…)`; reports are sent one after the other, in order.
const PROLOGUE: &str = r#"
let sent = Promise.resolve();
function report(...words) {
    const request = { method: "POST", body: JSON.stringify(words) };
    sent = sent.then(() => fetch(`${reports}/publish/report`, request));
}
addEventListener("error", event => report("script failed", event.message));
"#;

const FLAGS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    // Those of the tests' proxies are signed by themselves.
    "--ignore-certificate-errors",
];

/// A page in a browser of its own. It tells what it sees by publishing it to a second hub, where the test listens.
#[derive(Debug)]
pub(crate) struct Page {
    browser: Child,
    reports: SseClient,
    _reports_hub: Hub,
    _folder: Folder,
}

impl Page {
    /// Runs `script` in a page that knows `hub`, the URL of the hub it is about.
    pub(crate) fn open(hub: &str, script: &str) -> Self {
        let (folder, reports_hub) = (Folder::new(), Hub::start());
        let reports = SseClient::open(&reports_hub, "/sse?topic=report");
        let (page, profile) = (folder.path("page.html"), folder.path("profile"));
        let known = format!("const hub = \"{hub}\", reports = \"{}\";", reports_hub.url(0));
        let text = format!("<!doctype html><meta charset=utf-8><script>{known}{PROLOGUE}{script}</script>");
        std::fs::write(&page, text).expect("the folder is ours");
        let mut command = Command::new("chromium");
        command.args(FLAGS).arg(format!("--user-data-dir={profile}")).arg(format!("file://{page}"));
        let started =
            command.env("HOME", &folder.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let browser = started
            .unwrap_or_else(|error| panic!("cannot run chromium: {error}; install it: apt-get install chromium"));
        Self { browser, reports, _reports_hub: reports_hub, _folder: folder }
    }

    /// The next report of the page.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        let text = self.reports.next_data();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next report of the page must be this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: Value) {
        assert_eq!(self.next(), expected);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended already; its own children end with it.
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
