//! Other projects' readers of metrics: a Prometheus server, its `promtool`, and the parsers of the Python client library.

use std::{
    fs::{self, File},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
};

use fanfare_core::protocol::http::Method;

use super::{
    Folder, TIMEOUT,
    http::{HttpConnection, Response},
    packages::SYSTEM_PYTHON,
    redis::{HOST, free_port},
    stdout_of, wait_until,
};

/// The one form, as every scraper may get it.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The other, as a Prometheus server asks for it.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reads standard input with the parser that the argument names. Also fails on what the parser accepts: a family that comes twice,
/// and a histogram that does not end in `+Inf` with all its values. Prints the families' names.
const PARSE: &str = r#"
import sys
from prometheus_client import parser
from prometheus_client.openmetrics import parser as open_metrics

parse = {"text": parser, "open": open_metrics}[sys.argv[1]].text_fd_to_metric_families
names = []
for family in parse(sys.stdin):
    assert family.name not in names, f"{family.name} comes twice"
    assert family.documentation, f"{family.name} has no help"
    names.append(family.name)
    ends, counts = {}, {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        series = tuple(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            ends[series] = (sample.labels["le"], sample.value)
        elif sample.name.endswith("_count"):
            counts[series] = ("+Inf", sample.value)
    assert family.type != "histogram" or ends == counts, f"{family.name}: {ends} {counts}"
print("\n".join(names))
"#;

/// Other projects' parsers read all forms that `fetch` gets for an `Accept` field. Returns the families' names.
#[track_caller]
pub(crate) fn check_exposition(fetch: impl Fn(Option<&str>) -> Response) -> Vec<String> {
    let mut names = Vec::new();
    let asked = [(None, TEXT), (Some("*/*"), TEXT), (Some(TEXT), TEXT), (Some(OPEN_METRICS), OPEN_METRICS)];
    for (accept, expected) in asked {
        let response = fetch(accept);
        assert_eq!((response.status, response.header("Content-Type")), (200, Some(expected)), "{accept:?}");
        let text = response.text();
        assert_eq!(text.ends_with("# EOF\n"), expected == OPEN_METRICS);
        let mut python = Command::new(SYSTEM_PYTHON);
        let form = if expected == TEXT { "text" } else { "open" };
        let parsed = read_by(python.args(["-c", PARSE, form]), &text, "python3-prometheus-client");
        names.extend(stdout_of(&parsed).lines().map(str::to_owned));
        if expected == TEXT {
            // It also prints warnings that are no errors.
            let checked = read_by(Command::new("promtool").args(["check", "metrics"]), &text, "prometheus");
            let complaints = String::from_utf8_lossy(&checked.stderr).into_owned() + &stdout_of(&checked);
            assert_eq!(complaints, "", "{text}");
        }
    }
    names
}

/// Runs `command` with `text` on its standard input.
#[track_caller]
fn read_by(command: &mut Command, text: &str, package: &str) -> Output {
    let folder = Folder::new();
    fs::write(folder.path("metrics"), text).expect("it is ours");
    let input = File::open(folder.path("metrics")).expect("it was just written");
    let output = command.stdin(input).output();
    output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}; install it: apt-get install {package}"))
}

/// A Prometheus server that scrapes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    address: String,
    _folder: Folder,
}

impl Prometheus {
    /// One that scrapes `/metrics` of the targets, each a `host:port`, five times a second.
    pub(crate) fn start(targets: &[&str]) -> Self {
        let (folder, address) = (Folder::new(), format!("{HOST}:{}", free_port()));
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs:\n- job_name: fanfare\n  static_configs: [{{targets: {targets:?}}}]\n"
        );
        fs::write(folder.path("prometheus.yml"), config).expect("it is ours");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.path("prometheus.yml")));
        command.arg(format!("--storage.tsdb.path={}", folder.path("data")));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("cannot run prometheus: {error}; install it: apt-get install --no-install-recommends prometheus")
        });
        let server = Self { child, address, _folder: folder };
        wait_until("Prometheus is ready", || {
            TcpStream::connect(&server.address).is_ok_and(|_| server.get("/-/ready").status == 200).then_some(())
        });
        server
    }

    /// Waits until `query` (PromQL) has a value for which `is_it` is true. Returns the first one.
    #[track_caller]
    pub(crate) fn wait_for(&self, query: &str, is_it: impl Fn(f64) -> bool) -> f64 {
        wait_until(query, || {
            let answer = self.get(&format!("/api/v1/query?query={}", escape(query))).json();
            let value = answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
            is_it(value).then_some(value)
        })
    }

    fn get(&self, target: &str) -> Response {
        let stream = TcpStream::connect(&self.address).expect("Prometheus serves");
        stream.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        HttpConnection::new(stream.into()).request(Method::Get, target, &[], b"")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `text` as a value in a URL's query.
fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
