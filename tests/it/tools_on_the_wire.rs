//! The tools' clients as a server sees them, byte by byte: what RFC 6455 and RFC 9112 ask of a client.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use tungstenite::handshake::derive_accept_key;

use crate::support::{TIMEOUT, wait_until};

/// A tool that runs until the test ends.
struct Tool(Child);

impl Tool {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it was just built"))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that the test itself implements.
struct Server(TcpListener);

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        listener.set_nonblocking(true).expect("a socket of ours");
        Self(listener)
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("it is bound"))
    }

    /// The next connection, and all that it has sent up to the end of its request's head.
    fn accept(&self) -> (TcpStream, Vec<u8>) {
        let (mut stream, _) = wait_until("a connection", || self.0.accept().ok());
        stream.set_nonblocking(false).expect("a socket of ours");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket of ours");
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            bytes.extend(read(&mut stream));
        }
        (stream, bytes)
    }
}

/// The next bytes. Fails if none arrive.
fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).expect("the client sends something");
    assert!(0 < count, "the client has closed");
    buffer[..count].to_vec()
}

/// The value of a field in a request's head.
fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name}: {head}"))
}

/// The response that accepts the WebSocket of this request.
fn grant(head: &str, protocol: Option<&str>) -> String {
    let accept = derive_accept_key(field(head, "Sec-WebSocket-Key").as_bytes());
    let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    )
}

const SUBSCRIBE: [&str; 3] = ["subscribe", "--topic", "t"];
const BENCH: [&str; 6] = ["bench", "--topic", "t", "--subscribers", "1", "--idle"];

#[test]
fn a_request_is_all_that_is_sent_before_the_answer() {
    let check = |tool: &[&str], transport: &str| {
        let server = Server::start();
        let _tool = Tool::start(&[tool, &["--transport", transport, "--url", &server.url()]].concat());
        let (mut stream, mut bytes) = server.accept();
        // The test does not wait for what must not come: the client is refused, and by then all its bytes have arrived.
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        stream.read_to_end(&mut bytes).expect("it closes a connection that is no stream");
        let request = String::from_utf8(bytes).expect("a head is ASCII");
        assert!(request.starts_with("GET /"), "the target is a path (RFC 9112 section 3.2.1): {request}");
        assert_eq!(request.find("\r\n\r\n"), Some(request.len() - 4), "{transport}: more than a request: {request}");
    };
    for transport in ["sse", "ws", "fanfare.v1"] {
        check(&SUBSCRIBE, transport);
    }
    for transport in ["sse", "ws", "fanfare.v1", "socketio"] {
        check(&BENCH, transport);
    }
}

#[test]
fn each_connection_has_a_key_and_each_message_a_mask_of_its_own() {
    let check = |tool: &[&str], transport: &str| {
        let server = Server::start();
        let _tools =
            [(); 2].map(|()| Tool::start(&[tool, &["--transport", transport, "--url", &server.url()]].concat()));
        let (mut keys, mut masks) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..2 {
            let (mut stream, bytes) = server.accept();
            let head = String::from_utf8(bytes).expect("a head is ASCII");
            let key = field(&head, "Sec-WebSocket-Key");
            assert!(key.len() == 24 && key.ends_with("=="), "sixteen bytes in base64: {key}");
            assert!(keys.insert(key.to_owned()), "{transport}: {key} again");
            let protocol = (transport == "fanfare.v1").then_some(transport);
            stream.write_all(grant(&head, protocol).as_bytes()).expect("it reads");
            let (mut pongs, mut input) = (0, Vec::new());
            stream.write_all(b"\x89\x01a\x89\x01b").expect("it reads");
            while pongs < 2 {
                while let [first, length, a, b, c, d, rest @ ..] = input.as_slice()
                    && let Some(rest) = rest.get(usize::from(length & 0x7f)..)
                {
                    assert!(masks.insert([*a, *b, *c, *d]), "{transport}: a mask again");
                    assert_ne!(length & 0x80, 0, "not masked");
                    pongs += u32::from(*first == 0x8a);
                    input = rest.to_vec();
                }
                if pongs < 2 {
                    input.extend(read(&mut stream));
                }
            }
        }
    };
    check(&SUBSCRIBE, "ws");
    check(&SUBSCRIBE, "fanfare.v1");
    check(&BENCH, "ws");
}

#[test]
fn a_client_whose_connection_is_lost_comes_back() {
    let server = Server::start();
    let _tool =
        Tool::start(&[&SUBSCRIBE[..], &["--transport", "ws", "--report", "5", "--url", &server.url()]].concat());
    let (mut stream, bytes) = server.accept();
    let head = String::from_utf8(bytes).expect("a head is ASCII");
    stream.write_all(grant(&head, None).as_bytes()).expect("it reads");
    drop(stream);
    server.accept();
}
