//! The hub logs no credential.

use std::{fs, process::Command};

use fanfare_core::protocol::http::Method;
use serde_json::json;

use super::{SECRET, ask, claims, log_in, sign, status_of, token_of, write_users};
use crate::support::{Folder, hub::Hub, wait_until, websocket::WebSocketClient};

#[test]
fn the_log_holds_no_credential_even_at_the_finest_level() {
    let folder = Folder::new();
    let users = write_users(&folder, "");
    let log = folder.path("log");
    let mut command = Command::new("sh");
    // The shell only redirects the log; it replaces itself with the hub.
    command.args([
        "-c",
        "exec \"$0\" serve --listen 127.0.0.1:0 --log-level trace 2>\"$1\"",
        env!("CARGO_BIN_EXE_fanfare"),
        &log,
    ]);
    let settings = [("auth.mode", "jwt"), ("auth.secret", SECRET), ("users.file", users.as_str())];
    let hub = Hub::spawn(command, &settings);

    let token = sign(&claims());
    let marked = "marked-as-secret-in-this-test";
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]), 200);
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={marked}"), &[]), 401);
    assert_eq!(status_of(&hub, "/stats", &[("Authorization", &format!("Bearer {marked}"))]), 401);
    assert_eq!(status_of(&hub, "/stats", &[("X-API-Key", marked)]), 401);
    assert_eq!(status_of(&hub, "/stats", &[("Cookie", &format!("fanfare_token={marked}"))]), 401);
    assert_eq!(log_in(&hub, marked).status, 401);
    let login = token_of(&log_in(&hub, "correct"));
    assert_eq!(ask(&hub, Method::Post, "/api/v1/auth/login", &[], &format!("{{{marked}")).status, 400);
    let mut client = WebSocketClient::open_v1(&hub, &format!("/ws?topic=a.b&token={token}"));
    assert_eq!(client.ask(&json!({ "op": "auth", "token": marked }))["op"], "error");
    client.close();
    assert_eq!(WebSocketClient::open(&hub, &format!("/ws?token={marked}")).close_code(), Some(4401));

    let text = wait_until("the connections' ends are logged", || {
        let text = fs::read_to_string(&log).ok()?;
        (3 <= text.matches("a connection ends").count()).then_some(text)
    });
    for secret in [token.as_str(), marked, &login, SECRET, "correct"] {
        assert!(!text.contains(secret), "{secret} is in the log:\n{text}");
    }
}
