//! The protocol of one subscriber, over the tools' client library.

use fanfare_core::protocol::{
    fanfare_v1::client::Envelope,
    http::{Method, write_request},
    sse::SseMessage,
    websocket::client::{encode_key, write_masked_text, write_upgrade},
};
use fanfare_tools::client::{Item, ProtocolError, Reader};
use serde::Deserialize;

use super::Dialect;

const MASK: [u8; 4] = [0x4d, 0x21, 0x9a, 0x07];

/// An event of a subscriber's connection.
#[derive(Debug)]
pub(super) enum WireEvent<'a> {
    /// The request is granted.
    Open,
    /// The request is refused, with this HTTP status.
    Refused(u16),
    /// An event. `stream_id` is the SSE id: one id per topic of the stream, joined by commas.
    Event { stream_id: Option<&'a str>, id: Option<&'a str>, payload: &'a [u8] },
    /// The answer to a `subscribe`.
    Subscribed { topic: &'a str, id: Option<&'a str> },
    /// Events are missing here.
    Gap { stream_id: Option<&'a str>, notice: GapNotice },
    /// Why the hub closes the connection, and when to reconnect.
    Closing { code: Option<u16>, reason: &'a str },
    /// The answer is complete: nothing more will come.
    End,
    /// The hub broke a rule of the protocol.
    Broken(String),
}

/// The content of a gap, on any transport.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GapNotice {
    /// A raw WebSocket's close frame has no room for it where there is only one.
    #[serde(default)]
    pub(super) topic: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) reason: String,
}

/// The reading side of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    reader: Reader,
    dialect: Dialect,
    /// Bytes to send to the hub: pongs and commands.
    pub(super) replies: Vec<u8>,
    /// The upgrade to `fanfare.v1` was accepted, and no command was sent yet.
    pub(super) wants_commands: bool,
}

impl Wire {
    pub(super) fn new(dialect: Dialect) -> Self {
        let reader = match dialect {
            Dialect::Sse => Reader::sse(),
            Dialect::FanfareV1 | Dialect::Raw => Reader::websocket(),
        };
        Self { reader, dialect, replies: Vec::new(), wants_commands: dialect == Dialect::FanfareV1 }
    }

    /// The reconnection time that a stream asked for, in ms.
    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.reader.retry_ms()
    }

    /// Sends `text` with the next replies.
    pub(super) fn put_text(&mut self, text: &[u8]) {
        write_masked_text(text, MASK, &mut self.replies);
    }

    /// Takes what the hub sent, and calls `on_event` for each event.
    pub(super) fn receive(&mut self, bytes: &[u8], mut on_event: impl FnMut(WireEvent<'_>)) {
        let Self { reader, dialect, replies, .. } = self;
        let received: Result<(), ProtocolError> = reader.receive(bytes, replies, &mut |item, _| {
            take_item(&item, *dialect, &mut on_event);
            Ok(())
        });
        if let Err(error) = received {
            on_event(WireEvent::Broken(format!("{error:?}")));
        }
    }
}

fn take_item(item: &Item<'_>, dialect: Dialect, on_event: &mut impl FnMut(WireEvent<'_>)) {
    match *item {
        Item::Granted(_) => on_event(WireEvent::Open),
        Item::Refused(head) => on_event(WireEvent::Refused(head.status)),
        Item::RefusalBody(_) => {}
        Item::End => on_event(WireEvent::End),
        Item::Event(message) => on_event(read_message(message)),
        Item::Text(text) if dialect == Dialect::FanfareV1 => match Envelope::parse(text) {
            Ok(envelope) => take_envelope(&envelope, on_event),
            Err(error) => on_event(WireEvent::Broken(error.to_string())),
        },
        Item::Text(payload) => on_event(WireEvent::Event { stream_id: None, id: None, payload }),
        Item::Binary(_) => on_event(WireEvent::Broken("a binary message".to_owned())),
        Item::Closed { code, reason } => on_event(WireEvent::Closing { code, reason }),
    }
}

fn read_message(message: SseMessage<'_>) -> WireEvent<'_> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or("not UTF-8");
    let stream_id = Some(text(message.id)).filter(|id| !id.is_empty());
    match message.event {
        b"gap" => match serde_json::from_slice(message.data) {
            Ok(notice) => WireEvent::Gap { stream_id, notice },
            Err(error) => WireEvent::Broken(format!("a gap that says {:?}: {error}", text(message.data))),
        },
        b"error" => WireEvent::Closing { code: None, reason: text(message.data) },
        _ => WireEvent::Event { stream_id, id: None, payload: message.data },
    }
}

fn take_envelope(envelope: &Envelope<'_>, on_event: &mut impl FnMut(WireEvent<'_>)) {
    on_event(match envelope {
        Envelope::Event { id, data, .. } => {
            WireEvent::Event { stream_id: None, id: Some(id), payload: data.as_bytes() }
        }
        Envelope::Subscribed { topic, id, .. } => WireEvent::Subscribed { topic, id: id.as_deref() },
        Envelope::Gap { topic, from, to, reason } => WireEvent::Gap {
            stream_id: None,
            notice: GapNotice {
                topic: Some(topic.to_string()),
                from: from.as_deref().map(str::to_owned),
                to: to.as_deref().map(str::to_owned),
                reason: reason.to_string(),
            },
        },
        other => WireEvent::Broken(format!("{other:?}")),
    });
}

/// The request that opens a stream of `topics`, going on after `last_id` if there is one.
pub(super) fn request(dialect: Dialect, topics: &[&str], last_id: Option<&str>) -> Vec<u8> {
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let query = query.join("&");
    let mut out = Vec::new();
    let key = encode_key([7; 16]);
    match (dialect, last_id) {
        (Dialect::Sse, last_id) => {
            let headers: Vec<(&str, &str)> = last_id.map(|id| ("Last-Event-ID", id)).into_iter().collect();
            write_request(Method::Get, "hub", &format!("/sse?{query}"), &headers, b"", &mut out);
        }
        (Dialect::FanfareV1, _) => write_upgrade("hub", "/ws", &["fanfare.v1"], &[], &key, &mut out),
        (Dialect::Raw, None) => write_upgrade("hub", &format!("/ws?{query}"), &[], &[], &key, &mut out),
        (Dialect::Raw, Some(id)) => {
            write_upgrade("hub", &format!("/ws?{query}&since={id}"), &[], &[], &key, &mut out);
        }
    }
    out
}
