//! A hub with chosen faults: it acknowledges every publication, and its streams send what the test specifies.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::wait_until;

/// When to send, to which topic's stream, and the block.
type DueBlock = (Instant, String, String);
type Encode = Box<dyn FnMut(&str, &str) -> Vec<String> + Send>;

/// The threads of connections end with them, the others with the process.
pub(crate) struct FaultyHub {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// Makes blocks of the topic's stream from a publication's topic and payload.
    encode: Encode,
    delay: Duration,
    streams: HashMap<String, TcpStream>,
    blocks: Sender<DueBlock>,
}

impl FaultyHub {
    /// `encode` makes the blocks that a publication becomes on the stream of its topic. They are sent after `delay`.
    pub(crate) fn start(delay: Duration, encode: impl FnMut(&str, &str) -> Vec<String> + Send + 'static) -> Self {
        Self::start_paced(delay, Duration::ZERO, encode)
    }

    /// Without faults; sends a block no sooner than `pace` after the one before.
    pub(crate) fn start_slow(pace: Duration) -> Self {
        Self::start_paced(Duration::ZERO, pace, |_, payload| vec![block(payload)])
    }

    fn start_paced(
        delay: Duration,
        pace: Duration,
        encode: impl FnMut(&str, &str) -> Vec<String> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (blocks, due) = mpsc::channel();
        let shared = Shared { encode: Box::new(encode), delay, streams: HashMap::new(), blocks };
        let shared = Arc::new(Mutex::new(shared));
        let (delivered, served) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::spawn(move || deliver(&due, pace, &delivered));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                // The thread ends when its client leaves.
                thread::spawn(move || serve(client, &shared));
            }
        });
        Self { address, shared }
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until `count` streams are open.
    pub(crate) fn wait_for_streams(&self, count: usize) {
        let is_there = || self.shared.lock().expect("nobody panics with it").streams.len() == count;
        wait_until("the streams are open", || is_there().then_some(()));
    }
}

/// An event as an unnamed block of a stream.
pub(crate) fn block(payload: &str) -> String {
    format!("data: {payload}\n\n")
}

fn serve(client: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push_str(&line);
        }
        let target = head.split(' ').nth(1).unwrap_or_default();
        let mut state = shared.lock().expect("nobody panics with it");
        if let Some(topic) = target.strip_prefix("/sse?topic=") {
            (&client).write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
            state.streams.insert(topic.to_owned(), client.try_clone()?);
            continue;
        }
        drop(state);
        let topic = target.strip_prefix("/publish/").unwrap_or_default();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut payload = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut payload)?;
        state = shared.lock().expect("nobody panics with it");
        let due = Instant::now() + state.delay;
        for block in (state.encode)(topic, &String::from_utf8_lossy(&payload)) {
            state.blocks.send((due, topic.to_owned(), block)).expect("the other thread stays");
        }
        drop(state);
        (&client).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
}

/// Sends each block when it is due, but not within `pace` of the one before. All have the same delay, so they stay in order.
fn deliver(blocks: &Receiver<DueBlock>, pace: Duration, shared: &Mutex<Shared>) {
    let mut free = Instant::now();
    for (due, topic, block) in blocks {
        let due = due.max(free);
        while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            thread::park_timeout(rest);
        }
        let stream = shared.lock().expect("nobody panics with it").streams.get(&topic).map(TcpStream::try_clone);
        if let Some(Ok(mut stream)) = stream {
            // The client may have left.
            let _ = stream.write_all(block.as_bytes());
        }
        free = Instant::now() + pace;
    }
}
