//! The tools at a hub that asks for tokens: directly, and through the recommended nginx with TLS.

use std::{
    fs,
    process::{Child, Command, Output, Stdio},
};

use crate::support::{Folder, guarded::Guarded, nginx::Nginx, stdout_of, wait_until};

/// An API key of the hub, and a part that all secrets here have, by which the test finds them where they must not be.
const API_KEY: &str = "s3cret-of-a-service";

/// A hub with a user, an API key, and nginx with TLS before it.
struct Site {
    guarded: Guarded,
    nginx: Nginx,
    folder: Folder,
}

impl Site {
    fn start() -> Self {
        let folder = Folder::new();
        let config = folder.path("fanfare.toml");
        fs::write(&config, format!("[[api_keys]]\nname = \"service\"\nkey = \"{API_KEY}\"\nrole = \"admin\"\n"))
            .expect("the folder is ours");
        let guarded = Guarded::start("1h", &["--config", &config], &[]);
        let nginx = Nginx::start_tls(&[guarded.hub.address()]);
        fs::write(folder.path("token"), format!("{}\n", guarded.admin_token())).expect("the folder is ours");
        Self { guarded, nginx, folder }
    }

    /// The flags that show a token from a file and trust nginx's certificate.
    fn flags(&self) -> [String; 4] {
        ["--token-file".into(), self.folder.path("token"), "--ca".into(), self.nginx.certificate()]
    }
}

/// A tool with an empty environment.
fn tool(arguments: &[&str], flags: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).args(flags).env_remove("FANFARE_TOKEN");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(mut command: Command) -> Child {
    command.spawn().expect("it was just built")
}

fn finish(child: Child) -> Output {
    child.wait_with_output().expect("it is our child")
}

/// The error of a tool that failed.
#[track_caller]
fn complaint(command: Command) -> String {
    let output = finish(start(command));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{output:?}");
    assert!(!complaint.contains("s3cret") && output.stdout.windows(6).all(|it| it != b"s3cret"), "{output:?}");
    complaint
}

#[test]
fn each_way_to_sign_in_lets_in() {
    let site = Site::start();
    let (url, token, file) = (site.guarded.hub.url(0), site.guarded.admin_token(), site.folder.path("token"));
    let header = format!("Authorization: Bearer {token}");
    let ways = [["--token", token], ["--token-file", &file], ["--api-key", API_KEY], ["--header", &header]];
    for (number, way) in ways.iter().map(Some).chain([None]).enumerate() {
        let flags: Vec<String> = way.into_iter().flatten().map(|&word| word.to_owned()).collect();
        let sign_in = |mut command: Command| {
            command.envs(way.is_none().then_some(("FANFARE_TOKEN", token)));
            command
        };
        let topic = format!("t{number}");
        let listening = ["subscribe", url, "--topic", &topic, "--count", "1"];
        let subscriber = start(sign_in(tool(&listening, &flags)));
        wait_until("it listens", || (site.guarded.listeners(&topic) == 1).then_some(()));
        let line = ["publish", "--url", url, "--topic", &topic, "--data", "hello"];
        stdout_of(&finish(start(sign_in(tool(&line, &flags)))));
        assert_eq!(stdout_of(&finish(subscriber)), "hello\n", "{way:?}");
    }
}

#[test]
fn a_missing_or_wrong_credential_is_reported() {
    let site = Site::start();
    let url = site.guarded.hub.url(0);
    let lines: [&[&str]; 5] = [
        &["publish", "--url", url, "--data", "x"],
        &["produce", "-u", url],
        &["subscribe", url, "--topic", "t"],
        &["subscribe", url, "--topic", "t", "--transport", "ws", "--clients", "2"],
        &["load", "-s", url, "-c", "1", "-t", "1", "--duration", "5s"],
    ];
    for line in lines {
        for flags in [vec![], vec!["--token".to_owned(), "s3cret".to_owned()]] {
            let said = complaint(tool(line, &flags));
            assert!(said.contains("401"), "{line:?}: {said}");
        }
    }
}

#[test]
fn secrets_that_are_misspelt_are_not_repeated() {
    for line in [
        ["publish", "--token", "s3cret s3cret"],
        ["produce", "--header", "X s3cret"],
        ["subscribe", "--api-key", "s3cret\n"],
        ["load", "--header", "Host: s3cret"],
        ["load", "--redis", "rediss://u:s3cret@h/#insecure"],
        ["publish", "--url", "http://u:s3cret@hub"],
        ["subscribe", "--url", "hub?token=s3cret"],
        ["load", "--publish-url", "ftp://u:s3cret@hub"],
        ["bench", "--header", "s3cret"],
        ["bench", "--api-key", "s3cret s3cret"],
        ["bench", "--login", "s3cret"],
        ["bench", "--url", "https://u:s3cret@h"],
        ["bench", "--publish", "redis://u:s3cret@h:x"],
    ] {
        complaint(tool(&line, &[]));
    }
}

#[test]
fn a_certificate_is_trusted_only_if_it_is_named() {
    let site = Site::start();
    let url = site.nginx.url();
    let sign_in = &site.flags()[..2];
    let publish = ["publish", "--url", &url, "--topic", "t", "--data", "x"];
    let many = ["subscribe", &url, "--topic", "t", "--clients", "2"];
    // The tools end, because trying again would not help.
    for line in [&publish[..], &["subscribe", &url, "--topic", "t"], &many] {
        let said = complaint(tool(line, sign_in));
        assert!(said.contains("certificate") && said.contains("--ca FILE"), "{said}");
    }
    let other = Nginx::start_tls(&[site.guarded.hub.address()]);
    let flags = [sign_in, &["--ca".to_owned(), other.certificate()]].concat();
    assert!(complaint(tool(&publish, &flags)).contains("certificate"));
    stdout_of(&finish(start(tool(&publish, &[sign_in, &["--insecure-tls".to_owned()]].concat()))));
    // The certificate is valid for its own names only.
    let port = url.rsplit_once(':').expect("it has a port").1;
    let flags = site.flags();
    let said = complaint(tool(&["publish", "--url", &format!("https://localhost:{port}"), "--data", "x"], &flags));
    assert!(said.contains("cannot reach https://localhost:"), "{said}");
    // A hub without TLS cannot be reached by TLS.
    let plain = site.guarded.hub.url(0).replace("http:", "https:");
    let said = complaint(tool(&["publish", "--url", &plain, "--data", "x"], &flags));
    assert!(said.contains("cannot reach https://127.0.0.1:"), "{said}");
}

#[test]
fn publishing_and_listening_through_nginx_with_tls() {
    let site = Site::start();
    let (https, flags) = (site.nginx.url(), site.flags());
    let wss = https.replace("https", "wss");
    let listening: [(&str, &[&str]); 3] =
        [(&https, &["--transport", "sse"]), (&wss, &["--transport", "ws"]), (&wss, &["--transport", "fanfare.v1"])];
    let subscribers: Vec<Child> = listening
        .iter()
        .map(|(url, transport)| {
            start(tool(&[&["subscribe", url, "--topic", "t", "--count", "500"], *transport].concat(), &flags))
        })
        .collect();
    // Many connections on one poll, with more than one TLS record each.
    let many =
        start(tool(&["subscribe", &https, "--topic", "t", "--clients", "20", "--count", "10000", "--json"], &flags));
    wait_until("all listen", || (site.guarded.listeners("t") == 23).then_some(()));
    let payload = "x".repeat(3000);
    let line = ["publish", "--url", &https, "--topic", "t", "--count", "500", "--data", &payload];
    let said = stdout_of(&finish(start(tool(&line, &flags))));
    assert!(said.starts_with("published 500 events to t at https://127.0.0.2:"), "{said}");
    for subscriber in subscribers {
        let said = stdout_of(&finish(subscriber));
        assert!(said.lines().count() == 500 && said.lines().all(|line| line.trim_matches('"') == payload));
    }
    let said = stdout_of(&finish(many));
    let last = said.lines().last().expect("a report");
    assert!(last.contains("\"events\":10000") && last.contains("\"gaps\":0"), "{last}");
}

#[test]
fn sensors_through_nginx_with_tls() {
    let site = Site::start();
    let (url, flags) = (site.nginx.url(), site.flags());
    let subscriber = start(tool(&["subscribe", "-u", &url, "--count", "20", "--json"], &flags));
    wait_until("it listens", || (site.guarded.listeners("pods.alice.changes") == 1).then_some(()));
    let said = stdout_of(&finish(start(tool(&["produce", "-u", &url, "-f", "200", "-d", "0.1"], &flags))));
    assert!(said.contains("Generated 20 events"), "{said}");
    assert!(stdout_of(&finish(subscriber)).contains("\"events\":20"));
}

#[test]
fn a_load_through_nginx_with_tls() {
    let site = Site::start();
    let url = site.nginx.url();
    let line = ["load", "-s", &url, "-c", "5", "-t", "20", "-d", "5", "--quiet"];
    let said = stdout_of(&finish(start(tool(&line, &site.flags()))));
    assert!(!said.contains(site.guarded.admin_token()), "{said}");
    let row = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {said}"));
    assert!(row("Tokens Received:").ends_with("100") && row("Tokens Lost:").ends_with(" 0"), "{said}");
}

#[test]
fn a_bench_through_nginx_with_tls() {
    let site = Site::start();
    let (https, wss) = (site.nginx.url(), site.nginx.url().replace("https", "wss"));
    let report = site.folder.path("report.json");
    let span = ["--subscribers", "5", "--rate", "50", "--duration", "1s", "--warmup", "200ms", "--json", &report];
    let ways: [&[&str]; 4] = [
        &["--transport", "sse", "--url", &https, "--stalled", "1", "--churn", "5"],
        &["--transport", "ws", "--url", &wss, "--processes", "2"],
        &["--transport", "socketio", "--url", &https],
        &["--transport", "sse", "--url", &https, "--storm", "20"],
    ];
    for way in ways {
        let output = finish(start(tool(&[&["bench"], way, &span].concat(), &site.flags())));
        let said = format!("{}{}", stdout_of(&output), String::from_utf8_lossy(&output.stderr));
        let written = fs::read_to_string(&report).expect("it was asked for");
        let token = site.guarded.admin_token();
        assert!(!said.contains(token) && !written.contains(token), "{way:?}: {said}");
        let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        let (events, lost) = (&written["topics"][0]["events"], &written["topics"][0]["faults"]["lost"]);
        assert!(events.as_u64() == Some(50) && lost.as_u64() == Some(0), "{way:?}: {written}");
        fs::remove_file(&report).expect("it was just written");
    }
}

#[test]
fn the_scripts_of_a_load_test_through_nginx_with_tls() {
    let site = Site::start();
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let (url, token, certificate) = (site.nginx.url(), site.folder.path("token"), site.nginx.certificate());
    let run = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(scripts.join(name));
        command.args(arguments).stdin(Stdio::null());
        for name in ["REDIS_URL", "REDIS_HOST", "REDIS_PORT", "RATE", "FANFARE_TOKEN"] {
            command.env_remove(name);
        }
        command.env("FANFARE", env!("CARGO_BIN_EXE_fanfare")).env("LOG_DIR", site.folder.path("logs"));
        command.env("HUB_URL", &url).env("TOKEN_FILE", &token).env("CA_FILE", &certificate);
        stdout_of(&command.output().expect("it is there"))
    };
    let said = run("run_loadtest.sh", &["8", "20"]);
    assert!(said.contains("Received deliveries: 160\nDropped deliveries: 0\n"), "{said}");
    let said = run("run-loadtest.sh", &["-c", "2", "-t", "5", "-d", "5"]);
    assert!(said.contains("Tokens Lost:         0"), "{said}");
}

#[test]
fn a_token_in_a_query_is_in_no_report() {
    let site = Site::start();
    let (url, token) = (site.guarded.hub.url(0), site.guarded.admin_token());
    let (json, html) = (site.folder.path("report.json"), site.folder.path("report.html"));
    let authorization = format!("Authorization: Bearer {token}");
    let publish = format!("{url}/publish/{{topic}}");
    let span = ["--subscribers", "2", "--rate", "50", "--duration", "1s", "--warmup", "200ms"];
    let bench = |subscribe: &str| {
        let way = ["bench", "--transport", "sse", "--subscribe", subscribe, "--publish", &publish];
        let telling = ["--publish-header", &authorization, "--json", &json, "--html", &html];
        let output = finish(start(tool(&[&way[..], &telling, &span].concat(), &[])));
        let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        assert!(!said.contains(token), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = bench(&format!("{url}/sse?topic={{topic}}&token={token}"));
    assert_eq!(code, Some(0), "{said}");
    for file in [&json, &html] {
        let written = fs::read_to_string(file).expect("it was asked for");
        let shown =
            written.contains("/sse?topic={topic}&token=…") || written.contains("/sse?topic={topic}&amp;token=…");
        assert!(shown && !written.contains(token), "{written}");
    }
    // Errors do not contain the secret either.
    let (code, said) = bench(&format!("{url}/nowhere?topic={{topic}}&token={token}"));
    assert!(code == Some(1) && said.contains("404"), "{said}");
    let (code, said) = bench(&format!("ftp://hub?token={token}"));
    assert!(code == Some(2), "{said}");
}
