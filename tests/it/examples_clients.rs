//! The command-line clients of `scripts/examples`, as a user runs them.

use fanfare::protocol::http::Method;
use serde_json::json;

use crate::support::{
    example::Client,
    guarded::{Guarded, USER},
    http::HttpConnection,
    hub::Hub,
    relay::Relay,
};

/// Those that go on where they were. And how one sees that they have shown a fresh token: a stream ends with the token it
/// was opened with, a WebSocket lives on.
const RESUMING: [(Client, &str); 3] = [
    (Client::Python(&["--sse"]), "lost "),
    (Client::Node(&["--sse"]), "lost "),
    (Client::Node(&["--websocket"]), "authenticated "),
];

#[test]
fn clients_listen_and_go_on_where_they_were() {
    let hub = Hub::start_with(&[], &[("sse.retry", "100ms")]);
    for (client, _) in RESUMING {
        let network = Relay::start(hub.address());
        let server = format!("http://{}", network.address());
        let listening = client.start(&server, &["--well", "WELL-001", "--topic", "orders.eu", "--count", "4"], None);
        listening.wait_for("open ");
        hub.wait_for_listeners("orders.eu", 1);
        hub.publish("orders.eu", json!({ "n": 1 }).to_string());
        assert_eq!(listening.wait_for("event "), r#"message {"n":1}"#.to_owned(), "{client:?}");
        hub.publish("wells.WELL-001?type=alert", json!({ "n": 2 }).to_string());
        assert_eq!(listening.wait_for("event "), r#"alert {"n":2}"#.to_owned(), "{client:?}");
        network.cut();
        listening.wait_for("lost ");
        hub.publish("wells.WELL-001?type=alert", json!({ "n": 3 }).to_string());
        hub.publish("orders.eu", json!({ "n": 4 }).to_string());
        network.mend();
        let mut missed = [listening.wait_for("event "), listening.wait_for("event ")];
        missed.sort();
        assert_eq!(missed, [r#"alert {"n":3}"#, r#"message {"n":4}"#], "{client:?}");
        assert!(listening.wait().success(), "{client:?}: it leaves after as many as it was told to wait for");
        hub.wait_for_listeners("orders.eu", 0);
    }
}

/// Sends what `admin` publishes.
fn publish(guarded: &Guarded, token: &str, data: &str) {
    let credentials = format!("Bearer {token}");
    let mut connection = HttpConnection::new(guarded.hub.connect());
    let headers = [("Authorization", credentials.as_str())];
    let taken = connection.request(Method::Post, "/publish/wells.WELL-001?type=alert", &headers, data.as_bytes());
    assert_eq!(taken.status, 200, "{}", taken.text());
}

#[test]
fn clients_sign_in_and_come_back_with_a_fresh_token() {
    let guarded = Guarded::start("2s", &[], &[("sse.retry", "100ms")]);
    let listening = RESUMING.map(|(client, _)| {
        let arguments = ["--user", USER, "--well", "WELL-001", "--count", "2"];
        let listening = client.start(guarded.hub.url(0), &arguments, None);
        listening.wait_for("open ");
        listening
    });
    publish(&guarded, &guarded.sign_in("admin"), "1");
    for ((client, renewed), listening) in RESUMING.iter().zip(&listening) {
        assert_eq!(listening.wait_for("event alert "), "1", "{client:?}");
        listening.wait_for(renewed);
        listening.wait_for(renewed);
    }
    publish(&guarded, &guarded.sign_in("admin"), "2");
    for ((client, _), listening) in RESUMING.iter().zip(listening) {
        assert_eq!(listening.wait_for("event alert "), "2", "{client:?}");
        assert!(listening.wait().success(), "{client:?}");
    }
}

#[test]
fn clients_say_why_they_are_not_let_in() {
    let guarded = Guarded::start("1h", &[], &[]);
    for (client, _) in RESUMING {
        let arguments = ["--user", "nobody", "--well", "WELL-001"];
        let refused = client.start(guarded.hub.url(0), &arguments, None);
        assert!(!refused.wait().success(), "{client:?}");
    }
}
