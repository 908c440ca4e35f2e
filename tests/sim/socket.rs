//! What a Socket.IO client says and hears, as text.

use fanfare::{event::EventId, topic::Topic};
use serde_json::{Value, json, value::RawValue};

/// Where a session is opened that a WebSocket carries.
pub(crate) const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";
/// Enters the namespace `/`.
pub(crate) const CONNECT: &str = "40";
/// Answers a ping.
pub(crate) const PONG: &str = "3";

/// Events that are answers.
pub(crate) const ANSWERS: [&str; 6] = ["connected", "error", "pong", "published", "subscribed", "unsubscribed"];

/// A packet of the hub.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The session is open, or the client has entered.
    Greeting,
    Ping,
    /// An event, whoever it is from.
    Event {
        name: String,
        data: &'a RawValue,
    },
    /// The answer to what was asked under this number.
    Answer {
        number: u64,
        answer: Value,
    },
}

impl<'a> Heard<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let array = |text: &'a str| serde_json::from_str::<Vec<&RawValue>>(text).expect("an array");
        match text.split_at(text.len().min(2)) {
            ("2", _) => Self::Ping,
            ("0{" | "40", _) => Self::Greeting,
            ("42", event) => {
                let parts = array(event);
                let [name, data] = parts.as_slice() else { panic!("not a name and what it is about: {text}") };
                Self::Event { name: serde_json::from_str(name.get()).expect("a name"), data }
            }
            ("43", answer) => {
                let (number, _) = answer.split_once('[').expect("an array");
                let answer: Vec<Value> = serde_json::from_str(&answer[number.len()..]).expect("an array");
                let [answer] = <[Value; 1]>::try_from(answer).expect("one answer");
                Self::Answer { number: number.parse().expect("a number"), answer }
            }
            _ => panic!("unexpected: {text}"),
        }
    }
}

pub(crate) fn write_subscribe(topic: &Topic, since: Option<EventId>, reference: &str, out: &mut Vec<u8>) {
    let since = since.map(|id| id.to_string());
    write_event("subscribe", &json!({ "topic": topic.as_str(), "since": since }), reference, out);
}

pub(crate) fn write_unsubscribe(topic: &Topic, reference: &str, out: &mut Vec<u8>) {
    write_event("unsubscribe", &json!({ "topic": topic.as_str() }), reference, out);
}

pub(crate) fn write_ping(reference: &str, out: &mut Vec<u8>) {
    write_event("ping", &Value::Null, reference, out);
}

/// `data` is JSON text, which arrives as it is.
pub(crate) fn write_publish(topic: &Topic, data: &str, reference: &str, out: &mut Vec<u8>) {
    let packet = format!("42{reference}[\"publish\",{{\"topic\":\"{topic}\",\"data\":{data}}}]");
    out.extend_from_slice(packet.as_bytes());
}

fn write_event(name: &str, argument: &Value, reference: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("42{reference}{}", json!([name, argument])).as_bytes());
}
