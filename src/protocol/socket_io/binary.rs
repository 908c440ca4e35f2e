//! Attachments: binary messages that follow a packet, into the places it keeps for them; and the way back.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::Deserialize;

use super::{BadPacket, Kind, Packet, packet::is_json_space};

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
    kind: Kind,
    namespace: Box<str>,
    ack: Option<u64>,
    data: String,
}

impl Whole {
    /// It as a packet: an event or an ACK, without attachments.
    pub fn packet(&self) -> Packet<'_> {
        let Self { kind, namespace, ack, data } = self;
        Packet { kind: *kind, attachments: 0, namespace, ack: *ack, data: Some(data) }
    }
}

impl Reassembly {
    /// Waits for the attachments of `packet`, which is of a binary kind.
    pub fn begin(packet: &Packet<'_>) -> Self {
        let data = packet.data.unwrap_or_default().to_owned();
        let held_bytes = data.len();
        let whole = Whole { kind: packet.kind.plain(), namespace: packet.namespace.into(), ack: packet.ack, data };
        Self { whole, wanted: packet.attachments, attachments: Vec::new(), held_bytes }
    }

    /// Takes the next binary message. `None`: it was not the last one. `bytes_max` is for the packet and its attachments
    /// together. After an error the connection has to end.
    pub fn receive(&mut self, attachment: &[u8], bytes_max: usize) -> Result<Option<Whole>, BadPacket> {
        self.held_bytes = self.held_bytes.saturating_add(attachment.len());
        if bytes_max < self.held_bytes {
            return Err(BadPacket("a packet with its attachments is too big"));
        }
        self.attachments.push(attachment.to_vec());
        if self.attachments.len() < self.wanted {
            return Ok(None);
        }
        let data = inline_attachments(&self.whole.data, &self.attachments)?;
        Ok(Some(Whole { data, ..self.whole.clone() }))
    }

    /// What is held of the packet so far.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// `json`, which is valid, with `{"$binary":"<base64>"}` for each placeholder. Each attachment has one place: a packet
/// that names one over and over could grow without end.
pub(super) fn inline_attachments(json: &str, attachments: &[Vec<u8>]) -> Result<String, BadPacket> {
    let mut placed = vec![false; attachments.len()];
    let base64_bytes: usize = attachments.iter().map(|attachment| BASE64.encode_len(attachment.len())).sum();
    let mut out = String::with_capacity(json.len() + base64_bytes);
    replace_objects(json, &mut out, |object, out| {
        let Some((number, object_bytes)) = placeholder(object) else { return Ok(0) };
        let attachment = attachments.get(number).ok_or(BadPacket("a placeholder's number is that of an attachment"))?;
        if std::mem::replace(&mut placed[number], true) {
            return Err(BadPacket("an attachment has one place"));
        }
        out.push_str("{\"$binary\":\"");
        BASE64.encode_append(attachment, out);
        out.push_str("\"}");
        Ok(object_bytes)
    })?;
    if placed.contains(&false) {
        return Err(BadPacket("each attachment has a place"));
    }
    Ok(out)
}

/// `json`, which is valid, with placeholders for what [`inline_attachments`] put there, and the attachments themselves.
/// What has no `$binary` is only looked through once.
pub(super) fn extract_attachments(json: &str) -> (Cow<'_, str>, Vec<Vec<u8>>) {
    let mut attachments = Vec::new();
    if memchr::memmem::find(json.as_bytes(), b"\"$binary\"").is_none() {
        return (Cow::Borrowed(json), attachments);
    }
    let mut out = String::with_capacity(json.len());
    let replaced = replace_objects(json, &mut out, |object, out| {
        let room = attachments.len() < ATTACHMENTS_MAX;
        let Some((bytes, object_bytes)) = inline_binary(object).filter(|_| room) else { return Ok(0) };
        out.push_str(&format!("{{\"_placeholder\":true,\"num\":{}}}", attachments.len()));
        attachments.push(bytes);
        Ok(object_bytes)
    });
    debug_assert_eq!(replaced, Ok(()), "nothing here is refused");
    (Cow::Owned(out), attachments)
}

/// Copies `json` to `out`. `replace` is given the text from each `{` on; it returns how many bytes of it are replaced by
/// what it wrote, or zero.
fn replace_objects(
    json: &str,
    out: &mut String,
    mut replace: impl FnMut(&str, &mut String) -> Result<usize, BadPacket>,
) -> Result<(), BadPacket> {
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'{', b'"', &json.as_bytes()[at..]) {
        at += found;
        if json.as_bytes()[at] == b'"' {
            at += string_bytes(&json[at..]);
            continue;
        }
        let before = out.len();
        out.push_str(&json[copied..at]);
        match replace(&json[at..], out)? {
            0 => {
                out.truncate(before);
                at += 1;
            }
            object_bytes => {
                at += object_bytes;
                copied = at;
            }
        }
    }
    out.push_str(&json[copied..]);
    Ok(())
}

/// How many bytes the string at the start of `json` takes, quotes included.
fn string_bytes(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]) {
        match bytes[at + found] {
            b'"' => return at + found + 1,
            _ => at += found + 2,
        }
    }
    bytes.len()
}

fn placeholder(object: &str) -> Option<(usize, usize)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Placeholder {
        _placeholder: bool,
        num: usize,
    }
    let (found, object_bytes) = small_object::<Placeholder>(object, &["\"_placeholder\"", "\"num\""])?;
    found._placeholder.then_some((found.num, object_bytes))
}

fn inline_binary(object: &str) -> Option<(Vec<u8>, usize)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inline<'a> {
        #[serde(rename = "$binary", borrow)]
        base64: Cow<'a, str>,
    }
    let (found, object_bytes) = small_object::<Inline<'_>>(object, &["\"$binary\""])?;
    Some((BASE64.decode(found.base64.as_bytes()).ok()?, object_bytes))
}

/// The object at the start of `json` and how many bytes it takes, if it is a `T`. Only where its first key is one of
/// `keys` it is read at all: so the whole walk costs no more than a multiple of the text.
fn small_object<'a, T: Deserialize<'a>>(json: &'a str, keys: &[&str]) -> Option<(T, usize)> {
    let first = json[1..].trim_start_matches(is_json_space);
    if !keys.iter().any(|key| first.starts_with(key)) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}
