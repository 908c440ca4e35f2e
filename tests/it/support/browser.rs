//! A page in headless Chromium.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{Folder, hub::Hub, packages::node_examples, page_server::PageServer, sse::SseClient};

/// Defines `report(…)`; reports are sent one after the other, in order.
const PROLOGUE: &str = r#"
let sent = Promise.resolve();
function report(...words) {
    const request = { method: "POST", body: JSON.stringify(words) };
    sent = sent.then(() => fetch(`${reports}/publish/report`, request));
}
addEventListener("error", event => report("script failed", event.message));
"#;

const FLAGS: [&str; 14] = [
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
    // The certificates of the tests' proxies are self-signed.
    "--ignore-certificate-errors",
    // Names that a browser does not take for this machine.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
];

/// Where a page comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    /// A server at this host. Names that end in `.example` are no loopback names.
    Host(&'a str),
    /// The same, but requests other than for files go to this hub, a `host:port`. So the page and the hub have one origin.
    InFrontOf(&'a str, &'a str),
    /// The disk: its origin is `null`.
    Disk,
}

/// A page in its own browser. It reports by publishing to a second hub, to which the test is subscribed.
#[derive(Debug)]
pub(crate) struct Page {
    browser: Child,
    reports: SseClient,
    _reports_hub: Hub,
    _folder: Folder,
}

impl Page {
    /// Runs `script` in a page in which `hub` is the URL of the tested hub.
    pub(crate) fn open(hub: &str, script: &str) -> Self {
        Self::open_from(From::Host("localhost"), hub, script)
    }

    /// The same in a page of another origin.
    pub(crate) fn open_from(from: From<'_>, hub: &str, script: &str) -> Self {
        Self::open_page(Folder::new(), from, "<!doctype html><meta charset=utf-8>", hub, script)
    }

    /// The same in a page that has the client library of Socket.IO.
    pub(crate) fn open_with_socketio(hub: &str, script: &str) -> Self {
        let (folder, library) = (Folder::new(), node_examples().join("node_modules/socket.io-client/dist"));
        symlink(library, folder.0.join("library")).expect("the folder is ours");
        let head = "<!doctype html><meta charset=utf-8><script src=library/socket.io.min.js></script>";
        Self::open_page(folder, From::Host("localhost"), head, hub, script)
    }

    /// Opens a page of `scripts/examples`, and then runs `script` in it.
    pub(crate) fn open_example(name: &str, from: From<'_>, hub: &str, script: &str) -> Self {
        let (folder, examples) = (Folder::new(), node_examples());
        for beside in ["page.css", "page.js", "node_modules"] {
            symlink(examples.join(beside), folder.0.join(beside)).expect("the folder is ours");
        }
        let text = fs::read_to_string(examples.join(name)).expect("there is such an example");
        Self::open_page(folder, from, &text, hub, script)
    }

    fn open_page(folder: Folder, from: From<'_>, text: &str, hub: &str, script: &str) -> Self {
        let reports_hub = Hub::start_with(&[], &[("cors.allow_origins", "*")]);
        let reports = SseClient::open(&reports_hub, "/sse?topic=report");
        let (page, profile) = (folder.path("page.html"), folder.path("profile"));
        let known = format!("const hub = \"{hub}\", reports = \"{}\";", reports_hub.url(0));
        fs::write(&page, format!("{text}<script>{known}{PROLOGUE}{script}</script>")).expect("the folder is ours");
        let serve = |host: &str, hub| format!("http://{host}:{}/page.html", PageServer::start(&folder.0, hub).port());
        let url = match from {
            From::Host(host) => serve(host, None),
            From::InFrontOf(host, hub) => serve(host, Some(hub)),
            From::Disk => format!("file://{page}"),
        };
        let mut command = Command::new("chromium");
        command.args(FLAGS).arg(format!("--user-data-dir={profile}")).arg(&url);
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
        // The browser may have ended already. Its children end with it.
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
