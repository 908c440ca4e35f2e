//! The command-line clients of `scripts/examples`, as a user runs them.

use serde_json::json;

use crate::support::{example::Client, hub::Hub, relay::Relay};

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
