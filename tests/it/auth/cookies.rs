//! Cookies, and which pages may use them.

use fanfare_core::protocol::http::Method;
use serde_json::json;

use super::{ask, log_in, start, status_of, write_users};
use crate::support::{Folder, hub::Hub};

fn log_in_with_cookie(hub: &Hub, headers: &[(&str, &str)]) -> Option<String> {
    let body = json!({ "username": "ann", "password": "correct", "cookie": true }).to_string();
    let answer = ask(hub, Method::Post, "/api/v1/auth/login", headers, &body);
    answer.header("set-cookie").map(str::to_owned)
}

#[test]
fn a_cookie_serves_pages_of_the_hub_and_of_origins_that_are_named() {
    let folder = Folder::new();
    let users = write_users(&folder, "");
    let cors = [("cors.allow_origins", "https://app.example"), ("cors.allow_credentials", "true")];
    let hub = start(&[&[("users.file", users.as_str())], &cors[..]].concat());
    let set = log_in_with_cookie(&hub, &[]).expect("it was asked for");
    let (cookie, attributes) = set.split_once("; ").expect("it has attributes");
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Strict");

    let check = |headers: &[(&str, &str)], allowed: bool| {
        let headers = [&[("Cookie", cookie)], headers].concat();
        let get = status_of(&hub, "/sse?topic=a.b", &headers);
        let post = ask(&hub, Method::Post, "/publish/a.b", &headers, "1").status;
        let refresh = ask(&hub, Method::Post, "/api/v1/auth/refresh", &headers, "");
        let expected = if allowed { 200 } else { 401 };
        assert_eq!([get, post, refresh.status], [expected; 3], "{headers:?}");
        assert_eq!(refresh.header("set-cookie").is_some(), allowed);
    };
    check(&[("Sec-Fetch-Site", "same-origin")], true);
    check(&[("Origin", "http://hub")], true);
    check(&[("Origin", "https://app.example"), ("Sec-Fetch-Site", "cross-site")], true);
    check(&[], false);
    check(&[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")], false);
    check(&[("Origin", "null")], false);
    check(&[("Sec-Fetch-Site", "same-site")], false);

    assert_eq!(log_in_with_cookie(&hub, &[("Origin", "https://evil.example")]), None);
    let gone = ask(&hub, Method::Post, "/api/v1/auth/logout", &[], "");
    assert_eq!(gone.status, 204);
    assert!(gone.header("set-cookie").is_some_and(|set| set.starts_with("fanfare_token=; Path=/; Max-Age=0")));
    // Otherwise any site could sign the user out.
    for page in [("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")] {
        let refused = ask(&hub, Method::Post, "/api/v1/auth/logout", &[page, ("Cookie", cookie)], "");
        assert_eq!((refused.status, refused.error_code().as_str()), (403, "origin_refused"), "{page:?}");
        assert_eq!(refused.header("set-cookie"), None);
    }
    assert_eq!(ask(&hub, Method::Post, "/api/v1/auth/logout", &[("Origin", "http://hub")], "").status, 204);
    assert_eq!(log_in(&hub, "correct").header("set-cookie"), None);
}

#[test]
fn the_configuration_decides_what_a_cookie_is_like() {
    let folder = Folder::new();
    let users = write_users(&folder, "");
    let settings = [
        ("users.file", users.as_str()),
        ("auth.cookie", "true"),
        ("auth.cookie_secure", "false"),
        ("auth.cookie_same_site", "lax"),
    ];
    let hub = start(&settings);
    let set = log_in(&hub, "correct").header("set-cookie").map(str::to_owned).expect("each login sets one");
    assert!(set.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{set}");
}

/// Browsers let any page open a WebSocket to any host, so the hub has to check the origin.
#[test]
fn websockets_of_foreign_pages_are_refused() {
    let hub = start(&[("cors.allow_origins", "https://app.example,https://*.team.example")]);
    let check = |origin: Option<&str>, status: u16| {
        let mut headers = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        assert_eq!(status_of(&hub, "/ws", &headers), status, "{origin:?}");
    };
    check(None, 101);
    check(Some("http://hub"), 101);
    check(Some("https://app.example"), 101);
    check(Some("https://a.team.example"), 101);
    check(Some("https://evil.example"), 403);
    check(Some("null"), 403);
}
