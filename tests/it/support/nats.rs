//! A NATS server of the test's own, and a subscriber that uses the product's codec.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
};

use fanfare_core::protocol::nats::{
    ConnectOptions, NatsLimits, Operation, PING, PONG, SubjectPattern, parse, write_connect, write_subscribe,
};

use super::{
    Folder, PATIENCE,
    redis::{HOST, free_port},
    wait_until,
};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With further lines of its configuration file.
    pub(crate) fn start_with(lines: &str) -> Self {
        let (port, folder) = (free_port(), Folder::new());
        let path = folder.path("nats.conf");
        fs::write(&path, format!("host: {HOST}\nport: {port}\n{lines}\n")).expect("the folder is writable");
        let mut command = Command::new("nats-server");
        command.args(["-c", &path]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run nats-server: {error}; install it: apt-get install nats-server"));
        let server = Self { child, port, _folder: folder };
        wait_until("the NATS server listens", || TcpStream::connect((HOST, port)).ok());
        server
    }

    /// Its URL with a login, such as `user:password@`.
    pub(crate) fn url_as(&self, login: &str) -> String {
        format!("nats://{login}{HOST}:{}", self.port)
    }

    /// Subscribes, and calls `each` with the subject, the headers and the payload of every message, on a thread that ends
    /// with the server.
    pub(crate) fn subscribe(&self, pattern: &str, mut each: impl FnMut(&str, Option<&[u8]>, &[u8]) + Send + 'static) {
        let mut socket = TcpStream::connect((HOST, self.port)).expect("the server listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        let mut out = Vec::new();
        write_connect(&ConnectOptions::default(), &mut out);
        write_subscribe(&SubjectPattern::parse(pattern).expect("the test's pattern is one"), None, 1, &mut out);
        out.extend_from_slice(PING);
        socket.write_all(&out).expect("the server reads");
        let (mut held, mut is_subscribed) = (Vec::new(), false);
        while !is_subscribed {
            is_subscribed = receive(&mut socket, &mut held, &mut each).expect("the server answers");
        }
        thread::spawn(move || while receive(&mut socket, &mut held, &mut each).is_some() {});
    }
}

/// Reads once; whether a `PONG` came, `None` at the end of the connection.
fn receive(
    socket: &mut TcpStream,
    held: &mut Vec<u8>,
    each: &mut impl FnMut(&str, Option<&[u8]>, &[u8]),
) -> Option<bool> {
    let mut buffer = [0; 16 * 1024];
    let count = socket.read(&mut buffer).ok().filter(|count| 0 < *count)?;
    held.extend_from_slice(&buffer[..count]);
    let mut is_answered = false;
    while let Some((operation, length)) = parse(held, &NatsLimits::default()).expect("the server keeps to the protocol")
    {
        match operation {
            Operation::Message(message) => each(message.subject, message.headers, message.payload),
            Operation::Ping => socket.write_all(PONG).ok()?,
            Operation::Pong => is_answered = true,
            Operation::Error(reason) => panic!("the server refuses the subscriber: {reason}"),
            Operation::Info(_) | Operation::Ok => {}
        }
        held.drain(..length);
    }
    Some(is_answered)
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
