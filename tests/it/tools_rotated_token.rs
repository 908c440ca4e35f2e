//! A token file whose content changes while a tool runs: new connections use the new token.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use fanfare_core::protocol::http::Method;

use crate::support::{
    Folder,
    guarded::{Guarded, mint_token},
    relay::Relay,
    wait_until,
};

/// A hub, and the file with a token for it.
struct Site {
    guarded: Guarded,
    folder: Folder,
}

impl Site {
    /// Idle connections are closed soon, so that another request needs another connection.
    fn start() -> Self {
        let guarded = Guarded::start("1h", &[], &[("limits.idle_timeout", "50ms")]);
        let site = Self { guarded, folder: Folder::new() };
        site.rotate(site.guarded.admin_token());
        site
    }

    fn rotate(&self, token: &str) {
        fs::write(self.folder.path("token"), token).expect("the folder is ours");
    }

    fn tool(&self, arguments: &[&str]) -> Tool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(arguments).args(["--token-file", &self.folder.path("token")]).env_remove("FANFARE_TOKEN");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Tool(command.spawn().expect("it was just built"))
    }

    /// A figure of `/metrics`, all labels together.
    fn sum(&self, name: &str) -> f64 {
        let text = self.guarded.request(Method::Get, "/metrics", "").text();
        let series = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

/// A token that no hub accepts.
const WRONG: &str = "no.such.token";

/// A tool that is ended when dropped.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Tool {
    /// Waits for the end, which a refusal must cause. The output fits into the pipes.
    #[track_caller]
    fn check_refused(mut self) {
        let status = wait_until("the tool ends", || self.0.try_wait().expect("it is our child"));
        let mut said = String::new();
        let outputs: [Option<Box<dyn Read>>; 2] =
            [self.0.stdout.take().map(|it| Box::new(it) as _), self.0.stderr.take().map(|it| Box::new(it) as _)];
        for mut output in outputs.into_iter().flatten() {
            output.read_to_string(&mut said).expect("it writes UTF-8");
        }
        assert!(status.code() == Some(1) && said.contains("401"), "{said}");
        assert!(!said.contains(WRONG), "{said}");
    }
}

#[test]
fn a_stream_that_comes_back_shows_it() {
    let site = Site::start();
    let relay = Relay::start(site.guarded.hub.address());
    let subscriber = site.tool(&["subscribe", &format!("http://{}", relay.address()), "--topic", "t", "--json"]);
    let wait_for = |count: u64| wait_until("its stream", || (site.guarded.listeners("t") == count).then_some(()));
    wait_for(1);
    site.rotate(WRONG);
    relay.cut();
    wait_for(0);
    relay.restore();
    subscriber.check_refused();
}

#[test]
fn a_producer_shows_it() {
    let site = Site::start();
    let mut producer = site.tool(&["produce", "-u", site.guarded.hub.url(0), "-f", "5", "--progress", "1"]);
    let mut first = String::new();
    let mut lines = BufReader::new(producer.0.stdout.take().expect("it was asked for"));
    while !first.starts_with("Generated 1 ") {
        first.clear();
        assert_ne!(lines.read_line(&mut first).expect("it writes UTF-8"), 0);
    }
    site.rotate(WRONG);
    producer.check_refused();
}

#[test]
fn a_load_shows_it() {
    let site = Site::start();
    let line = ["load", "-m", "producer", "-s", site.guarded.hub.url(0), "-c", "1", "-t", "10", "-d", "300"];
    let load = site.tool(&line);
    wait_until("a token", || (1.0 <= site.sum("fanfare_events_received_total")).then_some(()));
    site.rotate(WRONG);
    load.check_refused();
}

/// A connection may outlive its token: publications over it use the token that the file has by then.
#[test]
fn publishing_outlives_a_token() {
    let guarded = Guarded::start("1h", &[], &[]);
    let site = Site { guarded, folder: Folder::new() };
    site.rotate(&mint_token(&["--sub", "short", "--publish", "**", "--ttl", "2s"]));
    let url = site.guarded.hub.url(0);
    let lines: [&[&str]; 3] = [
        &["produce", "-u", url, "-f", "10", "-d", "4"],
        &["load", "-m", "producer", "-s", url, "-c", "1", "-t", "40", "-d", "100"],
        &["publish", "--url", url, "--topic", "t", "--type", "x", "--count", "40", "--rate", "10"],
    ];
    let mut tools = lines.map(|line| site.tool(line));
    wait_until("all publish", || (6.0 < site.sum("fanfare_events_received_total")).then_some(()));
    site.rotate(site.guarded.admin_token());
    for (tool, line) in tools.iter_mut().zip(lines) {
        let status = wait_until("the tool ends", || tool.0.try_wait().expect("it is our child"));
        let mut said = String::new();
        tool.0.stderr.take().expect("it was asked for").read_to_string(&mut said).expect("it writes UTF-8");
        let refused = said.matches("401").count();
        // Publications are in flight when the first refusal arrives.
        assert!(status.success() || line[0] == "load" && refused < 3, "{line:?}: {said}");
    }
    let all = 40.0 * 3.0;
    assert!(all - 3.0 <= site.sum("fanfare_events_received_total"), "{}", site.sum("fanfare_events_received_total"));
}

#[test]
fn clients_that_connect_during_a_bench_use_it() {
    let site = Site::start();
    let line = ["bench", "--url", site.guarded.hub.url(0), "--subscribers", "1", "--churn", "20", "--duration", "10m"];
    let _bench = site.tool(&line);
    wait_until("somebody comes", || (1 < site.guarded.listeners("bench")).then_some(()));
    assert_eq!(site.sum("fanfare_auth_failures_total"), 0.0);
    site.rotate(WRONG);
    wait_until("somebody is refused", || (0.0 < site.sum("fanfare_auth_failures_total")).then_some(()));
    // The tool is also admitted again.
    site.rotate(site.guarded.admin_token());
    let opened = || site.sum("fanfare_connects_total");
    let before = opened();
    wait_until("somebody comes again", || (before + 3.0 < opened()).then_some(()));
}
