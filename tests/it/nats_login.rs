//! Logins at NATS: each kind of login, secrets in files, rotation, and TLS.

use std::fs;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::{Folder, hub::Hub, nats::NatsServer, send_signal, sse::SseClient, wait_until};

const SETTINGS: [(&str, &str); 4] = [
    ("nats.backoff_min", "20ms"),
    ("nats.backoff_max", "200ms"),
    ("server.live_timeout", "200ms"),
    ("server.default_topics", ""),
];

/// A key pair made for this test: the seed, and the public key that the server knows.
const SEED: &str = "SUAPZUER7KHVP225MKLZPG44QDPLN4FUXMC4Y5O33DCLL2S6J2DPNIXETI";
const PUBLIC: &str = "UALU2DVPOWQRJ7O56RSCFSSSTULQEZUC7BR4HBOPJ5T6EOCGWYKGM4UQ";

fn hub_at(url: &str, settings: &[(&str, &str)]) -> Hub {
    Hub::start_with(&["--nats", url], &[&SETTINGS[..], settings].concat())
}

#[track_caller]
fn check_round_trip(hub: &Hub, text: &str) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let mut stream = SseClient::open(hub, "/sse?topic=t");
    // A server that has just been told of another password may end the connection first.
    wait_until("it is published", || (hub.post("/publish/t", text).status == 200).then_some(()));
    wait_until("it arrives", || (stream.next().data == text).then_some(()));
}

#[track_caller]
fn wait_until_refused(hub: &Hub) {
    wait_until("the hub says that it is refused", || {
        let text = hub.get("/ready").text();
        assert!(!text.contains("wrong"), "{text}");
        text.contains("Authorization Violation").then_some(())
    });
}

#[test]
fn every_kind_of_login_is_accepted_and_a_wrong_one_is_reported() {
    let folder = Folder::new();
    let file = |name: &str, text: &str| {
        let path = folder.path(name);
        fs::write(&path, format!("{text}\n")).expect("the folder is writable");
        path
    };
    let by_user = NatsServer::start_with(r#"authorization { user: ada, password: "p@ss" }"#);
    check_round_trip(&hub_at(&by_user.url_as("ada:p%40ss@"), &[]), "in the URL");
    let password = file("password", "p@ss");
    check_round_trip(&hub_at(&by_user.url_as(""), &[("nats.user", "ada"), ("nats.password", "p@ss")]), "by key");
    check_round_trip(
        &hub_at(&by_user.url_as(""), &[("nats.user", "ada"), ("nats.password_file", &password)]),
        "by file",
    );
    let by_token = NatsServer::start_with(r#"authorization { token: "t0ken" }"#);
    check_round_trip(&hub_at(&by_token.url_as("t0ken@"), &[]), "in the URL");
    check_round_trip(&hub_at(&by_token.url_as(""), &[("nats.token", "t0ken")]), "by key");
    check_round_trip(&hub_at(&by_token.url_as(""), &[("nats.token_file", &file("token", "t0ken"))]), "by file");
    let by_key = NatsServer::start_with(&format!("authorization {{ users = [ {{ nkey: {PUBLIC} }} ] }}"));
    check_round_trip(&hub_at(&by_key.url_as(""), &[("nats.nkey_file", &file("seed", SEED))]), "by NKey");
    let wrong = hub_at(&by_user.url_as("ada:wrong@"), &[]);
    wait_until_refused(&wrong);
    let mut stream = SseClient::open(&wrong, "/sse?topic=t");
    assert_eq!(stream.next().kind, "gap", "subscribers get a gap");
    assert_eq!(wrong.post("/publish/t", "x").error_code(), "refused");
    wait_until_refused(&hub_at(&by_user.url_as(""), &[]));
    wait_until_refused(&hub_at(&by_token.url_as("wrong@"), &[]));
}

/// What `issuer` says of `subject`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let encode = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let sub = subject.public_key();
    let claims = json!({ "jti": sub, "iat": 1, "iss": issuer.public_key(), "name": sub, "sub": sub, "nats": nats });
    let text = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(text.as_bytes()).expect("it has its seed");
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}

#[test]
fn a_credentials_file_is_taken_where_an_operator_decides() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let of_operator = jwt(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                         "conn": -1, "leaf": -1 });
    let of_account = jwt(&operator, &account, &json!({ "type": "account", "version": 2, "limits": limits }));
    let rights = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let server = NatsServer::start_with(&format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}",
        account.public_key()
    ));
    let folder = Folder::new();
    let credentials = |name: &str, jwt: &str, seed: &KeyPair| {
        let (path, seed) = (folder.path(name), seed.seed().expect("it has one"));
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        fs::write(&path, text).expect("the folder is writable");
        path
    };
    let of_user = jwt(&account, &user, &rights);
    let hub_with = |file: &str| hub_at(&server.url_as(""), &[("nats.credentials_file", file)]);
    check_round_trip(&hub_with(&credentials("own.creds", &of_user, &user)), "by credentials");
    // Another key cannot sign for the user, and a user cannot make users.
    let other = KeyPair::new_user();
    wait_until_refused(&hub_with(&credentials("other.creds", &of_user, &other)));
    wait_until_refused(&hub_with(&credentials("self.creds", &jwt(&user, &user, &rights), &user)));
}

#[test]
fn a_rotated_password_is_read_anew() {
    let users = |password: &str| format!(r#"authorization {{ user: hub, password: "{password}" }}"#);
    let (mut server, folder) = (NatsServer::start_with(&users("one")), Folder::new());
    let file = folder.path("password");
    let write = |password: &str| fs::write(&file, password).expect("the folder is writable");
    write("one");
    let hub = hub_at(&server.url_as(""), &[("nats.user", "hub"), ("nats.password_file", &file)]);
    check_round_trip(&hub, "one");
    // First at the server: the hub is refused until the file has the new login, and then recovers by itself.
    server.reload(&users("two"));
    wait_until_refused(&hub);
    write("two");
    check_round_trip(&hub, "two");
    // First by SIGHUP: the connection stays open.
    write("three");
    send_signal("HUP", hub.pid());
    server.reload(&users("three"));
    check_round_trip(&hub, "three");
    server.kill();
    server.restart();
    check_round_trip(&hub, "after a restart");
}

#[test]
fn tls_is_checked() {
    let server = NatsServer::start_with_tls("");
    let tls = format!("tls://127.0.0.2:{}", server.port());
    let authority = server.file("nats.pem");
    check_round_trip(&hub_at(&tls, &[("nats.ca_file", &authority)]), "tls://");
    check_round_trip(&hub_at(&server.url_as(""), &[("nats.ca_file", &authority)]), "because the server demands it");
    let other = hub_at(&tls, &[("nats.ca_file", &server.file("client.pem"))]);
    wait_until("another authority is none", || {
        let text = other.get("/ready").text();
        (text.contains("cannot connect") && text.to_lowercase().contains("certificate")).then_some(())
    });
    let plain = NatsServer::start();
    let refused = hub_at(&format!("tls://127.0.0.2:{}", plain.port()), &[("nats.ca_file", &authority)]);
    wait_until("a server without TLS is none", || {
        refused.get("/ready").text().contains("cannot connect").then_some(())
    });
}

#[test]
fn a_client_certificate_is_shown() {
    let server = NatsServer::start_with_tls("verify: true");
    let tls = format!("tls://127.0.0.2:{}", server.port());
    let (authority, certificate, key) = (server.file("nats.pem"), server.file("client.pem"), server.file("client.key"));
    let own = [("nats.ca_file", &*authority), ("nats.certificate_file", &*certificate), ("nats.key_file", &*key)];
    check_round_trip(&hub_at(&tls, &own), "with a certificate");
    let without = hub_at(&tls, &own[..1]);
    wait_until("none is not enough", || without.get("/ready").text().contains("cannot connect").then_some(()));
}
