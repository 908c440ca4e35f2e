//! RFC 6455, by what an echo must send back.

mod closing;
mod fragments;
mod frames;
mod handshake;
mod text;

use std::fmt;

use crate::client::{Pace, connect, paces_for, read_through, read_to_end, send};

pub(super) const FIN: u8 = 0x80;
pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = FIN | 8;
pub(super) const PING: u8 = FIN | 9;
pub(super) const PONG: u8 = FIN | 10;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const HANDSHAKE: &[u8] = b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A frame of the server: its first byte, and its payload.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Got(u8, Vec<u8>);

pub(super) fn text(payload: impl AsRef<[u8]>) -> Got {
    Got(FIN | TEXT, payload.as_ref().to_vec())
}

pub(super) fn binary(payload: impl AsRef<[u8]>) -> Got {
    Got(FIN | BINARY, payload.as_ref().to_vec())
}

pub(super) fn pong(payload: impl AsRef<[u8]>) -> Got {
    Got(PONG, payload.as_ref().to_vec())
}

/// A close frame with `code` and any reason; zero: without a code.
pub(super) fn close(code: u16) -> Got {
    Got(CLOSE, if code == 0 { Vec::new() } else { code.to_be_bytes().to_vec() })
}

/// A client's frame: the first byte as given, the length in its shortest form.
pub(super) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = match payload.len() {
        short @ ..126 => vec![0x80 | short as u8],
        middle @ ..0x1_0000 => [&[0x80 | 126], &(middle as u16).to_be_bytes()[..]].concat(),
        long => [&[0x80 | 127], &(long as u64).to_be_bytes()[..]].concat(),
    };
    let masked = payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    [&[first], &length[..], &KEY].concat().into_iter().chain(masked).collect()
}

/// `sent`, and then a proper close frame, must be answered with `expected`, the same close frame, and the end.
#[track_caller]
pub(super) fn goes_on(rule: &str, sent: &[Vec<u8>], expected: &[Got]) {
    let sent = [&sent.concat()[..], &frame(CLOSE, 1000_u16.to_be_bytes())].concat();
    ends(rule, &[sent], expected, 1000);
}

/// `sent` must be answered with `expected`, a close frame with `code` (zero: none), and the end, without anything more
/// being sent.
#[track_caller]
pub(super) fn ends(rule: &str, sent: &[Vec<u8>], expected: &[Got], code: u16) {
    let expected = [expected, &[close(code)]].concat();
    let sent = sent.concat();
    for pace in paces_for(sent.len()) {
        let got = converse(rule, &sent, *pace);
        let start = &sent[..sent.len().min(60)];
        assert!(got == expected, "{rule}, {pace:?}: sent {start:02x?}…, got {got:?} instead of {expected:?}");
    }
}

/// What comes back for `sent`, up to the end.
#[track_caller]
fn converse(rule: &str, sent: &[u8], pace: Pace) -> Vec<Got> {
    let mut stream = connect();
    send(&mut stream, HANDSHAKE, Pace::Whole);
    let head = read_through(&mut stream, b"\r\n\r\n", rule);
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{rule}: {}", String::from_utf8_lossy(&head));
    send(&mut stream, sent, pace);
    let answer = read_to_end(&mut stream, rule);
    read_frames(rule, &answer)
}

/// Section 5.1: a server does not mask. Section 5.2: lengths in their shortest form.
#[track_caller]
fn read_frames(rule: &str, mut bytes: &[u8]) -> Vec<Got> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (length, header_bytes) = match bytes[1] {
            short @ ..126 => (usize::from(short), 2),
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")) as usize, 10),
            _ => panic!("{rule}: a masked frame"),
        };
        assert!(matches!((header_bytes, length), (2, _) | (4, 126..) | (10, 65_536..)), "{rule}: a length of {length}");
        let (payload, rest) = bytes[header_bytes..].split_at(length);
        frames.push(Got(bytes[0], shorten(bytes[0], payload)));
        bytes = rest;
    }
    frames
}

/// Reasons are for humans.
fn shorten(first: u8, payload: &[u8]) -> Vec<u8> {
    if first == CLOSE { payload[..payload.len().min(2)].to_vec() } else { payload.to_vec() }
}

impl fmt::Debug for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, &self.1[..]) {
            (CLOSE, [high, low]) => write!(f, "close {}", u16::from_be_bytes([*high, *low])),
            (first, payload) if payload.len() <= 60 => write!(f, "{first:02x} {:?}", String::from_utf8_lossy(payload)),
            (first, payload) => write!(f, "{first:02x} with {} bytes", payload.len()),
        }
    }
}
