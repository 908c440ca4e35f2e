//! A hub that requires tokens.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use fanfare_core::protocol::http::Method;

use super::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    stdout_of,
};

/// A user who may subscribe to all wells.
pub(crate) const USER: &str = "operator";

/// The password of all users.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The secret of its tokens.
const SECRET: &str = "of thirty-two bytes or more, as HS256 demands";

/// A hub with a user [`USER`], who may subscribe to all wells, and `admin`, who may do everything.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) hub: Hub,
    /// A token with all rights, for an hour.
    admin_token: String,
    _folder: Folder,
}

impl Guarded {
    /// Its tokens are valid for `token_ttl`, such as `1h`.
    pub(crate) fn start(token_ttl: &str, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let (users, hash) = (folder.path("users.toml"), hash_password());
        let user = |name: &str, rest: &str| format!("[[user]]\nusername = \"{name}\"\npassword = \"{hash}\"\n{rest}\n");
        let text = [user(USER, "subscribe = [\"wells.**\"]"), user("admin", "role = \"admin\"")].concat();
        fs::write(&users, text).expect("the folder is ours");
        let own = [
            ("auth.mode", "jwt"),
            ("auth.algorithms", "HS256"),
            ("auth.secret", SECRET),
            ("auth.token_ttl", token_ttl),
            ("users.file", &users),
        ];
        let hub = Hub::start_with(flags, &[&own, settings].concat());
        Self { hub, admin_token: mint_token(&["--sub", "the-test", "--role", "admin"]), _folder: folder }
    }

    /// A token with all rights.
    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A token of `subject` with the rights to publish and subscribe to the topics of `pattern`, for an hour.
    pub(crate) fn token(&self, subject: &str, pattern: &str) -> String {
        mint_token(&["--sub", subject, "--publish", pattern, "--subscribe", pattern])
    }

    /// Publishes with all rights.
    #[track_caller]
    pub(crate) fn publish(&self, target: &str, data: &str) {
        let taken = self.request(Method::Post, &format!("/publish/{target}"), data);
        assert_eq!(taken.status, 200, "{}", taken.text());
    }

    /// How many connections listen to `topic`.
    #[track_caller]
    pub(crate) fn listeners(&self, topic: &str) -> u64 {
        let described = self.request(Method::Get, &format!("/topics/{topic}"), "");
        described.json()["listeners"].as_u64().unwrap_or_default()
    }

    pub(crate) fn request(&self, method: Method, target: &str, body: &str) -> Response {
        let credentials = format!("Bearer {}", self.admin_token);
        let headers = [("Authorization", credentials.as_str())];
        HttpConnection::new(self.hub.connect()).request(method, target, &headers, body.as_bytes())
    }
}

/// As an operator makes a token, for an hour unless the claims say otherwise.
pub(crate) fn mint_token(claims: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("token").args(claims);
    if !claims.contains(&"--ttl") {
        command.args(["--ttl", "1h"]);
    }
    let settings =
        [("FANFARE_AUTH__MODE", "jwt"), ("FANFARE_AUTH__ALGORITHMS", "HS256"), ("FANFARE_AUTH__SECRET", SECRET)];
    stdout_of(&command.envs(settings).output().expect("the program was just built")).trim().to_owned()
}

/// As an operator makes the hash of a password.
fn hash_password() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let mut hashing = command
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was just built");
    let stdin = hashing.stdin.take().expect("it was just asked for");
    writeln!(&stdin, "{PASSWORD}").expect("it reads the password");
    drop(stdin);
    stdout_of(&hashing.wait_with_output().expect("it is our child")).trim().to_owned()
}
