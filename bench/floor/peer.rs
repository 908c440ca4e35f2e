//! One socket: its request, its place, and the bytes it had no room for.

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use crate::{
    frames::Form,
    packets::{self, Packet},
};

/// A peer that leaves more than this unread is closed.
pub(crate) const LEFTOVER_BYTES_MAX: usize = 1024 * 1024;

/// A connection.
pub(crate) struct Peer {
    socket: OwnedFd,
    /// The channel and the form it receives, once its request is answered.
    seat: Option<(usize, Form)>,
    /// Whether it speaks Socket.IO, which says what it wants after the upgrade.
    speaks_packets: bool,
    /// What did not fit into the socket. While there is some, all that follows must queue behind it.
    leftover: Vec<u8>,
}

/// What a readiness event came to.
#[derive(PartialEq, Eq)]
pub(crate) enum Served {
    Stays,
    Asks(Request),
    /// To receive a channel, over Socket.IO.
    Subscribes(String),
    Ends,
}

/// What the floor understands of an HTTP request.
#[derive(PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) topic: Option<String>,
    /// Whether it asks for Socket.IO's path.
    pub(crate) wants_packets: bool,
    /// The `Sec-WebSocket-Key`, if it asks for an upgrade.
    pub(crate) upgrade_key: Option<String>,
    /// The number of the event it has seen last, if it comes back.
    pub(crate) seen: Option<u64>,
}

impl Peer {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, seat: None, speaks_packets: false, leftover: Vec::new() }
    }

    pub(crate) fn seat(&self) -> Option<(usize, Form)> {
        self.seat
    }

    /// One send, and nothing else as long as the socket takes it all.
    #[inline]
    pub(crate) fn write(&mut self, frame: &[u8]) {
        let written = if self.leftover.is_empty() { self.send(frame) } else { 0 };
        if written < frame.len() {
            self.keep(&frame[written..]);
        }
    }

    /// Answers the request, with what the peer missed right behind the head; false if it cannot even take the head.
    pub(crate) fn open(&mut self, request: &Request, hall: usize, form: Form, missed: &[u8]) -> bool {
        self.seat = Some((hall, form));
        let head = head(request);
        if missed.is_empty() {
            return self.send(head.as_bytes()) == head.len();
        }
        let answer = [head.as_bytes(), missed].concat();
        let written = self.send(&answer);
        if written < answer.len() {
            self.keep(&answer[written..]);
        }
        head.len() <= written
    }

    /// Answers an upgrade to Socket.IO; false if the socket cannot take it.
    pub(crate) fn greet(&mut self, request: &Request) -> bool {
        self.speaks_packets = true;
        let answer = [head(request).as_bytes(), &packets::greeting()].concat();
        self.send(&answer) == answer.len()
    }

    /// Takes its seat, and says so; false if the socket cannot take it.
    pub(crate) fn confirm(&mut self, hall: usize, topic: String) -> bool {
        self.seat = Some((hall, Form::SocketIo));
        let answer = Packet::Subscribe(topic).answer();
        self.send(&answer) == answer.len()
    }

    /// After the socket has room again.
    pub(crate) fn flush(&mut self) -> Served {
        if self.leftover.len() > LEFTOVER_BYTES_MAX {
            return Served::Ends;
        }
        if !self.leftover.is_empty() {
            let written = send(&self.socket, &self.leftover, SendFlags::NOSIGNAL).unwrap_or(0);
            self.leftover.drain(..written);
        }
        Served::Stays
    }

    /// The request must come in one piece, which on a loopback it does, and so must each packet that asks for something.
    /// What follows them (pongs, a close) is not read.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Served {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return Served::Ends,
                Ok((_, length)) if self.seat.is_none() && self.speaks_packets => {
                    match Packet::parse(&buffer[..length]) {
                        Some(Packet::Subscribe(topic)) => return Served::Subscribes(topic),
                        Some(packet) => self.send(&packet.answer()),
                        None => return Served::Ends,
                    };
                }
                Ok((_, length)) if self.seat.is_none() => {
                    return parse_request(&buffer[..length]).map_or(Served::Ends, Served::Asks);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Served::Stays,
                Err(_) => return Served::Ends,
            }
        }
    }

    /// How much of `bytes` the socket took. A broken socket takes none; its end is told by epoll.
    fn send(&self, bytes: &[u8]) -> usize {
        send(&self.socket, bytes, SendFlags::NOSIGNAL).unwrap_or(0)
    }

    #[cold]
    fn keep(&mut self, rest: &[u8]) {
        if self.leftover.len() <= LEFTOVER_BYTES_MAX {
            self.leftover.extend_from_slice(rest);
            return;
        }
        // Nothing may be left out of the middle of a stream: epoll tells of the end, and the peer is removed there.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

fn parse_request(bytes: &[u8]) -> Option<Request> {
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let target = lines.next()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let topic = query.split('&').find_map(|pair| pair.strip_prefix("topic=")).map(str::to_owned);
    let (mut upgrade_key, mut seen) = (None, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("sec-websocket-key") {
            upgrade_key = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("last-event-id") {
            seen = value.trim().split_once('-').and_then(|(_, minor)| minor.parse().ok());
        }
    }
    let wants_packets = path == "/socket.io/" && upgrade_key.is_some();
    Some(Request { topic, wants_packets, upgrade_key, seen })
}

fn head(request: &Request) -> String {
    match &request.upgrade_key {
        Some(key) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \
             {}\r\n\r\n",
            tungstenite::handshake::derive_accept_key(key.as_bytes())
        ),
        None => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: \
                 chunked\r\n\r\n2\r\n:\n\r\n"
            .to_owned(),
    }
}
