//! A server that speaks JSON over WebSocket in both directions, as Centrifugo does: commands with ids, replies and pushes joined
//! by newlines, and pings that must be answered (<https://centrifugal.dev/docs/transports/client_protocol>).

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use fanfare_core::protocol::websocket::encode_text;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A client with more unanswered pings than this is disconnected.
const PONGS_OWED_MAX: u32 = 30;

/// Serves until the process ends: WebSocket, and `POST` of `{"channel":…,"data":…}` to publish.
#[derive(Debug)]
pub(crate) struct Bidirectional {
    address: SocketAddr,
    hall: Arc<Mutex<Hall>>,
}

#[derive(Debug, Default)]
struct Hall {
    clients: HashMap<u64, Client>,
    /// Counts of what clients have done so far: `subscribed`, `answered`, `silent`, `rude`.
    counts: HashMap<&'static str, u32>,
}

#[derive(Debug)]
struct Client {
    socket: TcpStream,
    channel: Option<String>,
    pongs_owed: u32,
}

impl Bidirectional {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let server = Self { address: listener.local_addr().expect("it is bound"), hall: Arc::default() };
        let hall = Arc::clone(&server.hall);
        thread::spawn(move || {
            for (id, socket) in (0..).zip(listener.incoming().flatten()) {
                let hall = Arc::clone(&hall);
                thread::spawn(move || attend(id, socket, &hall));
            }
        });
        server
    }

    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// One of the counts.
    pub(crate) fn count(&self, what: &str) -> u32 {
        lock(&self.hall).counts.get(what).copied().unwrap_or_default()
    }
}

fn lock(hall: &Mutex<Hall>) -> MutexGuard<'_, Hall> {
    hall.lock().expect("nobody panics with it")
}

/// The first bytes of a connection decide its protocol.
fn attend(id: u64, socket: TcpStream, hall: &Mutex<Hall>) {
    let mut first = [0; 4];
    match socket.peek(&mut first) {
        Ok(4) if &first == b"GET " => {
            // A client may leave at any time.
            if let Ok(websocket) = tungstenite::accept(socket) {
                converse(id, websocket, hall);
            }
            lock(hall).clients.remove(&id);
        }
        _ => take_posts(socket, hall),
    }
}

fn converse(id: u64, mut websocket: WebSocket<TcpStream>, hall: &Mutex<Hall>) {
    let socket = websocket.get_ref().try_clone().expect("descriptors are at hand");
    lock(hall).clients.insert(id, Client { socket, channel: None, pongs_owed: 0 });
    while let Ok(message) = websocket.read() {
        let Message::Text(text) = message else { continue };
        let mut hall = lock(hall);
        let replies: Vec<String> = text.lines().filter_map(|line| hall.answer(id, line)).collect();
        if !replies.is_empty() {
            hall.tell(id, &replies.join("\n"));
        }
    }
}

impl Hall {
    fn answer(&mut self, id: u64, line: &str) -> Option<String> {
        let command: Value = serde_json::from_str(line).expect("commands are JSON");
        let client = self.clients.get_mut(&id)?;
        if command == json!({}) {
            let is_asked = 0 < client.pongs_owed;
            client.pongs_owed = client.pongs_owed.saturating_sub(1);
            self.note(if is_asked { "answered" } else { "rude" });
            return None;
        }
        let number = &command["id"];
        if command.get("connect").is_some() {
            return Some(json!({ "id": number, "connect": { "client": "c", "ping": 25, "pong": true } }).to_string());
        }
        client.channel = Some(command["subscribe"]["channel"].as_str().expect("a channel").to_owned());
        self.note("subscribed");
        Some(json!({ "id": number, "subscribe": {} }).to_string())
    }

    fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn tell(&mut self, id: u64, text: &str) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // The client's own thread removes it when it has left.
        let _ = client.socket.write_all(&encode_text(text.as_bytes()));
    }

    /// Each push comes with a ping in the same message, alternately before and after it.
    fn publish(&mut self, channel: &str, data: &str) {
        let push = format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data}}}}}}}"#);
        let listeners = self.clients.iter().filter(|(_, client)| client.channel.as_deref() == Some(channel));
        let ids: Vec<u64> = listeners.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            client.pongs_owed += 1;
            if PONGS_OWED_MAX < client.pongs_owed {
                // The client may have left already.
                let _ = client.socket.shutdown(Shutdown::Both);
                self.clients.remove(&id);
                self.note("silent");
                continue;
            }
            self.tell(id, &if id % 2 == 0 { format!("{{}}\n{push}") } else { format!("{push}\n{{}}") });
        }
    }
}

/// Answers requests one after the other, pipelined or not.
fn take_posts(mut socket: TcpStream, hall: &Mutex<Hall>) {
    let (mut buffer, mut pending) = ([0; 16 * 1024], String::new());
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        pending += std::str::from_utf8(&buffer[..count]).expect("the bench's payloads are ASCII");
        while let Some((head, rest)) = pending.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a body");
            let Some((body, behind)) = rest.split_at_checked(length.parse().expect("a number")) else { break };
            let Value::Object(fields) = serde_json::from_str(body).expect("JSON") else { panic!("{body}") };
            let (_, data) = body.split_once(r#""data":"#).expect("the payload");
            let channel = fields["channel"].as_str().expect("a channel").to_owned();
            lock(hall).publish(&channel, &data[..data.len() - 1]);
            pending = behind.to_owned();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":{}}";
            if socket.write_all(answer).is_err() {
                return;
            }
        }
    }
}
