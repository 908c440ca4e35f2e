//! Reserved event types: no client's event can be taken for a message of the hub.

use fanfare_core::event::RESERVED_KINDS;
use serde_json::json;

use crate::support::{
    hub::Hub,
    redis::RedisServer,
    socket_io::{Carried, SocketClient},
    sse::SseClient,
    wait_until,
    websocket::WebSocketClient,
};

/// The readers of one topic: named and unnamed event streams, `fanfare.v1`, Socket.IO.
struct Readers {
    named: SseClient,
    unnamed: SseClient,
    v1: WebSocketClient,
    carried: Carried,
}

impl Readers {
    fn open(hub: &Hub, topic: &str) -> Self {
        let mut carried = Carried::open(hub).enter();
        carried.subscribe(topic);
        Self {
            named: SseClient::open(hub, &format!("/sse?topic={topic}")),
            unnamed: SseClient::open(hub, &format!("/sse?topic={topic}&named=0")),
            v1: WebSocketClient::open_v1(hub, &format!("/ws?topic={topic}")),
            carried,
        }
    }

    /// The next event has these names on event streams and in Socket.IO, and its type is `kind` where types are data.
    #[track_caller]
    fn expect(&mut self, kind: &str, on_sse: &str, on_socket_io: &str) {
        let (named, unnamed) = (self.named.next(), self.unnamed.next());
        // Browsers deliver an event without a name as `message`.
        assert_eq!((named.kind.as_str(), unnamed.kind.as_str()), (on_sse, ""), "{kind}");
        let received = self.v1.next_json();
        assert_eq!((&received["op"], &received["type"]), (&json!("event"), &json!(kind)));
        assert_eq!(self.carried.next_event().name, on_socket_io, "{kind}");
    }
}

#[test]
fn native_routes_publish_no_reserved_type() {
    let hub = Hub::start_with(&[], &[("limits.messages_per_second", "1000")]);
    let mut readers = Readers::open(&hub, "t");
    let mut v1 = WebSocketClient::open_v1(&hub, "/ws");
    let mut carried = Carried::open(&hub).enter();
    for kind in RESERVED_KINDS {
        let single = hub.post(&format!("/publish/t?type={kind}"), "1");
        let batch = json!([{ "topic": "t", "data": 1 }, { "topic": "t", "data": 2, "type": kind }]);
        for refused in [single, hub.post("/publish", batch.to_string())] {
            let error = refused.json()["error"].clone();
            assert_eq!(
                (refused.status, &error["code"], &error["field"]),
                (400, &json!("bad_type"), &json!("type")),
                "{kind}"
            );
        }
        let command = json!({ "op": "publish", "topic": "t", "type": kind, "data": 1 });
        assert_eq!(v1.ask(&command)["code"], "BadType", "{kind}");
        carried.emit("publish", &json!({ "topic": "t", "type": kind, "data": 1 }));
        assert_eq!(carried.expect_event("error")["error"], "ValidationError", "{kind}");
    }
    // None of them was published. Similar types are not reserved.
    assert_eq!(hub.post("/publish/t?type=errors", "1").status, 200);
    readers.expect("errors", "errors", "errors");
    assert_eq!(hub.metric("fanfare_reserved_types_total"), 0.0);
}

/// APIs that carry types as data accept any type. Where the type names the event, it must differ from the hub's own names.
#[test]
fn a_type_that_is_data_elsewhere_is_shown_as_a_message() {
    let hub = Hub::start();
    let mut readers = Readers::open(&hub, "streams.default");
    let mut stream = SseClient::open(&hub, "/api/v1/events/stream/default").behind_greeting();
    let mut check = |kind: &str, on_sse: &str, on_socket_io: &str| {
        let body = json!({ "stream_id": "default", "type": kind, "message": "m", "data": {} });
        let taken = hub.post("/api/v1/events/broadcast", body.to_string());
        assert_eq!(taken.status, 200, "{}", taken.text());
        let event = stream.next();
        let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!((event.kind.as_str(), &data["type"]), ("", &json!(kind)));
        readers.expect(kind, on_sse, on_socket_io);
    };
    for kind in RESERVED_KINDS {
        check(kind, "", "message");
    }
    // Names that only one transport reserves.
    check("open", "", "open");
    for answer in ["connected", "subscribed", "unsubscribed", "published", "stats", "pong"] {
        check(answer, answer, "message");
    }
    check("alert", "alert", "alert");
    assert_eq!(hub.metric("fanfare_reserved_types_total"), (RESERVED_KINDS.len() + 7) as f64);
}

#[test]
fn a_type_that_a_broker_brings_is_shown_as_a_message() {
    let server = RedisServer::start();
    let hub = Hub::start_with(&["--redis", &server.url()], &[]);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let mut readers = Readers::open(&hub, "t");
    for kind in ["gap", "error", "disconnect"] {
        // As an older hub, or any program, may publish it.
        let envelope = [b"\xFFfanfare1\n".as_slice(), json!({ "type": kind }).to_string().as_bytes(), b"\n1"].concat();
        let receivers: u64 =
            redis::cmd("PUBLISH").arg("t").arg(envelope).query(&mut server.connect()).expect("the server answers");
        assert_eq!(receivers, 1);
        readers.expect(kind, "", "message");
    }
    assert_eq!(hub.metric("fanfare_reserved_types_total"), 3.0);
    assert_eq!(hub.metric("fanfare_losses_total"), 0.0);
}
