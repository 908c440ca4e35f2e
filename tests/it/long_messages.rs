//! Messages of a megabyte are checked over many turns, and what their client sends after them waits.

use serde_json::{Value, json};

use crate::support::{
    hub::Hub,
    socket_io::{Carried, Polled, SocketClient},
    sse::SseClient,
    websocket::WebSocketClient,
};

/// JSON of nearly a megabyte, of many small values.
fn long_json() -> String {
    format!("[{}{{}}]", "{},0,\"\",".repeat(110_000))
}

fn start() -> Hub {
    Hub::start_with(&["--reactors", "2"], &[("limits.message_bytes_max", "1000000")])
}

/// The data of the next `count` events of `stream`. Long data is given by its length.
fn next_payloads(stream: &mut SseClient, count: usize) -> Vec<String> {
    let show = |data: String| if data.len() < 100 { data } else { data.len().to_string() };
    (0..count).map(|_| show(stream.next().data)).collect()
}

#[test]
fn commands_behind_a_long_one_wait() {
    let hub = start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let data = long_json();
    let publish = |data: &str, reference: u32| {
        format!("{{\"op\":\"publish\",\"topic\":\"t\",\"data\":{data},\"ref\":{reference}}}")
    };
    for (reference, data) in [(1, "1"), (2, &data), (3, "3"), (4, &data), (5, "5")] {
        socket.send(&publish(data, reference));
    }
    let length = data.len().to_string();
    assert_eq!(next_payloads(&mut stream, 5), ["1", &length, "3", &length, "5"]);
    let references: Vec<Value> = (0..5).map(|_| socket.next_json()["ref"].clone()).collect();
    assert_eq!(references, [1, 2, 3, 4, 5]);
}

#[test]
fn a_long_message_that_is_no_command_is_refused() {
    let hub = start();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let data = long_json();
    socket.send(&data[..data.len() - 1]);
    let refused = socket.next_json();
    assert_eq!((&refused["op"], &refused["code"]), (&json!("error"), &json!("BadRequest")), "{refused}");
    socket.send(&format!("{{\"op\":\"ping\",\"ref\":{data}}}"));
    assert_eq!(socket.next_json()["code"], "BadRequest");
    assert_eq!(socket.ask(&json!({ "op": "ping", "ref": 1 }))["op"], "pong", "the connection goes on");
}

fn events_behind_a_long_one_wait(mut client: impl SocketClient, hub: &Hub) {
    let mut stream = SseClient::open(hub, "/sse?topic=t");
    let data = long_json();
    let publish = |data: &str| format!("42[\"publish\",{{\"topic\":\"t\",\"data\":{data}}}]");
    for data in ["1", &data, "3", &data, "5"] {
        client.send(&publish(data));
    }
    let length = data.len().to_string();
    assert_eq!(next_payloads(&mut stream, 5), ["1", &length, "3", &length, "5"]);
    for _ in 0..5 {
        client.expect_event("published");
    }
    // Nothing is lost of a message that ends a session either.
    client.send(&publish(&data));
    client.send("41");
    assert_eq!(next_payloads(&mut stream, 1), [length]);
}

#[test]
fn events_behind_a_long_one_wait_over_a_websocket() {
    let hub = start();
    events_behind_a_long_one_wait(Carried::open(&hub).enter(), &hub);
}

#[test]
fn events_behind_a_long_one_wait_by_polling() {
    let hub = start();
    events_behind_a_long_one_wait(Polled::open(&hub).enter(), &hub);
}

#[test]
fn a_long_packet_that_is_no_json_ends_the_session() {
    let hub = start();
    let mut client = Carried::open(&hub).enter();
    let data = long_json();
    client.send(&format!("42[\"publish\",{data}"));
    client.wait_for_end();
    assert_eq!(hub.post("/publish/t", "1").status, 200, "the hub goes on");
}

/// Clients that get it as JSON have to know whether it is JSON.
#[test]
fn a_long_payload_is_json_or_text_to_every_transport() {
    let hub = start();
    let mut socket = WebSocketClient::open_v1(&hub, "/ws?topic=t");
    let mut client = Carried::open(&hub).enter();
    client.subscribe("t");
    let data = long_json();
    let check = |payload: &str, expected: &Value| {
        assert_eq!(hub.post("/publish/t", payload).status, 200);
        let event = loop {
            let message = socket.next_json();
            if message["op"] == "event" {
                break message;
            }
        };
        assert!(&event["data"] == expected, "fanfare.v1");
        assert!(&client.expect_event("message") == expected, "Socket.IO");
    };
    let value: Value = serde_json::from_str(&data).expect("JSON");
    let mut check = check;
    check(&data, &value);
    let half = &data[..data.len() - 1];
    check(half, &json!(half));
    let words = "words, ".repeat(100_000);
    check(&words, &json!(words));
}

/// A masked frame of a client (RFC 6455 section 5.2), with a mask of zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A client that sends its last messages and closes at once: all are taken, in whatever part of a turn the end is read.
#[test]
fn messages_before_a_close_frame_are_published() {
    let hub = start();
    let data = long_json();
    let length = data.len().to_string();
    let command = |data: &str| format!("{{\"op\":\"publish\",\"topic\":\"t\",\"data\":{data}}}");
    let event = |data: &str| format!("42[\"publish\",{{\"topic\":\"t\",\"data\":{data}}}]");
    let check = |socket: &WebSocketClient, publish: &dyn Fn(&str) -> String| {
        let mut stream = SseClient::open(&hub, "/sse?topic=t");
        let said = [&*data, "2"].map(|data| frame(1, publish(data).as_bytes()));
        socket.send_bytes(&[said.concat(), frame(9, b"ping"), frame(8, &[0x03, 0xe8])].concat());
        assert_eq!(next_payloads(&mut stream, 2), [&*length, "2"]);
    };
    for _ in 0..4 {
        check(&WebSocketClient::open_v1(&hub, "/ws"), &command);
        check(&Carried::open(&hub).enter().websocket, &event);
    }
}
