//! The ESP IoT platform's events over Socket.IO, packet by packet.

use serde_json::{Value, json};

use crate::{
    support::{hub::Hub, sse::SseClient, websocket::WebSocketClient},
    wells::{STREAM, alert, expect_greeting, expect_timestamp, telemetry},
    wells_rights::{guarded_hub, token},
};

/// A client in the default namespace, on a WebSocket from the start.
struct Client(WebSocketClient);

impl Client {
    /// Connects with this `auth` object. The answer is the next packet.
    #[track_caller]
    fn connect(hub: &Hub, auth: &Value) -> Self {
        let mut client = Self(WebSocketClient::open(hub, "/socket.io/?EIO=4&transport=websocket"));
        assert!(client.next().starts_with("0{"), "Engine.IO opens");
        client.0.send(&format!("40{auth}"));
        client
    }

    /// The same client, admitted and greeted.
    #[track_caller]
    fn open(hub: &Hub, auth: &Value) -> Self {
        let mut client = Self::connect(hub, auth);
        assert!(client.next().starts_with("40{\"sid\":"));
        assert_eq!(client.event().0, "connected");
        client
    }

    #[track_caller]
    fn next(&mut self) -> String {
        loop {
            let packet = self.0.next_text();
            if packet != "2" {
                return packet;
            }
            self.0.send("3");
        }
    }

    /// The next packet, which must be an event: its name and argument.
    #[track_caller]
    fn event(&mut self) -> (String, Value) {
        let packet = self.next();
        let text = packet.strip_prefix("42").unwrap_or_else(|| panic!("no event: {packet}"));
        let mut parts: Vec<Value> = serde_json::from_str(text).expect("JSON");
        assert_eq!(parts.len(), 2, "{packet}");
        let data = parts.pop().unwrap_or_default();
        (parts[0].as_str().expect("a name").to_owned(), data)
    }

    /// Emits an event and returns the answering event.
    #[track_caller]
    fn ask(&mut self, event: &Value) -> (String, Value) {
        self.0.send(&format!("42{event}"));
        self.event()
    }
}

#[track_caller]
fn check(answer: (String, Value), name: &str, expected: &Value) {
    let (seen, mut data) = answer;
    assert_eq!(seen, name, "{data}");
    if let Some(timestamp) = data.as_object_mut().and_then(|fields| fields.remove("timestamp")) {
        expect_timestamp(&timestamp);
    }
    assert_eq!(data, *expected);
}

#[test]
fn the_events_of_the_document() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, STREAM);
    expect_greeting(&mut stream);
    let mut client = Client::connect(&hub, &json!({ "token": "YOUR_JWT_TOKEN" }));
    assert!(client.next().starts_with("40{\"sid\":"));
    let message = "Connected to ESP IoT Platform";
    let welcome = json!({ "message": message, "user_id": null, "username": null });
    check(client.event(), "connected", &welcome);
    check(client.ask(&json!(["ping"])), "pong", &json!({}));
    let (one, two) = (json!({ "well_id": "WELL-001" }), json!({ "well_id": "WELL-002" }));
    check(client.ask(&json!(["subscribe", one])), "subscribed", &one);
    check(client.ask(&json!(["subscribe", two])), "subscribed", &two);
    assert_eq!(hub.post("/publish/wells.WELL-001?type=telemetry_update", telemetry(1000.5).to_string()).status, 200);
    check_whole(client.event(), "telemetry_update", &telemetry(1000.5));
    let published = client.ask(&json!(["publish", { "well_id": "WELL-001", "type": "alert", "data": alert() }]));
    // The order of the receipt and of the event itself is not defined.
    let other = client.event();
    let (receipt, event) = if published.0 == "published" { (published, other) } else { (other, published) };
    assert_eq!((receipt.0.as_str(), &receipt.1["well_id"]), ("published", &json!("WELL-001")));
    check_whole(event, "alert", &alert());
    assert_eq!([stream.next().kind, stream.next().kind], ["telemetry_update", "alert"]);
    let (name, stats) = client.ask(&json!(["get_stats"]));
    assert_eq!((name.as_str(), &stats["subscriptions"]), ("stats", &json!(["WELL-001", "WELL-002"])));
    assert_eq!(stats["message_count"], 5);
    expect_timestamp(&stats["connected_at"]);
    check(client.ask(&json!(["unsubscribe", one])), "unsubscribed", &one);
    hub.publish("wells.WELL-001", "1");
    let required = json!({ "error": "ValidationError", "message": "well_id is required" });
    check(client.ask(&json!(["subscribe"])), "error", &required);
}

#[track_caller]
fn check_whole(answer: (String, Value), name: &str, expected: &Value) {
    assert_eq!(answer, (name.to_owned(), expected.clone()));
}

#[test]
fn an_acknowledgement_says_the_same() {
    let hub = Hub::start();
    let mut client = Client::open(&hub, &json!({}));
    client.0.send(r#"427["subscribe",{"well_id":"W1"}]"#);
    let (name, data) = client.event();
    assert_eq!((name.as_str(), client.next()), ("subscribed", format!("437[{}]", in_order(&data))));
    client.0.send(r#"428["subscribe",{}]"#);
    let (name, _) = client.event();
    let error = r#"{"error":"ValidationError","message":"well_id is required"}"#;
    assert_eq!((name.as_str(), client.next()), ("error", format!("438[{error}]")));
}

/// As the hub encodes it.
fn in_order(data: &Value) -> String {
    format!(r#"{{"well_id":{},"timestamp":{}}}"#, data["well_id"], data["timestamp"])
}

#[test]
fn rights_and_roles() {
    let hub = guarded_hub(&[]);
    for auth in [json!({}), json!({ "token": "YOUR_JWT_TOKEN" }), json!({ "token": 7 })] {
        let refused = Client::connect(&hub, &auth).next();
        let refused: Value = serde_json::from_str(refused.strip_prefix("44").expect("a refusal")).expect("JSON");
        assert_eq!(refused["data"]["error"], "AuthenticationError", "{auth}");
        assert_eq!(refused["message"], refused["data"]["message"]);
    }
    let operator = token(&["--role", "operator", "--subscribe", "wells.*", "--publish", "wells.W1"]);
    let mut client = Client::connect(&hub, &json!({ "token": operator }));
    assert!(client.next().starts_with("40{\"sid\":"));
    let (_, welcome) = client.event();
    assert_eq!((&welcome["user_id"], &welcome["username"]), (&json!("user-123"), &json!("john.doe")));
    let no_right = json!({ "error": "AuthorizationError", "message": "The token gives no right to this" });
    check(client.ask(&json!(["subscribe", { "topic": "orders" }])), "error", &no_right);
    check(client.ask(&json!(["publish", { "well_id": "W2", "data": 1 }])), "error", &no_right);
    assert_eq!(client.ask(&json!(["publish", { "well_id": "W1", "data": 1 }])).0, "published");
    assert!(client.ask(&json!(["get_stats"])).1["server"].is_null());
    let mut admin = Client::open(&hub, &json!({ "token": token(&["--role", "admin"]) }));
    let (_, stats) = admin.ask(&json!(["get_stats"]));
    assert!(stats["server"]["connections"].is_object(), "{stats}");
    assert_eq!(admin.ask(&json!(["subscribe", { "topic": "orders" }])).0, "subscribed");
}

#[test]
fn a_token_runs_out() {
    let hub = guarded_hub(&[]);
    let brief = token(&["--subscribe", "wells.*", "--ttl", "2s"]);
    let mut client = Client::open(&hub, &json!({ "token": brief }));
    let (name, error) = client.event();
    assert_eq!((name.as_str(), &error["error"]), ("error", &json!("AuthenticationError")));
    // The client is removed from the namespace, so that it does not reconnect by itself with the same token.
    assert_eq!(client.next(), "41");
}
