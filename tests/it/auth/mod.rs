//! Authentication and rights: tokens, users, cookies, and streams that end with their client's token.

mod audit;
mod cookies;
mod documented;
mod error_forms;
mod expiry;
mod heads;
mod key_set;
mod keys;
mod letter;
mod login;
mod routes;
mod secrecy;
mod token_check;
mod withdrawn;

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fanfare_core::protocol::http::{Method, write_request};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    run_program, stdout_of,
};

/// The secret with which the hubs of these tests sign and verify.
const SECRET: &str = "a secret for tests of no less than thirty-two bytes";

/// Seconds since 1970.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

/// A hub that requires tokens signed with [`SECRET`], with further settings.
fn start(settings: &[(&str, &str)]) -> Hub {
    let all: Vec<(&str, &str)> =
        [("auth.mode", "jwt"), ("auth.secret", SECRET)].into_iter().chain(settings.iter().copied()).collect();
    Hub::start_with(&[], &all)
}

/// A token over `claims`, signed with [`SECRET`].
fn sign(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("it signs")
}

/// The claims of a client that may subscribe and publish to `a.*`, for a minute.
fn claims() -> Value {
    json!({ "sub": "ann", "exp": unix_s() + 60, "subscribe": ["a.*"], "publish": ["a.*"] })
}

/// `claims` with one of them changed.
fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

/// One request, and its whole answer.
fn ask(hub: &Hub, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    HttpConnection::new(hub.connect()).request(method, target, headers, body.as_bytes())
}

/// The status of the response to a GET. The response may be a stream.
fn status_of(hub: &Hub, target: &str, headers: &[(&str, &str)]) -> u16 {
    let mut socket = hub.connect();
    let mut bytes = Vec::new();
    write_request(Method::Get, "hub", target, headers, b"", &mut bytes);
    socket.write_all(&bytes).expect("the hub reads");
    let mut head = [0; 12];
    socket.read_exact(&mut head).expect("the hub answers");
    let text = std::str::from_utf8(&head).expect("a status line is ASCII");
    text[9..].parse().expect("three digits")
}

/// The hash of `password`, by the command that operators use.
fn hash_password(password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let command = command.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it was just built");
    writeln!(child.stdin.take().expect("it was just asked for"), "{password}").expect("it reads");
    stdout_of(&child.wait_with_output().expect("it is our child")).trim().to_owned()
}

/// A users file in `folder` with the user `ann`, whose password is `correct`, and with these further lines about her.
fn write_users(folder: &Folder, extra: &str) -> String {
    let path = folder.path("users.toml");
    let hash = hash_password("correct");
    let user =
        format!("[[user]]\nusername = \"ann\"\npassword = \"{hash}\"\nsubscribe = [\"a.*\"]\npublish = [\"a.*\"]\n");
    fs::write(&path, user + extra).expect("the folder is writable");
    path
}

/// Logs in as `ann`, and returns the answer.
fn log_in(hub: &Hub, password: &str) -> Response {
    let body = json!({ "username": "ann", "password": password }).to_string();
    ask(hub, Method::Post, "/api/v1/auth/login", &[], &body)
}

/// The token in an answer to a login or a refresh.
#[track_caller]
fn token_of(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["access_token"].as_str().expect("a text").to_owned()
}

/// A new private key in `folder`; its path, and that of the public key. `arguments` as for `openssl genpkey`.
fn make_keys(folder: &Folder, name: &str, arguments: &[&str]) -> (String, String) {
    let (private, public) = (folder.path(&format!("{name}.pem")), folder.path(&format!("{name}.pub")));
    let made = run_program("openssl", "openssl", &[&["genpkey", "-out", &private], arguments].concat());
    stdout_of(&made);
    stdout_of(&run_program("openssl", "openssl", &["pkey", "-in", &private, "-pubout", "-out", &public]));
    (private, public)
}

fn read(path: &str) -> Vec<u8> {
    fs::read(path).expect("it was just written")
}

/// What `fanfare token` prints with these settings.
fn mint(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("token").args(arguments).env("FANFARE_AUTH__MODE", "jwt");
    for (key, value) in settings {
        command.env(format!("FANFARE_{}", key.to_uppercase().replace('.', "__")), value);
    }
    stdout_of(&command.output().expect("it was just built")).trim().to_owned()
}

/// Short enough for a test to wait for.
const MOMENT: Duration = Duration::from_millis(300);
