//! The command-line clients of `scripts/examples`, as a user runs them.

use std::thread;

use serde_json::json;

use crate::support::{
    example::Client,
    guarded::{Guarded, USER},
    hub::Hub,
    relay::Relay,
    wait_until,
};

/// The clients that resume, and how the test sees that they have used a fresh token: a stream ends with the token that opened it, a
/// WebSocket stays open.
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
        network.restore();
        let mut missed = [listening.wait_for("event "), listening.wait_for("event ")];
        missed.sort();
        assert_eq!(missed, [r#"alert {"n":3}"#, r#"message {"n":4}"#], "{client:?}");
        assert!(listening.wait().success(), "{client:?}: it ends after as many events as its flag says");
        hub.wait_for_listeners("orders.eu", 0);
    }
}

#[test]
fn clients_sign_in_and_come_back_with_a_fresh_token() {
    let guarded = Guarded::start("5s", &[], &[("sse.retry", "100ms")]);
    thread::scope(|scope| {
        for (number, (client, renewed)) in RESUMING.into_iter().enumerate() {
            let guarded = &guarded;
            scope.spawn(move || check_renewal(guarded, &format!("WELL-{number}"), client, renewed));
        }
    });
}

/// A client of `well` gets the events before its first token expires, and those after it.
#[track_caller]
fn check_renewal(guarded: &Guarded, well: &str, client: Client, renewed: &str) {
    let arguments = ["--user", USER, "--well", well, "--count", "2"];
    let listening = client.start(guarded.hub.url(0), &arguments, None);
    listening.wait_for("open ");
    wait_until("it listens", || (0 < guarded.listeners(&format!("wells.{well}"))).then_some(()));
    guarded.publish(&format!("wells.{well}?type=alert"), "1");
    assert_eq!(listening.wait_for("event alert "), "1", "{client:?}");
    listening.wait_for(renewed);
    listening.wait_for(renewed);
    guarded.publish(&format!("wells.{well}?type=alert"), "2");
    assert_eq!(listening.wait_for("event alert "), "2", "{client:?}");
    assert!(listening.wait().success(), "{client:?}");
}

#[test]
fn clients_show_why_they_are_refused() {
    let guarded = Guarded::start("1h", &[], &[]);
    for (client, _) in RESUMING {
        let arguments = ["--user", "nobody", "--well", "WELL-001"];
        let refused = client.start(guarded.hub.url(0), &arguments, None);
        assert!(!refused.wait().success(), "{client:?}");
    }
}
