//! What the server sends: each packet as whole WebSocket frames, one of text and one for each attachment.

use std::io::Write as _;

use smallvec::SmallVec;

use crate::{
    event::{Event, is_word_of_socket_io},
    frame::SocketIoForm,
    protocol::{engine_io, websocket},
};

use super::{Args, SocketIoPacketKind, binary};

/// Whom a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketTarget<'a> {
    /// The namespace: `/`, or a name that begins with it.
    pub namespace: &'a str,
    /// The id of the acknowledgement that one side asked for.
    pub ack: Option<u64>,
}

/// Appends the CONNECT that lets a client into `namespace` as `sid`. `pid`: the secret with which it may later resume and get what it missed.
pub fn write_connect(namespace: &str, sid: &str, pid: Option<&str>, out: &mut Vec<u8>) {
    // Both ids are of the URL's unreserved characters, of which none is escaped in JSON.
    let pid = pid.map(|pid| format!(",\"pid\":\"{pid}\"")).unwrap_or_default();
    let data = format!("{{\"sid\":\"{sid}\"{pid}}}");
    write_plain(SocketIoPacketKind::Connect, PacketTarget { namespace, ack: None }, &data, out);
}

/// Appends the CONNECT_ERROR that keeps a client out of `namespace`. `data`: further JSON for it.
pub fn write_connect_error(namespace: &str, message: &str, data: Option<&str>, out: &mut Vec<u8>) {
    let data = data.map(|data| format!(",\"data\":{data}")).unwrap_or_default();
    let payload = format!("{{\"message\":{}{data}}}", json_string(message));
    write_plain(SocketIoPacketKind::ConnectError, PacketTarget { namespace, ack: None }, &payload, out);
}

/// Appends the DISCONNECT that removes a client from `namespace`.
pub fn write_disconnect(namespace: &str, out: &mut Vec<u8>) {
    write_plain(SocketIoPacketKind::Disconnect, PacketTarget { namespace, ack: None }, "", out);
}

/// Appends an event, as a binary one if `args` hold binaries.
pub fn write_event(target: PacketTarget<'_>, name: &str, args: Args<'_>, out: &mut Vec<u8>) {
    let comma = if args.list().is_empty() { "" } else { "," };
    write_array(SocketIoPacketKind::Event, target, &[&json_string(name), comma, args.list()], out);
}

/// Appends the acknowledgement `id`, as a binary one if `args` hold binaries.
pub fn write_ack(namespace: &str, id: u64, args: Args<'_>, out: &mut Vec<u8>) {
    write_array(SocketIoPacketKind::Ack, PacketTarget { namespace, ack: Some(id) }, &[args.list()], out);
}

/// The frames of a hub's event in the namespace `/`. Its name is the event's type; `message` if it has none or one that is a word
/// of the hub's own here ([`is_word_of_socket_io`]). Its argument is the payload: as JSON if it is JSON, else as a string. A hole is the event `gap`.
pub fn encode_event(event: &Event, form: SocketIoForm) -> Vec<u8> {
    let name = json_string(event.shown_kind(is_word_of_socket_io).unwrap_or("message"));
    let text = event.payload_text();
    let is_json = event.syntax.is_json(&text);
    let quoted = if is_json { String::new() } else { json_string(&text) };
    let data: &str = if is_json { &text } else { &quoted };
    // No byte of a topic or an id is escaped in JSON.
    let offset = if form.offset { format!(",\"{}@{}\"", event.topic, event.id) } else { String::new() };
    let mut out = Vec::new();
    write_array(
        SocketIoPacketKind::Event,
        PacketTarget { namespace: "/", ack: None },
        &[&name, ",", data, &offset],
        &mut out,
    );
    out
}

/// Appends the event in `frames`, which [`encode_event`] made without offset, for another namespace, or with an offset
/// of the reader's own as its last argument, or both. The offset is as [`super::write_offset`] has it.
pub fn write_event_for(frames: &[u8], namespace: &str, offset: Option<&str>, out: &mut Vec<u8>) {
    let Some(first) = websocket::EncodedFrame::first(frames) else { return };
    // The head has no bracket, and the payload is an array.
    let array_start = memchr::memchr(b'[', first.payload).unwrap_or(first.payload.len());
    let (head, array) = first.payload.split_at(array_start);
    let (namespace, comma) = if namespace == "/" { ("", "") } else { (namespace, ",") };
    let inner = array.strip_suffix(b"]").unwrap_or(array);
    let (before, offset, after) = match offset {
        Some(offset) => (",\"", offset, "\"]"),
        None => ("", "", "]"),
    };
    let parts =
        [head, namespace.as_bytes(), comma.as_bytes(), inner, before.as_bytes(), offset.as_bytes(), after.as_bytes()];
    websocket::write_text(&parts, out);
    out.extend_from_slice(&frames[first.frame_bytes..]);
}

/// Appends an event or an ACK whose payload is the array of what `parts` are together.
fn write_array(kind: SocketIoPacketKind, target: PacketTarget<'_>, parts: &[&str], out: &mut Vec<u8>) {
    let mut attachments = Vec::new();
    let texts: SmallVec<[_; 4]> =
        parts.iter().map(|part| binary::extract_attachments(part, &mut attachments)).collect();
    let kind = if attachments.is_empty() { kind } else { kind.binary() };
    let texts: SmallVec<[&str; 4]> = texts.iter().map(|text| &**text).collect();
    write_packet(kind, attachments.len(), target, "[", &texts, "]", out);
    attachments.iter().for_each(|attachment| websocket::write_binary(attachment, out));
}

fn write_plain(kind: SocketIoPacketKind, target: PacketTarget<'_>, data: &str, out: &mut Vec<u8>) {
    write_packet(kind, 0, target, "", &[data], "", out);
}

/// Appends the text of a packet as a frame; its payload is `open`, `parts`, `close`.
fn write_packet(
    kind: SocketIoPacketKind,
    attachments: usize,
    target: PacketTarget<'_>,
    open: &str,
    parts: &[&str],
    close: &str,
    out: &mut Vec<u8>,
) {
    let head = head(kind, attachments, target);
    let mut all: SmallVec<[&[u8]; 8]> = smallvec::smallvec![&head[..], open.as_bytes()];
    all.extend(parts.iter().map(|part| part.as_bytes()));
    all.push(close.as_bytes());
    websocket::write_text(&all, out);
}

/// All that comes before the payload, with the type of Engine.IO's message.
fn head(kind: SocketIoPacketKind, attachments: usize, target: PacketTarget<'_>) -> Vec<u8> {
    let mut head = vec![engine_io::EnginePacketKind::Message.digit(), kind.digit()];
    // Writing into a Vec cannot fail.
    if 0 < attachments {
        let _ = write!(head, "{attachments}-");
    }
    head.extend_from_slice(namespace_part(target.namespace).as_bytes());
    if let Some(ack) = target.ack {
        let _ = write!(head, "{ack}");
    }
    head
}

/// The namespace and the comma after it; nothing for `/`.
fn namespace_part(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}
