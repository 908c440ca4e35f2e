//! The right to read a well: what clients of every kind see of a refusal, and of a token that expires.

use std::process::Command;

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::{
    support::{browser::Page, http::HttpConnection, hub::Hub, sse::SseClient, stdout_of},
    wells::{BROWSER, STREAM, alert, example_for, expect_event, expect_greeting, refused},
};

pub(crate) const SECRET: &str = "of no use to anybody but this test";

/// A hub that asks for tokens.
pub(crate) fn guarded_hub(settings: &[(&str, &str)]) -> Hub {
    let guarded = [("auth.mode", "jwt"), ("auth.secret", SECRET)];
    Hub::start_with(&[], &[&guarded[..], settings].concat())
}

/// A token that such a hub accepts, with the rights that these flags of `fanfare token` give.
pub(crate) fn token(flags: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["token", "--sub", "user-123", "--username", "john.doe"]).args(flags);
    let output = command.env("FANFARE_AUTH__MODE", "jwt").env("FANFARE_AUTH__SECRET", SECRET).output();
    stdout_of(&output.expect("the program was just built")).trim().to_owned()
}

fn publish_as(hub: &Hub, token: &str, data: &Value) -> String {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str())];
    let target = "/publish/wells.WELL-001?type=alert";
    let body = data.to_string();
    let response = HttpConnection::new(hub.connect()).request(Method::Post, target, &headers, body.as_bytes());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["id"].as_str().expect("an embedded hub gives ids").to_owned()
}

#[test]
fn tokens_and_what_clients_see_of_them() {
    let hub = guarded_hub(&[("esp.denied_retry", "1234ms")]);
    let (good, other) = (token(&["--subscribe", "wells.*"]), token(&["--subscribe", "wells.WELL-002"]));
    let (invalid, missing) = ("Invalid or expired authentication token", "Authentication token is required");
    let forged = format!("{}x", &good[..good.len() - 1]);
    let rows = [
        (String::new(), 401, "AuthenticationError", missing),
        ("?token=".to_owned(), 401, "AuthenticationError", missing),
        ("?token=YOUR_JWT_TOKEN".to_owned(), 401, "AuthenticationError", invalid),
        (format!("?token={forged}"), 401, "AuthenticationError", invalid),
        (format!("?token={other}"), 403, "AuthorizationError", "The token gives no right to this"),
    ];
    for (query, status, error, message) in rows {
        let event = format!("event: error\ndata: {{\"error\":\"{error}\",\"message\":\"{message}\"}}\n\n");
        let plain = refused(&hub, &format!("{STREAM}{query}"), &[]);
        assert_eq!((plain.status, plain.text()), (status, event.clone()), "{query}");
        assert_eq!(plain.header("www-authenticate").is_some(), status == 401, "RFC 9110 section 11.6.1");
        let page = refused(&hub, &format!("{STREAM}{query}"), &BROWSER);
        assert_eq!((page.status, page.text()), (200, format!("retry: 1234\n{event}")), "{query}");
    }
    expect_greeting(&mut SseClient::open(&hub, &format!("{STREAM}?token={good}")));
    let authorization = format!("Bearer {good}");
    expect_greeting(&mut SseClient::open_with(&hub, STREAM, &[("Authorization", &authorization)]));
    // Two refusals for each row: the plain one, and the one for browsers.
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"forbidden\"}"), 2.0);
    assert_eq!(hub.metric("fanfare_auth_failures_total{reason=\"token_missing\"}"), 4.0);
}

#[test]
fn a_token_runs_out_and_a_fresh_one_goes_on() {
    let hub = guarded_hub(&[("esp.denied_retry", "1234ms")]);
    let publisher = token(&["--publish", "wells.**"]);
    let brief = token(&["--subscribe", "wells.*", "--ttl", "2s"]);
    let mut stream = SseClient::open(&hub, &format!("{STREAM}?token={brief}"));
    let greeting = expect_greeting(&mut stream);
    let last = stream.read_to_end().pop().expect("it gets the reason");
    assert_eq!((last.kind.as_str(), last.id.as_str()), ("error", greeting.id.as_str()), "no id of its own");
    let expected = json!({ "error": "AuthenticationError", "message": "Invalid or expired authentication token" });
    assert_eq!(serde_json::from_str::<Value>(&last.data).expect("JSON"), expected);
    assert_eq!(stream.retry_ms(), Some(1234));
    let missed = publish_as(&hub, &publisher, &alert());
    assert_eq!(refused(&hub, &format!("{STREAM}?token={brief}"), &[]).status, 401);
    let fresh = token(&["--subscribe", "wells.*"]);
    let mut stream = SseClient::open(&hub, &format!("{STREAM}?token={fresh}&last_event_id={}", greeting.id));
    expect_greeting(&mut stream);
    expect_event(&mut stream, "alert", &missed, &alert());
}

#[test]
fn the_platform_s_example_shows_that_its_token_is_wrong() {
    let hub = guarded_hub(&[("esp.denied_retry", "50ms")]);
    let mut page = Page::open(hub.url(0), &example_for(&hub, "YOUR_JWT_TOKEN"));
    let expected = json!({ "error": "AuthenticationError", "message": "Invalid or expired authentication token" });
    page.expect(json!(["SSE connection established"]));
    page.expect(json!(["SSE connection error:", null]));
    page.expect(json!(["Error:", expected]));
    // The page reconnects, but not before the retry time, which is an hour by default. The example takes the end of a connection
    // for an event with data.
    while page.next() != json!(["Error:", expected]) {}
}
