//! A server of a key set that does what a test wants, also what no server should.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Conduct {
    /// Answers 200 with this text.
    Answer(String),
    /// Answers with this status and these fields.
    Refuse(&'static str),
    /// Answers 200 with text that never ends.
    Endless,
    /// Sends a byte now and then, and never the last.
    Trickle,
    /// Reads the request, and says nothing.
    Hang,
    /// Hangs up.
    Close,
}

/// Runs until the process ends. Each connection has one request.
#[derive(Clone, Debug)]
pub(crate) struct KeyServer {
    address: SocketAddr,
    conduct: Arc<Mutex<Conduct>>,
    requests: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(crate) fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = Self { address, conduct: Arc::new(Mutex::new(conduct)), requests: Arc::default() };
        let shared = server.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = shared.clone();
                thread::spawn(move || server.serve(client));
            }
        });
        server
    }

    /// From now on.
    pub(crate) fn set(&self, conduct: Conduct) {
        *self.conduct.lock().unwrap_or_else(PoisonError::into_inner) = conduct;
    }

    /// Answers with the set of these keys.
    pub(crate) fn set_keys(&self, keys: &[&Value]) {
        self.set(Conduct::Answer(serde_json::json!({ "keys": keys }).to_string()));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// The requests that have come.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match client.read(&mut buffer)? {
                0 => return Ok(()),
                count => head.extend_from_slice(&buffer[..count]),
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let conduct = self.conduct.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match conduct {
            Conduct::Answer(text) => {
                let length = text.len();
                write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}")
            }
            Conduct::Refuse(head) => {
                write!(client, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
            Conduct::Endless => {
                client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[")?;
                loop {
                    client.write_all(&[b' '; 4096])?;
                }
            }
            Conduct::Trickle => {
                client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[")?;
                loop {
                    thread::park_timeout(std::time::Duration::from_millis(20));
                    client.write_all(b" ")?;
                }
            }
            // Until the client gives up.
            Conduct::Hang => client.read(&mut buffer).map(drop),
            Conduct::Close => Ok(()),
        }
    }
}
