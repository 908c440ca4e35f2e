//! A hub with faults of the test's choice: it acknowledges all publications, and its streams send what the test says.

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

/// What is to be sent on a topic's stream, and when.
type Parcel = (Instant, String, String);
type Lie = Box<dyn FnMut(&str, &str) -> Vec<String> + Send>;

/// Its threads end with their connections, the others with the process.
pub(crate) struct Liar {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
}

struct Desk {
    /// Topic and payload of a publication become blocks of the topic's stream.
    lie: Lie,
    delay: Duration,
    streams: HashMap<String, TcpStream>,
    parcels: Sender<Parcel>,
}

impl Liar {
    /// `lie` says what a publication becomes on the stream of its topic, `delay` how long that takes.
    pub(crate) fn start(delay: Duration, lie: impl FnMut(&str, &str) -> Vec<String> + Send + 'static) -> Self {
        Self::start_paced(delay, Duration::ZERO, lie)
    }

    /// One that is truthful and brings a block no sooner than `pace` after the one before.
    pub(crate) fn start_trickling(pace: Duration) -> Self {
        Self::start_paced(Duration::ZERO, pace, |_, payload| vec![block(payload)])
    }

    fn start_paced(
        delay: Duration,
        pace: Duration,
        lie: impl FnMut(&str, &str) -> Vec<String> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (parcels, due) = mpsc::channel();
        let desk = Desk { lie: Box::new(lie), delay, streams: HashMap::new(), parcels };
        let desk = Arc::new(Mutex::new(desk));
        let (carried, served) = (Arc::clone(&desk), Arc::clone(&desk));
        thread::spawn(move || carry(&due, pace, &carried));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let desk = Arc::clone(&served);
                // A client that goes away ends its thread.
                thread::spawn(move || serve(client, &desk));
            }
        });
        Self { address, desk }
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many streams are open.
    pub(crate) fn wait_for_streams(&self, count: usize) {
        let is_there = || self.desk.lock().expect("nobody panics with it").streams.len() == count;
        wait_until("the streams are open", || is_there().then_some(()));
    }
}

/// An event as an unnamed block of a stream.
pub(crate) fn block(payload: &str) -> String {
    format!("data: {payload}\n\n")
}

fn serve(client: TcpStream, desk: &Mutex<Desk>) -> io::Result<()> {
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
        let mut desk_now = desk.lock().expect("nobody panics with it");
        if let Some(topic) = target.strip_prefix("/sse?topic=") {
            (&client).write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
            desk_now.streams.insert(topic.to_owned(), client.try_clone()?);
            continue;
        }
        drop(desk_now);
        let topic = target.strip_prefix("/publish/").unwrap_or_default();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut payload = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut payload)?;
        desk_now = desk.lock().expect("nobody panics with it");
        let due = Instant::now() + desk_now.delay;
        for block in (desk_now.lie)(topic, &String::from_utf8_lossy(&payload)) {
            desk_now.parcels.send((due, topic.to_owned(), block)).expect("the other thread stays");
        }
        drop(desk_now);
        (&client).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
}

/// Brings each parcel when it is due, and `pace` after the one before; all take as long, so they stay in order.
fn carry(parcels: &Receiver<Parcel>, pace: Duration, desk: &Mutex<Desk>) {
    let mut free = Instant::now();
    for (due, topic, block) in parcels {
        let due = due.max(free);
        while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            thread::park_timeout(rest);
        }
        let stream = desk.lock().expect("nobody panics with it").streams.get(&topic).map(TcpStream::try_clone);
        if let Some(Ok(mut stream)) = stream {
            // Its reader may be gone.
            let _ = stream.write_all(block.as_bytes());
        }
        free = Instant::now() + pace;
    }
}
