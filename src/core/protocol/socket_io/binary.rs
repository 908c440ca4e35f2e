//! Attachments: binary messages that follow a packet, into the places it keeps for them; and the way back.

use std::borrow::Cow;

use data_encoding::BASE64;

use super::{
    BadSocketIoPacket, SocketIoPacket, SocketIoPacketKind,
    small_object::{self, Found},
};

/// The most attachments that a packet of ours has: the reference client ends its connection at more.
const ATTACHMENTS_MAX: usize = 10;

/// A binary packet whose attachments are still arriving.
#[derive(Debug)]
pub struct Reassembly {
    whole: Whole,
    wanted: usize,
    attachments: Vec<Vec<u8>>,
    held_bytes: usize,
}

/// A packet with its attachments in place, each as `{"$binary":"<base64>"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    kind: SocketIoPacketKind,
    namespace: Box<str>,
    ack: Option<u64>,
    data: String,
}

impl Whole {
    /// It as a packet: an event or an ACK, without attachments.
    pub fn packet(&self) -> SocketIoPacket<'_> {
        let Self { kind, namespace, ack, data } = self;
        SocketIoPacket { kind: *kind, attachments: 0, namespace, ack: *ack, data: Some(data) }
    }
}

impl Reassembly {
    /// Waits for the attachments of `packet`, which is of a binary kind.
    pub fn begin(packet: &SocketIoPacket<'_>) -> Self {
        let data = packet.data.unwrap_or_default().to_owned();
        let held_bytes = data.len();
        let whole = Whole { kind: packet.kind.plain(), namespace: packet.namespace.into(), ack: packet.ack, data };
        Self { whole, wanted: packet.attachments, attachments: Vec::new(), held_bytes }
    }

    /// Takes the next binary message. `None`: it was not the last one. `bytes_max` is for the packet and its attachments
    /// together. After an error the connection has to end.
    pub fn receive(&mut self, attachment: &[u8], bytes_max: usize) -> Result<Option<Whole>, BadSocketIoPacket> {
        self.held_bytes = self.held_bytes.saturating_add(attachment.len());
        if bytes_max < self.held_bytes {
            return Err(BadSocketIoPacket("a packet with its attachments is too big"));
        }
        self.attachments.push(attachment.to_vec());
        if self.attachments.len() < self.wanted {
            return Ok(None);
        }
        self.whole.data = inline_attachments(&self.whole.data, &self.attachments)?;
        let empty = Whole { kind: self.whole.kind, namespace: Box::default(), ack: None, data: String::new() };
        Ok(Some(std::mem::replace(&mut self.whole, empty)))
    }

    /// What is held of the packet so far.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// `json`, which is valid, with `{"$binary":"<base64>"}` for each placeholder. Each attachment has one place: a packet
/// that names one over and over could grow without end.
pub(super) fn inline_attachments(json: &str, attachments: &[Vec<u8>]) -> Result<String, BadSocketIoPacket> {
    let mut placed = vec![false; attachments.len()];
    let base64_bytes: usize = attachments.iter().map(|attachment| BASE64.encode_len(attachment.len())).sum();
    let mut out = String::with_capacity(json.len() + base64_bytes);
    replace_objects(json, &mut out, small_object::placeholder, |number, out| {
        let attachment =
            attachments.get(number).ok_or(BadSocketIoPacket("a placeholder's number is that of an attachment"))?;
        if std::mem::replace(&mut placed[number], true) {
            return Err(BadSocketIoPacket("an attachment has one place"));
        }
        out.push_str("{\"$binary\":\"");
        BASE64.encode_append(attachment, out);
        out.push_str("\"}");
        Ok(())
    })?;
    if placed.contains(&false) {
        return Err(BadSocketIoPacket("each attachment has a place"));
    }
    Ok(if attachments.is_empty() { json.to_owned() } else { out })
}

/// `json`, which is valid, with placeholders for what [`inline_attachments`] put there; the attachments are appended to
/// `attachments`, which may hold some. What has no `$binary` is only looked through once, and where there is no attachment nothing
/// is copied.
pub(super) fn extract_attachments<'a>(json: &'a str, attachments: &mut Vec<Vec<u8>>) -> Cow<'a, str> {
    let (mut out, mut copied) = (String::new(), 0);
    // One searcher for all: a text may consist of such names, and to make one takes longer than to find the next name.
    for name in memchr::memmem::Finder::new(BINARY_NAME).find_iter(json.as_bytes()) {
        if attachments.len() == ATTACHMENTS_MAX {
            break;
        }
        // Behind a brace it is a name: a string has its quotes escaped, and another string is not followed by a dollar sign.
        let before = json.as_bytes()[..name].trim_ascii_end();
        let Some(start) = before.strip_suffix(b"{").map(<[u8]>::len) else { continue };
        if let Some(Found { value, object_bytes }) = small_object::inline_binary(&json[start..]) {
            out.push_str(&json[copied..start]);
            out.push_str(&format!("{{\"_placeholder\":true,\"num\":{}}}", attachments.len()));
            attachments.push(value);
            copied = start + object_bytes;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// The member's name that [`inline_attachments`] writes.
const BINARY_NAME: &[u8] = b"\"$binary\"";

/// Copies `json` to `out`, and what `write` makes of each object that `find` has found; nothing, if it finds none. `find` is given the text from each
/// `{` on that stands in no string, and looks no further than to the next one: so the whole costs a multiple of the text.
fn replace_objects<T>(
    json: &str,
    out: &mut String,
    mut find: impl FnMut(&str) -> Option<Found<T>>,
    mut write: impl FnMut(T, &mut String) -> Result<(), BadSocketIoPacket>,
) -> Result<(), BadSocketIoPacket> {
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'{', b'"', &json.as_bytes()[at..]) {
        at += found;
        if json.as_bytes()[at] == b'"' {
            at = crate::json::skip(json, at);
            continue;
        }
        match find(&json[at..]) {
            None => at += 1,
            Some(Found { value, object_bytes }) => {
                out.push_str(&json[copied..at]);
                write(value, out)?;
                at += object_bytes;
                copied = at;
            }
        }
    }
    // Where nothing is found nothing is copied.
    if 0 < copied {
        out.push_str(&json[copied..]);
    }
    Ok(())
}
