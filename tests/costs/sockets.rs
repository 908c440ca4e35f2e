//! What comes in over connections that are open: WebSocket, Engine.IO, Socket.IO, `fanfare.v1`; and events on their way out.

use bytes::Bytes;
use fanfare_core::{
    clock::Moment,
    event::{Event, EventId},
    frame::{Format, SocketIoForm, SseForm},
    outbox::Outbox,
    protocol::{
        EngineSession, Layer, PeerInput, SessionId, SessionLimits, SocketIoClient, encode_frame,
        fanfare_v1::Command,
        socket_io::{Args, Reassembly, SocketIoPacket},
        websocket::{self, ServerSession, client},
    },
    topic::Topic,
};

use super::{check, shapes};

const NOW: Moment = Moment(1_000_000_000);
const KEY: [u8; 4] = [1, 2, 3, 4];

#[test]
fn socket_io_packets() {
    for (shape, json) in shapes::JSON {
        let event = |bytes: usize| format!("2[\"a\",{}]", json(bytes));
        check(&format!("a packet of {shape}"), 16 * 1024, 2, event, |text| _ = SocketIoPacket::parse(text, 10));
    }
    let arguments = |bytes: usize| shapes::repeated("2[\"a\"", ",1", "]", bytes);
    check("a packet of arguments", 16 * 1024, 1, arguments, |text| _ = SocketIoPacket::parse(text, 10));
    let list = |bytes: usize| shapes::repeated("1", ",1", "", bytes);
    check("arguments", 16 * 1024, 16, list, |text| _ = Args::from_list(text).count());
    let namespaces = |bytes: usize| shapes::repeated("2/", "/?", ",[\"a\"]", bytes);
    check("a long namespace", 16 * 1024, 1, namespaces, |text| _ = SocketIoPacket::parse(text, 10));
}

#[test]
fn attachments_into_their_places() {
    for (shape, json) in shapes::JSON {
        let event = |bytes: usize| format!("51-[\"a\",{},{{\"_placeholder\":true,\"num\":0}}]", json(bytes));
        check(&format!("an attachment behind {shape}"), 16 * 1024, 6, event, |text| {
            let mut reassembly = Reassembly::begin(&SocketIoPacket::parse(text, 10).expect("it is a packet"));
            // Some of these shapes have places that fit no attachment.
            let _ = reassembly.receive(b"", usize::MAX);
        });
    }
}

/// Each form that an event takes on its way out, for each shape of payload.
#[test]
fn events_on_their_way_out() {
    let sse = SseForm { named: true, chunked: true, with_id: true };
    let formats = [
        ("Socket.IO", Format::SocketIo(SocketIoForm { offset: true, own: false })),
        ("SSE", Format::Sse(sse)),
        ("fanfare.v1", Format::FanfareV1),
        ("WebSocket", Format::WebSocketRaw),
    ];
    for (name, format) in formats {
        for (shape, json) in shapes::JSON {
            let event = |bytes: usize| {
                let (topic, id) = (Topic::parse("a").expect("a good name"), EventId::new(1, 1));
                Event::new(topic, id, 1, None, Bytes::from(json(bytes)), NOW)
            };
            // A line break takes eight bytes in an event stream, in a buffer that doubles.
            check(&format!("{shape} as {name}"), 16 * 1024, 20, event, |event| drop(encode_frame(event, format)));
        }
    }
}

/// A session of Socket.IO inside of `/`.
fn session() -> EngineSession {
    let limits = SessionLimits::default();
    let mut session = EngineSession::carried(SessionId::new(0, [7; 15]), Layer::SocketIo, &limits.engine, NOW);
    let sockets = session.sockets.as_mut().expect("it is of Socket.IO");
    sockets.enter(SocketIoClient::new("/".into(), "s".into(), None, NOW));
    session
}

fn take_payload(payload: &str, mut session: EngineSession) {
    let (mut outbox, mut inputs): (Outbox, Vec<PeerInput>) = (Outbox::new(), Vec::new());
    let mut limits = SessionLimits::default();
    limits.rate.messages_per_second = 1_000_000;
    let Ok(mut packets) = limits.engine.read_payload(payload.as_bytes()) else { return };
    while packets.rest().is_some()
        && session.receive_packets(&mut packets, &limits, &mut outbox, &mut inputs, NOW).is_ok()
    {
        inputs.clear();
    }
}

#[test]
fn engine_io_payloads() {
    let parts = [
        ("separators", "\u{1e}"),
        ("pongs", "3\u{1e}"),
        ("events", "42[1]\u{1e}"),
        ("noops", "6\u{1e}"),
        ("events behind a disconnect", "41\u{1e}"),
    ];
    for (name, part) in parts {
        // An input for each is larger than six bytes.
        let payload = |bytes: usize| shapes::repeated("", part, "3", bytes);
        check(&format!("a payload of {name}"), 16 * 1024, 200, payload, |text| take_payload(text, session()));
    }
    let base64 = |bytes: usize| shapes::repeated("452-[\"a\",1]\u{1e}b", "A", "", bytes);
    check("base64 in a payload", 16 * 1024, 6, base64, |text| take_payload(text, session()));
    let padding = |bytes: usize| shapes::repeated("b", "=", "", bytes);
    check("padding in a payload", 16 * 1024, 6, padding, |text| take_payload(text, session()));
}

/// Frames of a client, `pieces` of them in each read of 64 KiB.
fn take_frames(frames: &[u8], read_bytes: usize) {
    let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
    let limits = websocket::WebSocketLimits {
        message_bytes_max: usize::MAX,
        fragments_max: u32::MAX,
        ..websocket::WebSocketLimits::default()
    };
    for read in frames.chunks(read_bytes) {
        session.receive(&mut read.to_vec(), &limits, &mut outbox, &mut messages).expect("nothing is wrong with it");
    }
}

#[test]
fn websocket_frames() {
    let many = |bytes: usize, write: &dyn Fn(&mut Vec<u8>)| {
        let mut frames = Vec::new();
        while frames.len() < bytes {
            write(&mut frames);
        }
        frames
    };
    let small = |bytes| many(bytes, &|out| client::write_masked_text(b"x", KEY, out));
    check("small messages", 16 * 1024, 40, small, |frames| take_frames(frames, 64 * 1024));
    let pings = |bytes| many(bytes, &|out| client::write_masked_ping(b"x", KEY, out));
    check("pings", 16 * 1024, 40, pings, |frames| take_frames(frames, 64 * 1024));
    // One message in fragments of a byte, and of none.
    for (name, payload) in [("fragments of a byte", &b"x"[..]), ("empty fragments", b"")] {
        let fragments = |bytes: usize| {
            let mut frames = vec![0x01, 0x80, 1, 2, 3, 4];
            while frames.len() < bytes {
                frames.extend_from_slice(&[0x00, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
                frames.extend_from_slice(payload);
            }
            frames
        };
        check(name, 16 * 1024, 4, fragments, |frames| take_frames(frames, 64 * 1024));
        check(name, 16 * 1024, 4, fragments, |frames| take_frames(frames, 1));
    }
    let large = |bytes: usize| {
        let mut frames = Vec::new();
        client::write_masked_text("é".repeat(bytes / 2).as_bytes(), KEY, &mut frames);
        frames
    };
    check("a message byte by byte", 16 * 1024, 6, large, |frames| take_frames(frames, 1));
    check("a message read by read", 256 * 1024, 6, large, |frames| take_frames(frames, 64 * 1024));
}

#[test]
fn fanfare_v1_commands() {
    for (shape, json) in shapes::JSON {
        for member in ["data", "ref", "unknown"] {
            let command = |bytes: usize| {
                let value = json(bytes);
                format!("{{\"op\":\"publish\",\"topic\":\"a\",\"data\":1,\"{member}\":{value}}}").replacen(
                    if member == "data" { "\"data\":1," } else { "\u{0}" },
                    "",
                    1,
                )
            };
            check(&format!("{shape} as {member}"), 16 * 1024, 2, command, |text| drop(Command::parse(text)));
        }
    }
}
