//! The bytes of one connection, and what they mean to a subscriber.

use fanfare_core::protocol::{
    fanfare_v1::client::Envelope,
    http::{Method, write_request},
    sse::SseMessage,
    websocket::client::{encode_key, write_masked_text, write_upgrade},
};
use fanfare_tools::client::{Item, ProtocolError, Reader};
use serde::Deserialize;

use super::Speech;

const MASK: [u8; 4] = [0x4d, 0x21, 0x9a, 0x07];

/// What a subscriber was told.
#[derive(Debug)]
pub(super) enum Heard<'a> {
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
    /// Why the connection is about to end, and when to come back.
    Goodbye { code: Option<u16>, reason: &'a str },
    /// The answer is complete: nothing more will come.
    End,
    /// It broke a rule.
    Broken(String),
}

/// What a gap says, on any transport.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GapNotice {
    /// A raw WebSocket's close frame has no room for it where there is only one.
    #[serde(default)]
    pub(super) topic: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) reason: String,
}

/// One connection's reading side.
#[derive(Debug)]
pub(super) struct Wire {
    reader: Reader,
    speech: Speech,
    /// What is owed to the hub: pongs and commands.
    pub(super) replies: Vec<u8>,
    /// The upgrade to `fanfare.v1` was granted, and nothing was asked for yet.
    pub(super) wants_commands: bool,
}

impl Wire {
    pub(super) fn new(speech: Speech) -> Self {
        let reader = match speech {
            Speech::Sse => Reader::sse(),
            Speech::FanfareV1 | Speech::Raw => Reader::websocket(),
        };
        Self { reader, speech, replies: Vec::new(), wants_commands: speech == Speech::FanfareV1 }
    }

    /// The reconnection time that a stream was told, in ms.
    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.reader.retry_ms()
    }

    /// Says `text` with the next replies.
    pub(super) fn put_text(&mut self, text: &[u8]) {
        write_masked_text(text, MASK, &mut self.replies);
    }

    /// Takes what the hub sent, and calls `heed` for all it means.
    pub(super) fn receive(&mut self, bytes: &[u8], mut heed: impl FnMut(Heard<'_>)) {
        let Self { reader, speech, replies, .. } = self;
        let received: Result<(), ProtocolError> = reader.receive(bytes, replies, &mut |item, _| {
            take_item(&item, *speech, &mut heed);
            Ok(())
        });
        if let Err(error) = received {
            heed(Heard::Broken(format!("{error:?}")));
        }
    }
}

fn take_item(item: &Item<'_>, speech: Speech, heed: &mut impl FnMut(Heard<'_>)) {
    match *item {
        Item::Granted(_) => heed(Heard::Open),
        Item::Refused(head) => heed(Heard::Refused(head.status)),
        Item::RefusalBody(_) => {}
        Item::End => heed(Heard::End),
        Item::Event(message) => heed(read_message(message)),
        Item::Text(text) if speech == Speech::FanfareV1 => match Envelope::parse(text) {
            Ok(envelope) => take_envelope(&envelope, heed),
            Err(error) => heed(Heard::Broken(error.to_string())),
        },
        Item::Text(payload) => heed(Heard::Event { stream_id: None, id: None, payload }),
        Item::Binary(_) => heed(Heard::Broken("a binary message".to_owned())),
        Item::Closed { code, reason } => heed(Heard::Goodbye { code, reason }),
    }
}

fn read_message(message: SseMessage<'_>) -> Heard<'_> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or("not UTF-8");
    let stream_id = Some(text(message.id)).filter(|id| !id.is_empty());
    match message.event {
        b"gap" => match serde_json::from_slice(message.data) {
            Ok(notice) => Heard::Gap { stream_id, notice },
            Err(error) => Heard::Broken(format!("a gap that says {:?}: {error}", text(message.data))),
        },
        b"error" => Heard::Goodbye { code: None, reason: text(message.data) },
        _ => Heard::Event { stream_id, id: None, payload: message.data },
    }
}

fn take_envelope(envelope: &Envelope<'_>, heed: &mut impl FnMut(Heard<'_>)) {
    heed(match envelope {
        Envelope::Event { id, data, .. } => Heard::Event { stream_id: None, id: Some(id), payload: data.as_bytes() },
        Envelope::Subscribed { topic, id, .. } => Heard::Subscribed { topic, id: id.as_deref() },
        Envelope::Gap { topic, from, to, reason } => Heard::Gap {
            stream_id: None,
            notice: GapNotice {
                topic: Some(topic.to_string()),
                from: from.as_deref().map(str::to_owned),
                to: to.as_deref().map(str::to_owned),
                reason: reason.to_string(),
            },
        },
        other => Heard::Broken(format!("{other:?}")),
    });
}

/// The request that opens a stream of `topics`, going on after `last_id` if there is one.
pub(super) fn request(speech: Speech, topics: &[&str], last_id: Option<&str>) -> Vec<u8> {
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let query = query.join("&");
    let mut out = Vec::new();
    let key = encode_key([7; 16]);
    match (speech, last_id) {
        (Speech::Sse, last_id) => {
            let headers: Vec<(&str, &str)> = last_id.map(|id| ("Last-Event-ID", id)).into_iter().collect();
            write_request(Method::Get, "hub", &format!("/sse?{query}"), &headers, b"", &mut out);
        }
        (Speech::FanfareV1, _) => write_upgrade("hub", "/ws", &["fanfare.v1"], &[], &key, &mut out),
        (Speech::Raw, None) => write_upgrade("hub", &format!("/ws?{query}"), &[], &[], &key, &mut out),
        (Speech::Raw, Some(id)) => {
            write_upgrade("hub", &format!("/ws?{query}&since={id}"), &[], &[], &key, &mut out);
        }
    }
    out
}
