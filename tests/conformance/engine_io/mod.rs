//! Engine.IO, protocol revision 4 (`docs/engine.io-protocol/v4-current.md` of its repository; rows name the heading), by
//! what an echo must send back over each of its carriers.
//!
//! Packets stand in rows as they do in a payload: text as it is, bytes as `b` and base64.

mod closing;
mod handshake;
mod heartbeat;
mod messages;
mod polling;
mod upgrade;

use std::{
    collections::VecDeque,
    io::Read,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64;

use crate::{
    QUICK, SERVER,
    application::Server,
    client::{Pace, connect_to, read_through, read_to_end, send},
    http::{Response, read_responses},
    websocket::{BINARY, CLOSE, FIN, TEXT, frame},
};

/// The echo of messages.
const ECHO: Endpoint = Endpoint { path: "/engine.io/", quick: false };
/// The same, where pings come often.
const QUICK_ECHO: Endpoint = Endpoint { path: "/engine.io/", quick: true };

/// How long something may take that comes by itself.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Where sessions are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    /// On the server whose clients have to be quick.
    pub(crate) quick: bool,
}

impl Endpoint {
    pub(crate) fn connect(self) -> TcpStream {
        let server: &Server = if self.quick { &QUICK } else { &SERVER };
        connect_to(server)
    }

    /// Sends a request whose answer is yet to be read.
    pub(crate) fn begin(self, method: &str, query: &str, body: &[u8]) -> TcpStream {
        let (path, length) = (self.path, body.len());
        let head = format!(
            "{method} {path}?{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut stream = self.connect();
        send(&mut stream, &[head.as_bytes(), body].concat(), Pace::Whole);
        stream
    }

    pub(crate) fn request(self, method: &str, query: &str, body: impl AsRef<[u8]>) -> Response {
        finish(self.begin(method, query, body.as_ref()), &format!("{method} {query}"))
    }

    /// The name of a new session that requests carry.
    pub(crate) fn open(self) -> String {
        let response = self.request("GET", "EIO=4&transport=polling", "");
        assert_eq!(response.status, 200, "{}", response.head);
        sid_of(text(&response))
    }

    pub(crate) fn poll(self, sid: &str) -> Response {
        self.request("GET", &polling(sid), "")
    }

    pub(crate) fn begin_poll(self, sid: &str) -> TcpStream {
        self.begin("GET", &polling(sid), b"")
    }

    pub(crate) fn post(self, sid: &str, body: impl AsRef<[u8]>) -> Response {
        self.request("POST", &polling(sid), body)
    }

    /// No request finds the session any more. What was left for the client may come before.
    #[track_caller]
    pub(crate) fn is_gone(self, sid: &str, rule: &str) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let response = self.poll(sid);
            // Unknown, or about to be.
            if response.status == 400 {
                let why = text(&response);
                assert!(why.contains("\"code\":1") || why.contains("\"code\":3"), "{rule}: {why}");
                return;
            }
            assert!(Instant::now() < deadline, "{rule}: the session should be gone, but says {}", text(&response));
            thread::yield_now();
        }
    }
}

pub(crate) fn polling(sid: &str) -> String {
    format!("EIO=4&transport=polling&sid={sid}")
}

/// The answer to a request that [`Endpoint::begin`] has sent.
#[track_caller]
pub(crate) fn finish(mut stream: TcpStream, what: &str) -> Response {
    let answer = read_to_end(&mut stream, what);
    let mut responses = read_responses(&answer, false);
    assert_eq!(responses.len(), 1, "{what}");
    responses.remove(0)
}

pub(crate) fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("payloads are UTF-8")
}

/// The session's name in an open packet.
fn sid_of(packet: &str) -> String {
    let handshake: serde_json::Value = serde_json::from_str(&packet[1..]).expect("the handshake is JSON");
    handshake["sid"].as_str().expect("a session has a name").to_owned()
}

/// A WebSocket of Engine.IO.
pub(crate) struct Socket {
    stream: TcpStream,
    pace: Pace,
}

impl Socket {
    /// Upgrades; `Err` is what came instead.
    pub(crate) fn try_open(endpoint: Endpoint, query: &str, pace: Pace) -> Result<Self, Response> {
        let mut stream = endpoint.connect();
        let head = format!(
            "GET {}?{query} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            endpoint.path
        );
        send(&mut stream, head.as_bytes(), pace);
        let head = read_through(&mut stream, b"\r\n\r\n", query);
        if head.starts_with(b"HTTP/1.1 101 ") {
            return Ok(Self { stream, pace });
        }
        let length = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let mut body = vec![0; length.expect("a refusal has a length")];
        stream.read_exact(&mut body).expect("a refusal is whole");
        Err(read_responses(&[head, body].concat(), false).remove(0))
    }

    #[track_caller]
    pub(crate) fn open(endpoint: Endpoint, query: &str, pace: Pace) -> Self {
        Self::try_open(endpoint, query, pace).unwrap_or_else(|response| panic!("{query}: {}", response.head))
    }

    /// A session that begins with it: also what it was told first.
    pub(crate) fn session(endpoint: Endpoint, pace: Pace) -> (Self, String) {
        let mut socket = Self::open(endpoint, "EIO=4&transport=websocket", pace);
        let opened = socket.receive().expect("the server opens the session");
        (socket, opened)
    }

    pub(crate) fn send(&mut self, packet: &str) {
        let bytes = match packet.strip_prefix('b') {
            Some(base64) => frame(FIN | BINARY, BASE64.decode(base64.as_bytes()).expect("rows have good base64")),
            None => frame(FIN | TEXT, packet),
        };
        send(&mut self.stream, &bytes, self.pace);
    }

    /// The next packet; `None`: the connection ended.
    pub(crate) fn receive(&mut self) -> Option<String> {
        let mut start = [0; 2];
        self.stream.read_exact(&mut start).ok()?;
        let length = match start[1] {
            126 => u64::from(u16::from_be_bytes(self.take())),
            127 => u64::from_be_bytes(self.take()),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("a length of this machine")];
        self.stream.read_exact(&mut payload).expect("a frame is whole");
        match start[0] {
            first if first == FIN | TEXT => Some(String::from_utf8(payload).expect("text is UTF-8")),
            first if first == FIN | BINARY => Some(format!("b{}", BASE64.encode(&payload))),
            CLOSE => None,
            other => panic!("a frame beginning with {other:02x}"),
        }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).expect("a header is whole");
        bytes
    }

    /// The server ends the connection; what comes before that is passed over.
    #[track_caller]
    pub(crate) fn is_ended(&mut self, rule: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while let Some(packet) = self.receive() {
            assert!(Instant::now() < deadline, "{rule}: the connection should end, but said {packet}");
        }
    }
}

/// What carries a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carrier {
    Polls,
    WebSocket(Pace),
    /// Requests for the first packet, then a WebSocket.
    Both,
}

pub(crate) const CARRIERS: [Carrier; 4] =
    [Carrier::Polls, Carrier::WebSocket(Pace::Whole), Carrier::WebSocket(Pace::Single), Carrier::Both];

/// A client in the middle of a row.
pub(crate) struct Client {
    endpoint: Endpoint,
    sid: String,
    received: VecDeque<String>,
    socket: Option<Socket>,
    upgrades: bool,
    is_over: bool,
}

impl Client {
    pub(crate) fn open(endpoint: Endpoint, carrier: Carrier) -> Self {
        let (socket, sid) = match carrier {
            Carrier::Polls | Carrier::Both => (None, endpoint.open()),
            Carrier::WebSocket(pace) => {
                let (socket, opened) = Socket::session(endpoint, pace);
                (Some(socket), sid_of(&opened))
            }
        };
        let upgrades = matches!(carrier, Carrier::Both);
        Self { endpoint, sid, received: VecDeque::new(), socket, upgrades, is_over: false }
    }

    pub(crate) fn websocket(endpoint: Endpoint) -> Self {
        Self::open(endpoint, Carrier::WebSocket(Pace::Whole))
    }

    /// The session's name.
    pub(crate) fn sid(&self) -> &str {
        &self.sid
    }

    /// Sends all of `packets`, whatever comes of them.
    pub(crate) fn send(&mut self, packets: &[&str]) {
        if let Some(socket) = &mut self.socket {
            return packets.iter().for_each(|packet| socket.send(packet));
        }
        let count = if self.upgrades { packets.len().min(1) } else { packets.len() };
        let (first, rest) = packets.split_at(count);
        let response = self.endpoint.post(&self.sid, first.join("\u{1e}"));
        match response.status {
            200 => assert_eq!(text(&response), "ok"),
            status => {
                assert_eq!(status, 400, "{}", text(&response));
                self.is_over = true;
            }
        }
        // Whoever has closed has nothing to move.
        self.is_over |= first.contains(&"1");
        if self.upgrades && !self.is_over {
            self.socket = Some(upgrade(self.endpoint, &self.sid, Pace::Whole));
            self.send(rest);
        }
    }

    /// The next packet that is no ping; `None`: the session is over.
    pub(crate) fn receive(&mut self) -> Option<String> {
        loop {
            let packet = self.receive_any()?;
            if packet != "2" {
                return Some(packet);
            }
            self.send(&["3"]);
        }
    }

    /// The same with a star for the name that the server has given.
    pub(crate) fn receive_unnamed(&mut self) -> Option<String> {
        self.receive().map(|packet| without_sid(&packet))
    }

    fn receive_any(&mut self) -> Option<String> {
        if let Some(socket) = &mut self.socket {
            return socket.receive();
        }
        if self.received.is_empty() && !self.is_over {
            let response = self.endpoint.poll(&self.sid);
            if response.status == 400 {
                self.is_over = true;
                return None;
            }
            self.received = packets(&response).into();
        }
        self.received.pop_front()
    }

    /// The session is over, by whatever carries it.
    #[track_caller]
    pub(crate) fn must_end(mut self, rule: &str) {
        if let Some(mut socket) = self.socket.take() {
            socket.is_ended(rule);
        }
        self.endpoint.is_gone(&self.sid, rule);
    }
}

/// The packets of a poll.
pub(crate) fn packets(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", text(response));
    assert_eq!(response.values("content-type"), ["text/plain; charset=UTF-8"]);
    let packets: Vec<String> = text(response).split('\u{1e}').map(ToOwned::to_owned).collect();
    assert!(packets.len() <= 16, "some clients take no more at once: {}", packets.len());
    packets
}

/// Moves a session to a WebSocket.
pub(crate) fn upgrade(endpoint: Endpoint, sid: &str, pace: Pace) -> Socket {
    let mut socket = Socket::open(endpoint, &format!("EIO=4&transport=websocket&sid={sid}"), pace);
    socket.send("2probe");
    assert_eq!(socket.receive().as_deref(), Some("3probe"), "Upgrade: the probe is answered");
    socket.send("5");
    socket
}

/// `sent` is answered with `expected` over every carrier, and the session goes on.
#[track_caller]
pub(crate) fn converses(rule: &str, endpoint: Endpoint, sent: &[&str], expected: &[&str]) {
    for carrier in CARRIERS {
        let mut client = Client::open(endpoint, carrier);
        client.send(sent);
        for packet in expected {
            let received = client.receive_unnamed();
            assert_eq!(received.as_deref(), Some(*packet), "{rule}, {carrier:?}: {sent:?}");
        }
    }
}

/// `sent` ends the session over every carrier.
#[track_caller]
pub(crate) fn ends(rule: &str, endpoint: Endpoint, sent: &[&str]) {
    for carrier in CARRIERS {
        let mut client = Client::open(endpoint, carrier);
        client.send(sent);
        client.must_end(&format!("{rule}, {carrier:?}: {sent:?}"));
    }
}

/// `packet` with a star for the name that the server has given.
fn without_sid(packet: &str) -> String {
    const KEY: &str = "\"sid\":\"";
    let Some((before, rest)) = packet.split_once(KEY) else { return packet.to_owned() };
    let end = rest.find('"').expect("the string ends");
    assert!(20 <= end, "a name cannot be guessed: {packet}");
    format!("{before}{KEY}*{}", &rest[end..])
}
