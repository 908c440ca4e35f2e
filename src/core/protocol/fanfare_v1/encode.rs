//! What the hub says: one JSON object a message.

use std::io::Write;

use crate::{
    event::{Event, EventId},
    gap::Gap,
    protocol::websocket,
    topic::Topic,
};

use super::{BadCommand, Reference};

/// The whole WebSocket frame of an event, encoded once and shared.
pub fn encode_event(event: &Event) -> Vec<u8> {
    let mut message = Vec::with_capacity(ENVELOPE_BYTES + event.data.len());
    match event.gap {
        Some(gap) => write_gap(&event.topic, gap, &mut message),
        None => write_event(event, &mut message),
    }
    websocket::encode_text(&message)
}

/// What an envelope takes around its payload, by a generous guess: it only spares growing.
const ENVELOPE_BYTES: usize = 160;

/// Appends an event. `type` is null if it has none; `data` is the payload itself if that is JSON, else a string of it.
pub fn write_event(event: &Event, out: &mut Vec<u8>) {
    write_head("event", &event.topic, out);
    write_id("id", Some(event.id), out);
    out.extend_from_slice(b",\"type\":");
    match &event.kind {
        Some(kind) => write_string(kind, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"data\":");
    write_data(event, out);
    out.push(b'}');
}

fn write_data(event: &Event, out: &mut Vec<u8>) {
    let text = event.payload_text();
    if event.syntax.is_json(&text) {
        out.extend_from_slice(text.as_bytes().trim_ascii());
    } else {
        write_string(&text, out);
    }
}

/// Appends the answer to `subscribe`: `id` is the place from which events follow; `None` before a topic's first event.
pub fn write_subscribed(topic: &Topic, id: Option<EventId>, reference: Reference<'_>, out: &mut Vec<u8>) {
    write_head("subscribed", topic, out);
    write_id("id", id, out);
    write_end(reference, out);
}

/// Appends the answer to `unsubscribe`.
pub fn write_unsubscribed(topic: &Topic, reference: Reference<'_>, out: &mut Vec<u8>) {
    write_head("unsubscribed", topic, out);
    write_end(reference, out);
}

/// Appends the answer to `publish`: `id` is the event's; `None` where the broker gives it and does not tell.
pub fn write_published(topic: &Topic, id: Option<EventId>, reference: Reference<'_>, out: &mut Vec<u8>) {
    write_head("published", topic, out);
    write_id("id", id, out);
    write_end(reference, out);
}

/// Appends the answer to `ping`.
pub fn write_pong(reference: Reference<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"pong\"");
    write_end(reference, out);
}

/// Appends the answer to `auth`: whose connection it is from now on, and for how many seconds, if not for ever.
pub fn write_authenticated(subject: &str, expires_in_s: Option<u64>, reference: Reference<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"authenticated\",\"sub\":");
    write_string(subject, out);
    if let Some(seconds) = expires_in_s {
        // Writing into a Vec cannot fail.
        let _ = write!(out, ",\"expires_in\":{seconds}");
    }
    write_end(reference, out);
}

/// Appends the answer to `stats`. `stats` is JSON text.
pub fn write_stats(stats: &str, reference: Reference<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"stats\",\"stats\":");
    out.extend_from_slice(stats.as_bytes());
    write_end(reference, out);
}

/// Appends a gap of `topic`: the events after `from`, up to and including `to`, are missing here.
pub fn write_gap(topic: &Topic, gap: Gap, out: &mut Vec<u8>) {
    write_head("gap", topic, out);
    write_id("from", Some(gap.from), out);
    write_id("to", Some(gap.to), out);
    out.extend_from_slice(b",\"reason\":");
    write_string(gap.reason.label(), out);
    out.push(b'}');
}

/// Appends an error. `code` is for programs, `message` for people.
pub fn write_error(code: &str, message: &str, reference: Reference<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"error\",\"code\":");
    write_string(code, out);
    out.extend_from_slice(b",\"message\":");
    write_string(message, out);
    write_end(reference, out);
}

/// Appends the error that answers a message which is no command.
pub fn write_refused(refused: &BadCommand<'_>, out: &mut Vec<u8>) {
    write_error(refused.code, &refused.message, refused.reference, out);
}

fn write_head(op: &str, topic: &Topic, out: &mut Vec<u8>) {
    // No byte that a topic or an op may have is escaped in JSON.
    for part in ["{\"op\":\"", op, "\",\"topic\":\"", topic.as_str(), "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_id(name: &str, id: Option<EventId>, out: &mut Vec<u8>) {
    match id {
        Some(id) => write!(out, ",\"{name}\":\"{id}\""),
        None => write!(out, ",\"{name}\":null"),
    }
    .expect("a Vec takes every write");
}

fn write_end(reference: Reference<'_>, out: &mut Vec<u8>) {
    if let Some(reference) = reference {
        out.extend_from_slice(b",\"ref\":");
        out.extend_from_slice(reference.get().as_bytes());
    }
    out.push(b'}');
}

pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes every write, and text is always JSON");
}
