//! Packets of Socket.IO: what is read means the same when it is written anew, attachments come out as they went in, and
//! whatever the hub's events hold, clients can read them.

use bytes::Bytes;
use fanfare_core::{
    clock::Moment,
    event::{Event, EventId},
    frame::SocketIoForm,
    protocol::{
        socket_io::{
            Args, PacketTarget, Reassembly, SocketIoPacket, SocketIoPacketKind, encode_event, event_of, parse_offset,
            write_ack, write_event, write_event_for, write_offset,
        },
        websocket::{EncodedFrame, EncodedKind},
    },
    topic::Topic,
};

use super::input::Input;

pub(super) const TOKENS: &[&str] = &[
    "2[\"a\"",
    "0/admin,{}",
    "1",
    "3",
    "4\"x\"",
    "51-",
    "62-",
    "/a,",
    "12",
    "]",
    "[",
    ",",
    "{\"_placeholder\":true,\"num\":0}",
    "{\"_placeholder\":true,\"num\":1}",
    "{\"$binary\":\"AQID\"}",
    "\"$binary\"",
    "\"connect\"",
    "\\\"",
    "\\u0061",
    "é",
    "a@1-2",
    "null",
];

const ATTACHMENTS_MAX: usize = 10;

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let Ok(text) = std::str::from_utf8(input.payload) else { return };
    check_packet(text, input.knob);
    check_event(text);
    check_offset(text);
}

fn check_packet(text: &str, knob: u8) {
    let Ok(packet) = SocketIoPacket::parse(text, ATTACHMENTS_MAX) else { return };
    assert!(packet.namespace.starts_with('/') && !packet.namespace.contains([',', '?']));
    assert!(packet.attachments <= ATTACHMENTS_MAX);
    assert_eq!(0 < packet.attachments, packet.kind.is_binary());
    if !packet.kind.is_binary() {
        return check_again(&packet);
    }
    let mut reassembly = Reassembly::begin(&packet);
    for number in 0..packet.attachments {
        let attachment = vec![knob; number];
        match reassembly.receive(&attachment, 1 << 16) {
            Ok(None) => assert!(number + 1 < packet.attachments),
            Ok(Some(whole)) => {
                assert_eq!(number + 1, packet.attachments);
                check_again(&whole.packet());
            }
            Err(_) => return,
        }
    }
}

/// An event or an acknowledgement, written by the server, is read as what it was.
fn check_again(packet: &SocketIoPacket<'_>) {
    let mut frames = Vec::new();
    match (packet.kind, packet.ack) {
        (SocketIoPacketKind::Event, ack) => {
            let (name, args) = event_of(packet.data.unwrap_or_default()).expect("it was let through");
            write_event(PacketTarget { namespace: packet.namespace, ack }, &name, args, &mut frames);
        }
        (SocketIoPacketKind::Ack, Some(id)) => {
            write_ack(packet.namespace, id, Args::from_array(packet.data.unwrap_or_default()), &mut frames);
        }
        _ => return,
    }
    let again = read(&frames);
    assert_eq!(
        (&*again.namespace, again.ack, again.is_event),
        (packet.namespace, packet.ack, packet.kind == SocketIoPacketKind::Event)
    );
    assert_eq!(again.values.len(), values(packet).len());
}

fn values(packet: &SocketIoPacket<'_>) -> Vec<String> {
    let data = packet.data.unwrap_or_default();
    Args::from_array(data).map(ToOwned::to_owned).collect()
}

struct Read {
    namespace: String,
    ack: Option<u64>,
    is_event: bool,
    values: Vec<String>,
}

/// What a client makes of frames.
#[track_caller]
fn read(frames: &[u8]) -> Read {
    let first = EncodedFrame::first(frames).expect("a whole frame");
    assert_eq!(first.kind, EncodedKind::Text);
    let text = std::str::from_utf8(first.payload).expect("text is UTF-8");
    let packet = SocketIoPacket::parse(text.strip_prefix('4').expect("a message of Engine.IO"), ATTACHMENTS_MAX);
    let packet = packet.unwrap_or_else(|bad| panic!("{bad:?}: {text}"));
    let mut rest = &frames[first.frame_bytes..];
    let mut reassembly = packet.kind.is_binary().then(|| Reassembly::begin(&packet));
    let mut whole = None;
    while let Some(frame) = EncodedFrame::first(rest) {
        assert_eq!(frame.kind, EncodedKind::Binary);
        let reassembly = reassembly.as_mut().expect("attachments were announced");
        whole = reassembly.receive(frame.payload, usize::MAX).expect("attachments fit their places");
        rest = &rest[frame.frame_bytes..];
    }
    assert!(rest.is_empty());
    let packet = whole.as_ref().map_or(packet, |whole| whole.packet());
    assert!(!packet.kind.is_binary(), "all attachments are there");
    Read {
        namespace: packet.namespace.to_owned(),
        ack: packet.ack,
        is_event: packet.kind == SocketIoPacketKind::Event,
        values: values(&packet),
    }
}

/// Any text may be an event's payload, and any line its type.
fn check_event(text: &str) {
    let topic = Topic::parse("a.b").expect("a good name");
    let kind = text.lines().next();
    let data = Bytes::copy_from_slice(text.as_bytes());
    let event = Event::new(topic, EventId::new(1, 2), 2, kind, data, Moment(0));
    let plain = encode_event(&event, SocketIoForm::default());
    let told = read(&plain);
    assert_eq!((&*told.namespace, told.values.len()), ("/", 2));
    let with_offset = read(&encode_event(&event, SocketIoForm { offset: true, ..SocketIoForm::default() }));
    assert_eq!(with_offset.values[..2], told.values);
    assert_eq!(with_offset.values[2], "\"a.b@1-2\"");
    let mut own = Vec::new();
    write_event_for(&plain, "/x", Some("a.b@1-2"), &mut own);
    let own = read(&own);
    assert_eq!((&*own.namespace, own.values), ("/x", with_offset.values));
}

fn check_offset(text: &str) {
    if let Some(places) = parse_offset(text, 4) {
        assert!((1..=4).contains(&places.len()));
        let mut again = String::new();
        write_offset(places.iter().map(|(topic, id)| (topic, *id)), &mut again);
        assert_eq!(parse_offset(&again, 4), Some(places));
    }
}
