//! A hub that asks who comes.

use std::{
    cell::OnceCell,
    fs,
    io::Write,
    process::{Command, Stdio},
};

use fanfare::protocol::http::Method;

use super::{Folder, http::HttpConnection, hub::Hub, stdout_of};

/// Who may listen to all wells.
pub(crate) const USER: &str = "operator";

/// The password of all users.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The secret of its tokens.
const SECRET: &str = "of thirty-two bytes or more, as HS256 demands";

/// A hub with a user [`USER`], who may listen to all wells, and `admin`, who may do everything.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) hub: Hub,
    /// Asked for once: a password takes its time to check.
    admin_token: OnceCell<String>,
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
        Self { hub, admin_token: OnceCell::new(), _folder: folder }
    }

    /// A token of the user `name`.
    #[track_caller]
    pub(crate) fn sign_in(&self, name: &str) -> String {
        let form = serde_json::json!({ "username": name, "password": PASSWORD });
        let response = self.hub.post("/api/v1/auth/login", form.to_string());
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["access_token"].as_str().expect("it is a text").to_owned()
    }

    /// How many connections listen to `topic`.
    #[track_caller]
    pub(crate) fn listeners(&self, topic: &str) -> u64 {
        let credentials = format!("Bearer {}", self.admin_token.get_or_init(|| self.sign_in("admin")));
        let headers = [("Authorization", credentials.as_str())];
        let mut connection = HttpConnection::new(self.hub.connect());
        let described = connection.request(Method::Get, &format!("/topics/{topic}"), &headers, b"");
        described.json()["listeners"].as_u64().unwrap_or_default()
    }
}

/// As an operator makes it.
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
