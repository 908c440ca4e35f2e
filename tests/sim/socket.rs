//! What a Socket.IO client says and hears, as text.

use std::{borrow::Cow, collections::HashMap};

use fanfare_core::{event::EventId, topic::Topic};
use serde_json::{Value, json, value::RawValue};

use crate::{
    client::{Dialog, Pending},
    forms::read_gap,
    truth::Truth,
};

/// Addresses a packet to `namespace`, if it is one of a namespace.
pub(crate) fn address(packet: &mut Vec<u8>, namespace: &str) {
    if namespace != "/" && packet.starts_with(b"4") {
        packet.splice(2..2, format!("{namespace},").into_bytes());
    }
}

/// A packet of the hub as it would be in the namespace `/`; it has to be of `namespace`.
pub(crate) fn plain<'a>(packet: &'a str, namespace: &str) -> Cow<'a, str> {
    if namespace == "/" || !packet.starts_with('4') {
        return packet.into();
    }
    let (kind, rest) = packet.split_at(2);
    let rest = rest.strip_prefix(namespace).and_then(|rest| rest.strip_prefix(',')).expect("the client's namespace");
    format!("{kind}{rest}").into()
}

/// Where a session is opened that a WebSocket carries.
pub(crate) const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";
/// Enters the namespace `/`.
pub(crate) const CONNECT: &str = "40";
/// Answers a ping.
pub(crate) const PONG: &str = "3";

/// Events that are answers.
const ANSWERS: [&str; 6] = ["connected", "error", "pong", "published", "subscribed", "unsubscribed"];

/// A packet of the hub.
#[derive(Debug)]
pub(crate) enum ServerPacket<'a> {
    /// The session is open, or the client has entered.
    Greeting,
    Ping,
    /// An event, whoever it is from.
    Event {
        name: String,
        data: &'a RawValue,
        /// Where the client stands in all its topics.
        offset: Option<String>,
    },
    /// The answer to what was asked under this number.
    Answer {
        number: u64,
        answer: Value,
    },
}

impl<'a> ServerPacket<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let array = |text: &'a str| serde_json::from_str::<Vec<&RawValue>>(text).expect("an array");
        match text.split_at(text.len().min(2)) {
            ("2", _) => Self::Ping,
            ("0{" | "40", _) => Self::Greeting,
            ("42", event) => {
                let parts = array(event);
                let (name, data, offset) = match parts.as_slice() {
                    [name, data] => (name, data, None),
                    [name, data, offset] => (name, data, Some(serde_json::from_str(offset.get()).expect("an offset"))),
                    _ => panic!("not a name, what it is about, and perhaps an offset: {text}"),
                };
                Self::Event { name: serde_json::from_str(name.get()).expect("a name"), data, offset }
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

impl Dialog {
    /// Takes a packet of the hub, and checks what it says.
    pub(crate) fn take_packet(&mut self, packet: ServerPacket<'_>, truth: &Truth) {
        let was_behind = self.was_behind;
        match packet {
            ServerPacket::Greeting => {}
            ServerPacket::Ping => self.pings += 1,
            // Said once more by the acknowledgement that follows.
            ServerPacket::Event { name, .. } if ANSWERS.contains(&name.as_str()) => {}
            ServerPacket::Event { name, data, offset } if name == "gap" => {
                let (topic, gap) = read_gap(data.get().as_bytes()).expect("a gap");
                let topic = truth.place_of(&topic.expect("a topic"));
                self.check_offset(offset.as_deref(), topic, gap.to, truth);
                self.track(topic).take_gap(gap, was_behind, truth);
            }
            ServerPacket::Event { name, data, offset } => {
                let (topic, index) = truth.find(data.get().as_bytes());
                self.check_offset(offset.as_deref(), topic, truth.entry(topic, index).id, truth);
                assert_eq!(name, truth.entry(topic, index).kind.as_deref().unwrap_or("message"), "the event's name");
                self.track(topic).take(index, was_behind, truth);
            }
            ServerPacket::Answer { number, answer } => {
                let pending = self.commands.remove(&number);
                self.take_answer(pending.unwrap_or_else(|| panic!("{number} answered twice")), &answer, truth);
            }
        }
    }

    /// An offset tells where the client stands in each of its topics: in that of the event that carries it, and in the
    /// others where it stood.
    fn check_offset(&mut self, offset: Option<&str>, topic: usize, id: EventId, truth: &Truth) {
        assert_eq!(offset.is_some(), truth.dialect.recovers, "an offset: {offset:?}");
        let Some(offset) = offset else { return };
        let mut told: HashMap<usize, EventId> = HashMap::new();
        for place in offset.split(',') {
            let (topic, id) = place.split_once('@').expect("a topic and an id");
            let topic = truth.place_of(topic);
            assert!(told.insert(topic, id.parse().expect("an id")).is_none(), "twice in one offset: {offset}");
        }
        assert_eq!(told.get(&topic), Some(&id), "the event's own place: {offset}");
        self.offsets.insert(topic, id);
        for track in self.tracks.iter().filter(|track| !track.over) {
            let leaves = |it: &Pending| matches!(it, Pending::Unsubscribe(topic) if *topic == track.topic);
            let is_there = told.contains_key(&track.topic) || self.commands.values().any(leaves);
            assert!(is_there, "topic {} has no place in {offset}", track.topic);
        }
        for (topic, id) in told {
            assert_eq!(*self.offsets.entry(topic).or_insert(id), id, "topic {topic} in {offset}");
        }
    }

    fn take_answer(&mut self, pending: Pending, answer: &Value, truth: &Truth) {
        match (answer["error"].as_str(), pending) {
            (None, Pending::Subscribe(mut track)) => {
                let listens = self.tracks.iter().any(|other| other.topic == track.topic && !other.over);
                assert!(!listens, "subscribed to {} twice", track.topic);
                track.open(truth);
                self.tracks.push(track);
            }
            (None, Pending::Unsubscribe(topic)) => self.end_track(topic),
            (None, Pending::Publish(tag)) => self.confirmed.push((tag, Vec::new())),
            (None, Pending::Ping) => {}
            (Some("TooManyTopics" | "Cancelled" | "Overloaded"), Pending::Subscribe(_)) => {}
            (Some("ServiceUnavailable" | "UnknownOutcome"), Pending::Publish(_)) => {}
            (Some(error), pending) => panic!("{error}: {answer} about {pending:?}"),
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
