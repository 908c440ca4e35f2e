//! Signing in with a password.

use std::{fs, thread};

use fanfare::protocol::http::Method;
use serde_json::json;

use super::{ask, claims, log_in, sign, start, status_of, token_of, with, write_users};
use crate::support::Folder;

#[test]
fn a_password_becomes_a_token_and_that_a_fresh_one() {
    let folder = Folder::new();
    let hub = start(&[("users.file", &write_users(&folder, ""))]);
    let answer = log_in(&hub, "correct");
    let token = token_of(&answer);
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]), 200);

    let bearer = format!("Bearer {token}");
    let refresh = |headers: &[(&str, &str)]| ask(&hub, Method::Post, "/api/v1/auth/refresh", headers, "");
    let fresh = token_of(&refresh(&[("Authorization", &bearer)]));
    assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={fresh}"), &[]), 200);
    assert_eq!(refresh(&[]).error_code(), "token_missing");
    let foreign = format!("Bearer {}", sign(&claims()));
    let refused = refresh(&[("Authorization", &foreign)]);
    assert_eq!((refused.status, refused.error_code().as_str()), (403, "not_refreshable"));
}

#[test]
fn what_is_wrong_with_a_login_is_not_told() {
    let folder = Folder::new();
    let hub = start(&[("users.file", &write_users(&folder, ""))]);
    let check = |body: &str, status: u16, code: &str| {
        let answer = ask(&hub, Method::Post, "/api/v1/auth/login", &[], body);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{body}");
        assert!(!answer.text().contains("geheim"), "{body}");
    };
    check(r#"{"username":"ann","password":"geheim"}"#, 401, "bad_password");
    check(r#"{"username":"nobody","password":"geheim"}"#, 401, "bad_password");
    check(r#"{"username":"ann","password":""}"#, 401, "bad_password");
    check(r#"{"username":"ann"}"#, 400, "bad_json");
    check(r#"{"username":"ann","password":geheim}"#, 400, "bad_json");
    check(&json!({ "username": "ann", "password": "x".repeat(2000) }).to_string(), 400, "too_long");
    assert_eq!(start(&[]).post("/api/v1/auth/login", r#"{"username":"ann","password":"x"}"#).status, 404);
}

#[test]
fn who_fails_too_often_has_to_wait() {
    let folder = Folder::new();
    let hub = start(&[("users.file", &write_users(&folder, ""))]);
    for _ in 0..5 {
        assert_eq!(log_in(&hub, "wrong").status, 401);
    }
    let refused = log_in(&hub, "correct");
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "too_many_failures"));
    let seconds: u64 = refused.header("retry-after").and_then(|value| value.parse().ok()).expect("whole seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"bad_password\"}"), 5.0);
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"too_many_failures\"}"), 1.0);
}

/// While passwords are checked the reactor serves others, and no more of them wait than may.
#[test]
fn more_logins_than_may_wait_are_told_to_come_back() {
    let folder = Folder::new();
    let settings = [("users.file", write_users(&folder, "")), ("auth.login_queue_max", "1".into())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let hub = start(&settings);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let client = |index: usize| {
            let hub = &hub;
            scope.spawn(move || {
                let body = json!({ "username": format!("user{index}"), "password": "x" }).to_string();
                let answer = ask(hub, Method::Post, "/api/v1/auth/login", &[], &body);
                assert!(answer.status != 503 || answer.header("retry-after").is_some());
                answer.status
            })
        };
        let clients: Vec<_> = (0..24).map(client).collect();
        clients.into_iter().map(|client| client.join().expect("it got an answer")).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 401 | 503)), "{statuses:?}");
    assert!(statuses.contains(&401) && statuses.contains(&503), "{statuses:?}");
    assert_eq!(log_in(&hub, "correct").status, 200);
}

/// The file decides: whoever is disabled there, or gone, is refused with the token that was given before.
#[test]
fn a_user_who_is_taken_out_of_the_file_is_refused() {
    let folder = Folder::new();
    let path = write_users(&folder, "");
    let token = token_of(&log_in(&start(&[("users.file", &path)]), "correct"));
    let text = fs::read_to_string(&path).expect("it was just written");
    let check = |users: String, token: &str, status: u16| {
        fs::write(&path, &users).expect("the folder is writable");
        let hub = start(&[("users.file", &path)]);
        assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]), status, "{users}");
    };
    check(text.clone(), &token, 200);
    check(format!("{text}disabled = true\n"), &token, 401);
    check(text.replace("\"ann\"", "\"bob\""), &token, 401);
    // Other issuers' subjects need no entry.
    check(text.replace("\"ann\"", "\"bob\""), &sign(&with(claims(), "sub", "zoe")), 200);
}
