//! The command-line clients of `scripts/examples`, as a user runs them.

use std::process::Command;

use serde_json::json;

use crate::support::{
    conversation::Conversation,
    hub::Hub,
    packages::{node_examples, python},
    relay::Relay,
};

/// A client, and which of its transports.
#[derive(Clone, Copy, Debug)]
enum Client {
    Python(&'static [&'static str]),
    Node(&'static [&'static str]),
}

impl Client {
    fn start(self, server: &str, arguments: &[&str]) -> Conversation {
        let (mut command, flags) = match self {
            Self::Python(flags) => (Command::new(python()), flags),
            Self::Node(flags) => (Command::new("node"), flags),
        };
        let file = if matches!(self, Self::Python(_)) { "client.py" } else { "client.mjs" };
        command.current_dir(node_examples()).args([file, "--server", server]).args(flags).args(arguments);
        Conversation::run(&mut command, "nodejs")
    }
}

/// Those that speak what the hub itself is about: they go on where they were.
const RESUMING: [Client; 3] = [Client::Python(&["--sse"]), Client::Node(&["--sse"]), Client::Node(&["--websocket"])];

#[test]
fn clients_listen_and_go_on_where_they_were() {
    let hub = Hub::start_with(&[], &[("sse.retry", "100ms")]);
    for client in RESUMING {
        let network = Relay::start(hub.address());
        let server = format!("http://{}", network.address());
        let listening = client.start(&server, &["--well", "WELL-001", "--topic", "orders.eu", "--count", "4"]);
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
