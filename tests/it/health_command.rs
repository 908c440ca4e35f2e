//! `fanfare health`, as a supervisor of containers runs it.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::support::{
    Folder,
    hub::Hub,
    redis::{RedisServer, free_port},
    wait_until,
};

/// The exit code, and what it says.
fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let output = command.arg("health").args(arguments).stdin(Stdio::null()).output().expect("it was just built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("the command writes UTF-8"))
}

#[test]
fn the_exit_code_says_whether_the_hub_is_ready() {
    let mut redis = RedisServer::start();
    let hub = Hub::start_with(
        &["--redis", &redis.url()],
        &[("redis.proof_age_max", "500ms"), ("redis.ping_interval", "100ms")],
    );
    let url = hub.url(0);
    wait_until("it is ready", || (hub.get("/ready").status == 200).then_some(()));
    assert_eq!(health(&[url]), (Some(0), format!("{url} is ready\n")));
    redis.kill();
    wait_until("it is not", || (hub.get("/ready").status == 503).then_some(()));
    let (code, said) = health(&[url]);
    assert!(code == Some(1) && said.starts_with(&format!("fanfare: {url} is not ready: redis")), "{code:?} {said}");
    assert_eq!(health(&["--live", url]), (Some(0), format!("{url} is alive\n")), "it needs no restart");
}

#[test]
fn a_hub_with_an_address_for_administration_answers_there() {
    let folder = Folder::new();
    let admin = format!("unix:{}", folder.path("admin.sock"));
    let hub = Hub::start_with(&["--admin-listen", &admin], &[]);
    assert_eq!(health(&[&admin]), (Some(0), format!("{admin} is ready\n")));
    let (code, said) = health(&[hub.url(0)]);
    assert!(code == Some(1) && said.contains("a hub with admin.listen answers at that address"), "{code:?} {said}");
}

#[test]
fn no_answer_is_a_no() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (code, said) = health(&[&nobody]);
    assert!(code == Some(1) && said.contains("cannot reach"), "{code:?} {said}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let expected = format!("fanfare: {url}: no answer within 100ms\n");
    assert_eq!(health(&[&url, "--timeout", "100ms"]), (Some(1), expected));
    assert_eq!(health(&["ftp://hub"]).0, Some(2));
    assert_eq!(health(&["--timeout", "0s"]).0, Some(2));
}
