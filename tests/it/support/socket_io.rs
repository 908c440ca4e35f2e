//! A Socket.IO client that works packet by packet, over WebSocket and by polling.
//!
//! A packet is Engine.IO's, as text: `42["name",{}]`, and `b` with base64 for a binary one, whatever the transport.

use std::{
    collections::{BTreeSet, VecDeque},
    net::TcpStream,
    time::Instant,
};

use data_encoding::BASE64;
use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};
use socket2::Socket;

use super::{
    TIMEOUT,
    http::{HttpConnection, Response},
    hub::Hub,
    websocket::{Incoming, WebSocketClient},
};

pub(crate) const OVER_WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
pub(crate) const BY_POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// The packet that the hub sends when a session ends during a poll.
pub(crate) const CLOSE: &str = "1";

/// An event of the hub.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReceivedEvent {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) arguments: Vec<Value>,
    /// The attachments, as many as the packet announced.
    pub(crate) attachments: Vec<Vec<u8>>,
}

/// A client with one session.
pub(crate) trait SocketClient: Sized {
    /// Sends one packet.
    fn send(&mut self, packet: &str);

    /// The next packet; `None` at the end of the session.
    fn try_next(&mut self) -> Option<String>;

    /// The next packet other than pings and noops. Answers pings.
    #[track_caller]
    fn next_packet(&mut self) -> String {
        // Pings would make it wait for ever.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(Instant::now() < deadline, "nothing came but pings");
            let packet = self.try_next().expect("the session should go on");
            match packet.as_str() {
                "2" => self.send("3"),
                "6" => {}
                _ => return packet,
            }
        }
    }

    /// The next packet, which must be an event.
    #[track_caller]
    fn next_event(&mut self) -> ReceivedEvent {
        let packet = self.next_packet();
        let (announced, mut event) =
            parse_announced(&packet).unwrap_or_else(|| panic!("an event should come, not {packet}"));
        for _ in 0..announced {
            let packet = self.next_packet();
            let base64 = packet.strip_prefix('b').unwrap_or_else(|| panic!("an attachment should come, not {packet}"));
            event.attachments.push(BASE64.decode(base64.as_bytes()).expect("base64"));
        }
        event
    }

    /// The next event, which must be called `name`: its first argument.
    #[track_caller]
    fn expect_event(&mut self, name: &str) -> Value {
        let event = self.next_event();
        assert_eq!(event.name, name, "{event:?}");
        event.arguments.into_iter().next().unwrap_or_default()
    }

    /// Enters `/` without credentials.
    #[track_caller]
    fn enter(mut self) -> Self {
        self.enter_with(&Value::Null);
        self
    }

    /// Enters `/` with `auth`. Returns the hub's answer, and skips the greeting.
    #[track_caller]
    fn enter_with(&mut self, auth: &Value) -> Value {
        let auth = if auth.is_null() { String::new() } else { auth.to_string() };
        self.send(&format!("40{auth}"));
        let packet = self.next_packet();
        let connected = packet.strip_prefix("40").unwrap_or_else(|| panic!("it should be let in, not {packet}"));
        self.expect_event("connected");
        serde_json::from_str(connected).expect("JSON")
    }

    /// Sends an event to `/`.
    fn emit(&mut self, name: &str, argument: &Value) {
        self.send(&format!("42{}", json!([name, argument])));
    }

    /// Subscribes to `topic`.
    #[track_caller]
    fn subscribe(&mut self, topic: &str) {
        self.emit("subscribe", &json!({ "topic": topic }));
        self.expect_event("subscribed");
    }

    /// Skips packets until the session ends.
    #[track_caller]
    fn wait_for_end(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        while self.try_next().is_some_and(|packet| packet != CLOSE) {
            assert!(Instant::now() < deadline, "the session should end");
        }
    }
}

/// The event, if `packet` is one.
pub(crate) fn parse_event(packet: &str) -> Option<ReceivedEvent> {
    parse_announced(packet).map(|(_, event)| event)
}

/// The number of attachments and the rest of an event, if `packet` is one. Acknowledgements are no events.
fn parse_announced(packet: &str) -> Option<(usize, ReceivedEvent)> {
    let (announced, rest) = match packet.strip_prefix("45") {
        Some(binary) => {
            let (count, rest) = binary.split_once('-')?;
            (count.parse().ok()?, rest)
        }
        None => (0, packet.strip_prefix("42")?),
    };
    let (head, _) = rest.split_once('[')?;
    let mut array: Vec<Value> = serde_json::from_str(&rest[head.len()..]).ok()?;
    let name = array.remove(0).as_str()?.to_owned();
    let namespace = head.strip_suffix(',').unwrap_or("/").to_owned();
    Some((announced, ReceivedEvent { namespace, name, arguments: array, attachments: Vec::new() }))
}

/// A client whose session a WebSocket carries.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) websocket: WebSocketClient,
    /// The close frame with which the hub has ended the session.
    pub(crate) close_code: Option<u16>,
}

impl Carried {
    /// A session in no namespace yet.
    #[track_caller]
    pub(crate) fn open(hub: &Hub) -> Self {
        let mut websocket = WebSocketClient::open(hub, OVER_WEBSOCKET);
        let handshake = websocket.next_text();
        assert!(handshake.starts_with("0{"), "{handshake}");
        Self::over(websocket)
    }

    /// The session that `websocket` carries.
    pub(crate) fn over(websocket: WebSocketClient) -> Self {
        Self { websocket, close_code: None }
    }
}

impl SocketClient for Carried {
    fn send(&mut self, packet: &str) {
        self.websocket.send(packet);
    }

    fn try_next(&mut self) -> Option<String> {
        match self.websocket.next() {
            Incoming::Text(text) => Some(text),
            Incoming::Binary(bytes) => Some(format!("b{}", BASE64.encode(&bytes))),
            Incoming::Close(code, _) => {
                self.close_code = code;
                None
            }
            Incoming::Pong(_) | Incoming::End => None,
        }
    }
}

/// A client whose session requests carry, each on a connection of its own, so that they come to all reactors.
#[derive(Debug)]
pub(crate) struct Polled {
    address: String,
    /// The handshake of the session.
    pub(crate) handshake: Value,
    packets: VecDeque<String>,
    /// How many packets were in one answer.
    pub(crate) batches: BTreeSet<usize>,
}

impl Polled {
    /// A session in no namespace yet.
    #[track_caller]
    pub(crate) fn open(hub: &Hub) -> Self {
        let response = hub.get(BY_POLLING);
        assert_eq!(response.status, 200, "{}", response.text());
        let text = response.text();
        let handshake = text.strip_prefix('0').unwrap_or_else(|| panic!("a handshake should come, not {text}"));
        let handshake = serde_json::from_str(handshake).expect("JSON");
        Self { address: hub.address().to_owned(), handshake, packets: VecDeque::new(), batches: BTreeSet::new() }
    }

    pub(crate) fn sid(&self) -> &str {
        self.handshake["sid"].as_str().expect("a text")
    }

    /// The target of its requests.
    pub(crate) fn target(&self) -> String {
        format!("{BY_POLLING}&sid={}", self.sid())
    }

    /// The target of a WebSocket that upgrades the session.
    pub(crate) fn probe_target(&self) -> String {
        format!("{OVER_WEBSOCKET}&sid={}", self.sid())
    }

    pub(crate) fn connect(&self) -> Socket {
        let socket = Socket::from(TcpStream::connect(&self.address).expect("the hub should accept"));
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        socket
    }

    /// A poll that has been sent. Its answer is still to be read.
    pub(crate) fn begin_poll(&self) -> HttpConnection {
        let mut connection = HttpConnection::new(self.connect());
        connection.send(format!("GET {} HTTP/1.1\r\nHost: hub\r\n\r\n", self.target()).as_bytes());
        connection
    }

    #[track_caller]
    pub(crate) fn poll(&self) -> Response {
        self.begin_poll().receive()
    }

    #[track_caller]
    pub(crate) fn post(&self, body: &str) -> Response {
        HttpConnection::new(self.connect()).request(Method::Post, &self.target(), &[], body.as_bytes())
    }

    /// Takes the packets of an answer to a poll.
    #[track_caller]
    pub(crate) fn take(&mut self, response: &Response) {
        assert_eq!(response.status, 200, "{}", response.text());
        let text = response.text();
        self.packets.extend(text.split('\u{1e}').map(str::to_owned));
        self.batches.insert(text.split('\u{1e}').count());
    }

    /// Upgrades the session to a WebSocket. Also returns the packets of a last poll.
    #[track_caller]
    pub(crate) fn upgrade(mut self) -> (Carried, VecDeque<String>) {
        let mut waiting = self.begin_poll();
        let websocket = self.probe();
        let response = waiting.receive();
        self.take(&response);
        websocket.send("5");
        (Carried::over(websocket), self.packets)
    }

    /// A WebSocket whose probe was answered, so that it may take over the session.
    #[track_caller]
    pub(crate) fn probe(&self) -> WebSocketClient {
        let mut websocket = WebSocketClient::open_on(self.connect(), &self.probe_target(), &[]);
        websocket.send("2probe");
        assert_eq!(websocket.next_text(), "3probe");
        websocket
    }
}

impl SocketClient for Polled {
    #[track_caller]
    fn send(&mut self, packet: &str) {
        let response = self.post(packet);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{packet}");
    }

    fn try_next(&mut self) -> Option<String> {
        if self.packets.is_empty() {
            let response = self.poll();
            if response.status != 200 {
                return None;
            }
            self.take(&response);
        }
        self.packets.pop_front()
    }
}

/// How many sessions the hub has.
pub(crate) fn sessions(hub: &Hub) -> u64 {
    hub.metric("fanfare_connections{transport=\"socketio\"}") as u64
}
