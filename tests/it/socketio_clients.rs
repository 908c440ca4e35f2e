//! Socket.IO with its own client libraries for Node, Python and browsers, over each of their transports, directly and through
//! nginx.

use serde_json::{Value, json};

use crate::support::{
    browser::Page,
    conversation::Conversation,
    example::{Client, run_in_node},
    guarded::{Guarded, USER},
    hub::Hub,
    nginx::Nginx,
    redis::RedisServer,
    relay::Relay,
    wait_until,
};

/// By default both libraries begin with polling and upgrade to a WebSocket.
const CLIENTS: [Client; 6] = [
    Client::Node(&[]),
    Client::Node(&["--transports", "websocket"]),
    Client::Node(&["--transports", "polling"]),
    Client::Python(&[]),
    Client::Python(&["--transports", "websocket"]),
    Client::Python(&["--transports", "polling"]),
];

/// Checks that all of `clients` get the same events.
#[track_caller]
fn check_clients(clients: &[Client], server: &str, certificate: Option<&str>, publish: impl Fn(&str, &Value)) {
    let arguments = ["--well", "WELL-001", "--count", "3"];
    let listening: Vec<Conversation> =
        clients.iter().map(|client| client.start(server, &arguments, certificate)).collect();
    for (client, listening) in clients.iter().zip(&listening) {
        let received: Value = serde_json::from_str(&listening.wait_for("subscribed ")).expect("it prints JSON");
        assert_eq!(received["well_id"], "WELL-001", "{client:?}");
    }
    for number in 0..3 {
        publish("wells.WELL-001?type=telemetry_update", &json!({ "number": number }));
    }
    for (client, listening) in clients.iter().zip(listening) {
        let mut received = [(); 3].map(|()| listening.wait_for("event telemetry_update ").replace(": ", ":"));
        // The library handles each message in its own thread, so it may print them in another order.
        if matches!(client, Client::Python(_)) {
            received.sort();
        }
        assert_eq!(received, [0, 1, 2].map(|number| json!({ "number": number }).to_string()), "{client:?}");
        assert!(listening.wait().success(), "{client:?}");
    }
}

#[test]
fn every_client_with_every_transport() {
    let hub = Hub::start();
    check_clients(&CLIENTS, hub.url(0), None, |topic, data| drop(hub.publish(topic, data.to_string())));
    hub.wait_for_listeners("wells.WELL-001", 0);
}

#[test]
fn every_client_with_every_transport_through_nginx() {
    let server = RedisServer::start();
    let hubs = [(); 2].map(|()| Hub::start_with(&["--redis", &server.url()], &[]));
    let nginx = Nginx::start_tls(&hubs.each_ref().map(Hub::address));
    check_clients(&CLIENTS, &nginx.url(), Some(&nginx.certificate()), |topic, data| {
        assert_eq!(hubs[0].post(&format!("/publish/{topic}"), data.to_string()).status, 200);
    });
}

/// The library collects packets during a request and sends all of them with the next one.
#[test]
fn the_library_says_much_at_once() {
    let hub = Hub::start_with(&[], &[("limits.messages_per_second", "100000")]);
    let script = r#"
        import { io } from "socket.io-client";
        const socket = io(SERVER, { transports: ["polling"] });
        const emits = Array.from({ length: 1500 }, () => socket.emitWithAck("ping"));
        const answers = await Promise.all(emits);
        console.log("answered", answers.filter(it => it.timestamp).length);
        socket.close();
    "#;
    let running = run_in_node(&script.replace("SERVER", &format!("{:?}", hub.url(0))), None);
    assert_eq!(running.wait_for("answered "), "1500");
    assert!(running.wait().success());
}

/// The network fails and recovers. The hub recovers the session and sends the missed events.
#[test]
fn a_session_goes_on_where_it_was() {
    let hub = Hub::start_with(&[], &[("socketio.recovery", "1m")]);
    let network = Relay::start(hub.address());
    let server = format!("http://{}", network.address());
    let arguments = ["--well", "WELL-001", "--count", "3", "--transports", "websocket"];
    let listening = Client::Node(&[]).start(&server, &arguments, None);
    listening.wait_for("subscribed ");
    hub.publish("wells.WELL-001?type=alert", "1");
    assert_eq!(listening.wait_for("event alert "), "1");
    network.cut();
    listening.wait_for("lost ");
    hub.publish("wells.WELL-001?type=alert", "2");
    network.restore();
    assert_eq!(listening.wait_for("recovered"), "");
    assert_eq!(listening.wait_for("event alert "), "2", "what was missed");
    hub.publish("wells.WELL-001?type=alert", "3");
    assert_eq!(listening.wait_for("event alert "), "3", "and what follows");
    assert!(listening.wait().success());
}

/// The complete example of the ESP platform's document, as printed but for the address and the token.
fn documented_example(server: &str, token: &str) -> String {
    let text = include_str!("documents/esp_socketio.js");
    text.replace("http://localhost:8000", server).replace("YOUR_JWT_TOKEN", token)
}

const ALERT: &str = r#"{"event":"alert","well_id":"WELL-002","alert":{"type":"high_vibration"}}"#;
const TELEMETRY: &str = r#"{"event":"telemetry_update","well_id":"WELL-001","data":{"flow_rate":1000.5}}"#;

fn wait_for_both_wells(hub: &Hub) {
    hub.wait_for_listeners("wells.WELL-001", 1);
    hub.wait_for_listeners("wells.WELL-002", 1);
}

#[test]
fn the_documented_example_runs_in_node() {
    let hub = Hub::start();
    let script = r#"
        import { io } from "socket.io-client";
        const tell = word => data => console.log(word, JSON.stringify(data));
        const [updateDashboard, showAlertNotification] = [tell("dashboard"), tell("notification")];
    "#;
    let running = run_in_node(&format!("{script}{}", documented_example(hub.url(0), "any")), None);
    running.wait_for("Connected to server");
    wait_for_both_wells(&hub);
    hub.publish("wells.WELL-001?type=telemetry_update", TELEMETRY);
    assert_eq!(running.wait_for("dashboard "), TELEMETRY);
    hub.publish("wells.WELL-002?type=alert", ALERT);
    assert_eq!(running.wait_for("notification "), ALERT);
    let address = hub.address().to_owned();
    assert!(hub.terminate().success());
    running.wait_for("Disconnected from server");
    // Only the library makes it reconnect.
    let hub = Hub::start_at(&address, &[], &[]);
    running.wait_for("Connected to server");
    wait_for_both_wells(&hub);
}

#[test]
fn the_documented_example_runs_in_a_browser() {
    let hub = Hub::start();
    let script = r#"
        const [updateDashboard, showAlertNotification] = ["dashboard", "notification"].map(word => data => report(word, data));
    "#;
    let mut page = Page::open_with_socketio(hub.url(0), &format!("{script}{}", documented_example(hub.url(0), "any")));
    wait_for_both_wells(&hub);
    hub.publish("wells.WELL-001?type=telemetry_update", TELEMETRY);
    page.expect(json!(["dashboard", serde_json::from_str::<Value>(TELEMETRY).expect("it is JSON")]));
    hub.publish("wells.WELL-002?type=alert", ALERT);
    page.expect(json!(["notification", serde_json::from_str::<Value>(ALERT).expect("it is JSON")]));
}

/// A client reconnects with a renewed token by itself. A client that cannot renew its token gets the reason of the refusal.
#[test]
fn clients_sign_in() {
    let guarded = Guarded::start("4s", &[], &[("socketio.recovery", "1m")]);
    let clients = [Client::Node(&[]), Client::Python(&["--transports", "websocket"])];
    let arguments = ["--user", USER, "--well", "WELL-001", "--count", "2"];
    let listening = clients.map(|client| client.start(guarded.hub.url(0), &arguments, None));
    for listening in &listening {
        let received: Value = serde_json::from_str(&listening.wait_for("connected ")).expect("it prints JSON");
        assert_eq!((&received["user_id"], &received["username"]), (&json!(USER), &json!(USER)));
    }
    let both = || (guarded.listeners("wells.WELL-001") == 2).then_some(());
    wait_until("both listen", both);
    guarded.publish("wells.WELL-001?type=alert", "1");
    for (client, listening) in clients.iter().zip(&listening) {
        assert_eq!(listening.wait_for("event alert "), "1", "{client:?}");
        listening.wait_for("lost ");
    }
    wait_until("both listen again", both);
    guarded.publish("wells.WELL-001?type=alert", "2");
    for (client, listening) in clients.iter().zip(listening) {
        assert_eq!(listening.wait_for("event alert "), "2", "{client:?}");
        assert!(listening.wait().success(), "{client:?}");
    }
    let refused = Client::Node(&[]).start(guarded.hub.url(0), &["--token", "x.y.z", "--well", "WELL-001"], None);
    assert_eq!(refused.wait_for("refused "), "Invalid or expired authentication token");
}
