//! A WebSocket client.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read},
    time::Instant,
};

use fanfare_core::protocol::{
    http::{ResponsePart, ResponseReader},
    websocket::{
        WebSocketLimits,
        client::{
            FrameReader, ServerFrame, check_accept, encode_key, write_masked_close, write_masked_pong,
            write_masked_text, write_upgrade,
        },
    },
};
use serde_json::Value;
use socket2::Socket;

use super::{TIMEOUT, hub::Hub, sse::send_all};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// What the hub sent, apart from pings, which are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason.
    Close(Option<u16>, String),
    /// The connection has ended.
    End,
}

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocketClient {
    socket: Socket,
    frames: FrameReader,
    incoming: VecDeque<Incoming>,
}

impl WebSocketClient {
    /// Opens `target`, such as `/ws?topic=a`, without a subprotocol.
    #[track_caller]
    pub(crate) fn open(hub: &Hub, target: &str) -> Self {
        Self::open_on(hub.connect(), target, &[])
    }

    /// Opens `target` with the subprotocol `fanfare.v1`.
    #[track_caller]
    pub(crate) fn open_v1(hub: &Hub, target: &str) -> Self {
        Self::open_on(hub.connect(), target, &["fanfare.v1"])
    }

    /// Opens `target` on a connection of the caller's; the hub must agree to the first of `protocols`.
    #[track_caller]
    pub(crate) fn open_on(mut socket: Socket, target: &str, protocols: &[&str]) -> Self {
        let key = encode_key([7; 16]);
        let mut bytes = Vec::new();
        write_upgrade("hub", target, protocols, &[], &key, &mut bytes);
        send_all(&socket, &bytes);
        let (mut reader, mut open, mut rest) = (ResponseReader::new(), false, Vec::new());
        while !open {
            let mut buffer = [0; 4096];
            let count = socket.read(&mut buffer).expect("the hub should answer the handshake");
            assert!(0 < count, "the hub closed instead of answering the handshake");
            let read = reader.receive(&buffer[..count], |part| match part {
                ResponsePart::Head(head) => {
                    let agreed = check_accept(&key, protocols, &head).expect("the hub should accept the handshake");
                    assert_eq!(agreed, protocols.first().copied());
                    open = true;
                }
                ResponsePart::Body(bytes) => rest.extend_from_slice(bytes),
                ResponsePart::End => {}
            });
            read.expect("the hub should answer by the rules");
        }
        let mut client = Self { socket, frames: FrameReader::new(), incoming: VecDeque::new() };
        client.take(&rest);
        client
    }

    /// Sends a text message.
    pub(crate) fn send(&self, text: &str) {
        let mut bytes = Vec::new();
        write_masked_text(text.as_bytes(), MASK, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends `bytes` as they are.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        send_all(&self.socket, bytes);
    }

    /// Sends `bytes` as they are. False if the hub has closed.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        use std::io::Write;
        self.socket.write_all(bytes).is_ok()
    }

    /// A second handle of the same connection, to send while another thread receives.
    pub(crate) fn try_clone(&self) -> Self {
        let socket = self.socket.try_clone().expect("descriptors are at hand");
        Self { socket, frames: FrameReader::new(), incoming: VecDeque::new() }
    }

    /// The next message or control frame.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Incoming {
        // Pings would make it wait for ever.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(incoming) = self.incoming.pop_front() {
                return incoming;
            }
            assert!(Instant::now() < deadline, "nothing came but pings");
            self.read();
        }
    }

    /// The next message, which must be text.
    #[track_caller]
    pub(crate) fn next_text(&mut self) -> String {
        match self.next() {
            Incoming::Text(text) => text,
            other => panic!("a text message should come, not {other:?}"),
        }
    }

    /// The next message, which must be JSON.
    #[track_caller]
    pub(crate) fn next_json(&mut self) -> Value {
        let text = self.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends `command`, and returns the next message.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.send(&command.to_string());
        self.next_json()
    }

    /// The code with which the hub closes. Skips messages before that.
    #[track_caller]
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next() {
                Incoming::Close(code, _) => return code,
                Incoming::End => panic!("the hub ended the connection without a close frame"),
                _ => {}
            }
        }
    }

    /// Does the closing handshake, begun by the client.
    #[track_caller]
    pub(crate) fn close(mut self) {
        let mut bytes = Vec::new();
        write_masked_close(1000, "", MASK, &mut bytes);
        self.send_bytes(&bytes);
        assert_eq!(self.close_code(), Some(1000));
        assert_eq!(self.next(), Incoming::End);
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.incoming.push_back(Incoming::End),
            Ok(count) => self.take(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.incoming.push_back(Incoming::End),
            Err(error) => panic!("the hub should send or close: {error}"),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let limits = WebSocketLimits { message_bytes_max: 16 * 1024 * 1024, ..WebSocketLimits::default() };
        let Self { frames, incoming, socket } = self;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the hub sends UTF-8");
        let taken = frames.receive(bytes, &limits, |frame| {
            incoming.push_back(match frame {
                ServerFrame::Text(payload) => Incoming::Text(text(payload)),
                ServerFrame::Binary(payload) => Incoming::Binary(payload.to_vec()),
                ServerFrame::Pong(payload) => Incoming::Pong(payload.to_vec()),
                ServerFrame::Close { code, reason } => Incoming::Close(code, reason.to_owned()),
                ServerFrame::Ping(payload) => {
                    let mut pong = Vec::new();
                    write_masked_pong(payload, MASK, &mut pong);
                    return send_all(socket, &pong);
                }
            });
        });
        taken.expect("the hub should keep to the rules");
    }
}
