//! Every way to a server: users and passwords, databases, Unix sockets, TLS.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{
    super::{PUBSUB_SOURCE, start_reader, start_writer},
    harness::{Hub, Scratch, Server, quick, wait_until},
    topic,
};
use crate::{
    bus::{PublishFailed, Refusal},
    source::{
        SourceStatus,
        redis::{RedisConfig, SentinelLogin},
    },
};

/// Whether events pass in both directions.
fn check_round_trip(config: &RedisConfig) -> Hub {
    let hub = Hub::ready(config);
    hub.listen("a");
    assert_eq!(hub.publish("a", Some("kind"), "there and back"), Ok(None));
    let event = hub.next();
    assert_eq!((event.kind.as_deref(), event.text()), (Some("kind"), "there and back"));
    hub
}

#[test]
fn a_password() {
    let server = Server::with(&["--requirepass", "secret"]);
    check_round_trip(&quick(&format!("redis://:secret@127.0.0.1:{}", server.port)));
    let hub = Hub::start(&quick(&format!("redis://:wrong@127.0.0.1:{}", server.port)));
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until("the refusal is named", || reason().contains("WRONGPASS"));
    assert!(!reason().contains("wrong@"), "{}", reason());
    let hub = Hub::start(&quick(&server.url()));
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until("the refusal is named", || reason().contains("NOAUTH"));
}

#[test]
fn a_user_with_few_rights_and_a_database() {
    let server = Server::start();
    let rules = ["on", ">secret", "resetchannels", "&a", "&b", "+@pubsub", "+hello", "+select", "-@dangerous"];
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg("hub").arg(&rules);
    command.exec(&mut server.client()).expect("a user");
    let hub = check_round_trip(&quick(&format!("redis://hub:secret@127.0.0.1:{}/3", server.port)));
    // The probe's channel is forbidden as well, and so is the ping that stands in for it: even a refusal is an answer.
    assert!(hub.status.snapshot().last_proof.is_some());
    ["forbidden", "b"].into_iter().for_each(|name| drop(hub.bus.attach(&topic(name), 0)));
    wait_until("one is denied, the others live", || {
        let snapshot = hub.status.snapshot();
        (snapshot.wanted, snapshot.confirmed, snapshot.denied) == (3, 2, 1)
    });
    assert_eq!(hub.publish("forbidden", None, "x"), Err(PublishFailed::Refused(Refusal::Forbidden)));
    assert_eq!(hub.publish("b", None, "x"), Ok(None), "a refusal costs nothing else");
    assert_eq!(hub.payloads(1), ["x"]);
}

#[test]
fn a_server_that_knows_no_hello() {
    let server = Server::with(&["--rename-command", "HELLO", "", "--requirepass", "secret"]);
    check_round_trip(&quick(&format!("redis://:secret@127.0.0.1:{}", server.port)));
}

#[test]
fn a_unix_socket() {
    let server = Server::start();
    check_round_trip(&quick(&format!("unix://{}?db=1", server.socket().display())));
    check_round_trip(&quick(&format!("redis+unix://{}", server.socket().display())));
}

#[test]
fn tls_trusts_only_the_named_authority() {
    let scratch = Scratch::new();
    make_certificates(&scratch);
    let path = |name: &str| scratch.path(name).display().to_string();
    let port = super::harness::free_port().to_string();
    let (certificate, key, authority) = (path("server.crt"), path("server.key"), path("ca.crt"));
    let server = Server::with(
        &[
            ["--tls-port", &port, "--tls-cert-file", &certificate],
            ["--tls-key-file", &key, "--tls-ca-cert-file", &authority],
        ]
        .concat(),
    );
    let config = RedisConfig {
        ca_file: Some(scratch.path("ca.crt")),
        certificate_file: Some(scratch.path("client.crt")),
        key_file: Some(scratch.path("client.key")),
        ..quick(&format!("rediss://localhost:{port}"))
    };
    let hub = check_round_trip(&config);
    let large = "x".repeat(300_000);
    server.publish("a", large.as_str());
    assert_eq!(hub.payloads(1), [large]);
    let kill = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query::<u64>(&mut server.client());
    assert_eq!(kill, Ok(1), "the writer's");
    assert_eq!(hub.publish("a", None, "after the end of an idle connection"), Ok(None));
    assert_eq!(hub.payloads(1), ["after the end of an idle connection"]);
    let stranger = Hub::start(&RedisConfig { ca_file: Some(scratch.path("other.crt")), ..config.clone() });
    let reason = || stranger.status.ready(stranger.clock.now()).err().unwrap_or_default();
    wait_until("the stranger is not trusted", || reason().contains("invalid peer certificate"));
    let anonymous = Hub::start(&RedisConfig { certificate_file: None, key_file: None, ..config });
    let reason = || anonymous.status.ready(anonymous.clock.now()).err().unwrap_or_default();
    wait_until("the server asks for a certificate", || reason().contains("the connection failed"));
}

/// A sentinel that wants a password and speaks TLS only, and says that the server is at `port`.
struct TlsSentinel(Child);

impl TlsSentinel {
    fn start(scratch: &Scratch, sentinel_port: u16, port: &str) -> Self {
        let lines = [
            "port 0".to_owned(),
            format!("tls-port {sentinel_port}"),
            "bind 127.0.0.1".to_owned(),
            "tls-cert-file server.crt".to_owned(),
            "tls-key-file server.key".to_owned(),
            "tls-ca-cert-file ca.crt".to_owned(),
            "requirepass sentinel-secret".to_owned(),
            format!("sentinel monitor my-service 127.0.0.1 {port} 1"),
        ];
        std::fs::write(scratch.path("sentinel.conf"), lines.join("\n") + "\n").expect("a file");
        let mut command = Command::new("redis-server");
        command.args(["sentinel.conf", "--sentinel"]).current_dir(&scratch.0).stdout(Stdio::null());
        Self(command.spawn().expect("redis-server runs: apt-get install redis-server"))
    }
}

impl Drop for TlsSentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sentinels_have_their_own_login_and_the_same_tls() {
    let scratch = Scratch::new();
    make_certificates(&scratch);
    let path = |name: &str| scratch.path(name).display().to_string();
    let (port, sentinel_port) = (super::harness::free_port().to_string(), super::harness::free_port());
    let (certificate, key, authority) = (path("server.crt"), path("server.key"), path("ca.crt"));
    let _server = Server::with(
        &[
            ["--tls-port", &port, "--tls-cert-file", &certificate],
            ["--tls-key-file", &key, "--tls-ca-cert-file", &authority],
            ["--requirepass", "server-secret", "--maxclients", "100"],
        ]
        .concat(),
    );
    let _sentinel = TlsSentinel::start(&scratch, sentinel_port, &port);
    let login = |password: &str| SentinelLogin { password: password.to_owned(), ..SentinelLogin::default() };
    let config = RedisConfig {
        ca_file: Some(scratch.path("ca.crt")),
        certificate_file: Some(scratch.path("client.crt")),
        key_file: Some(scratch.path("client.key")),
        sentinel_login: login("sentinel-secret"),
        ..quick(&format!("rediss+sentinel://:server-secret@127.0.0.1:{sentinel_port}/my-service/2"))
    };
    check_round_trip(&config);
    let stranger = Hub::start(&RedisConfig { sentinel_login: login("wrong"), ..config });
    let reason = || stranger.status.ready(stranger.clock.now()).err().unwrap_or_default();
    wait_until("the sentinel's refusal is named", || reason().contains("no sentinel knows"));
    assert!(!reason().contains("secret"), "{}", reason());
}

/// An authority, another one, and certificates of the first for a server and a client.
fn make_certificates(scratch: &Scratch) {
    for authority in ["ca", "other"] {
        openssl(
            scratch,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ),
        );
    }
    for name in ["server", "client"] {
        openssl(
            scratch,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
            -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            scratch,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
            -copy_extensions copy -out {name}.crt"
            ),
        );
    }
}

fn openssl(scratch: &Scratch, arguments: &str) {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(&scratch.0);
    let output = command.output().expect("openssl runs: apt-get install openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn unusable_files_stop_the_start() {
    let check = |config: RedisConfig, expected: &str| {
        let clock = crate::clock::Clock::start();
        let status = std::sync::Arc::new(SourceStatus::new(PUBSUB_SOURCE));
        let error = start_writer(config.clone(), clock, std::sync::Arc::clone(&status), std::sync::Arc::default())
            .expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        let hub = Hub::start(&quick("redis://127.0.0.1:1"));
        let error = start_reader(
            config,
            std::sync::Arc::clone(&hub.bus),
            clock,
            status,
            std::sync::Arc::default(),
            None,
            false,
        );
        assert!(error.expect_err(expected).to_string().contains(expected));
    };
    let config = quick("rediss://localhost:1");
    let missing = || Some(Path::new("/nowhere/ca.crt").to_path_buf());
    check(RedisConfig { ca_file: missing(), ..config.clone() }, "/nowhere/ca.crt");
    let empty = Scratch::new();
    std::fs::write(empty.path("empty.crt"), "").expect("a file");
    check(RedisConfig { ca_file: Some(empty.path("empty.crt")), ..config.clone() }, "no certificate authority");
    check(RedisConfig { key_file: missing(), ..config }, "belong together");
}
