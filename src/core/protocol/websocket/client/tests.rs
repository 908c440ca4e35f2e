//! The client half by itself, against the server half, and both against tungstenite's own connections.

use std::io::{Cursor, Read, Write};

use tungstenite::protocol::{Role, WebSocket};

use crate::outbox::Outbox;

use super::{
    super::{
        Message, PING, ServerSession, encode_text,
        tests::{BINARY, CLOSE, CONTINUATION, FIN, KEY, PING_BYTE, PONG, TEXT, cut, frame, masked, small_limits, text},
        write_end,
    },
    *,
};

/// What a client's reader made of what a server sent, as text.
fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<Close>) {
    let (mut reader, mut seen) = (FrameReader::new(), Vec::new());
    for piece in pieces {
        if let Err(close) = reader.receive(piece, &small_limits(), |frame| seen.push(format!("{frame:?}"))) {
            return (seen, Some(close));
        }
    }
    (seen, None)
}

#[test]
fn client_reads_frames() {
    let check = |frames: &[Vec<u8>], expected: &[ServerFrame<'_>], end: Option<Close>| {
        let expected = (expected.iter().map(|frame| format!("{frame:?}")).collect(), end);
        let bytes = frames.concat();
        assert_eq!(read_pieces([&bytes[..]]), expected, "whole: {bytes:02x?}");
        assert_eq!(read_pieces(bytes.chunks(1)), expected, "byte by byte: {bytes:02x?}");
        assert_eq!(read_pieces(bytes.chunks(7)), expected, "by seven: {bytes:02x?}");
    };
    let plain = |first: u8, payload: &[u8]| frame(first, payload, None);
    let long = [b'x'; 300];
    check(
        &[plain(FIN | TEXT, b"a"), plain(FIN | TEXT, &long)],
        &[ServerFrame::Text(b"a"), ServerFrame::Text(&long)],
        None,
    );
    check(
        &[plain(FIN | BINARY, b""), plain(PING_BYTE, b"p"), plain(PONG, b"")],
        &[ServerFrame::Binary(b""), ServerFrame::Ping(b"p"), ServerFrame::Pong(b"")],
        None,
    );
    check(
        &[plain(TEXT, b"a"), plain(PONG, b""), plain(CONTINUATION, b"b"), plain(FIN, b"c")],
        &[ServerFrame::Pong(b""), ServerFrame::Text(b"abc")],
        None,
    );
    let close = ServerFrame::Close { code: Some(1012), reason: "soon" };
    check(&[plain(CLOSE, b"\x03\xf4soon")], &[close], None);
    check(&[plain(CLOSE, b"")], &[ServerFrame::Close { code: None, reason: "" }], None);
    check(&[masked(FIN | TEXT, b"a")], &[], Some(Close::BadFrame("server frames must not be masked")));
    check(&[plain(FIN, b"a")], &[], Some(Close::BadFrame("there is no message to continue")));
    check(
        &[plain(TEXT, b"a"), plain(FIN | TEXT, b"b")],
        &[],
        Some(Close::BadFrame("the last message is not finished")),
    );
    check(&[plain(FIN | TEXT, &[b'x'; 301])[..4].to_vec()], &[], Some(Close::MessageTooBig));
    check(&[plain(TEXT, &long), plain(FIN, b"x")], &[], Some(Close::MessageTooBig));
    let shortest = Close::BadFrame("a payload length must be in its shortest form");
    check(&[b"\x81\x7e\0\x7d".to_vec()], &[], Some(shortest));
    check(&[b"\x81\x7e\0\x7d".to_vec(), vec![b'x'; 125]], &[], Some(shortest));
    check(&[plain(FIN | TEXT, &[b'x'; 301])], &[], Some(Close::MessageTooBig));
    check(&[plain(BINARY, b"a"), plain(FIN, b"b")], &[ServerFrame::Binary(b"ab")], None);
    // In two fragments as many bytes as in one.
    check(&[plain(TEXT, &long[..200]), plain(FIN, &long[..100])], &[ServerFrame::Text(&long)], None);
    let empty = plain(CONTINUATION, b"");
    let fragments = [plain(TEXT, b""), empty.clone(), empty, plain(FIN, b"")];
    check(&fragments, &[], Some(Close::MessageTooBig));
    check(&[plain(CLOSE, b"\x03\xe8\xff")], &[], Some(Close::BadUtf8));
}

#[test]
fn client_copies_no_whole_frame() {
    let binary = frame(FIN | BINARY, &[b'z'; 200], None);
    let texts = [200, 1, 70_000].map(|bytes| encode_text(&vec![b'x'; bytes]));
    let bytes = [&texts.concat(), &binary, PING].concat();
    let limits = WebSocketLimits { message_bytes_max: 70_000, ..small_limits() };
    let (mut reader, mut count) = (FrameReader::new(), 0);
    let allocations = allocation_counter::measure(|| {
        reader.receive(&bytes, &limits, |_| count += 1).expect("good frames");
    });
    assert_eq!((count, allocations.count_total), (5, 0));
}

/// What the client half writes, the server half reads, and the other way round, through the whole life of a connection.
#[test]
fn a_pair_talks() {
    let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
    let mut sent = Vec::new();
    write_masked_text("grüße".as_bytes(), KEY, &mut sent);
    write_masked_binary(&[7; 200], KEY, &mut sent);
    write_masked_ping(b"are you there", KEY, &mut sent);
    write_masked_pong(b"", KEY, &mut sent);
    write_masked_close(1000, &"bye ".repeat(40), KEY, &mut sent);
    let end = session.receive(&mut sent, &small_limits(), &mut outbox, &mut messages);
    assert_eq!(end, Err(Close::PeerClosed(Some(1000))));
    assert_eq!(messages, [text("grüße"), Message::Binary(vec![7; 200]), Message::Ping, Message::Pong]);
    write_end(Close::PeerClosed(Some(1000)), "", outbox.buffer());
    let (seen, end) = read_pieces([outbox.pending()]);
    assert_eq!(end, None);
    let expected = [ServerFrame::Pong(b"are you there"), ServerFrame::Close { code: Some(1000), reason: "" }];
    assert_eq!(seen, expected.map(|frame| format!("{frame:?}")));
}

/// A connection of tungstenite's that reads `incoming` and keeps what it writes.
struct Peer {
    incoming: Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.incoming.read(buffer)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn tungstenite_peer(role: Role, incoming: Vec<u8>) -> WebSocket<Peer> {
    let peer = Peer { incoming: Cursor::new(incoming), written: Vec::new() };
    WebSocket::from_raw_socket(peer, role, None)
}

#[test]
fn tungstenite_reads_what_the_server_writes() {
    let mut sent = [encode_text("grüße".as_bytes()), encode_text(&[b'x'; 70_000]), PING.to_vec()].concat();
    super::super::write_close(4408, "reads too slowly", &mut sent);
    let mut peer = tungstenite_peer(Role::Client, sent);
    let mut next = || peer.read().expect("a message");
    assert_eq!(next().into_text().expect("text").as_str(), "grüße");
    assert_eq!(next().len(), 70_000);
    assert!(next().is_ping());
    let tungstenite::Message::Close(Some(close)) = next() else { panic!("not a close frame") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4408, "reads too slowly"));
}

#[test]
fn tungstenite_reads_what_the_client_writes() {
    let mut sent = Vec::new();
    write_masked_text(&[b'x'; 70_000], KEY, &mut sent);
    write_masked_pong(b"p", KEY, &mut sent);
    write_masked_close(1000, "bye", KEY, &mut sent);
    let mut peer = tungstenite_peer(Role::Server, sent);
    let mut next = || peer.read().expect("a message");
    assert_eq!(next().len(), 70_000);
    assert!(next().is_pong());
    assert!(next().is_close());
}

#[test]
fn the_server_reads_what_tungstenite_writes() {
    let mut peer = tungstenite_peer(Role::Client, Vec::new());
    for message in [tungstenite::Message::text("grüße"), tungstenite::Message::binary(vec![7; 200])] {
        peer.send(message).expect("an open connection");
    }
    peer.send(tungstenite::Message::Ping("p".into())).expect("an open connection");
    peer.close(None).expect("an open connection");
    let (mut session, mut outbox, mut messages) = (ServerSession::new(), Outbox::new(), Vec::new());
    let end = session.receive(&mut peer.get_mut().written, &small_limits(), &mut outbox, &mut messages);
    assert_eq!(end, Err(Close::PeerClosed(None)));
    assert_eq!(messages, [text("grüße"), Message::Binary(vec![7; 200]), Message::Ping]);
    assert_eq!(outbox.pending(), b"\x8a\x01p");
}

proptest::proptest! {
    #[test]
    fn noise_never_panics(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        cuts in proptest::collection::vec(0..200_usize, 0..4),
    ) {
        let pieces = cut(&bytes, &cuts);
        assert_eq!(read_pieces(pieces.iter().map(Vec::as_slice)), read_pieces([&bytes[..]]));
    }
}
